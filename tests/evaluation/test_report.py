"""The report is one safe file that holds everything and needs nothing."""

import re
from dataclasses import replace
from html.parser import HTMLParser
from itertools import pairwise
from pathlib import Path

import pytest
from PIL import Image

from mmmed.errors import OutputError
from mmmed.evaluation.compare import Row
from mmmed.evaluation.drawing import Curve
from mmmed.evaluation.predictions import Prediction
from mmmed.evaluation.report import cards, render
from mmmed.evaluation.report_data import DataCount, Part, Picture, ReportData
from mmmed.evaluation.verdict import verdict
from mmmed.records import Quarantined

ATTACK = "<script>alert('x')</script><img src=http://tracker.example/a.png onerror=1>"


def row(arm: str, baseline: str | None = None, *, delta: float = 0.0, p: float = 1.0, task: str = "vqa_closed") -> Row:
    alone = Row(arm=arm, task=task, metric="balanced_accuracy", value=0.7123, low=0.61, high=0.8, n=1234)
    if baseline is None:
        return alone
    return replace(alone, baseline=baseline, delta=delta, delta_low=delta - 0.05, delta_high=delta + 0.05, p=p)


def prediction(arm: str, answer: str) -> Prediction:
    return Prediction(
        arm=arm,
        task="vqa_closed",
        id="q1",
        patient="p1",
        source="phantom",
        topic="effusion",
        question=f"Effusion? {ATTACK}",
        reference="yes",
        answer=answer,
        options={"yes": 0.8, "no": 0.2},
        confidence=0.8,
    )


def full_report() -> ReportData:
    image = Image.new("RGB", (640, 480), "grey")
    return ReportData(
        title=f"Trial {ATTACK}",
        rows=[
            row("image"),
            row("text_only"),
            row("image", "text_only", delta=0.2, p=0.004),
            replace(row("image"), metric=f"accuracy {ATTACK}", value=0.4321),
            row(f"image {ATTACK}", task=f"task {ATTACK}"),
        ],
        main="image",
        arms={"image": "All parts"},
        curves=[
            Curve("train", [0, 10, 20], [2.0, float("nan"), 0.5], "loss"),
            Curve("validation", [0, 20], [2.1, 0.7], "loss"),
            Curve(f"flat {ATTACK}", [5], [1.0]),
            Curve("never measured", [], []),
        ],
        pictures=[
            Picture(image=image, prediction=prediction("image", "yes"), control=prediction("blank", "no")),
            Picture(image=None, prediction=prediction("image", ATTACK)),
            Picture(image=image, prediction=prediction("image", "yes"), control=prediction("blank", "Yes.")),
        ],
        quarantined=[Quarantined("phantom", f"r7 {ATTACK}", "image is truncated")] * 3,
        parts=[Part("vision encoder", 22_000_000, 0), Part("projector", 664_128, 664_128)],
        data=[DataCount("phantom", "CC0 1.0", {"train": 1200, "test": 40})],
        config=f"seed: 0  # {ATTACK}",
        commands=["mmmed experiment experiment.yaml"],
        environment={"torch": "2.15.0"},
    )


def page(report: ReportData, folder: Path) -> str:
    render(report, folder / "report.html")
    return (folder / "report.html").read_text(encoding="utf-8")


class Elements(HTMLParser):
    """All elements with their attributes, and whether every element that is opened is closed."""

    def __init__(self) -> None:
        super().__init__()
        self.seen: list[tuple[str, dict[str, str | None]]] = []
        self.open: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.seen.append((tag, dict(attrs)))
        if tag not in {"meta", "link", "img"}:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.seen.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag


def elements(html: str) -> list[tuple[str, dict[str, str | None]]]:
    parser = Elements()
    parser.feed(html)
    assert parser.open == []
    return parser.seen


def test_the_page_loads_nothing_from_anywhere(tmp_path: Path) -> None:
    html = page(full_report(), tmp_path)
    for tag, attributes in elements(html):
        assert tag not in {"script", "iframe", "object", "embed"}
        assert not any(name.startswith("on") for name in attributes)
        for name in ("src", "href", "srcset", "data"):
            value = attributes.get(name)
            assert value is None or value.startswith("data:") or (tag == "a" and value.startswith("#"))
    style = html[html.index("<style>") : html.index("</style>")]
    assert "url(" not in style and "@import" not in style
    assert "default-src 'none'" in html


def test_text_from_data_is_escaped_everywhere(tmp_path: Path) -> None:
    html = page(full_report(), tmp_path)
    assert "<script" not in html
    assert "<img src=http" not in html
    assert html.count("&lt;script&gt;") >= 8


