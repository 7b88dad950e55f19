"""The page a reader judges an experiment by: one HTML file that needs nothing beside it.

Pictures are data URIs, plots are inline SVG, and a content policy in the page forbids every other load. All text from
data sets is escaped: by the template, and by `escape` inside the plots.
"""

import base64
import hashlib
from collections import Counter
from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

from mmmed.evaluation.browser import browser, script
from mmmed.evaluation.compare import Row
from mmmed.evaluation.drawing import charts
from mmmed.evaluation.forests import forest_wide, forests_narrow
from mmmed.evaluation.predictions import Prediction
from mmmed.evaluation.report_data import Picture, ReportData
from mmmed.evaluation.results import primary_metrics
from mmmed.evaluation.scorers import ChoiceScorer, ExactMatchScorer, normalise
from mmmed.evaluation.significance import PERMUTATIONS
from mmmed.evaluation.statistics import DRAWS
from mmmed.evaluation.verdict import detectable, verdict
from mmmed.page.html import data_uri, write_page

QUARANTINE_SHOWN = 500


class Card(NamedTuple):
    """A picture made ready for the page."""

    picture: str
    prediction: Prediction
    answers: list["Said"]


class Said(NamedTuple):
    """One arm's answer on a card; `right` is none where the answer could not be scored."""

    arm: str
    answer: str
    right: bool | None
    confidence: float | None


def render(report: ReportData, path: Path) -> None:
    """Write the report as one HTML file, whole or not at all.

    Raises:
        OutputError: The folder cannot be written to.
    """
    primary = primary_metrics(report.rows)
    write_page(
        path,
        room="mmmed.evaluation",
        template="report.html.j2",
        report=report,
        verdict=verdict(report),
        primary_rows=_by_task([row for row in report.rows if row.metric == primary[row.task]]),
        other_rows=_by_task([row for row in report.rows if row.metric != primary[row.task]]),
        forest_wide=forest_wide(report, primary),
        forests_narrow=forests_narrow(report, primary),
        charts=charts(report.curves),
        groups=cards(report.pictures),
        quarantine=Counter((record.source, record.reason) for record in report.quarantined).most_common(),
        quarantine_shown=QUARANTINE_SHOWN,
        splits=list(dict.fromkeys(split for row in report.data for split in row.records)),
        detectable=detectable,
        draws=DRAWS,
        permutations=PERMUTATIONS,
        browser=browser(report.items) if report.items else None,
        script_hash=f"sha256-{base64.b64encode(hashlib.sha256(script().encode()).digest()).decode()}",
    )


def cards(pictures: Iterable[Picture]) -> dict[str, list[Card]]:
    """Group pictures: answers the control changes first, then the other right and wrong ones."""
    groups: dict[str, list[Card]] = {"changed": [], "right": [], "wrong": []}
    for picture in pictures:
        answers = [_said(each) for each in (picture.prediction, picture.control) if each is not None]
        is_changed = len({normalise(said.answer) for said in answers}) > 1
        group = "changed" if is_changed else "right" if answers[0].right else "wrong"
        uri = data_uri(picture.image) if picture.image is not None else ""
        groups[group].append(Card(uri, picture.prediction, answers))
    return groups


def _by_task(rows: Iterable[Row]) -> dict[str, list[Row]]:
    groups: dict[str, list[Row]] = {}
    for row in rows:
        groups.setdefault(row.task, []).append(row)
    return groups


def _said(prediction: Prediction) -> Said:
    scorer = ChoiceScorer() if prediction.options else ExactMatchScorer()
    value = scorer.score(prediction).value
    return Said(
        arm=prediction.arm,
        answer=prediction.answer,
        right=None if value is None else value == 1.0,
        confidence=prediction.confidence,
    )
