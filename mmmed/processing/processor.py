"""The one path from an `Example` to what a model reads, for training, scoring and serving alike."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import torch
from torch import Tensor

from mmmed.errors import RecordError
from mmmed.processing.pixels import to_pixels
from mmmed.processing.prompt import ChatPrompt, TokenizedPrompt
from mmmed.records import IMAGE_PLACEHOLDER, Example, LazyImage, Turn
from mmmed.transforms import ImageTransform

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

# Shape letters: N images, C channels, H height, W width of an image or of features, T tokens, P features of an image.


@dataclass(frozen=True, slots=True)
class KnownImages:
    """What a frozen encoder's kept features make known of the images of an example.

    Args:
        folder: Where they are kept, which tells encoders apart.
        keys: Of every image.
        features: Of every image (P, W), None where none are kept.
    """

    folder: Path
    keys: tuple[str, ...]
    features: tuple[Tensor | None, ...]


@dataclass(frozen=True, slots=True)
class ModelInput:
    """One example, ready to be batched.

    Args:
        id: The example's id, so that an error can name it.
        ids: Token ids (T,); every image is a run of `tokens_per_image` image ids.
        supervised: Which tokens the loss is taken on (T,).
        pixels: Normalised images (N, C, H, W), N = 0 for text alone.
        rejected: The same conversation with the answer that was held to be worse, where there is one.
        pictures: The name of each image; equal names, equal images.
        known: What is known of the images where a frozen encoder keeps features; `pixels` are then those of the images
            without features alone.
    """

    id: str
    ids: Tensor
    supervised: Tensor
    pixels: Tensor
    rejected: ModelInput | None = None
    pictures: tuple[str, ...] = ()
    known: KnownImages | None = None

    @property
    def images(self) -> int:
        """How many images it has."""
        return len(self.known.keys) if self.known is not None else len(self.pixels)


class _Sequence(NamedTuple):
    """Token ids and, for each, whether it is supervised (T,); images are runs of ids."""

    ids: Tensor
    supervised: Tensor


_REMEMBERED = 4096
"""Conversations whose tokens are kept in memory, a few kilobytes each."""


class Processor:
    """Makes model inputs; it belongs to a model and travels with its checkpoint.

    Args:
        tokenizer: Of the language model.
        transform: Of the vision encoder, or None for a text-only model, which then sees the same text with
            its images taken out.
        tokens_per_image: Length of the run of image ids that one image becomes.
        max_length: Longest sequence in tokens; a longer one is refused, never cut in silence.
        system: System prompt of conversations that bring none; None leaves it to the chat template, and an
            empty text suppresses the template's own.
        template: Name of the chat template; None takes the tokenizer's own, with which it is saved.
    """

    def __init__(
        self,
        tokenizer: PreTrainedTokenizerBase,
        *,
        transform: ImageTransform | None,
        tokens_per_image: int,
        max_length: int = 2048,
        system: str | None = None,
        template: str | None = None,
    ) -> None:
        self.prompt = ChatPrompt(tokenizer, template=template)
        self.transform = transform
        self.tokens_per_image = tokens_per_image
        self.max_length = max_length
        self.system = system
        self._known: dict[tuple[str | None, tuple[Turn, ...]], _Sequence] = {}

    @property
    def image_id(self) -> int:
        """Token id at whose places image features are spliced in."""
        return self.prompt.image_id

    def training(self, example: Example, *, pixels: Tensor | None = None) -> ModelInput:
        """The whole conversation with its answers supervised.

        Its images are decoded, unless their `pixels` (N, C, H, W) are given.

        Raises:
            RecordError: Nothing in the example is supervised, it begins with an answer, or it is too long.
        """
        example = self._visible(example)
        sequence = self._learned(example)
        if not bool(sequence.supervised.any()):
            raise RecordError(f"{example.source}:{example.id}: no token is supervised; give it an assistant turn")
        made = self._assemble(example, sequence, pixels=pixels)
        worse = with_rejected(example)
        if worse is None:
            return made
        return replace(made, rejected=self._assemble(worse, self._learned(worse), pixels=made.pixels))

    def supervised_ids(self, example: Example) -> list[int]:
        """Token ids that `training` supervises, without touching the images."""
        tokens = self._conversation(self._visible(example))
        return [token for token, supervised in zip(tokens.ids, tokens.supervised, strict=True) if supervised]

    def length(self, example: Example) -> int:
        """Tokens of `training(example)`, without touching the images."""
        return self.lengths([example])[0]

    def lengths(self, examples: Sequence[Example]) -> list[int]:
        """Tokens of `training` of each, without touching the images."""
        seen = [self._visible(example) for example in examples]
        talks = [one for one in seen if not self._is_document(one)]
        lengths = iter(self.prompt.lengths([self._asked_turns(one) for one in talks]))
        return [
            len(self._conversation(one).ids)
            if self._is_document(one)
            else next(lengths) + len(one.images) * (self.tokens_per_image - 1)
            for one in seen
        ]

    def digest(self) -> str:
        """Changes with whatever decides the tokens of a conversation."""
        tokenizer = self.prompt.tokenizer
        decides = (
            tokenizer.backend_tokenizer.to_str(),
            str(tokenizer.chat_template),
            str(self.system),
            str(self.tokens_per_image),
            str(self.transform is None),
        )
        return hashlib.sha256("\0".join(decides).encode()).hexdigest()

    def question(self, example: Example, *, pixels: Tensor | None = None) -> ModelInput:
        """The conversation up to its last answer, which the model is to give; nothing is supervised.

        Its images are decoded, unless their `pixels` (N, C, H, W) are given.
        """
        example = self._visible(example)
        ids = self.prompt.before_answer(self._asked(example))
        return self._assemble(example, self._sequence(ids, [False] * len(ids)), pixels=pixels)

    def answer_ids(self, example: Example, answer: str) -> list[int]:
        """Token ids of one possible answer to `question(example)`."""
        return self.answers_ids(example, [answer])[0]

    def answers_ids(self, example: Example, answers: Sequence[str]) -> list[list[int]]:
        """The same of several answers."""
        return self.prompt.answers(self._asked(self._visible(example)), answers)

    def pixels(self, images: Sequence[LazyImage]) -> Tensor:
        """Decode, letterbox and normalise: (N, C, H, W). Raises `ImageError`."""
        if self.transform is None:
            return torch.empty(0, 3, 0, 0)
        size = self.transform.size
        if not images:
            return torch.empty(0, 3, size, size)
        return torch.stack([to_pixels(image.open(), self.transform) for image in images])

    def _conversation(self, example: Example) -> TokenizedPrompt:
        if self._is_document(example):
            return self.prompt.document(example.turns[0].text)
        return self.prompt.conversation(self._asked_turns(example))

    def _is_document(self, example: Example) -> bool:
        if not any(turn.speaker == "document" for turn in example.turns):
            return False
        if len(example.turns) > 1 or example.images:
            raise RecordError(f"{example.source}:{example.id}: a document stands alone; drop other turns and images")
        return True

    def _asked_turns(self, example: Example) -> list[Turn]:
        if example.turns and example.turns[0].speaker == "assistant":
            raise RecordError(f"{example.source}:{example.id}: begins with the assistant; begin it with a user turn")
        return self._turns(example.turns)

    def _visible(self, example: Example) -> Example:
        return without_images(example) if self.transform is None else example

    def _turns(self, turns: Sequence[Turn]) -> list[Turn]:
        if self.system is None or (turns and turns[0].speaker == "system"):
            return list(turns)
        return [Turn("system", self.system), *turns]

    def _asked(self, example: Example) -> list[Turn]:
        turns = self._turns(example.turns)
        while turns and turns[-1].speaker == "assistant":
            turns.pop()
        if not turns or turns[-1].speaker != "user":
            raise RecordError(f"{example.source}:{example.id}: no question to answer; end it with a user turn")
        return turns

    def _learned(self, example: Example) -> _Sequence:
        """What is said in an example, tokenised once for all epochs and films of which the same is said."""
        key = (self.system, example.turns)
        found = self._known.get(key)
        if found is None:
            tokens = self._conversation(example)
            if len(self._known) >= _REMEMBERED:
                del self._known[next(iter(self._known))]
            found = self._known[key] = self._sequence(tokens.ids, tokens.supervised)
        return found

    def _sequence(self, ids: list[int], supervised: list[bool]) -> _Sequence:
        tokens = torch.tensor(ids)
        repeats = torch.where(tokens == self.image_id, self.tokens_per_image, 1)
        return _Sequence(tokens.repeat_interleave(repeats), torch.tensor(supervised).repeat_interleave(repeats))

    def _assemble(self, example: Example, sequence: _Sequence, *, pixels: Tensor | None = None) -> ModelInput:
        length = len(sequence.ids)
        if length > self.max_length:
            raise RecordError(
                f"{example.source}:{example.id}: {length} tokens, more than max_length {self.max_length}; "
                "shorten the text or raise max_length"
            )
        if pixels is None:
            pixels = self.pixels(example.images)
        pictures = tuple(image.name for image in example.images)
        return ModelInput(
            f"{example.source}:{example.id}", sequence.ids, sequence.supervised, pixels, pictures=pictures
        )


def without_images(example: Example) -> Example:
    """The same conversation with its images and their placeholders taken out."""
    if not example.images:
        return example
    turns = tuple(replace(turn, text=turn.text.replace(IMAGE_PLACEHOLDER, "").strip()) for turn in example.turns)
    return replace(example, turns=turns, images=())


def with_rejected(example: Example) -> Example | None:
    """The same conversation ending in the answer that was held to be worse, or None where there is none.

    Raises:
        RecordError: A turn other than a last one of the assistant has such an answer, or it is a form with blanks.
    """
    if not any(turn.rejected for turn in example.turns):
        return None
    *before, last = example.turns
    if last.speaker != "assistant" or last.blanks or any(turn.rejected for turn in before):
        raise RecordError(
            f"{example.source}:{example.id}: only a last assistant turn without blanks can have a rejected answer"
        )
    return replace(example, turns=(*before, Turn("assistant", last.rejected)), options=())
