"""What a writer might say without having been told: drugs, conditions and allergens, and how they are denied."""

import re
from collections.abc import Sequence
from dataclasses import replace
from functools import cache
from importlib.resources import files
from typing import NamedTuple

import yaml

from mmmed.processing.findings.labeller import FindingLabeller, Status
from mmmed.processing.findings.rules import Finding, Rules, chest_rules, phrases

_NOTHING = phrases([])


class Lexicon(NamedTuple):
    """Names by kind, and the cues of warnings."""

    drugs: tuple[str, ...]
    conditions: tuple[str, ...]
    allergens: tuple[str, ...]
    warned_before: tuple[str, ...]


@cache
def lexicon() -> Lexicon:
    """The lexicon that comes with the project."""
    content = yaml.safe_load((files(__package__) / "lexicon.yaml").read_text(encoding="utf-8"))
    drugs, conditions, allergens = (
        tuple(one.strip() for one in content[kind].split(",")) for kind in ("drugs", "conditions", "allergens")
    )
    return Lexicon(drugs, conditions, allergens, tuple(content["warned_before"]))


def statuses(text: str, names: Sequence[str]) -> dict[str, list[tuple[Status, str]]]:
    """How each place where a text uses a name means it, with its sentence; names that are not used are left out.

    Warnings ("call if you have …") leave open what they warn of.
    """
    used = [name for name in names if mentions(text, name)]
    rules = _rules(tuple(used))
    found: dict[str, list[tuple[Status, str]]] = {}
    for mention in FindingLabeller(rules).mentions(text):
        found.setdefault(mention.finding, []).append((mention.status, mention.sentence))
    return found


def mentions(text: str, name: str) -> bool:
    """Whether a text uses a name, whatever it says of it."""
    return re.search(rf"(?<![\w-]){_spaced(name)}(?![\w])", text, re.IGNORECASE) is not None


def says_any(text: str, wordings: Sequence[str]) -> bool:
    """Whether a text has any of several wordings."""
    return any(mentions(text, wording) for wording in wordings)


@cache
def _rules(names: tuple[str, ...]) -> Rules:
    general = chest_rules()
    warned = phrases(lexicon().warned_before)
    return replace(
        general,
        findings=tuple(
            Finding(name, "", re.compile(rf"(?<![\w-]){_spaced(name)}(?!\w)", re.I), _NOTHING) for name in names
        ),
        denied_before=re.compile(rf"{general.denied_before.pattern}|\bnever\b", re.IGNORECASE),
        unsure_before=re.compile(f"{general.unsure_before.pattern}|{warned.pattern}", re.IGNORECASE),
    )


def _spaced(name: str) -> str:
    """A name with any white space or hyphen between its words."""
    return r"[\s-]+".join(re.escape(word) for word in name.split())
