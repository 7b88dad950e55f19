import gzip
from pathlib import Path

import pytest

from mmmed.data.tabular import (
    Row,
    age_in_years,
    image_in,
    index_images,
    indexed_image,
    present,
    quarantine,
    read_csv,
    read_header,
    read_headless_csv,
    read_json,
    table,
)
from mmmed.errors import DataError, RecordError
from mmmed.records import Example, Quarantined, Turn


def written(path: Path, text: str, encoding: str = "utf-8") -> Path:
    path.write_text(text, encoding=encoding)
    return path


def test_cells_and_headers_are_trimmed_and_a_byte_order_mark_is_dropped(tmp_path: Path) -> None:
    path = written(tmp_path / "a.csv", 'id, url\n1, "x"\n\n2,"a\nb"\n', encoding="utf-8-sig")
    rows = list(read_csv(path, columns=("id", "url")))
    assert [row.cells for row in rows] == [{"id": "1", "url": '"x"'}, {"id": "2", "url": "a\nb"}]
    assert rows[0].place == "a.csv:2"


def test_a_missing_column_names_the_file_what_it_lacks_and_what_it_has(tmp_path: Path) -> None:
    message = r"a\.csv lacks the column\(s\) 'age', 'sex'; it has 'id', 'url'; use the file"
    with pytest.raises(DataError, match=message):
        list(read_csv(written(tmp_path / "a.csv", "id,url\n"), columns=("id", "age", "sex")))
    with pytest.raises(DataError, match=r"lacks .*'id'; it has none"):
        list(read_csv(written(tmp_path / "b.csv", ""), columns=("id",)))
    with pytest.raises(DataError, match=r"c\.jsonl lacks the column\(s\) 'answer'; it has 'id'"):
        read_json(written(tmp_path / "c.jsonl", '{"id": 1}\n'), columns=("id", "answer"))


def test_a_row_of_the_wrong_length_is_a_fault_of_that_row_alone(tmp_path: Path) -> None:
    rows = list(read_csv(written(tmp_path / "a.csv", "id,x\n1,2\n1\n3,4,5\n6,7\n"), columns=("id",)))
    assert [row.fault for row in rows] == ["", "1 cells where the header has 2", "3 cells where the header has 2", ""]


@pytest.mark.parametrize("content", [b"id\n\xff\xfe\n", b'id\n"open'])
def test_a_file_that_is_no_csv_is_refused(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "a.csv").write_bytes(content)
    with pytest.raises(DataError, match=r"a\.csv cannot be read as CSV in UTF-8 .*; fetch it again"):
        list(read_csv(tmp_path / "a.csv", columns=("id",)))


def test_a_file_without_a_header_has_the_columns_of_its_documentation(tmp_path: Path) -> None:
    path = written(tmp_path / "a.csv", '"Why, then?",yes\nonly one\n')
    first, second = read_headless_csv(path, columns=("question", "answer"))
    assert (first.cells, first.place) == ({"question": "Why, then?", "answer": "yes"}, "a.csv:1")
    assert second.fault == "1 cells where the header has 2"
    with pytest.raises(DataError, match=r"b\.csv cannot be read as CSV in UTF-8"):
        list(read_headless_csv(written(tmp_path / "b.csv", '"open'), columns=("question",)))


def test_json_values_become_text(tmp_path: Path) -> None:
    text = '[{"id": 7, "answer": 2.0, "none": null, "share": 0.5, "lost": NaN, "long": " a \\t b "}]'
    (row,) = read_json(written(tmp_path / "a.json", text), columns=("id",))
    assert row.cells == {"id": "7", "answer": "2", "none": "", "share": "0.5", "lost": "", "long": "a b"}
    assert row.place == "a.json[0]"


def test_a_bad_line_of_json_is_a_fault_of_that_line_alone(tmp_path: Path) -> None:
    rows = read_json(written(tmp_path / "a.jsonl", '{"id": 1}\n{"id": \n\n[3]\n{"id": 4}\n'), columns=("id",))
    assert [(row.place, bool(row.fault)) for row in rows] == [
        ("a.jsonl:1", False),
        ("a.jsonl:2", True),
        ("a.jsonl:4", True),
        ("a.jsonl:5", False),
    ]


@pytest.mark.parametrize("text", ["{", '{"id": 1}'])
def test_a_file_that_is_no_array_of_objects_is_refused(tmp_path: Path, text: str) -> None:
    with pytest.raises(DataError, match=r"a\.json cannot be read as JSON"):
        read_json(written(tmp_path / "a.json", text), columns=("id",))


