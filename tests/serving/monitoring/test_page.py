import json
import re
from pathlib import Path

import pytest
from prometheus_client.parser import text_string_to_metric_families

from mmmed.cli.main import main
from mmmed.serving.monitoring.record import append
from tests.serving.monitoring.conftest import Make, sign


@pytest.fixture
def log(tmp_path: Path, make: Make, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Two hours without and one with another scanner, of which half the studies are signed."""
    monkeypatch.setenv("WANDB_MODE", "disabled")
    monkeypatch.setattr("os.fsync", lambda _: None)
    path = tmp_path / "log.jsonl"
    studies = [*make(120), *make(20), *make(60, scanners="<", shift=4.0)]
    for number, study in enumerate(studies):
        append(path, study)
        if number % 2:
            append(path, sign(study, sex="F"))
    return path


def monitor(log: Path, *more: str) -> int:
    return main(["monitor", "--log", str(log), "--output", str(log.parent / "out"), *more])


def test_an_alarm_ends_with_one_and_is_on_the_page_in_the_files_and_in_the_terminal(
    log: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with log.open("a") as file:
        file.write('{"half')
    code = monitor(log, "--reference_until", "2026-01-01T02:00", "--study_url", "https://desk/s/{study}?a=1&b=2")
    assert code == 1
    told = capsys.readouterr().out
    assert "ALARM embedding" in told
    assert "1 lines could not be read; line 301" in told
    folder = log.parent / "out"
    page = (folder / "monitor.html").read_text()
    assert "Something has changed" in page
    assert re.search(r'href="https://desk/s/s1\d\d\?a=1&amp;b=2"', page)
    assert "&lt;" in page  # the scanner's name
    assert not re.search(r"""(src|href)=["'](?!#|data:|https://desk/)""", page)
    results = json.loads((folder / "monitor.json").read_text())
    assert set(results["alarms"]) == {"embedding", "mix"}
    assert results["monitored"] == 80
    alarm = next(one for one in results["groups"] if one["name"] == "embedding")
    assert alarm["since_study"] in {"s120", "s140"}  # the batch before may by chance speak for a change too
    assert alarm["raised_after_studies"] <= 80
    metrics = {one.name: one for one in text_string_to_metric_families((folder / "metrics.prom").read_text())}
    alarms = {one.labels["group"]: one.value for one in metrics["mmmed_monitor_alarm"].samples}
    assert (alarms["embedding"], alarms["mix"], alarms["running"]) == (1, 1, 0)
    assert metrics["mmmed_monitor_unreadable_lines"].samples[0].value == 1
    assert metrics["mmmed_monitor_last_study_timestamp_seconds"].samples[0].value == 1767225600 + 199 * 60
    assert not re.search(r"\bs1\d\d\b", (folder / "metrics.prom").read_text())


def test_a_quiet_log_ends_with_zero(log: Path, tmp_path: Path, make: Make) -> None:
    later = tmp_path / "later.jsonl"
    for study in make(25):
        append(later, study)
    other = tmp_path / "reference.jsonl"
    other.write_text("".join(log.read_text().splitlines(keepends=True)[:180]))
    assert monitor(later, "--reference", str(other)) == 0
    assert "Nothing has been shown to have changed." in (tmp_path / "out" / "monitor.html").read_text()
    assert monitor(later, "--reference", str(other), "--since", "2030-01-01") == 0
    assert "No study has come since the reference." in (tmp_path / "out" / "monitor.html").read_text()


@pytest.mark.parametrize(
    ("given", "told"),
    [
        ([], "give one of --reference"),
        (["--reference_until", "soon"], "--reference_until 'soon' is no moment"),
        (["--reference_until", "2026-01-02", "--study_url", "javascript:{study}"], "is no address with {study} in it"),
        (["--reference_until", "2026-01-01T00:30"], "the reference has 30 studies"),
        (["--reference", "nowhere.jsonl"], "cannot read the log nowhere.jsonl"),
    ],
)
def test_what_is_wrong_is_told_in_one_line(
    log: Path, given: list[str], told: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert monitor(log, *given) == 2
    message = capsys.readouterr().err.strip()
    assert told in message
    assert "\n" not in message
