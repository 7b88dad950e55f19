"""The seam of the audits: a check asks a checkpoint and gives back measures."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from tqdm import tqdm

from mmmed.evaluation.arms import predict
from mmmed.evaluation.experiment import MAIN
from mmmed.evaluation.predictions import Prediction, read_jsonl, write_jsonl
from mmmed.evaluation.task import Task, load_task
from mmmed.inference.asking import Asking
from mmmed.inference.session import Session
from mmmed.records import Example
from mmmed.safety.keys import key_of
from mmmed.safety.measure import Measure
from mmmed.training.provenance import data_hash

Control = Callable[[Sequence[Example]], list[Example]]


@dataclass
class Subject:
    """The checkpoint under audit; what it answered once is kept, so that an audit goes on after a stop.

    Args:
        session: The loaded model.
        identity: Digest of its weights and of how it is asked.
        output: Folder of the answers.
    """

    session: Session
    identity: str
    output: Path

    def task(self, path: str) -> Task:
        """A task by its file. Raises `ConfigError`."""
        return load_task(path)

    def answers(
        self,
        asked: Sequence[Example],
        *,
        name: str,
        asking: Asking | None = None,
        seen: Sequence[Example] | None = None,
    ) -> list[Prediction]:
        """What the checkpoint answers.

        Args:
            asked: The questions, which the answers are judged by.
            name: Of this asking, for progress and for the file it is kept in; letters, digits and underscores.
            asking: How the questions are put.
            seen: The same questions as the checkpoint sees them, where they are changed.
        """
        shown, how = list(seen) if seen is not None else list(asked), asking or Asking()
        key = key_of(self.identity, data_hash(list(asked)), data_hash(shown), repr(how))
        path = self.output / f"{name}.{key}.jsonl"
        if path.is_file():
            return read_jsonl(path)
        with tqdm(total=len(shown), desc=name, unit="question") as progress:
            found = predict(self.session, asked, seen=shown, arm=MAIN, task=name, asking=how, advance=progress.update)
        write_jsonl(path, found)
        return found


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
