"""What passes the gate holds no identifier, and what cannot be made safe stops the run."""

import json
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest
from PIL import Image

from mmmed.data.deidentify import burned_in, secret
from mmmed.data.deidentify.audit import Audit
from mmmed.data.deidentify.burned_in import Box, MaskedImage
from mmmed.data.deidentify.codes import Coded, CodedImage, without_names
from mmmed.data.deidentify.gate import Gate
from mmmed.data.deidentify.kept import keep_boxes, kept_boxes
from mmmed.data.deidentify.privacy import DEFAULT_PRIVACY, Privacy, coded, guarded, guarded_once
from mmmed.data.source import Snapshot
from mmmed.errors import ConfigError, DataError, ImageError, OutputError, PrivacyError
from mmmed.processing.image import ImageFile
from mmmed.records import Example, Quarantined, Turn

SECRETS = ("Abernathy", "00817263", "951.830.2022", "03/04/2021", "77120", "A-4471-Q")


class Shelf:
    """A source of records at hand, under the name of one that has a card."""

    def __init__(self, records: Sequence[Example | Quarantined], *, name: str = "pairs") -> None:
        self.name = name
        self._records = records

    def prepare(self) -> None:
        pass

    def records(self) -> Iterator[Example | Quarantined]:
        yield from self._records


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MMMED_CACHE", str(tmp_path / "cache"))


@pytest.fixture
def example(tmp_path: Path) -> Example:
    Image.linear_gradient("L").save(tmp_path / "film.png")
    return Example(
        id="77120",
        patient="00817263",
        study="A-4471-Q",
        turns=(
            Turn(
                "user", "<image>\nMr. Abernathy, MRN 00817263, phone 951.830.2022: is there an effusion on 03/04/2021?"
            ),
            Turn("assistant", "Abernathy has one", blanks=("Abernathy",), rejected="Abernathy has none"),
        ),
        images=(ImageFile(tmp_path / "film.png"),),
        options=("Abernathy has one", "no"),
        topic="effusion",
        source="pairs",
        attributes={"age": 94.0, "sex": "M", "note": "study A-4471-Q of Abernathy"},
    )


def gated(records: Sequence[Example | Quarantined], audit: Audit, **settings: str) -> list[Example | Quarantined]:
    return list(Gate(Shelf(records), Privacy(**settings), audit).records())  # type: ignore[arg-type]


def test_no_identifier_passes_in_any_field(example: Example, tmp_path: Path) -> None:
    (safe,) = gated([example], Audit())
    assert isinstance(safe, Example)
    shown = repr(safe)
    assert not [word for word in SECRETS if word in shown], shown
    assert str(tmp_path) not in safe.images[0].name
    assert safe.attributes["age"] == 90.0
    assert (safe.attributes["sex"], safe.topic, safe.options[1]) == ("M", "effusion", "no")
    assert safe.reference in safe.options
    assert safe.turns[1].blanks[0] in safe.turns[1].text
    assert "is there an effusion" in safe.question


@pytest.mark.parametrize(
    ("attributes", "stays"),
    [
        ({"concepts": "C0040405;C0032285"}, True),
        ({"concepts": "C0040405;MRN 00817263"}, False),
        ({"note": "C0040405"}, False),
    ],
)
def test_codes_of_concepts_stay_and_whatever_else_has_their_form_does_not(
    attributes: dict[str, str | float], stays: bool
) -> None:
    one = Example(id="2", patient="7", turns=(Turn("user", "?"),), source="pairs", attributes=attributes)
    audit = Audit()
    (safe,) = gated([one], audit)
    assert isinstance(safe, Example)
    assert (dict(safe.attributes) == attributes) == stays


def test_records_of_one_patient_stay_together_and_the_result_is_the_same_every_time(example: Example) -> None:
    other = Example(id="2", patient="00817263", turns=(Turn("user", "Mr. Abernathy?"),), source="pairs")
    first, second = gated([example, other], Audit())
    again, _ = gated([example, other], Audit())
    assert isinstance(first, Example)
    assert isinstance(second, Example)
    assert first.patient == second.patient
    assert first == again
    assert second.turns[0].text.removesuffix("?") in first.question


