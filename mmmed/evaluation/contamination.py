"""Which questions of a benchmark stand in the texts that a model was trained on, by the files of its training."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml
from jsonargparse import ArgumentParser

from mmmed.data.leakage.findings import Finding
from mmmed.data.leakage.texts import BenchmarkIndex
from mmmed.data.source import Source
from mmmed.errors import ConfigError
from mmmed.records import Example


def met_in(sources: Sequence[Source], asked: Mapping[str, Sequence[Example]]) -> list[Finding]:
    """The questions, by task, of which a stretch stands in a training text of the sources."""
    index = BenchmarkIndex(one for examples in asked.values() for one in examples)
    for source in sources:
        source.prepare()
        for record in source.records():
            if isinstance(record, Example) and record.split == "train":
                index.add(record)
    return index.findings()


def listed_sources(stage: Path) -> list[Any]:
    """The sources that a training configuration lists. Raises `ConfigError` where it lists none."""
    content = yaml.safe_load(stage.read_text(encoding="utf-8"))
    try:
        data = content["data"]
        if isinstance(data, str):
            data = yaml.safe_load((stage.parent / data).read_text(encoding="utf-8"))
        listed: list[Any] = list(data["init_args"]["sources"])
    except (KeyError, TypeError, OSError) as error:
        raise ConfigError(f"stage {stage}: expected data.init_args.sources in it") from error
    return listed


def training_sources(listed: Sequence[Any]) -> list[Source]:
    """Sources built from what a configuration lists."""
    parser = ArgumentParser(exit_on_error=False)
    parser.add_argument("--sources", type=list[Source])
    sources: list[Source] = parser.instantiate(parser.parse_object({"sources": list(listed)})).sources
    return sources
