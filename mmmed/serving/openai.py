"""The interface for programs, in the form of OpenAI's: chat completions with pictures, whole or streamed, and models.

Pictures come inside the request as data URLs; nothing is ever fetched for a visitor.
"""

from __future__ import annotations

import base64
import binascii
import json
import secrets
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Annotated, Any, Literal

from fastapi import APIRouter, FastAPI, HTTPException, Request
from fastapi.responses import JSONResponse, PlainTextResponse, Response, StreamingResponse
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector
from pydantic import BaseModel, ConfigDict, Field

from mmmed.errors import ImageError
from mmmed.inference.generation import Decoding
from mmmed.records import IMAGE_PLACEHOLDER, Example, LazyImage, Turn
from mmmed.safety.policy import Judgement
from mmmed.serving.answering.judged import Finished, Shown, judged_answer
from mmmed.serving.answering.served import Served, question
from mmmed.serving.answering.ticket import Ended
from mmmed.serving.uploads.folder import Uploads
from mmmed.serving.web.guards import asks_allowed
from mmmed.serving.web.parts import Part
from mmmed.serving.web.seen import SeenLog
from mmmed.serving.web.visitor import Program

MOST_IMAGES = 8
MOST_TOKENS = 1024
DEFAULT_TOKENS = 256


class _Model(BaseModel):
    # Programs send much that changes nothing here; what would change the answer is named and refused.
    model_config = ConfigDict(extra="ignore")


class ImageUrl(_Model):
    url: str


class ContentPart(_Model):
    type: Literal["text", "image_url"]
    text: str = Field("", max_length=50_000)
    image_url: ImageUrl | None = None


class Message(_Model):
    role: Literal["system", "user", "assistant"]
    content: Annotated[str, Field(max_length=50_000)] | Annotated[list[ContentPart], Field(max_length=64)]


class StreamOptions(_Model):
    include_usage: bool = False


class Completion(_Model):
    """What is asked for."""

    model: str = Field("", max_length=200)
    messages: list[Message] = Field(min_length=1, max_length=64)
    max_tokens: int | None = Field(None, ge=1, le=MOST_TOKENS)
    max_completion_tokens: int | None = Field(None, ge=1, le=MOST_TOKENS)
    temperature: float = Field(0.0, ge=0, le=2, allow_inf_nan=False)
    seed: int = Field(0, ge=-(2**63), lt=2**63)
    stop: Annotated[str, Field(min_length=1, max_length=100)] | Annotated[list[str], Field(max_length=4)] | None = None
    stream: bool = False
    stream_options: StreamOptions | None = None
    n: Literal[1] = 1
    tools: None = None

    def decoding(self) -> Decoding:
        """How the answer is written; greedily unless a temperature is given."""
        stop = [self.stop] if isinstance(self.stop, str) else self.stop or []
        longest = self.max_completion_tokens or self.max_tokens or DEFAULT_TOKENS
        return Decoding(max_new_tokens=longest, stop=tuple(stop), temperature=self.temperature, seed=self.seed)


def interface_part(served: Served, uploads: Uploads, seen: SeenLog) -> Part:
    """`/v1/chat/completions`, `/v1/models` and `/metrics`; starts the model's thread and keeps the uploads.

    Args:
        served: The model.
        uploads: Where pictures are kept while they are looked at.
        seen: Who saw what.
    """
    router = APIRouter()

    @router.post("/v1/chat/completions", tags=["answers"], response_model=None)
    async def complete(request: Request, body: Completion, asking: Program) -> Response:
        """Answer the last message of a conversation."""
        asks_allowed(request, asking)
        if body.model and body.model != served.name:
            raise HTTPException(404, f"no model {body.model!r} here; see /v1/models")
        code, made = f"chatcmpl-{secrets.token_hex(12)}", int(time.time())
        async with AsyncExitStack() as stack:
            example = await _example(served, uploads, body.messages, owner=asking.name, stack=stack)
            seen.note(asking.name, "asked", code, pictures=len(example.images))
            answer = judged_answer(served, example, body.decoding(), asked=example.question)
            if body.stream:
                is_counted = body.stream_options is not None and body.stream_options.include_usage
                stream = _Streamed(served.name, code, made, is_counted)
                # What refuses a question does so before the first line, while there is still a status to say it.
                first = await anext(answer)
                # The pictures are let go when the stream ends, which is after this function has.
                return StreamingResponse(stream.lines(first, answer, stack.pop_all()), media_type="text/event-stream")
            text = ""
            async for event in answer:
                if isinstance(event, Shown):
                    text += event.text
                else:
                    return JSONResponse(_whole(served.name, code, made, text, event))
        raise AssertionError("an answer ends")

    @router.get("/v1/models", tags=["answers"])
    async def models(asking: Program) -> dict[str, Any]:
        """The model that is served."""
        return {"object": "list", "data": [{"id": served.name, "object": "model", "created": 0, "owned_by": "mmmed"}]}

    @router.get("/metrics", tags=["state"], response_class=PlainTextResponse)
    async def metrics(request: Request, asking: Program) -> Response:
        """Counts for Prometheus: requests, latencies, who waits, tokens written; nothing of what was asked."""
        return Response(request.app.state.traffic.text(), media_type="text/plain; version=0.0.4; charset=utf-8")

    @asynccontextmanager
    async def running(app: FastAPI) -> AsyncIterator[None]:
        app.state.traffic.registry.register(_Work(served))
        async with uploads.keeping():
            with served.engine.answering():
                yield

    return Part(name="interface", router=router, running=running)


