import pytest

from mmmed.data.conversation_filters import FILTERS, Pair, fault

CAPTION = "Chest film. Opacity of 3 cm in the left lower lobe. The heart is of normal size. No pneumothorax."
GOOD = (
    Pair("What is seen in the lungs?", "There is an opacity of 3 cm in the left lower lobe."),
    Pair("Is the heart enlarged?", "No, the heart is of normal size."),
    Pair("Is there a pneumothorax?", "No."),
)
FAULTS = {
    "wording": Pair("What does the caption say?", "Opacity in the left lower lobe."),
    "length": Pair("What is seen?", ""),
    "numbers": Pair("How large is it?", "The opacity measures 5 cm."),
    "findings": Pair("Is there a pneumothorax?", "Yes, a pneumothorax in the left lower lobe of the chest film."),
    "answerability": Pair("What should be done?", "Antibiotics and a bronchoscopy next week."),
}


@pytest.mark.parametrize("pair", GOOD)
def test_what_the_caption_answers_passes(pair: Pair) -> None:
    assert fault(pair, CAPTION) is None


@pytest.mark.parametrize("name", FILTERS)
def test_a_planted_fault_is_found_by_its_filter_and_by_no_other(name: str) -> None:
    assert [one for one, judge in FILTERS.items() if judge(FAULTS[name], CAPTION)] == [name]


def test_a_finding_that_is_stated_must_not_be_denied() -> None:
    found = fault(Pair("Is there an opacity?", "No, there is no opacity in the left lower lobe."), CAPTION)
    assert found is not None and found[0] == "findings"