def test_all_figures_are_on_the_page(tmp_path: Path) -> None:
    html = page(full_report(), tmp_path)
    assert sum("scope" in attributes and attributes["scope"] == "row" for _, attributes in elements(html)) >= 5
    for text in ("71.2", "61.0 to 80.0", "1\u202f234", "+20.0", "+15.0 to +25.0", "0.004", "43.2", "text only"):
        assert text in html
    for text in ("CC0 1.0", "frozen", "664\u202f128", "image is truncated", "mmmed experiment", "2.15.0", "seed: 0"):
        assert text in html
    assert "3 records were set aside" in html


def test_headings_descend_and_pictures_have_a_text(tmp_path: Path) -> None:
    seen = elements(page(full_report(), tmp_path))
    levels = [int(tag[1]) for tag, _ in seen if re.fullmatch("h[1-6]", tag)]
    assert levels[0] == 1 and levels.count(1) == 1
    assert all(after <= before + 1 for before, after in pairwise(levels))
    assert all(attributes.get("alt") for tag, attributes in seen if tag == "img")
    assert all(
        attributes.get("aria-label") or attributes.get("aria-hidden") for tag, attributes in seen if tag == "svg"
    )
    assert ("meta", {"name": "viewport", "content": "width=device-width, initial-scale=1"}) in seen


def test_a_report_of_nothing_is_still_a_page(tmp_path: Path) -> None:
    html = page(ReportData(title="Nothing yet", rows=[], main="image"), tmp_path)
    elements(html)
    assert "Not tested." in html
    assert "No record was set aside." in html
    assert "<svg" not in html


def test_figures_that_are_not_numbers_become_dashes(tmp_path: Path) -> None:
    nan = float("nan")
    rows = [
        replace(row("image"), value=nan, low=nan, high=nan, n=0),
        replace(row("image", "text"), value=nan, delta=nan, delta_low=nan, delta_high=nan, p=nan),
        replace(row("image", task="one_patient"), low=nan, high=nan),
    ]
    html = page(ReportData(title="Few", rows=rows, main="image"), tmp_path)
    assert "nan" not in re.sub("[A-Za-z]*nan[A-Za-z]+|[A-Za-z]+nan", "", html[html.index("<body>") :].lower())
    assert "Not shown." in html


@pytest.mark.parametrize(
    ("comparisons", "word"),
    [
        ([row("image", "text", delta=0.2, p=0.01), row("image", "blank", delta=0.1, p=0.01)], "Yes."),
        ([row("image", "text", delta=0.2, p=0.01), row("image", "blank", delta=0.1, p=0.2)], "In part."),
        ([row("image", "text", delta=0.02, p=0.4)], "Not shown."),
        ([row("image", "text", delta=-0.2, p=0.01)], "No: it does harm."),
        ([row("image", "majority", delta=0.2, p=0.01)], "Not tested."),
        ([], "Not tested."),
    ],
)
def test_the_answer_follows_from_the_controls(comparisons: list[Row], word: str) -> None:
    report = ReportData(title="T", rows=[row("image"), *comparisons], main="image", controls=["text", "blank"])
    assert verdict(report).word == word


def test_the_answer_gives_its_figures_and_says_what_could_have_gone_unseen() -> None:
    rows = [row("image"), row("image", "text", delta=0.2, p=0.0002), row("image", "blank", delta=0.01, p=0.7)]
    text = verdict(ReportData(title="T", rows=rows, main="image")).text
    assert "71.2\u00a0% balanced accuracy (61.0 to 80.0)" in text
    assert "better than text by 20.0 points (p\u00a0<\u202f0.001)" in text
    assert "not shown to differ from blank (+1.0 points, p\u00a0=\u00a00.70; a difference below 7.1" in text


def test_a_difference_stands_out_in_the_plot_only_if_its_adjusted_p_does(tmp_path: Path) -> None:
    for p, marks in ((0.2, 0), (0.01, 2)):
        rows = [row("image"), row("text"), row("image", "text", delta=0.2, p=p)]
        html = page(ReportData(title="T", rows=rows, main="image"), tmp_path)
        # The main arm's own value always does: once in the wide and once in the narrow plot.
        assert html.count('class="point main"') == 2 + marks


def test_cards_are_grouped_by_what_the_control_does_to_the_answer() -> None:
    groups = cards(full_report().pictures)
    assert {name: len(found) for name, found in groups.items()} == {"changed": 1, "right": 1, "wrong": 1}
    assert groups["wrong"][0].answers[0].right is None


def test_a_place_that_cannot_be_written_to_is_an_output_error(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(OutputError, match="cannot write"):
        render(full_report(), tmp_path / "file" / "report.html")
