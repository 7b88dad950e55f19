import json
from pathlib import Path

import pytest
from PIL import Image

from mmmed.data.sources.preferences import Preferences
from mmmed.data.splits import check_disjoint
from mmmed.errors import DataError
from mmmed.processing.processor import with_rejected
from mmmed.records import Example, Quarantined, Turn

PAIR = {"question": "Is there an effusion?", "chosen": "No effusion.", "rejected": "Yes."}


def write(root: Path, *records: dict[str, object]) -> str:
    (root / "pairs.jsonl").write_text("".join(json.dumps(record) + "\n" for record in records))
    for name in ("a.png", "b.png"):
        Image.new("L", (4, 4)).save(root / name)
    return str(root / "pairs.jsonl")


def test_a_pair_is_a_turn_with_a_rejected_answer(tmp_path: Path) -> None:
    of_text, of_image = Preferences(write(tmp_path, PAIR, PAIR | {"image": "a.png", "patient": 7})).records()
    assert isinstance(of_text, Example) and isinstance(of_image, Example)
    assert of_text.turns == (
        Turn("user", "Is there an effusion?"),
        Turn("assistant", "No effusion.", rejected="Yes."),
    )
    assert (of_text.id, of_text.patient, of_text.topic) == ("pairs.jsonl:1", "pairs.jsonl:1", "preference")
    assert of_image.turns[0].text == "<image>\nIs there an effusion?"
    assert (of_image.patient, of_image.images[0].open().size) == ("7", (4, 4))
    worse = with_rejected(of_text)
    assert worse is not None and worse.reference == "Yes."


def test_pairs_about_one_image_or_patient_share_a_split(tmp_path: Path) -> None:
    pairs = [PAIR | {"question": f"{number}?", "patient": f"p{number % 100}"} for number in range(400)]
    records = list(Preferences(write(tmp_path, *pairs), fractions=(0.5, 0.5, 0.0)).records())  # type: ignore[arg-type]
    examples = [record for record in records if isinstance(record, Example)]
    check_disjoint(examples)
    assert len(examples) == 400 and {example.split for example in examples} == {"train", "validation"}


def test_a_given_split_is_kept_and_may_share_no_patient(tmp_path: Path) -> None:
    first, second = PAIR | {"split": "train", "patient": "p"}, PAIR | {"split": "test", "patient": "q"}
    records = Preferences(write(tmp_path, first, second)).records()
    assert [record.split for record in records if isinstance(record, Example)] == ["train", "test"]
    with pytest.raises(DataError, match=r"1 patient\(s\) stand in two splits \(compare the columns patient"):
        list(Preferences(write(tmp_path, first, second | {"patient": "p"})).records())


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"rejected": "no  effusion."}, "'chosen' and 'rejected' are the same answer"),
        ({"rejected": ""}, "'rejected' is empty"),
        ({"chosen": ["No."]}, "'chosen' is list; expected text"),
        ({"images": "a.png"}, "unknown field 'images' (did you mean 'image'?)"),
        ({"image": "gone.png"}, "image 'gone.png' is missing"),
        ({"question": "<image> Is it?"}, "'question' holds '<image>', which is put before the question"),
        ({"split": "dev"}, "'split' is 'dev'"),
    ],
)
def test_faulty_pairs_are_set_aside(tmp_path: Path, change: dict[str, object], reason: str) -> None:
    _, bad = Preferences(write(tmp_path, PAIR, PAIR | change)).records()
    assert isinstance(bad, Quarantined)
    assert bad.record == "pairs.jsonl:2" and bad.reason.startswith(reason)


def test_a_missing_file_or_field_is_named(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"there is no file .*; give JSON lines with 'question', 'chosen', 'rejected'"):
        list(Preferences(str(tmp_path / "gone.jsonl")).records())
    with pytest.raises(DataError, match=r"lacks the column\(s\) 'rejected'"):
        list(Preferences(write(tmp_path, {"question": "?", "chosen": "x"})).records())
