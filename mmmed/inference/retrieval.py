"""Passages found for a question: by words (BM25), by meaning (vectors), or by both (reciprocal-rank fusion).

An index is a folder with the passages and, where an encoder made them, their vectors. Which passages were found is
kept beside the answers, so that an answer can be traced to them and recall is told apart from accuracy.

Letters in array names: N passages, V words, E width of a vector.
"""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Literal, NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray
from safetensors.numpy import load_file, save_file
from scipy.sparse import csc_array

from mmmed.errors import ConfigError, DataError, OutputError
from mmmed.records import Example

Method = Literal["bm25", "dense", "hybrid"]
Encode = Callable[[Sequence[str]], NDArray[np.float32]]
Floats = NDArray[np.float64]

PASSAGES, VECTORS = "passages.jsonl", "vectors.safetensors"
FUSION = 60
"""Source: Cormack et al. 2009, Reciprocal Rank Fusion, section 2, whose constant it is."""
DEPTH = 100
"""Passages of each ranking that are fused."""
_WORD = re.compile(r"\w+")


@dataclass(frozen=True, slots=True, kw_only=True)
class Passage:
    """A piece of a corpus.

    Args:
        id: By which it is cited; ``SOURCE:ID`` of the record that it is from.
        text: What is read.
    """

    id: str
    text: str


class Found(NamedTuple):
    """A passage and how well it fits; scores of different methods are not of one scale."""

    passage: Passage
    score: float


class Retriever(Protocol):
    """Ranks the passages of a corpus for a question."""

    def scores(self, question: str) -> Floats:
        """One score for each passage (N,), the larger the better."""
        ...


class Bm25:
    """Words in common, weighted by how rare they are.

    Args:
        texts: Of the passages.
        k1: How soon a word that occurs again stops to count.
        b: How much long passages are held against.

    Source: Robertson and Zaragoza 2009, The Probabilistic Relevance Framework, section 3; the inverse document
    frequency is Lucene's, which is never below 0.
    """

    def __init__(self, texts: Sequence[str], *, k1: float = 1.5, b: float = 0.75) -> None:
        counts = [Counter(_words(text)) for text in texts]
        self._words = {word: place for place, word in enumerate(dict.fromkeys(w for one in counts for w in one))}
        lengths_N = np.array([one.total() for one in counts], dtype=np.float64)
        long_N = k1 * (1 - b + b * lengths_N / max(float(lengths_N.mean()), 1.0))
        rows = np.repeat(np.arange(len(texts)), [len(one) for one in counts])
        columns = np.array([self._words[word] for one in counts for word in one], dtype=np.int64)
        times = np.array([count for one in counts for count in one.values()], dtype=np.float64)
        holders_V = np.bincount(columns, minlength=len(self._words))
        rarity_V = np.log(1 + (len(texts) - holders_V + 0.5) / (holders_V + 0.5))
        weights = rarity_V[columns] * times * (k1 + 1) / (times + long_N[rows])
        self._weights_NV = csc_array((weights, (rows, columns)), shape=(len(texts), max(len(self._words), 1)))

    def scores(self, question: str) -> Floats:
        """One score for each passage (N,); 0 where no word is shared."""
        known = [self._words[word] for word in _words(question) if word in self._words]
        asked_V = np.bincount(np.array(known, dtype=np.int64), minlength=self._weights_NV.shape[1]).astype(np.float64)
        scores_N: Floats = self._weights_NV @ asked_V
        return scores_N


class Dense:
    """Cosine of vectors.

    Args:
        vectors_NE: Of the passages, of any length.
        encode: Makes vectors of questions as those of the passages were made.
    """

    def __init__(self, vectors_NE: NDArray[np.float32], encode: Encode) -> None:
        self._vectors_NE = _of_length_one(vectors_NE)
        self._encode = encode

    def scores(self, question: str) -> Floats:
        """One cosine for each passage (N,)."""
        asked_E = _of_length_one(self._encode([question]))[0]
        return np.asarray(self._vectors_NE @ asked_E, dtype=np.float64)


class Hybrid:
    """Reciprocal-rank fusion: what several retrievers rank high, whatever the scale of their scores.

    Args:
        retrievers: Of the same passages.
    """

    def __init__(self, retrievers: Sequence[Retriever]) -> None:
        self._retrievers = tuple(retrievers)

    def scores(self, question: str) -> Floats:
        """The sum of 1 / (60 + rank) over the retrievers; 0 for what none of them ranks high."""
        fused: Floats | None = None
        for retriever in self._retrievers:
            scores_N = retriever.scores(question)
            order = np.argsort(-scores_N, kind="stable")[:DEPTH]
            # What shares nothing with the question has no rank.
            order = order[scores_N[order] > 0]
            fused = np.zeros(len(scores_N)) if fused is None else fused
            fused[order] += 1.0 / (FUSION + 1 + np.arange(len(order)))
        if fused is None:
            raise ConfigError("a hybrid of no retrievers; give it two")
        return fused


