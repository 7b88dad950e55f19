"""What raters get hides the arms; what they give comes back with agreement and means."""

import csv
import io
import json
from pathlib import Path

import pytest

from mmmed.errors import DataError
from mmmed.evaluation.writing.rating import SCALES, Document, read_ratings, write_forms

ARMS = ("zero_shot", "fine_tuned")
DOCUMENTS = [
    Document(case=f"case {number}", arm=arm, order="Write.", text=f"Text <{number}> of {arm[:4]}")
    for number in range(4)
    for arm in ARMS
]


def fill(table: Path, key: dict[str, dict[str, str]], given: dict[str, int]) -> Path:
    rows = list(csv.DictReader(io.StringIO(table.read_text("utf-8"))))
    with table.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        for row in rows:
            value = given[key[row["code"]]["arm"]] - (key[row["code"]]["case"] == "case 0")
            writer.writerow(row | dict.fromkeys(SCALES, value))
    return table


def test_forms_hide_the_arms_and_differ_in_their_order(tmp_path: Path) -> None:
    folders = write_forms(tmp_path, DOCUMENTS, raters=2)
    tables = [(folder / "ratings.csv").read_text("utf-8") for folder in folders]
    pages = [(folder / "form.html").read_text("utf-8") for folder in folders]
    for text in (*tables, *pages):
        assert not any(arm in text for arm in ARMS)
    assert tables[0] != tables[1] and sorted(tables[0].split()) == sorted(tables[1].split())
    assert all(
        "Text &lt;0&gt; of zero" in page and "src=" not in page and "http:" not in page and "https:" not in page
        for page in pages
    )
    key = json.loads((tmp_path / "key.json").read_text("utf-8"))
    assert {one["arm"] for one in key.values()} == set(ARMS)


def test_what_raters_gave_comes_back_by_arm_with_their_agreement(tmp_path: Path) -> None:
    folders = write_forms(tmp_path, DOCUMENTS, raters=2)
    key = json.loads((tmp_path / "key.json").read_text("utf-8"))
    given = {"zero_shot": 2, "fine_tuned": 4}
    read = read_ratings(tmp_path, [fill(folder / "ratings.csv", key, given) for folder in folders])
    assert (read.raters, read.documents) == (2, 8)
    assert all(alpha.value == 1 for alpha in read.agreement.values())
    assert read.means["zero_shot"]["accuracy"].value == 1.75
    assert read.means["fine_tuned"]["accuracy"].value == 3.75


def test_filled_forms_are_not_written_over(tmp_path: Path) -> None:
    (own, _) = write_forms(tmp_path, DOCUMENTS, raters=2)
    (own / "ratings.csv").write_text("filled in")
    write_forms(tmp_path, DOCUMENTS, raters=2)
    assert (own / "ratings.csv").read_text() == "filled in"
    with pytest.raises(DataError, match="forms about other documents"):
        write_forms(tmp_path, DOCUMENTS[:2], raters=2)


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("D1,1,1,1,1,", "no document 'D1'"),
        ("CODE,6,1,1,1,", "accuracy is '6'; expected 1 to 5"),
        ("CODE,1,1,1,1,\nCODE,1,1,1,1,", "rated twice"),
    ],
)
def test_tables_that_cannot_be_meant_are_refused(tmp_path: Path, line: str, message: str) -> None:
    write_forms(tmp_path, DOCUMENTS, raters=2)
    code = next(iter(json.loads((tmp_path / "key.json").read_text("utf-8"))))
    table = tmp_path / "table.csv"
    table.write_text(f"code,{','.join(SCALES)},comment\n{line.replace('CODE', code)}\n")
    with pytest.raises(DataError, match=message):
        read_ratings(tmp_path, [table, table])


def test_one_rater_cannot_agree(tmp_path: Path) -> None:
    write_forms(tmp_path, DOCUMENTS, raters=2)
    with pytest.raises(DataError, match="expected two or more"):
        read_ratings(tmp_path, [tmp_path / "rater_1" / "ratings.csv"])
