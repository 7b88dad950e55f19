"""Models of their own asked the same questions: general and tuned ones, over seeds, with floors and contamination.

Where `experiment` trains one model and takes things away from it, here every arm is another model, and all are held
against one of them.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from mmmed.data.leakage.findings import Finding
from mmmed.data.leakage.texts import BenchmarkIndex
from mmmed.errors import ConfigError
from mmmed.evaluation.answers import ask
from mmmed.evaluation.compare import Row, compare_runs
from mmmed.evaluation.contamination import listed_sources, met_in, training_sources
from mmmed.evaluation.experiment import tasks_by_name
from mmmed.evaluation.experiment_file import MAIN, MAJORITY
from mmmed.evaluation.majority import majority
from mmmed.evaluation.model_arms import ModelArm, families, opened_when_asked, train
from mmmed.evaluation.models_file import ModelsExperiment
from mmmed.evaluation.predictions import Prediction
from mmmed.evaluation.results import adjust, write_results
from mmmed.evaluation.sharing import WHOLE, Share, beside_others, in_processes
from mmmed.evaluation.task import Task
from mmmed.evaluation.trained import Fit
from mmmed.inference.asking import Answerer
from mmmed.page.files import replace_text
from mmmed.training.perplexity import FILE as PERPLEXITY


@dataclass(frozen=True, slots=True, kw_only=True)
class Contamination:
    """How many of a task's questions share a stretch of words with what an arm was trained on.

    Args:
        arm: The arm.
        task: The task.
        questions: That were asked.
        long_enough: To have a stretch.
        met: That share one.
        worst: The greatest share of a question's stretches that was met.
    """

    arm: str
    task: str
    questions: int
    long_enough: int
    met: int
    worst: float


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelsOutcome:
    """What a run found; `perplexity` is by arm and seed."""

    rows: Sequence[Row]
    contamination: Sequence[Contamination]
    perplexity: Mapping[str, Mapping[int, Mapping[str, Mapping[str, float]]]]
    tasks: Mapping[str, Task]
    output: Path


def run_models(experiment: ModelsExperiment, output: Path, *, fit: Fit, processes: int = 1) -> ModelsOutcome:
    """Train, ask and compare; everything lands in `output`, and what is there is not made again.

    Args:
        experiment: What to run.
        output: Folder of the results.
        fit: Runs one training configuration, given the command line of `mmmed fit`.
        processes: How many train, each a model of its own, and then answer together.

    Raises:
        ConfigError: A limit is of no task, or a folder holds the training of other configurations.
    """
    tasks = _limited_tasks(experiment)
    contamination = _contamination(experiment, tasks)
    if processes != 1:
        in_processes(_train_in_turns, experiment, output, fit, processes=processes)
    trained = {
        (name, seed): _trained(experiment, name, seed, output, fit=fit)
        for seed in experiment.seeds
        for name, arm in experiment.arms.items()
        if arm.is_trained
    }
    if processes != 1:
        in_processes(_answer_all, experiment, trained, output, processes=processes)
    runs = _answer_all(experiment, trained, output, WHOLE)
    for name, task in tasks.items():
        training = task.training_answers()
        for run in runs[name]:
            run[MAJORITY] = majority(run[experiment.against], training=training)
    rows = compare_models(runs, tasks, against=experiment.against)
    write_results(output / "results.json", rows)
    outcome = ModelsOutcome(
        rows=rows,
        contamination=contamination,
        perplexity=_perplexity(trained),
        tasks=tasks,
        output=output,
    )
    replace_text(output / "texts.json", json.dumps(texts_of(outcome), indent=1) + "\n")
    return outcome


def _limited_tasks(experiment: ModelsExperiment) -> dict[str, Task]:
    tasks = tasks_by_name(experiment.tasks)
    if unknown := sorted(set(experiment.limits) - set(tasks)):
        raise ConfigError(f"limits names {unknown[0]!r}; the tasks are {', '.join(tasks)}")
    return {name: replace(task, limit=experiment.limits.get(name, task.limit)) for name, task in tasks.items()}


def _train_in_turns(experiment: ModelsExperiment, output: Path, fit: Fit, share: Share) -> None:
    """Train a model that no process has begun, with those that follow it, and then another.

    Who finds none left asks the models that need no training, a block at a time, while others still train.
    """
    for seed in experiment.seeds:
        for family in families(experiment.arms):
            for name in family if share.takes() else ():
                _trained(experiment, name, seed, output, fit=beside_others(fit, share))
    as_they_are = {name: arm for name, arm in experiment.arms.items() if not arm.is_trained}
    opened = {name: opened_when_asked(arm, None) for name, arm in as_they_are.items()}
    for task in _limited_tasks(experiment).values():
        for name, arm in as_they_are.items():
            for seed in experiment.seeds if arm.shots else experiment.seeds[:1]:
                _ask(name, arm, task, *opened[name], output=output, seed=seed, share=share)


def _ask(
    name: str, arm: ModelArm, task: Task, answerer: Answerer, identity: str, *, output: Path, seed: int, share: Share
) -> list[Prediction]:
    """Answers of an arm to a task, which are kept; none but with the whole of the shares."""
    asked = replace(task, shots=arm.shots, seed=seed if arm.shots else task.seed)
    folder = output / "predictions" / name
    said = ask(asked, {MAIN: answerer}, identities={MAIN: identity}, baselines=(), output=folder, share=share)
    return [replace(one, arm=name) for one in said.by_arm.get(MAIN, ())]


def _answer_all(
    experiment: ModelsExperiment, trained: Mapping[tuple[str, int], Path], output: Path, share: Share
) -> dict[str, list[dict[str, list[Prediction]]]]:
    """Of each task and seed, every arm's answers, or a share of them."""
    tasks = _limited_tasks(experiment)
    runs: dict[str, list[dict[str, list[Prediction]]]] = {name: [{} for _ in experiment.seeds] for name in tasks}
    for place, seed in enumerate(experiment.seeds):
        for name, arm in experiment.arms.items():
            answerer, identity = opened_when_asked(arm, trained.get((name, seed)))
            for task in tasks.values():
                said = _ask(name, arm, task, answerer, identity, output=output, seed=seed, share=share)
                if share == WHOLE:
                    runs[task.name][place][name] = said
    return runs


