"""A watched log for machines: a file for Prometheus, a file of results, a run in wandb."""

import json
import math
from collections.abc import Iterator, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any

import numpy as np
import wandb

from mmmed.page.files import replace_text
from mmmed.serving.monitoring.change import changes
from mmmed.serving.monitoring.record import Log, Study
from mmmed.serving.monitoring.watch import Group, Watched

_RECENT = 100
_QUANTILES = (0.5, 0.95, 0.99)

_Family = tuple[str, str, list[tuple[dict[str, str], float]]]
"""Name and meaning of a metric, and its values by their labels."""


def prometheus(watched: Watched, log: Log) -> str:
    """Text that Prometheus reads, as from a file of node_exporter's textfile collector; it names no study.

    Source: Prometheus, "Exposition formats", text format 0.0.4.
    """
    groups = watched.groups.values()
    recent = watched.monitored[-_RECENT:]
    families: list[_Family] = [
        (
            "alarm",
            "1 while the group stands in alarm.",
            [({"group": one.name}, float(one.raised is not None)) for one in groups],
        ),
        ("p", "P-value over all times and groups.", [({"group": one.name}, one.p) for one in groups]),
        (
            "evidence",
            "Most that a bet on a change has grown to.",
            [({"group": one.name}, max(one.money, default=1.0)) for one in groups],
        ),
        ("studies", "Studies monitored.", [({}, float(len(watched.monitored)))]),
        ("reference_studies", "Studies of the reference.", [({}, float(len(watched.reference)))]),
        ("unreadable_lines", "Lines of the log that could not be read.", [({}, float(len(log.quarantined)))]),
        ("last_study_timestamp_seconds", "When the last study was answered.", _last(watched.monitored)),
        *_shares(recent),
        (
            "recent_latency_seconds",
            f"Latency of the last {_RECENT} studies.",
            [({"quantile": f"{share:g}"}, value) for share, value in _latencies(recent)],
        ),
    ]
    lines = []
    for name, told, values in families:
        if values:
            lines += [f"# HELP mmmed_monitor_{name} {told}", f"# TYPE mmmed_monitor_{name} gauge"]
            lines += [f"mmmed_monitor_{name}{_labels(labels)} {_number(value)}" for labels, value in values]
    return "\n".join(lines) + "\n"


def _last(studies: Sequence[Study]) -> list[tuple[dict[str, str], float]]:
    return [({}, datetime.fromisoformat(studies[-1].time).timestamp())] if studies else []


def _shares(recent: Sequence[Study]) -> Iterator[_Family]:
    for name in ("error", "abstained", "unparsed"):
        values = [float(bool(getattr(one, name))) for one in recent]
        share: list[tuple[dict[str, str], float]] = [({}, float(np.mean(values)))] if values else []
        yield f"recent_{name}_share", f"Share of the last {_RECENT} studies.", share


def _latencies(recent: Sequence[Study]) -> list[tuple[float, float]]:
    known = [one.latency for one in recent if one.latency is not None]
    return [(share, float(np.quantile(known, share))) for share in _QUANTILES] if known else []


def _labels(labels: dict[str, str]) -> str:
    if not labels:
        return ""
    return "{" + ",".join(f"{name}={json.dumps(value)}" for name, value in labels.items()) + "}"


def _number(value: float) -> str:
    return "+Inf" if math.isinf(value) else repr(value)


def results(watched: Watched, log: Log) -> dict[str, Any]:
    """Everything that was found, as it goes into a file."""
    return {
        "alpha": watched.alpha,
        "batch": watched.batch,
        "reference": len(watched.reference),
        "monitored": len(watched.monitored),
        "repeated": log.repeated,
        "unreadable": [{"record": one.record, "reason": one.reason} for one in log.quarantined],
        "alarms": [one.name for one in watched.alarms],
        "groups": [_group(watched, group) for group in watched.groups.values()],
    }


def _group(watched: Watched, group: Group) -> dict[str, Any]:
    alarm = group.raised is not None
    return {
        "name": group.name,
        "alarm": alarm,
        "p": group.p,
        "evidence": list(group.money),
        "raised": group.ends[group.raised].isoformat() if group.raised is not None else None,
        "raised_after_studies": watched.studies_until(group),
        "since_study": group.codes[group.cut[group.since].start] if alarm else None,
        "members": [
            {
                "name": one.course.signal.name,
                "n_reference": one.n_reference,
                "n_since": one.n_now,
                "missing": one.missing,
                "reference": _estimate(one.before),
                "since": _estimate(one.now),
                "kinds": [
                    {"kind": each.kind, "reference": _estimate(each.before), "since": _estimate(each.now)}
                    for each in one.kinds
                ],
                "p_values": [None if math.isnan(p) else p for p in one.course.p_values],
                "studies": list(one.behind) if alarm else [],
            }
            for one in changes(group)
        ],
    }


def _estimate(found: Sequence[float]) -> dict[str, float | None]:
    value, low, high = (one if math.isfinite(one) else None for one in found[:3])
    return {"value": value, "low": low, "high": high}


def write_results(folder: Path, watched: Watched, log: Log) -> None:
    """Write `monitor.json` and `metrics.prom`, each whole or not at all.

    Raises:
        OutputError: The folder cannot be written to.
    """
    replace_text(folder / "monitor.json", json.dumps(results(watched, log), indent=1, allow_nan=False) + "\n")
    replace_text(folder / "metrics.prom", prometheus(watched, log))


def log_watched(watched: Watched, *, output: Path) -> None:
    """Log evidence, p-values and alarms to wandb, as a run of its own; no codes of studies."""
    with wandb.init(project="mmmed", name="monitor", job_type="monitor", dir=str(output)) as run:
        for name, group in watched.groups.items():
            run.define_metric(f"evidence/{name}", step_metric=f"batch/{name}")
            for number, money in enumerate(group.money, 1):
                run.log({f"evidence/{name}": money, f"batch/{name}": number})
        run.summary["studies"] = len(watched.monitored)
        run.summary["reference"] = len(watched.reference)
        run.summary["alarms"] = [one.name for one in watched.alarms]
        for name, group in watched.groups.items():
            run.summary[f"p/{name}"] = group.p
