"""What `experiment.yaml` says: the stages that train the model, the tasks, the baselines, the seeds."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import yaml

from mmmed.errors import ConfigError, did_you_mean
from mmmed.evaluation.controls import CONTROLS, FLOORS
from mmmed.evaluation.text_classifier import ARM as TEXT_CLASSIFIER
from mmmed.evaluation.text_classifier import reading_arm_file

MAIN = "vlm"
TEXT_ONLY = "text_only"
ZERO_SHOT = "text_only_zero_shot"
MAJORITY = "majority"
LINEAR_PROBE = "linear_probe"
BASELINES = (TEXT_ONLY, *CONTROLS, MAJORITY, LINEAR_PROBE)
WHERE_NAMED = (ZERO_SHOT, *FLOORS)
"""Baselines that are asked only where an experiment names them."""


@dataclass(frozen=True, kw_only=True)
class Experiment:
    """What `experiment.yaml` says.

    Args:
        name: Short name.
        question: What the experiment is to answer.
        stages: Training configurations, in order; paths are relative to the working folder.
        tasks: Task files.
        baselines: What the model is held against; all of `BASELINES` unless named. `WHERE_NAMED` only where named.
        text_classifier: File of one more baseline, a text encoder that is trained on the words of closed questions;
            a name stands for a file in configs/baseline/.
        seeds: Each arm that is trained is trained and asked once for each; what the configurations say where there
            are none. Figures are then means over the runs.
        no_worse: Margins by baseline, as shares, where the claim is that the model is no worse, or as good.
    """

    name: str
    question: str
    stages: tuple[str, ...]
    tasks: tuple[str, ...]
    baselines: tuple[str, ...] = field(default=BASELINES)
    text_classifier: str | None = None
    seeds: tuple[int, ...] = ()
    no_worse: Mapping[str, float] = field(default_factory=dict)


def read_experiment(path: Path) -> Experiment:
    """Read an experiment file, or the `experiment.yaml` of a folder.

    Raises:
        ConfigError: It is not there, or has a missing or unknown key, stage or baseline, or seeds or margins that are
            none.
    """
    file = path / "experiment.yaml" if path.is_dir() else path
    if not file.is_file():
        raise ConfigError(f"no experiment at {file}; give a folder with an experiment.yaml, or the file")
    try:
        content = yaml.safe_load(file.read_text(encoding="utf-8"))
    except (OSError, ValueError, yaml.YAMLError) as error:
        raise ConfigError(f"experiment {file}: {' '.join(str(error).split())}") from error
    if not isinstance(content, dict):
        raise ConfigError(f"experiment {file}: expected the keys name, question, stages and tasks")
    known = list(Experiment.__dataclass_fields__)
    if unknown := [str(key) for key in content if key not in known]:
        raise ConfigError(f"experiment {file}: unknown key {unknown[0]!r}{did_you_mean(unknown[0], known)}")
    if missing := [key for key in ("name", "question", "stages", "tasks") if not content.get(key)]:
        raise ConfigError(f"experiment {file}: missing {', '.join(missing)}")

    def listed(key: str) -> tuple[str, ...]:
        value = content[key]
        if not isinstance(value, list) or not all(isinstance(one, str) for one in value):
            raise ConfigError(f"experiment {file}: {key} is {value!r}; expected a list of names")
        return tuple(value)

    baselines = BASELINES if content.get("baselines", "all") == "all" else listed("baselines")
    known = [*BASELINES, *WHERE_NAMED]
    for name in baselines:
        if name not in known:
            raise ConfigError(f"experiment {file}: unknown baseline {name!r}{did_you_mean(name, known)}")
    stages, tasks = listed("stages"), listed("tasks")
    reader = reading_arm_file(str(content["text_classifier"])) if content.get("text_classifier") else None
    for named in (*stages, *tasks, *([reader] if reader else [])):
        if not Path(named).is_file():
            raise ConfigError(f"experiment {file}: no file {named}; run from the folder that its paths start in")
    return Experiment(
        name=str(content["name"]),
        question=str(content["question"]),
        stages=stages,
        tasks=tasks,
        baselines=baselines,
        text_classifier=reader,
        seeds=_seeds(content.get("seeds", []), file=file),
        no_worse=_margins(
            content.get("no_worse", {}), against=[*baselines, *([TEXT_CLASSIFIER] if reader else [])], file=file
        ),
    )


def _seeds(value: object, *, file: Path) -> tuple[int, ...]:
    is_listed = isinstance(value, list) and all(type(one) is int and one >= 0 for one in value)
    if not isinstance(value, list) or not is_listed or len(set(value)) < len(value):
        raise ConfigError(f"experiment {file}: seeds is {value!r}; expected a list of different whole numbers")
    return tuple(value)


def _margins(value: object, *, against: Sequence[str], file: Path) -> dict[str, float]:
    if not isinstance(value, dict):
        raise ConfigError(f"experiment {file}: no_worse is {value!r}; expected a margin for each baseline it is about")
    for name, margin in value.items():
        if name not in against:
            near = did_you_mean(str(name), against)
            raise ConfigError(f"experiment {file}: no_worse names {name!r}, which is no baseline here{near}")
        if not isinstance(margin, int | float) or not 0 < margin < 1:
            raise ConfigError(f"experiment {file}: no_worse of {name} is {margin!r}; expected a share such as 0.02")
    return {str(name): float(margin) for name, margin in value.items()}
