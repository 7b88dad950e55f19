"""The page that shows what is in a data set: one HTML file, with pictures only where the card allows them."""

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from markupsafe import Markup, escape

from mmmed.data.card import Card
from mmmed.data.description import FEWEST_PATIENTS, Description, Spread, Topic, samples, text_samples
from mmmed.errors import ImageError
from mmmed.page.html import data_uri, write_page
from mmmed.page.wording import count, label, percent
from mmmed.records import SPLITS, Example, LazyImage

MOST_PICTURES = 12
MOST_TEXTS = 6

_SPACINGS = ("slice_thickness", "row_spacing", "column_spacing", "detector_row_spacing", "detector_column_spacing")
_UNITS = {"age": "years", **dict.fromkeys(_SPACINGS, "mm")}
_HEAD, _TAIL = 300, 160
_MOST_NAMED, _LONGEST_ANSWER = 20, 40

_WIDTH, _HEIGHT = 330, 170
_LEFT, _RIGHT, _TOP, _BOTTOM = 6, 6, 22, 24


class Shown(NamedTuple):
    """A picture made ready for the page, with what was asked and answered about it."""

    picture: str
    size: str
    question: str
    answer: str
    note: str


class Text(NamedTuple):
    """An example without a picture: what was asked, or a document, what was answered, and what was not."""

    question: str
    answer: str
    others: str
    note: str


class Bar(NamedTuple):
    """One value, how often it occurs, and its share of all."""

    name: str
    number: int
    share: float


def write_description(path: Path, *, card: Card, description: Description, examples: Sequence[Example]) -> None:
    """Write the page of a data set, whole or not at all.

    Pictures and texts are shown only where the card says that identifiers were removed.

    Raises:
        OutputError: The folder cannot be written to.
    """
    write_page(
        path,
        room="mmmed.data",
        template="description.html.j2",
        card=card,
        description=description,
        splits=SPLITS,
        shown=pictures(examples, card=card),
        texts=texts(examples, card=card),
        fewest_patients=1 if card.deidentified else FEWEST_PATIENTS,
        histogram=histogram,
        bars=bars,
        titled=titled,
        answers_of=answers_of,
        prose=prose,
    )


def pictures(examples: Sequence[Example], *, card: Card) -> list[Shown]:
    """A few pictures to show; none of a set whose identifiers may still be in it."""
    if not card.deidentified:
        return []
    return [_shown(example, example.images[0]) for example in samples(examples, most=MOST_PICTURES)]


def texts(examples: Sequence[Example], *, card: Card) -> list[Text]:
    """A few examples without a picture to show; none of a set whose identifiers may still be in it."""
    if not card.deidentified:
        return []
    return [
        Text(
            shortened(one.question) if one.question else one.turns[0].text[: _HEAD + _TAIL],
            one.reference,
            "; ".join(option for option in one.options if option != one.reference),
            _facts(one),
        )
        for one in text_samples(examples, most=MOST_TEXTS)
    ]


def shortened(text: str) -> str:
    """A question cut in its middle: a case comes first and what is asked about it last."""
    return (
        text
        if len(text) <= _HEAD + _TAIL
        else f"{text[:_HEAD].rstrip()} \N{HORIZONTAL ELLIPSIS} {text[-_TAIL:].lstrip()}"
    )


def answers_of(topic: Topic) -> str:
    """The answers that can be chosen and how often each is right; only how many there are where each question has
    its own.
    """
    if not topic.answers:
        return "none: a text to learn a language from" if topic.name == "document" else "free text"
    if len(topic.answers) > _MOST_NAMED:
        return f"{count(len(topic.answers))} different ones"
    return ", ".join(f"{_begun(name)} {percent(number / topic.asked)} %" for name, number in topic.answers)


def _begun(text: str) -> str:
    return text if len(text) <= _LONGEST_ANSWER else f"{text[:_LONGEST_ANSWER].rstrip()}\N{HORIZONTAL ELLIPSIS}"


