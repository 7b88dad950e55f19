"""The model that is served, and all that stands around it."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mmmed.errors import ConfigError, RecordError
from mmmed.inference.retrieval import Index
from mmmed.records import IMAGE_PLACEHOLDER, Example, LazyImage, Turn
from mmmed.safety.policy import Policy
from mmmed.serving.answering.engine import Engine


@dataclass(frozen=True, kw_only=True)
class Served:
    """What answers are made with.

    Args:
        name: Of the model, as visitors know it; no path.
        engine: Computes.
        policy: Judges what is asked and what is said.
        index: Passages that questions are answered from, where there are any.
        card: What the audits of the model came to (`safety_card.json`), where they were made.
    """

    name: str
    engine: Engine
    policy: Policy
    index: Index | None = None
    card: dict[str, Any] | None = None

    @property
    def sees(self) -> bool:
        """Whether the model looks at pictures."""
        return self.engine.session.processor.transform is not None

    def check_plain(self, text: str) -> str:
        """A visitor's text, if it holds no sign by which the model tells speakers and pictures apart.

        Raises:
            RecordError: It does, or it is no text that can be written.
        """
        try:
            text.encode()
        except UnicodeEncodeError as error:
            raise RecordError("the text holds half of a letter, which no tokenizer reads; send it as UTF-8") from error
        added = self.engine.session.processor.prompt.tokenizer.added_tokens_decoder.values()
        signs = [IMAGE_PLACEHOLDER, *(token.content for token in added if token.special)]
        found = next((sign for sign in signs if sign in text), None)
        if found is not None:
            raise RecordError(
                f"the text holds {found!r}, by which the model tells speakers and pictures apart; leave it out"
            )
        return text


def question(turns: Sequence[Turn], images: Sequence[LazyImage], *, options: tuple[str, ...] = ()) -> Example:
    """A visitor's conversation as the model reads it; it has no patient and no name.

    Raises:
        RecordError: It does not fit together.
    """
    return Example(id="asked", patient="", turns=tuple(turns), images=tuple(images), options=options, source="visitor")


def read_card(checkpoint: str, path: str | None) -> dict[str, Any] | None:
    """The safety card at a path, or beside the checkpoint, if there is one.

    Raises:
        ConfigError: The file named is not there or is no card.
    """
    beside = [Path(checkpoint) / "safety_card.json", Path(checkpoint).parent / "safety_card.json"]
    found = Path(path) if path else next((file for file in beside if file.is_file()), None)
    if found is None:
        return None
    try:
        card = json.loads(found.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise ConfigError(f"safety card {found} cannot be read ({error}); make one with `mmmed audit`") from error
    if not isinstance(card, dict) or not {"suite", "verdict", "checks"} <= card.keys():
        raise ConfigError(f"{found} is no safety card; name the safety_card.json that `mmmed audit` wrote")
    return card
