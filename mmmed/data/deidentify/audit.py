"""What was removed, where and by which rule; never what it was."""

import contextlib
import json
import os
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from mmmed.data.deidentify.entities import Finding
from mmmed.errors import OutputError


@dataclass
class Audit:
    """Redactions of a run, by record.

    Attributes:
        lines: One for each redaction: record (a code), place in the record, offsets in the original, kind, rule.
        checked: How many texts, pictures and records were looked at, by source.
    """

    lines: list[dict[str, Any]] = field(default_factory=list)
    checked: Counter[str] = field(default_factory=Counter)
    _pictures: set[str] = field(default_factory=set)

    def text(self, findings: Iterable[Finding], *, source: str, record: str, place: str) -> None:
        """Note what was replaced in one text."""
        self.checked[f"{source} texts"] += 1
        self.lines.extend(
            {
                "source": source,
                "record": record,
                "place": place,
                "start": one.start,
                "end": one.end,
                "kind": one.kind,
                "rule": one.rule,
            }
            for one in findings
        )

    def value(self, *, source: str, record: str, place: str, kind: str, rule: str) -> None:
        """Note that a whole value, such as a header's or an attribute's, was replaced or removed."""
        self.lines.append({"source": source, "record": record, "place": place, "kind": kind, "rule": rule})

    def picture(self, boxes: Iterable[tuple[int, int, int, int]], *, picture: str, rule: str) -> None:
        """Note what was masked in a picture, which is named by the hash of its pixels; a picture is noted once."""
        if picture in self._pictures:
            return
        self._pictures.add(picture)
        self.checked["pictures"] += 1
        for left, top, right, bottom in boxes:
            box = [left, top, right, bottom]
            self.lines.append({"picture": picture, "box": box, "kind": "burned_in_text", "rule": rule})

    def summary(self) -> dict[str, Any]:
        """Counts of what was looked at, and of redactions by kind and by rule."""
        return {
            "checked": dict(sorted(self.checked.items())),
            "kinds": dict(Counter(line["kind"] for line in self.lines).most_common()),
            "rules": dict(Counter(line["rule"] for line in self.lines).most_common()),
        }

    def write(self, path: Path) -> None:
        """Write the summary and then one JSON object a redaction. Raises `OutputError`."""
        partial = path.with_name(f".{path.name}.{os.getpid()}.tmp")
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            with partial.open("w", encoding="utf-8") as file:
                file.write(json.dumps({"summary": self.summary()}) + "\n")
                file.writelines(json.dumps(line) + "\n" for line in self.lines)
            partial.replace(path)
        except OSError as error:
            with contextlib.suppress(OSError):
                partial.unlink()
            raise OutputError(f"cannot write the audit {path} ({error.strerror}); choose another --output") from error
