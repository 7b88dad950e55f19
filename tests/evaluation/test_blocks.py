"""Answers are kept block by block, and nothing that changed is taken for what it was."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from mmmed.errors import DataError
from mmmed.evaluation import blocks
from mmmed.evaluation.blocks import (
    Block,
    PixelDigests,
    Questions,
    answer_blocks,
    blocks_of,
    kept_answers,
)
from mmmed.evaluation.sharing import WHOLE, Share
from mmmed.inference.asking import Asking
from mmmed.inference.generation import Decoding
from mmmed.inference.prompting import Form
from mmmed.records import Answer, Example

MakeExample = Callable[..., Example]


@dataclass(frozen=True)
class Plain:
    """A picture of one grey, under a name that says nothing of it."""

    grey: int
    name: str = "film.png"

    def open(self) -> Image.Image:
        return Image.new("L", (4, 4), self.grey)


class Counting:
    """Answers with the first option, and counts how many questions it is asked."""

    def __init__(self, *, stops_at: int | None = None) -> None:
        self.asked: list[str] = []
        self._stops_at = stops_at

    def choose(self, examples: Sequence[Example], **how: Any) -> list[Answer]:
        if self._stops_at is not None and len(self.asked) >= self._stops_at:
            raise KeyboardInterrupt
        self.asked += [example.id for example in examples]
        return [Answer(text=one.options[0], options=dict.fromkeys(one.options, 1 / 3)) for one in examples]

    def write(self, examples: Sequence[Example], **how: Any) -> list[Answer]:
        self.asked += [example.id for example in examples]
        return [Answer(text=f"of {one.id}\u2028") for one in examples]


@pytest.fixture
def questions(make_example: MakeExample, monkeypatch: pytest.MonkeyPatch) -> Questions:
    """Seven questions in blocks of two."""
    monkeypatch.setattr(blocks, "BLOCK", 2)
    options = ("yes", "no", "maybe")
    seen = [make_example(f"q{n}", f"Is it so, {n}?", "no", n, options=options if n % 2 else ()) for n in range(7)]
    seen = [replace(one, images=(Plain(10, f"film{n}.png"),)) for n, one in enumerate(seen)]
    return Questions(seen=seen, asking=Asking(), shots=[()] * 7, passages=[""] * 7, pixels=PixelDigests())


def answered(answerer: Counting, cut: Sequence[Block], share: Share = WHOLE) -> None:
    answer_blocks(answerer, cut, share=share, advance=lambda count: None)


def test_a_run_that_was_stopped_asks_only_what_is_missing(questions: Questions, tmp_path: Path) -> None:
    through, broken, again = Counting(), Counting(stops_at=4), Counting()
    whole = blocks_of(questions, identity="m", folder=tmp_path / "whole")
    answered(through, whole)
    cut = blocks_of(questions, identity="m", folder=tmp_path / "cut")
    with pytest.raises(KeyboardInterrupt):
        answered(broken, cut)
    answered(again, cut)
    assert sorted(broken.asked + again.asked) == sorted(through.asked)
    assert {one.file.name: one.file.read_bytes() for one in cut} == {
        one.file.name: one.file.read_bytes() for one in whole
    }
    assert kept_answers(cut)[0].text == "of q0\u2028", "a character that Unicode counts as a line end ends no line"


def test_shares_between_them_answer_every_block_once(questions: Questions, tmp_path: Path) -> None:
    cut = blocks_of(questions, identity="m", folder=tmp_path)
    answerers = [Counting() for _ in range(3)]
    for number, one in enumerate(answerers):
        answered(one, cut, Share(number, 3))
    assert sorted(itertools.chain.from_iterable(one.asked for one in answerers)) == [f"q{n}" for n in range(7)]
    assert all(one.asked for one in answerers)
    assert len(kept_answers(cut)) == 7


def changed(questions: Questions, what: str) -> tuple[Questions, str]:
    first, *others = questions.seen
    other_image = replace(first, images=(Plain(11, "film0.png"),))
    other_words = replace(
        first, turns=(replace(first.turns[0], text=first.turns[0].text + " Truly?"), *first.turns[1:])
    )
    prompted = replace(questions.asking, form=Form(prompt="Look.\n{question}"))
    return {
        "weights": (questions, "n"),
        "image": (replace(questions, seen=[other_image, *others], pixels=PixelDigests()), "m"),
        "words": (replace(questions, seen=[other_words, *others]), "m"),
        "prompt": (replace(questions, asking=prompted), "m"),
        "length": (replace(questions, asking=replace(questions.asking, decoding=Decoding(max_new_tokens=3))), "m"),
        "shots": (replace(questions, shots=[(others[0],), *questions.shots[1:]]), "m"),
    }[what]


@pytest.mark.parametrize(
    ("what", "asked"), [("weights", 7), ("prompt", 7), ("length", 7), ("image", 2), ("words", 2), ("shots", 2)]
)
def test_what_changed_is_asked_again_and_nothing_else(
    what: str, asked: int, questions: Questions, tmp_path: Path
) -> None:
    # The response cache of lm-evaluation-harness does not know the model by its key.
    answered(Counting(), blocks_of(questions, identity="m", folder=tmp_path))
    other, identity = changed(questions, what)
    again = Counting()
    answered(again, blocks_of(other, identity=identity, folder=tmp_path))
    assert len(again.asked) == asked
    same = Counting()
    answered(same, blocks_of(questions, identity="m", folder=tmp_path))
    assert same.asked == []


def test_passages_belong_to_the_question(questions: Questions, tmp_path: Path) -> None:
    form = Form(prompt="{passages}\n{question}")
    retrieved = replace(questions, asking=Asking(form=form), passages=[f"Passage {n}." for n in range(7)])
    before = retrieved.digests()
    after = replace(retrieved, passages=["Another.", *retrieved.passages[1:]]).digests()
    assert [one == other for one, other in zip(before, after, strict=True)] == [False] + [True] * 6
    assert "Passage 3." in retrieved.put()[3].question


def test_a_damaged_file_of_answers_is_one_line(questions: Questions, tmp_path: Path) -> None:
    cut = blocks_of(questions, identity="m", folder=tmp_path)
    answered(Counting(), cut)
    kept = cut[0].file.read_text()
    cut[0].file.write_text(kept.splitlines()[0] + "\n")
    with pytest.raises(DataError, match=r"answers .*: 1 for 2 questions; delete the file and run again"):
        kept_answers(cut)
    cut[0].file.write_text("{")
    with pytest.raises(DataError, match="delete the file and run again"):
        kept_answers(cut)
