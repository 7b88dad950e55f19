import json
from pathlib import Path

import pytest
from PIL import Image

from mmmed.data.sources.llava_med import LlavaMed
from mmmed.data.splits import Fractions, check_disjoint
from mmmed.errors import DataError
from mmmed.records import Example, Quarantined

CAPTION = {
    "id": "17506892_F1",
    "image": "17506892_F1.jpg",
    "conversatons": [
        {"from": "human", "value": "Present a compact description of the photo's key features.\n<image>"},
        {"from": "gpt", "value": "The image consists of maps."},
    ],
}
TALK = {
    "id": "21276232_F1",
    "image": "21276232_F1.jpg",
    "domain": {"chest_xray": False, "mri": True, "histology": False, "gross": False, "ct_scan": True},
    "conversations": [
        {"from": "human", "value": "<image>\nWhat is shown?"},
        {"from": "gpt", "value": "A CT beside an MRI."},
        {"from": "human", "value": "Where?"},
        {"from": "gpt", "value": "In the brain."},
    ],
}


def write(root: Path, *records: dict[str, object], name: str = "llava_med.json") -> str:
    lines = name.endswith(".jsonl")
    (root / name).write_text("\n".join(map(json.dumps, records)) if lines else json.dumps(records))
    (root / "images").mkdir(exist_ok=True)
    for record in records:
        Image.new("L", (4, 4)).save(root / "images" / str(record["image"]))
    return str(root / name)


def said(*values: tuple[str, str]) -> list[dict[str, str]]:
    return [{"from": speaker, "value": value} for speaker, value in values]


@pytest.mark.parametrize("name", ["llava_med.json", "llava_med.jsonl"])
def test_the_place_of_the_image_and_every_turn_are_kept(tmp_path: Path, name: str) -> None:
    caption, talk = LlavaMed(write(tmp_path, CAPTION, TALK, name=name)).records()
    assert isinstance(caption, Example) and isinstance(talk, Example)
    assert caption.turns[0].text == "Present a compact description of the photo's key features.\n<image>"
    assert (caption.topic, caption.reference) == ("caption", "The image consists of maps.")
    assert (caption.id, caption.patient) == ("17506892_F1", "17506892")
    assert [turn.speaker for turn in talk.turns] == ["user", "assistant", "user", "assistant"]
    assert (talk.topic, talk.question, talk.reference) == ("conversation", "Where?", "In the brain.")
    assert talk.attributes == {"domain": "ct_scan mri"}
    assert caption.images[0].open().size == (4, 4)


def test_an_image_that_the_words_do_not_name_comes_first(tmp_path: Path) -> None:
    record = TALK | {"conversations": said(("human", "What is shown?"), ("gpt", "A CT."))}
    (example,) = LlavaMed(write(tmp_path, record)).records()
    assert isinstance(example, Example) and example.turns[0].text == "<image>\nWhat is shown?"


def test_figures_of_one_article_share_a_split(tmp_path: Path) -> None:
    records = [CAPTION | {"id": f"{n // 2}_F{n % 2}", "image": f"{n}.jpg"} for n in range(200)]
    source = LlavaMed(write(tmp_path, *records), fractions=Fractions(0.5, 0.5, 0.0))
    examples = [record for record in source.records() if isinstance(record, Example)]
    check_disjoint(examples)
    assert len(examples) == 200 and {one.split for one in examples} == {"train", "validation"}


@pytest.mark.parametrize(
    ("turns", "reason"),
    [
        (None, "'conversations' is None; expected questions and answers in turn"),
        ([], "'conversations' is 0 turns; expected questions"),
        (said(("human", "What?")), "'conversations' is 1 turns"),
        (said(("gpt", "A."), ("human", "What?")), "the conversation is not by human and gpt in turn"),
        (said(("human", "What?"), ("system", "A.")), "'from' is 'system'; expected human or gpt"),
        (said(("human", "<image>"), ("gpt", "A.")), "the user says nothing"),
        (said(("human", "What?"), ("gpt", " ")), "the assistant says nothing"),
        (said(("human", "<image> What? <image>"), ("gpt", "A.")), "'<image>' stands 2 times or in an answer"),
        (said(("human", "What?"), ("gpt", "<image>")), "'<image>' stands 1 times or in an answer"),
        ([{"from": "human", "value": 3.5}, {"from": "gpt"}], "the assistant says nothing"),
        (["What?", "A."], "'from' is None; expected human or gpt"),
    ],
)
def test_what_is_no_conversation_is_set_aside(tmp_path: Path, turns: object, reason: str) -> None:
    (bad,) = LlavaMed(write(tmp_path, TALK | {"conversations": turns})).records()
    assert isinstance(bad, Quarantined)
    assert bad.record == "llava_med.json[0]" and bad.reason.startswith(reason)


def test_a_figure_that_could_not_be_had_is_set_aside(tmp_path: Path) -> None:
    path = write(tmp_path, CAPTION, TALK)
    (tmp_path / "images" / "17506892_F1.jpg").unlink()
    bad, good = LlavaMed(path).records()
    assert bad == Quarantined("llava_med", "llava_med.json[0]", "image '17506892_F1.jpg' is missing")
    assert isinstance(good, Example)


def test_a_missing_file_or_folder_is_named(tmp_path: Path) -> None:
    for images in (None, str(tmp_path / "gone")):
        with pytest.raises(DataError, match=r"llava_med: no file .* with images in .*card data/llava_med\.md"):
            list(LlavaMed(str(tmp_path / "gone.json"), images=images).records())
