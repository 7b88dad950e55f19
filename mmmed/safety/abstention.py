"""What is gained by letting a model be silent, or leave several answers open.

Legend of array names: N items.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from mmmed.errors import ConfigError, DataError
from mmmed.evaluation.predictions import Prediction
from mmmed.safety.calibration import Confidence, answered, confidence_of
from mmmed.safety.check import Subject
from mmmed.safety.measure import Measure, mean_estimate
from mmmed.safety.subgroups import group_of


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
        whole = mean_estimate(error, said.patients)
        left = mean_estimate(error, said.patients, counts_N=kept)
        wrong = [item.id for item, is_kept, bad in zip(items, kept, error, strict=True) if is_kept and bad]
        return [
            Measure.of(
                left,
                name=f"wrong among the {self.coverage:.0%} of which it is surest",
                n=int(kept.sum()),
                expected=whole.value,
                most=self.at_most,
                items=wrong,
                note=f"of all answers {whole.value:.3f} ({whole.low:.3f} to {whole.high:.3f}) are wrong; "
                f"area under the risk-coverage curve {risk_area(said):.3f}",
            )
        ]


@dataclass(kw_only=True)
class StatedRisk:
    """Measures how often a model is wrong that abstains at a stated risk (`mmmed abstain`), where it answers.

    Args:
        task: Task file of closed questions, other than those that the threshold was fitted on.
    """

    task: str

    @property
    def title(self) -> str:
        """What is asked."""
        return "Does the model keep the risk at which it says it abstains?"

    def examine(self, subject: Subject) -> list[Measure]:
        """The share of wrong answers among those given.

        Raises:
            DataError: Nobody stated a risk, or it abstains from all.
        """
        fitted = subject.session.abstaining
        if fitted is None:
            raise DataError("the model does not abstain; fit when it has to with `mmmed abstain`")
        items = answered(subject, subject.task(self.task))
        said = confidence_of(items)
        kept = (said.sure >= fitted.threshold).astype(np.float64)
        if not kept.any():
            raise DataError(f"the model abstains from all {len(items)} questions, so that nothing is known of its risk")
        error = 1.0 - said.right
        whole = mean_estimate(error, said.patients)
        return [
            Measure.of(
                mean_estimate(error, said.patients, counts_N=kept),
                name="wrong among the answers that are given",
                n=int(kept.sum()),
                expected=fitted.risk,
                most=fitted.risk,
                items=[item.id for item, shown, bad in zip(items, kept, error, strict=True) if shown and bad],
                note=f"answers {kept.mean():.0%} of them; of all answers {whole.value:.3f} ({whole.low:.3f} to "
                f"{whole.high:.3f}) are wrong",
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
        found = mean_estimate(covered, [item.patient for item in items])
        return Measure.of(
            found,
            name=f"{name}: sets that hold the right answer",
            n=len(items),
            expected=1 - self.miss,
            least=1 - self.miss - self.slack if self.slack is not None else None,
            items=(item.id for item, one in zip(items, covered, strict=True) if not one),
            note=f"{size:.2f} answers in a set on average" if size is not None else "",
        )


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
