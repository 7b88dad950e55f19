import gzip
import json
from pathlib import Path

import pytest

from mmmed.data.entries import Entry, in_cells, plain, read_json_lines, read_json_records
from mmmed.errors import DataError, RecordError


def test_lines_keep_their_lists_and_line_breaks(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    path.write_text('\ufeff{"id": 1, "text": " a\\nb ", "parts": ["x", "y"], "none": null}\n\n{"id": 2}\n', "utf-8")
    first, second = read_json_lines(path, columns=("id", "text"))
    assert (first.place, second.place) == ("a.jsonl:1", "a.jsonl:3")
    assert (first.text("text"), first.texts("parts"), first.maybe("none")) == ("a\nb", ("x", "y"), "")
    assert (first.text("id"), first.whole("id"), second.maybe("text")) == ("1", 1, "")


def test_a_bad_line_is_a_fault_of_that_line_alone(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    path.write_bytes(b'{"id": 1}\n{"id":\n[2]\n{"id": "\xff"}\n' + b"[" * 100_000 + b'\n{"id": 3}\n')
    faults = [entry.fault for entry in read_json_lines(path, columns=("id",))]
    assert [bool(fault) for fault in faults] == [False, True, True, True, True, False]
    assert faults[2] == "expected an object, not list"


def test_records_become_rows_of_text(tmp_path: Path) -> None:
    path = tmp_path / "list.json"
    path.write_text('{"a": -1.0, "b": null}\n\nno\n{"a": 2}\n')
    rows = list(in_cells(read_json_lines(path, columns=("a", "b"))))
    assert [dict(row.cells) for row in rows] == [{"a": "-1", "b": ""}, {}, {"a": "2"}]
    assert [(row.place, bool(row.fault)) for row in rows] == [
        ("list.json:1", False),
        ("list.json:3", True),
        ("list.json:4", False),
    ]


def test_packed_lines_are_read_and_torn_ones_refused(tmp_path: Path) -> None:
    whole = gzip.compress(b"".join(b'{"id": %d}\n' % number for number in range(1000)))
    (tmp_path / "a.jsonl.gz").write_bytes(whole)
    assert len(list(read_json_lines(tmp_path / "a.jsonl.gz", columns=("id",)))) == 1000
    (tmp_path / "b.jsonl.gz").write_bytes(whole[: len(whole) // 2])
    (tmp_path / "c.jsonl.gz").write_bytes(whole[:30] + bytes(20) + whole[50:])
    for name in ("b", "c"):
        with pytest.raises(DataError, match=rf"{name}\.jsonl\.gz cannot be read as JSON lines .*; fetch it again"):
            list(read_json_lines(tmp_path / f"{name}.jsonl.gz", columns=("id",)))


@pytest.mark.parametrize("content", ['{"id": 1}\n', "", "no JSON\n"])
def test_lines_without_a_column_are_refused(tmp_path: Path, content: str) -> None:
    (tmp_path / "a.jsonl").write_text(content)
    with pytest.raises(DataError, match=r"a\.jsonl lacks the column\(s\) 'answer'"):
        list(read_json_lines(tmp_path / "a.jsonl", columns=("answer",)))


def test_arrays_are_numbered_and_objects_named_by_their_keys(tmp_path: Path) -> None:
    for name, records in (("a", [{"id": 1}, 2]), ("b", {"x": {"id": 1}, "y": 2})):
        (tmp_path / f"{name}.json").write_text(json.dumps(records))
    assert [entry.place for entry in read_json_records(tmp_path / "a.json", columns=("id",))] == [
        "a.json[0]",
        "a.json[1]",
    ]
    x, y = read_json_records(tmp_path / "b.json", columns=("id",))
    assert (x.place, x.whole("id"), y.place, y.fault) == ("x", 1, "y", "expected an object, not int")


def test_a_key_of_half_characters_is_named_in_letters_that_can_be_written(tmp_path: Path) -> None:
    (tmp_path / "a.json").write_text('{"\\ud800": {"id": 1}}')
    (entry,) = read_json_records(tmp_path / "a.json", columns=("id",))
    assert entry.place == r"'\ud800'"


@pytest.mark.parametrize("content", ["{", "3", "[" * 100_000, '[{"id": 1}]'])
def test_what_is_no_such_json_is_refused(tmp_path: Path, content: str) -> None:
    (tmp_path / "a.json").write_text(content)
    with pytest.raises(DataError, match=r"a\.json"):
        read_json_records(tmp_path / "a.json", columns=("answer",))


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda entry: entry.text("gone"), "'gone' is empty"),
        (lambda entry: entry.text("list"), "'list' is list; expected text"),
        (lambda entry: entry.text("flag"), "'flag' is True; expected text"),
        (lambda entry: entry.text("half"), "'half' holds half a character"),
        (lambda entry: entry.texts("word"), "'word' is 'two'; expected a list of texts"),
        (lambda entry: entry.texts("list"), "'list' holds an empty text"),
        (lambda entry: entry.whole("word"), "'word' is 'two'; expected a whole number"),
        (lambda entry: entry.whole("share"), "'share' is 0.5; expected a whole number"),
        (lambda entry: entry.whole("flag"), "'flag' is True; expected a whole number"),
        (lambda entry: entry.inner("word"), "'word' is 'two'; expected an object"),
        (lambda entry: entry.whole("long"), r"'long' is 'x{58,60}\.\.\.; expected"),
    ],
)
def test_values_of_the_wrong_kind_are_named(call, message: str) -> None:  # type: ignore[no-untyped-def]
    values = {"list": ["a", ""], "flag": True, "half": "a\ud800", "word": "two", "share": 0.5, "long": "x" * 99}
    with pytest.raises(RecordError, match=message):
        call(Entry("f:1", values))


def test_numbers_that_a_table_has_saved_otherwise_are_whole() -> None:
    entry = Entry("f:1", {"a": 2.0, "b": " 2 ", "nan": float("nan")})
    assert (entry.whole("a"), entry.whole("b"), entry.text("a"), entry.maybe("nan")) == (2, 2, "2", "")


def test_texts_are_compared_without_case_and_spaces() -> None:
    assert plain(" The\n LUNG ") == plain("the lung")
