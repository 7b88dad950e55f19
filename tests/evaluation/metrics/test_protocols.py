"""The published ways to call an answer right, each with the defect that is known of it, and the strict one without."""

import pytest

from mmmed.evaluation.metrics.protocols import PROTOCOLS, llava_med, llava_med_exact, lmms, multimedeval, strict
from mmmed.evaluation.metrics.tally import Judged
from mmmed.evaluation.scorers import parse_choice

YES_NO = ("yes", "no")


def closed(said: str, reference: str, options: tuple[str, ...] = YES_NO) -> Judged:
    return Judged(reference, parse_choice(said, options), "p", said, options)


def open_ended(said: str, reference: str) -> Judged:
    return Judged(reference, said.strip() or None, "p", said)


@pytest.mark.parametrize("reference", YES_NO)
def test_yes_no_is_right_for_llava_med_and_unparsed_when_strict(reference: str) -> None:
    item = closed("yes no", reference)
    assert llava_med(item) == 1.0
    assert strict(item) == 0.0 and item.answer is None


def test_llava_med_calls_ct_wrong_for_ct_and_normal_right_for_no() -> None:
    assert llava_med(closed("ct", "CT", ("CT", "MR"))) == 0.0
    assert strict(closed("ct", "CT", ("CT", "MR"))) == 1.0
    assert llava_med(closed("normal", "no")) == 1.0


def test_the_open_metric_of_llava_med_is_a_recall_and_its_exact_match_a_precision_of_words() -> None:
    long = open_ended("it may be the left or the right or both lower lobes", "right")
    assert (llava_med(long), strict(long)) == (1.0, 0.0)
    assert llava_med_exact(open_ended("left", "left lower lobe")) == 1.0
    assert llava_med_exact(open_ended("left lung", "left lower lobe")) == 0.5
    assert llava_med_exact(open_ended("", "left")) == 0.0


def test_multimedeval_asks_for_four_tenths_of_the_words_of_closed_and_three_quarters_of_open_answers() -> None:
    assert multimedeval(closed("no", "no effusion", ("no effusion", "effusion"))) == 1.0
    assert multimedeval(open_ended("left lower", "left lower lobe")) == 0.0
    assert multimedeval(open_ended("lower left lung zone", "left lower lung zone")) == 1.0


def test_lmms_forgives_case_and_the_full_stop_and_nothing_else() -> None:
    assert lmms(closed("Yes. ", "yes")) == 1.0
    assert lmms(closed("It is yes", "yes")) == 0.0


@pytest.mark.parametrize("name", PROTOCOLS)
def test_a_perfect_answer_is_right_under_every_protocol_and_none_is_not(name: str) -> None:
    for item in (closed("yes", "yes"), closed("no", "no"), open_ended("left lower lobe", "left lower lobe")):
        assert PROTOCOLS[name](item) == 1.0
        assert PROTOCOLS[name](item._replace(said="", answer=None)) == 0.0
