"""The report of clinical writing: rates by arm, differences, and every document beside its check-list."""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from statistics import fmean
from typing import Any

from mmmed.data.sources.clinical_writing import order_of
from mmmed.data.writing_case import WritingCase
from mmmed.evaluation.compare import Row
from mmmed.evaluation.writing.checks import CHECKS
from mmmed.evaluation.writing.experiment import CAREFUL, NOTES, WritingExperiment, WritingOutcome
from mmmed.evaluation.writing.rating import SCALES, Ratings
from mmmed.evaluation.writing.readability import readability
from mmmed.evaluation.writing.scoring import ALL
from mmmed.page.html import write_page
from mmmed.page.wording import label, percent, points
from mmmed.training.provenance import environment


def publish_writing(experiment: WritingExperiment, outcome: WritingOutcome, *, command: str) -> Path:
    """Write `report.html` beside the results and give its path."""
    arms = [NOTES, *experiment.arms, CAREFUL]
    alone = {(row.metric, row.arm): row for row in outcome.rows if row.baseline is None}
    differences: dict[str, list[Row]] = {}
    for row in outcome.rows:
        if row.baseline is not None:
            differences.setdefault(f"{label(row.arm)} against {label(row.baseline)}", []).append(row)
    names = [name for name in (ALL, *CHECKS) if alone[name, NOTES].n]
    best = max(experiment.arms or [NOTES], key=lambda arm: alone[ALL, arm].value)
    page = outcome.output / "report.html"
    write_page(
        page,
        room="mmmed.evaluation.writing",
        template="writing.html.j2",
        title=experiment.name.replace("_", " "),
        question=experiment.question,
        verdict=f"{_sentence(label(best))} passes {percent(alone[ALL, best].value, 0)} % of the checks of a case.",
        sentences=list(_sentences(outcome.rows, alone)),
        arms=arms,
        table={name: [alone[name, arm] for arm in arms] for name in names},
        grades=_grades(outcome, arms),
        meanings={ALL: "share of a case's checks that its document passes, mean over cases"}
        | {name: _meaning(name) for name in names if name in CHECKS},
        differences={pair: [row for row in lines if row.n] for pair, lines in differences.items()},
        kinds=_kinds(outcome, [*experiment.arms, CAREFUL]),
        commands=[command, f"mmmed experiment rate {outcome.output} --forms RATER_1.csv,RATER_2.csv"],
        environment=environment(),
    )
    return page


def summary_of_writing(outcome: WritingOutcome, page: Path) -> Iterator[str]:
    """A line for each arm, and where everything lies."""
    for row in outcome.rows:
        if row.metric == ALL and row.baseline is None:
            interval = f"({percent(row.low)} to {percent(row.high)})"
            yield f"{row.arm}: {percent(row.value)} % of checks passed {interval}, n = {row.n}"
    for row in outcome.rows:
        if row.metric == ALL and row.baseline is not None:
            yield f"    {_difference(row)}"
    yield f"report      {page}"
    yield f"results     {outcome.output / 'results.json'}"
    yield f"rating      {outcome.output / 'rating'}"


def lines_of_ratings(ratings: Ratings) -> Iterator[str]:
    """How far raters agree, and each arm's means."""
    yield f"{ratings.raters} raters, {ratings.documents} documents rated"
    for scale in SCALES:
        alpha = ratings.agreement[scale]
        interval = f"(95 % interval {alpha.low:.3f} to {alpha.high:.3f})"
        yield f"{scale}: Krippendorff's alpha (ordinal) {alpha.value:.3f} {interval}"
        for arm, means in ratings.means.items():
            yield f"    {arm} {means[scale].value:.2f} ({means[scale].low:.2f} to {means[scale].high:.2f})"


def _sentences(rows: Sequence[Row], alone: Mapping[tuple[str, str], Row]) -> Iterator[str]:
    yield (
        f"The notes as they stand pass {percent(alone[ALL, NOTES].value, 0)} %, "
        f"over {alone[ALL, NOTES].n} cases: what is reached without writing."
    )
    for row in rows:
        if row.metric == ALL and row.baseline is not None:
            yield _sentence(f"{_difference(row)}.")


def _sentence(text: str) -> str:
    return text[:1].upper() + text[1:]


def _difference(row: Row) -> str:
    return (
        f"{label(row.arm)} against {label(row.baseline or '')}: {points(row.delta)} points "
        f"({points(row.delta_low)} to {points(row.delta_high)})"
    )


def _grades(outcome: WritingOutcome, arms: Sequence[str]) -> dict[str, list[str]]:
    """Mean school grades of what is written for patients, by arm."""
    for_patients = [case.id for case in outcome.cases if case.grade is not None]
    found = {
        arm: [one for id in for_patients if (one := readability(outcome.documents[arm][id])) is not None]
        for arm in arms
    }
    return {
        "Flesch-Kincaid grade, for patients": [_mean([one.flesch_kincaid for one in found[arm]]) for arm in arms],
        "SMOG grade, for patients": [_mean([one.smog for one in found[arm]]) for arm in arms],
    }


def _mean(values: Sequence[float]) -> str:
    return f"{fmean(values):.1f}" if values else "none"


def _meaning(name: str) -> str:
    return (CHECKS[name].__doc__ or "").strip().rstrip(".")


def _kinds(outcome: WritingOutcome, arms: Sequence[str]) -> dict[str, list[dict[str, Any]]]:
    kinds: dict[str, list[dict[str, Any]]] = {}
    for case in outcome.cases:
        kinds.setdefault(case.kind, []).append(_shown(case, outcome, arms))
    return kinds


def _shown(case: WritingCase, outcome: WritingOutcome, arms: Sequence[str]) -> dict[str, Any]:
    documents = []
    for arm in arms:
        verdicts = outcome.verdicts[arm][case.id]
        checks = [{"name": name, "passed": said.passed, "faults": list(said.faults)} for name, said in verdicts.items()]
        passed = sum(said.passed for said in verdicts.values())
        documents.append({"arm": arm, "text": outcome.documents[arm][case.id], "checks": checks, "passed": passed})
    return {"id": case.id, "specialty": case.specialty, "order": order_of(case).question, "documents": documents}
