"""From which confidence on a model may answer, so that it is wrong no more often than is stated."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from scipy.stats import binom

from mmmed.errors import CheckpointError, ConfigError
from mmmed.page.files import replace_text

FILE = "abstaining.json"
LEVELS = 10
"""Shares of answers that are tried."""
DOUBT = 0.05
"""Chance with which the stated risk may be exceeded for all that."""
NEVER = 2.0
"""A confidence that no answer has."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Abstaining:
    """A threshold of confidence, and what it was fitted to.

    Args:
        threshold: Least confidence with which an answer stands; 2 where none may.
        risk: Share of wrong answers, on average over patients, that is not exceeded in 19 fits out of 20.
        coverage: Share of the questions of the fit that are still answered.
        patients: How many it was fitted on.
        task: On whose validation split.
        identity: Digest of the model, so that it is not used with another.
    """

    threshold: float
    risk: float
    coverage: float
    patients: int
    task: str
    identity: str

    def is_silent(self, confidence: float | None) -> bool:
        """Whether an answer of this confidence is withheld; one of no known confidence is."""
        return confidence is None or confidence < self.threshold

    def write(self, folder: Path) -> Path:
        """Keep it beside the model. Raises `OutputError`."""
        path = folder / FILE
        replace_text(path, json.dumps(asdict(self), indent=1) + "\n")
        return path


def read_abstaining(folder: Path) -> Abstaining | None:
    """What is kept beside a model, if anything is.

    Raises:
        CheckpointError: The file is damaged; a model that should abstain is not opened without.
    """
    path = folder / FILE
    if not path.is_file():
        return None
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        found = Abstaining(**content)
        if not math.isfinite(found.threshold):
            raise ValueError("the threshold is no number")
    except (OSError, ValueError, TypeError) as error:
        raise CheckpointError(f"{path}: {error}; make it again with `mmmed abstain`, or delete it") from error
    return found


def fit_abstaining(
    sure: Sequence[float],
    right: Sequence[bool],
    patients: Sequence[str],
    *,
    risk: float,
    task: str,
    identity: str,
) -> Abstaining:
    """The lowest threshold at which the stated risk is kept, with the doubt shared among all that are tried.

    Args:
        sure: Confidence in each answer.
        right: Whether it was.
        patients: Whom it is about.
        risk: Share of wrong answers among those given, on average over patients.
        task: Whose questions these are.
        identity: Digest of the model.

    Raises:
        ConfigError: The risk is no share.

    Source: Angelopoulos et al. 2021, Learn then Test, sections 2 and 3 (fixed thresholds, each tested at its part of
    the doubt); the p-value is that of Bates et al. 2021, J. ACM 68(6):43, section 3.1.3 (Hoeffding and Bentkus).
    """
    if not 0 < risk < 1:
        raise ConfigError(f"risk is {risk}; expected a share between 0 and 1, such as 0.1")
    sure_N = np.asarray(sure, dtype=np.float64)
    wrong_N = 1.0 - np.asarray(right, dtype=np.float64)
    order = sorted(set(patients))
    patient_N = np.searchsorted(order, patients)
    threshold, coverage = NEVER, 0.0
    for share in np.arange(1, LEVELS + 1) / LEVELS:
        level = float(np.quantile(sure_N, 1 - share, method="lower")) if share < 1 else 0.0
        kept_N = sure_N >= level
        means_P = _mean_of_each(wrong_N[kept_N], patient_N[kept_N], len(order))
        if _p_value(float(means_P.mean()), len(means_P), risk=risk) <= DOUBT / LEVELS:
            threshold, coverage = level, float(kept_N.mean())
    return Abstaining(
        threshold=threshold, risk=risk, coverage=coverage, patients=len(order), task=task, identity=identity
    )


def _mean_of_each(wrong_N: NDArray[np.float64], patient_N: NDArray[np.int_], patients: int) -> NDArray[np.float64]:
    """The share of wrong answers of each patient that has any."""
    counts_P = np.bincount(patient_N, minlength=patients)
    sums_P = np.bincount(patient_N, weights=wrong_N, minlength=patients)
    means_P: NDArray[np.float64] = sums_P[counts_P > 0] / counts_P[counts_P > 0]
    return means_P


def _p_value(mean: float, n: int, *, risk: float) -> float:
    """How likely so small a mean of n values in [0, 1] is where the true one is above the risk."""
    if mean >= risk:
        return 1.0
    part = mean * math.log(mean / risk) if mean > 0 else 0.0
    distance = part + (1 - mean) * math.log((1 - mean) / (1 - risk))
    return min(math.exp(-n * distance), math.e * float(binom.cdf(math.ceil(n * mean), n, risk)))
