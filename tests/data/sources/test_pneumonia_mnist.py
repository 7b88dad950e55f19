from collections import Counter
from pathlib import Path

import numpy as np
import pytest

from mmmed.data.card import read_card
from mmmed.data.sources.pneumonia_mnist import PneumoniaMnist
from mmmed.data.splits import check_disjoint
from mmmed.errors import DataError, ImageError
from mmmed.records import Example, Quarantined


def arrays(labels: list[int]) -> dict[str, np.ndarray]:
    images = np.arange(len(labels) * 16, dtype=np.uint8).reshape(-1, 4, 4)
    stacks = {f"{split}_images": images for split in ("train", "val", "test")}
    return stacks | {f"{split}_labels": np.array(labels)[:, None] for split in ("train", "val", "test")}


def test_images_keep_their_official_split_and_answer(tmp_path: Path) -> None:
    np.savez(tmp_path / "pneumoniamnist.npz", **arrays([0, 1]))
    found = [record for record in PneumoniaMnist(str(tmp_path)).records() if isinstance(record, Example)]
    assert [(example.id, example.split, example.reference) for example in found] == [
        ("train-0", "train", "no"),
        ("train-1", "train", "yes"),
        ("validation-0", "validation", "no"),
        ("validation-1", "validation", "yes"),
        ("test-0", "test", "no"),
        ("test-1", "test", "yes"),
    ]
    assert found[1].turns[0].text == "<image>\nDoes this chest radiograph show pneumonia?"
    assert np.asarray(found[1].images[0].open())[0, 0] == 16
    check_disjoint(found)


def test_other_labels_are_set_aside(tmp_path: Path) -> None:
    np.savez(tmp_path / "pneumoniamnist.npz", **arrays([1, 2]))
    bad = [record for record in PneumoniaMnist(str(tmp_path)).records() if isinstance(record, Quarantined)]
    assert bad[0] == Quarantined("pneumonia_mnist", "train-1", "label is 2; expected 0 or 1")
    assert len(bad) == 3


def test_a_file_that_does_not_fit_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"expected pneumoniamnist\.npz; .*card data/pneumonia_mnist\.md"):
        list(PneumoniaMnist(str(tmp_path)).records())
    (tmp_path / "short").mkdir()
    np.savez(tmp_path / "short" / "pneumoniamnist.npz", **arrays([0, 1]) | {"val_labels": np.array([[1]])})
    with pytest.raises(DataError, match="has 1 val labels for 2 images; fetch it again"):
        list(PneumoniaMnist(str(tmp_path / "short")).records())
    (tmp_path / "other").mkdir()
    np.savez(tmp_path / "other" / "pneumoniamnist.npz", x=np.zeros(1))
    with pytest.raises(ImageError, match="has no array 'train_labels'; it holds x"):
        list(PneumoniaMnist(str(tmp_path / "other")).records())


@pytest.mark.shared
def test_the_file_has_the_counts_of_its_card(shared_data: Path) -> None:
    records = list(PneumoniaMnist(str(shared_data / "14_medmnist_pneumonia")).records())
    found = [record for record in records if isinstance(record, Example)]
    assert len(found) == len(records)
    counts = read_card("pneumonia_mnist").counts
    splits = Counter(example.split for example in found)
    assert splits == {split: counts[split] for split in ("train", "validation", "test")}
    assert splits == {"train": 4708, "validation": 524, "test": 624}
    train = Counter(example.reference for example in found if example.split == "train")
    assert train == {"no": counts["train normal"], "yes": counts["train pneumonia"]}
    assert found[-1].images[0].open().size == (28, 28)
