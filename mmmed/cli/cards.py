"""`mmmed data list | show`: which data sets there are, on what terms, and what is known of them."""

from mmmed.data.card import Card, cards_folder, read_card
from mmmed.data.croissant import croissant_text


def list_sets() -> None:
    """List the data sets that have a card, with their licence and what it forbids."""
    for path in sorted(cards_folder().glob("*.md")):
        if path.name == "README.md":
            continue
        card = read_card(path.stem)
        print(f"{card.name}: {card.title}")
        print(f"  licence      {card.licence}")
        for one in card.forbids:
            print(f"  forbids      {one}")
        print(f"  identifiers  {'removed by the publisher' if card.deidentified else 'not removed'}")


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
        "identifiers": ["removed by the publisher" if card.deidentified else "not removed"],
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
    width = max(map(len, rows))
    lines = [
        f"{name if place == 0 else '':<{width}}  {value}\n"
        for name, values in rows.items()
        for place, value in enumerate(values)
    ]
    return f"{card.name}: {card.title}\n{''.join(lines)}"
