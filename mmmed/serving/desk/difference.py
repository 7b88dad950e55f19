"""What a person changed in a draft, word by word."""

import difflib
import re
from typing import Literal, NamedTuple

_WORDS = re.compile(r"\s+|[^\W_]+|.", re.DOTALL)


class Part(NamedTuple):
    """A stretch of text that both have, or only one of them."""

    kind: Literal["same", "gone", "new"]
    text: str


def difference(before: str, after: str) -> tuple[Part, ...]:
    """The stretches of both texts in reading order; `same` and `gone` are `before`, `same` and `new` are `after`."""
    old, new = _WORDS.findall(before), _WORDS.findall(after)
    codes = difflib.SequenceMatcher(None, old, new, autojunk=False).get_opcodes()
    parts: list[Part] = []
    gone, came = "", ""
    for place, (kind, a, b, c, d) in enumerate(codes):
        taken, put = "".join(old[a:b]), "".join(new[c:d])
        # A blank between two changes is part of one change, which is easier to read than two.
        if kind != "equal" or (taken.isspace() and 0 < place < len(codes) - 1):
            gone, came = gone + taken, came + put
            continue
        parts += _changed(gone, came)
        parts.append(Part("same", taken))
        gone, came = "", ""
    return (*parts, *_changed(gone, came))


def _changed(gone: str, came: str) -> list[Part]:
    return [Part("gone", gone)] * bool(gone) + [Part("new", came)] * bool(came)
