"""The command that scores a model on tasks."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from mmmed.cli.lists import listed
from mmmed.errors import ConfigError
from mmmed.evaluation.answers import Answers, ask
from mmmed.evaluation.compare import Row
from mmmed.evaluation.controls import CONTROLS
from mmmed.evaluation.experiment import compare_all, tasks_by_name
from mmmed.evaluation.experiment_file import MAIN, MAJORITY
from mmmed.evaluation.folders import write_contents
from mmmed.evaluation.metrics.protocols import Protocol
from mmmed.evaluation.results import in_columns, primary_metrics, write_results
from mmmed.evaluation.sharing import WHOLE, Share, in_processes, launched_share, wait_for_others
from mmmed.evaluation.task import Task
from mmmed.inference.asking import Answerer, Strategy
from mmmed.inference.endpoint import Endpoint
from mmmed.inference.loading import load
from mmmed.inference.prompting import AnswerForm
from mmmed.inference.retrieval import recall
from mmmed.inference.session import Precision
from mmmed.inference.shots import Choice

_HEADINGS = ("task", "arm", "n", "metric", "value", "95 % interval", "majority", "unparsed")


def evaluate(
    checkpoint: str,
    tasks: str,
    output: str = "outputs/evaluation",
    controls: bool = True,
    limit: int | None = None,
    model: str = "",
    chat: bool = False,
    answer: AnswerForm | None = None,
    shots: int | None = None,
    shot_choice: Choice | None = None,
    strategy: Strategy | None = None,
    protocol: Protocol | None = None,
    samples: int | None = None,
    temperature: float | None = None,
    max_new_tokens: int | None = None,
    seed: int | None = None,
    processes: int = 1,
    precision: Precision = "float32",
) -> None:
    """Score a model on tasks, against its image controls and the majority answer.

    What is answered is kept: the same weights are not asked the same questions twice, also after a stop.

    Args:
        checkpoint: Folder of a run or its `model` folder; a LLaVA or any causal language model of transformers, by
            folder, by GGUF file, by hub name, or by a name of `mmmed weights list`; or the address of an
            OpenAI-compatible endpoint, such as http://localhost:8000/v1, to which questions and images are then sent.
        tasks: Task files, or names of files in configs/task, separated by commas; a name that several files begin
            with, such as vqa_rad, stands for all of them.
        output: Folder of predictions and results.json.
        controls: Ask a model that sees again with the image blank, shuffled, replaced by noise and absent.
        limit: Most examples of each task, of whole patients.
        model: Name of the model at an endpoint.
        chat: Put questions to a plain language model in its tokenizer's chat template.
        answer: In the place of the tasks' own: text or letters.
        shots: In the place of the tasks' own: examples before each question.
        shot_choice: In the place of the tasks' own: fixed, random or nearest.
        strategy: In the place of the tasks' own: direct, written, chain_of_thought or self_consistency.
        protocol: In the place of the tasks' own rule and scorer: strict, llava_med, multimedeval or lmms; answers are
            then written.
        samples: In the place of the tasks' own: how often self_consistency asks.
        temperature: In the place of the tasks' own: of written answers.
        max_new_tokens: In the place of the tasks' own: longest written answer.
        seed: In the place of the tasks' own: what shots are drawn and answers sampled by.
        processes: How many answer together on this machine; over several machines, start this command by torchrun.
        precision: What the language model computes in: float32 or bfloat16, which is faster where the device has units
            for it, and moves the probability of an option by a percent or two.
    """
    files = [file for name in listed(tasks) for file in _task_files(name)]
    if not files:
        raise ConfigError("--tasks names no task; the tasks of the project are in configs/task/")
    given: dict[str, Any] = {
        "limit": limit,
        "answer": answer,
        "shots": shots,
        "shot_choice": shot_choice,
        "strategy": strategy,
        "protocol": protocol,
        "samples": samples,
        "temperature": temperature,
        "max_new_tokens": max_new_tokens,
        "seed": seed,
    }
    changes = {name: value for name, value in given.items() if value is not None}
    if protocol is not None:
        changes["scorer"] = None
    evaluation = _Evaluation(checkpoint, tuple(files), changes, controls, model, chat, Path(output), precision)
    loaded = evaluation.tasks()
    share = launched_share()
    if share != WHOLE:
        evaluation.answers(share)
        wait_for_others()
        if share.number:
            return
    elif processes != 1:
        in_processes(_answer, evaluation, processes=processes)
    answered = evaluation.answers(WHOLE, loaded)
    predictions = {name: answers.by_arm for name, answers in answered.items()}
    rows = compare_all([predictions], loaded)
    write_contents(Path(output), [answered], loaded)
    write_results(Path(output) / "results.json", rows)
    print("\n".join(table(rows)))
    for task in loaded.values():
        if task.index is not None:
            asked = task.examples()
            found = recall(task.retrieved(asked) or [], [f"{one.source}:{one.id}" for one in asked])
            print(f"{task.name}: the question's own passage is among the {task.passages} retrieved for {found:.3f}")
    print(f"results     {Path(output) / 'results.json'}")


@dataclass(frozen=True)
class _Evaluation:
    """What is asked of whom, in terms that can be sent to another process."""

    checkpoint: str
    files: tuple[Path, ...]
    changes: Mapping[str, Any]
    controls: bool
    model: str
    chat: bool
    output: Path
    precision: Precision

    def tasks(self) -> dict[str, Task]:
        return {name: replace(task, **self.changes) for name, task in tasks_by_name(self.files).items()}

    def answers(self, share: Share, tasks: Mapping[str, Task] | None = None) -> dict[str, Answers]:
        """Every task's answers, or a share of them; the tasks are read unless given."""
        answerer, identity, sees = _open(self.checkpoint, model=self.model, chat=self.chat, precision=self.precision)

        def baselines(task: Task) -> list[str]:
            has_images = self.controls and sees and any(example.images for example in task.examples())
            return [MAJORITY, *(CONTROLS if has_images else [])]

        return {
            name: ask(
                task,
                {MAIN: answerer},
                identities={MAIN: identity},
                baselines=baselines(task),
                output=self.output / "predictions",
                share=share,
            )
            for name, task in (tasks or self.tasks()).items()
        }


