"""Findings are scored by what reports state, each on its own and all together."""

import math

import pytest
from sklearn.metrics import f1_score

from mmmed.evaluation.metrics.catalogue import METRICS, measure
from mmmed.evaluation.metrics.findings import stated
from mmmed.evaluation.metrics.tally import Judged

REPORTS = [
    ("Small left pleural effusion. No pneumothorax.", "Left effusion and pneumothorax."),
    ("Cardiomegaly.", "The heart is enlarged."),
    ("Clear lungs.", "No effusion."),
    ("Right basilar atelectasis.", "Possible atelectasis."),
    ("Left lower lobe consolidation.", ""),
]
ITEMS = [Judged(reference, said or None, f"p{i}", said) for i, (reference, said) in enumerate(REPORTS)]


def test_micro_and_macro_figures_equal_scikit_learn() -> None:
    truth, said = ([stated(text) for text in column] for column in zip(*REPORTS, strict=True))
    assert measure("finding_f1", ITEMS) == pytest.approx(f1_score(truth, said, average="micro"))
    present = [k for k in range(14) if any(row[k] for row in (*truth, *said))]
    expected = f1_score(truth, said, average="macro", labels=present, zero_division=0)
    assert measure("finding_macro_f1", ITEMS) == pytest.approx(expected)


def test_wording_does_not_count_and_denial_does() -> None:
    assert measure("finding_f1_cardiomegaly", ITEMS) == 1.0
    assert measure("finding_f1_pneumothorax", ITEMS) == 0.0
    assert measure("finding_f1_atelectasis", ITEMS) == 0.0, "what is left open is not stated"
    assert measure("finding_recall", ITEMS) == pytest.approx(3 / 5)
    assert measure("finding_precision", ITEMS) == pytest.approx(3 / 4)


def test_silence_is_not_rewarded_for_a_clear_film() -> None:
    silent = [Judged("Clear lungs.", None, "p", "")]
    assert measure("finding_f1", silent) == 0.0
    assert measure("finding_f1", [Judged("Clear lungs.", "Normal chest.", "p")]) == 1.0


def test_a_finding_nobody_mentions_has_no_figure() -> None:
    assert math.isnan(measure("finding_f1_fracture", ITEMS))


def test_figures_rest_on_the_patients_who_have_the_finding() -> None:
    tallies = METRICS["finding_f1_cardiomegaly"].tally(ITEMS, [])
    assert METRICS["finding_f1_cardiomegaly"].support(tallies) == 1
    assert METRICS["finding_f1"].support(tallies) == 5
