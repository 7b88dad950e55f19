"""Every arm's answers to a task, each asked for once."""

import contextlib
import hashlib
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from tqdm import tqdm

from mmmed.evaluation.arms import can_probe, linear_probe, prediction
from mmmed.evaluation.blocks import (
    Advance,
    PixelDigests,
    Questions,
    answer_blocks,
    blocks_of,
    kept_answers,
)
from mmmed.evaluation.compare import WORDING
from mmmed.evaluation.controls import CONTROLS, FLOORS, control_named
from mmmed.evaluation.experiment_file import LINEAR_PROBE, MAIN, MAJORITY
from mmmed.evaluation.majority import majority
from mmmed.evaluation.predictions import Prediction, read_jsonl, write_found, write_jsonl
from mmmed.evaluation.sharing import WHOLE, Share
from mmmed.evaluation.task import Task
from mmmed.evaluation.text_classifier import ARM as TEXT_CLASSIFIER
from mmmed.evaluation.text_classifier import ReadingArm, answer_by_reading, can_read
from mmmed.inference.asking import Answerer
from mmmed.inference.retrieval import Found, cited
from mmmed.inference.session import Session
from mmmed.inference.shots import choose_shots
from mmmed.records import Example
from mmmed.training.provenance import data_hash


@dataclass(frozen=True)
class Answers:
    """What every arm answered to a task, and the files that keep it.

    Args:
        by_arm: Predictions.
        files: Where they lie.
    """

    by_arm: dict[str, list[Prediction]]
    files: dict[str, Path]


def ask(
    task: Task,
    answerers: Mapping[str, Answerer],
    *,
    identities: Mapping[str, str],
    baselines: Sequence[str],
    output: Path,
    reader: ReadingArm | None = None,
    share: Share = WHOLE,
) -> Answers:
    """Every arm's answers to a task; answers of the same weights to the same questions are read back.

    Args:
        task: What is asked.
        answerers: The models that were trained.
        identities: Digest of each one's weights.
        baselines: Names of baselines that need no training of their own.
        output: Folder of the predictions.
        reader: The text classifier of closed questions, trained on their training split.
        share: Of several processes, which this is. One of many only answers its blocks; what is made of all of them,
            and the arms that ask no model, are left to the one that is called with the whole afterwards.
    """
    asked, folder = task.examples(), output / task.name
    if task.audit.checked:
        task.audit.write(folder / "privacy.jsonl")
    found = task.retrieved(asked)
    if found is not None:
        write_found(folder / "retrieved.jsonl", asked, found)
    whole = questions_of(task, asked, found=found)
    answers = Answers({}, {})
    used: list[Path] = []
    for arm, answerer, identity, questions in _asked_arms(task, whole, answerers, identities, baselines):
        blocks = blocks_of(questions, identity=identity, folder=folder / "blocks")
        made_of = _hash(str(task.version), *(block.file.stem for block in blocks))
        path = folder / f"{arm}.{made_of}.jsonl"
        used += [block.file for block in blocks]
        if not path.is_file():
            with tqdm(total=len(asked), desc=f"{task.name}: {arm}", unit="question") as progress:
                answer_blocks(answerer, blocks, share=share, advance=progress.update)
            if share != WHOLE:
                continue
            said = zip(asked, kept_answers(blocks), strict=True)
            write_jsonl(path, [prediction(example, one, arm=arm, task=task.name) for example, one in said])
        answers.by_arm[arm], answers.files[arm] = read_jsonl(path), path
    if share != WHOLE:
        return answers
    _answer_without_model(task, asked, answers, answerers[MAIN], baselines, reader, folder, pixels=whole.pixels)
    # Other seeds keep theirs in the same folder.
    for file in used:
        file.unlink(missing_ok=True)
    with contextlib.suppress(OSError):
        (folder / "blocks").rmdir()
    return answers


def questions_of(task: Task, asked: Sequence[Example], *, found: Sequence[Sequence[Found]] | None) -> Questions:
    """The questions as they are put to the models, without a control.

    Args:
        task: What is asked.
        asked: Its examples.
        found: What was retrieved for each, where the task retrieves.
    """
    asking = task.asking()
    return Questions(
        seen=asked,
        asking=asking,
        shots=choose_shots(asked, task.pool(), asking.shots),
        passages=[cited(one) for one in found] if found is not None else [""] * len(asked),
        pixels=PixelDigests(),
    )


def _asked_arms(
    task: Task,
    whole: Questions,
    answerers: Mapping[str, Answerer],
    identities: Mapping[str, str],
    baselines: Sequence[str],
) -> Iterator[tuple[str, Answerer, str, Questions]]:
    """The arms that a model is asked for: who, under which digest, and with which questions."""
    for arm, answerer in answerers.items():
        yield arm, answerer, identities[arm], whole
    main, identity = answerers[MAIN], identities[MAIN]
    for number, prompt in enumerate(task.variants, start=1):
        form = replace(whole.asking.form, prompt=prompt)
        yield f"{WORDING}{number}", main, identity, replace(whole, asking=replace(whole.asking, form=form))
    for name in (*CONTROLS, *FLOORS):
        if name in baselines:
            yield name, main, identity, replace(whole, seen=control_named(name)(whole.seen))


def _answer_without_model(
    task: Task,
    asked: Sequence[Example],
    answers: Answers,
    main: Answerer,
    baselines: Sequence[str],
    reader: ReadingArm | None,
    folder: Path,
    *,
    pixels: PixelDigests,
) -> None:
    """Add the arms that ask no model: the constant answer, and what is fitted on the training split."""

    def kept(arm: str, key: str, answer: Callable[[Advance], list[Prediction]]) -> None:
        path = folder / f"{arm}.{_hash(key, str(task.version), data_hash(asked))}.jsonl"
        if not path.is_file():
            with tqdm(total=len(asked), desc=f"{task.name}: {arm}", unit="question") as progress:
                write_jsonl(path, answer(progress.update))
        answers.by_arm[arm], answers.files[arm] = read_jsonl(path), path

    if MAJORITY in baselines:
        # Made anew from whatever was trained on.
        answers.by_arm[MAJORITY] = majority(answers.by_arm[MAIN], training=task.training_answers())
        answers.files[MAJORITY] = folder / f"{MAJORITY}.jsonl"
        write_jsonl(answers.files[MAJORITY], answers.by_arm[MAJORITY])
    if LINEAR_PROBE in baselines and isinstance(main, Session) and can_probe(main, asked):
        training = task.training()
        shown = [pixels.of(image) for example in (*training, *asked) for image in example.images]
        kept(
            LINEAR_PROBE,
            _hash(main.identity(), data_hash(training), *shown),
            lambda advance: linear_probe(main, training, asked, task=task.name, advance=advance),
        )
    texts = [one for one in task.training() if one.options] if reader is not None and can_read(asked) else []
    if reader is not None and texts:
        kept(
            TEXT_CLASSIFIER,
            f"{reader}{data_hash(texts)}",
            lambda advance: answer_by_reading(reader, texts, asked, task=task.name, advance=advance),
        )


def _hash(*parts: str) -> str:
    return hashlib.sha256(json.dumps(parts).encode()).hexdigest()[:16]