def _answer(evaluation: _Evaluation, share: Share) -> None:
    evaluation.answers(share)


def table(rows: Sequence[Row]) -> list[str]:
    """Lines of a table: every arm's deciding figure on every task, beside the majority's and the unparsed share."""
    alone = {(row.task, row.arm, row.metric): row for row in rows if row.baseline is None}
    primary = primary_metrics(rows)
    cells = [_HEADINGS]
    for task, arm in dict.fromkeys((row.task, row.arm) for row in rows if row.arm != MAJORITY):
        metric = primary[task]
        row = alone[task, arm, metric]
        cells.append(
            (
                task,
                arm,
                str(row.n),
                metric,
                f"{row.value:.3f}",
                f"{row.low:.3f} to {row.high:.3f}",
                f"{alone[task, MAJORITY, metric].value:.3f}",
                f"{alone[task, arm, 'unparsed'].value:.3f}",
            )
        )
    return in_columns(cells)


def _open(checkpoint: str, *, model: str, chat: bool, precision: Precision) -> tuple[Answerer, str, bool]:
    """Who is asked, what its answers are kept under, and whether it sees."""
    if checkpoint.startswith(("http://", "https://")):
        if chat:
            raise ConfigError("--chat is for language models on this machine; an endpoint always takes a chat")
        if precision != "float32":
            raise ConfigError(f"--precision {precision} is for models on this machine; an endpoint has its own")
        return Endpoint(url=checkpoint, model=model), f"{checkpoint} {model}", True
    if model:
        raise ConfigError(f"--model {model!r} names a model at an endpoint, and {checkpoint} is none; drop it")
    session = load(checkpoint, chat=chat, precision=precision)
    return session, session.identity(), session.model.vision is not None


def _task_files(name: str) -> list[Path]:
    if Path(name).suffix == ".yaml":
        return [Path(name)]
    file = Path("configs/task") / f"{name}.yaml"
    return [file] if file.is_file() else sorted(file.parent.glob(f"{name}_*.yaml")) or [file]