def prose(text: str) -> Markup:
    """A line of a card, with what stands between backticks as code."""
    parts = text.split("`")
    if len(parts) % 2 == 0:
        return escape(text)
    return Markup("").join(
        Markup("<code>{}</code>").format(part) if place % 2 else part for place, part in enumerate(parts)
    )


def titled(name: str) -> str:
    """An attribute's name as a heading, with its unit."""
    words = label(name)
    return f"{words[:1].upper()}{words[1:]}{f', {_UNITS[name]}' if name in _UNITS else ''}"


def bars(values: Sequence[tuple[str, int]], *, total: int) -> list[Bar]:
    """Values with their share of all."""
    return [Bar(name, number, number / total if total else 0.0) for name, number in values]


def histogram(title: str, spread: Spread) -> Markup:
    """A histogram as inline SVG, with least, median and greatest in its caption."""
    if spread.low == spread.high:
        return Markup('<figure class="chart"><figcaption>{}</figcaption><p class="note">always {}</p></figure>').format(
            title, _number(spread.low)
        )
    highest = max(each.number for each in spread.bins)
    wide = (_WIDTH - _LEFT - _RIGHT) / len(spread.bins)
    tall = _HEIGHT - _TOP - _BOTTOM
    base = _HEIGHT - _BOTTOM
    columns = Markup("").join(
        Markup(
            '<rect x="{:.1f}" y="{:.1f}" width="{:.1f}" height="{:.1f}" class="column"><title>{}</title></rect>'
        ).format(
            _LEFT + place * wide + 0.5,
            base - tall * each.number / highest,
            max(wide - 1, 0.5),
            tall * each.number / highest,
            f"{_number(each.low)} to {_number(each.high)}: {count(each.number)}",
        )
        for place, each in enumerate(spread.bins)
    )
    peak = max(range(len(spread.bins)), key=lambda place: spread.bins[place].number)
    middle = min(max(_LEFT + (peak + 0.5) * wide, _LEFT + 20), _WIDTH - _RIGHT - 20)
    figures = f"{_number(spread.low)} to {_number(spread.high)}, median {_number(spread.median)}"
    return Markup(
        '<figure class="chart"><figcaption>{title}</figcaption>'
        '<svg viewBox="0 0 {w} {h}" width="{w}" height="{h}" role="img" aria-label="{title}: {figures}">'
        '{columns}<line x1="{l}" x2="{r}" y1="{base}" y2="{base}" class="rule"/>'
        '<text x="{middle:.1f}" y="{top}" class="tick" text-anchor="middle">{peak}</text>'
        '<text x="{l}" y="{foot}" class="tick">{low}</text>'
        '<text x="{r}" y="{foot}" class="tick" text-anchor="end">{high}</text></svg>'
        '<p class="note">{figures}</p></figure>'
    ).format(
        title=title,
        w=_WIDTH,
        h=_HEIGHT,
        figures=figures,
        columns=columns,
        l=_LEFT,
        r=_WIDTH - _RIGHT,
        base=base,
        middle=middle,
        top=_TOP - 6,
        peak=count(spread.bins[peak].number),
        foot=_HEIGHT - 6,
        low=_number(spread.bins[0].low),
        high=_number(spread.bins[-1].high),
    )


def _shown(example: Example, image: LazyImage) -> Shown:
    note = _facts(example)
    try:
        picture = image.open()
    except ImageError:
        return Shown("", "cannot be decoded", example.question, example.reference, note)
    size = f"{picture.width} \N{MULTIPLICATION SIGN} {picture.height}, {'grey' if picture.mode == 'L' else 'colour'}"
    return Shown(data_uri(picture), size, example.question, example.reference, note)


def _facts(example: Example) -> str:
    return ", ".join(
        f"{label(name)} {value if isinstance(value, str) else _number(value)}"
        for name, value in example.attributes.items()
    )


def _number(value: float) -> str:
    return count(int(value)) if float(value).is_integer() else f"{value:.3g}"
