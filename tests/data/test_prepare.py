"""A source becomes a folder that training reads as if it were the source, or nothing at all."""

import dataclasses
import json
import resource
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest
from filelock import FileLock
from PIL import Image, ImageChops

from mmmed.data.card import read_card
from mmmed.data.deidentify.privacy import Privacy
from mmmed.data.manifest import WithSplits, read_manifest
from mmmed.data.prepare import Recipe, prepare_source
from mmmed.data.shards import Shards
from mmmed.data.source import Source
from mmmed.errors import ConfigError, DataError, OutputError
from mmmed.processing.image import ImageFile
from mmmed.records import Example, Quarantined, Split, Turn

OPEN = Recipe(privacy=None)


class Toy:
    """A source with the card of the user's own pairs."""

    name = "pairs"

    def __init__(self, examples: Sequence[Example]) -> None:
        self._examples = examples

    def prepare(self) -> None:
        pass

    def records(self) -> Iterator[Example | Quarantined]:
        yield from self._examples
        yield Quarantined("pairs", "row 9", "no answer")


def example(place: int, folder: Path, *, split: Split = "train") -> Example:
    path = folder / f"{place}.jpg"
    Image.effect_noise((40, 30), 50).convert("RGB" if place % 2 else "L").save(path)
    return Example(
        id=f"q{place}",
        patient=f"p{place}",
        turns=(Turn("user", "<image>\nIll? “é”"), Turn("assistant", "yes", ("yes",), "no")),
        images=(ImageFile(path),),
        options=("yes", "no"),
        topic="ill",
        split=split,
        source="pairs",
        study=f"s{place}",
        attributes={"sex": "F" if place % 3 else "M", "age": 40.5},
        licence="CC BY 4.0",
    )


def pixels_alike(first: Example, second: Example) -> bool:
    ours, theirs = (one.images[0].open() for one in (first, second))
    return ours.mode == theirs.mode and not ImageChops.difference(ours, theirs).getbbox()


def good(source: Source) -> list[Example]:
    return [one for one in source.records() if isinstance(one, Example)]


def test_examples_come_back_as_they_were_but_for_where_their_pictures_lie(tmp_path: Path) -> None:
    examples = [example(place, tmp_path, split="test" if place > 7 else "train") for place in range(10)]
    text = Example(id="t", patient="t", turns=(Turn("document", "All is well."),), source="pairs")
    examples.append(text)
    (tmp_path / "3.jpg").write_bytes(b"damaged")
    made = prepare_source(Toy(examples), tmp_path / "out", recipe=OPEN)
    assert (made.index.examples, made.index.quarantined) == ({"train": 8, "validation": 0, "test": 2}, 2)
    source: Source = Shards(str(made.folder))
    again, whole = good(source), [one for one in examples if one.id != "q3"]
    for ours, theirs in zip(again, whole, strict=True):
        assert dataclasses.replace(ours, images=theirs.images) == theirs
        assert [Path(image.name).name for image in ours.images] == [Path(image.name).name for image in theirs.images]
        assert not ours.images or pixels_alike(ours, theirs)
    aside = [one for one in source.records() if isinstance(one, Quarantined)]
    assert [one.record for one in aside] == ["q3", "row 9"]
    assert "no picture in a known format" in aside[0].reason
    assert sorted(path.name for path in tmp_path.iterdir() if "jpg" not in path.name) == ["out"]


def test_the_folder_tells_source_licence_and_splits(tmp_path: Path) -> None:
    made = prepare_source(Toy([example(0, tmp_path)]), tmp_path / "out", recipe=OPEN)
    index = json.loads((made.folder / "index.json").read_text())
    card = read_card("pairs")
    assert (index["source"], index["licence"], index["pictures"]) == ("pairs", card.licence, 1)
    assert tuple(index["forbids"]) == card.forbids == Shards(str(made.folder)).index.forbids
    assert (made.folder / "README.md").read_text().startswith("---\nname: pairs")
    assert read_manifest(made.folder / "splits.json").places == {"p0": "train"}
    assert Shards(str(made.folder)).name == "pairs"


def test_a_picture_that_many_ask_about_is_kept_once(tmp_path: Path) -> None:
    first = example(0, tmp_path)
    examples = [dataclasses.replace(first, id=f"q{place}") for place in range(200)]
    made = prepare_source(Toy(examples), tmp_path / "out", recipe=OPEN)
    assert (made.index.pictures, made.index.examples["train"]) == (1, 200)
    assert len({one.images[0].name for one in good(Shards(str(made.folder)))}) == 1


def test_pictures_are_shrunk_on_demand(tmp_path: Path) -> None:
    made = prepare_source(Toy([example(0, tmp_path)]), tmp_path / "out", recipe=Recipe(privacy=None, longest_side=20))
    assert good(Shards(str(made.folder)))[0].images[0].open().size == (20, 15)
    whole = prepare_source(Toy([example(0, tmp_path)]), tmp_path / "whole", recipe=OPEN)
    assert whole.index.version != made.index.version
    with pytest.raises(ConfigError, match="longest_side is 0"):
        Recipe(longest_side=0)


