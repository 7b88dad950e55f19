import csv
from pathlib import Path

import pytest
from PIL import Image

from mmmed.data.sources.pmc_vqa import PmcVqa
from mmmed.data.splits import check_disjoint
from mmmed.errors import DataError
from mmmed.records import Example, Quarantined

FIRST = {
    "Figure_path": "PMC1064097_F1.jpg",
    "Question": "What is the uptake pattern in the breast? ",
    "Answer": "Focal uptake pattern ",
    "Choice A": " A:Diffuse uptake pattern ",
    "Choice B": " B:Focal uptake pattern ",
    "Choice C": " C:No uptake pattern ",
    "Choice D": " D:Cannot determine: too small ",
    "Answer_label": "B",
}
SECOND = {
    "index": "17",
    "Figure_path": "PMC1064097_F1.jpg",
    "Caption": "PET of the breast.",
    "Question": "What is the uptake pattern in the breast?",
    "Choice A": "Diffuse uptake pattern",
    "Choice B": "Focal uptake pattern",
    "Choice C": "No uptake pattern",
    "Choice D": "Cannot determine: too small",
    "Answer": "B",
    "split": "train",
}


def write(root: Path, folder: str, **files: list[dict[str, str]]) -> str:
    (root / folder).mkdir(exist_ok=True)
    for name, rows in files.items():
        with (root / f"{name}.csv").open("w", newline="") as file:
            writer = csv.DictWriter(file, fieldnames=list(rows[0]))
            writer.writeheader()
            writer.writerows(rows)
        for row in rows:
            Image.new("L", (4, 4)).save(root / folder / row["Figure_path"])
    return str(root)


def split(source: PmcVqa) -> tuple[list[Example], list[Quarantined]]:
    records = list(source.records())
    return (
        [record for record in records if isinstance(record, Example)],
        [record for record in records if isinstance(record, Quarantined)],
    )


def test_both_editions_name_the_same_answer(tmp_path: Path) -> None:
    write(tmp_path, "images", test=[FIRST], test_clean=[FIRST])
    root = write(tmp_path, "figures", test_2=[SECOND])
    (first,), (clean,), (second,) = (split(PmcVqa(root, edition=edition))[0] for edition in ("1", "1_clean", "2"))
    assert first.turns == clean.turns == second.turns
    assert (
        first.options
        == second.options
        == (
            "Diffuse uptake pattern",
            "Focal uptake pattern",
            "No uptake pattern",
            "Cannot determine: too small",
        )
    )
    assert (second.reference, second.topic, second.split) == ("Focal uptake pattern", "choice", "test")
    assert (second.id, first.id, second.patient) == ("test:17", "test:2", "PMC1064097")
    assert second.turns[0].text == "<image>\nWhat is the uptake pattern in the breast?"
    assert second.images[0].open().size == (4, 4)


def test_articles_that_are_tested_on_are_not_learned_from(tmp_path: Path) -> None:
    same_article = SECOND | {"index": "18", "Figure_path": "PMC1064097_F2.jpg"}
    others = [SECOND | {"index": str(n), "Figure_path": f"PMC{n}_F{n % 2}.jpg"} for n in range(100, 160)]
    root = write(tmp_path, "figures", test_2=[SECOND], train_2=[same_article, *others])
    good, bad = split(PmcVqa(root, validation=0.3))
    check_disjoint(good)
    assert [fault.reason for fault in bad] == ["its article stands in the official test split as well (test:17)"]
    assert {one.split for one in good} == {"test", "train", "validation"} and len(good) == 61


@pytest.mark.parametrize("spelling", ["Answer", "Anwser"])
def test_a_letter_that_names_another_answer_is_refused(tmp_path: Path, spelling: str) -> None:
    row = {spelling if name == "Answer" else name: value for name, value in FIRST.items()} | {"Answer_label": "C"}
    (bad,) = split(PmcVqa(write(tmp_path, "images", test=[row]), edition="1"))[1]
    assert bad.reason == "the answer is 'Focal uptake pattern', but its letter 'C' names 'No uptake pattern'"


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"Choice A": "Focal uptake pattern"}, "the option 'Focal uptake pattern' stands twice"),
        ({"Choice C": ""}, "'Choice C' is empty"),
        ({"Answer": ""}, "the answer is ''; expected one of the letters A, B, C, D"),
        ({"Figure_path": ""}, "'Figure_path' is empty"),
    ],
)
def test_questions_that_cannot_be_scored_are_set_aside(tmp_path: Path, change: dict[str, str], reason: str) -> None:
    root = Path(write(tmp_path, "figures", test_2=[SECOND]))
    with (root / "test_2.csv").open("a", newline="") as file:
        csv.DictWriter(file, fieldnames=list(SECOND)).writerow(SECOND | {"index": "2"} | change)
    (bad,) = split(PmcVqa(str(root)))[1]
    assert bad.record == "test_2.csv:3" and bad.reason.startswith(reason)


def test_a_missing_figure_is_set_aside(tmp_path: Path) -> None:
    root = write(tmp_path, "figures", test_2=[SECOND])
    (tmp_path / "figures" / "PMC1064097_F1.jpg").unlink()
    assert split(PmcVqa(root)) == (
        [],
        [Quarantined("pmc_vqa", "test_2.csv:2", "image 'PMC1064097_F1.jpg' is missing")],
    )


def test_an_empty_root_says_what_was_expected(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"expected train\.csv and test_clean\.csv with images/.*card data/pmc_vqa\.md"):
        list(PmcVqa(str(tmp_path), edition="1_clean").records())
