"""The log that a server writes while it answers: a line for each picture that is asked about."""

import asyncio
import logging
from pathlib import Path

from starlette.concurrency import run_in_threadpool

from mmmed.errors import MmmedError
from mmmed.inference.session import Session
from mmmed.records import Example
from mmmed.serving.answering.alone import Written
from mmmed.serving.answering.engine import Engine
from mmmed.serving.monitoring.observe import Look, failed, look, study_of
from mmmed.serving.monitoring.record import Study, append

logger = logging.getLogger(__name__)

_CODE_LENGTH = 32
_NAME_LENGTH = 40


def study_code(digest: str) -> str:
    """The pseudonym of a study: the beginning of the digest of its newest picture's file."""
    return digest[:_CODE_LENGTH]


class IntakeLog:
    """Writes down what is taken in without a server, where the model computes in the same thread.

    Args:
        path: The log that `mmmed monitor` reads.
        session: Looks at the pictures.
        model: Which model answers; of a longer name the beginning is kept.
    """

    def __init__(self, path: Path, session: Session, *, model: str) -> None:
        self._path, self._session = path, session
        self._model = _named(model)

    def taken_in(self, code: str, example: Example, written: Written, *, question: str, latency: float) -> None:
        """Write a study down.

        Raises:
            OutputError: The log cannot be written to.
        """
        seen = look(self._session, example.images)
        study = study_of(
            code,
            example,
            written.text,
            question=question,
            seen=seen,
            model=self._model,
            confidence=written.confidence,
            latency=latency,
        )
        append(self._path, study)


class StudyLog:
    """Writes down what was asked about and answered, in figures.

    What cannot be written down keeps nobody from an answer: it is told in the server's log, without what it was about.

    Args:
        path: The log that `mmmed monitor` reads.
        engine: Looks at the pictures, after the answer.
        model: Which model answers; of a longer name the beginning is kept.
    """

    def __init__(self, path: Path, engine: Engine, *, model: str) -> None:
        self._path, self._engine = path, engine
        self._model = _named(model)

    async def answered(
        self,
        code: str,
        example: Example,
        text: str,
        *,
        question: str,
        confidence: float | None,
        abstained: bool,
        latency: float,
    ) -> None:
        """Write down an answer.

        Args:
            code: Of the study, from `study_code`.
            example: What was asked.
            text: What was answered.
            question: In the visitor's words.
            confidence: Of the answer; none where none was given.
            abstained: Whether the model or the policy declined.
            latency: Seconds from the question to the whole answer.
        """
        try:
            seen = await asyncio.wrap_future(self._engine.compute(lambda session: look(session, example.images)))
        except MmmedError as error:
            logger.warning("a study is logged without its picture: %s", type(error).__name__)
            seen = Look((), {})
        await self._append(
            study_of(
                code,
                example,
                text,
                question=question,
                seen=seen,
                model=self._model,
                confidence=confidence,
                abstained=abstained,
                latency=latency,
            )
        )

    async def failed(self, code: str, error: MmmedError, *, latency: float) -> None:
        """Write down that there was no answer."""
        await self._append(failed(code, error, model=self._model, latency=latency))

    async def _append(self, study: Study) -> None:
        try:
            await run_in_threadpool(append, self._path, study)
        except MmmedError as error:
            logger.warning("a study is not logged: %s", type(error).__name__)


def _named(model: str) -> str:
    return model[:_NAME_LENGTH].strip() or "model"
