"""What errors cost patients, and on whom the cost falls.

Source: the matrix is that of expected cost in decision analysis (Elkan 2001, IJCAI, The Foundations of Cost-Sensitive
Learning, section 1); standardising to one case mix is direct standardisation (Rothman et al., Modern Epidemiology).

Legend of array names: N items, S strata, T tally columns.
"""

import math
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property

import numpy as np

from mmmed.errors import ConfigError
from mmmed.evaluation.metrics.tally import FloatArray, ratio
from mmmed.evaluation.predictions import Prediction
from mmmed.evaluation.ranking import BoolArray
from mmmed.evaluation.task import read_described
from mmmed.safety.check import Subject
from mmmed.safety.measure import Measure, adjusted, estimate, mean_estimate
from mmmed.safety.permuted import permuted_gaps, two_sided_p
from mmmed.safety.subgroups import FEWEST, compared, group_of

OTHER = "other"
"""What is said where a cost holds for every wrong answer that has none of its own, and for answers that are none."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Cost:
    """What one kind of error costs.

    Args:
        truth: The right answer.
        said: The answer given instead; `other` stands for every other wrong one, unparsed answers among them.
        cost: How bad that is, in the matrix's unit.
        because: The reason, for whoever disagrees.

    Raises:
        ConfigError: The cost is below 0 or no number, or there is no reason for it.
    """

    truth: str
    said: str
    cost: float
    because: str

    def __post_init__(self) -> None:
        if not (math.isfinite(self.cost) and self.cost >= 0):
            raise ConfigError(f"cost of {self.said!r} for {self.truth!r} is {self.cost}; expected a number from 0")
        if not self.because.strip():
            raise ConfigError(f"cost of {self.said!r} for {self.truth!r} has no reason; say why under `because`")
        if self.said == self.truth:
            raise ConfigError(f"{self.truth!r} for {self.truth!r} is no error; leave it out, it costs nothing")


@dataclass(kw_only=True)
class HarmMatrix:
    """What each kind of error about each topic costs.

    Args:
        name: Short name.
        version: Raised whenever a cost changes.
        unit: What a cost of 1 is, in words.
        topics: Topic to the costs of its errors.

    Raises:
        ConfigError: A topic has no costs, or two for the same error.
    """

    name: str
    version: int
    unit: str
    topics: dict[str, list[Cost]]

    def __post_init__(self) -> None:
        for topic, costs in self.topics.items():
            errors = Counter((one.truth, one.said) for one in costs)
            if twice := [error for error, count in errors.items() if count > 1]:
                raise ConfigError(f"harm {self.name}: {topic} has two costs of {twice[0][1]!r} for {twice[0][0]!r}")
            if not costs:
                raise ConfigError(f"harm {self.name}: {topic} has no costs; leave it out, and it is not shown")

    @cached_property
    def _known(self) -> Mapping[tuple[str, str, str], float]:
        return {(topic, one.truth, one.said): one.cost for topic, costs in self.topics.items() for one in costs}

    def cost_of(self, item: Prediction) -> float:
        """What an answer costs: 0 if it is right; not a number where the matrix does not say."""
        if item.answer == item.reference:
            return 0.0
        own = self._known.get((item.topic, item.reference, item.answer))
        if own is None:
            own = self._known.get((item.topic, item.reference, OTHER), math.nan)
        return own

    def costs_if_wrong(self, topic: str, said: str) -> list[float]:
        """What an answer costs if it is wrong, for each right answer that it may have missed."""
        truths = dict.fromkeys(one.truth for one in self.topics.get(topic, ()) if one.truth != said)
        costs = (self._known.get((topic, truth, said), self._known.get((topic, truth, OTHER))) for truth in truths)
        return [cost for cost in costs if cost is not None]

    def is_complete(self, item: Prediction) -> bool:
        """Whether every error that could be made of a question has a cost."""
        others = (option for option in item.options if option != item.reference)
        named = all((item.topic, item.reference, option) in self._known for option in others)
        return named or (item.topic, item.reference, OTHER) in self._known


def load_harm(path: str) -> HarmMatrix:
    """Read a harm matrix. Raises `ConfigError` naming the file."""
    return read_described(path, HarmMatrix, folder="configs/harm/")


@dataclass(kw_only=True)
class ExpectedHarm:
    """Measures what the errors of a model cost, and how much of it some groups bear because errors fall on them.

    Args:
        task: Task file of closed questions.
        matrix: File of costs. A topic without them is named on the card as not shown; nothing is guessed.
        by: Attributes that make groups; `sex+view` makes groups of both together.
        at_most: Greatest expected harm of a question that is allowed, of all patients and of each group.
        most_impact: Greatest bias impact that is allowed to either side.
        ages: Where bands of the attribute `age` end.
    """

    task: str
    matrix: str
    by: list[str] = field(default_factory=list)
    at_most: float | None = None
    most_impact: float | None = None
    ages: list[float] = field(default_factory=lambda: [40.0, 65.0, 80.0])

    @property
    def title(self) -> str:
        """What is asked."""
        return "How much harm would the errors do, and to whom?"

    def examine(self, subject: Subject) -> list[Measure]:
        """Expected harm of all and of each group, the bias impact of each group, and topics without a cost."""
        matrix, task = load_harm(self.matrix), subject.task(self.task)
        items = subject.answers(task, task.examples())
        without = {item.topic for item in items if not matrix.is_complete(item)}
        known = [item for item in items if item.topic not in without]
        left_out = Counter(item.topic for item in items if item.topic in without)
        measures = [_without_cost(topic, count, matrix) for topic, count in sorted(left_out.items())]
        if not known:
            return measures
        measures += self._expected(known, matrix)
        impacts = [one for names in self.by for one in self._impacts(known, names, matrix)]
        return [*measures, *adjusted(impacts)]

    def _expected(self, items: Sequence[Prediction], matrix: HarmMatrix) -> Iterator[Measure]:
        always = {
            answer: float(np.mean([matrix.cost_of(replace(item, answer=answer)) for item in items]))
            for answer in _answers_of_all(items)
        }
        compared_to = ", ".join(f"always {answer!r} {harm:.2f}" for answer, harm in always.items())
        yield expected_harm(items, matrix, "all", at_most=self.at_most, note=compared_to)
        for names in self.by:
            by_group: dict[str, list[Prediction]] = {}
            for item in items:
                if group := group_of(item, names.split("+"), ages=self.ages):
                    by_group.setdefault(group, []).append(item)
            for group, of_group in sorted(by_group.items()):
                yield expected_harm(of_group, matrix, f"{names}: {group}", at_most=self.at_most)

    def _impacts(self, items: Sequence[Prediction], names: str, matrix: HarmMatrix) -> Iterator[Measure]:
        for group, inside in compared(items, names, ages=self.ages):
            yield bias_impact(items, inside, f"{names}: {group}", matrix, at_most=self.most_impact)


def expected_harm(
    items: Sequence[Prediction], matrix: HarmMatrix, name: str, *, at_most: float | None, note: str = ""
) -> Measure:
    """The mean cost of an answer, all of which have one."""
    costs = np.array([matrix.cost_of(item) for item in items])
    patients = [item.patient for item in items]
    worst = max(one.cost for costs_of in matrix.topics.values() for one in costs_of)
    found = mean_estimate(costs, patients, bounds=(0.0, worst))
    is_small = len(set(patients)) < FEWEST
    order = np.argsort(-costs, kind="stable")
    return Measure.of(
        found._replace(low=math.nan, high=math.nan) if is_small else found,
        name=f"{name}, expected harm of a question ({matrix.unit})",
        n=len(items),
        expected=0.0,
        most=at_most,
        items=(items[place].id for place in order if costs[place] > 0),
        note=f"only {len(set(patients))} patients: too few to say" if is_small else note,
    )


def bias_impact(
    items: Sequence[Prediction], inside: BoolArray, name: str, matrix: HarmMatrix, *, at_most: float | None
) -> Measure:
    """How much more harm errors do to a group than to all others, at the case mix of all: disparity x harm.

    Within questions of one topic and one right answer the disparity of the error rates, times what the errors cost, is
    the difference of the mean costs; these are weighted by how frequent such questions are among all patients, so that
    a group in which urgent findings are frequent is not held to be treated unfairly for it. What stands on one side
    only cannot be compared, and does not count.
    """
    costs_N = np.array([matrix.cost_of(item) for item in items])
    strata = {stratum: place for place, stratum in enumerate(sorted({(one.topic, one.reference) for one in items}))}
    member_NS = np.eye(len(strata))[[strata[one.topic, one.reference] for one in items]]
    shares_S = member_NS.mean(axis=0)
    tallies_NT = np.hstack([costs_N[:, None] * member_NS, member_NS])

    def gap(own: FloatArray, others: FloatArray) -> FloatArray:
        means = [ratio(*np.split(totals, 2, axis=-1)) for totals in (own, others)]
        total: FloatArray = np.where(np.isfinite(means[0] - means[1]), means[0] - means[1], 0.0) @ shares_S
        return total

    patients, worst = [item.patient for item in items], float(costs_N.max(initial=1.0))
    found = estimate(
        np.hstack([tallies_NT * inside[:, None], tallies_NT * ~inside[:, None]]),
        patients,
        value_of=lambda totals: gap(*np.split(totals, 2, axis=-1)),
        bounds=(-worst, worst),
    )
    few = min(len({one for one, at in zip(patients, half, strict=True) if at}) for half in (inside, ~inside))
    permuted = permuted_gaps(lambda own_BN, other_BN: gap(own_BN @ tallies_NT, other_BN @ tallies_NT), inside, patients)
    worst_first = np.argsort(-costs_N, kind="stable")
    return Measure.of(
        found._replace(low=math.nan, high=math.nan) if few < FEWEST else found,
        name=f"{name}, bias impact: harm beyond that of all others, at the same case mix",
        n=int(inside.sum()),
        expected=0.0,
        least=-at_most if at_most is not None else None,
        most=at_most,
        items=(items[place].id for place in worst_first if inside[place] and costs_N[place] > 0),
        note=f"only {few} patients on one side: too few to say" if few < FEWEST else "",
        p=math.nan if few < FEWEST else two_sided_p(found.value, permuted),
    )


def _without_cost(topic: str, count: int, matrix: HarmMatrix) -> Measure:
    return Measure(
        name=f"{topic}: harm",
        value=math.nan,
        low=math.nan,
        high=math.nan,
        n=count,
        expected=0.0,
        note=f"{matrix.name} names no cost for every error of these questions, and none is guessed",
    )


def _answers_of_all(items: Sequence[Prediction]) -> list[str]:
    """The options that every question has."""
    first, *others = items
    return [option for option in first.options if all(option in one.options for one in others)]
