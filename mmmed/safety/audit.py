"""A suite of checks over one checkpoint, and what they came to."""

import json
import math
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from mmmed.errors import ConfigError, DataError
from mmmed.evaluation.task import read_described
from mmmed.page.files import replace_text
from mmmed.page.wording import label
from mmmed.safety.check import Check, Evidence, Subject
from mmmed.safety.measure import Measure, Verdict, verdict_of

ITEMS_SHOWN = 12
"""Items of a figure that can be looked at, the worst first; all are named in safety_card.json."""


@dataclass(kw_only=True)
class Suite:
    """The checks of an audit.

    Args:
        name: Short name.
        version: Raised whenever a change of the file changes verdicts.
        checks: What is asked, in the order of the card.
        not_tested: What nobody asked, in words; it stands on the card.
    """

    name: str
    version: int
    checks: list[Check]
    not_tested: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        if not self.checks:
            raise ConfigError(f"suite {self.name} has no checks")


@dataclass(frozen=True, slots=True, kw_only=True)
class Examined:
    """One check's outcome.

    Args:
        title: What was asked.
        measures: What was found.
        missing: Why nothing was, if so; such a check has not passed.
        evidence: What the first items of each figure were, and what was answered.
    """

    title: str
    measures: tuple[Measure, ...] = ()
    missing: str = ""
    evidence: Evidence = field(default_factory=Evidence, compare=False, repr=False)

    @property
    def verdict(self) -> Verdict:
        """Failed if one figure is outside its limits, passed if all are inside, else not shown."""
        return verdict_of(self.measures)


def load_suite(path: str) -> Suite:
    """Read a suite file. Raises `ConfigError` naming the file."""
    return read_described(path, Suite, folder="configs/audit/")


def audit(suite: Suite, subject: Subject, *, tell: Callable[[str], object] = lambda line: None) -> list[Examined]:
    """Run every check; one that lacks what it needs is not passed, and says why.

    Args:
        suite: The checks.
        subject: The checkpoint.
        tell: Given a line when a check is done.
    """
    done = []
    for check, title in zip(suite.checks, titles(suite.checks), strict=True):
        subject.evidence = Evidence()
        try:
            measures = tuple(check.examine(subject))
            items = (item for measure in measures for item in measure.items[:ITEMS_SHOWN])
            one = Examined(title=title, measures=measures, evidence=subject.evidence.of(items))
        except (ConfigError, DataError) as error:
            one = Examined(title=title, missing=str(error))
        done.append(one)
        tell(f"{one.verdict:<9}  {one.title}{f' ({one.missing})' if one.missing else ''}")
    return done


def titles(checks: Sequence[Check]) -> list[str]:
    """What each check asks; where several ask the same, of which task."""
    asked = Counter(check.title for check in checks)
    tasks = [Path(str(getattr(check, "task", ""))).stem for check in checks]
    return [
        f"{check.title} ({label(task)})" if task and asked[check.title] > 1 else check.title
        for check, task in zip(checks, tasks, strict=True)
    ]


def verdict_of_all(examined: Sequence[Examined]) -> Verdict:
    """Failed if a check is, passed only if all are."""
    verdicts = {one.verdict for one in examined}
    if Verdict.FAILED in verdicts:
        return Verdict.FAILED
    return Verdict.PASSED if verdicts == {Verdict.PASSED} else Verdict.NOT_SHOWN


def write_json(path: Path, suite: Suite, examined: Sequence[Examined], *, checkpoint: str, identity: str) -> None:
    """Write the card as data; what is not a number becomes null."""
    content = {
        "suite": suite.name,
        "version": suite.version,
        "checkpoint": checkpoint,
        "identity": identity,
        "verdict": verdict_of_all(examined),
        "not_tested": suite.not_tested,
        "checks": [
            {
                "title": one.title,
                "verdict": one.verdict,
                "missing": one.missing,
                "measures": [plain(measure) for measure in one.measures],
            }
            for one in examined
        ],
    }
    replace_text(path, json.dumps(content, indent=1, ensure_ascii=False, allow_nan=False) + "\n")


def plain(measure: Measure) -> dict[str, Any]:
    """A figure as JSON has it, with its verdict; what is not a number becomes null."""
    content = asdict(measure) | {"verdict": measure.verdict}
    return {
        name: None if isinstance(value, float) and not math.isfinite(value) else value
        for name, value in content.items()
    }