def test_bad_rows_are_set_aside_with_place_and_reason() -> None:
    def read(row: Row) -> list[Example]:
        return [Example(id=row.text("id"), patient="p", turns=(Turn("user", "?"),))]

    rows = [
        Row("f:1", {"id": "a"}),
        Row("f:2"),
        Row("f:3", fault="torn"),
        Row("f:4", {"id": "a"}),
        Row("f:5", {"id": "b"}),
    ]
    records = list(quarantine("s", rows, read))
    assert [record.id for record in records if isinstance(record, Example)] == ["a", "b"]
    assert [record for record in records if isinstance(record, Quarantined)] == [
        Quarantined("s", "f:2", "'id' is empty"),
        Quarantined("s", "f:3", "torn"),
        Quarantined("s", "f:4", "the identifier 'a' is used before"),
    ]


def test_a_cell_with_an_unknown_value_suggests_a_known_one() -> None:
    with pytest.raises(RecordError, match=r"'dx' is 'mell' \(did you mean 'mel'\?\)"):
        Row("f:1", {"dx": "mell"}).one_of("dx", ("mel", "nv"))


def test_images_must_exist_inside_the_root(tmp_path: Path) -> None:
    (tmp_path / "root" / "images").mkdir(parents=True)
    (tmp_path / "root" / "images" / "a.png").touch()
    (tmp_path / "secret.png").touch()
    root = tmp_path / "root"
    assert image_in(root, "images/a.png").path == root / "images" / "a.png"
    for name, message in (
        ("images/b.png", "'images/b.png' is missing"),
        ("../secret.png", "lies outside the data set"),
        (str(tmp_path / "secret.png"), "lies outside the data set"),
        ("images", "is missing"),
    ):
        with pytest.raises(RecordError, match=message):
            image_in(root, name)


def test_images_of_several_folders_are_found_by_name(tmp_path: Path) -> None:
    for name in ("one/a.png", "two/b.png"):
        (tmp_path / name).parent.mkdir()
        (tmp_path / name).touch()
    images = index_images([tmp_path / "one", tmp_path / "two"])
    assert indexed_image(images, "b.png").path == tmp_path / "two" / "b.png"
    with pytest.raises(RecordError, match=r"image 'c\.png' is missing"):
        indexed_image(images, "c.png")


@pytest.mark.parametrize(("text", "years"), [("61", 61), ("61.0", 61), ("058Y", 58), ("006M", 0.5), ("000D", 0)])
def test_ages_are_read_in_years(text: str, years: float) -> None:
    assert age_in_years(text) == years


@pytest.mark.parametrize("text", ["411", "121Y", "-3", "old", "", "nan"])
def test_what_is_no_age_is_refused(text: str) -> None:
    with pytest.raises(RecordError, match="is no age between 0 and 120 years"):
        age_in_years(text)


def test_only_known_attributes_are_kept() -> None:
    assert present({"sex": "", "age": None, "view": "PA", "weight": 0.0}) == {"view": "PA", "weight": 0.0}


def test_a_packed_table_is_read_like_any_other(tmp_path: Path) -> None:
    path = tmp_path / "table.csv.gz"
    path.write_bytes(gzip.compress(b"a,b\r\n1,2\r\n"))
    assert [dict(row.cells) for row in read_csv(path, columns=("a",))] == [{"a": "1", "b": "2"}]
    assert read_header(path) == ["a", "b"]
    assert table(tmp_path, "table.csv") == path
    assert table(tmp_path, "other.csv") is None
    path.write_bytes(path.read_bytes()[:-9])
    with pytest.raises(DataError, match="fetch it again"):
        list(read_csv(path, columns=()))


def test_a_name_longer_than_any_file_has_is_missing(tmp_path: Path) -> None:
    with pytest.raises(RecordError, match=r"^image '9{200}' is missing$"):
        image_in(tmp_path, "9" * 400)


def test_what_no_file_can_hold_is_a_fault_of_its_record(tmp_path: Path) -> None:
    lines = ('{"a": "\\ud800"}', '{"\\udfff": 1, "a": 2}', "[" * 100_000, '{"a": "\\ud83d\\ude00"}')
    (tmp_path / "a.jsonl").write_text("\n".join(lines))
    rows = read_json(tmp_path / "a.jsonl", columns=("a",))
    assert [bool(row.fault) for row in rows] == [True, True, True, False]
    (tmp_path / "a.json").write_text("[" * 100_000)
    with pytest.raises(DataError, match=r"a\.json cannot be read as JSON"):
        read_json(tmp_path / "a.json", columns=("a",))


def test_a_line_of_text_is_one_line_without_marks_of_images() -> None:
    row = Row("t:1", {"good": " CT  of\nthe head ", "bad": "a <image> b", "empty": ""})
    assert row.line("good", fewest_words=4) == "CT of the head"
    for column, words, message in (
        ("good", 5, "expected 5 words"),
        ("bad", 1, "holds '<image>'"),
        ("empty", 1, "empty"),
    ):
        with pytest.raises(RecordError, match=message):
            row.line(column, fewest_words=words)
