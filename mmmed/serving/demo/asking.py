"""What happens between a question on the page and its answer: passages, two answers side by side, how sure they are."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from mmmed.errors import MmmedError
from mmmed.inference.generation import Decoding
from mmmed.inference.prompting import Form, put
from mmmed.inference.retrieval import Found, cited
from mmmed.processing.dicom.windows import Window
from mmmed.processing.processor import without_images
from mmmed.records import IMAGE_PLACEHOLDER, Answer, Example, Turn
from mmmed.safety.policy import Judgement
from mmmed.serving.answering.judged import Finished, Shown, judged_answer
from mmmed.serving.answering.served import Served, question
from mmmed.serving.demo.answers import Given, GivenAnswers
from mmmed.serving.monitoring.study_log import StudyLog, study_code
from mmmed.serving.uploads.folder import Upload, Uploads

Lane = Literal["seen", "unseen"]
PASSAGES = 3
WITH_PASSAGES = Form(prompt="{passages}\n\n{question}")
Name = Field(max_length=64)


class _Body(BaseModel):
    model_config = ConfigDict(extra="forbid")


class ShownPicture(_Body):
    """A picture as it is on the page."""

    code: str = Name
    frame: int = Field(0, ge=0, lt=10_000)
    center: float | None = Field(None, ge=-1e6, le=1e6, allow_inf_nan=False)
    width: float | None = Field(None, ge=1e-3, le=1e6, allow_inf_nan=False)

    def window(self) -> Window | None:
        """The range of values to show; None as the file asks for."""
        return None if self.center is None or self.width is None else Window(self.center, self.width)


class Exchange(_Body):
    """A question and its answer from before."""

    question: str = Field(max_length=4000)
    answer: str = Field(max_length=8000)


class Ask(_Body):
    """What the page asks."""

    question: str = Field(min_length=1, max_length=4000)
    pictures: list[ShownPicture] = Field(default_factory=list, max_length=8)
    options: list[str] = Field(default_factory=list, max_length=12)
    earlier: list[Exchange] = Field(default_factory=list, max_length=8)
    unseen: bool = False
    passages: bool = False
    longest: int = Field(192, ge=1, le=512)


@dataclass(frozen=True, slots=True)
class Put:
    """A question as it is put: with and without its pictures, and what it is answered from."""

    example: Example
    blind: Example | None
    pictures: tuple[Upload, ...]
    passages: tuple[Found, ...]


def put_question(served: Served, uploads: Uploads, ask: Ask, *, owner: str) -> Put:
    """Put what the page asks together.

    Raises:
        Gone: A picture is not there any more.
        RecordError: The words hold signs of the model's own, or options that are empty or the same.
    """
    said = [ask.question, *ask.options, *(text for one in ask.earlier for text in (one.question, one.answer))]
    for text in said:
        served.check_plain(text)
    pictures = tuple(uploads.get(one.code, owner=owner) for one in ask.pictures)
    images = [upload.frame(one.frame, one.window()) for upload, one in zip(pictures, ask.pictures, strict=True)]
    turns = [turn for one in ask.earlier for turn in (Turn("user", one.question), Turn("assistant", one.answer))]
    turns.append(Turn("user", ask.question))
    turns[0] = replace(turns[0], text=f"{IMAGE_PLACEHOLDER}\n" * len(images) + turns[0].text)
    options = tuple(dict.fromkeys(text for option in ask.options if (text := option.strip())))
    plain = question(turns, images)
    found = tuple(served.index.search(ask.question, count=PASSAGES)) if served.index and ask.passages else ()
    asked = put(plain, WITH_PASSAGES, passages=cited(found)) if found else plain
    if options:
        # The options are part of how the question is put; none of them is held to be right.
        asked = replace(asked, turns=(*asked.turns, Turn("assistant", options[0])), options=options)
    return Put(asked, without_images(asked) if ask.unseen and images else None, pictures, found)


async def events(
    served: Served, answers: GivenAnswers, log: StudyLog, put: Put, ask: Ask, *, owner: str, sure: float
) -> AsyncIterator[tuple[str, dict[str, Any]]]:
    """What the page is told, in order: passages, text of each lane as it comes, and how each lane ended.

    Args:
        served: The model.
        answers: Where answers are kept for maps and drafts.
        log: Where studies are written down for monitoring.
        put: The question.
        ask: As the page asked it.
        owner: Who asks.
        sure: Confidence below which the model is held not to know.
    """
    if put.passages:
        shown = [
            {"number": number, "id": one.passage.id, "text": one.passage.text}
            for number, one in enumerate(put.passages, start=1)
        ]
        yield "passages", {"passages": shown}
    told: asyncio.Queue[tuple[str, dict[str, Any]] | None] = asyncio.Queue()

    began = time.monotonic()
    code = study_code(put.pictures[-1].digest) if put.pictures else ""

    async def follow(lane: Lane, example: Example) -> None:
        is_logged = lane == "seen" and code
        try:
            async for event in _lane(served, example, ask):
                if isinstance(event, Shown):
                    await told.put(("text", {"lane": lane, "text": event.text}))
                    continue
                ended = _told(event, sure=sure)
                if event.text and lane == "seen":
                    ended["answer"] = answers.keep(
                        Given(
                            owner=owner,
                            question=ask.question,
                            example=replace(example, turns=_questions(example), options=()),
                            text=event.text,
                            confidence=event.confidence,
                            pictures=put.pictures,
                            study=code,
                        )
                    )
                await told.put(("ended", {"lane": lane, **ended}))
                if is_logged:
                    await log.answered(
                        code,
                        example,
                        event.text,
                        question=ask.question,
                        confidence=event.confidence if event.text else None,
                        abstained=event.abstains or not event.text,
                        latency=time.monotonic() - began,
                    )
        except MmmedError as error:
            await told.put(("fault", {"lane": lane, "detail": str(error)}))
            if is_logged:
                await log.failed(code, error, latency=time.monotonic() - began)
        finally:
            told.put_nowait(None)

    lanes: list[tuple[Lane, Example]] = [("seen", put.example)]
    if put.blind is not None:
        lanes.append(("unseen", put.blind))
    tasks = [asyncio.create_task(follow(*lane)) for lane in lanes]
    try:
        going = len(tasks)
        while going:
            event = await told.get()
            if event is None:
                going -= 1
            else:
                yield event
        for task in tasks:
            await task
    finally:
        for task in tasks:
            task.cancel()


@dataclass(frozen=True, slots=True, kw_only=True)
class _Whole:
    """How a lane ended."""

    text: str
    confidence: float
    options: dict[str, float]
    judgement: Judgement
    is_cut: bool = False
    abstains: bool = False


async def _lane(served: Served, example: Example, ask: Ask) -> AsyncIterator[Shown | _Whole]:
    if example.options:
        yield await _chosen(served, example, ask)
        return
    text = ""
    answer = judged_answer(served, example, Decoding(max_new_tokens=ask.longest), asked=ask.question)
    async for event in answer:
        if isinstance(event, Shown):
            text += event.text
            yield event
        else:
            yield _written(text, event)


def _written(text: str, event: Finished) -> _Whole:
    ended = event.ended
    return _Whole(
        text=text if ended else "",
        confidence=ended.confidence if ended else 0.0,
        options={},
        judgement=event.judgement,
        is_cut=ended is not None and ended.why == "length",
    )


async def _chosen(served: Served, example: Example, ask: Ask) -> _Whole:
    judgement = served.policy.judge_question(ask.question)
    if judgement.allowed:
        answer: Answer = (await asyncio.wrap_future(served.engine.compute(lambda one: one.choose([example]))))[0]
        judgement = served.policy.judge_answer(ask.question, answer.text)
        if judgement.allowed:
            shares = dict(answer.options)
            return _Whole(
                text=answer.text,
                confidence=answer.confidence or 0.0,
                options=shares,
                judgement=judgement,
                abstains=answer.abstains,
            )
    return _Whole(text="", confidence=0.0, options={}, judgement=judgement)


def _told(whole: _Whole, *, sure: float) -> dict[str, Any]:
    return {
        "text": whole.text,
        "confidence": round(whole.confidence, 4),
        "unsure": bool(whole.text) and (whole.abstains or whole.confidence < sure),
        "options": [{"text": text, "share": round(share, 4)} for text, share in whole.options.items()],
        "decision": whole.judgement.decision,
        "words": whole.judgement.words,
        "cut": whole.is_cut,
    }


def _questions(example: Example) -> tuple[Turn, ...]:
    """The conversation up to its last question."""
    turns: Sequence[Turn] = example.turns
    while turns and turns[-1].speaker == "assistant":
        turns = turns[:-1]
    return tuple(turns)
