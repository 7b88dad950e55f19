import json
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import pytest
import torch
from PIL import Image

from benchmarks import leakage as benchmark
from mmmed.data.leakage.findings import write_report
from mmmed.data.leakage.scan import ScanSettings, scan
from mmmed.data.sources.nih_cxr import NihCxr
from mmmed.data.sources.vqa_rad import VqaRad
from mmmed.errors import ConfigError, DataError
from mmmed.processing.image import ImageFile
from mmmed.records import Example, Quarantined, Split, Turn

Textures = Callable[..., torch.Tensor]


class Listed:
    """A source of the examples it is given."""

    def __init__(self, examples: Sequence[Example], name: str = "listed") -> None:
        self.name = name
        self._examples = examples

    def prepare(self) -> None:
        pass

    def records(self) -> Iterator[Example | Quarantined]:
        yield from self._examples
        yield Quarantined(self.name, "row 9", "no picture")


def about(path: Path | None, patient: str, split: Split, *, study: str = "", official: str = "") -> Example:
    images = (ImageFile(path),) if path else ()
    return Example(
        id=f"{patient}:{split}:{path.name if path else ''}",
        patient=patient,
        turns=(Turn("user", f"<image>\nIs {patient} ill?" if path else f"Is {patient} ill?"),),
        images=images,
        split=split,
        study=study,
        source="listed",
        attributes={"official": official} if official else {},
    )


@pytest.fixture
def films(tmp_path: Path, textures: Textures) -> list[Path]:
    paths = [tmp_path / f"{place}.png" for place in range(6)]
    for path, picture in zip(paths, textures(6), strict=True):
        Image.fromarray(picture.numpy()).resize((160, 160)).save(path)
    return paths


def test_clean_splits_are_clean(films: list[Path]) -> None:
    examples = [about(path, f"p{n}", "train" if n < 3 else "test") for n, path in enumerate(films)]
    report = scan([Listed(examples)])
    assert report.is_clean
    assert report.findings == []
    assert report.looked_at == {
        "examples": 6,
        "pictures": 6,
        "benchmark items": 0,
        "picture pairs compared": 15,
        "blank pictures": 0,
    }


def test_patients_studies_and_pictures_in_two_splits_are_found(films: list[Path], tmp_path: Path) -> None:
    (tmp_path / "again.png").write_bytes(films[0].read_bytes())
    Image.open(films[1]).crop((10, 4, 150, 155)).save(tmp_path / "cropped.jpg", quality=60)
    examples = [
        about(films[0], "a", "train", study="s1"),
        about(films[1], "b", "train"),
        about(films[2], "c", "train"),
        about(tmp_path / "again.png", "d", "test"),
        about(tmp_path / "cropped.jpg", "e", "validation"),
        about(films[2], "f", "test"),
        about(films[3], "a", "test"),
        about(films[4], "g", "validation", study="s1"),
    ]
    report = scan([Listed(examples)])
    assert not report.is_clean
    assert report.counts(across=True) == {"patient": 1, "study": 1, "image": 2, "near image": 1}
    found = {(one.kind, Path(one.first).name, Path(one.second).name, one.splits) for one in report.findings}
    assert found == {
        ("patient", "a", "a", ("train", "test")),
        ("study", "s1", "s1", ("train", "validation")),
        ("image", "0.png", "again.png", ("train", "test")),
        ("image", "2.png", "2.png", ("train", "test")),
        ("near image", "1.png", "cropped.jpg", ("train", "validation")),
    }


def test_a_repetition_within_a_split_is_named_and_does_no_harm(films: list[Path], tmp_path: Path) -> None:
    (tmp_path / "again.png").write_bytes(films[0].read_bytes())
    report = scan([Listed([about(films[0], "a", "train"), about(tmp_path / "again.png", "b", "train")])])
    assert report.is_clean
    assert report.counts(across=False) == {"image": 1}


