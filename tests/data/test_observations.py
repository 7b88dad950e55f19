import pytest

from mmmed.data.observations import ObservationLabels
from mmmed.errors import RecordError
from mmmed.processing.findings.labeller import OBSERVATIONS

MARKS = dict.fromkeys(OBSERVATIONS, "") | {"Edema": "1.0", "Fracture": "0.0", "Pneumonia": "-1.0"}


def test_uncertain_labels_are_left_out_and_blank_ones_are_no_by_default() -> None:
    present, known = ObservationLabels().read(MARKS)
    assert present == ("Edema",)
    assert known == tuple(observation for observation in OBSERVATIONS if observation != "Pneumonia")


@pytest.mark.parametrize(
    ("labels", "present", "known"),
    [
        (ObservationLabels(uncertain="yes"), ("Edema", "Pneumonia"), 14),
        (ObservationLabels(uncertain="no"), ("Edema",), 14),
        (ObservationLabels(blank="leave out"), ("Edema",), 2),
        (ObservationLabels(uncertain="yes", blank="leave out"), ("Edema", "Pneumonia"), 3),
    ],
)
def test_what_they_mean_is_the_users_choice(labels: ObservationLabels, present: tuple[str, ...], known: int) -> None:
    truths = labels.read(MARKS)
    assert (truths.present, len(truths.known)) == (present, known)


@pytest.mark.parametrize("mark", ["2", "yes", "nan"])
def test_other_marks_are_refused(mark: str) -> None:
    with pytest.raises(RecordError, match=f"'Edema' is '{mark}'; expected 1, 0, -1 or nothing"):
        ObservationLabels().read(MARKS | {"Edema": mark})


def test_a_missing_observation_is_refused() -> None:
    with pytest.raises(RecordError, match="'Edema' is None"):
        ObservationLabels().read({name: "" for name in OBSERVATIONS if name != "Edema"})
