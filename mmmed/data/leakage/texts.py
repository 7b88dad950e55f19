"""Texts that stand in two splits, and stretches of a benchmark's text that stand in training texts."""

import hashlib
import re
import unicodedata
from collections.abc import Iterable, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from mmmed.data.leakage.findings import Finding
from mmmed.records import IMAGE_PLACEHOLDER, Example, Split

STRETCH = 13
"""Words in a row that are held to be no coincidence. Source: Brown et al., Language Models are Few-Shot Learners,
appendix C (2020)."""

_WORD = re.compile(r"\w+")


class _Text(NamedTuple):
    """Where a text was met first in a split."""

    split: Split
    record: str
    source: str


def words(text: str) -> list[str]:
    """Words as they are compared: without case, punctuation and image placeholders."""
    return _WORD.findall(unicodedata.normalize("NFKC", text.replace(IMAGE_PLACEHOLDER, " ")).casefold())


class TextIndex:
    """Finds examples of different splits that ask or say the same; it keeps sixteen bytes of each text.

    Without an image the question is the text: who has read it knows it. With an image a question is expected to come
    again, and the text is the reference, if it has at least `STRETCH` words: shorter findings are what everyone writes.
    """

    def __init__(self) -> None:
        self._met: dict[bytes, dict[Split, _Text]] = {}

    def add(self, example: Example) -> None:
        """Note the texts of an example."""
        said = words(_text_of(example))
        if not said or (example.images and len(said) < STRETCH):
            return
        key = hashlib.blake2b(" ".join(said).encode(), digest_size=16).digest()
        place = _Text(example.split, example.id, example.source)
        self._met.setdefault(key, {}).setdefault(example.split, place)

    def findings(self) -> list[Finding]:
        """One finding for each text and pair of splits that it stands in."""
        found = []
        for places in self._met.values():
            first, *others = places.values()
            found += [
                Finding(
                    kind="text",
                    first=first.record,
                    second=other.record,
                    splits=(first.split, other.split),
                    sources=(first.source, other.source),
                )
                for other in others
            ]
        return found


class BenchmarkIndex:
    """Finds items of a benchmark of which a stretch of `STRETCH` words in a row stands in training texts.

    The benchmark is read first and kept as one number for each stretch; training texts stream past it.
    """

    def __init__(self, benchmark: Iterable[Example]) -> None:
        self._items: list[_Text] = []
        stretches, owners = [], []
        for example in benchmark:
            mine = _stretches(_all_texts(example))
            if len(mine):
                stretches.append(mine)
                owners.append(np.full(len(mine), len(self._items), np.int64))
                self._items.append(_Text(example.split, example.id, example.source))
        stretch = np.concatenate(stretches) if stretches else np.zeros(0, np.uint64)
        owner = np.concatenate(owners) if owners else np.zeros(0, np.int64)
        order = np.argsort(stretch, kind="stable")
        self._stretch, self._owner = stretch[order], owner[order]
        self._is_met = np.zeros(len(stretch), np.bool_)
        self._first_met: dict[int, _Text] = {}

    def __len__(self) -> int:
        """Items that are long enough to have a stretch."""
        return len(self._items)

    def add(self, example: Example) -> None:
        """Let the texts of a training example pass by."""
        mine = _stretches(_all_texts(example))
        starts = np.searchsorted(self._stretch, mine, side="left")
        ends = np.searchsorted(self._stretch, mine, side="right")
        for start, end in zip(starts[ends > starts], ends[ends > starts], strict=True):
            self._is_met[start:end] = True
            for item in self._owner[start:end].tolist():
                self._first_met.setdefault(item, _Text(example.split, example.id, example.source))

    def findings(self) -> list[Finding]:
        """One finding for each item with a stretch in the training texts; the score is the share of its stretches."""
        total = np.bincount(self._owner, minlength=len(self._items))
        met = np.bincount(self._owner[self._is_met], minlength=len(self._items))
        return [
            Finding(
                kind="benchmark",
                first=where.record,
                second=self._items[item].record,
                splits=(where.split, "benchmark"),
                sources=(where.source, self._items[item].source),
                score=float(met[item] / total[item]),
            )
            for item, where in sorted(self._first_met.items())
        ]


def _text_of(example: Example) -> str:
    if example.images:
        return example.reference
    return " ".join(turn.text for turn in example.turns if turn.speaker in {"user", "document"})


def _all_texts(example: Example) -> list[str]:
    """Question and answer apart, so that no stretch runs from one into the other."""
    return [turn.text for turn in example.turns if turn.speaker != "system"]


def _stretches(texts: Sequence[str]) -> NDArray[np.uint64]:
    """Every stretch of `STRETCH` words, as a number, each once."""
    numbers = {
        int.from_bytes(hashlib.blake2b(" ".join(said[start : start + STRETCH]).encode(), digest_size=8).digest(), "big")
        for text in texts
        for said in [words(text)]
        for start in range(len(said) - STRETCH + 1)
    }
    return np.fromiter(numbers, np.uint64, len(numbers))
