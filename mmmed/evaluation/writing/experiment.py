"""Clinical writing by several arms: who writes what, what the checks say of it, and what raters are given."""

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml
from tqdm import tqdm

from mmmed.data.sources.clinical_writing import ClinicalWriting, order_of
from mmmed.data.writing_case import WritingCase, read_cases
from mmmed.errors import ConfigError
from mmmed.evaluation.arms import prediction
from mmmed.evaluation.compare import Row
from mmmed.evaluation.model_arms import ModelArm, families, opened_when_asked, read_arms, read_keys, train
from mmmed.evaluation.predictions import read_jsonl, write_jsonl
from mmmed.evaluation.results import write_results
from mmmed.evaluation.sharing import Share, beside_others, in_processes
from mmmed.evaluation.trained import Fit
from mmmed.evaluation.writing.checks import check
from mmmed.evaluation.writing.prompting import document_of, put
from mmmed.evaluation.writing.rating import Document, write_forms
from mmmed.evaluation.writing.scoring import TASK, Verdicts, rows
from mmmed.inference.asking import Answerer
from mmmed.inference.generation import Decoding
from mmmed.page.files import replace_text
from mmmed.records import Example

KIND = "writing"
NOTES, CAREFUL = "notes", "careful"
"""Arms that no model writes: the notes of the case as they stand, which shows what a check is passed by without
writing, and the case's own document, which passes all."""


@dataclass(frozen=True, slots=True, kw_only=True)
class WritingExperiment:
    """What an experiment.yaml of clinical writing says.

    Args:
        name: Short name.
        question: What is to be answered.
        cases: Folder of the cases.
        arms: Who writes.
        against: Which arm each arm is held against.
        folds: Parts of the cases; arms that learn from other cases are trained once for each.
        max_new_tokens: Longest document with its reasoning.
        raters: How many rating forms are made.
        rated: Cases of each kind whose documents are rated.
    """

    name: str
    question: str
    cases: Path
    arms: Mapping[str, ModelArm]
    against: Mapping[str, str]
    folds: int = 2
    max_new_tokens: int = 400
    raters: int = 2
    rated: int = 2


@dataclass(frozen=True, slots=True, kw_only=True)
class WritingOutcome:
    """What was written, and what was found in it; `documents` and `verdicts` are by arm and case."""

    cases: Sequence[WritingCase]
    documents: Mapping[str, Mapping[str, str]]
    verdicts: Mapping[str, Verdicts]
    rows: Sequence[Row]
    output: Path


_KEYS = {
    "name": True,
    "question": True,
    "cases": True,
    "arms": True,
    "against": False,
    "folds": False,
    "max_new_tokens": False,
    "raters": False,
    "rated": False,
}


def read_writing(path: Path) -> WritingExperiment:
    """Read an experiment of clinical writing. Raises `ConfigError`."""
    content = read_keys(path, kind=KIND, known=_KEYS)
    arms = read_arms(content["arms"], place=f"experiment {path}")
    against = content.get("against") or {}
    for arm in [*against, *against.values()]:
        if arm not in (*arms, NOTES, CAREFUL):
            raise ConfigError(f"experiment {path}: against names {arm!r}; known are {', '.join(arms)}")
    if taken := {NOTES, CAREFUL} & set(arms):
        raise ConfigError(f"experiment {path}: {taken.pop()!r} is an arm of every experiment; choose another name")
    numbers = {key: content[key] for key in ("folds", "max_new_tokens", "raters", "rated") if key in content}
    for key, value in numbers.items():
        if not isinstance(value, int) or value < 1:
            raise ConfigError(f"experiment {path}: {key} is {value!r}; expected a whole number from 1")
    return WritingExperiment(
        name=str(content["name"]),
        question=str(content["question"]),
        cases=Path(content["cases"]),
        arms=arms,
        against=against,
        **numbers,
    )


def run_writing(experiment: WritingExperiment, output: Path, *, fit: Fit, processes: int = 1) -> WritingOutcome:
    """Train, write, check; everything lands in `output`, and what is there is not made again.

    Args:
        experiment: What to run.
        output: Folder of the results.
        fit: Runs one training configuration, given the command line of `mmmed fit`.
        processes: How many train and write, each for an arm of its own.
    """
    cases = list(read_cases(experiment.cases))
    if processes != 1:
        in_processes(_write_in_turns, experiment, cases, output, fit, processes=processes)
    documents = {
        NOTES: {case.id: case.given for case in cases},
        CAREFUL: {case.id: case.reference for case in cases},
    }
    for name, arm in experiment.arms.items():
        documents[name] = {
            id: document_of(said, arm.strategy)
            for id, said in _written(experiment, name, cases, output=output, fit=fit).items()
        }
    verdicts = {arm: {case.id: check(by_case[case.id], case) for case in cases} for arm, by_case in documents.items()}
    found = rows(verdicts, cases, against=list(experiment.against.items()))
    write_results(output / "results.json", found)
    outcome = WritingOutcome(cases=cases, documents=documents, verdicts=verdicts, rows=found, output=output)
    replace_text(
        output / "checks.jsonl", "".join(f"{json.dumps(one, ensure_ascii=False)}\n" for one in _lines(outcome))
    )
    write_forms(output / "rating", _to_rate(outcome, of_each=experiment.rated), raters=experiment.raters)
    return outcome


