"""The rules of the finding labeller as a file says them: phrases, cues and how far a cue reaches.

A phrase is words that follow each other. `*` at a word's end stands for any ending, `a|b` for either word, and
`..` for up to four words of the same clause between its neighbours.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from functools import cache
from importlib.resources import files
from pathlib import Path
from typing import NamedTuple

import yaml

from mmmed.errors import ConfigError, did_you_mean

_GAP = r"(?:[\s-]+[\w%/-]+){0,4}?"
_BETWEEN = r"[\s-]+"


class Finding(NamedTuple):
    """One finding of the vocabulary.

    Args:
        name: As it is reported.
        observation: Which of the CheXpert observations a mention also counts for; empty for none.
        mentions: Matches any phrase that names the finding.
        except_in: Matches longer phrases in which such words do not name it.
    """

    name: str
    observation: str
    mentions: re.Pattern[str]
    except_in: re.Pattern[str]


@dataclass(frozen=True, kw_only=True)
class Rules:
    """Everything the labeller goes by.

    Args:
        findings: In the order in which they are reported.
        no_cue: Phrases in which a word of negation denies nothing, such as "no change in".
        denied_before: Cues that deny what follows them.
        denied_after: Cues that deny what precedes them.
        unsure_before: Cues that leave open what follows them.
        unsure_after: Cues that leave open what precedes them.
        past_before: Cues of what was, is asked about or is meant in general, and not of what is seen.
        ends: Words at which the reach of a cue ends.
    """

    findings: tuple[Finding, ...]
    no_cue: re.Pattern[str]
    denied_before: re.Pattern[str]
    denied_after: re.Pattern[str]
    unsure_before: re.Pattern[str]
    unsure_after: re.Pattern[str]
    past_before: re.Pattern[str]
    ends: re.Pattern[str]


_CUES = tuple(each.name for each in fields(Rules) if each.name != "findings")
_KEYS = ("name", "observation", "mentions", "except_in")


@cache
def chest_rules() -> Rules:
    """The rules for reports of chest films that come with the project."""
    return _rules((files(__package__) / "chest.yaml").read_text(encoding="utf-8"), place="chest.yaml")


def read_rules(path: Path) -> Rules:
    """Rules of one's own, for another region of the body or another language.

    Raises:
        ConfigError: The file is not there, or lacks a key or has one too many; the message names it.
    """
    try:
        return _rules(path.read_text(encoding="utf-8"), place=str(path))
    except OSError as error:
        raise ConfigError(f"cannot read finding rules {path}: {error.strerror or error}; check the path") from error


def _rules(text: str, *, place: str) -> Rules:
    try:
        content = yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise ConfigError(f"finding rules {place}: {' '.join(str(error).split())}") from error
    if not isinstance(content, dict) or set(content) != {"findings", *_CUES}:
        raise ConfigError(f"finding rules {place}: expected the keys findings, {', '.join(_CUES)}")
    findings = tuple(_finding(entry, place=place) for entry in content["findings"])
    return Rules(findings=findings, **{cue: phrases(content[cue]) for cue in _CUES})


def _finding(entry: Mapping[str, object], *, place: str) -> Finding:
    if unknown := [key for key in entry if key not in _KEYS]:
        raise ConfigError(f"finding rules {place}: unknown key {unknown[0]!r}{did_you_mean(unknown[0], _KEYS)}")
    if not entry.get("name") or not entry.get("mentions"):
        raise ConfigError(f"finding rules {place}: a finding lacks its name or its mentions: {dict(entry)!r}")
    return Finding(
        str(entry["name"]),
        str(entry.get("observation") or ""),
        phrases(_listed(entry["mentions"])),
        phrases(_listed(entry.get("except_in") or [])),
    )


def _listed(value: object) -> list[str]:
    return [str(each) for each in value] if isinstance(value, list) else [str(value)]


def phrases(listed: Sequence[str]) -> re.Pattern[str]:
    """One pattern that matches any of the phrases, the longest first; nothing where there are none."""
    if not listed:
        return re.compile(r"(?!)")
    ordered = sorted(listed, key=len, reverse=True)
    return re.compile("|".join(f"(?:{_phrase(each)})" for each in ordered), re.IGNORECASE)


def _phrase(phrase: str) -> str:
    pattern = ""
    for word in phrase.split():
        if word == "..":
            pattern += _GAP
            continue
        either = "|".join(re.escape(each).replace(r"\*", r"[\w]*") for each in word.split("|"))
        pattern += (_BETWEEN if pattern else "") + f"(?:{either})"
    return (r"(?<!\w)" if phrase[0].isalnum() else "") + pattern + r"(?!\w)"
