"""From sources to batches: what is bad is set aside and written down, the rest is trained on."""

import json
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from PIL import Image

from mmmed.data.datamodule import MedicalData, write_quarantine
from mmmed.errors import ConfigError, DataError, OutputError
from mmmed.models.features import FrozenFeatures
from mmmed.models.vlm import VisionLanguageModel
from mmmed.processing.augmentation import Augmentation
from mmmed.processing.image import ImageFile
from mmmed.processing.processor import Processor
from mmmed.records import Example, Quarantined, Turn


class Shelf:
    """A source of records at hand, under the name of one that has a card."""

    name = "phantom"

    def __init__(self, records: Sequence[Example | Quarantined]) -> None:
        self._records = records

    def prepare(self) -> None:
        pass

    def records(self) -> Iterator[Example | Quarantined]:
        yield from self._records


def about(path: Path, *, split: Any = "train") -> Example:
    return Example(
        id=path.name,
        patient=path.name,
        turns=(Turn("user", "<image>\nIs there?"), Turn("assistant", "yes")),
        images=(ImageFile(path),),
        topic="effusion",
        split=split,
        source="phantom",
    )


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Good pictures and three bad ones."""
    for name in ("a", "b", "c", "d"):
        Image.linear_gradient("L").save(tmp_path / f"{name}.png")
    Image.linear_gradient("L").save(tmp_path / "whole.jpg")
    (tmp_path / "truncated.jpg").write_bytes((tmp_path / "whole.jpg").read_bytes()[:2000])
    (tmp_path / "empty.png").write_bytes(b"")
    (tmp_path / "text.png").write_text("no picture")
    return tmp_path


@pytest.fixture
def attach(
    make_model: Callable[..., VisionLanguageModel], make_processor: Callable[..., Processor], tmp_path: Path
) -> Callable[[MedicalData], MedicalData]:
    """Gives the data what it asks of a trainer."""
    processor = make_processor(make_model())

    def make(data: MedicalData) -> MedicalData:
        data.trainer = SimpleNamespace(
            lightning_module=SimpleNamespace(processor=processor),
            global_rank=0,
            world_size=1,
            default_root_dir=str(tmp_path / "run"),
        )
        return data

    return make


def test_corrupt_images_are_quarantined_with_reasons_and_the_rest_is_trained_on(
    folder: Path, attach: Callable[[MedicalData], MedicalData]
) -> None:
    bad = ["truncated.jpg", "empty.png", "text.png"]
    records = [
        *(about(folder / name) for name in ("a.png", bad[0], "b.png", bad[1], "c.png", bad[2])),
        about(folder / "d.png", split="validation"),
        Quarantined("phantom", "row 7", "no answer"),
    ]
    data = attach(MedicalData([Shelf(records)], batch_size=2))
    data.setup("fit")
    lines = [json.loads(line) for line in (folder / "run" / "quarantine.jsonl").read_text().splitlines()]
    assert {line["record"] for line in lines} == {*bad, "row 7"}
    reasons = {line["record"]: line["reason"] for line in lines}
    assert "0 bytes" in reasons["empty.png"]
    assert "no answer" in reasons["row 7"]
    assert all(str(folder) in reasons[name] for name in bad)
    assert len(set(reasons.values())) == 4
    assert data.summary() == {
        "examples": {"train": {"phantom": 3}, "validation": {"phantom": 1}},
        "quarantined": 4,
    }
    assert [example.id for example in data.examples("train")] == ["a.png", "b.png", "c.png"]
    assert [len(batch.ids_BT) for batch in data.train_dataloader()] == [2]
    assert [len(batch.ids_BT) for batch in data.val_dataloader()] == [1]


def test_one_rank_writes_down_what_all_have_set_aside(
    folder: Path, attach: Callable[[MedicalData], MedicalData]
) -> None:
    records = [about(folder / "a.png"), about(folder / "text.png"), about(folder / "b.png", split="validation")]
    other = attach(MedicalData([Shelf(records)], batch_size=1))
    other.trainer.global_rank = 1  # type: ignore[misc, union-attr]
    other.setup("fit")
    assert [one.record for one in other.quarantined] == ["text.png"]
    assert not (folder / "run").exists()


def test_setting_up_again_reads_nothing_again(folder: Path, attach: Callable[[MedicalData], MedicalData]) -> None:
    records = [
        about(folder / "a.png"),
        about(folder / "b.png", split="validation"),
        about(folder / "c.png", split="test"),
    ]
    data = attach(MedicalData([Shelf(records)]))
    data.setup("fit")
    data.sources = []
    data.setup("validate")
    assert [example.id for example in data.examples("train")] == ["a.png"]


def test_the_test_split_is_read_for_testing_alone(folder: Path, attach: Callable[[MedicalData], MedicalData]) -> None:
    data = attach(MedicalData([Shelf([about(folder / "c.png", split="test")])]))
    data.setup("test")
    assert [len(batch.ids_BT) for batch in data.test_dataloader()] == [1]
    with pytest.raises(DataError, match="no usable train record"):
        data.setup("fit")


def test_without_validation_sources_need_no_such_record(
    folder: Path, attach: Callable[[MedicalData], MedicalData]
) -> None:
    records = [about(folder / "a.png"), about(folder / "b.png", split="validation")]
    data = attach(MedicalData([Shelf(records[:1])], validation_limit=0))
    data.setup("fit")
    assert data.val_dataloader() == []
    assert data.counts == {"train": {"phantom": 1}}
    with pytest.raises(DataError, match="no usable validation record"):
        attach(MedicalData([Shelf(records[:1])])).setup("fit")
    data = attach(MedicalData([Shelf(records)], validation_limit=0))
    data.setup("fit")
    assert data.counts == {"train": {"phantom": 1}}


def test_only_bad_images_are_one_line(folder: Path, attach: Callable[[MedicalData], MedicalData]) -> None:
    records = [about(folder / "empty.png"), about(folder / "a.png", split="validation")]
    with pytest.raises(DataError, match=r"every train example was set aside, .*empty\.png is empty"):
        attach(MedicalData([Shelf(records)])).setup("fit")


def test_a_topic_that_nobody_asks_about_is_one_line(folder: Path, attach: Callable[[MedicalData], MedicalData]) -> None:
    with pytest.raises(DataError, match=r"no train example has a topic among \['fracture'\]"):
        attach(MedicalData([Shelf([about(folder / "a.png")])], topics=["fracture"])).setup("fit")


def test_a_film_in_two_splits_is_refused(folder: Path, attach: Callable[[MedicalData], MedicalData]) -> None:
    records = [about(folder / "a.png"), about(folder / "a.png", split="validation")]
    with pytest.raises(DataError, match="stand in two splits"):
        attach(MedicalData([Shelf(records)])).setup("fit")


def test_data_without_sources_is_refused() -> None:
    with pytest.raises(ConfigError, match="no sources"):
        MedicalData([])


def test_data_without_trainer_says_how_to_run_it(folder: Path) -> None:
    records = [about(folder / "a.png"), about(folder / "b.png", split="validation")]
    with pytest.raises(DataError, match="run it through `mmmed fit`"):
        MedicalData([Shelf(records)]).setup("fit")


def test_a_quarantine_that_cannot_be_written_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(OutputError, match="choose another --output"):
        write_quarantine(tmp_path / "file" / "quarantine.jsonl", [])
    (tmp_path / "quarantine.jsonl").mkdir()
    with pytest.raises(OutputError, match="choose another --output"):
        write_quarantine(tmp_path / "quarantine.jsonl", [])
    assert sorted(path.name for path in tmp_path.iterdir()) == ["file", "quarantine.jsonl"]


@pytest.mark.parametrize("workers", [0, 2])
def test_training_images_change_by_epoch_and_not_by_worker(
    folder: Path, attach: Callable[[MedicalData], MedicalData], workers: int
) -> None:
    records = [
        *(about(folder / f"{name}.png") for name in ("a", "b", "c")),
        about(folder / "d.png", split="validation"),
    ]

    def epochs(*, workers: int, augmentation: Augmentation | None) -> list[dict[str, torch.Tensor]]:
        data = attach(MedicalData([Shelf(records)], batch_size=1, workers=workers, augmentation=augmentation))
        data.setup("fit")
        loader = data.train_dataloader()
        names = [example.id for example in data.examples("train")]
        seen = []
        for epoch in range(2):
            # Which example a batch holds stands in the order alone.
            loader.order.epoch, loader.order.start = epoch, 0
            order = [names[index % 3] for (index,) in loader.order]
            seen.append({name: batch.pixels_NCHW for name, batch in zip(order, loader, strict=True)})
        return [*seen, {"validation": torch.cat([batch.pixels_NCHW for batch in data.val_dataloader()])}]

    reference = epochs(workers=0, augmentation=Augmentation(seed=1))
    first, second, validation = epochs(workers=workers, augmentation=Augmentation(seed=1))
    for found, expected in zip((first, second, validation), reference, strict=True):
        assert found.keys() == expected.keys()
        assert all(torch.equal(found[name], expected[name]) for name in found)
    still, _, untouched = epochs(workers=0, augmentation=None)
    assert torch.equal(validation["validation"], untouched["validation"])
    for name in ("a.png", "b.png", "c.png"):
        assert not torch.equal(first[name], second[name])
        assert not torch.equal(first[name], still[name])


def test_augmentation_beside_kept_features_is_warned_of(
    folder: Path,
    attach: Callable[[MedicalData], MedicalData],
    make_model: Callable[..., VisionLanguageModel],
    caplog: pytest.LogCaptureFixture,
) -> None:
    records = [about(folder / "a.png"), about(folder / "b.png", split="validation")]
    for frozen, lines in ((False, 0), (True, 1)):
        caplog.clear()
        data = attach(MedicalData([Shelf(records)], augmentation=Augmentation()))
        module = torch.nn.Module()
        vision = make_model().vision
        module.encoder = FrozenFeatures(vision) if frozen else vision
        module.processor = data.trainer.lightning_module.processor
        data.trainer.lightning_module = module
        with caplog.at_level("WARNING"):
            data.setup("fit")
        assert sum("fills the disk" in message for message in caplog.messages) == lines
