"""What a generated report gets right of the findings in the reference: precision, recall and F1 by finding.

Both texts are read by the same labeller, that of `processing.findings` unless another is given; a finding counts where
it is stated, not where it is denied or left open.

Legend of array names: P items (or patients, after summing), F findings.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Protocol

import numpy as np

from mmmed.evaluation.metrics.tally import FloatArray, Judged, mean_of_defined
from mmmed.processing.findings.labeller import OBSERVATIONS, Status, chest_labeller

Figure = Callable[[FloatArray, FloatArray, FloatArray], FloatArray]


class FindingReader(Protocol):
    """Says which of the fourteen observations texts state."""

    def stated(self, texts: Sequence[str]) -> FloatArray:
        """0 or 1 for each text and observation, (P, F), in the order of `OBSERVATIONS`."""
        ...


class Rules:
    """The reader by rules."""

    def stated(self, texts: Sequence[str]) -> FloatArray:
        """What each text states."""
        return np.array([stated(text) for text in texts], dtype=np.float64).reshape(len(texts), len(OBSERVATIONS))


@dataclass(frozen=True, slots=True)
class FindingMetric:
    """A figure of hits, findings said and findings wanted.

    Args:
        figure: From the three counts to the figure.
        average: `micro` over all findings at once, `macro` over the findings' own figures, or one observation's name.
        reader: Who reads both texts.
    """

    figure: Figure
    average: str = "micro"
    reader: FindingReader = field(default_factory=Rules)

    def tally(self, items: Sequence[Judged], classes: Sequence[str]) -> FloatArray:
        """Hits, said and wanted of each of the fourteen observations, (P, 3 F)."""
        said_PF = self.reader.stated([item.answer or "" for item in items])
        wanted_PF = self.reader.stated([item.reference for item in items])
        return np.hstack([said_PF * wanted_PF, said_PF, wanted_PF])

    def value(self, totals: FloatArray) -> FloatArray:
        counts = np.split(totals, 3, axis=-1)
        if self.average == "micro":
            hits, said, wanted = (count.sum(axis=-1) for count in counts)
            return self.figure(hits, said, wanted)
        each = self.figure(*counts)
        if self.average == "macro":
            return mean_of_defined(each)
        one: FloatArray = each[..., OBSERVATIONS.index(self.average)]
        return one

    def support(self, tallies: FloatArray) -> int:
        has_PF = np.split(tallies, 3, axis=-1)[2] > 0
        if self.average == "micro":
            return int(has_PF.any(axis=1).sum())
        patients = has_PF.sum(axis=0)
        if self.average == "macro":
            return int(min(patients[patients > 0], default=0))
        return int(patients[OBSERVATIONS.index(self.average)])


@lru_cache(maxsize=100_000)
def stated(text: str) -> tuple[bool, ...]:
    """Which of the fourteen observations a text states."""
    return tuple(status == Status.STATED for status in chest_labeller().observations(text).values())
