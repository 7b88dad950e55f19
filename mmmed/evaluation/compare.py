"""Hold one arm against its baselines on the same items: values, paired differences, intervals and p-values."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from mmmed.errors import ConfigError, did_you_mean
from mmmed.evaluation.asked import Asked, Run, asked
from mmmed.evaluation.controls import CONTROLS
from mmmed.evaluation.metrics.catalogue import metric_named
from mmmed.evaluation.metrics.tally import FloatArray
from mmmed.evaluation.significance import detectable, equivalence_p, mcnemar_p, no_worse_p, permutation_p
from mmmed.evaluation.statistics import spread_of

RELIANCE = "image_reliance"
RELIANCE_ON = ("accuracy", "token_f1")
WORDING = "wording_"
"""How the names of arms begin that are the main arm, asked in other words."""
QUESTION_FLOORS = ("absent", "option_shuffle")
# Figures that are right or wrong for each item, which is what McNemar's test compares.
_RIGHT_OR_WRONG = ("accuracy", "exact_match")


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """One figure of one arm, alone or against one baseline, with what is needed to believe it.

    Args:
        arm: Which model or control.
        task: On what.
        metric: Which figure, a name of `metrics.catalogue.METRICS`, or `image_reliance`.
        value: The figure in [0, 1]; not a number over no items.
        low: Lower limit of its 95 % interval over patients; not a number for fewer than two patients.
        high: Upper limit.
        n: Items it was made from.
        baseline: The arm it is held against, or none for a figure alone.
        delta: Arm minus baseline on the same items.
        delta_low: Lower limit of the difference's 95 % interval.
        delta_high: Upper limit.
        p: Two-sided, permuted by patient; after `adjust`, Holm-adjusted.
        p_alone: The same before adjustment.
        family: What it was adjusted with: `primary`, or a metric.
        detectable: Least difference this comparison would have seen with 80 % power.
        mcnemar: Exact p of McNemar's test, where each patient has one item and the figure is right or wrong.
        margin: How much worse than the baseline counts as no worse, where that is the claim.
        p_no_worse: One-sided p of being worse by the margin or more; after `adjust`, Holm-adjusted.
        p_equivalent: P of differing by the margin or more, in either direction; after `adjust`, Holm-adjusted.
        unparsed: How many of the arm's answers could not be parsed; they count as not correct.
        prior: What always giving the most frequent reference of these items, or the option at one place, scores.
        question_only: What the same model scores without the image, where it was asked (the arm `absent`).
        option_shuffle: What it scores with the options in another order, where it was asked.
        runs: How many runs with other seeds the value is the mean of.
        spread: Standard deviation between those runs; none of a single run.
        wordings: In how many wordings of the prompt the same was asked.
        wording_spread: Standard deviation between the wordings; none of a single wording.
        wording_least: The least figure of a wording.
        wording_most: The greatest.
    """

    arm: str
    task: str
    metric: str
    value: float
    low: float
    high: float
    n: int
    baseline: str | None = None
    delta: float | None = None
    delta_low: float | None = None
    delta_high: float | None = None
    p: float | None = None
    p_alone: float | None = None
    family: str | None = None
    detectable: float | None = None
    mcnemar: float | None = None
    margin: float | None = None
    p_no_worse: float | None = None
    p_equivalent: float | None = None
    unparsed: int | None = None
    prior: float | None = None
    question_only: float | None = None
    option_shuffle: float | None = None
    runs: int = 1
    spread: float | None = None
    wordings: int = 1
    wording_spread: float | None = None
    wording_least: float | None = None
    wording_most: float | None = None


def compare(
    predictions_by_arm: Run,
    *,
    main: str,
    baselines: Sequence[str],
    task: str,
    metrics: Sequence[str],
    seed: int,
    no_worse: Mapping[str, float] | None = None,
) -> list[Row]:
    """Every arm's figures, and the main arm's paired differences from each baseline, with raw p-values.

    Arms are joined on the item's id. An item is closed if any arm gives it options; an answer that is none of them
    is unparsed in every arm. Baselines that are controls of the image also give `image_reliance`.

    Args:
        predictions_by_arm: Answers to the same items.
        main: The arm in question.
        baselines: What it is held against.
        task: The task that all items belong to.
        metrics: Names of metrics.
        seed: Of resamples and permutations.
        no_worse: Margins by baseline, where the claim is that the main arm is no worse, or as good.

    Raises:
        ConfigError: The main arm, a baseline or a metric is not known.
        DataError: The arms did not answer the same items, or an item stands twice, or belongs to another task.
    """
    return compare_runs(
        [predictions_by_arm],
        main=main,
        baselines=baselines,
        task=task,
        metrics=metrics,
        seed=seed,
        no_worse=no_worse,
    )


def compare_runs(
    runs: Sequence[Run],
    *,
    main: str,
    baselines: Sequence[str],
    task: str,
    metrics: Sequence[str],
    seed: int,
    no_worse: Mapping[str, float] | None = None,
) -> list[Row]:
    """`compare` for runs that differ in their seed: values are means over runs, intervals go over patients.

    The spread between runs stands beside the interval and not in it: the one says how much another seed would
    change, the other how much other patients would. An arm that has no seed stands in every run.

    Raises:
        ConfigError: As `compare`, or the runs have other arms.
        DataError: As `compare`, or the runs did not answer the same items.
    """
    margins = no_worse or {}
    for arm in (main, *baselines, *margins):
        if any(arm not in run for run in runs):
            raise ConfigError(f"no predictions of arm {arm!r}{did_you_mean(arm, runs[0])}")
    if main in baselines:
        raise ConfigError(f"the main arm {main!r} is also named as a baseline; compare it with other arms")
    if any(set(run) != set(runs[0]) for run in runs):
        raise ConfigError(f"the {len(runs)} runs of task {task!r} have other arms; give each run every arm")
    joined = asked(runs, main=main, task=task, seed=seed)
    rows: list[Row] = []
    for name in metrics:
        metric = metric_named(name)
        tallies = {arm: joined.tallies(metric, arm) for arm in runs[0]}
        floors = {
            arm: float(joined.value_of(metric)(tallies[arm].sum(axis=0))) for arm in QUESTION_FLOORS if arm in tallies
        }
        alone = {arm: _alone(joined, arm, task, name, tallies[arm], floors) for arm in tallies}
        alone[main] = _over_wordings(alone[main], [row for arm, row in alone.items() if arm.startswith(WORDING)])
        rows += alone.values()
        for baseline in baselines:
            pair = tallies[main], tallies[baseline]
            rows.append(_against(joined, alone[main], baseline, pair, seed=seed, margin=margins.get(baseline)))
        if name in RELIANCE_ON:
            controls = [baseline for baseline in baselines if baseline in CONTROLS]
            rows += [_reliance(joined, alone[main], each, (tallies[main], tallies[each])) for each in controls]
    return rows


def _alone(joined: Asked, arm: str, task: str, name: str, tallies: FloatArray, floors: Mapping[str, float]) -> Row:
    metric = metric_named(name)
    estimate, spread = joined.alone(metric, tallies), joined.spread(metric, tallies)
    return Row(
        arm=arm,
        task=task,
        metric=name,
        value=estimate.value,
        low=estimate.low,
        high=estimate.high,
        n=len(joined.patients),
        unparsed=joined.unparsed(arm),
        prior=joined.prior(metric),
        question_only=floors.get("absent"),
        option_shuffle=floors.get("option_shuffle"),
        runs=spread.runs,
        spread=spread.deviation if spread.runs > 1 else None,
    )


def _over_wordings(own: Row, others: Sequence[Row]) -> Row:
    values = [own.value, *(row.value for row in others)]
    if len(values) == 1:
        return own
    spread = spread_of(values)
    return replace(
        own,
        wordings=spread.runs,
        wording_spread=spread.deviation,
        wording_least=spread.least,
        wording_most=spread.most,
    )


def _against(
    joined: Asked,
    alone: Row,
    baseline: str,
    pair: tuple[FloatArray, FloatArray],
    *,
    seed: int,
    margin: float | None,
) -> Row:
    metric, patients = metric_named(alone.metric), len(joined.order)
    estimate = joined.difference(metric, *pair)
    return replace(
        alone,
        baseline=baseline,
        delta=estimate.value,
        delta_low=estimate.low,
        delta_high=estimate.high,
        p=permutation_p(*pair, value_of=joined.value_of(metric), seed=seed),
        detectable=detectable(estimate, patients=patients),
        mcnemar=_mcnemar(joined, alone.metric, *pair),
        margin=margin,
        p_no_worse=None if margin is None else no_worse_p(estimate, margin=margin, patients=patients),
        p_equivalent=None if margin is None else equivalence_p(estimate, margin=margin, patients=patients),
    )


def _mcnemar(joined: Asked, name: str, tallies: FloatArray, others: FloatArray) -> float | None:
    """McNemar's exact p where it holds: right or wrong, one run, one item of each patient."""
    if name not in _RIGHT_OR_WRONG or len(joined.runs) > 1 or len(joined.order) != len(joined.patients):
        return None
    first, second = tallies[:, 0] > 0, others[:, 0] > 0
    return mcnemar_p(int((first & ~second).sum()), int((second & ~first).sum()))


def _reliance(joined: Asked, alone: Row, control: str, pair: tuple[FloatArray, FloatArray]) -> Row:
    value, low, high, _ = joined.reliance(metric_named(alone.metric), *pair)
    row = replace(alone, metric=RELIANCE, value=value, low=low, high=high, baseline=control)
    return replace(
        row,
        prior=None,
        question_only=None,
        option_shuffle=None,
        spread=None,
        wordings=1,
        wording_spread=None,
        wording_least=None,
        wording_most=None,
    )
