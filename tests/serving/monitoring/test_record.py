import multiprocessing
import re
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from mmmed.errors import DataError, OutputError, RecordError
from mmmed.serving.monitoring.embedding import WIDTH, sketch
from mmmed.serving.monitoring.pixels import pixel_statistics
from mmmed.serving.monitoring.record import Signed, Study, append, read_log

TIME = "2026-11-28T18:40:00+00:00"


def study(code: str = "s1", **more: object) -> Study:
    return Study(**{"study": code, "time": TIME, "model": "m1", **more})  # type: ignore[arg-type]


def test_what_is_written_is_read_back(tmp_path: Path) -> None:
    full = study(
        embedding=(0.5, -1.0),
        pixels={"mean": 0.25},
        view="PA",
        scanner="Maker model 7",
        findings={"effusion": "stated", "nodule": "unsure"},
        words=12,
        confidence=0.75,
        abstained=True,
        unparsed=True,
        latency=1.5,
        error="ImageError",
    )
    signed = Signed(study="s1", time=TIME, findings={"effusion": "denied"}, groups={"sex": "F"})
    for record in (full, signed):
        append(tmp_path / "new" / "log.jsonl", record)
    log = read_log(tmp_path / "new" / "log.jsonl")
    assert log.studies == (full,)
    assert log.signed == (signed,)
    assert (log.repeated, log.quarantined) == (0, ())


def test_a_study_counts_once_and_its_last_signature_holds(tmp_path: Path) -> None:
    path = tmp_path / "log.jsonl"
    for record in (study(), study(words=9), study("s2")):
        append(path, record)
    for said in ("stated", "denied"):
        append(path, Signed(study="s1", time=TIME, findings={"effusion": said}))  # type: ignore[dict-item]
    log = read_log(path)
    assert [one.study for one in log.studies] == ["s1", "s2"]
    assert log.studies[0].words is None
    assert log.repeated == 1
    assert [dict(one.findings) for one in log.signed] == [{"effusion": "denied"}]


def test_a_line_that_a_kill_cut_off_costs_only_itself(tmp_path: Path) -> None:
    path = tmp_path / "log.jsonl"
    append(path, study())
    with path.open("a") as file:
        file.write('{"kind":"study","study":"Jane Doe')
    append(path, study("s2"))
    log = read_log(path)
    assert [one.study for one in log.studies] == ["s1", "s2"]
    assert [one.record for one in log.quarantined] == ["line 2"]
    assert "Jane" not in log.quarantined[0].reason


def _write(path: Path, first: int) -> None:
    for number in range(first, first + 40):
        append(path, study(f"s{number}", embedding=(0.123,) * 64))


def test_several_processes_write_whole_lines(tmp_path: Path) -> None:
    path = tmp_path / "log.jsonl"
    context = multiprocessing.get_context("fork")
    writers = [context.Process(target=_write, args=(path, 1000 * number)) for number in range(3)]
    for one in writers:
        one.start()
    for one in writers:
        one.join()
    log = read_log(path)
    assert len(log.studies) == 120
    assert not log.quarantined
    assert path.stat().st_mode & 0o077 == 0


@pytest.mark.parametrize(
    ("given", "told"),
    [
        ({"study": "Jane Doe"}, "study is no code"),
        ({"study": ""}, "study is no code"),
        ({"time": "2026-11-28 18:40"}, "time is no time"),
        ({"time": 3}, "time is of another kind"),
        ({"scanner": "a\nb"}, "scanner is no label"),
        ({"view": "v" * 41}, "view is no label"),
        ({"error": "cannot open /data/jane.dcm"}, "error is no code"),
        ({"findings": {"effusion": "yes"}}, "findings is of another kind"),
        ({"findings": ["effusion"]}, "findings is of another kind"),
        ({"confidence": 1.2}, "confidence is 1.2"),
        ({"confidence": True}, "confidence is of another kind"),
        ({"words": -1}, "words is -1"),
        ({"words": 1.5}, "words is of another kind"),
        ({"latency": float("inf")}, "latency is inf"),
        ({"embedding": (float("nan"),)}, "what is no number"),
        ({"embedding": (None,)}, "embedding is of another kind"),
        ({"abstained": 1}, "abstained is of another kind"),
    ],
)
def test_what_could_hold_a_person_or_no_figure_is_refused(given: dict[str, object], told: str) -> None:
    with pytest.raises(RecordError, match=re.escape(told)):
        study(**given)


@pytest.mark.parametrize(
    ("line", "told"),
    [
        ("[]", "no record of schema 1"),
        ('{"kind": "study", "schema": 2}', "no record of schema 1"),
        ('{"kind": "film", "schema": 1}', "unknown kind of record (known: study, signed)"),
        ('{"kind": "study", "schema": 1, "study": "s", "patient_name": "Jane"}', "an unknown key"),
        ('{"kind": "study", "schema": 1, "study": "s"}', "a key is missing ('time' and 'model')"),
        ("[" * 100_000, "no JSON"),
    ],
)
def test_lines_that_are_no_records_are_set_aside_without_their_words(tmp_path: Path, line: str, told: str) -> None:
    path = tmp_path / "log.jsonl"
    path.write_text(line + "\n")
    with pytest.raises(DataError, match=re.escape(told)) as raised:
        read_log(path)
    assert "Jane" not in str(raised.value)
    append(path, study())
    assert len(read_log(path).quarantined) == 1


def test_places_that_cannot_be_used_are_told(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(OutputError, match="cannot write to the log"):
        append(tmp_path / "file" / "log.jsonl", study())
    with pytest.raises(DataError, match="cannot read the log"):
        read_log(tmp_path / "none.jsonl")


def test_a_record_holds_nothing_that_is_not_listed() -> None:
    assert set(Study.__dataclass_fields__) == {
        *("study", "time", "model", "embedding", "pixels", "view", "scanner", "findings", "words"),
        *("confidence", "abstained", "unparsed", "latency", "error"),
    }


def test_pixel_statistics_tell_brightness_contrast_and_colour() -> None:
    dark, light = pixel_statistics(Image.new("L", (40, 20), 0)), pixel_statistics(Image.new("L", (40, 20), 255))
    assert (dark["mean"], dark["black"], dark["white"], dark["aspect"]) == (0, 1, 0, 2)
    assert (light["mean"], light["black"], light["white"], light["entropy"]) == (1, 0, 1, 0)
    assert pixel_statistics(Image.new("RGB", (4, 4), (255, 0, 0)))["colour"] == 1
    half = Image.new("L", (40, 20), 0)
    half.paste(255, (20, 0, 40, 20))
    found = pixel_statistics(half)
    assert (found["mean"], found["deviation"], found["entropy"]) == (0.5, 0.5, 1)
    assert found["sharpness"] == pytest.approx(1 / 39, abs=1e-5)
    assert pixel_statistics(Image.new("L", (1, 1), 9))["noise"] == 0


def test_sketches_keep_distances_and_are_the_same_everywhere() -> None:
    generator = np.random.default_rng(0)
    features = generator.standard_normal((20, 1280))
    sketches = np.array([sketch(one) for one in features])
    assert sketches.shape == (20, WIDTH)
    apart = np.linalg.norm(features[1:] - features[0], axis=1)
    assert np.linalg.norm(sketches[1:] - sketches[0], axis=1) / apart == pytest.approx(np.ones(19), abs=0.3)
    assert sketch(np.ones(4))[:3] == sketch([1, 1, 1, 1])[:3]  # type: ignore[arg-type]
