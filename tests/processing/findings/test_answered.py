import pytest

from mmmed.processing.findings.answered import findings_answered, yes_or_no
from mmmed.processing.findings.labeller import Status, chest_labeller


@pytest.mark.parametrize(
    ("question", "text", "said"),
    [
        ("Is there a pleural effusion?", "Yes.", {"effusion": Status.STATED}),
        ("Is there a pleural effusion?", "no", {"effusion": Status.DENIED}),
        ("Is there a pleural effusion?", "No pleural effusion. A nodule.", {"effusion": Status.DENIED}),
        ("Is there a pleural effusion?", "Heart size is normal.", {"effusion": Status.UNMENTIONED}),
        ("Is there no cardiomegaly?", "Yes", {"cardiomegaly": Status.DENIED}),
        ("Is there no cardiomegaly?", "No", {"cardiomegaly": Status.STATED}),
        (
            "Is there an effusion or a pneumothorax?",
            "No.",
            {"effusion": Status.DENIED, "pneumothorax": Status.DENIED},
        ),
        (
            "Is there an effusion or a pneumothorax?",
            "Yes, an effusion.",
            {"effusion": Status.STATED, "pneumothorax": Status.UNSURE},
        ),
    ],
)
def test_an_answer_is_read_with_its_question(question: str, text: str, said: dict[str, Status]) -> None:
    assert findings_answered(question, text) == said


def test_an_open_question_is_of_all_findings() -> None:
    text = "No pleural effusion. Right pneumothorax."
    assert findings_answered("Describe this image.", text) == chest_labeller().findings(text)


def test_yes_and_no_are_words() -> None:
    assert [yes_or_no(text) for text in (" Yes, left", "NO", "Nodule", "", "yesterday")] == [
        True,
        False,
        None,
        None,
        None,
    ]
