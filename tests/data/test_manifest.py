import dataclasses
import json
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

from mmmed.data.manifest import WithSplits, content_hash, make_manifest, read_manifest, write_manifest
from mmmed.data.splits import Fractions
from mmmed.errors import ConfigError, DataError
from mmmed.records import Example, Quarantined, Turn


def example(number: int, **changes: object) -> Example:
    made = Example(
        id=f"q{number}",
        patient=f"p{number // 2}",
        turns=(Turn("user", "Ill?"), Turn("assistant", "yes" if number % 3 else "no")),
        options=("yes", "no"),
        topic="ill",
        source="toy",
        attributes={"sex": "F" if number % 4 < 2 else "M", "age": number % 90, "findings": "Mass;Hernia"},
    )
    return dataclasses.replace(made, **changes)  # type: ignore[arg-type]


RECORDS = [example(number) for number in range(200)]


class Toy:
    name = "toy"

    def __init__(self, records: Sequence[Example]) -> None:
        self._records = records

    def prepare(self) -> None:
        pass

    def records(self) -> Iterator[Example | Quarantined]:
        yield from self._records
        yield Quarantined("toy", "row", "bad")


def test_a_split_is_read_as_it_was_written(tmp_path: Path) -> None:
    made = make_manifest(RECORDS, seed=1, fractions=Fractions(0.5, 0.25, 0.25), stratify=["sex", "label", "age"])
    write_manifest(made, tmp_path / "splits.json")
    again = read_manifest(tmp_path / "splits.json")
    assert again == made
    assert again.version == made.version
    assert Counter(made.places.values()) == {"train": 50, "validation": 25, "test": 25}


def test_a_source_takes_the_splits_of_the_file(tmp_path: Path) -> None:
    made = make_manifest(RECORDS, seed=1, stratify=["findings"])
    write_manifest(made, tmp_path / "splits.json")
    records = list(WithSplits(Toy(RECORDS), str(tmp_path / "splits.json")).records())
    assert {one.patient: one.split for one in records if isinstance(one, Example)} == made.places
    assert isinstance(records[-1], Quarantined)


@pytest.mark.parametrize(
    "changed",
    [
        [*RECORDS, example(200)],
        RECORDS[1:],
        [example(0, turns=(Turn("user", "Sick?"), Turn("assistant", "no"))), *RECORDS[1:]],
        [example(0, patient="another"), *RECORDS[1:]],
        [example(0, attributes={"sex": "M"}), *RECORDS[1:]],
    ],
)
def test_changed_records_are_refused(tmp_path: Path, changed: list[Example]) -> None:
    write_manifest(make_manifest(RECORDS, seed=1), tmp_path / "splits.json")
    with pytest.raises(DataError, match=r"are not those that .*splits\.json was made from"):
        list(WithSplits(Toy(changed), str(tmp_path / "splits.json")).records())


def test_order_and_the_old_splits_are_no_change() -> None:
    reordered = [dataclasses.replace(one, split="test") for one in reversed(RECORDS)]
    assert content_hash(reordered) == content_hash(RECORDS)


def test_the_file_of_another_source_is_refused(tmp_path: Path) -> None:
    others = [dataclasses.replace(one, source="other") for one in RECORDS]
    write_manifest(make_manifest(others, seed=1), tmp_path / "splits.json")
    with pytest.raises(DataError, match="splits 'other', not 'toy'"):
        list(WithSplits(Toy(RECORDS), str(tmp_path / "splits.json")).records())


def test_an_unknown_attribute_and_mixed_sources_are_refused() -> None:
    with pytest.raises(ConfigError, match="no record of toy has 'colour'"):
        make_manifest(RECORDS, seed=1, stratify=["colour"])
    with pytest.raises(DataError, match="of 2"):
        make_manifest([*RECORDS, dataclasses.replace(RECORDS[0], source="other")], seed=1)


@pytest.mark.parametrize("text", ["no json", "{}", json.dumps({"version": 2, "places": {}}), '{"version": 1}', "[]"])
def test_what_is_no_split_is_refused_in_one_line(tmp_path: Path, text: str) -> None:
    (tmp_path / "splits.json").write_text(text)
    with pytest.raises(DataError, match=r"make it anew|make one") as caught:
        read_manifest(tmp_path / "splits.json")
    assert "\n" not in str(caught.value)
