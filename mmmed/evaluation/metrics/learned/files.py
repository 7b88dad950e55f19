"""Metrics of files: a class and its settings, by the file's name."""

from functools import lru_cache
from pathlib import Path

import yaml
from jsonargparse import ArgumentError as ParsingError
from jsonargparse import ArgumentParser, Namespace

from mmmed.errors import ConfigError
from mmmed.evaluation.metrics.tally import Metric

FOLDER = Path("configs/metric")


def metric_files() -> list[str]:
    """The names that files stand for."""
    return sorted(path.stem for path in FOLDER.glob("*.yaml"))


@lru_cache(maxsize=8)
def metric_of_file(name: str) -> Metric:
    """Build the metric of a file, weights and all; once in a process.

    Raises:
        ConfigError: The file's content does not fit, or a package is missing.
        WeightsError: Its weights cannot be had.
    """
    parser, content = read_metric(name)
    built: Metric = parser.instantiate(content).metric
    return built


def read_metric(name: str) -> tuple[ArgumentParser, Namespace]:
    """Read a file down to each argument of each class, and build nothing. Raises `ConfigError` naming the file."""
    path = FOLDER / f"{name}.yaml"
    parser = ArgumentParser(exit_on_error=False)
    parser.add_argument("--metric", type=Metric)
    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
        return parser, parser.parse_object({"metric": content})
    except (ParsingError, yaml.YAMLError, ValueError, TypeError) as error:
        raise ConfigError(f"metric {path}: {' '.join(str(error).split())}") from error
