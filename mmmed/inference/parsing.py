"""Which option a written answer names. None where it names no single one: that is *unparsed*, and never guessed."""

from __future__ import annotations

import re
from collections.abc import Sequence

_FINAL = re.compile(r"\banswer\b(?:\s+is)?\s*:?\s*", re.IGNORECASE)


def named_option(text: str, options: Sequence[str], *, letters: Sequence[str] = ()) -> str | None:
    """Find the one option that an answer names.

    What follows the last "answer is" or "answer:" counts, or all of it where there is none. A letter counts where it
    begins that part or stands in brackets; an option's text where it stands there as whole words. An option that
    stands only inside a longer named one ("effusion" in "no effusion") is not named.

    Args:
        text: What was written.
        options: The texts of the options.
        letters: Their letters, where they were asked for.
    """
    said = text.strip()
    finals = list(_FINAL.finditer(said))
    if finals and (final := said[finals[-1].end() :].strip()):
        said = final
    if letters and (letter := _letter(said, letters)) is not None:
        return options[list(letters).index(letter)]
    first_line = said.split("\n", 1)[0]
    for part in (first_line, said):
        named = _named(part, options)
        if len(named) == 1:
            return named[0]
        if named:
            return None
    return None


def _letter(said: str, letters: Sequence[str]) -> str | None:
    known = "".join(letters)
    if match := re.match(rf"[\s(\[*\"']*([{known}])(?=$|[\s)\].,:;*\"'])", said):
        # "A patient …" begins with an article.
        is_article = match[1] == "A" and re.match(r"\s+[a-z]", said[match.end() :])
        if not is_article:
            return match[1]
    bracketed = set(re.findall(rf"\(([{known}])\)", said))
    return bracketed.pop() if len(bracketed) == 1 else None


def _named(said: str, options: Sequence[str]) -> list[str]:
    lowered = said.casefold()
    spans: list[tuple[int, int, str]] = []
    for option in options:
        pattern = rf"(?<!\w){re.escape(option.casefold())}(?!\w)"
        spans += [(match.start(), match.end(), option) for match in re.finditer(pattern, lowered)]
    outer = [
        one
        for one in spans
        if not any(o[0] <= one[0] and one[1] <= o[1] and o[1] - o[0] > one[1] - one[0] for o in spans)
    ]
    return list(dict.fromkeys(option for _, _, option in outer))