def test_a_new_split_is_even_and_the_same_again(tmp_path: Path) -> None:
    examples = [example(place, tmp_path) for place in range(30)]
    recipe = Recipe(privacy=None, stratify=("sex",), seed=4)
    made = prepare_source(Toy(examples), tmp_path / "out", recipe=recipe)
    again = prepare_source(Toy(examples[::-1]), tmp_path / "again", recipe=recipe)
    places = read_manifest(made.folder / "splits.json").places
    assert places == read_manifest(again.folder / "splits.json").places
    assert Counter(places.values()) == {"train": 24, "validation": 3, "test": 3} == made.index.examples
    assert {one.patient: one.split for one in good(Shards(str(made.folder)))} == places
    source = WithSplits(Toy(examples), str(made.folder / "splits.json"))
    assert {one.patient: one.split for one in source.records() if isinstance(one, Example)} == places


def test_an_earlier_one_is_replaced_and_nothing_else_is(tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "thesis.txt").write_text("mine")
    with pytest.raises(OutputError, match="is no prepared data set"):
        prepare_source(Toy([example(0, tmp_path)]), tmp_path / "out", recipe=OPEN)
    made = prepare_source(Toy([example(0, tmp_path)]), tmp_path / "other", recipe=OPEN)
    before = good(Shards(str(made.folder)))[0].images[0].open().tobytes()
    assert prepare_source(Toy([example(1, tmp_path)]), tmp_path / "other", recipe=OPEN).index != made.index
    # A reader of the old pictures is not used for the new ones.
    assert good(Shards(str(made.folder)))[0].images[0].open().tobytes() != before


def test_what_leaks_or_is_empty_is_refused_and_leaves_nothing(tmp_path: Path) -> None:
    first = example(0, tmp_path)
    with pytest.raises(DataError, match=r"1 patient\(s\) stand in two splits"):
        twice = [first, dataclasses.replace(first, id="again", split="test")]
        prepare_source(Toy(twice), tmp_path / "out", recipe=OPEN)
    with pytest.raises(DataError, match="no usable record, the first for this: no answer"):
        prepare_source(Toy([]), tmp_path / "out", recipe=OPEN)
    assert [path.name for path in tmp_path.iterdir()] == ["0.jpg"]


def test_a_full_disk_is_one_line_and_leaves_the_earlier_one(tmp_path: Path) -> None:
    """A limit on the size of files stands in for the disk: writing fails in the middle of a shard."""
    earlier = prepare_source(Toy([example(0, tmp_path)]), tmp_path / "out", recipe=OPEN)
    examples = [example(place, tmp_path) for place in range(1, 20)]
    limit = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (8_000, limit[1]))
    try:
        with pytest.raises(OutputError, match=r"^cannot write .*out: .*free some space or choose another --output$"):
            prepare_source(Toy(examples), tmp_path / "out", recipe=OPEN)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limit)
    assert [one.id for one in good(Shards(str(earlier.folder)))] == ["q0"]
    assert sorted(path.name for path in tmp_path.iterdir() if "jpg" not in path.name) == ["out"]


def test_what_a_killed_run_left_is_begun_anew_and_a_running_one_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / ".out.part" / "pictures").mkdir(parents=True)
    (tmp_path / ".out.part" / "pictures" / "chunk-0-0.bin").write_bytes(b"half")
    made = prepare_source(Toy([example(0, tmp_path)]), tmp_path / "out", recipe=OPEN)
    assert good(Shards(str(made.folder)))[0].images[0].open().size == (40, 30)
    with FileLock(tmp_path / ".out.lock"), pytest.raises(OutputError, match="is being prepared by another process"):
        prepare_source(Toy([example(0, tmp_path)]), tmp_path / "out", recipe=OPEN)


def test_half_characters_are_set_aside(tmp_path: Path) -> None:
    torn = dataclasses.replace(example(1, tmp_path), topic="\ud800")
    made = prepare_source(Toy([example(0, tmp_path), torn]), tmp_path / "out", recipe=OPEN)
    assert made.index.quarantined == 2
    assert "half a character" in (made.folder / "quarantine.jsonl").read_text()


def test_the_gate_stands_before_what_may_hold_identifiers_and_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MMMED_PRIVACY_KEY", str(tmp_path / "key"))
    named = dataclasses.replace(
        example(0, tmp_path),
        patient="00817263",
        turns=(Turn("user", "<image>\nIll?"), Turn("assistant", "Mr. John Abernathy is ill.")),
        options=(),
    )
    privacy = Privacy(images="keep")
    made = prepare_source(Toy([named]), tmp_path / "out", recipe=Recipe(privacy=privacy))
    assert made.index.gate == {"text": "rules", "images": "keep"}
    for path in made.folder.rglob("*"):
        assert path.is_dir() or not any(word in path.read_bytes() for word in (b"Abernathy", b"00817263", b"0.jpg"))
    assert (made.folder / "privacy.jsonl").is_file()
    from mmmed.data.deidentify.audit import Audit
    from mmmed.data.deidentify.privacy import guarded

    source: Source = Shards(str(made.folder))
    assert guarded([source], privacy, Audit()) == [source]
    assert guarded([source], Privacy(images="mask"), Audit()) != [source]
    assert guarded([source], Privacy(text="model", images="keep"), Audit()) != [source]
