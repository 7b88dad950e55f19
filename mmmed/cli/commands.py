"""The commands that use a trained model: generate, experiment."""

from __future__ import annotations

import sys
from pathlib import Path

from mmmed.cli.training import main as train
from mmmed.errors import DataError
from mmmed.evaluation.experiment import read_experiment, run
from mmmed.evaluation.publish import log_results, publish, summary
from mmmed.inference.session import open_session
from mmmed.processing.image import ImageFile
from mmmed.records import IMAGE_PLACEHOLDER, Example, Turn


def experiment_run(experiment: str, output: str | None = None) -> None:
    """Train, score and compare the arms of an experiment, and write its report.

    Args:
        experiment: Folder with an experiment.yaml, or the file.
        output: Folder of the results; outputs/NAME unless named. An interrupted run goes on where it was.
    """
    described = read_experiment(Path(experiment))
    outcome = run(described, Path(output or f"outputs/{described.name}"), fit=train)
    command = f"mmmed experiment run {experiment}{f' --output {output}' if output else ''}"
    page = publish(described, outcome, command=command)
    log_results(described, outcome)
    print("\n".join(summary(outcome, page)))


def generate(checkpoint: str, prompt: str, image: str | None = None, max_new_tokens: int = 128) -> None:
    """Answer one question about one picture, word by word.

    Args:
        checkpoint: Folder of a run or its `model` folder.
        prompt: The question or instruction.
        image: PNG, JPEG or other picture; none asks about text alone.
        max_new_tokens: Longest answer, in tokens.
    """
    if not prompt.strip():
        raise DataError("--prompt is empty; ask something")
    images = (ImageFile(Path(image)),) if image else ()
    text = f"{IMAGE_PLACEHOLDER}\n{prompt}" if image else prompt
    question = Example(id="prompt", patient="", turns=(Turn("user", text),), images=images, source="command line")
    for file in images:
        file.open()
    for words in open_session(checkpoint).stream(question, max_new_tokens=max_new_tokens):
        print(words, end="", flush=True)
    print()
    print("Research use only; not medical advice.", file=sys.stderr)
