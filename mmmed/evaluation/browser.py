"""Every item of an experiment on the page, to be filtered and looked at one by one.

The items stand in the page as JSON and the pictures as thumbnails, each once, within a limit of size. Nothing is shown
of a source whose card does not say that identifiers were removed: its items keep their figures, and lose their texts
and pictures.
"""

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from typing import Any, NamedTuple

from markupsafe import Markup

from mmmed.data.card import read_card
from mmmed.errors import DataError
from mmmed.evaluation.predictions import Prediction
from mmmed.evaluation.scorers import ChoiceScorer, ExactMatchScorer, normalise
from mmmed.page.html import data_uri
from mmmed.records import LazyImage

BYTES_OF_PICTURES = 12_000_000
"""What all thumbnails of a page may take; the items that come after it do without."""
SIDES = {200: 224, 800: 160}
"""Longest side of a thumbnail by how many distinct pictures there are at most."""
LEAST_SIDE = 112
LONGEST_TEXT = 4000
"""Characters of a prompt or an answer that are kept; the middle of a longer one is left out."""
MOST_VALUES = 40
"""An attribute with more values than this is no subgroup to choose from."""

RIGHT, WRONG, UNPARSED = "right", "wrong", "unparsed"


@dataclass(frozen=True, slots=True, kw_only=True)
class Item:
    """One question, what was said to it, and what other arms said.

    Args:
        prediction: The main arm's answer.
        others: Answers of other arms to the same item, in the order of the page.
        prompt: The words in which it was put; the source's question where they are not known.
        images: What the main arm saw.
    """

    prediction: Prediction
    others: Sequence[Prediction] = ()
    prompt: str = ""
    images: Sequence[LazyImage] = ()


class Thumbnails:
    """Small pictures for one page, each made once, until the limit is reached."""

    def __init__(self, pictures: int, *, limit: int = BYTES_OF_PICTURES) -> None:
        self.side = next((side for most, side in SIDES.items() if pictures <= most), LEAST_SIDE)
        self.uris: list[str] = []
        self._limit = limit
        self._numbers: dict[str, int] = {}

    def number(self, image: LazyImage) -> int | None:
        """The place of a picture among `uris`; none where there is no room for it."""
        if image.name not in self._numbers:
            if self._limit <= 0:
                return None
            uri = data_uri(image.open(), side=self.side)
            self._limit -= len(uri)
            self._numbers[image.name] = len(self.uris)
            self.uris.append(uri)
        return self._numbers[image.name]


class Browser(NamedTuple):
    """What the template needs: the items as JSON, the script, and what there is to choose from."""

    items: Markup
    script: Markup
    number: int
    unseen: int
    """Items whose pictures found no room."""
    withheld: tuple[str, ...]
    """Sources of which nothing is shown."""


def browser(items: Sequence[Item], *, limit: int = BYTES_OF_PICTURES) -> Browser:
    """Make items ready for the page.

    Args:
        items: In the order of the page.
        limit: Most bytes of all thumbnails.
    """
    names = {image.name for item in items for image in item.images if may_be_shown(item.prediction.source)}
    thumbnails = Thumbnails(len(names), limit=limit)
    groups = _subgroups(items)
    rows, unseen = [], 0
    for item in items:
        is_shown = may_be_shown(item.prediction.source)
        numbers = [thumbnails.number(image) for image in item.images] if is_shown else []
        unseen += None in numbers
        rows.append(_shown(item, groups) if is_shown else _withheld(item))
        rows[-1]["pictures"] = [number for number in numbers if number is not None]
    content = {"items": rows, "pictures": thumbnails.uris, "subgroups": groups}
    withheld = {item.prediction.source for item in items if not may_be_shown(item.prediction.source)}
    return Browser(
        items=Markup(_safe_json(content)),
        script=script(),
        number=len(items),
        unseen=unseen,
        withheld=tuple(sorted(withheld)),
    )


@cache
def script() -> Markup:
    """The script of the browser; the page's content policy names its hash, so that no other one runs."""
    return Markup(files("mmmed.evaluation").joinpath("templates/browser.js").read_text(encoding="utf-8"))


@cache
def may_be_shown(source: str) -> bool:
    """Whether a source's card says that identifiers were removed; a source without a card is not shown."""
    try:
        return read_card(source).deidentified
    except DataError:
        return False


def changes(item: Item) -> bool:
    """Whether the answer is another one under a control, or of the arm beside it."""
    return any(normalise(other.answer) != normalise(item.prediction.answer) for other in item.others)


def state(prediction: Prediction) -> str:
    """Whether an answer is right, wrong or unparsed; of an open one, whether it is the reference in other letters."""
    scorer = ChoiceScorer() if prediction.options else ExactMatchScorer()
    value = scorer.score(prediction).value
    return UNPARSED if value is None else RIGHT if value == 1.0 else WRONG


def _shown(item: Item, groups: Mapping[str, Sequence[str]]) -> dict[str, Any]:
    said = item.prediction
    return {
        "id": said.id,
        "task": said.task,
        "topic": said.topic,
        "question": _shortened(said.question),
        "prompt": _shortened(item.prompt),
        "reference": _shortened(said.reference),
        "groups": {name: str(value) for name, value in said.attributes.items() if str(value) in groups.get(name, ())},
        "changed": changes(item),
        "answers": [
            {"arm": one.arm, "text": _shortened(one.answer), "state": state(one), **_confidence(one)}
            for one in (said, *item.others)
        ],
        "options": [[option, round(share, 4)] for option, share in said.options.items()],
    }


def _withheld(item: Item) -> dict[str, Any]:
    """The figures of an item without anything that its source says."""
    said = item.prediction
    return {
        "task": said.task,
        "withheld": said.source,
        "changed": changes(item),
        "groups": {},
        "answers": [{"arm": one.arm, "state": state(one), **_confidence(one)} for one in (said, *item.others)],
        "options": [],
    }


def _confidence(prediction: Prediction) -> dict[str, float]:
    return {} if prediction.confidence is None else {"confidence": round(prediction.confidence, 4)}


def _subgroups(items: Iterable[Item]) -> dict[str, list[str]]:
    """Attributes that items can be chosen by, with their values: what is shown, and has few values."""
    values: dict[str, set[str]] = {}
    for item in items:
        if may_be_shown(item.prediction.source):
            for name, value in item.prediction.attributes.items():
                values.setdefault(name, set()).add(str(value))
    return {name: sorted(found) for name, found in sorted(values.items()) if 1 < len(found) <= MOST_VALUES}


def _shortened(text: str) -> str:
    if len(text) <= LONGEST_TEXT:
        return text
    half = LONGEST_TEXT // 2
    return f"{text[:half]}\n[… {len(text) - 2 * half} characters …]\n{text[-half:]}"


def _safe_json(content: Any) -> str:
    """JSON that can stand inside a script element: nothing in it can end the element or begin another."""
    text = json.dumps(content, ensure_ascii=True, allow_nan=False, separators=(",", ":"))
    return text.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026")
