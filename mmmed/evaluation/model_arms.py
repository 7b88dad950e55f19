"""Arms that are models of their own: where each starts from, which stages train it, and how it is asked."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

import yaml

from mmmed.errors import ConfigError, did_you_mean
from mmmed.evaluation.trained import Fit, digest
from mmmed.evaluation.trained import train as train_stages
from mmmed.inference.asking import Answerer
from mmmed.inference.endpoint import Endpoint
from mmmed.inference.loading import load
from mmmed.inference.session import Precision, Session, open_session
from mmmed.page.files import replace_text
from mmmed.records import Answer, Example

Strategy = Literal["direct", "chain_of_thought"]


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelArm:
    """One model, and how it is asked.

    Args:
        checkpoint: Whom to ask as it is: what `mmmed evaluate --checkpoint` takes. None where stages make the model.
        model: Name of the model at an endpoint.
        chat: Put questions in the chat template of a plain language model.
        stages: Training configurations, in order.
        after: Another arm, whose trained model the first stage starts from.
        override: What is changed in every stage, such as the number of steps.
        shots: Examples before each question.
        strategy: "chain_of_thought" has reasons written first.
        precision: What the language model answers in.
    """

    checkpoint: str | None = None
    model: str = ""
    chat: bool = True
    stages: tuple[str, ...] = ()
    after: str | None = None
    override: Mapping[str, Any] | None = None
    shots: int = 0
    strategy: Strategy = "direct"
    precision: Precision = "float32"

    @property
    def is_trained(self) -> bool:
        """Whether stages make the model."""
        return bool(self.stages)

    @property
    def is_endpoint(self) -> bool:
        """Whether it answers over the network."""
        return self.checkpoint is not None and self.checkpoint.startswith(("http://", "https://"))


def experiment_file(path: Path) -> Path:
    """An experiment file, or the `experiment.yaml` of a folder."""
    return path / "experiment.yaml" if path.is_dir() else path


def kind_of(path: Path) -> str | None:
    """What kind of experiment a file describes; None for the usual one of stages and baselines, or for no file."""
    file = experiment_file(path)
    try:
        content = yaml.safe_load(file.read_text(encoding="utf-8")) if file.is_file() else None
    except (OSError, ValueError, yaml.YAMLError):
        return None
    return str(content["kind"]) if isinstance(content, dict) and "kind" in content else None


def read_keys(path: Path, *, kind: str, known: Mapping[str, bool]) -> dict[str, Any]:
    """The content of an experiment file of one kind.

    Args:
        path: The file.
        kind: What its key `kind` has to say.
        known: By key, whether it is required.

    Raises:
        ConfigError: It is not there, is of another kind, or has a missing or unknown key.
    """
    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, yaml.YAMLError) as error:
        raise ConfigError(f"experiment {path}: {' '.join(str(error).split())}") from error
    if not isinstance(content, dict) or content.get("kind") != kind:
        raise ConfigError(f"experiment {path}: expected kind: {kind}")
    names = ["kind", *known]
    if unknown := [str(key) for key in content if key not in names]:
        raise ConfigError(f"experiment {path}: unknown key {unknown[0]!r}{did_you_mean(unknown[0], names)}")
    if missing := [key for key, required in known.items() if required and not content.get(key)]:
        raise ConfigError(f"experiment {path}: missing {', '.join(missing)}")
    return content


def read_arms(content: object, *, place: str) -> dict[str, ModelArm]:
    """Arms by name, as an experiment file lists them.

    Raises:
        ConfigError: An arm has an unknown key or value, is made of nothing or of two things, or follows none.
    """
    if not isinstance(content, dict) or not content:
        raise ConfigError(f"{place}: arms is {content!r}; expected names with a checkpoint or stages each")
    known = [each.name for each in fields(ModelArm)]
    arms: dict[str, ModelArm] = {}
    for name, described in content.items():
        if not isinstance(described, dict):
            raise ConfigError(f"{place}: arm {name!r} is {described!r}; expected a checkpoint or stages")
        if unknown := [str(key) for key in described if key not in known]:
            raise ConfigError(f"{place}: arm {name!r}: unknown key {unknown[0]!r}{did_you_mean(unknown[0], known)}")
        arm = ModelArm(**{**described, "stages": tuple(described.get("stages", ()))})
        if arm.is_trained == (arm.checkpoint is not None):
            raise ConfigError(f"{place}: arm {name!r}: expected a checkpoint, or stages that make one, and not both")
        if arm.override is not None and (not arm.is_trained or not isinstance(arm.override, dict)):
            raise ConfigError(f"{place}: arm {name!r}: override is {arm.override!r}; expected settings of its stages")
        if arm.strategy not in ("direct", "chain_of_thought"):
            raise ConfigError(f"{place}: arm {name!r}: strategy is {arm.strategy!r}; expected direct, chain_of_thought")
        if arm.precision not in ("float32", "bfloat16"):
            raise ConfigError(f"{place}: arm {name!r}: precision is {arm.precision!r}; expected float32, bfloat16")
        if arm.precision != "float32" and arm.is_endpoint:
            raise ConfigError(
                f"{place}: arm {name!r}: precision is for models on this machine; an endpoint has its own"
            )
        if arm.after is not None and (not arm.is_trained or arm.after not in arms or not arms[arm.after].is_trained):
            raise ConfigError(f"{place}: arm {name!r} follows {arm.after!r}; expected a trained arm above it")
        if lost := [stage for stage in arm.stages if not Path(stage).is_file()]:
            raise ConfigError(f"{place}: arm {name!r}: no file {lost[0]}; run from the folder that its paths start in")
        arms[str(name)] = arm
    return arms


def families(arms: Mapping[str, ModelArm]) -> list[list[str]]:
    """Trained arms in lines of those that follow one another: a line is for one process, each arm after those it needs.

    Args:
        arms: By name; each stands below the one that it follows.
    """
    line: dict[str, list[str]] = {}
    for name, arm in arms.items():
        if arm.is_trained:
            line[name] = line[arm.after] if arm.after is not None else []
            line[name].append(name)
    return [names for first, names in line.items() if arms[first].after is None]


def train(
    arm: ModelArm,
    output: Path,
    *,
    fit: Fit,
    seed: int = 0,
    start: Path | None = None,
    override: Mapping[str, Any] | None = None,
) -> Path:
    """Run the stages of an arm in order, each from the one before; a finished stage is not run again.

    Args:
        arm: One that is trained.
        output: Folder of its runs.
        fit: Runs one training configuration, given the command line of `mmmed fit`.
        seed: Of weights, order and batches.
        start: Folder of a model that the first stage starts from.
        override: What else is changed in every stage; a section of it stands in the place of the arm's own.

    Returns:
        The folder of the last stage's model.

    Raises:
        ConfigError: A folder holds the training of other configurations.
    """
    file: Path | None = None
    if changed := {**(arm.override or {}), **(override or {})}:
        file = output / "override.yaml"
        replace_text(file, yaml.safe_dump(changed))
    return train_stages(arm.stages, output, fit=fit, override=file, seed=seed, start=start)


def opened(arm: ModelArm, folder: Path | None) -> tuple[Answerer, str]:
    """Who is asked, and what its answers are kept under.

    Args:
        arm: The arm.
        folder: Of its trained model, or None for one that is asked as it is.
    """
    if folder is not None:
        return open_session(folder, precision=arm.precision), _identity(arm, folder)
    assert arm.checkpoint is not None
    if arm.is_endpoint:
        return Endpoint(url=arm.checkpoint, model=arm.model), f"{arm.checkpoint} {arm.model}"
    session = load(arm.checkpoint, chat=arm.chat, precision=arm.precision)
    return session, session.identity()


def opened_when_asked(arm: ModelArm, folder: Path | None) -> tuple[Answerer, str]:
    """The same, but that a trained model is opened when it is first asked: its answers are read back without it."""
    if folder is None:
        return opened(arm, None)
    return _TrainedModel(folder, arm.precision), _identity(arm, folder)


def _identity(arm: ModelArm, folder: Path) -> str:
    return f"{digest(folder / 'model.safetensors')} {arm.precision}"


@dataclass(frozen=True)
class _TrainedModel:
    """Opens a session when it needs one."""

    folder: Path
    precision: Precision

    @cached_property
    def _session(self) -> Session:
        return open_session(self.folder, precision=self.precision)

    def choose(self, examples: Sequence[Example], **settings: Any) -> list[Answer]:
        return self._session.choose(examples, **settings)

    def write(self, examples: Sequence[Example], **settings: Any) -> list[Answer]:
        return self._session.write(examples, **settings)
