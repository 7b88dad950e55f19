"""The fourteen observations that the CheXpert, CheXbert and NegBio labellers give a chest film."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal, NamedTuple

from mmmed.errors import RecordError
from mmmed.processing.findings.labeller import OBSERVATIONS

Meaning = Literal["yes", "no", "leave out"]

_MARKS = {"1": "yes", "1.0": "yes", "0": "no", "0.0": "no", "-1": "uncertain", "-1.0": "uncertain", "": "blank"}


class Truths(NamedTuple):
    """What is known of a film: the observations that are there, and all about which the labels say yes or no."""

    present: tuple[str, ...]
    known: tuple[str, ...]


# Without slots: the parser of configurations reads the default's values from its __dict__.
@dataclass(frozen=True, kw_only=True)
class ObservationLabels:
    """What is made of labels that say neither yes nor no.

    An uncertain label is left out by default, since neither answer to it is right. A blank one (the report does not
    mention it) counts as absent, as it does in most published work; without this, "No Finding" would never be "no".

    Args:
        uncertain: What -1 stands for.
        blank: What an empty cell stands for.

    Source: Irvin et al., CheXpert (AAAI 2019), section "Uncertainty Approaches": U-Ignore, U-Zeros, U-Ones.
    """

    uncertain: Meaning = "leave out"
    blank: Meaning = "no"

    def read(self, marks: Mapping[str, str]) -> Truths:
        """Read the labels of one film or study.

        Args:
            marks: Cell by observation: 1, 0, -1 or nothing.

        Raises:
            RecordError: A label is none of these, or an observation has none.
        """
        said = {observation: self._meaning(observation, marks) for observation in OBSERVATIONS}
        return Truths(
            tuple(observation for observation in OBSERVATIONS if said[observation] == "yes"),
            tuple(observation for observation in OBSERVATIONS if said[observation] != "leave out"),
        )

    def _meaning(self, observation: str, marks: Mapping[str, str]) -> str:
        mark = _MARKS.get(marks.get(observation, "?"))
        if mark is None:
            raise RecordError(f"{observation!r} is {marks.get(observation)!r}; expected 1, 0, -1 or nothing")
        return {"uncertain": self.uncertain, "blank": self.blank}.get(mark, mark)


DEFAULT_LABELS = ObservationLabels()
