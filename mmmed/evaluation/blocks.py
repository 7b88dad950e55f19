"""Answers that are kept block by block as they come, so that a stop costs one block and processes can share them.

A block is the unit of computation too: what is read together stays the same whether a run goes through, is killed
and goes on, or is spread over processes, and so do the answers, to the last bit. A block is kept under a digest of the
model and of all that it is shown (words, options, pixels), so that nothing that changed is taken for what it was.
"""

import hashlib
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import NamedTuple

from mmmed.errors import DataError
from mmmed.evaluation.sharing import WHOLE, Share
from mmmed.inference.asking import Answerer, Asking, answer
from mmmed.inference.prompting import put
from mmmed.page.files import replace_text
from mmmed.records import Answer, Example, LazyImage

BLOCK = 128
"""Questions that are answered together: enough to fill batches, few enough to lose."""

Advance = Callable[[int], object]


@dataclass(frozen=True)
class PixelDigests:
    """Digests of images by their content; an image is looked at once, for its name stands for it within a run."""

    _known: dict[str, str] = field(default_factory=dict)

    def of(self, image: LazyImage) -> str:
        """SHA-256 of mode, size and pixels."""
        if image.name not in self._known:
            picture = image.open()
            hashed = hashlib.sha256(f"{picture.mode} {picture.size}".encode())
            hashed.update(picture.tobytes())
            self._known[image.name] = hashed.hexdigest()
        return self._known[image.name]


@dataclass(frozen=True, kw_only=True)
class Questions:
    """Questions as a model meets them.

    Args:
        seen: Each with the images that are shown.
        asking: How they are put and answered.
        shots: The examples before each.
        passages: What was retrieved for each.
        pixels: Digests of images.
    """

    seen: Sequence[Example]
    asking: Asking
    shots: Sequence[tuple[Example, ...]]
    passages: Sequence[str]
    pixels: PixelDigests

    def __len__(self) -> int:
        return len(self.seen)

    def put(self) -> list[Example]:
        """The questions in the words they are put in."""
        return [
            put(example, self.asking.form, shots=shots, passages=passages)
            for example, shots, passages in zip(self.seen, self.shots, self.passages, strict=True)
        ]

    def digests(self) -> list[str]:
        """Of each question, a digest of all that its answer depends on beside the model."""
        how = repr(self.asking)
        return [_digest(how, _content(example, self.pixels)) for example in self.put()]

    def at(self, places: Sequence[int]) -> "Questions":
        """Those at some places."""
        return replace(
            self,
            seen=[self.seen[place] for place in places],
            shots=[self.shots[place] for place in places],
            passages=[self.passages[place] for place in places],
        )


class Block(NamedTuple):
    """Some questions, and the file that their answers are kept in."""

    questions: Questions
    file: Path


def blocks_of(questions: Questions, *, identity: str, folder: Path) -> list[Block]:
    """Cut questions into blocks, always at the same places.

    Args:
        questions: All that one arm is asked.
        identity: Digest of the model.
        folder: Where answers are kept.
    """
    digests = questions.digests()
    places = [range(start, min(start + BLOCK, len(digests))) for start in range(0, len(digests), BLOCK)]
    return [
        Block(questions.at(one), folder / f"{_digest(identity, *digests[one.start : one.stop])}.jsonl")
        for one in places
    ]


def answer_blocks(answerer: Answerer, blocks: Sequence[Block], *, share: Share = WHOLE, advance: Advance) -> None:
    """Answer the blocks of a share that are not answered yet.

    Args:
        answerer: Who is asked.
        blocks: All blocks of an arm.
        share: Whose blocks.
        advance: Told how many questions are done since the last call.
    """
    for block in blocks:
        if not share.takes() or block.file.is_file():
            advance(len(block.questions))
            continue
        questions = block.questions
        answers = answer(
            answerer,
            questions.seen,
            questions.asking,
            shots=questions.shots,
            passages=questions.passages,
            advance=advance,
        )
        replace_text(block.file, "".join(_line(one) for one in answers))


def kept_answers(blocks: Sequence[Block]) -> list[Answer]:
    """The answers of all blocks, in order.

    Raises:
        DataError: A file is not there, or is not what was written.
    """
    return [one for block in blocks for one in _answers(block)]


def _answers(block: Block) -> list[Answer]:
    try:
        lines = [json.loads(line) for line in block.file.read_bytes().decode().split("\n") if line]
        answers = [Answer(text=line["text"], options=line["options"]) for line in lines]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise DataError(f"answers {block.file}: {error}; delete the file and run again") from error
    if len(answers) != len(block.questions):
        raise DataError(
            f"answers {block.file}: {len(answers)} for {len(block.questions)} questions; delete the file and run again"
        )
    return answers


def _line(one: Answer) -> str:
    return json.dumps({"text": one.text, "options": dict(one.options)}, allow_nan=False) + "\n"


def _content(example: Example, pixels: PixelDigests) -> str:
    turns = [(turn.speaker, turn.text) for turn in example.turns]
    shown = [pixels.of(image) for image in example.images]
    return json.dumps([f"{example.source}:{example.id}", turns, example.options, shown])


def _digest(*parts: str) -> str:
    return hashlib.sha256(json.dumps(parts).encode()).hexdigest()[:32]
