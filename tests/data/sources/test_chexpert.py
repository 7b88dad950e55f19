from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from mmmed.data.observations import ObservationLabels
from mmmed.data.sources.chexpert import CheXpert
from mmmed.data.study import StudyQuestions
from mmmed.errors import ConfigError, DataError
from mmmed.processing.findings.labeller import OBSERVATIONS
from mmmed.records import Example, Quarantined

HEADER = ",".join(["Path", "Sex", "Age", "Frontal/Lateral", "AP/PA", *OBSERVATIONS])
ROOT = "CheXpert-v1.0-small"


def row(path: str, facts: str, **marks: str) -> str:
    labels = ",".join(marks.get(observation.replace(" ", "_"), "") for observation in OBSERVATIONS)
    return f"{path},{facts},{labels}"


TRAIN = [
    row(f"{ROOT}/train/patient00001/study1/view1_frontal.jpg", "Female,68,Frontal,AP", Edema="-1.0", Fracture="1.0"),
    row(f"{ROOT}/train/patient00002/study2/view1_frontal.jpg", "Male,0,Frontal,PA", No_Finding="1.0"),
    row(f"{ROOT}/train/patient00002/study2/view2_lateral.jpg", "Male,0,Lateral,", No_Finding="1.0"),
]
VALID = [row(f"{ROOT}/valid/patient64541/study1/view1_frontal.jpg", "Unknown,73,Frontal,AP", Edema="1.0")]


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """The small release: three films to train on and one to validate on."""
    for name, rows in (("train", TRAIN), ("valid", VALID)):
        (tmp_path / f"{name}.csv").write_text("\n".join([HEADER, *rows, ""]))
        for line in rows:
            path = tmp_path / line.split(",")[0].removeprefix(f"{ROOT}/")
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.new("L", (4, 4)).save(path)
    return tmp_path


def examples(root: Path, **settings: Any) -> list[Example]:
    ask = StudyQuestions(questions=("finding",), images="each", findings="all", **settings.pop("ask", {}))
    records = list(CheXpert(str(root), ask=ask, **settings).records())
    assert not [record for record in records if isinstance(record, Quarantined)]
    return [record for record in records if isinstance(record, Example)]


def test_films_are_asked_about_with_their_official_split(root: Path) -> None:
    found = examples(root)
    yes = [(example.id, example.split) for example in found if example.reference == "yes"]
    assert yes == [
        ("patient00001/study1/view1_frontal:Fracture", "train"),
        ("patient00002/study2/view1_frontal:No Finding", "train"),
        ("patient00002/study2/view2_lateral:No Finding", "train"),
        ("patient64541/study1/view1_frontal:Edema", "validation"),
    ]
    # The uncertain edema is not asked about, and blank ones are "no".
    assert Counter(example.patient for example in found) == {"patient00001": 13, "patient00002": 28, "patient64541": 14}
    first, lateral, last = found[0], found[27], found[-1]
    assert (first.patient, first.study) == ("patient00001", "patient00001/study1")
    assert first.attributes == {
        "sex": "F", "age": 68.0, "view": "AP", "findings": "Fracture", "official_split": "train"
    }  # fmt: skip
    assert lateral.attributes == {
        "sex": "M", "view": "lateral", "findings": "No Finding", "official_split": "train"
    }  # fmt: skip
    assert "sex" not in last.attributes
    assert first.images[0].open().size == (4, 4)


def test_uncertain_and_blank_labels_follow_the_policy(root: Path) -> None:
    found = examples(root, labels=ObservationLabels(uncertain="yes", blank="leave out"))
    assert [(example.topic, example.reference) for example in found if example.patient == "patient00001"] == [
        ("edema", "yes"),
        ("fracture", "yes"),
    ]


def test_films_of_a_study_can_be_shown_together_or_lateral_ones_left_out(root: Path) -> None:
    ask = StudyQuestions(questions=("finding",), images="study", findings="all")
    records = [record for record in CheXpert(str(root), ask=ask).records() if isinstance(record, Example)]
    assert {len(record.images) for record in records if record.patient == "patient00002"} == {2}
    frontal = examples(root, ask={"views": ("PA", "AP")})
    assert {example.attributes["view"] for example in frontal} == {"PA", "AP"}


def test_splits_can_be_drawn_by_patient_from_all_parts(root: Path) -> None:
    found = examples(root, splits="hash", fractions=(0.0, 0.0, 1.0))
    assert {example.split for example in found} == {"test"}
    assert {example.attributes["official_split"] for example in found} == {"train", "valid"}


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        (row("x.jpg", "Male,50,Frontal,AP"), "'Path' is 'x.jpg'"),
        (row(f"{ROOT}/train/patient9/study1/view1.jpg", "Male,50,Frontal,AP"), "is missing"),
        (row(TRAIN[0].split(",")[0], "male,50,Frontal,AP"), "'Sex' is 'male'"),
        (row(TRAIN[0].split(",")[0], "Male,500,Frontal,AP"), "'500' is no age"),
        (row(TRAIN[0].split(",")[0], "Male,50,Frontal,AP", Edema="2"), "'Edema' is '2'"),
        (TRAIN[0], "is used before"),
    ],
)
def test_malformed_rows_are_set_aside(root: Path, line: str, reason: str) -> None:
    (root / "train.csv").write_text("\n".join([HEADER, *TRAIN, line, ""]))
    (bad,) = [record for record in CheXpert(str(root)).records() if isinstance(record, Quarantined)]
    assert (bad.source, bad.record) == ("chexpert", "train.csv:5")
    assert reason in bad.reason


def test_reports_are_refused_since_there_are_none() -> None:
    with pytest.raises(ConfigError, match="CheXpert has no reports"):
        CheXpert("somewhere", ask=StudyQuestions())


def test_an_empty_root_says_what_was_expected_and_where_to_get_it(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"expected train\.csv and valid\.csv .*card data/chexpert\.md"):
        list(CheXpert(str(tmp_path)).records())
