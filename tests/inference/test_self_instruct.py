"""Conversations are made from captions, filtered, and say where they come from; the same model makes the same."""

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from mmmed.data.conversation_filters import Pair
from mmmed.data.sources.llava_med import LlavaMed
from mmmed.errors import ConfigError
from mmmed.inference.self_instruct import make, order_for, pairs_of, read_template, text_of
from mmmed.inference.session import Session
from mmmed.records import Answer, Example, Turn

CAPTION = "Chest film. Opacity of 3 cm in the left lower lobe. The heart is of normal size. No pneumothorax."
SAID = """Here it is.
Q: What is seen in the lungs?
A: There is an opacity of 3 cm
in the left lower lobe.
Q2. Is the heart enlarged?
A2. No, the heart is of normal size.
Q: What is seen in the lungs?
A: An opacity in the left lower lobe.
Q: How old is the patient?
A: She is 61 years old.
Q: And then?"""


def caption(number: int = 0, text: str = CAPTION) -> Example:
    return Example(id=f"r{number}", patient=f"p{number}", turns=(Turn("document", text),), source="roco")


class Writer:
    def __init__(self, said: str) -> None:
        self.said = said

    def choose(self, examples: Sequence[Example], **settings: Any) -> list[Answer]:
        raise AssertionError

    def write(self, examples: Sequence[Example], **settings: Any) -> list[Answer]:
        return [Answer(text=self.said) for _ in examples]


def test_pairs_are_read_from_their_lines() -> None:
    assert pairs_of(SAID)[:2] == [
        Pair("What is seen in the lungs?", "There is an opacity of 3 cm in the left lower lobe."),
        Pair("Is the heart enlarged?", "No, the heart is of normal size."),
    ]
    assert len(pairs_of(SAID)) == 4 and pairs_of("No form at all.") == []


def test_what_the_templates_own_examples_say_passes_the_filters() -> None:
    template = read_template()
    for text, conversation in template.examples:
        made = make(Writer(conversation), [caption(text=text)], maker={}, template=template)
        assert not made.taken_out and len(made.records[0]["conversations"]) == 6


def test_the_model_is_shown_examples_and_told_the_text() -> None:
    order = order_for(caption(), read_template(), turns=4)
    assert [turn.speaker for turn in order.turns] == ["user", "assistant"] * 2 + ["user"]
    assert CAPTION in order.turns[-1].text and "4 questions" in order.turns[-1].text
    asked = Example(id="a", patient="p", turns=(Turn("user", "What?"), Turn("assistant", "A cyst.")))
    assert text_of(asked) == "A cyst."


def test_filtered_conversations_say_where_they_come_from() -> None:
    made = make(Writer(SAID), [caption(0), caption(1)], maker={"checkpoint": "x"}, template=read_template(), seed=3)
    (record,) = made.records
    assert [one["value"] for one in record["conversations"][::2]] == [
        "<image>\nWhat is seen in the lungs?",
        "Is the heart enlarged?",
    ]
    # The first of the repeated questions is kept, and of two captions with the same conversation the first.
    assert made.taken_out == {"duplicate": 3, "numbers": 2}
    told = record["provenance"]
    assert (told["source"], told["record"], told["maker"], told["settings"]["seed"]) == (
        "roco",
        "r0",
        {"checkpoint": "x"},
        3,
    )
    assert len(told["order_sha256"]) == 64 and told["template"] == "self_instruct 1"


def test_what_repeats_a_held_out_text_is_taken_out() -> None:
    text = "There is an opacity of 3 cm in the left lower lobe of the lung and the heart is of normal size."
    said = f"Q: What is seen?\nA: {text}"
    held_out = [caption(9, text=f"Told before. {text}")]
    assert make(Writer(said), [caption(text=text)], maker={}, template=read_template()).records
    made = make(Writer(said), [caption(text=text)], maker={}, template=read_template(), held_out=held_out)
    assert made.taken_out == {"leakage": 1} and not made.records


def test_what_was_made_is_read_back_as_training_data(tmp_path: Path) -> None:
    made = make(Writer(SAID), [caption()], maker={}, template=read_template())
    (tmp_path / "images").mkdir()
    Image.new("L", (8, 8)).save(tmp_path / "images" / "a.png")
    path = tmp_path / "made.jsonl"
    path.write_text("".join(json.dumps(one | {"image": "a.png"}) + "\n" for one in made.records))
    (example,) = LlavaMed(str(path)).records()
    assert isinstance(example, Example)
    assert [turn.speaker for turn in example.turns] == ["user", "assistant"] * 2 and len(example.images) == 1


def test_a_local_model_makes_the_same_of_the_same(
    make_model: Callable[..., Any], make_processor: Callable[..., Any]
) -> None:
    model = make_model(vision=False, initializer_range=0.3, max_position_embeddings=4096)
    session = Session(model, make_processor(model, max_length=4096), device="cpu")
    orders = [order_for(caption(number), read_template(), turns=2) for number in range(2)]
    first, second = (session.write(orders, max_new_tokens=8) for _ in range(2))
    assert first == second


@pytest.mark.parametrize(
    ("text", "message"), [("version: 1", "expected the keys"), ("version: 1\norder: x\nexamples: []", "in its order")]
)
def test_a_template_without_its_parts_is_refused(tmp_path: Path, text: str, message: str) -> None:
    path = tmp_path / "t.yaml"
    path.write_text(text)
    with pytest.raises(ConfigError, match=message):
        read_template(path)