def test_the_audit_says_what_and_why_but_never_whom(example: Example, tmp_path: Path) -> None:
    audit = Audit()
    (safe,) = gated([example], audit)
    assert isinstance(safe, Example)
    safe.images[0].open()
    audit.write(tmp_path / "audit.jsonl")
    text = (tmp_path / "audit.jsonl").read_text()
    assert not [word for word in SECRETS if word in text]
    summary, *lines = [json.loads(line) for line in text.splitlines()]
    assert summary["summary"]["kinds"]["name"] >= 4
    assert {line["kind"] for line in lines} >= {"name", "phone", "date", "record_number", "age"}
    (phone,) = [line for line in lines if line["kind"] == "phone"]
    assert example.turns[0].text[phone["start"] : phone["end"]] == "951.830.2022"
    assert phone["rule"] == "phone, labelled"
    assert phone["record"] == safe.id


def test_the_reason_of_a_bad_row_is_cleaned_too() -> None:
    file = "ward 3/Abernathy Zebulon/film.dcm"
    told = f"DICOM file /archive/{file} is damaged (a tag is missing); 'answer' is 'Mr. Abernathy, 951.830.2022'"
    (bad,) = gated([Quarantined("pairs", file, told)], Audit())
    assert isinstance(bad, Quarantined)
    assert bad.record == "record 1"
    assert not [word for word in ("Abernathy", "Zebulon", "951", "archive", "film") if word in bad.reason]
    assert bad.reason.startswith("DICOM file \N{HORIZONTAL ELLIPSIS} is damaged (a tag is missing); 'answer' is 'Mr. ")


def test_a_broken_picture_is_set_aside_without_the_name_of_its_file(tmp_path: Path) -> None:
    path = tmp_path / "Abernathy Zebulon.png"
    path.write_bytes(b"no picture")
    image = CodedImage(ImageFile(path), "picture 1")
    with pytest.raises(ImageError) as told:
        image.open()
    assert "Abernathy" not in str(told.value)
    assert "Zebulon" not in str(told.value)
    assert str(tmp_path) not in str(told.value)
    assert told.value.__cause__ is None


@pytest.mark.parametrize(
    ("message", "names", "left"),
    [
        ("image /a/b c/John Doe.png cannot be decoded", [], "image \N{HORIZONTAL ELLIPSIS} cannot be decoded"),
        ("DICOM file ward/Doe[2] window has no frame", [], "DICOM file \N{HORIZONTAL ELLIPSIS} window has no frame"),
        ("report 's1-Doe.txt' is missing", ["s1-Doe.txt"], "report '\N{HORIZONTAL ELLIPSIS}' is missing"),
        ("the answer 'x' is none of the options", [], "the answer 'x' is none of the options"),
    ],
)
def test_paths_are_taken_out_of_messages(message: str, names: list[str], left: str) -> None:
    assert without_names(message, names) == left


def test_records_may_bear_codes_while_their_content_stays(example: Example) -> None:
    source = Coded(Shelf([example, Quarantined("pairs", "Abernathy.png", "Abernathy.png is missing")]), b"k" * 16)
    one, bad = source.records()
    assert isinstance(one, Example)
    assert isinstance(bad, Quarantined)
    assert one.turns == example.turns
    assert example.patient not in (one.patient, one.study, one.id)
    assert one.images[0].open() == example.images[0].open()
    assert "Abernathy" not in repr(bad)
    (safe,) = gated([example], Audit())
    assert isinstance(safe, Example)
    exposed, clean = Shelf([example]), Shelf([], name="phantom")
    first, second = coded([exposed, clean])
    assert second is clean
    (found,) = first.records()
    assert isinstance(found, Example)
    # A finding of the scan can be looked up in the predictions.
    assert (found.id, found.patient, found.images[0].name) == (safe.id, safe.patient, safe.images[0].name)


