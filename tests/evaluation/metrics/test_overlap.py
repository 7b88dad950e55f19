"""BLEU, ROUGE-L and CIDEr give the figures of sacrebleu, rouge-score and pycocoevalcap."""

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from mmmed.evaluation.metrics.catalogue import METRICS, measure
from mmmed.evaluation.metrics.overlap import common_subsequence, rouge_l, words
from mmmed.evaluation.metrics.tally import Judged

GOLDEN: dict[str, Any] = json.loads((Path(__file__).parents[1] / "golden" / "overlap.json").read_text(encoding="utf-8"))
ITEMS = [
    Judged(reference, answer, f"p{number}", answer)
    for number, (reference, answer) in enumerate(zip(GOLDEN["references"], GOLDEN["answers"], strict=True))
]


@pytest.mark.parametrize("name", ["bleu_1", "bleu_2", "bleu_3", "bleu_4"])
def test_bleu_is_that_of_sacrebleu(name: str) -> None:
    assert measure(name, ITEMS) == pytest.approx(GOLDEN[name], abs=1e-9)


def test_rouge_l_is_that_of_rouge_score() -> None:
    assert [rouge_l(item) for item in ITEMS] == pytest.approx(GOLDEN["rouge_l"], abs=1e-9)
    assert measure("rouge_l", ITEMS) == pytest.approx(np.mean(GOLDEN["rouge_l"]), abs=1e-9)


def test_cider_is_a_tenth_of_that_of_pycocoevalcap() -> None:
    metric = METRICS["cider"]
    assert 10 * metric.tally(ITEMS, [])[:, 0] == pytest.approx(GOLDEN["cider_each"], abs=1e-6)
    assert 10 * measure("cider", ITEMS) == pytest.approx(GOLDEN["cider"], abs=1e-6)


def test_the_document_frequencies_of_cider_are_those_of_the_references_whatever_is_answered() -> None:
    metric = METRICS["cider"]
    others = [item._replace(answer="effusion " * 9) for item in ITEMS[1:]]
    assert metric.tally([ITEMS[0], *others], [])[0, 0] == pytest.approx(metric.tally(ITEMS, [])[0, 0])


def test_the_longest_common_subsequence_is_that_of_the_table() -> None:
    generator = np.random.default_rng(0)
    for _ in range(50):
        first, second = (list(map(str, generator.integers(0, 5, generator.integers(0, 80)))) for _ in range(2))
        table = np.zeros((len(first) + 1, len(second) + 1), int)
        for i, one in enumerate(first):
            for j, other in enumerate(second):
                table[i + 1, j + 1] = table[i, j] + 1 if one == other else max(table[i, j + 1], table[i + 1, j])
        assert common_subsequence(first, second) == table[-1, -1]


def test_words_are_lower_case_without_punctuation_and_keep_decimals() -> None:
    assert words("A 3.5-cm MASS, (right).") == ["a", "3.5", "cm", "mass", "right"]


@pytest.mark.parametrize("name", ["bleu_1", "bleu_4", "rouge_l", "cider"])
def test_silence_scores_nothing_and_no_items_have_no_figure(name: str) -> None:
    assert measure(name, [item._replace(answer=None, said="") for item in ITEMS]) == 0
    assert math.isnan(measure(name, []))
