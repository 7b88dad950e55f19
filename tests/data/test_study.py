"""What is asked about a study, whatever data set it comes from."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from mmmed.data.study import Film, Study, StudyQuestions, ask_about, normal_view, read_studies
from mmmed.data.tabular import Row
from mmmed.errors import ConfigError
from mmmed.processing.image import ImageFile
from mmmed.records import Example, Quarantined


def film(name: str, view: str = "") -> Film:
    return Film(name=name, image=ImageFile(Path(f"{name}.png")), view=view)


STUDY = Study(
    id="s1",
    patient="p1",
    films=(film("a", "lateral"), film("b", "PA")),
    split="train",
    sections={"findings": "The heart is large.", "impression": "Cardiomegaly."},
    present=("Cardiomegaly",),
    known=("Cardiomegaly", "Edema"),
    attributes={"sex": "F"},
)
OTHER = replace(STUDY, id="s2", patient="p2", films=(film("c", "AP"),), present=("Edema",))


def examples(*studies: Study, **settings: Any) -> list[Example]:
    records = list(ask_about(studies, source="toy", ask=StudyQuestions(**settings)))
    assert not [record for record in records if isinstance(record, Quarantined)]
    return [record for record in records if isinstance(record, Example)]


def test_a_study_is_shown_with_all_its_films_frontal_ones_first() -> None:
    report, yes, no = examples(STUDY, OTHER)[:3]
    assert report.turns[0].text == "<image>\n<image>\nWrite the report of these chest radiographs."
    assert report.reference == "Findings: The heart is large.\nImpression: Cardiomegaly."
    assert [image.name for image in report.images] == ["b.png", "a.png"]
    assert (report.id, report.topic, report.study, report.options) == ("s1:report", "report", "s1", ())
    assert report.attributes == {"sex": "F", "view": "PA;lateral"}
    assert (yes.id, yes.topic, yes.reference, yes.options) == ("s1:Cardiomegaly", "cardiomegaly", "yes", ("yes", "no"))
    assert (no.id, no.reference) == ("s1:Edema", "no")


def test_each_film_may_be_asked_about_alone() -> None:
    found = examples(STUDY, questions=("impression",), images="each")
    assert [(example.id, example.attributes["view"]) for example in found] == [
        ("b:impression", "PA"),
        ("a:impression", "lateral"),
    ]
    assert found[0].turns[0].text == "<image>\nWhat is the impression of this chest radiograph?"


def test_views_and_numbers_of_films_can_be_limited() -> None:
    (only,) = examples(STUDY, questions=("findings",), views=("lateral",))
    assert [image.name for image in only.images] == ["a.png"]
    (most,) = examples(STUDY, questions=("findings",), most_images=1)
    assert [image.name for image in most.images] == ["b.png"]
    (bad,) = ask_about([STUDY], source="toy", ask=StudyQuestions(views=("AP",)))
    assert bad == Quarantined("toy", "s1", "none of its 2 films has a view among AP")


def test_a_text_alone_is_modelled_summarised_and_asked() -> None:
    found = examples(STUDY, OTHER, questions=("report", "impression", "finding"), images="none", findings="all")
    document, summary, yes, _ = found[:4]
    assert [(turn.speaker, turn.text) for turn in document.turns] == [("document", STUDY.text("report"))]
    assert summary.turns[0].text == "Findings: The heart is large.\nWhat is the impression?"
    assert summary.reference == "Cardiomegaly."
    assert yes.turns[0].text == f"{STUDY.text('report')}\nIs there evidence of cardiomegaly?"
    assert not any(example.images for example in found)
    with pytest.raises(ConfigError, match="ask for report, impression or finding"):
        StudyQuestions(questions=("findings",), images="none")


def test_a_part_that_a_report_lacks_is_not_asked_for(caplog: pytest.LogCaptureFixture) -> None:
    silent = replace(STUDY, sections={"findings": "", "impression": "Normal."}, present=(), known=())
    with caplog.at_level("INFO"):
        found = examples(silent, questions=("report", "findings", "impression"))
    assert [(example.topic, example.reference) for example in found] == [
        ("report", "Impression: Normal."),
        ("impression", "Normal."),
    ]
    assert caplog.messages == ["toy: 1 studies have no findings and are not asked for it"]


def test_a_study_about_which_nothing_can_be_asked_is_set_aside() -> None:
    (bad,) = ask_about([replace(STUDY, sections={})], source="toy", ask=StudyQuestions(questions=("report",)))
    assert bad == Quarantined("toy", "s1", "nothing to ask: its report has no findings or impression")


def test_sections_with_blacked_out_words_can_be_left_out() -> None:
    marked = replace(STUDY, sections={"findings": "Heart XXXX.", "impression": "Normal."})
    (kept,) = examples(marked, questions=("report",))
    assert kept.reference == "Findings: Heart XXXX.\nImpression: Normal."
    (clean,) = examples(marked, questions=("report",), without=("XXXX",))
    assert clean.reference == "Impression: Normal."


def test_reports_in_another_language_are_asked_for_in_it() -> None:
    spanish = replace(OTHER, sections={"report": "normal ."}, language="Spanish")
    (report,) = examples(spanish, questions=("report",))
    assert report.question == "Write the report of this chest radiograph. Answer in Spanish."
    assert report.reference == "normal ."


def test_rows_of_films_become_studies_and_bad_rows_are_set_aside() -> None:
    def read(row: Row) -> Study:
        patient = row.text("patient")
        return replace(STUDY, id=row.text("study"), patient=patient, films=(film(row.text("film")),))

    cells = [
        ("s1", "p1", "a"),
        ("s2", "p2", "b"),
        ("s1", "p1", "c"),
        ("s1", "p1", "c"),
        ("s2", "p9", "d"),
        ("", "p", "e"),
    ]
    rows = [
        Row(f"t:{number}", {"study": study, "patient": patient, "film": name})
        for number, (study, patient, name) in enumerate(cells)
    ]
    records = list(read_studies("toy", [*rows, Row("t:9", fault="broken")], read))
    bad = {record.record: record.reason for record in records if isinstance(record, Quarantined)}
    assert bad == {
        "t:3": "the identifier 'c' is used before",
        "t:4": "study 's2' belongs to 'p2' (train) and to 'p9'",
        "t:5": "'study' is empty",
        "t:9": "broken",
    }
    studies = {record.id: [one.name for one in record.films] for record in records if isinstance(record, Study)}
    assert studies == {"s1": ["a", "c"], "s2": ["b"]}


@pytest.mark.parametrize(
    ("view", "normal"),
    [
        ("PA", "PA"),
        ("AP_horizontal", "AP"),
        ("AP AXIAL", "AP"),
        ("LL", "lateral"),
        ("L", "lateral"),
        ("LATERAL", "lateral"),
        ("LARGE LATERAL", "lateral"),
        ("COSTAL", "COSTAL"),
        ("", ""),
    ],
)
def test_views_have_one_name_each(view: str, normal: str) -> None:
    assert normal_view(view) == normal


def test_no_film_at_all_is_refused() -> None:
    with pytest.raises(ConfigError, match="most_images is 0"):
        StudyQuestions(most_images=0)
