"""What a model is asked: a versioned YAML file that names a data set, its questions and the metrics."""

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field, fields
from functools import cached_property
from pathlib import Path
from typing import TypeVar

import yaml
from jsonargparse import ArgumentError as ParsingError
from jsonargparse import ArgumentParser

from mmmed.data.deidentify.audit import Audit
from mmmed.data.deidentify.privacy import DEFAULT_PRIVACY, Privacy, guarded_once
from mmmed.data.source import Records, Source, decodable, read
from mmmed.data.splits import uniform
from mmmed.errors import ConfigError, DataError, did_you_mean
from mmmed.records import Example, Quarantined, Split

Described = TypeVar("Described")

CLOSED_METRICS = ("balanced_accuracy", "accuracy", "macro_f1", "unparsed")
OPEN_METRICS = ("token_f1", "exact_match", "unparsed")


@dataclass(kw_only=True)
class Task:
    """Questions of one data set and how their answers are judged.

    Args:
        name: Shown in tables; letters, digits and underscores.
        version: Raised whenever a change of this file changes scores.
        source: The data set.
        topics: Topics that are asked; None asks all.
        split: Which split is asked.
        limit: Most examples, None for all; whole patients, drawn by a hash of the patient.
        max_new_tokens: Longest free-text answer.
        privacy: How a source that may hold identifiers is made safe, as it was for training; null asks it as it is.
    """

    name: str
    version: int
    source: Source
    topics: list[str] | None = None
    split: Split = "test"
    limit: int | None = None
    max_new_tokens: int = 64
    privacy: Privacy | None = DEFAULT_PRIVACY
    audit: Audit = field(default_factory=Audit, init=False, repr=False, compare=False)

    def examples(self) -> list[Example]:
        """The questions, closed ones and open ones, in the order of the source.

        Raises:
            DataError: Nothing is left to ask.
        """
        good = self._asked().examples
        if not good:
            raise DataError(f"task {self.name}: no {self.split} example to ask; check topics and root of its source")
        return good

    def training(self) -> list[Example]:
        """The same topics of the training split, for the baselines that learn from it."""
        return decodable(self._of_topics("train")).examples

    def training_answers(self) -> dict[str, Counter[str]]:
        """How often each answer was right in training, by topic."""
        counts: dict[str, Counter[str]] = {}
        for example in self._of_topics("train"):
            counts.setdefault(example.topic, Counter())[example.reference] += 1
        return counts

    def quarantined(self) -> list[Quarantined]:
        """What of the asked examples cannot be read, and what the source set aside."""
        return [*read([self._safe], self.split).quarantined, *self._asked().quarantined]

    @property
    def metrics(self) -> tuple[str, ...]:
        """Metrics of closed questions, or of free text."""
        return CLOSED_METRICS if self.is_closed else OPEN_METRICS

    @property
    def is_closed(self) -> bool:
        """Whether every question has options."""
        return all(example.options for example in self._of_topics(self.split))

    def _asked(self) -> Records:
        chosen = self._of_topics(self.split)
        return decodable(chosen if self.limit is None else _whole_patients(chosen, limit=self.limit))

    def _of_topics(self, split: Split) -> list[Example]:
        return [one for one in read([self._safe], split).examples if self.topics is None or one.topic in self.topics]

    @cached_property
    def _safe(self) -> Source:
        """The prepared source behind the privacy gate, where it needs one."""
        self.source.prepare()
        return guarded_once(self.source, self.privacy, self.audit)


def load_task(path: str | Path) -> Task:
    """Read a task file. Raises `ConfigError` naming the file."""
    return read_described(path, Task, folder="configs/task/")


def read_described(path: str | Path, kind: type[Described], *, folder: str) -> Described:
    """Build a dataclass from a YAML file of its arguments; `folder` is where the project keeps such files.

    Raises:
        ConfigError: The file is not there, or its content does not fit; the message names it.
    """
    if not Path(path).is_file():
        raise ConfigError(f"no task file {path}; the tasks of the project are in {folder}")
    known = [each.name for each in fields(kind) if each.init]  # type: ignore[arg-type]
    parser = ArgumentParser(exit_on_error=False)
    parser.add_class_arguments(kind)
    try:
        content = yaml.safe_load(Path(path).read_text(encoding="utf-8"))
        if not isinstance(content, dict):
            raise ConfigError(f"task file {path}: expected the keys of a task, such as name, version and source")
        for key in content:
            if key not in known:
                raise ConfigError(f"task file {path}: unknown key {key!r}{did_you_mean(str(key), known)}")
        return kind(**vars(parser.instantiate(parser.parse_object(content))))
    except (ParsingError, yaml.YAMLError, ValueError) as error:
        raise ConfigError(f"task file {path}: {' '.join(str(error).split())}") from error


def _whole_patients(examples: list[Example], *, limit: int) -> list[Example]:
    """The examples of as many patients as fit, in a fixed random order of patients."""

    def fitting() -> Iterator[str]:
        sizes = Counter(example.patient for example in examples)
        total = 0
        for patient in sorted(sizes, key=uniform):
            total += sizes[patient]
            if total > limit and total > sizes[patient]:
                return
            yield patient

    kept = set(fitting())
    return [example for example in examples if example.patient in kept]
