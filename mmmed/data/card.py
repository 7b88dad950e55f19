"""Data set cards: what a data set is, who may use it for what, and what is wrong with it."""

import dataclasses
import functools
import logging
import sys
import types
import typing
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import yaml

from mmmed.errors import DataError, did_you_mean

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class Card:
    """The front matter of data/<name>.md.

    Args:
        name: Name of the source.
        title: Name in words.
        version: Edition that was read.
        licence: Terms of use.
        forbids: What the terms do not allow.
        consent: On what ground patients' data are in it.
        deidentified: Whether the publisher removed identifiers.
        home: Where it is published.
        obtain: How to get it, and how to lay it out.
        citation: The paper to cite.
        splits: How the splits are made.
        counts: What was counted in it, by what was counted.
        sha256: Digest of the annotation file that was counted.
        demographics: What is known of the patients.
        faults: What a user must know before trusting a result.
    """

    name: str
    title: str
    version: str
    licence: str
    forbids: tuple[str, ...]
    consent: str
    deidentified: bool
    home: str
    obtain: str
    citation: str
    splits: str
    counts: Mapping[str, int]
    sha256: str
    demographics: tuple[str, ...]
    faults: tuple[str, ...]


def cards_folder() -> Path:
    """Where the cards lie: data/ of the checkout, or share/mmmed/data of the environment it is installed in.

    Raises:
        DataError: Neither is there.
    """
    places = (Path(__file__).parents[2] / "data", Path(sys.prefix) / "share" / "mmmed" / "data")
    for place in places:
        if any(place.glob("*.md")):
            return place
    raise DataError(f"no data set cards in {' or '.join(map(str, places))}; install the project again")


def read_card(name: str, *, folder: Path | None = None) -> Card:
    """Read the card of a source.

    Raises:
        DataError: There is no such card, or a key of its front matter is missing, unknown or of the wrong kind.
    """
    folder = folder or cards_folder()
    path = folder / f"{name}.md"
    if not path.is_file():
        known = [card.stem for card in folder.glob("*.md")]
        raise DataError(f"no card {path}{did_you_mean(name, known)}; write one with the keys of mmmed.data.card.Card")
    return parse_card(path.read_text(encoding="utf-8"), place=str(path))


def parse_card(text: str, *, place: str) -> Card:
    """Read a card from the text of its file. Raises `DataError`, naming `place`, as `read_card` does."""
    fence, _, rest = text.partition("\n")
    front, closing, _ = rest.partition("\n---")
    if fence.strip() != "---" or not closing:
        raise DataError(f"{place} has no front matter; begin it with YAML between two lines of '---'")
    try:
        values = yaml.safe_load(front)
    except yaml.YAMLError as error:
        raise DataError(f"{place}: front matter is no YAML ({' '.join(str(error).split())})") from error
    if not isinstance(values, dict):
        raise DataError(f"{place}: front matter is {type(values).__name__}; expected keys and values")
    kinds = typing.get_type_hints(Card)
    names = [field.name for field in dataclasses.fields(Card)]
    if unknown := [str(key) for key in values if key not in names]:
        raise DataError(f"{place}: unknown key {unknown[0]!r}{did_you_mean(unknown[0], names)}; remove or rename it")
    if missing := [name for name in names if name not in values]:
        raise DataError(f"{place}: missing key(s) {', '.join(map(repr, missing))}; add them")
    return Card(**{name: _value(values[name], kind=kinds[name], place=f"{place}: {name!r}") for name in names})


def show_licence(card: Card) -> None:
    """Log the terms of a data set, once per process."""
    forbidden = f"; forbids {', '.join(card.forbids)}" if card.forbids else ""
    _log_once(f"{card.title}: {card.licence}{forbidden}; see {card.home}")


@functools.cache
def _log_once(line: str) -> None:
    logger.info(line)


def _value(value: object, *, kind: typing.Any, place: str) -> typing.Any:
    if kind is str and isinstance(value, str | int | float) and not isinstance(value, bool):
        return " ".join(str(value).split())
    if kind is bool and isinstance(value, bool):
        return value
    if kind == tuple[str, ...] and isinstance(value, list) and all(isinstance(item, str) for item in value):
        return tuple(" ".join(item.split()) for item in value)
    if (
        kind == Mapping[str, int]
        and isinstance(value, dict)
        and all(isinstance(count, int) for count in value.values())
    ):
        return types.MappingProxyType({str(name): count for name, count in value.items()})
    raise DataError(f"{place} is {value!r}; expected {_EXPECTED[kind]}")


_EXPECTED: dict[typing.Any, str] = {
    str: "text",
    bool: "true or false",
    tuple[str, ...]: "a list of texts",
    Mapping[str, int]: "whole numbers by name",
}
