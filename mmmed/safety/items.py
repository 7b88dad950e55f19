"""The items behind the figures of a safety card: one page for each check, to which every figure leads."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from mmmed.errors import ImageError
from mmmed.evaluation.browser import may_be_shown
from mmmed.page.html import data_uri, write_page
from mmmed.records import LazyImage
from mmmed.safety.audit import ITEMS_SHOWN, Examined
from mmmed.safety.check import Evidence, Shown
from mmmed.safety.measure import Measure

FOLDER = "items"
_SIDE = 128
_LONGEST = 1500


class Said(NamedTuple):
    """An answer on the page: what was changed, what was asked in its words, and what was said with which certainty."""

    change: str
    question: str
    answer: str
    confidence: float | None


class Item(NamedTuple):
    """An item on the page; `withheld` where its data may hold identifiers, and then nothing of it is shown."""

    name: str
    withheld: bool
    reference: str = ""
    pictures: tuple[str, ...] = ()
    said: tuple[Said, ...] = ()


class Figure(NamedTuple):
    """A figure on the page, with the first of its items."""

    place: int
    measure: Measure
    items: list[Item]


def link(check: int, place: int) -> str:
    """Where the items of a figure stand, seen from the card; checks and figures are counted from 0."""
    return f"{FOLDER}/{check + 1:02}.html#figure{place + 1}"


def write_items(folder: Path, examined: Sequence[Examined], *, checkpoint: str) -> None:
    """Write the pages of all checks that have items. Raises `OutputError`."""
    for number, one in enumerate(examined):
        figures = [
            Figure(place, measure, [_item(name, one.evidence) for name in measure.items[:ITEMS_SHOWN]])
            for place, measure in enumerate(one.measures)
            if measure.items
        ]
        if figures:
            write_page(
                folder / FOLDER / f"{number + 1:02}.html",
                room="mmmed.safety",
                template="items.html.j2",
                title=one.title,
                verdict=one.verdict,
                figures=figures,
                checkpoint=checkpoint,
            )


def _item(name: str, evidence: Evidence) -> Item:
    shown = evidence.shown.get(name, [])
    source = shown[0].said.source if shown else name.partition(":")[0]
    if not may_be_shown(source):
        return Item(name, withheld=True)
    maps = [data_uri(evidence.maps[name], side=2 * _SIDE)] if name in evidence.maps else []
    images = {image.name: image for one in shown[:1] for image in one.example.images}
    pictures = maps or [uri for image in images.values() if (uri := _thumbnail(image))]
    return Item(
        name,
        withheld=False,
        reference=shown[0].said.reference if shown else "",
        pictures=tuple(pictures),
        said=tuple(_said(one) for one in shown),
    )


def _said(one: Shown) -> Said:
    question = one.example.question
    cut = question if len(question) <= _LONGEST else f"{question[:_LONGEST]} …"
    return Said(one.change, cut, one.said.answer, one.said.confidence)


def _thumbnail(image: LazyImage) -> str:
    try:
        return data_uri(image.open(), side=_SIDE)
    except ImageError:
        return ""
