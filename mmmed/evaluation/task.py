"""What a model is asked: a versioned YAML file that names a data set, its questions and the metrics."""

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, fields
from functools import cached_property
from pathlib import Path
from typing import TypeVar, get_args

import yaml
from jsonargparse import ArgumentError as ParsingError
from jsonargparse import ArgumentParser

from mmmed.data.deidentify.audit import Audit
from mmmed.data.deidentify.privacy import DEFAULT_PRIVACY, Privacy, guarded_once
from mmmed.data.source import Records, Source, decodable, read
from mmmed.data.splits import uniform
from mmmed.errors import ConfigError, DataError, did_you_mean
from mmmed.evaluation.metrics.catalogue import known_metric
from mmmed.evaluation.metrics.protocols import Protocol
from mmmed.inference.asking import Asking, Strategy
from mmmed.inference.generation import Decoding
from mmmed.inference.prompting import AnswerForm, Form
from mmmed.inference.retrieval import Found, Method, read_index
from mmmed.inference.scoring import Length, Rule
from mmmed.inference.shots import Choice, Shots
from mmmed.inference.vectors import text_vectors
from mmmed.records import Example, Quarantined, Split

Described = TypeVar("Described")

CLOSED_METRICS = ("balanced_accuracy", "accuracy", "macro_f1", "unparsed")
LETTERED_METRICS = ("accuracy", "unparsed")
"""Where every question has options of its own, there are no classes to take a mean over."""
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
        max_new_tokens: Longest free-text answer, or longest chain of thought.
        prompt: The user's words, with ``{question}`` for what the source asks and ``{options}`` for the options.
        variants: Other wordings of `prompt`, in which the model is asked as well; how much its figure depends on the
            wording is reported beside it.
        answer: Whether options are answered by their text or by their letter.
        instruction: Stands before the first words of the conversation.
        shots: Examples before each question.
        shot_choice: "fixed" (the same for all), "random" (drawn for each question) or "nearest" (the most alike).
        shot_split: Split that shots are taken from; in the asked one, a question's own patient is left out.
        seed: Changes which shots are drawn, and what is sampled.
        strategy: "direct", "written", "chain_of_thought" or "self_consistency".
        samples: How often "self_consistency" asks.
        temperature: Of written answers; 0 takes the likeliest words.
        stop: Texts that end a written answer.
        length: What likelihoods are divided by: "none", "tokens", "characters" or "bytes".
        calibrated: Whether what the model would say without a question is subtracted.
        index: Folder of an index (`mmmed index`) that passages are retrieved from for ``{passages}`` in the prompt.
        retriever: "bm25", "dense" or "hybrid".
        passages: Most passages for each question.
        encoder: Of the index's vectors, for "dense" and "hybrid".
        scorer: The metric that the task is decided by; unless given, balanced accuracy where questions are closed,
            and token F1 where they are open.
        also: Further metrics that stand beside it.
        protocol: Rule of published work that the task is decided by, with the figures of the others beside it. Answers
            are then written, closed ones too, since the rules are about words.
        privacy: How a source that may hold identifiers is made safe, as it was for training; null asks it as it is.

    Raises:
        ConfigError: The settings of prompt, shots, strategy, decoding or retrieval do not go together.
    """

    name: str
    version: int
    source: Source
    topics: list[str] | None = None
    split: Split = "test"
    limit: int | None = None
    max_new_tokens: int = 64
    prompt: str = "{question}"
    variants: list[str] = field(default_factory=list)
    answer: AnswerForm = "text"
    instruction: str = ""
    shots: int = 0
    shot_choice: Choice = "fixed"
    shot_split: Split = "train"
    seed: int = 0
    strategy: Strategy = "direct"
    samples: int = 1
    temperature: float = 0.0
    stop: list[str] = field(default_factory=list)
    length: Length = "none"
    calibrated: bool = False
    index: str | None = None
    retriever: Method = "bm25"
    passages: int = 3
    encoder: str | None = None
    scorer: str | None = None
    also: list[str] = field(default_factory=list)
    protocol: Protocol | None = None
    privacy: Privacy | None = DEFAULT_PRIVACY
    audit: Audit = field(default_factory=Audit, init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        self.asking()
        for metric in (*([self.scorer] if self.scorer else ()), *self.also):
            known_metric(metric)
        if self.protocol is not None and self.scorer is not None:
            raise ConfigError(f"task {self.name}: a scorer and a protocol; name the one that it is decided by")
        if (self.index is None) == ("{passages}" in self.prompt):
            raise ConfigError(
                f"task {self.name}: {{passages}} in the prompt and an index to retrieve them from go together"
            )
        for number, prompt in enumerate(self.variants, start=1):
            Form(prompt=prompt, answer=self.answer)
            if ("{passages}" in prompt) != ("{passages}" in self.prompt) or prompt in self.variants[number:]:
                raise ConfigError(f"task {self.name}: variant {prompt!r} stands twice, or differs in {{passages}}")
            if prompt == self.prompt:
                raise ConfigError(f"task {self.name}: variant {prompt!r} is the prompt itself")
        if self.index is not None and self.passages < 1:
            raise ConfigError(f"task {self.name}: passages is {self.passages}; expected 1 or more")

    def asking(self) -> Asking:
        """How the questions are put and answered."""
        return Asking(
            form=Form(prompt=self.prompt, answer=self.answer, instruction=self.instruction),
            shots=Shots(count=self.shots, choice=self.shot_choice, seed=self.seed),
            strategy="written" if self.protocol is not None and self.strategy == "direct" else self.strategy,
            samples=self.samples,
            rule=Rule(length=self.length, calibrated=self.calibrated),
            decoding=Decoding(
                max_new_tokens=self.max_new_tokens,
                stop=tuple(self.stop),
                temperature=self.temperature,
                seed=self.seed,
            ),
        )

    def pool(self) -> list[Example]:
        """What shots are taken from; nothing where there are none to take.

        Raises:
            DataError: The split has no examples.
        """
        return decodable(self._of_topics(self.shot_split)).examples if self.shots else []

    def retrieved(self, asked: Sequence[Example]) -> list[list[Found]] | None:
        """The passages found for each question, the best first, or None where none are asked for.

        Raises:
            DataError: There is no index.
            ConfigError: It has no vectors for the method.
        """
        if self.index is None:
            return None
        encode = text_vectors(self.encoder) if self.encoder is not None else None
        index = read_index(Path(self.index), method=self.retriever, encode=encode)
        return [index.search(example.question, count=self.passages) for example in asked]

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
        """How often each answer was right in training, by topic; nothing where there is no training split."""
        counts: dict[str, Counter[str]] = {}
        self.source.prepare()
        if not any(isinstance(one, Example) and one.split == "train" for one in self.source.records()):
            return counts
        for example in self._of_topics("train"):
            counts.setdefault(example.topic, Counter())[example.reference] += 1
        return counts

    def quarantined(self) -> list[Quarantined]:
        """What of the asked examples cannot be read, and what the source set aside."""
        return [*read([self._safe], self.split).quarantined, *self._asked().quarantined]

    @property
    def deciding(self) -> str | None:
        """The metric that the task declares to be decided by."""
        return self.protocol or self.scorer

    @property
    def metrics(self) -> tuple[str, ...]:
        """Metrics of closed questions, or of free text, behind what the task declares."""
        closed = LETTERED_METRICS if self.answer == "letters" else CLOSED_METRICS
        usual = closed if self.is_closed else OPEN_METRICS
        declared = (self.protocol, *get_args(Protocol)) if self.protocol else (self.scorer,) if self.scorer else ()
        return tuple(dict.fromkeys((*declared, *usual, *self.also)))

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
