"""A rule is a pattern with a name, so that every redaction can say what made it."""

import re
from collections.abc import Iterator
from typing import NamedTuple

from mmmed.data.deidentify.entities import Finding, Kind


class Rule(NamedTuple):
    """A pattern whose group `phi` is an identifier."""

    name: str
    kind: Kind
    pattern: re.Pattern[str]


def rule(name: str, kind: Kind, pattern: str, *, flags: int = re.IGNORECASE) -> Rule:
    """Compile a rule."""
    return Rule(name, kind, re.compile(pattern, flags))


def apply(rules: tuple[Rule, ...], text: str) -> Iterator[Finding]:
    """Yield what the rules find, rule by rule."""
    for one in rules:
        for match in one.pattern.finditer(text):
            start, end = match.span("phi")
            if end > start:
                yield Finding(start, end, one.kind, one.name)
