"""The labeller tells what is stated from what is denied, left open or not said at all."""

import pytest

from mmmed.processing.findings.labeller import (
    NO_FINDING,
    FindingLabeller,
    Status,
    chest_labeller,
    sentences,
)

LABELLER = FindingLabeller()


@pytest.mark.parametrize(
    ("text", "observation", "status"),
    [
        ("Small left pleural effusion.", "Pleural Effusion", Status.STATED),
        ("No pleural effusion.", "Pleural Effusion", Status.DENIED),
        ("No focal consolidation, pneumothorax, or large pleural effusion.", "Pleural Effusion", Status.DENIED),
        ("Negative for pneumothorax.", "Pneumothorax", Status.DENIED),
        ("Lungs are clear without effusion", "Pleural Effusion", Status.DENIED),
        ("Effusion is not seen.", "Pleural Effusion", Status.DENIED),
        ("The pneumothorax has resolved.", "Pneumothorax", Status.DENIED),
        ("Pneumonia is unlikely.", "Pneumonia", Status.DENIED),
        ("History of pneumonia.", "Pneumonia", Status.DENIED),
        ("No change in the small left effusion.", "Pleural Effusion", Status.STATED),
        ("No pneumothorax but there is a small effusion.", "Pleural Effusion", Status.STATED),
        ("No pneumothorax, the heart is enlarged.", "Cardiomegaly", Status.STATED),
        ("This may represent pneumonia.", "Pneumonia", Status.UNSURE),
        ("Possible left lower lobe consolidation.", "Consolidation", Status.UNSURE),
        ("Concerning for pneumonia.", "Pneumonia", Status.UNSURE),
        ("Pneumonia cannot be excluded.", "Pneumonia", Status.UNSURE),
        ("A small effusion is not entirely excluded.", "Pleural Effusion", Status.UNSURE),
        ("Probable left basilar atelectasis.", "Atelectasis", Status.STATED),
        ("The heart is mildly enlarged.", "Cardiomegaly", Status.STATED),
        ("The heart is not enlarged.", "Cardiomegaly", Status.DENIED),
        ("Heart size is normal.", "Cardiomegaly", Status.UNMENTIONED),
        ("There is a pericardial effusion.", "Pleural Effusion", Status.UNMENTIONED),
        ("A 9 mm nodule is seen.", "Lung Lesion", Status.STATED),
        ("Left lower lobe collapse.", "Atelectasis", Status.STATED),
        ("Old healed rib fractures.", "Fracture", Status.STATED),
        ("PICC tip in the SVC.", "Support Devices", Status.STATED),
        ("Patchy airspace disease in the base.", "Lung Opacity", Status.STATED),
        ("Widened mediastinum.", "Enlarged Cardiomediastinum", Status.STATED),
    ],
)
def test_what_a_sentence_says_of_an_observation(text: str, observation: str, status: Status) -> None:
    assert LABELLER.observations(text)[observation] == status


def test_what_is_stated_anywhere_holds_over_what_is_denied_or_left_open_elsewhere() -> None:
    text = "Possible effusion on the left. No effusion on the right. Impression: Small pleural effusion."
    assert LABELLER.observations(text)["Pleural Effusion"] == Status.STATED
    statuses = [mention.status for mention in LABELLER.mentions(text)]
    assert statuses == [Status.UNSURE, Status.DENIED, Status.STATED]


def test_a_cue_reaches_no_further_than_its_sentence() -> None:
    said = LABELLER.observations("No pneumothorax. Small effusion")
    assert (said["Pneumothorax"], said["Pleural Effusion"]) == (Status.DENIED, Status.STATED)


def test_no_finding_is_stated_where_nothing_else_is_and_never_by_silence() -> None:
    assert LABELLER.observations("Clear lungs. No effusion.")[NO_FINDING] == Status.STATED
    assert LABELLER.observations("Pacemaker in place. Clear lungs.")[NO_FINDING] == Status.STATED
    assert LABELLER.observations("Small effusion.")[NO_FINDING] == Status.DENIED
    assert LABELLER.observations("Possible pneumonia.")[NO_FINDING] == Status.DENIED
    assert LABELLER.observations(" ")[NO_FINDING] == Status.UNMENTIONED


def test_finer_findings_than_the_fourteen_are_known_by_name() -> None:
    said = LABELLER.findings("Emphysema with apical fibrosis; cystic fibrosis is excluded. Hiatal hernia.")
    assert {name for name, status in said.items() if status == Status.STATED} == {"emphysema", "fibrosis", "hernia"}


def test_sentences_end_at_stops_lines_and_semicolons_but_not_in_numbers() -> None:
    text = "1. A 3.5 cm mass. 2. Clear lungs; no effusion\nHeart normal."
    assert sentences(text) == ["A 3.5 cm mass.", "Clear lungs", "no effusion", "Heart normal."]


def test_the_order_of_sentences_changes_no_label() -> None:
    cut = ["No effusion.", "Heart is enlarged.", "Possible pneumonia.", "Clear apices."]
    assert LABELLER.observations(" ".join(cut)) == LABELLER.observations(" ".join(reversed(cut)))


def test_the_labeller_of_chest_reports_is_made_once() -> None:
    assert chest_labeller() is chest_labeller()
