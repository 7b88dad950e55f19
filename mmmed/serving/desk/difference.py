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
    parts: list[Part] = []
    for kind, a, b, c, d in difflib.SequenceMatcher(None, old, new, autojunk=False).get_opcodes():
        if kind == "equal":
            parts.append(Part("same", "".join(old[a:b])))
            continue
        if b > a:
            parts.append(Part("gone", "".join(old[a:b])))
        if d > c:
            parts.append(Part("new", "".join(new[c:d])))
    return tuple(parts)
