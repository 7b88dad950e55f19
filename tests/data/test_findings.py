from collections import Counter

from mmmed.data.findings import balanced, question_about, topic_of

KNOWN = ("mass", "nodule", "edema", "hernia")
COUNTS = {"mass": 10, "nodule": 30, "edema": 60}


def test_as_many_absent_findings_are_asked_as_present_ones_in_the_order_of_the_list() -> None:
    asked = balanced(("edema",), KNOWN, counts=COUNTS, chance="a")
    assert len(asked) == 2
    assert "edema" in asked
    assert asked == [finding for finding in KNOWN if finding in asked]
    assert balanced((), KNOWN, counts=COUNTS, chance="a") == []


def test_absent_findings_are_drawn_in_proportion_to_how_often_they_are_present() -> None:
    drawn = Counter(
        finding
        for image in range(4000)
        for finding in balanced(("edema",), KNOWN, counts=COUNTS, chance=f"seed:{image}")
        if finding != "edema"
    )
    # 10 to 30, and never one that no image shows; 0.75 of 4000 draws has a standard error of 0.7 points.
    assert drawn["hernia"] == 0
    assert abs(drawn["nodule"] / 4000 - 0.75) < 0.03


def test_the_draw_depends_on_the_text_alone() -> None:
    first = [balanced(("edema",), KNOWN, counts=COUNTS, chance=f"{image}") for image in range(20)]
    assert first == [balanced(("edema",), KNOWN, counts=COUNTS, chance=f"{image}") for image in range(20)]
    assert len({tuple(asked) for asked in first}) > 1


def test_findings_are_asked_in_plain_words() -> None:
    assert question_about("Pleural Effusion") == "Is there evidence of a pleural effusion?"
    assert question_about("Support Devices") == "Are there support devices?"
    assert question_about("scoliosis") == "Is there evidence of scoliosis?"
    assert topic_of("Pleural_Thickening") == "pleural thickening"
