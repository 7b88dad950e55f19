"""Rows of a whole experiment: adjusted as one family, and the file they are kept in."""

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, fields, replace
from pathlib import Path
from typing import Any

from mmmed.errors import DataError
from mmmed.evaluation.compare import Row
from mmmed.evaluation.significance import holm
from mmmed.page.files import replace_text

PRIMARY_CLOSED = "balanced_accuracy"
PRIMARY_OPEN = "token_f1"
PRIMARY = "primary"
_TESTS = ("p", "p_no_worse", "p_equivalent")


def adjust(rows: Sequence[Row], *, deciding: Mapping[str, str | None] | None = None) -> list[Row]:
    """Holm-adjust the p-values of a whole experiment, once, over all tasks.

    The primary metric of each task makes one family over all tasks and baselines; each other metric makes a family of
    its own. Claims of no difference (`p_no_worse`, `p_equivalent`) are families beside those of differences.

    Args:
        rows: All of them.
        deciding: By task, the metric it declares to be decided by; where it declares none, balanced accuracy where
            that is measured, else token F1.
    """
    primary = primary_metrics(rows) | {task: metric for task, metric in (deciding or {}).items() if metric is not None}
    families: dict[tuple[str, str], list[int]] = {}
    for index, row in enumerate(rows):
        family = PRIMARY if primary.get(row.task) == row.metric else row.metric
        for test in _TESTS:
            if getattr(row, test) is not None:
                families.setdefault((family, test), []).append(index)
    adjusted = [replace(row, p_alone=row.p) for row in rows]
    changes: dict[str, Any]
    for (family, test), indices in families.items():
        for index, p in zip(indices, holm([getattr(rows[index], test) for index in indices]), strict=True):
            changes = {test: p, "family": family}
            adjusted[index] = replace(adjusted[index], **changes)
    return adjusted


def primary_metrics(rows: Sequence[Row]) -> dict[str, str]:
    """The metric each task is decided by: what its rows were adjusted as, where they were.

    Elsewhere balanced accuracy where it is measured, else token F1, else the first.
    """
    measured: dict[str, list[str]] = {}
    for row in rows:
        measured.setdefault(row.task, []).append(row.metric)
    declared = {row.task: row.metric for row in rows if row.family == PRIMARY}
    return {
        task: declared.get(task) or next((name for name in (PRIMARY_CLOSED, PRIMARY_OPEN) if name in names), names[0])
        for task, names in measured.items()
    }


def write_results(path: Path, rows: Sequence[Row]) -> None:
    """Keep rows as a JSON array, whole or not at all; what is not a number becomes null.

    Raises:
        OutputError: The folder cannot be written to.
    """
    plain = [{name: _finite(value) for name, value in asdict(row).items()} for row in rows]
    replace_text(path, json.dumps(plain, indent=1, ensure_ascii=False, allow_nan=False) + "\n")


def read_results(path: Path) -> list[Row]:
    """Rows as `write_results` left them; those of before a field was known do without it.

    Raises:
        DataError: The file cannot be read, or holds something else than rows.
    """
    known = {each.name for each in fields(Row)}
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        rows = [Row(**{name: _number(name, value) for name, value in row.items()}) for row in content]
    except (OSError, ValueError, TypeError, AttributeError) as error:
        raise DataError(
            f"{path}: {error}; expected an array of rows with the fields {', '.join(sorted(known))}"
        ) from error
    return rows


def _number(name: str, value: Any) -> Any:
    return math.nan if value is None and name in ("value", "low", "high") else value


def _finite(value: object) -> object:
    return None if isinstance(value, float) and not math.isfinite(value) else value


def in_columns(lines: Sequence[Sequence[str]]) -> list[str]:
    """Lines of cells as lines of text, each column as wide as its widest cell."""
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    return ["  ".join(f"{cell:<{width}}" for cell, width in zip(line, widths, strict=True)).rstrip() for line in lines]
