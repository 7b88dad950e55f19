from collections.abc import Callable
from datetime import UTC, datetime, timedelta

import numpy as np
import pytest

from mmmed.serving.monitoring.record import Signed, Study

BEGUN = datetime(2026, 1, 1, tzinfo=UTC)
Make = Callable[..., list[Study]]


@pytest.fixture
def make() -> Make:
    """Makes studies of the same kind, a minute apart, from where the last call ended."""
    generator = np.random.default_rng(7)
    made = 0

    def more(
        count: int, *, shift: float = 0.0, rate: float = 0.3, scanners: str = "AB", **fixed: object
    ) -> list[Study]:
        nonlocal made
        studies = []
        for number in range(made, made + count):
            vector = generator.standard_normal(6)
            vector[0] += shift
            given: dict[str, object] = {
                "study": f"s{number}",
                "time": (BEGUN + timedelta(minutes=number)).isoformat(),
                "model": "m",
                "embedding": tuple(map(float, vector)),
                "pixels": {"mean": float(generator.random())},
                "view": "PA",
                "scanner": scanners[int(generator.integers(len(scanners)))],
                "findings": {
                    name: "stated" if generator.random() < rate else "denied" for name in ("effusion", "nodule")
                },
                "confidence": float(generator.random()),
                "latency": float(generator.random()),
            }
            studies.append(Study(**given | fixed))  # type: ignore[arg-type]
        made += count
        return studies

    return more


def sign(study: Study, *, wrong: bool = False, **groups: str) -> Signed:
    turned = {"stated": "denied", "denied": "stated"}
    findings = {name: turned[said] if wrong else said for name, said in study.findings.items()}
    return Signed(study=study.study, time=study.time, findings=findings, groups=groups)  # type: ignore[arg-type]