def test_two_sources_are_compared_with_each_other(films: list[Path], tmp_path: Path) -> None:
    Image.open(films[0]).save(tmp_path / "other.bmp")
    first, second = about(films[0], "a", "train"), about(tmp_path / "other.bmp", "a", "test")
    report = scan([Listed([first]), Listed([second], "another")])
    assert report.counts(across=True) == {"patient": 1, "image": 1}


def test_a_picture_that_cannot_be_decoded_is_reported_and_compared_with_nothing(tmp_path: Path) -> None:
    for name in ("a", "b"):
        (tmp_path / f"{name}.png").write_bytes(b"no picture")
    report = scan([Listed([about(tmp_path / "a.png", "a", "train"), about(tmp_path / "b.png", "b", "test")])])
    assert report.is_clean
    assert len(report.unreadable) == 2


def test_another_split_is_tested_by_the_attribute_that_holds_it() -> None:
    examples = [about(None, "a", "train", official="Training"), about(None, "a", "train", official="TEST")]
    assert scan([Listed(examples)]).is_clean
    assert scan([Listed(examples)], settings=ScanSettings(split_by="official")).counts(across=True) == {
        "patient": 1,
        "text": 1,
    }
    with pytest.raises(ConfigError, match=r"no attribute 'oficial' \(did you mean 'official'\?\)"):
        scan([Listed(examples)], settings=ScanSettings(split_by="oficial"))
    with pytest.raises(DataError, match="official is 'fold 3'; expected train"):
        scan([Listed([about(None, "a", "train", official="fold 3")])], settings=ScanSettings(split_by="official"))


def test_benchmarks_are_looked_for_in_training_and_not_in_test() -> None:
    long = "A man of sixty years comes to the clinic with a cough that has lasted for three weeks now"
    item = Example(id="item", patient="", turns=(Turn("user", long),), split="test", source="bench")
    learnt = Example(id="text", patient="", turns=(Turn("document", f"{long}."),), split="train", source="listed")
    report = scan([Listed([learnt])], benchmarks=[Listed([item], "bench")])
    assert [(one.kind, one.first, one.second, one.score) for one in report.findings] == [
        ("benchmark", "text", "item", 1.0)
    ]
    assert not report.is_clean


def test_the_report_is_written_as_json(films: list[Path], tmp_path: Path) -> None:
    report = scan([Listed([about(films[0], "a", "train"), about(films[0], "b", "test")])])
    write_report(report, tmp_path / "out" / "leakage.json")
    written = json.loads((tmp_path / "out" / "leakage.json").read_text())
    assert (written["clean"], written["across_splits"]) == (False, {"image": 1})
    assert written["findings"][0]["splits"] == ["train", "test"]
    assert written["settings"]["least"] == 0.7


@pytest.mark.shared
def test_the_official_split_of_vqa_rad_is_caught_image_by_image(shared_data: Path) -> None:
    root = shared_data / "04_vqa_rad"
    report = scan([VqaRad(str(root))], settings=ScanSettings(split_by="official_split", near=False))
    reported = {Path(one.second).name for one in report.findings if one.kind == "image"}
    assert reported == benchmark.in_both_splits(root / "vqa_rad.jsonl")
    assert len(reported) == 162


@pytest.mark.shared
def test_the_splits_of_vqa_rad_and_nih_are_clean(shared_data: Path) -> None:
    assert scan([VqaRad(str(shared_data / "04_vqa_rad"))]).findings == []
    assert scan([NihCxr(str(shared_data / "02_cxr_nih_labels"))]).findings == []


@pytest.mark.shared
@pytest.mark.slow
@pytest.mark.parametrize("kind", ["resize", "crop", "JPEG", "contrast", "rotation", "burned-in text"])
def test_altered_copies_of_films_are_found(shared_data: Path, kind: str) -> None:
    found = benchmark.planted(benchmark.nih_films(shared_data), kind)
    assert found.recall >= 0.98
    assert found.false_share <= 0.001
