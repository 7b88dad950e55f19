"""What passes the gate holds no identifier, and what cannot be made safe stops the run."""

import json
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest
from PIL import Image

from mmmed.data.deidentify import burned_in, secret
from mmmed.data.deidentify.audit import Audit
from mmmed.data.deidentify.burned_in import Box, MaskedImage
from mmmed.data.deidentify.gate import Gate
from mmmed.data.deidentify.privacy import Privacy, guarded
from mmmed.errors import ConfigError, DataError, OutputError, PrivacyError
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


def test_no_identifier_passes_in_any_field(example: Example) -> None:
    (safe,) = gated([example], Audit())
    assert isinstance(safe, Example)
    shown = repr(safe)
    shown = shown.replace(repr(safe.images), "")  # the path of a file is the user's own
    assert not [word for word in SECRETS if word in shown], shown
    assert safe.attributes["age"] == 90.0
    assert (safe.attributes["sex"], safe.topic, safe.options[1]) == ("M", "effusion", "no")
    assert safe.reference in safe.options
    assert safe.turns[1].blanks[0] in safe.turns[1].text
    assert "is there an effusion" in safe.question


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
    assert phone["rule"] == "phone, ten digits"
    assert phone["record"] == safe.id


def test_the_reason_of_a_bad_row_is_cleaned_too() -> None:
    (bad,) = gated([Quarantined("pairs", "row 3", "'answer' is 'Mr. Abernathy, 951.830.2022'")], Audit())
    assert isinstance(bad, Quarantined)
    assert bad.record == "row 3"
    assert "Abernathy" not in bad.reason
    assert "951" not in bad.reason


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
    assert safe.images == example.images


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