@dataclass(frozen=True, slots=True)
class Index:
    """A corpus that can be searched.

    Args:
        passages: All of it.
        retriever: Ranks it.
    """

    passages: tuple[Passage, ...]
    retriever: Retriever

    def search(self, question: str, *, count: int, without: Iterable[str] = ()) -> list[Found]:
        """The passages that fit best, the best first, but for some ids; fewer where the others share nothing."""
        left_out = set(without)
        scores_N = self.retriever.scores(question)
        found: list[Found] = []
        for place in np.argsort(-scores_N, kind="stable"):
            if len(found) == count or scores_N[place] <= 0:
                break
            if self.passages[place].id not in left_out:
                found.append(Found(self.passages[place], float(scores_N[place])))
        return found


def passages_of(examples: Iterable[Example], *, context: str = "") -> list[Passage]:
    """One passage for each record: a document's text, or question and answer.

    Args:
        examples: Of one source or several.
        context: A pattern whose first group, found in what the user says, is the passage instead, such as an abstract
            before a question; records without it are left out.
    """
    made: dict[str, Passage] = {}
    for example in examples:
        said = example.turns[0].text if example.turns[0].speaker == "document" else example.question
        text = said if example.turns[0].speaker == "document" else f"{said}\n{example.reference}"
        if context:
            match = re.search(context, said, re.DOTALL)
            if match is None:
                continue
            text = match[1]
        identifier = f"{example.source}:{example.id}"
        made[identifier] = Passage(id=identifier, text=text.strip())
    return list(made.values())


def write_index(folder: Path, passages: Sequence[Passage], *, encode: Encode | None = None) -> None:
    """Keep passages, and their vectors where there is an encoder; the passages last, so that they mean it is whole.

    Raises:
        DataError: There are no passages.
        OutputError: The folder cannot be written.
    """
    if not passages:
        raise DataError("no passages to index; check the sources")
    try:
        folder.mkdir(parents=True, exist_ok=True)
        (folder / PASSAGES).unlink(missing_ok=True)
        (folder / VECTORS).unlink(missing_ok=True)
        if encode is not None:
            save_file({"vectors": encode([one.text for one in passages])}, folder / VECTORS)
        temporary = folder / f".{PASSAGES}.part"
        lines = (json.dumps(asdict(one), ensure_ascii=False) + "\n" for one in passages)
        temporary.write_text("".join(lines), encoding="utf-8")
        temporary.replace(folder / PASSAGES)
    except OSError as error:
        raise OutputError(f"cannot write the index to {folder}: {error.strerror or error}; free space") from error


def read_index(folder: Path, *, method: Method = "bm25", encode: Encode | None = None) -> Index:
    """Open an index.

    Args:
        folder: That `write_index` left.
        method: How passages are ranked.
        encode: Makes vectors of questions, for "dense" and "hybrid".

    Raises:
        DataError: There is no index, or a line of it is broken.
        ConfigError: The method needs vectors or an encoder that are not there.
    """
    try:
        lines = (folder / PASSAGES).read_text(encoding="utf-8").split("\n")
        passages = tuple(Passage(**json.loads(line)) for line in lines if line)
    except OSError as error:
        raise DataError(f"no index at {folder}; make one with `mmmed index`") from error
    except (ValueError, TypeError) as error:
        raise DataError(f"{folder / PASSAGES}: {error}; make the index again with `mmmed index`") from error
    words = Bm25([one.text for one in passages])
    if method == "bm25":
        return Index(passages, words)
    if encode is None or not (folder / VECTORS).is_file():
        raise ConfigError(f"{folder} has no vectors for method {method!r}; make the index with --encoder, or use bm25")
    meaning = Dense(load_file(folder / VECTORS)["vectors"], encode)
    return Index(passages, meaning if method == "dense" else Hybrid([words, meaning]))


def recall(found: Sequence[Sequence[Found]], wanted: Sequence[str]) -> float:
    """The share of questions whose own passage is among those found; answers play no part in it."""
    if not wanted:
        return float("nan")
    hits = [any(one.passage.id == id for one in ranked) for ranked, id in zip(found, wanted, strict=True)]
    return sum(hits) / len(hits)


def cited(found: Sequence[Found]) -> str:
    """Passages as they stand in a prompt, numbered, each with the id it is cited by."""
    return "\n\n".join(f"[{number}] ({one.passage.id}) {one.passage.text}" for number, one in enumerate(found, 1))


def _words(text: str) -> list[str]:
    return _WORD.findall(text.casefold())


def _of_length_one(vectors_NE: NDArray[np.float32]) -> NDArray[np.float32]:
    lengths_N1 = np.linalg.norm(vectors_NE, axis=1, keepdims=True)
    unit: NDArray[np.float32] = vectors_NE / np.maximum(lengths_N1, 1e-12)
    return unit