def compare_models(
    runs: Mapping[str, Sequence[Mapping[str, Sequence[Prediction]]]], tasks: Mapping[str, Task], *, against: str
) -> list[Row]:
    """Each arm's figures once, and each arm minus the one that all are held against, adjusted as one family."""
    rows: list[Row] = []
    for name, of_seeds in runs.items():
        for arm in of_seeds[0]:
            others = [] if arm == against else [against]
            pair = [{one: run[one] for one in (arm, *others)} for run in of_seeds]
            found = compare_runs(pair, main=arm, baselines=others, task=name, metrics=tasks[name].metrics, seed=0)
            rows += [row for row in found if row.arm == arm]
    return adjust(rows, deciding={name: task.deciding for name, task in tasks.items()})


def texts_of(outcome: ModelsOutcome) -> dict[str, Any]:
    """What was found of texts: shared with training, and perplexity."""
    return {
        "contamination": [
            {
                "arm": one.arm,
                "task": one.task,
                "questions": one.questions,
                "long_enough": one.long_enough,
                "met": one.met,
                "worst": round(one.worst, 4),
            }
            for one in outcome.contamination
        ],
        "perplexity": {
            arm: {str(seed): dict(found) for seed, found in by_seed.items()}
            for arm, by_seed in outcome.perplexity.items()
        },
    }


def _trained(experiment: ModelsExperiment, name: str, seed: int, output: Path, *, fit: Fit) -> Path:
    arm = experiment.arms[name]
    start = _trained(experiment, arm.after, seed, output, fit=fit) if arm.after is not None else None
    return train(arm, output / name / f"seed_{seed}", fit=fit, seed=seed, start=start)


def _contamination(experiment: ModelsExperiment, tasks: Mapping[str, Task]) -> list[Contamination]:
    """For each trained arm and task, the questions of which a stretch stands in a training text."""
    asked = {name: [replace(one, id=f"{name}:{one.id}") for one in task.examples()] for name, task in tasks.items()}
    long_enough = {name: len(BenchmarkIndex(examples)) for name, examples in asked.items()}
    known: dict[tuple[str, ...], list[Finding]] = {}
    found = []
    for arm, described in experiment.arms.items():
        stages = _stages(experiment, described)
        if not stages:
            continue
        key = tuple(dict.fromkeys(json.dumps(listed) for stage in stages for listed in listed_sources(Path(stage))))
        if key not in known:
            known[key] = met_in(training_sources([json.loads(one) for one in key]), asked)
        for name, examples in asked.items():
            scores = [one.score for one in known[key] if one.second.startswith(f"{name}:")]
            found.append(
                Contamination(
                    arm=arm,
                    task=name,
                    questions=len(examples),
                    long_enough=long_enough[name],
                    met=len(scores),
                    worst=max(scores, default=0.0),
                )
            )
    return found


def _stages(experiment: ModelsExperiment, arm: ModelArm) -> list[str]:
    """All stages that a model went through, those of the arm it follows first."""
    before = _stages(experiment, experiment.arms[arm.after]) if arm.after is not None else []
    return [*before, *arm.stages]


def _perplexity(trained: Mapping[tuple[str, int], Path]) -> dict[str, dict[int, dict[str, dict[str, float]]]]:
    """Before the first stage of an arm and after its last, where both measured."""
    found: dict[str, dict[int, dict[str, dict[str, float]]]] = {}
    for (name, seed), model in trained.items():
        files = [folder / PERPLEXITY for folder in sorted(model.parents[1].glob("*_*/"), key=_number)]
        kept = [json.loads(file.read_text(encoding="utf-8")) for file in files if file.is_file()]
        if kept:
            before, after = kept[0]["before"], kept[-1]["after"]
            shared = [text for text in after if text in before]
            found.setdefault(name, {})[seed] = {
                "before": {text: before[text] for text in shared},
                "after": {text: after[text] for text in shared},
                "rise": {text: after[text] / before[text] - 1 for text in shared},
            }
    return found


def _number(folder: Path) -> int:
    return int(folder.name.partition("_")[0])
