"""A model behind an OpenAI-compatible endpoint, as one more arm; nothing of mmmed needs one.

Everything that is asked is sent there, images included: data that must not leave the house must not be asked this way.
An endpoint gives no likelihood of an option, so that closed questions are answered in writing and the option that an
answer names is looked for (`parsing`); what names none is unparsed.
"""

from __future__ import annotations

import base64
import io
import json
import os
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

from mmmed.data.choice import LETTERS
from mmmed.errors import ConfigError, DataError
from mmmed.inference.generation import Decoding
from mmmed.inference.parsing import named_option
from mmmed.inference.scoring import Rule
from mmmed.records import IMAGE_PLACEHOLDER, Answer, Example, LazyImage, Turn

KEY = "OPENAI_API_KEY"
"""Environment variable of the key that is sent to the endpoint, where it wants one."""
_PATIENCE = (429, 500, 502, 503, 504)

Advance = Callable[[int], object]


@dataclass(frozen=True, slots=True, kw_only=True)
class Endpoint:
    """Asks a model by HTTP.

    Args:
        url: Up to the version, such as ``http://localhost:8000/v1``.
        model: Name of the model there.
        requests_at_once: Questions that are under way at the same time.
        attempts: How often a question is sent while the endpoint is busy or fails.
        timeout_s: Longest wait for one answer, in seconds.
        pause_s: Wait before the second attempt, doubled before each further one.

    Raises:
        ConfigError: The address is no http address, or no model is named.
    """

    url: str
    model: str
    requests_at_once: int = 4
    attempts: int = 5
    timeout_s: float = 300.0
    pause_s: float = 1.0

    def __post_init__(self) -> None:
        if not self.url.startswith(("http://", "https://")):
            raise ConfigError(f"endpoint {self.url!r}: expected an address such as http://localhost:8000/v1")
        if not self.model:
            raise ConfigError(f"endpoint {self.url}: name the model to ask there")

    def choose(
        self,
        examples: Sequence[Example],
        *,
        rule: Rule | None = None,
        unasked: Sequence[Example] | None = None,
        advance: Advance = lambda count: None,
    ) -> list[Answer]:
        """Answer closed questions in writing; a share of 1 for the option that is named, 0 for all where none is.

        Raises:
            ConfigError: A rule about likelihoods is asked for, which an endpoint does not give.
            DataError: The endpoint does not answer.
        """
        if unasked is not None or (rule is not None and rule != Rule()):
            raise ConfigError(f"endpoint {self.url} gives no likelihoods; use length: none and calibrated: false")
        answers = []
        for example, said in zip(examples, self._ask_all(examples, Decoding(), advance), strict=True):
            is_lettered = example.options == tuple(LETTERS[: len(example.options)])
            named = named_option(said, example.options, letters=example.options if is_lettered else ())
            shares = {option: float(option == named) for option in example.options}
            answers.append(Answer(text=named if named is not None else said, options=shares))
        return answers

    def write(
        self,
        examples: Sequence[Example],
        *,
        decoding: Decoding | None = None,
        advance: Advance = lambda count: None,
    ) -> list[Answer]:
        """Answer in free text. Raises `DataError` where the endpoint does not answer."""
        return [Answer(text=text) for text in self._ask_all(examples, decoding or Decoding(), advance)]

    def _ask_all(self, examples: Sequence[Example], decoding: Decoding, advance: Advance) -> list[str]:
        said = []
        with ThreadPoolExecutor(self.requests_at_once) as threads:
            numbered = enumerate(examples)
            for text in threads.map(lambda one: self._ask(one[1], decoding, draw=one[0]), numbered):
                said.append(text)
                advance(1)
        return said

    def _ask(self, example: Example, decoding: Decoding, *, draw: int) -> str:
        body: dict[str, Any] = {
            "model": self.model,
            "messages": messages(example),
            "max_tokens": decoding.max_new_tokens,
            "temperature": decoding.temperature,
            "seed": decoding.seed + (draw if decoding.temperature else 0),
        }
        if decoding.stop:
            body["stop"] = list(decoding.stop)
        answer = self._post(body)
        try:
            return str(answer["choices"][0]["message"]["content"] or "").strip()
        except (KeyError, IndexError, TypeError) as error:
            raise DataError(f"endpoint {self.url}: no choices[0].message.content in its answer") from error

    def _post(self, body: dict[str, Any]) -> Any:
        headers = {"Content-Type": "application/json"}
        if key := os.environ.get(KEY):
            headers["Authorization"] = f"Bearer {key}"
        request = urllib.request.Request(
            f"{self.url.rstrip('/')}/chat/completions", data=json.dumps(body).encode(), headers=headers
        )
        fault = ""
        for attempt in range(self.attempts):
            if attempt:
                time.sleep(self.pause_s * 2 ** (attempt - 1))
            try:
                with urllib.request.urlopen(request, timeout=self.timeout_s) as response:
                    return json.load(response)
            except urllib.error.HTTPError as error:
                fault = f"HTTP {error.code} {error.reason}"
                is_passing = error.code in _PATIENCE
                error.close()
                if not is_passing:
                    break
            except (OSError, ValueError) as error:
                fault = str(getattr(error, "reason", error))
        raise DataError(
            f"endpoint {self.url} does not answer for model {self.model!r} ({fault}); check address and key"
        )


def messages(example: Example) -> list[dict[str, Any]]:
    """A question as the chat format wants it, images inside as PNG; the answer held to be right is left out."""
    turns = list(example.turns)
    while turns and turns[-1].speaker == "assistant":
        turns.pop()
    images = iter(example.images)
    return [{"role": turn.speaker, "content": _content(turn, images)} for turn in turns]


def _content(turn: Turn, images: Any) -> str | list[dict[str, Any]]:
    pieces = turn.text.split(IMAGE_PLACEHOLDER)
    if len(pieces) == 1:
        return turn.text
    parts: list[dict[str, Any]] = []
    for number, piece in enumerate(pieces):
        if number:
            parts.append({"type": "image_url", "image_url": {"url": _data_url(next(images))}})
        if piece.strip():
            parts.append({"type": "text", "text": piece.strip()})
    return parts


def _data_url(image: LazyImage) -> str:
    buffer = io.BytesIO()
    image.open().save(buffer, format="PNG")
    return f"data:image/png;base64,{base64.b64encode(buffer.getvalue()).decode()}"
