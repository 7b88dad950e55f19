import pytest

from mmmed.data.sources.general_text import GeneralText
from mmmed.data.splits import Fractions, check_disjoint
from mmmed.errors import ConfigError
from mmmed.records import Example

HALF = Fractions(0.5, 0.5, 0.0)


def examples(**settings: object) -> list[Example]:
    return [one for one in GeneralText(**settings).records() if isinstance(one, Example)]  # type: ignore[arg-type]


def test_the_manual_is_cut_into_documents_and_neighbours_share_a_split() -> None:
    found = examples(kinds=["manual"], longest=500, together=4, fractions=HALF)
    assert len(found) > 400 and max(len(one.turns[0].text) for one in found) <= 500
    assert {one.turns[0].speaker for one in found} == {"document"}
    assert {one.split for one in found} == {"train", "validation"}
    check_disjoint(found)
    for start in range(0, len(found), 4):
        assert len({one.split for one in found[start : start + 4]}) == 1


@pytest.mark.network
def test_scripture_is_present_day_english_and_nothing_else() -> None:
    found = examples(kinds=["scripture"])
    assert found[0].turns[0].text.startswith("In the beginning God created the heavens and the earth.")
    assert sum(len(one.turns[0].text) for one in found) > 3_500_000
    assert not any("Book." in one.turns[0].text or "`" in one.turns[0].text for one in found)


@pytest.mark.parametrize(("settings", "message"), [({"kinds": ["news"]}, "kinds is"), ({"longest": 0}, "longest is 0")])
def test_what_there_is_none_of_is_refused(settings: dict[str, object], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        GeneralText(**settings)  # type: ignore[arg-type]
