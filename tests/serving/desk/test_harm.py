"""What may harm most comes first."""

from pathlib import Path

import pytest

from mmmed.safety.harm import Cost, HarmMatrix, load_harm
from mmmed.serving.desk.desk import Desk
from mmmed.serving.desk.harm import harm_by

from .conftest import draft, request

HARM = Path(__file__).parents[3] / "configs" / "harm"
CHEST = load_harm(str(HARM / "chest.yaml"))
DEAREST = 100.0


@pytest.mark.parametrize(
    ("question", "text", "harm"),
    [
        ("Is there a pneumothorax?", "No.", 100),  # a miss
        ("Is there a pneumothorax?", "Yes, on the left.", 5),  # a false alarm
        ("Is there a pneumothorax?", "Heart size is normal.", 20),  # left open: a delay
        ("Is there a pleural effusion?", "no", 20),
        ("Is there a pleural effusion?", "There may be a small effusion.", 2),
        ("Is there a device?", "no", 3),
        ("Describe this image.", "There is a pleural effusion. No cardiomegaly.", 8),
        ("Describe this image.", "No cardiomegaly. No effusion.", 40),  # reads as a normal film
        ("Describe this image.", "The picture is grey.", DEAREST),  # nothing is known of it
        ("", "Yes.", DEAREST),
    ],
)
def test_the_dearest_error_that_a_draft_may_be_counts(question: str, text: str, harm: float) -> None:
    assert harm_by(CHEST)(question, text) == harm


def test_topics_that_are_no_findings_of_the_chest_are_known_by_their_name() -> None:
    skin = harm_by(load_harm(str(HARM / "skin.yaml")))
    answers = ["No.", "Yes.", "A mole.", "no"]
    assert [skin("Is this lesion malignant?", text) for text in answers] == [100, 3, 5, 100]
    assert skin("What colour is it?", "Brown.") == 100


def test_a_cost_for_other_answers_holds_where_there_is_none_of_its_own() -> None:
    matrix = HarmMatrix(
        name="small",
        version=1,
        unit="looks",
        topics={"side": [Cost(truth="left", said="other", cost=7, because="It is looked at again.")]},
    )
    assert matrix.costs_if_wrong("side", "right") == [7]
    assert matrix.costs_if_wrong("side", "left") == []
    assert matrix.costs_if_wrong("age", "left") == []


def test_the_queue_is_ordered_by_uncertainty_times_harm(desk: Desk) -> None:
    harm = harm_by(CHEST)
    drafts = [
        ("Is there a device?", "no", 0.9),
        ("Is there a pneumothorax?", "yes", 0.5),
        ("Is there a pneumothorax?", "no", 0.1),
        ("Is there a pleural effusion?", "no", 0.3),
    ]
    for question, text, uncertainty in drafts:
        wanted = draft(text, question=question, uncertainty=uncertainty, harm=harm(question, text))
        desk.hand_in(wanted, by="rita", request=request())
    waiting = [(one.question, round(one.priority, 6)) for one in desk.queue()]
    assert waiting == [
        ("Is there a pneumothorax?", 10.0),
        ("Is there a pleural effusion?", 6.0),
        ("Is there a device?", 2.7),
        ("Is there a pneumothorax?", 2.5),
    ]
