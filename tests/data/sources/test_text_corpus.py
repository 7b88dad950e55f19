import gzip
import json
from pathlib import Path

import pytest

from mmmed.data.sources.text_corpus import TextCorpus
from mmmed.data.splits import Fractions, check_disjoint
from mmmed.errors import ConfigError, DataError
from mmmed.records import Example, Quarantined, Turn


def examples(source: TextCorpus) -> list[Example]:
    return [record for record in source.records() if isinstance(record, Example)]


def test_a_line_and_a_text_file_are_documents(tmp_path: Path) -> None:
    (tmp_path / "b").mkdir()
    (tmp_path / "a.txt").write_text("\ufeffThe lungs\nare clear.\n", "utf-8")
    (tmp_path / "b" / "notes.jsonl").write_text('{"text": "One."}\n{"text": "Two."}\n')
    (tmp_path / "b" / "more.jsonl.gz").write_bytes(gzip.compress(b'{"text": "Three."}\n'))
    (tmp_path / "b" / "picture.png").write_bytes(b"not read")
    found = examples(TextCorpus(str(tmp_path)))
    assert [(one.id, one.turns) for one in found] == [
        ("a.txt#0", (Turn("document", "The lungs\nare clear."),)),
        ("b/more.jsonl.gz:1#0", (Turn("document", "Three."),)),
        ("b/notes.jsonl:1#0", (Turn("document", "One."),)),
        ("b/notes.jsonl:2#0", (Turn("document", "Two."),)),
    ]
    assert {one.topic for one in found} == {"document"}


def test_long_documents_are_cut_and_their_passages_stay_together(tmp_path: Path) -> None:
    text = "\n\n".join(f"Paragraph {number} of a long note." for number in range(40))
    path = tmp_path / "a.jsonl"
    path.write_text("".join(json.dumps({"note": f"{number}. {text}"}) + "\n" for number in range(30)))
    found = examples(TextCorpus(str(path), field="note", longest=200, fractions=Fractions(0.5, 0.5, 0.0)))
    check_disjoint(found)
    assert max(len(one.turns[0].text) for one in found) <= 200
    assert len({one.patient for one in found}) == 30 and len(found) > 30 * 6
    assert {one.split for one in found} == {"train", "validation"}


def test_notes_of_one_patient_stay_together(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    path.write_text("".join(json.dumps({"text": f"Note {n}.", "mrn": n % 40}) + "\n" for n in range(200)))
    found = examples(TextCorpus(str(path), patient="mrn", fractions=Fractions(0.5, 0.5, 0.0)))
    check_disjoint(found)
    assert len(found) == 200 and len({one.patient for one in found}) == 40


def test_lines_of_one_name_are_all_kept_and_stay_together(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    path.write_text('{"id": "x", "text": "One."}\n{"id": "x", "text": "Two."}\n')
    assert [(one.id, one.patient) for one in examples(TextCorpus(str(path)))] == [
        ("a.jsonl:1#0", "a.jsonl:x"),
        ("a.jsonl:2#0", "a.jsonl:x"),
    ]


def test_what_cannot_be_read_is_set_aside(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_bytes(b"\xff\xfe")
    (tmp_path / "b.txt").write_text(" \n")
    (tmp_path / "c.txt").write_text("A note with an <image> in it.")
    (tmp_path / "d.jsonl").write_text('{"text": "good"}\n{"text": ["bad"]}\n{"te')
    faults = [record for record in TextCorpus(str(tmp_path)).records() if isinstance(record, Quarantined)]
    assert [(fault.record, fault.reason.partition(" (")[0]) for fault in faults] == [
        ("a.txt", "cannot be read as UTF-8"),
        ("b.txt", "'text' is empty"),
        ("c.txt", "text_corpus:c.txt#0: 1 <image> placeholders for 0 images; write one placeholder per image"),
        ("d.jsonl:2", "'text' is list; expected text"),
        ("d.jsonl:3", "no JSON in UTF-8"),
    ]


def test_what_is_no_corpus_is_refused(tmp_path: Path) -> None:
    (tmp_path / "a.pdf").touch()
    for place in ("a.pdf", "gone", "."):
        with pytest.raises(DataError, match=r"no \.jsonl, \.jsonl\.gz, \.txt at"):
            list(TextCorpus(str(tmp_path / place)).records())
    (tmp_path / "a.jsonl").write_text('{"note": "x"}\n')
    with pytest.raises(DataError, match=r"lacks the column\(s\) 'text'; it has 'note'"):
        list(TextCorpus(str(tmp_path / "a.jsonl")).records())
    with pytest.raises(ConfigError, match="longest is 0"):
        TextCorpus("a.jsonl", longest=0)


@pytest.mark.shared
def test_captions_are_read_as_a_corpus(shared_data: Path) -> None:
    records = list(TextCorpus(str(shared_data / "17_roco_captions_text_only"), field="caption").records())
    found = [record for record in records if isinstance(record, Example)]
    check_disjoint(found)
    assert len(records) - len(found) == 0
    assert len({one.patient for one in found}) == 12487
