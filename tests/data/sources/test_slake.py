import json
from collections import Counter
from pathlib import Path

import pytest
from PIL import Image

from mmmed.data.card import read_card
from mmmed.data.sources.slake import Slake, yes_no_options
from mmmed.data.splits import check_disjoint
from mmmed.errors import DataError
from mmmed.records import Example, Quarantined

ROW = {
    "img_id": 1,
    "img_name": "xmlab1/source.jpg",
    "question": "Is this an MRI?",
    "answer": "Yes",
    "q_lang": "en",
    "location": "Abdomen",
    "modality": "MRI",
    "answer_type": "CLOSED",
    "base_type": "vqa",
    "content_type": "Modality",
    "triple": ["vhead", "_", "_"],
    "qid": 0,
}
CHINESE = ROW | {"qid": 1, "q_lang": "zh", "question": "图中包含肝脏吗?", "answer": "不包含"}


def write(root: Path, *, images: bool = True, **sets: list[dict[str, object]]) -> str:
    for name, rows in sets.items():
        if images:
            (root / f"{name}.json").write_text(json.dumps(rows, ensure_ascii=False), "utf-8")
        else:
            (root / f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
        for row in rows if images else ():
            path = root / "imgs" / str(row["img_name"])
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.new("L", (4, 4)).save(path)
    return str(root)


def split(source: Slake) -> tuple[list[Example], list[Quarantined]]:
    records = list(source.records())
    return (
        [record for record in records if isinstance(record, Example)],
        [record for record in records if isinstance(record, Quarantined)],
    )


def test_english_is_asked_unless_another_language_is_wanted(tmp_path: Path) -> None:
    root = write(tmp_path, train=[ROW, CHINESE])
    (english,), _ = split(Slake(root))
    assert (english.id, english.patient, english.topic, english.split) == ("0", "xmlab1", "closed", "train")
    assert english.turns[0].text == "<image>\nIs this an MRI?"
    assert (english.reference, english.options) == ("yes", ("yes", "no"))
    assert english.images[0].open().size == (4, 4)
    assert english.attributes["language"] == "en" and english.attributes["official_split"] == "train"
    (chinese,), _ = split(Slake(root, languages=["zh"]))
    assert (chinese.reference, chinese.options) == ("不包含", ("包含", "不包含"))
    assert len(split(Slake(root, languages=["en", "zh"]))[0]) == 2


def test_closed_are_yes_no_questions_alone(tmp_path: Path) -> None:
    rows = [
        ROW | {"qid": 1, "answer": "Lung"},
        ROW | {"qid": 2, "answer": "MRI", "answer_type": "OPEN"},
        ROW | {"qid": 3, "answer": "no"},
    ]
    root = write(tmp_path, train=rows)
    found, _ = split(Slake(root))
    assert [(one.topic, one.reference, bool(one.options)) for one in found] == [
        ("open", "Lung", False),
        ("open", "MRI", False),
        ("closed", "no", True),
    ]
    assert [one.id for one in split(Slake(root, questions=["closed"]))[0]] == ["3"]
    assert (yes_no_options("是的"), yes_no_options("不是"), yes_no_options("否")) == (
        ("是的", "不是"),
        ("是的", "不是"),
        ("是", "否"),
    )


def test_a_copy_without_images_is_read_only_when_that_is_asked_for(tmp_path: Path) -> None:
    root = write(tmp_path, images=False, train=[ROW])
    with pytest.raises(DataError, match=r"and imgs/ \(or, with images: absent, no imgs/\).*card data/slake\.md"):
        list(Slake(root).records())
    (example,), _ = split(Slake(root, images="absent"))
    assert (example.turns[0].text, example.images) == ("Is this an MRI?", ())


def test_the_baseline_of_the_words_alone_is_read_from_the_release_too(tmp_path: Path) -> None:
    (example,), _ = split(Slake(write(tmp_path, train=[ROW]), images="absent"))
    assert not example.images and example.question == "Is this an MRI?"


def test_an_image_that_one_language_tests_on_is_not_learned_from_in_the_other(tmp_path: Path) -> None:
    root = write(tmp_path, test=[ROW], train=[CHINESE, CHINESE | {"qid": 2, "img_name": "xmlab2/source.jpg"}])
    for languages in (["en"], ["zh"]):
        assert not split(Slake(root, languages=languages))[1]  # type: ignore[arg-type]
    good, bad = split(Slake(root, languages=["en", "zh"]))
    check_disjoint(good)
    assert [one.id for one in good] == ["0", "2"]
    assert bad == [Quarantined("slake", "train.json[0]", "its image stands in the official test split as well (0)")]


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"answer": ""}, "'answer' is empty"),
        ({"q_lang": "fr"}, "'q_lang' is 'fr'; expected en or zh"),
        ({"img_name": "../x.jpg"}, "image '../x.jpg' lies outside the data set"),
        ({"img_name": "xmlab9/source.jpg"}, "image 'xmlab9/source.jpg' is missing"),
        ({}, "the identifier '0' is used before"),
    ],
)
def test_faulty_questions_are_set_aside(tmp_path: Path, change: dict[str, object], reason: str) -> None:
    root = Path(write(tmp_path, train=[ROW]))
    (root / "train.json").write_text(json.dumps([ROW, ROW | change]))
    assert split(Slake(str(root)))[1] == [Quarantined("slake", "train.json[1]", reason)]


@pytest.mark.shared
def test_the_copy_has_the_counts_of_its_card(shared_data: Path) -> None:
    root = str(shared_data / "04b_slake_text_only")
    counts = read_card("slake").counts
    english, faults = split(Slake(root, images="absent"))
    chinese, no_faults = split(Slake(root, images="absent", languages=["zh"]))
    assert (len(faults), len(no_faults)) == (counts["English questions without an answer"], 0)
    assert len(english) + len(faults) == counts["English"] and len(chinese) == counts["Chinese"]
    assert counts["English"] + counts["Chinese"] == counts["questions"] == 9835 + 2099 + 2094
    assert Counter(one.split for one in english) == {"train": 4918, "validation": 1053, "test": 1061}
    assert sum(one.split == "test" for one in chinese) == counts["Chinese test"]
    assert sum(one.topic == "closed" for one in english) == counts["English closed"]
    assert sum(one.topic == "closed" for one in chinese) == counts["Chinese closed"]
    for language in (english, chinese):
        check_disjoint(language)
        assert Counter(len({one.patient for one in language if one.split == split}) for split in ("train", "test")) == {
            450: 1,
            96: 1,
        }
    assert len({one.patient for one in english}) == counts["images"] == 642


@pytest.mark.shared
def test_the_languages_of_the_copy_were_split_apart_from_each_other(shared_data: Path) -> None:
    root = str(shared_data / "04b_slake_text_only")
    (english, _), (chinese, _) = (
        split(Slake(root, images="absent", languages=[language]))  # type: ignore[list-item]
        for language in ("en", "zh")
    )
    tested = {one.patient for one in english if one.split == "test"}
    assert len(tested & {one.patient for one in chinese if one.split == "train"}) == 72
    both, faults = split(Slake(root, images="absent", languages=["en", "zh"]))
    check_disjoint(both)
    assert sum("its image stands in the official" in fault.reason for fault in faults) > 1000
    assert sum(one.split == "test" for one in both) == 2094
