"""What an `experiment.yaml` of models says."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from mmmed.errors import ConfigError
from mmmed.evaluation.experiment_file import MAJORITY
from mmmed.evaluation.model_arms import ModelArm, read_arms, read_keys

_KEYS = {"name": True, "question": True, "arms": True, "against": True, "tasks": True, "limits": False, "seeds": False}


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelsExperiment:
    """What an experiment.yaml of models says.

    Args:
        name: Short name.
        question: What is to be answered.
        arms: The models.
        against: The arm that all others are held against.
        tasks: Task files.
        limits: Most questions of a task, by its name.
        seeds: Of training and of the choice of examples; figures are means over them.
    """

    name: str
    question: str
    arms: Mapping[str, ModelArm]
    against: str
    tasks: tuple[str, ...]
    limits: Mapping[str, int]
    seeds: tuple[int, ...]


def read_models(path: Path) -> ModelsExperiment:
    """Read an experiment of models. Raises `ConfigError`."""
    place = f"experiment {path}"
    content = read_keys(path, kind="models", known=_KEYS)
    arms = read_arms(content["arms"], place=place)
    if content["against"] not in arms:
        raise ConfigError(f"{place}: against is {content['against']!r}; expected one of {', '.join(arms)}")
    if MAJORITY in arms:
        raise ConfigError(f"{place}: {MAJORITY!r} is an arm of every experiment; choose another name")
    tasks, seeds, limits = content["tasks"], content.get("seeds", [0]), content.get("limits") or {}
    if not isinstance(tasks, list) or not tasks:
        raise ConfigError(f"{place}: tasks is {tasks!r}; expected a list of task files")
    if lost := [one for one in tasks if not Path(str(one)).is_file()]:
        raise ConfigError(f"{place}: no file {lost[0]}; run from the folder that its paths start in")
    if not isinstance(seeds, list) or not seeds or not all(isinstance(one, int) for one in seeds):
        raise ConfigError(f"{place}: seeds is {seeds!r}; expected a list of whole numbers")
    if not isinstance(limits, dict) or not all(isinstance(one, int) and one > 0 for one in limits.values()):
        raise ConfigError(f"{place}: limits is {limits!r}; expected most questions by task")
    return ModelsExperiment(
        name=str(content["name"]),
        question=str(content["question"]),
        arms=arms,
        against=str(content["against"]),
        tasks=tuple(map(str, tasks)),
        limits=limits,
        seeds=tuple(seeds),
    )
