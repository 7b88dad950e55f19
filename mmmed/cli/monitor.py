"""The command that watches a model at work."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path

from mmmed.errors import ConfigError
from mmmed.serving.monitoring.metrics import log_watched, write_results
from mmmed.serving.monitoring.page import check_study_url, write_watched
from mmmed.serving.monitoring.record import Log, Study, read_log
from mmmed.serving.monitoring.watch import ALPHA, BATCH, watch


def monitor(
    log: str,
    reference: str = "",
    reference_until: str = "",
    since: str = "",
    output: str = "outputs/monitor",
    batch: int = BATCH,
    alpha: float = ALPHA,
    study_url: str = "",
) -> int:
    """Say whether what comes in, and what the model makes of it, is still what it was in a reference.

    Writes monitor.html for people, monitor.json, metrics.prom for Prometheus and a run in wandb, offline unless
    WANDB_MODE says otherwise. The exit code is 1 while an alarm stands, 0 without, 2 where the log cannot be used.

    Args:
        log: JSON lines that serving writes, one a study.
        reference: Another log, of a time when all was well; or give --reference_until.
        reference_until: The log's own studies before this moment are the reference, such as 2026-09-01.
        since: Leave out later studies before this moment, such as when a cause was mended.
        output: Folder of the page and the files.
        batch: Studies that are tested together.
        alpha: Chance that any alarm is ever raised while nothing changes.
        study_url: Address of a study's page on the desk, with {study} for its code.
    """
    if bool(reference) == bool(reference_until):
        raise ConfigError("give one of --reference (another log) and --reference_until (a moment in this one)")
    check_study_url(study_url)
    found, folder = read_log(Path(log)), Path(output)
    if reference:
        before = read_log(Path(reference))
        usual, monitored = before.studies, found.studies
        found = _joined(before, found)
    else:
        moment = _moment(reference_until, "reference_until")
        usual = tuple(one for one in found.studies if datetime.fromisoformat(one.time) < moment)
        monitored = tuple(one for one in found.studies if datetime.fromisoformat(one.time) >= moment)
    if since:
        moment = _moment(since, "since")
        monitored = tuple(one for one in monitored if datetime.fromisoformat(one.time) >= moment)
    watched = watch(usual, _new(monitored, usual), signed=found.signed, alpha=alpha, batch=batch)
    write_results(folder, watched, found)
    given = {"reference": reference, "reference_until": reference_until, "since": since, "study_url": study_url}
    command = " ".join([f"mmmed monitor --log {log}", *(f"--{name} {value}" for name, value in given.items() if value)])
    page = folder / "monitor.html"
    write_watched(page, watched, log=found, name=Path(log).stem, study_url=study_url, command=command)
    log_watched(watched, output=folder)
    for group in watched.alarms:
        begun = group.codes[group.cut[group.since].start]
        print(f"ALARM {group.name}: p {group.p:.2g}, after {watched.studies_until(group)} studies, since study {begun}")
    print(f"{len(watched.monitored)} studies against {len(watched.reference)}: {len(watched.alarms)} alarms; {page}")
    if found.quarantined:
        print(f"{len(found.quarantined)} lines could not be read; {found.quarantined[0].record}")
    return 1 if watched.alarms else 0


def _joined(before: Log, later: Log) -> Log:
    """Two logs as one, with what stands in both counted once."""
    known = {one.study for one in before.studies}
    repeated = sum(one.study in known for one in later.studies)
    return Log(
        before.studies + tuple(one for one in later.studies if one.study not in known),
        before.signed + later.signed,
        before.repeated + later.repeated + repeated,
        before.quarantined + later.quarantined,
    )


def _new(monitored: Sequence[Study], usual: Sequence[Study]) -> list[Study]:
    known = {one.study for one in usual}
    return [one for one in monitored if one.study not in known]


def _moment(text: str, name: str) -> datetime:
    """A day or a moment; in universal time where no zone is given."""
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        raise ConfigError(f"--{name} {text!r} is no moment; write it as 2026-09-01 or 2026-09-01T08:00+02:00") from None
    return moment if moment.tzinfo else moment.replace(tzinfo=UTC)
