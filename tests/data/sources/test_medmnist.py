from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from mmmed.data.card import read_card
from mmmed.data.medmnist import ARRAYS, FLAGS
from mmmed.data.sources.medmnist import MedMnist
from mmmed.data.sources.pneumonia_mnist import PneumoniaMnist
from mmmed.errors import ConfigError, DataError
from mmmed.processing.findings.labeller import NO_FINDING
from mmmed.records import Example, Quarantined

# Classes as the package medmnist 3.0.2 counts them.
CLASSES = {
    "pathmnist": 9,
    "chestmnist": 14,
    "dermamnist": 7,
    "octmnist": 4,
    "pneumoniamnist": 2,
    "retinamnist": 5,
    "breastmnist": 2,
    "bloodmnist": 8,
    "tissuemnist": 8,
    "organamnist": 11,
    "organcmnist": 11,
    "organsmnist": 11,
    "organmnist3d": 11,
    "nodulemnist3d": 2,
    "adrenalmnist3d": 2,
    "fracturemnist3d": 3,
    "vesselmnist3d": 2,
    "synapsemnist3d": 2,
}


def write(root: Path, flag: str, labels: list[Any], *, shape: tuple[int, ...] = (4, 4), stem: str = "") -> None:
    images = np.arange(len(labels) * int(np.prod(shape)), dtype=np.uint8).reshape(len(labels), *shape)
    marks = np.array(labels, dtype=np.uint8).reshape(len(labels), -1)
    stacks = {f"{part}_images": images for part in ARRAYS} | {f"{part}_labels": marks for part in ARRAYS}
    np.savez(root / f"{stem or flag}.npz", **stacks)


def examples(source: MedMnist) -> list[Example]:
    records = list(source.records())
    assert not [record for record in records if isinstance(record, Quarantined)]
    return [record for record in records if isinstance(record, Example)]


@pytest.mark.parametrize("flag", FLAGS)
def test_every_set_is_asked_in_its_own_words(tmp_path: Path, flag: str) -> None:
    facts = FLAGS[flag]
    assert len(facts.labels) == len(set(facts.labels)) == CLASSES[flag]
    multiple = facts.task == "multi-label"
    labels = [[1] + [0] * 13] if multiple else list(range(CLASSES[flag]))
    write(tmp_path, flag, labels, shape=(6, 4, 4) if facts.volumes else (4, 4))
    found = examples(MedMnist(str(tmp_path), flag=flag, findings="all", slices=3))
    for example in found:
        assert example.options
        assert len(example.images) == (3 if facts.volumes else 1)
        assert example.images[0].open().size == (4, 4)
        assert example.question.endswith("?")
    answers = [example.reference for example in found if example.split == "train"]
    if facts.task == "binary-class":
        assert answers[facts.positive] == "yes"
        assert Counter(answers) == {"yes": 1, "no": 1}
    elif not multiple:
        assert answers == list(facts.labels) == list(found[0].options)


def test_the_names_are_those_of_the_collection() -> None:
    assert {*FLAGS} == {*CLASSES}


def test_identifiers_splits_and_licence_stand_in_the_record(tmp_path: Path) -> None:
    write(tmp_path, "dermamnist", [4], shape=(4, 4, 3), stem="dermamnist_64")
    found = examples(MedMnist(str(tmp_path), flag="dermamnist", size=64))
    assert [(example.id, example.split, example.attributes["official_split"]) for example in found] == [
        ("dermamnist_64:train-0", "train", "train"),
        ("dermamnist_64:validation-0", "validation", "val"),
        ("dermamnist_64:test-0", "test", "test"),
    ]
    assert (found[0].reference, found[0].topic, found[0].licence) == ("melanoma", "diagnosis", "CC BY-NC 4.0")
    assert found[0].images[0].open().mode == "RGB"


def test_labels_of_a_multi_label_set_are_asked_one_by_one(tmp_path: Path) -> None:
    labels = np.zeros((3, 14), dtype=int)
    labels[0, [1, 2]] = 1
    labels[1, 4] = 1
    write(tmp_path, "chestmnist", labels.tolist())
    found = [one for one in examples(MedMnist(str(tmp_path), flag="chestmnist")) if one.split == "train"]
    assert Counter((one.patient, one.reference) for one in found) == {
        ("chestmnist:train-0", "yes"): 2,
        ("chestmnist:train-0", "no"): 2,
        ("chestmnist:train-1", "yes"): 1,
        ("chestmnist:train-1", "no"): 1,
        ("chestmnist:train-2", "yes"): 1,
        ("chestmnist:train-2", "no"): 1,
    }
    yes = {(one.patient[-1], one.topic) for one in found if one.reference == "yes"}
    assert yes == {("0", "cardiomegaly"), ("0", "effusion"), ("1", "mass"), ("2", NO_FINDING.lower())}
    assert found[0].id == "chestmnist:train-0:Cardiomegaly"


def test_slices_of_a_volume_are_evenly_spread_along_the_axis(tmp_path: Path) -> None:
    write(tmp_path, "nodulemnist3d", [1], shape=(6, 4, 5))
    found = examples(MedMnist(str(tmp_path), flag="nodulemnist3d", slices=2, axis=0))
    assert found[0].turns[0].text.startswith("<image>\n<image>\n")
    assert [int(np.asarray(image.open())[0, 0]) for image in found[0].images] == [20, 80]
    (across, *_) = examples(MedMnist(str(tmp_path), flag="nodulemnist3d", slices=2, axis=2))
    assert across.images[0].open().size == (4, 6)


@pytest.mark.parametrize(
    ("flag", "labels", "reason"),
    [
        ("octmnist", [4], "label is 4; expected 1 of 0 to 3"),
        ("breastmnist", [2], "label is 2; expected 1 of 0 or 1"),
        ("octmnist", [[0, 1]], "label is 0, 1; expected 1 of 0 to 3"),
        ("chestmnist", [[1] * 13], "expected 14 of 0 or 1"),
    ],
)
def test_other_labels_are_set_aside(tmp_path: Path, flag: str, labels: list[Any], reason: str) -> None:
    write(tmp_path, flag, labels)
    records = list(MedMnist(str(tmp_path), flag=flag).records())
    assert len(records) == 3
    assert all(isinstance(record, Quarantined) and reason in record.reason for record in records)


def test_unknown_names_and_missing_files_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"no data set 'dermmnist' \(did you mean 'dermamnist'\?\)"):
        MedMnist(str(tmp_path), flag="dermmnist")
    with pytest.raises(DataError, match=r"expected octmnist_128\.npz; .*card data/medmnist\.md"):
        list(MedMnist(str(tmp_path), flag="octmnist", size=128).records())
    np.savez(tmp_path / "octmnist.npz", train_images=np.zeros((2, 4, 4)), train_labels=np.zeros((1, 1)))
    with pytest.raises(DataError, match="has 1 train labels for 2 images; fetch it again"):
        list(MedMnist(str(tmp_path), flag="octmnist").records())


@pytest.mark.shared
def test_the_file_at_hand_is_read_as_its_own_source_reads_it(shared_data: Path) -> None:
    root = str(shared_data / "14_medmnist_pneumonia")
    found = examples(MedMnist(root, flag="pneumoniamnist"))
    assert Counter(one.split for one in found) == {
        split: read_card("pneumonia_mnist").counts[split] for split in ("train", "validation", "test")
    }
    others = [one for one in PneumoniaMnist(root).records() if isinstance(one, Example)]
    assert [one.turns for one in found] == [one.turns for one in others]
    assert [one.images for one in found] == [one.images for one in others]
