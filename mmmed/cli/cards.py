"""`mmmed data list | show`: which data sets there are, on what terms, and what is known of them."""

import shutil
import textwrap
from collections.abc import Iterator, Mapping, Sequence

from mmmed.data.card import Card, cards_folder, read_card
from mmmed.data.croissant import croissant_text

_WIDEST, _NARROWEST = 110, 60


def list_sets() -> None:
    """List the data sets that have a card, with their licence and what it forbids."""
    cards = [read_card(path.stem) for path in sorted(cards_folder().glob("*.md")) if path.name != "README.md"]
    for card in cards:
        print(f"{card.name}: {card.title}")
        rows = {
            "licence": [card.licence],
            "forbids": ["; ".join(card.forbids) or "nothing"],
            "identifiers": [_identifiers(card)],
        }
        print("\n".join(_table(rows, indent="  ")), end="\n\n")
    print(f"{len(cards)} data sets; 'mmmed data show NAME' shows the card of one")


def show(name: str, croissant: bool = False) -> None:
    """Show the card of a data set.

    Args:
        name: Name of the data set, as `mmmed data list` shows it.
        croissant: Print it as Croissant JSON-LD 1.0 for catalogues and other tools.
    """
    card = read_card(name)
    print(croissant_text(card) if croissant else _as_text(card), end="")


def _as_text(card: Card) -> str:
    rows = {
        "edition": [card.version],
        "licence": [card.licence],
        "forbids": card.forbids,
        "identifiers": [_identifiers(card)],
        "consent": [card.consent],
        "home": [card.home],
        "how to get it": [card.obtain],
        "splits": [card.splits],
        "counts": [f"{name}: {number}" for name, number in card.counts.items()],
        "patients": card.demographics,
        "faults": card.faults,
        "cite": [card.citation],
        "sha-256": [card.sha256],
    }
    return "\n".join([f"{card.name}: {card.title}", *_table(rows, indent="")]) + "\n"


def _identifiers(card: Card) -> str:
    return "removed, or never in it" if card.deidentified else "may still be in it; the privacy gate stands before it"


def _table(rows: Mapping[str, Sequence[str]], *, indent: str) -> Iterator[str]:
    """Names on the left, values beside them, folded to the terminal; several of one name are marked by dashes."""
    width = min(_WIDEST, max(_NARROWEST, shutil.get_terminal_size((_WIDEST, 24)).columns))
    left = max(map(len, rows))
    for name, values in rows.items():
        mark = "- " if len(values) > 1 else ""
        for place, value in enumerate(values):
            yield from textwrap.wrap(
                value,
                width,
                initial_indent=f"{indent}{name if place == 0 else '':<{left}}  {mark}",
                subsequent_indent=f"{indent}{'':<{left}}  {' ' * len(mark)}",
                break_long_words=False,
                break_on_hyphens=False,
            )
