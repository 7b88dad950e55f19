"""The seam of the audits: a check asks a checkpoint and gives back measures."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Protocol

from PIL import Image
from tqdm import tqdm

from mmmed.evaluation.answers import questions_of
from mmmed.evaluation.arms import prediction
from mmmed.evaluation.blocks import PixelDigests, Questions, answer_blocks, blocks_of, kept_answers
from mmmed.evaluation.experiment_file import MAIN
from mmmed.evaluation.predictions import Prediction
from mmmed.evaluation.task import Task, load_task
from mmmed.inference.session import Session
from mmmed.records import Answer, Example
from mmmed.safety.measure import Measure


@dataclass(frozen=True, slots=True, kw_only=True)
class Shown:
    """One item as the checkpoint met it, and what it said.

    Args:
        change: What was changed, in a word; nothing where the question stands as it is.
        example: The question as it was seen.
        said: The answer.
    """

    change: str
    example: Example
    said: Prediction


@dataclass(kw_only=True)
class Evidence:
    """What a check saw, by the identifier of the item, so that every figure leads to what it was made from.

    Args:
        shown: Questions with their answers, in the order in which they were asked.
        maps: Pictures that a check drew, such as where the model looks.
    """

    shown: dict[str, list[Shown]] = field(default_factory=dict)
    maps: dict[str, Image.Image] = field(default_factory=dict)

    def of(self, items: Iterable[str]) -> "Evidence":
        """That of some items."""
        wanted = set(items)
        return Evidence(
            shown={item: shown for item, shown in self.shown.items() if item in wanted},
            maps={item: drawn for item, drawn in self.maps.items() if item in wanted},
        )


@dataclass
class Subject:
    """The checkpoint under audit; what it answered once is kept, so that an audit goes on after a stop.

    A question that an earlier check has asked is not asked again, and a picture is decoded once for its digest.

    Args:
        session: The loaded model.
        identity: Digest of its weights and of how it is asked.
        output: Folder of the answers.
        evidence: What the check under way has seen so far.
    """

    session: Session
    identity: str
    output: Path
    evidence: Evidence = field(default_factory=Evidence)
    _known: dict[tuple[str, str], Answer] = field(default_factory=dict, repr=False)
    _pixels: PixelDigests = field(default_factory=PixelDigests, repr=False)

    def task(self, path: str) -> Task:
        """A task by its file. Raises `ConfigError`."""
        return load_task(path)

    def answers(
        self, task: Task, asked: Sequence[Example], *, seen: Sequence[Example] | None = None, name: str = ""
    ) -> list[Prediction]:
        """What the checkpoint answers.

        Args:
            task: How the questions are put.
            asked: The questions, which the answers are judged by.
            seen: The same questions as the checkpoint sees them, where they are changed.
            name: What is changed, in a word.
        """
        questions = questions_of(task, asked, found=task.retrieved(asked))
        questions = replace(questions, seen=asked if seen is None else seen, pixels=self._pixels)
        answers = self._answers(questions, f"{task.name} {name}".strip())
        said = [prediction(example, one, arm=MAIN, task=task.name) for example, one in zip(asked, answers, strict=True)]
        for example, one in zip(asked if seen is None else seen, said, strict=True):
            self.evidence.shown.setdefault(one.id, []).append(Shown(change=name, example=example, said=one))
        return said

    def _answers(self, questions: Questions, title: str) -> list[Answer]:
        """Ask what is new, in blocks that are the same whenever the same checks run in the same order."""
        digests = [(self.identity, digest) for digest in questions.digests()]
        new = [place for place, digest in enumerate(digests) if digest not in self._known]
        blocks = blocks_of(questions.at(new), identity=self.identity, folder=self.output)
        with tqdm(total=len(digests), initial=len(digests) - len(new), desc=title, unit="question") as progress:
            answer_blocks(self.session, blocks, advance=progress.update)
        self._known.update(zip((digests[place] for place in new), kept_answers(blocks), strict=True))
        return [self._known[digest] for digest in digests]


def spread(examples: Sequence[Example], *, limit: int) -> list[Example]:
    """As many questions about as many patients as the limit lets: one of each before a second of any.

    Intervals are over patients, so that sixty questions about ten of them show little. Which question comes first
    moves on from patient to patient, so that all topics are asked.
    """
    of_patient: dict[str, list[Example]] = {}
    for one in examples:
        of_patient.setdefault(f"{one.source}:{one.patient}", []).append(one)
    rounds = range(max(map(len, of_patient.values()), default=0))
    chosen = [
        own[(place + turn) % len(own)]
        for turn in rounds
        for place, own in enumerate(of_patient.values())
        if turn < len(own)
    ]
    return chosen[:limit]


class Check(Protocol):
    """One audit: a question about a checkpoint with an answer in figures and limits."""

    @property
    def title(self) -> str:
        """What is asked, in words that stand on the card."""
        ...

    def examine(self, subject: Subject) -> list[Measure]:
        """Measure.

        Raises:
            DataError: What the check needs is not in the data.
            ConfigError: Its settings do not fit.
        """
        ...
