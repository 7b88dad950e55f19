"""How often 95 % intervals hold the true figure, by method and number of patients.

    python benchmarks/interval_coverage.py

1,000 simulated experiments for each line, one to eight questions a patient, whose chances of a right answer hang
together; 2,000 resamples each. The methods: the plain percentile interval, BCa, and BCa with quantiles of Student's t,
which is used.
"""

import json
import sys
from pathlib import Path

import numpy as np
from scipy.special import expit, ndtri

from mmmed.evaluation.metrics.catalogue import METRICS
from mmmed.evaluation.statistics import bca_limits, drawn_totals, patient_weights, widened_z

SIMULATIONS = 1000
DRAWS = 2000
ACCURACY = METRICS["accuracy"]
RESULTS = Path(__file__).parent / "results" / "interval_coverage.json"


def simulated(generator: np.random.Generator, *, patients: int, ease: float) -> np.ndarray:
    items = generator.integers(1, 9, patients)
    chance = expit(ease + 0.8 * generator.normal(size=patients))
    return np.stack([generator.binomial(items, chance), items], axis=1).astype(float)


def coverage(*, patients: int, ease: float) -> dict[str, float]:
    generator = np.random.default_rng(patients)
    truth = float(expit(ease + 0.8 * generator.normal(size=4_000_000)).mean())
    weights = patient_weights(patients, draws=DRAWS, seed=0)
    held = dict.fromkeys(("percentile", "bca", "bca_t"), 0)
    for _ in range(SIMULATIONS):
        tallies = simulated(generator, patients=patients, ease=ease)
        total = tallies.sum(0)
        value, drawn = float(ACCURACY.value(total)), ACCURACY.value(drawn_totals(weights, tallies))
        left_out = ACCURACY.value(total - tallies)
        limits = {
            "percentile": np.quantile(drawn, [0.025, 0.975]),
            "bca": bca_limits(value, drawn, left_out=left_out, z=float(ndtri(0.975))),
            "bca_t": bca_limits(value, drawn, left_out=left_out, z=widened_z(patients)),
        }
        for method, (low, high) in limits.items():
            held[method] += bool(low <= truth <= high)
    return {"true_accuracy": round(truth, 3)} | {name: round(100 * n / SIMULATIONS, 1) for name, n in held.items()}


def main() -> int:
    results = [
        {"patients": patients} | coverage(patients=patients, ease=ease)
        for ease in (0.85, 2.5)
        for patients in (10, 20, 40, 100)
    ]
    RESULTS.parent.mkdir(exist_ok=True)
    RESULTS.write_text(json.dumps(results, indent=1) + "\n", encoding="utf-8")
    for line in results:
        print(line)
    return 0


if __name__ == "__main__":
    sys.exit(main())
