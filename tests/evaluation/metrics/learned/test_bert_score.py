"""BERTScore over a tiny encoder, against torchmetrics where that pairs texts rightly."""

from pathlib import Path

import pytest
from torchmetrics.functional.text.bert import bert_score

from mmmed.errors import ConfigError
from mmmed.evaluation.metrics.learned.bert_score import BertScore

REFERENCES = ["Normal heart size .", "yes", "Is there a pleural effusion on this film ?"]
ANSWERS = ["Normal heart size .", "Where does it lie left right", "no effusion"]


def test_equal_texts_score_one_and_others_less(bert_folder: Path) -> None:
    same, *others = BertScore(str(bert_folder)).scores(REFERENCES, ANSWERS)
    assert same == pytest.approx(1.0, abs=1e-5)
    assert all(other < 0.999 for other in others)


def test_pairs_of_like_length_score_as_in_torchmetrics(bert_folder: Path) -> None:
    reference, answer = ["Normal heart size ."], ["yes no pleural effusion"]
    theirs = bert_score(answer, reference, model_name_or_path=str(bert_folder), num_layers=1)["f1"]
    assert BertScore(str(bert_folder), layer=1).scores(reference, answer) == pytest.approx([float(theirs)], abs=1e-5)


def test_neither_the_order_nor_the_company_of_pairs_matters(bert_folder: Path) -> None:
    score = BertScore(str(bert_folder), batch_size=2)
    together = score.scores(REFERENCES, ANSWERS)
    alone = [score.scores([one], [two])[0] for one, two in zip(REFERENCES, ANSWERS, strict=True)]
    assert together == pytest.approx(alone, abs=1e-5)
    assert score.scores(REFERENCES[::-1], ANSWERS[::-1])[::-1] == pytest.approx(alone, abs=1e-5)


def test_the_baseline_becomes_nothing(bert_folder: Path) -> None:
    plain = BertScore(str(bert_folder)).scores(REFERENCES, ANSWERS)[1]
    assert BertScore(str(bert_folder), baseline=plain).scores(REFERENCES, ANSWERS)[1] == pytest.approx(0.0, abs=1e-6)


def test_an_empty_answer_is_worth_nothing(bert_folder: Path) -> None:
    assert BertScore(str(bert_folder)).scores(["yes", "yes"], ["", "yes"]) == pytest.approx([0.0, 1.0], abs=1e-5)


def test_a_layer_that_is_not_there_is_refused(bert_folder: Path) -> None:
    with pytest.raises(ConfigError, match=r"layer 9 .* layers 1 to 2"):
        BertScore(str(bert_folder), layer=9)
