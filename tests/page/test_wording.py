from mmmed.page.wording import count, p_value, percent, points


def test_numbers_are_written_as_in_papers() -> None:
    assert (percent(0.71234), percent(None), percent(float("nan"))) == ("71.2", "\u2013", "\u2013")
    assert (points(0.1), points(-0.1), points(-0.0001), points(None)) == ("+10.0", "\u221210.0", "0.0", "\u2013")
    assert (p_value(0.0002), p_value(0.0456), p_value(0.456)) == ("<\u202f0.001", "0.046", "0.46")
    assert count(1234567) == "1\u202f234\u202f567"
