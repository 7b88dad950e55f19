"""Whether a model's confidence means what it says, and what is gained by letting it abstain.

Legend of array names: N items, K bins, T tally columns.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import minimize_scalar

from mmmed.errors import ConfigError, DataError
from mmmed.evaluation.metrics.tally import FloatArray, ratio
from mmmed.evaluation.predictions import Prediction
from mmmed.evaluation.statistics import Estimate
from mmmed.evaluation.task import Task
from mmmed.safety.check import Subject
from mmmed.safety.measure import Measure, estimate
from mmmed.safety.subgroups import group_of

Binning = Literal["width", "mass"]


class Confidence(NamedTuple):
    """What a model said of closed questions: how sure it was, whether it was right, and of whom."""

    sure: FloatArray
    right: FloatArray
    patients: tuple[str, ...]


@dataclass(kw_only=True)
class Calibration:
    """Measures expected calibration error and Brier score, and the error that is left after temperature scaling.

    The temperature is fitted on another split, never on what is judged.

    Args:
        task: Task file of closed questions.
        at_most: Greatest expected calibration error that is allowed, before scaling.
        bins: How many.
        fitted_on: Split that the temperature is fitted on.

    Source: Guo et al. 2017, ICML, On Calibration of Modern Neural Networks, sections 2 and 4.2.
    """

    task: str
    at_most: float | None = None
    bins: int = 10
    fitted_on: Literal["train", "validation"] = "validation"

    @property
    def title(self) -> str:
        """What is asked."""
        return "Is the model right as often as it says?"

    def examine(self, subject: Subject) -> list[Measure]:
        """Both kinds of bins and the Brier score, as asked; then the first again at the fitted temperature."""
        task = subject.task(self.task)
        items = answered(subject, task)
        held_out = answered(subject, replace(task, split=self.fitted_on))
        degrees = fitted_temperature(held_out)
        said, cooled = confidence_of(items), confidence_of(items, temperature=degrees)
        worst = _most_wrongly_sure(items)
        rows: list[tuple[str, Estimate, float | None, str]] = [
            (
                "expected calibration error, bins of equal width",
                calibration_error(said, self.bins, "width"),
                self.at_most,
                "",
            ),
            (
                "expected calibration error, bins of equal mass",
                calibration_error(said, self.bins, "mass"),
                self.at_most,
                "",
            ),
            ("Brier score of the answer given", brier(said), 0.25, "0.25 is that of always saying one half"),
        ]
        scaled = calibration_error(cooled, self.bins, "width")
        measures = [
            Measure(
                name=name,
                value=one.value,
                low=one.low,
                high=one.high,
                n=len(items),
                expected=0.0,
                most=most,
                items=worst,
                note=note,
            )
            for name, one, most, note in rows
        ]
        return [
            *measures,
            Measure(
                name="expected calibration error after temperature scaling",
                value=scaled.value,
                low=scaled.low,
                high=scaled.high,
                n=len(items),
                expected=0.0,
                most=self.at_most,
                note=f"temperature {degrees:.2f}, fitted on {len(held_out)} questions of {self.fitted_on}",
            ),
        ]


@dataclass(kw_only=True)
class Abstention:
    """Measures how often the answers are wrong that are left when the least sure ones are withheld.

    Args:
        task: Task file of closed questions.
        coverage: Share of questions that is still answered.
        at_most: Greatest share of wrong answers among those.

    Source: El-Yaniv & Wiener 2010, J. Mach. Learn. Res. 11:1605-1641 (risk and coverage).
    """

    task: str
    coverage: float = 0.8
    at_most: float | None = None

    def __post_init__(self) -> None:
        if not 0 < self.coverage <= 1:
            raise ConfigError(f"coverage is {self.coverage}; expected a share above 0, up to 1")

    @property
    def title(self) -> str:
        """What is asked."""
        return "Does the model know when to be silent?"

    def examine(self, subject: Subject) -> list[Measure]:
        """The risk at full coverage, at the given one, and the area under the risk-coverage curve."""
        task = subject.task(self.task)
        items = answered(subject, task)
        said = confidence_of(items)
        kept = kept_at(said, self.coverage)
        error = 1.0 - said.right
        whole = estimate(_mean(error, np.ones(len(error))), said.patients, value_of=_ratio)
        left = estimate(_mean(error * kept, kept), said.patients, value_of=_ratio)
        wrong = [item.id for item, is_kept, bad in zip(items, kept, error, strict=True) if is_kept and bad]
        return [
            Measure(
                name=f"wrong among the {self.coverage:.0%} of which it is surest",
                value=left.value,
                low=left.low,
                high=left.high,
                n=int(kept.sum()),
                expected=whole.value,
                most=self.at_most,
                items=tuple(wrong),
                note=f"of all answers {whole.value:.3f} ({whole.low:.3f} to {whole.high:.3f}) are wrong; "
                f"area under the risk-coverage curve {risk_area(said):.3f}",
            )
        ]


@dataclass(kw_only=True)
class Conformal:
    """Measures how often the set of answers that is not ruled out holds the right one, also by group.

    Args:
        task: Task file of closed questions.
        miss: How often the set may lack the right answer.
        slack: How much more often, by chance of the calibration questions.
        by: Attributes whose groups are judged apart.
        fitted_on: Split that the threshold is found on.
        ages: Where bands of the attribute `age` end.

    Source: Angelopoulos & Bates 2023, Found. Trends Mach. Learn. 16:494-591, section 1.1 (split conformal prediction).
    """

    task: str
    miss: float = 0.1
    slack: float | None = None
    by: list[str] = field(default_factory=list)
    fitted_on: Literal["train", "validation"] = "validation"
    ages: list[float] = field(default_factory=lambda: [40.0, 65.0, 80.0])

    @property
    def title(self) -> str:
        """What is asked."""
        return f"Do answer sets hold the right answer {1 - self.miss:.0%} of the time, for everyone?"

    def examine(self, subject: Subject) -> list[Measure]:
        """Coverage of all and of each group."""
        task = subject.task(self.task)
        items = answered(subject, task)
        threshold = conformal_threshold(answered(subject, replace(task, split=self.fitted_on)), miss=self.miss)
        size = float(np.mean([len(answer_set(item.options, threshold)) for item in items]))
        parts = {"all": items}
        for name in self.by:
            for item in items:
                if group := group_of(item, name.split("+"), ages=self.ages):
                    parts.setdefault(f"{name}: {group}", []).append(item)
        return [self._measure(name, part, threshold, size if name == "all" else None) for name, part in parts.items()]

    def _measure(self, name: str, items: Sequence[Prediction], threshold: float, size: float | None) -> Measure:
        covered = np.array([float(item.reference in answer_set(item.options, threshold)) for item in items])
        found = estimate(_mean(covered, np.ones(len(covered))), [item.patient for item in items], value_of=_ratio)
        return Measure(
            name=f"{name}: sets that hold the right answer",
            value=found.value,
            low=found.low,
            high=found.high,
            n=len(items),
            expected=1 - self.miss,
            least=1 - self.miss - self.slack if self.slack is not None else None,
            items=tuple(item.id for item, one in zip(items, covered, strict=True) if not one),
            note=f"{size:.2f} answers in a set on average" if size is not None else "",
        )


def answered(subject: Subject, task: Task) -> list[Prediction]:
    """The answers to a task's closed questions.

    Raises:
        DataError: A question is open, and so has no probabilities of options.
    """
    items = subject.answers(task, task.examples())
    if not all(item.options for item in items):
        raise DataError(
            f"task {task.name}: confidence needs closed questions; choose a task whose questions have options"
        )
    return items


def confidence_of(items: Sequence[Prediction], *, temperature: float = 1.0) -> Confidence:
    """Confidence in the answer given and whether it was right, at a temperature."""
    sure = []
    for item in items:
        scaled = _scaled(item.options, temperature)
        sure.append(scaled.get(item.answer, 0.0))
    right = [float(item.answer == item.reference) for item in items]
    return Confidence(np.array(sure), np.array(right), tuple(item.patient for item in items))


def fitted_temperature(items: Sequence[Prediction]) -> float:
    """The temperature at which the right answers of these items are likeliest, between 0.05 and 20."""

    def loss(log_temperature: float) -> float:
        degrees = math.exp(log_temperature)
        return -sum(math.log(max(_scaled(item.options, degrees).get(item.reference, 0.0), 1e-12)) for item in items)

    return math.exp(float(minimize_scalar(loss, bounds=(math.log(0.05), math.log(20.0)), method="bounded").x))


def _scaled(options: "dict[str, float]", temperature: float) -> dict[str, float]:
    logits = np.log(np.clip(list(options.values()), 1e-30, None)) / temperature
    shares = np.exp(logits - logits.max())
    return dict(zip(options, (shares / shares.sum()).tolist(), strict=True))


def calibration_error(said: Confidence, bins: int, binning: Binning) -> Estimate:
    """Mean distance of accuracy from confidence over bins, weighted by their items.

    Bins of equal mass are cut at quantiles of all items, and stay as they are in resamples.
    """
    inner = np.linspace(0, 1, bins + 1)[1:-1]
    edges = inner if binning == "width" else np.quantile(said.sure, inner)
    bin_N = np.digitize(said.sure, edges)
    member_NK = np.eye(bins)[bin_N]
    tallies = np.hstack([member_NK * said.sure[:, None], member_NK * said.right[:, None], member_NK])

    def error(totals: FloatArray) -> FloatArray:
        sure, right, count = np.split(totals, 3, axis=-1)
        distance: FloatArray = np.abs(sure - right).sum(axis=-1)
        return ratio(distance, count.sum(axis=-1))

    return estimate(tallies, said.patients, value_of=error)


def brier(said: Confidence) -> Estimate:
    """Mean squared distance of the confidence in the answer given from whether it was right."""
    return estimate(_mean((said.sure - said.right) ** 2, np.ones(len(said.sure))), said.patients, value_of=_ratio)


def kept_at(said: Confidence, coverage: float) -> NDArray[np.float64]:
    """Which items are still answered (1) when only the surest share is; ties at the edge are kept together."""
    threshold = np.quantile(said.sure, 1 - coverage, method="lower") if coverage < 1 else -math.inf
    return (said.sure >= threshold).astype(np.float64)


def risk_area(said: Confidence) -> float:
    """Mean over all coverages of the share of wrong answers among the surest."""
    order = np.argsort(-said.sure, kind="stable")
    wrong = np.cumsum(1.0 - said.right[order])
    return float(np.mean(wrong / np.arange(1, len(wrong) + 1)))


def conformal_threshold(items: Sequence[Prediction], *, miss: float) -> float:
    """Least probability with which an option stays in the answer set; 0 where there are too few items for one."""
    shares = sorted(item.options.get(item.reference, 0.0) for item in items)
    allowed = math.floor((len(shares) + 1) * miss)
    return shares[allowed - 1] if allowed >= 1 else 0.0


def answer_set(options: "dict[str, float]", threshold: float) -> list[str]:
    """The options that are not ruled out."""
    return [option for option, share in options.items() if share >= threshold]


def _most_wrongly_sure(items: Sequence[Prediction]) -> tuple[str, ...]:
    wrong = [item for item in items if item.answer != item.reference]
    return tuple(item.id for item in sorted(wrong, key=lambda item: -(item.confidence or 0.0)))


def _mean(part: FloatArray, counts: FloatArray) -> FloatArray:
    return np.stack([part, counts], axis=1)


def _ratio(totals: FloatArray) -> FloatArray:
    return ratio(totals[..., 0], totals[..., 1])
