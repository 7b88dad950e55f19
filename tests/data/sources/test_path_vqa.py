import io
import json
from pathlib import Path

import pyarrow
import pytest
from PIL import Image
from pyarrow import parquet

from mmmed.data.source import decodable
from mmmed.data.sources.path_vqa import PathVqa
from mmmed.data.splits import check_disjoint
from mmmed.errors import DataError
from mmmed.records import Example, Quarantined


def picture(shade: int) -> bytes:
    buffer = io.BytesIO()
    Image.new("RGB", (5, 4), (shade, 0, 0)).save(buffer, format="PNG")
    return buffer.getvalue()


def hub(root: Path, **sets: list[tuple[int | None, str, str]]) -> str:
    (root / "data").mkdir(exist_ok=True)
    for name, rows in sets.items():
        records = [
            {
                "image": {"bytes": picture(shade) if shade is not None else None, "path": f"img_{number}.png"},
                "question": question,
                "answer": answer,
            }
            for number, (shade, question, answer) in enumerate(rows)
        ]
        path = root / "data" / f"{name}-00000-of-00001.parquet"
        parquet.write_table(pyarrow.Table.from_pylist(records), path, row_group_size=2)
    return str(root)


def split(source: PathVqa) -> tuple[list[Example], list[Quarantined]]:
    records = list(source.records())
    return (
        [record for record in records if isinstance(record, Example)],
        [record for record in records if isinstance(record, Quarantined)],
    )


def test_questions_about_one_picture_share_it_though_each_row_has_a_copy(tmp_path: Path) -> None:
    root = hub(tmp_path, train=[(1, "Is it red?", "Yes"), (2, "Is it red?", "no"), (1, "What is shown?", "a square")])
    good, bad = split(PathVqa(root))
    assert not bad and not decodable(good).quarantined
    assert [(one.topic, one.reference, one.options) for one in good] == [
        ("closed", "yes", ("yes", "no")),
        ("closed", "no", ("yes", "no")),
        ("open", "a square", ()),
    ]
    assert good[0].turns[0].text == "<image>\nIs it red?"
    assert good[0].images == good[2].images != good[1].images
    assert good[0].patient == good[2].patient != good[1].patient
    assert [one.images[0].open().getpixel((0, 0)) for one in good] == [(1, 0, 0), (2, 0, 0), (1, 0, 0)]
    assert [one.topic for one in split(PathVqa(root, questions=["open"]))[0]] == ["open"]


def test_official_splits_are_kept_but_for_pictures_they_share(tmp_path: Path) -> None:
    rows = {"test": [(1, "A?", "b")], "validation": [(2, "A?", "b")], "train": [(3, "A?", "b"), (1, "C?", "d")]}
    good, bad = split(PathVqa(hub(tmp_path, **rows)))
    check_disjoint(good)
    assert [(one.split, one.attributes["official_split"]) for one in good] == [
        ("test", "test"),
        ("validation", "val"),
        ("train", "train"),
    ]
    (fault,) = bad
    assert fault.record == "train-00000-of-00001.parquet[0, 1]"
    assert fault.reason.startswith("its picture stands in the official test split as well")


def test_repeated_and_empty_records_are_set_aside(tmp_path: Path) -> None:
    rows = [(1, "Is it red?", "yes"), (1, "is it  RED?", "Yes"), (None, "And?", "yes"), (2, "And?", "")]
    _, bad = split(PathVqa(hub(tmp_path, train=rows)))
    assert [fault.reason for fault in bad] == [
        "the same question and answer stand beside the same picture before",
        "'image' is empty",
        "'answer' is empty",
    ]


def test_pickles_are_not_opened_and_their_lines_are_read(tmp_path: Path) -> None:
    for name in ("train", "test"):
        (tmp_path / "qas" / name).mkdir(parents=True)
        (tmp_path / "images" / name).mkdir(parents=True)
        Image.new("L", (4, 4)).save(tmp_path / "images" / name / f"{name}_0422.jpg")
    (tmp_path / "qas" / "train" / "train_qa.pkl").write_bytes(b"never opened")
    with pytest.raises(DataError, match=r"train_qa\.pkl is a pickle, which can run code .*card data/path_vqa\.md"):
        list(PathVqa(str(tmp_path)).records())
    for name in ("train", "test"):
        row = {"image": f"{name}_0422", "question": "Where are liver stem cells?", "answer": "in the canals"}
        (tmp_path / "qas" / name / f"{name}_qa.jsonl").write_text(json.dumps(row))
    good, bad = split(PathVqa(str(tmp_path)))
    assert not bad
    assert [(one.id, one.split, one.images[0].open().size) for one in good] == [
        ("test:1", "test", (4, 4)),
        ("train:1", "train", (4, 4)),
    ]


def test_an_empty_root_says_what_was_expected(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"expected data/train-\*\.parquet.*card data/path_vqa\.md"):
        list(PathVqa(str(tmp_path)).records())
