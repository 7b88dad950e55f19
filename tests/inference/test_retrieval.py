"""Passages are found by words, by vectors and by both, with scores that can be checked by hand."""

import math
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from mmmed.errors import ConfigError, DataError
from mmmed.inference.retrieval import (
    Bm25,
    Dense,
    Found,
    Hybrid,
    Index,
    Passage,
    cited,
    passages_of,
    read_index,
    recall,
    write_index,
)
from mmmed.records import Example

TEXTS = ["aspirin for the heart", "statins lower lipids", "aspirin aspirin and ulcers of the stomach", "knees"]
PASSAGES = [Passage(id=f"p{number}", text=text) for number, text in enumerate(TEXTS)]


def encode(texts: Sequence[str]) -> NDArray[np.float32]:
    """Counts of four letters, as a stand-in for an encoder."""
    return np.array([[text.count(letter) for letter in "aips"] for text in texts], dtype=np.float32)


def test_bm25_equals_the_formula() -> None:
    k1, b, lengths = 1.5, 0.75, [4, 3, 7, 1]
    mean = sum(lengths) / 4
    rarity = math.log(1 + (4 - 2 + 0.5) / (2 + 0.5))
    expected = [
        rarity * times * (k1 + 1) / (times + k1 * (1 - b + b * length / mean)) if times else 0.0
        for times, length in zip([1, 0, 2, 0], lengths, strict=True)
    ]
    assert Bm25(TEXTS).scores("Aspirin?") == pytest.approx(expected)
    assert Bm25(TEXTS).scores("nothing of it") == pytest.approx([0, 0, Bm25(TEXTS).scores("of")[2], 0])


def test_fusion_adds_reciprocal_ranks() -> None:
    class Fixed:
        def __init__(self, scores: list[float]) -> None:
            self._scores = np.array(scores)

        def scores(self, question: str) -> NDArray[np.float64]:
            return self._scores

    fused = Hybrid([Fixed([3.0, 2.0, 1.0, 0.0]), Fixed([0.1, 0.9, 0.0, 0.0])]).scores("?")
    assert fused == pytest.approx([1 / 61 + 1 / 62, 1 / 62 + 1 / 61, 1 / 63, 0.0])


def test_dense_is_the_cosine() -> None:
    scores = Dense(encode(TEXTS), encode).scores(TEXTS[1])
    assert scores[1] == pytest.approx(1.0)
    assert scores.max() == scores[1]


@pytest.mark.parametrize("method", ["bm25", "dense", "hybrid"])
def test_an_index_read_back_finds_what_was_put_in(tmp_path: Path, method: str) -> None:
    write_index(tmp_path, PASSAGES, encode=encode)
    index = read_index(tmp_path, method=method, encode=encode)  # type: ignore[arg-type]
    assert index.passages == tuple(PASSAGES)
    (found,) = index.search("statins lower lipids", count=1)
    assert found.passage.id == "p1"


def test_some_passages_can_be_left_out_and_strangers_are_not_found() -> None:
    index = Index(tuple(PASSAGES), Bm25(TEXTS))
    assert [one.passage.id for one in index.search("aspirin", count=3)] == ["p2", "p0"]
    assert [one.passage.id for one in index.search("aspirin", count=3, without=["p2"])] == ["p0"]


def test_recall_and_citations() -> None:
    found = [[Found(PASSAGES[0], 1.0)], [Found(PASSAGES[1], 1.0), Found(PASSAGES[2], 0.5)], []]
    assert recall(found, ["p0", "p2", "p3"]) == pytest.approx(2 / 3)
    assert cited(found[1]).startswith("[1] (p1) statins lower lipids\n\n[2] (p2) aspirin")


def test_passages_are_abstracts_or_question_and_answer(make_example: Callable[..., Example]) -> None:
    asked = make_example("7", "Abstract: Lipids fell.\nThey did.\nQuestion: Do they?", "yes")
    (whole,) = passages_of([asked])
    assert whole == Passage(id="phantom:7", text=f"{asked.question}\nyes")
    (abstract,) = passages_of([asked, make_example("8", "Bare?", "no")], context=r"Abstract: (.*)\nQuestion:")
    assert abstract.text == "Lipids fell.\nThey did."


def test_what_cannot_be_searched_is_one_line(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="make one with `mmmed index`"):
        read_index(tmp_path)
    with pytest.raises(DataError, match="no passages to index"):
        write_index(tmp_path, [])
    write_index(tmp_path, PASSAGES)
    with pytest.raises(ConfigError, match="has no vectors for method 'hybrid'"):
        read_index(tmp_path, method="hybrid", encode=encode)