def test_a_source_that_is_read_often_passes_the_gate_once(example: Example) -> None:
    audit = Audit()
    kept = guarded_once(Shelf([example]), DEFAULT_PRIVACY, audit)
    assert isinstance(kept, Snapshot)
    assert list(kept.records()) == list(kept.records())
    assert audit.checked["pairs texts"] == 8  # two turns, a blank, the rejected answer, two options, two attributes
    clean = Shelf([], name="phantom")
    assert guarded_once(clean, DEFAULT_PRIVACY, audit) is clean


def test_sources_pass_by_what_their_card_says(caplog: pytest.LogCaptureFixture) -> None:
    exposed, clean = Shelf([]), Shelf([], name="phantom")
    first, second = guarded([exposed, clean], Privacy(), Audit())
    assert isinstance(first, Gate)
    assert second is clean
    assert all(isinstance(one, Gate) for one in guarded([exposed, clean], Privacy(sources="all"), Audit()))
    assert guarded([exposed, clean], None, Audit()) == [exposed, clean]
    assert "no privacy gate: pairs" in caplog.text
    with pytest.raises(DataError, match="no card"):
        guarded([Shelf([], name="nobody")], Privacy(), Audit())


def test_a_failing_reader_of_pictures_stops_the_run(example: Example, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail() -> None:
        raise RuntimeError("no model")

    monkeypatch.setattr(burned_in, "_reader", fail)
    (safe,) = gated([example], Audit())
    assert isinstance(safe, Example)
    with pytest.raises(PrivacyError, match="the run stops"):
        safe.images[0].open()


def test_pictures_may_be_left_as_they_are(example: Example) -> None:
    (safe,) = gated([example], Audit(), images="keep")
    assert isinstance(safe, Example)
    assert safe.images[0].open() == example.images[0].open()


def test_a_picture_is_read_once_and_only_its_boxes_change(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    reads = []

    def read(picture: Image.Image) -> list[Box]:
        reads.append(picture.size)
        return [Box(2, 3, 10, 8)]

    monkeypatch.setattr(burned_in, "_read", read)
    Image.linear_gradient("L").point(lambda value: value // 2 + 100).save(tmp_path / "film.png")
    audit = Audit()
    image = MaskedImage(ImageFile(tmp_path / "film.png"), audit)
    masked, original = image.open(), image.image.open()
    image.open()
    assert len(reads) == 1
    assert len(audit.lines) == audit.checked["pictures"] == 1
    changed = {(x, y) for x in range(256) for y in range(256) if masked.getpixel((x, y)) != original.getpixel((x, y))}
    assert changed == {(x, y) for x in range(2, 10) for y in range(3, 8)}
    assert image.name == image.image.name


def test_boxes_are_kept_in_one_file_and_a_damaged_one_is_read_anew(tmp_path: Path) -> None:
    assert kept_boxes("a") is None
    keep_boxes("a", [Box(1, 2, 3, 4)])
    keep_boxes("b", [])
    assert kept_boxes("a") == [(1, 2, 3, 4)]
    assert kept_boxes("b") == []
    (file,) = (tmp_path / "cache").iterdir()
    assert file.stat().st_mode & 0o077 == 0
    file.write_bytes(b"no database" * 100)
    assert kept_boxes("a") is None
    keep_boxes("a", [])


def test_the_secret_is_made_once_and_for_its_owner_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(secret.VARIABLE, raising=False)
    assert secret.key() == secret.key()
    path = tmp_path / "cache" / "privacy.key"
    assert path.stat().st_mode & 0o077 == 0
    monkeypatch.setenv(secret.VARIABLE, "another secret of this run")
    assert secret.key() == b"another secret of this run"
    monkeypatch.setenv(secret.VARIABLE, "short")
    with pytest.raises(ConfigError, match="has 5 bytes"):
        secret.key()
    with pytest.raises(ConfigError, match="cannot be read"):
        secret.key(str(tmp_path / "nowhere"))


def test_an_audit_that_cannot_be_written_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(OutputError, match="choose another --output"):
        Audit().write(tmp_path / "file" / "audit.jsonl")