class _Work(Collector):
    def __init__(self, served: Served) -> None:
        self._engine = served.engine

    def collect(self) -> list[Metric]:
        load = self._engine.load
        return [
            GaugeMetricFamily("mmmed_answers_waiting", "Questions that wait for their turn.", load.waiting),
            GaugeMetricFamily("mmmed_answers_writing", "Answers that are being written.", load.writing),
            GaugeMetricFamily("mmmed_cache_tokens", "Places that keys and values are kept for.", load.tokens),
            CounterMetricFamily("mmmed_written_tokens", "Tokens written.", self._engine.written_tokens),
        ]


async def _example(
    served: Served, uploads: Uploads, messages: Sequence[Message], *, owner: str, stack: AsyncExitStack
) -> Example:
    """The conversation, its pictures read and kept as long as `stack` is open."""
    if messages[-1].role != "user":
        raise HTTPException(422, "the last message is not the user's; there is nothing to answer")
    images: list[LazyImage] = []
    turns: list[Turn] = []
    for message in messages:
        parts = (
            [ContentPart(type="text", text=message.content)] if isinstance(message.content, str) else message.content
        )
        words: list[str] = []
        for part in parts:
            if part.type == "text":
                words.append(served.check_plain(part.text))
                continue
            if message.role != "user" or part.image_url is None:
                raise HTTPException(422, "a picture stands in a message of the user, with an image_url")
            if len(images) == MOST_IMAGES:
                raise HTTPException(422, f"more than {MOST_IMAGES} pictures")
            images.append(await _picture(uploads, part.image_url.url, owner=owner, stack=stack))
            words.append(IMAGE_PLACEHOLDER)
        turns.append(Turn(message.role, "\n".join(words)))
    if not any(character.isalnum() for character in question(turns, images).question):
        raise HTTPException(422, "the last message asks nothing")
    return question(turns, images)


async def _picture(uploads: Uploads, url: str, *, owner: str, stack: AsyncExitStack) -> LazyImage:
    head, _, encoded = url.partition(",")
    if not head.startswith("data:") or not head.endswith(";base64"):
        raise HTTPException(422, "pictures are sent inside the request, as data:image/png;base64,…; none is fetched")
    try:
        content = base64.b64decode(encoded, validate=True)
    except (binascii.Error, ValueError) as error:
        raise ImageError("a picture is not in base64") from error

    async def sent() -> AsyncIterator[bytes]:
        yield content

    # Many requests of one program are under way at once; each has its pictures for itself, and lets them go.
    own = f"{owner}:{secrets.token_hex(8)}"
    upload = await uploads.add(sent(), owner=own)
    stack.callback(uploads.remove, upload.code, owner=own)
    return upload.frame()


def _reason(finished: Finished) -> str:
    return "content_filter" if finished.ended is None else "length" if finished.ended.why == "length" else "stop"


def _usage(ended: Ended | None) -> dict[str, int]:
    asked, written = (ended.asked_tokens, ended.tokens) if ended else (0, 0)
    return {"prompt_tokens": asked, "completion_tokens": written, "total_tokens": asked + written}


def _beyond(ended: Ended | None, judgement: Judgement) -> dict[str, Any]:
    """What OpenAI's form has no place for."""
    confidence = round(ended.confidence, 4) if ended else None
    return {"confidence": confidence, "policy": {"decision": judgement.decision, "rules": list(judgement.rules)}}


def _whole(name: str, code: str, made: int, text: str, finished: Finished) -> dict[str, Any]:
    said = text if finished.judgement.allowed else finished.judgement.words
    return {
        "id": code,
        "object": "chat.completion",
        "created": made,
        "model": name,
        "choices": [
            {
                "index": 0,
                "message": {"role": "assistant", "content": said},
                "finish_reason": _reason(finished),
                "logprobs": None,
            }
        ],
        "usage": _usage(finished.ended),
        "mmmed": _beyond(finished.ended, finished.judgement),
    }


class _Streamed:
    """An answer as server-sent events."""

    def __init__(self, name: str, code: str, made: int, is_counted: bool) -> None:
        self._head = {"id": code, "object": "chat.completion.chunk", "created": made, "model": name}
        self._is_counted = is_counted

    async def lines(
        self, first: Shown | Finished, answer: AsyncIterator[Shown | Finished], pictures: AsyncExitStack
    ) -> AsyncIterator[str]:
        async with pictures:
            yield self._line({"role": "assistant", "content": ""})
            for line in self._of(first):
                yield line
            try:
                async for event in answer:
                    for line in self._of(event):
                        yield line
            finally:
                await answer.aclose()  # type: ignore[attr-defined]
            yield "data: [DONE]\n\n"

    def _of(self, event: Shown | Finished) -> list[str]:
        if isinstance(event, Shown):
            return [self._line({"content": event.text})]
        lines = [] if event.judgement.allowed else [self._line({"content": event.judgement.words})]
        lines.append(self._line({}, reason=_reason(event), mmmed=_beyond(event.ended, event.judgement)))
        if self._is_counted:
            lines.append(_data(self._head | {"choices": [], "usage": _usage(event.ended)}))
        return lines

    def _line(self, delta: dict[str, str], *, reason: str | None = None, **beyond: Any) -> str:
        return _data(self._head | {"choices": [{"index": 0, "delta": delta, "finish_reason": reason}]} | beyond)


def _data(content: dict[str, Any]) -> str:
    return f"data: {json.dumps(content)}\n\n"
