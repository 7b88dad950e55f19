"""An experiment: arms that differ in one thing, asked the same questions, compared by patient.

`run` trains what is not trained yet, asks what is not answered yet, compares and writes the results; after a stop it
goes on where it was.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import yaml

from mmmed.errors import ConfigError
from mmmed.evaluation.answers import Answers, ask
from mmmed.evaluation.compare import WORDING, Row, compare_runs
from mmmed.evaluation.experiment_file import MAIN, TEXT_ONLY, ZERO_SHOT, Experiment
from mmmed.evaluation.folders import write_contents
from mmmed.evaluation.predictions import Prediction
from mmmed.evaluation.results import adjust, write_results
from mmmed.evaluation.sharing import WHOLE, Share, in_processes
from mmmed.evaluation.task import Task, load_task
from mmmed.evaluation.text_classifier import load_reading_arm
from mmmed.evaluation.trained import TEXT_ONLY_OVERRIDE, Fit, train, trains_language
from mmmed.inference.session import open_session
from mmmed.page.files import replace_text

Answered = Mapping[str, Mapping[str, Sequence[Prediction]]]
"""What one run answered, by task and arm."""


@dataclass(frozen=True)
class Outcome:
    """What the runs of an experiment found, and where they left it.

    Args:
        rows: All figures.
        runs: Of each seed, the answers by task and arm.
        tasks: What was asked.
        arms: Of each seed, the folders of the trained models by arm.
        output: Folder of everything.
    """

    rows: list[Row]
    runs: Sequence[Answered]
    tasks: dict[str, Task]
    arms: list[dict[str, Path]]
    output: Path


def run(experiment: Experiment, output: Path, *, fit: Fit, processes: int = 1) -> Outcome:
    """Train, ask and compare, once for each seed; everything lands in `output`.

    Args:
        experiment: What to run.
        output: Folder of the results.
        fit: Runs one training configuration, given the command line of `mmmed fit`.
        processes: How many answer together, once all is trained.

    Raises:
        ConfigError: Two tasks share a name, or the text-only arm or the text classifier has nothing to learn.
    """
    tasks = tasks_by_name(experiment.tasks)
    if experiment.text_classifier is not None and not any(
        task.is_closed and task.training_answers() for task in tasks.values()
    ):
        raise ConfigError("no task has closed questions to train a text classifier on; drop text_classifier")
    trained = train_arms(experiment, output, fit=fit)
    if processes != 1:
        in_processes(_answer_all, experiment, trained, output, processes=processes)
    runs = _answer_all(experiment, trained, output, WHOLE, tasks)
    answered = [{name: answers.by_arm for name, answers in one.items()} for one in runs]
    rows = compare_all(answered, tasks, no_worse=experiment.no_worse)
    write_contents(output, runs, tasks)
    write_results(output / "results.json", rows)
    return Outcome(rows, answered, tasks, trained, output)


def _answer_all(
    experiment: Experiment,
    trained: Sequence[Mapping[str, Path]],
    output: Path,
    share: Share,
    tasks: Mapping[str, Task] | None = None,
) -> list[dict[str, Answers]]:
    """Of each seed, every task's answers, or a share of them."""
    reader = load_reading_arm(experiment.text_classifier) if experiment.text_classifier else None
    tasks = tasks if tasks is not None else tasks_by_name(experiment.tasks)
    runs: list[dict[str, Answers]] = []
    for folders in trained:
        sessions = {arm: open_session(folder) for arm, folder in folders.items()}
        identities = {arm: session.identity() for arm, session in sessions.items()}
        runs.append(
            {
                name: ask(
                    task,
                    sessions,
                    identities=identities,
                    baselines=experiment.baselines,
                    output=output / "predictions",
                    reader=reader,
                    share=share,
                )
                for name, task in tasks.items()
            }
        )
    return runs


def train_arms(experiment: Experiment, output: Path, *, fit: Fit) -> list[dict[str, Path]]:
    """Train every arm of an experiment for each of its seeds, and give the folders of their models.

    An arm that nothing is trained of has no seed and stands in every run.

    Raises:
        ConfigError: No stage trains the language model that an arm is to be.
    """
    text_stages = [stage for stage in experiment.stages if trains_language(stage)]
    for arm in (TEXT_ONLY, ZERO_SHOT):
        if arm in experiment.baselines and not text_stages:
            raise ConfigError(f"no stage trains the language model; drop {arm} from the baselines")
    override = output / "text_only.yaml"
    if {TEXT_ONLY, ZERO_SHOT} & set(experiment.baselines):
        replace_text(override, yaml.safe_dump(TEXT_ONLY_OVERRIDE))
    seeds: Sequence[int | None] = experiment.seeds or (None,)
    trained: list[dict[str, Path]] = []
    for seed in seeds:
        folder = output if seed is None else output / f"seed_{seed}"
        arms = {MAIN: train(experiment.stages, folder / MAIN, fit=fit, seed=seed)}
        if TEXT_ONLY in experiment.baselines:
            arms[TEXT_ONLY] = train(text_stages, folder / TEXT_ONLY, fit=fit, override=override, seed=seed)
        if ZERO_SHOT in experiment.baselines:
            arms[ZERO_SHOT] = train(text_stages[:1], output / ZERO_SHOT, fit=fit, override=override, is_untrained=True)
        trained.append(arms)
    return trained


def tasks_by_name(files: Sequence[str | Path]) -> dict[str, Task]:
    """Read task files. Raises `ConfigError` if two are of the same name, which names figures and predictions."""
    tasks: dict[str, Task] = {}
    for file in files:
        task = load_task(file)
        if task.name in tasks:
            raise ConfigError(f"task file {file}: a second task {task.name!r}; give each task a name of its own")
        tasks[task.name] = task
    return tasks


def compare_all(
    runs: Sequence[Answered], tasks: Mapping[str, Task], *, no_worse: Mapping[str, float] | None = None
) -> list[Row]:
    """The rows of all tasks, adjusted as one family.

    Args:
        runs: What each seed's run answered.
        tasks: What was asked.
        no_worse: Margins by baseline; a baseline that a task does not have is left out there.
    """
    rows: list[Row] = []
    for name, task in tasks.items():
        asked = [one[name] for one in runs]
        others = [arm for arm in asked[0] if arm != MAIN and not arm.startswith(WORDING)]
        rows += compare_runs(
            asked,
            main=MAIN,
            baselines=others,
            task=name,
            metrics=task.metrics,
            seed=0,
            no_worse={arm: margin for arm, margin in (no_worse or {}).items() if arm in others},
        )
    return adjust(rows, deciding={name: task.deciding for name, task in tasks.items()})
