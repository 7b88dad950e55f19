"""What is watched: each thing that a log tells of studies, as one value a study, with the test that fits it.

Legend of array names: N studies, K width of a sketch.
"""

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from mmmed.serving.monitoring import comparison
from mmmed.serving.monitoring.comparison import FloatArray
from mmmed.serving.monitoring.record import Signed, Study

Test = Callable[[FloatArray, FloatArray, np.random.Generator], float]
Shape = Literal["number", "rate", "kinds", "vectors"]

GROUPS: Mapping[str, str] = {
    "embedding": "Do pictures look to the encoder as they did?",
    "pixels": "Are brightness, contrast, noise and shape of pictures as they were?",
    "mix": "Do views and scanners come in the shares they had?",
    "answers": "Are findings, lengths, confidence and abstentions as they were?",
    "agreement": "Do those who sign agree with the model as often, in every subgroup?",
    "running": "Is the model as quick, and as free of errors?",
}

FEWEST_IN_SUBGROUP = 20


@dataclass(frozen=True, slots=True, kw_only=True)
class Signal:
    """One thing that is watched.

    Args:
        name: What, in words; unique.
        group: Of `GROUPS`; alarms are raised for groups.
        shape: A number, a rate of ones, kinds that are numbered, or vectors.
        values: One a study, (N,) or (N, K); not a number where the study has none.
        test: The p-value of a batch among those before it.
        kinds: Names of the kinds.
    """

    name: str
    group: str
    shape: Shape
    values: FloatArray
    test: Test
    kinds: tuple[str, ...] = ()

    @property
    def known(self) -> np.ndarray:
        """Which studies have a value (N,)."""
        return np.isfinite(self.values if self.values.ndim == 1 else self.values[:, 0])


def signals_of_studies(studies: Sequence[Study], *, reference: int) -> list[Signal]:
    """What studies tell, of which the first `reference` are those that the others are held against.

    Only what the reference has is watched: figures that appear later have nothing to be held against.
    """
    known = studies[:reference]
    answered = [not (one.error or one.abstained or one.unparsed) for one in studies]
    found = [*_embedding(studies, reference=reference)]
    for name in _names(one.pixels for one in known):
        values = _values(one.pixels.get(name) for one in studies)
        found.append(_signal(name, "pixels", "number", values, comparison.distribution_p))
    for name in ("view", "scanner"):
        if any(getattr(one, name) for one in known):
            found.append(_kinds(name, [getattr(one, name) for one in studies]))
    for name in _names(one.findings for one in known):
        values = _values(
            float(one.findings[name] == "stated") if name in one.findings and says else None
            for one, says in zip(studies, answered, strict=True)
        )
        found.append(_signal(f"says {name}", "answers", "rate", values, comparison.rate_p))
    numbers = {"words": "words", "confidence": "confidence"}
    for name, attribute in numbers.items():
        values = _values(getattr(one, attribute) for one in studies)
        if np.isfinite(values[:reference]).any():
            found.append(_signal(name, "answers", "number", values, comparison.distribution_p))
    for name in ("abstained", "unparsed"):
        values = _values(None if one.error else float(getattr(one, name)) for one in studies)
        found.append(_signal(name, "answers", "rate", values, comparison.rate_p))
    values = _values(one.latency for one in studies)
    if np.isfinite(values[:reference]).any():
        found.append(_signal("latency, seconds", "running", "number", values, comparison.larger_p))
    errors = _values(float(bool(one.error)) for one in studies)
    return [*found, _signal("errors", "running", "rate", errors, comparison.more_often_p)]


def signals_of_agreement(pairs: Sequence[tuple[Study, Signed]], *, reference: int) -> list[Signal]:
    """How far signed reports say what the model said: over all, and in each subgroup the reference has enough of."""
    if reference < FEWEST_IN_SUBGROUP:
        return []
    agrees = _values(agreement(study, signed) for study, signed in pairs)
    test = comparison.smaller_mean_p
    found = [_signal("agreement", "agreement", "number", agrees, test)]
    levels = dict.fromkeys(level for _, signed in pairs[:reference] for level in sorted(signed.groups.items()))
    for name, level in sorted(levels):
        inside = np.array([signed.groups.get(name) == level for _, signed in pairs])
        values = np.where(inside, agrees, math.nan)
        if np.isfinite(values[:reference]).sum() >= FEWEST_IN_SUBGROUP:
            found.append(_signal(f"agreement, {name} {level}", "agreement", "number", values, test))
    return found


def agreement(study: Study, signed: Signed) -> float | None:
    """Share of the findings both speak of that both state, or neither; none where the model answered nothing."""
    both = [name for name in signed.findings if name in study.findings]
    if study.error or study.abstained or study.unparsed or not both:
        return None
    same = sum((study.findings[name] == "stated") == (signed.findings[name] == "stated") for name in both)
    return same / len(both)


def _embedding(studies: Sequence[Study], *, reference: int) -> Iterable[Signal]:
    width = next((len(one.embedding) for one in studies[:reference] if one.embedding), 0)
    if width:
        # Another width is another encoder, which has no place among these; the share of models tells of it.
        rows = [one.embedding if len(one.embedding) == width else (math.nan,) * width for one in studies]
        values_NK = np.array(rows, dtype=np.float64)
        yield Signal(
            name="embedding",
            group="embedding",
            shape="vectors",
            values=values_NK,
            test=lambda earlier, batch, generator: comparison.domain(earlier, batch, generator).p,
        )


def _kinds(name: str, labels: Sequence[str]) -> Signal:
    kinds = tuple(dict.fromkeys(filter(None, labels)))
    numbers = {kind: float(number) for number, kind in enumerate(kinds)}
    return Signal(
        name=name,
        group="mix",
        shape="kinds",
        values=_values(numbers.get(label) for label in labels),
        test=lambda earlier, batch, generator: comparison.mix_p(
            earlier.astype(np.int64), batch.astype(np.int64), generator
        ),
        kinds=kinds,
    )


def _signal(name: str, group: str, shape: Shape, values: FloatArray, test: Test) -> Signal:
    return Signal(name=name, group=group, shape=shape, values=values, test=test)


def _values(values: Iterable[float | None]) -> FloatArray:
    return np.array([math.nan if value is None else value for value in values], dtype=np.float64)


def _names(mappings: Iterable[Mapping[str, object]]) -> list[str]:
    return sorted({name for mapping in mappings for name in mapping})