def _write_in_turns(
    experiment: WritingExperiment, cases: Sequence[WritingCase], output: Path, fit: Fit, share: Share
) -> None:
    """Train and write for the arms that no process has begun, those first that take longest."""
    arms = experiment.arms
    as_they_are = [name for name, arm in arms.items() if not arm.is_trained]
    as_they_are.sort(key=lambda name: (arms[name].strategy == "chain_of_thought", arms[name].shots), reverse=True)
    for family in [*families(arms), *([name] for name in as_they_are)]:
        if share.takes():
            for name in family:
                _written(experiment, name, cases, output=output, fit=beside_others(fit, share))


def _written(
    experiment: WritingExperiment, name: str, cases: Sequence[WritingCase], *, output: Path, fit: Fit
) -> dict[str, str]:
    """What an arm says to each case, in the order of the cases."""
    arm = experiment.arms[name]
    said: dict[str, str] = {}
    for part, own in _parts(experiment, arm):
        folder = None
        if arm.is_trained:
            runs = output / name / part if part else output / name
            start = _trained(experiment, arm.after, part, output) if arm.after else None
            folder = train(arm, runs, fit=fit, start=start, override=_override(arm, part))
        asked = [put(case, cases, shots=arm.shots, strategy=arm.strategy) for case in cases if case.id in own]
        said |= _answers(asked, opened_when_asked(arm, folder), name, experiment.max_new_tokens, output)
    return {case.id: said[case.id] for case in cases}


def _answers(
    asked: Sequence[Example], who: tuple[Answerer, str], arm: str, max_new_tokens: int, output: Path
) -> dict[str, str]:
    """What is said to each order; answers of the same weights to the same orders are read back."""
    answerer, identity = who
    key = hashlib.sha256(repr((identity, max_new_tokens, [one.turns for one in asked])).encode()).hexdigest()[:16]
    kept = output / "predictions" / f"{arm}.{key}.jsonl"
    if not kept.is_file():
        with tqdm(total=len(asked), desc=arm, unit="document") as progress:
            answers = answerer.write(asked, decoding=Decoding(max_new_tokens=max_new_tokens), advance=progress.update)
        write_jsonl(
            kept, [prediction(example, one, arm=arm, task=TASK) for example, one in zip(asked, answers, strict=True)]
        )
    return {one.id.partition(":")[2]: one.answer for one in read_jsonl(kept)}


def _parts(experiment: WritingExperiment, arm: ModelArm) -> list[tuple[str, set[str]]]:
    """The cases that each of an arm's models writes about: all, or by fold where it learns from other cases."""
    if not _learns_cases(arm):
        return [("", {case.id for case in read_cases(experiment.cases)})]
    parts = []
    for fold in range(experiment.folds):
        source = ClinicalWriting(str(experiment.cases), folds=experiment.folds, fold=fold)
        asked = {one.id for one in source.records() if isinstance(one, Example) and one.split == "test"}
        parts.append((f"fold_{fold}_of_{experiment.folds}", asked))
    return parts


def _trained(experiment: WritingExperiment, name: str, part: str, output: Path) -> Path:
    """Where the model of an arm lies that was trained before."""
    arm = experiment.arms[name]
    folder = output / name / part if _learns_cases(arm) else output / name
    return folder / f"{len(arm.stages)}_{Path(arm.stages[-1]).stem}" / "model"


def _learns_cases(arm: ModelArm) -> bool:
    return any(_is_cases(source) for stage in arm.stages for source in _sources(stage))


def _override(arm: ModelArm, part: str) -> dict[str, Any] | None:
    """The sources of the arm's last stage with the fold that is held out."""
    if not part:
        return None
    _, fold, _, folds = part.split("_")
    if len(arm.stages) > 1:
        raise ConfigError(f"an arm that learns from cases has {len(arm.stages)} stages; expected one, with after:")
    sources = [
        {**source, "init_args": {**source["init_args"], "folds": int(folds), "fold": int(fold)}}
        if _is_cases(source)
        else source
        for source in _sources(arm.stages[0])
    ]
    return {"data": {"init_args": {"sources": sources}}}


def _sources(stage: str) -> list[dict[str, Any]]:
    content = yaml.safe_load(Path(stage).read_text(encoding="utf-8"))
    data = content.get("data") if isinstance(content, dict) else None
    listed = data.get("init_args", {}).get("sources", []) if isinstance(data, dict) else []
    return [one for one in listed if isinstance(one, dict)]


def _is_cases(source: Mapping[str, Any]) -> bool:
    return str(source.get("class_path", "")).endswith(".ClinicalWriting")


def _lines(outcome: WritingOutcome) -> list[dict[str, Any]]:
    return [
        {
            "arm": arm,
            "case": case.id,
            "kind": case.kind,
            "faults": {name: list(said.faults) for name, said in by_case[case.id].items() if said.faults},
            "passed": [name for name, said in by_case[case.id].items() if said.passed],
        }
        for arm, by_case in outcome.verdicts.items()
        for case in outcome.cases
    ]


def _to_rate(outcome: WritingOutcome, *, of_each: int) -> list[Document]:
    """The documents of the first cases of each kind, of all arms but the notes."""
    chosen: dict[str, list[WritingCase]] = {}
    for case in outcome.cases:
        chosen.setdefault(case.kind, []).append(case)
    return [
        Document(case=case.id, arm=arm, order=order_of(case).question, text=by_case[case.id])
        for cases in chosen.values()
        for case in cases[:of_each]
        for arm, by_case in outcome.documents.items()
        if arm != NOTES
    ]
