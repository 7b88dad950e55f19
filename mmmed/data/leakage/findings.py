"""What a leakage scan reports: two things that are one, and whether they stand in two splits."""

import dataclasses
import json
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from mmmed.page.files import replace_text

Kind = Literal["patient", "study", "image", "near image", "text", "benchmark"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """Two things that are one.

    Args:
        kind: In what they are one: the patient, the study, every pixel of an image, an image but for how it was
            saved, cropped or marked, a text, or a stretch of a benchmark's text.
        first: The one, by its name or identifier.
        second: The other; the same name where one thing stands in two splits.
        splits: Where the one and the other stand; the second of a benchmark finding is the benchmark.
        sources: The data sets they come from.
        score: How sure it is: 1 for identity, else the correlation of the images or the share of the text.
    """

    kind: Kind
    first: str
    second: str
    splits: tuple[str, str]
    sources: tuple[str, str]
    score: float = 1.0

    @property
    def is_across(self) -> bool:
        """Whether it makes a split unclean; a repetition within one split is worth knowing but does no such harm."""
        return self.splits[0] != self.splits[1]


@dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    """All that a scan found, and how much it looked at.

    Args:
        findings: Those across splits first.
        looked_at: Number of examples, pictures and so on.
        unreadable: Pictures that could not be decoded, with the reason.
        settings: What was looked for, and how.
    """

    findings: Sequence[Finding]
    looked_at: Mapping[str, int]
    unreadable: Mapping[str, str] = field(default_factory=dict)
    settings: Mapping[str, Any] = field(default_factory=dict)

    @property
    def is_clean(self) -> bool:
        """Whether nothing stands in two splits."""
        return not any(finding.is_across for finding in self.findings)

    def counts(self, *, across: bool) -> dict[str, int]:
        """Findings by kind, across the splits or within them."""
        return dict(Counter(one.kind for one in self.findings if one.is_across == across))

    def as_json(self) -> dict[str, Any]:
        """The report as the JSON file holds it."""
        return {
            "clean": self.is_clean,
            "across_splits": self.counts(across=True),
            "within_splits": self.counts(across=False),
            "looked_at": dict(self.looked_at),
            "unreadable": dict(self.unreadable),
            "settings": dict(self.settings),
            "findings": [dataclasses.asdict(one) | {"score": round(one.score, 4)} for one in self.findings],
        }


def write_report(report: Report, path: Path) -> None:
    """Write a report as JSON, whole or not at all. Raises `OutputError`."""
    replace_text(path, json.dumps(report.as_json(), indent=2, ensure_ascii=False) + "\n")
