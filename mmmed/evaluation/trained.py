"""Arms that are trained: stage after stage, each once, and never one configuration for another."""

import hashlib
import json
import re
from collections.abc import Callable, Sequence
from pathlib import Path

import yaml

from mmmed.errors import ConfigError
from mmmed.page.files import replace_text

Fit = Callable[[list[str]], object]
"""Runs one training configuration, given the command line of `mmmed fit`."""

TEXT_ONLY_OVERRIDE = {
    "model": {"init_args": {"model": {"init_args": {"vision": None, "projector": None, "cross_attention": None}}}}
}


def train(
    stages: Sequence[str],
    output: Path,
    *,
    fit: Fit,
    override: Path | None = None,
    seed: int | None = None,
    start: Path | None = None,
    is_untrained: bool = False,
) -> Path:
    """Run the stages in order, each from the one before; a finished stage is not run again.

    Args:
        stages: Training configurations.
        output: Folder of the arm.
        fit: Runs one of them.
        override: A configuration that is laid over each.
        seed: In the place of theirs, of weights and of the order of the data.
        start: Folder of a model that the first stage starts from.
        is_untrained: Whether no step is taken, so that what they begin from is what is left.

    Returns:
        The folder of the last stage's model.

    Raises:
        ConfigError: The folder holds the training of another configuration.
    """
    before, made_from = start, _hash(str(seed), digest(start / "model.safetensors") if start else "")
    for number, stage in enumerate(stages, start=1):
        folder = output / f"{number}_{Path(stage).stem}"
        made_from = _hash(made_from, *map(_text, [*_files(Path(stage)), *([override] if override else [])]))
        _claim(folder, made_from=made_from, stage=stage)
        model = folder / "model"
        if not (model / "model.json").is_file():
            arguments = ["fit", "--config", stage]
            arguments += ["--config", str(override)] if override else []
            arguments += ["--output", str(folder), "--ckpt_path", "last"]
            if seed is not None:
                arguments += ["--seed_everything", str(seed), "--data.init_args.seed", str(seed)]
            arguments += ["--model.init_args.init_from", str(before)] if before else []
            arguments += ["--trainer.max_steps", "0"] if is_untrained else []
            fit(arguments)
        before = model
    assert before is not None, "an experiment has at least one stage"
    return before


def digest(path: Path) -> str:
    """SHA-256 of a file."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _claim(folder: Path, *, made_from: str, stage: str) -> None:
    """Say what a folder is trained from.

    Raises:
        ConfigError: It holds the training of another configuration, which to go on with would be wrong.
    """
    note = folder / "made_from"
    if note.is_file() and _text(note) != made_from:
        raise ConfigError(
            f"{folder} was trained before {stage}, or a stage ahead of it, was changed; "
            "choose another --output, or delete that folder"
        )
    replace_text(note, made_from)


def _files(config: Path) -> list[Path]:
    """A configuration and those it includes."""
    named = re.findall(r"[^\s:\"']+\.yaml\b", _text(config))
    return [config, *(path for name in named if (path := config.parent / name).is_file())]


def _text(path: Path) -> str:
    return path.read_text(encoding="utf-8")


def trains_language(stage: str) -> bool:
    """Whether a stage has anything to train in a model without eyes."""
    try:
        rates = yaml.safe_load(Path(stage).read_text(encoding="utf-8"))["model"]["init_args"]["learning_rates"]
    except (KeyError, TypeError, yaml.YAMLError) as error:
        raise ConfigError(f"stage {stage}: expected model.init_args.learning_rates in it") from error
    return "language" in rates


def _hash(*parts: str) -> str:
    return hashlib.sha256(json.dumps(parts).encode()).hexdigest()[:16]
