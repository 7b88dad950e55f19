"""The arm that only reads: a BERT-type encoder, trained on the words of closed questions."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import yaml
from jsonargparse import ArgumentError as ParsingError
from jsonargparse import ArgumentParser
from torch import Tensor

from mmmed.errors import ConfigError, did_you_mean
from mmmed.evaluation.arms import prediction
from mmmed.evaluation.predictions import Prediction
from mmmed.models.text_classifier import TextClassifier
from mmmed.processing.processor import without_images
from mmmed.records import Answer, Example

# Shape letters: B batch, O options.

ARM = "text_classifier"
FOLDER = Path("configs/baseline")


@dataclass(kw_only=True)
class ReadingArm:
    """How a text classifier is made and trained.

    Args:
        weights: Reference of the encoder's weights with their tokenizer, or None for random ones.
        config: Model configuration, needed with random weights.
        tokenizer: Folder of the tokenizer, needed with random weights.
        epochs: Passes over the training questions.
        batch_size: Questions per step.
        learning_rate: Peak of AdamW, from which it falls to zero along a line.
        max_length: Longest text in tokens.
        seed: Of the new layer and of the order.
    """

    weights: str | None
    config: dict[str, Any] | None = None
    tokenizer: str | None = None
    epochs: int = 3
    batch_size: int = 16
    learning_rate: float = 2e-5
    max_length: int = 512
    seed: int = 0


def reading_arm_file(name: str) -> str:
    """The file that a name in an experiment stands for: itself, or one of the project's."""
    return name if Path(name).suffix == ".yaml" else str(FOLDER / f"{name}.yaml")


def can_read(asked: Sequence[Example]) -> bool:
    """Whether every question has options to choose from."""
    return all(example.options for example in asked)


def load_reading_arm(path: str | Path) -> ReadingArm:
    """Read a file such as those in configs/baseline/. Raises `ConfigError` naming the file."""
    if not Path(path).is_file():
        raise ConfigError(f"no text classifier at {path}; those of the project are in configs/baseline/")
    parser = ArgumentParser(exit_on_error=False)
    parser.add_class_arguments(ReadingArm)
    try:
        content = yaml.safe_load(Path(path).read_text(encoding="utf-8"))
        known = ReadingArm.__dataclass_fields__
        if unknown := [str(key) for key in content or {} if key not in known]:
            raise ConfigError(f"text classifier {path}: unknown key {unknown[0]!r}{did_you_mean(unknown[0], known)}")
        return ReadingArm(**vars(parser.instantiate(parser.parse_object(content))))
    except (ParsingError, yaml.YAMLError, ValueError, TypeError) as error:
        raise ConfigError(f"text classifier {path}: {' '.join(str(error).split())}") from error


def answer_by_reading(
    arm: ReadingArm,
    training: Sequence[Example],
    asked: Sequence[Example],
    *,
    task: str,
    advance: Callable[[int], object] = lambda count: None,
) -> list[Prediction]:
    """Train on the closed questions of one split, and answer those of another; images are never opened.

    Args:
        arm: The classifier.
        training: Questions with their answers.
        asked: Questions that are answered.
        task: Name of the task.
        advance: Told how many questions are answered since the last call.

    Raises:
        ConfigError: A question is open, or there is nothing to train on.
    """
    if not training or not can_read((*training, *asked)):
        raise ConfigError(f"task {task}: a text classifier needs closed questions, to train on and to answer")
    options = sorted({option for example in (*training, *asked) for option in example.options})
    with torch.random.fork_rng():
        torch.manual_seed(arm.seed)
        classifier = TextClassifier(
            options, weights=arm.weights, config=arm.config, tokenizer=arm.tokenizer, max_length=arm.max_length
        )
        classifier.to("cuda" if torch.cuda.is_available() else "cpu")
        _train(classifier, training, arm)
    answers = []
    for start in range(0, len(asked), arm.batch_size):
        batch = asked[start : start + arm.batch_size]
        answers += list(_answers(classifier, batch))
        advance(len(batch))
    return [prediction(example, answer, arm=ARM, task=task) for example, answer in zip(asked, answers, strict=True)]


def _train(classifier: TextClassifier, training: Sequence[Example], arm: ReadingArm) -> None:
    steps = arm.epochs * -(-len(training) // arm.batch_size)
    optimizer = torch.optim.AdamW(classifier.parameters(), lr=arm.learning_rate)
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: 1 - step / steps)
    classifier.train()
    for _ in range(arm.epochs):
        order = torch.randperm(len(training)).tolist()
        for start in range(0, len(order), arm.batch_size):
            batch = [training[index] for index in order[start : start + arm.batch_size]]
            right_B = torch.tensor([classifier.options.index(example.reference) for example in batch])
            shares_BO = _shares(classifier, batch)
            loss = -shares_BO.gather(1, right_B.to(shares_BO.device)[:, None]).mean()
            optimizer.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]
            optimizer.step()
            schedule.step()
    classifier.eval()


@torch.inference_mode()
def _answers(classifier: TextClassifier, batch: Sequence[Example]) -> Iterator[Answer]:
    for example, shares_O in zip(batch, _shares(classifier, batch).double().exp().cpu(), strict=True):
        options = {option: float(shares_O[classifier.options.index(option)]) for option in example.options}
        yield Answer(text=max(options, key=options.__getitem__), options=options)


def _shares(classifier: TextClassifier, batch: Sequence[Example]) -> Tensor:
    allowed_BO = torch.tensor([[option in example.options for option in classifier.options] for example in batch])
    shares_BO: Tensor = classifier(
        [read_text(example) for example in batch], allowed_BO.to(classifier.head.weight.device)
    )
    return shares_BO


def read_text(example: Example) -> str:
    """All that is said before the last answer, without the places of images."""
    turns = list(without_images(example).turns)
    while turns and turns[-1].speaker == "assistant":
        turns.pop()
    return "\n".join(turn.text.strip() for turn in turns)
