"""Rates of the checks over all cases, with intervals and paired differences between arms."""

from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np

from mmmed.data.writing_case import WritingCase
from mmmed.errors import DataError
from mmmed.evaluation.compare import Row
from mmmed.evaluation.metrics.tally import FloatArray, ratio
from mmmed.evaluation.significance import detectable, holm, permutation_p
from mmmed.evaluation.statistics import bootstrap_estimate, paired_estimate, patient_weights
from mmmed.evaluation.writing.checks import CHECKS, Verdict

ALL = "checks passed"
"""Of the checks that a case has something for, the share that its document passes; mean over cases."""
TASK = "clinical_writing"

Verdicts = Mapping[str, Mapping[str, Verdict]]
"""By case and check, what was found in one arm's document."""


def rows(
    verdicts: Mapping[str, Verdicts], cases: Sequence[WritingCase], *, against: Sequence[tuple[str, str]], seed: int = 0
) -> list[Row]:
    """Every arm's rate of each check, and the paired differences of pairs of arms; cases are the unit.

    Args:
        verdicts: By arm.
        cases: What was written about.
        against: Pairs of an arm and the arm it is held against.
        seed: Of resamples and permutations.

    Raises:
        DataError: An arm lacks a case.
    """
    for arm, by_case in verdicts.items():
        if missing := [case.id for case in cases if case.id not in by_case]:
            raise DataError(f"arm {arm!r} has no document of case {missing[0]!r}; write all cases with every arm")
    found: list[Row] = []
    for name in (ALL, *CHECKS):
        tallies = {arm: _tallies(by_case, cases, name) for arm, by_case in verdicts.items()}
        counted = next(iter(tallies.values()))[:, 1] > 0
        kept = {arm: tally[counted] for arm, tally in tallies.items()}
        alone = {arm: _alone(arm, name, tally, seed=seed) for arm, tally in kept.items()}
        found += alone.values()
        for arm, other in against:
            found.append(_against(alone[arm], other, kept[arm], kept[other], seed=seed))
    return _adjusted(found)


def _tallies(by_case: Verdicts, cases: Sequence[WritingCase], name: str) -> FloatArray:
    """For each case what it passed, and whether (or how much) it was asked (cases, 2)."""
    passed = []
    for case in cases:
        if name == ALL:
            # An exam question that cannot be read has no key to check: it fails that check, and is not spared it.
            asked = [said.passed for said in by_case[case.id].values()]
            asked += [False] if case.key and "key" not in by_case[case.id] else []
            passed.append((float(np.mean(asked)), 1.0))
        elif name == "key" and case.key and name not in by_case[case.id]:
            passed.append((0.0, 1.0))
        else:
            said = by_case[case.id].get(name)
            passed.append((0.0, 0.0) if said is None else (float(said.passed), 1.0))
    return np.array(passed, dtype=np.float64)


def _value_of(totals: FloatArray) -> FloatArray:
    return ratio(totals[..., 0], totals[..., 1])


def _alone(arm: str, name: str, tallies: FloatArray, *, seed: int) -> Row:
    weights = patient_weights(len(tallies), seed=seed)
    estimate = bootstrap_estimate(tallies, value_of=_value_of, weights=weights, support=len(tallies))
    return Row(
        arm=arm,
        task=TASK,
        metric=name,
        value=estimate.value,
        low=estimate.low,
        high=estimate.high,
        n=len(tallies),
    )


def _against(alone: Row, other: str, tallies: FloatArray, others: FloatArray, *, seed: int) -> Row:
    weights = patient_weights(len(tallies), seed=seed)
    estimate = paired_estimate(tallies, others, value_of=_value_of, weights=weights, support=len(tallies))
    return replace(
        alone,
        baseline=other,
        delta=estimate.value,
        delta_low=estimate.low,
        delta_high=estimate.high,
        p=permutation_p(tallies, others, value_of=_value_of, seed=seed),
        detectable=detectable(estimate, patients=len(tallies)),
    )


def _adjusted(found: Sequence[Row]) -> list[Row]:
    """Holm-adjusted: the share of all checks makes one family, the single checks together another."""
    adjusted = list(found)
    for family, is_member in (("primary", True), ("checks", False)):
        places = [place for place, row in enumerate(found) if row.p is not None and (row.metric == ALL) is is_member]
        for place, p in zip(places, holm([found[place].p or 0.0 for place in places]), strict=True):
            adjusted[place] = replace(found[place], p=p, p_alone=found[place].p, family=family)
    return adjusted
