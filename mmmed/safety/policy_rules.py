"""The rules of a policy, and how they are read from YAML: strictly, so that nothing is judged by half a policy."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from importlib.resources import files
from pathlib import Path
from typing import Any

import regex
import yaml

from mmmed.errors import ConfigError, did_you_mean

PATIENCE = 0.2
"""Seconds that one pattern may look at one text."""

_KEYS = ("name", "version", "longest", "unread", "failed", "rules")
_RULE_KEYS = ("name", "judges", "decision", "words", "when")


class Decision(StrEnum):
    """What may happen with a text; the later, the stricter."""

    ALLOW = "allow"
    NEEDS_PERSON = "needs a person"
    REFUSE = "refuse"


@dataclass(frozen=True, slots=True, kw_only=True)
class Rule:
    """One rule: it speaks where each of its groups has a pattern that is found, and no exception is.

    Args:
        name: Short name, which logs and judgements show.
        judges: Whether it is about questions, answers or both.
        decision: What it says, which is never to allow.
        words: What to tell the user.
        groups: Patterns; of each group one has to be found.
        unless: Patterns of which none may be found.
    """

    name: str
    judges: frozenset[str]
    decision: Decision
    words: str
    groups: tuple[tuple[regex.Pattern[str], ...], ...]
    unless: tuple[regex.Pattern[str], ...] = ()

    def speaks(self, readings: Sequence[str]) -> bool:
        """Whether it holds for a text in any of its readings. Raises `TimeoutError`."""
        if _found(self.unless, readings[0]):
            return False
        return any(all(_found(group, text) for group in self.groups) for text in readings)


@dataclass(frozen=True, slots=True, kw_only=True)
class RuleFile:
    """What a policy is made of.

    Args:
        name: Short name.
        version: Raised with every change of the rules.
        longest: Most characters of a text that is read.
        unread: What to tell the user of a text that cannot be read.
        failed: What to tell the user where the policy itself fails.
        rules: The rules, the order of which does not matter.

    Raises:
        ConfigError: There are no rules, two have one name, or something that has to be said is empty.
    """

    name: str
    version: int
    longest: int
    unread: str
    failed: str
    rules: tuple[Rule, ...]

    def __post_init__(self) -> None:
        if not self.rules or not self.unread or not self.failed or self.longest < 1:
            raise ConfigError(f"policy {self.name}: it needs rules, a longest text, and words for unread and failed")
        names = [rule.name for rule in self.rules]
        if twice := [name for name in names if names.count(name) > 1]:
            raise ConfigError(f"policy {self.name}: two rules are called {twice[0]}")


def read_rules(path: str | Path | None) -> RuleFile:
    """Read the rules of a file, or those that come with the package.

    Raises:
        ConfigError: The file is not there, or something in it cannot be used.
    """
    place = str(path or "policy.yaml")
    source = Path(path) if path is not None else files(__package__) / "policy.yaml"
    try:
        content = yaml.safe_load(source.read_text(encoding="utf-8"))
    except OSError as error:
        raise ConfigError(f"policy {place}: {error.strerror}; name the YAML file of the rules") from error
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise ConfigError(f"policy {place}: {' '.join(str(error).split())}") from error
    values = _mapping(content, place, needed=_KEYS, allowed=("lists",))
    lists = values.get("lists") or {}
    if not isinstance(lists, dict) or not isinstance(values["rules"], list):
        raise ConfigError(f"policy {place}: expected names of lists in lists, and a list of rules in rules")
    for number in ("version", "longest"):
        if not isinstance(values[number], int):
            raise ConfigError(f"policy {place}: {number} is {values[number]!r}; expected a whole number")
    return RuleFile(
        name=str(values["name"]),
        version=values["version"],
        longest=values["longest"],
        unread=_line(values["unread"]),
        failed=_line(values["failed"]),
        rules=tuple(_rule(rule, lists, place=f"{place}, rule {at}") for at, rule in enumerate(values["rules"], 1)),
    )


def _rule(content: object, lists: Mapping[str, object], *, place: str) -> Rule:
    values = _mapping(content, place, needed=_RULE_KEYS, allowed=("unless",))
    place = f"{place} ({values['name']})"
    judges = values["judges"] if isinstance(values["judges"], list) else [values["judges"]]
    if not judges or set(judges) - {"question", "answer"}:
        raise ConfigError(f"policy {place}: judges is {judges}; expected question, answer or both in a list")
    strict = {one.value: one for one in Decision if one is not Decision.ALLOW}
    decision = str(values["decision"])
    if decision not in strict:
        raise ConfigError(f"policy {place}: unknown decision {decision!r}{did_you_mean(decision, strict)}")
    words = _line(values["words"])
    if not words:
        raise ConfigError(f"policy {place}: words is empty; say what the user is told")
    when = values["when"] if isinstance(values["when"], list) else []
    groups = tuple(tuple(_patterns(group, lists, place=place)) for group in when)
    if not groups or not all(groups):
        raise ConfigError(
            f"policy {place}: when is empty; give groups of patterns, of each of which one has to be found"
        )
    return Rule(
        name=str(values["name"]),
        judges=frozenset(judges),
        decision=strict[decision],
        words=words,
        groups=groups,
        unless=tuple(_patterns(values.get("unless") or [], lists, place=place)),
    )


def _patterns(entries: object, lists: Mapping[str, object], *, place: str) -> Iterator[regex.Pattern[str]]:
    """Compile patterns of whole words; `=name` stands for the list of that name."""
    if not isinstance(entries, list):
        raise ConfigError(f"policy {place}: {entries!r} is no list of patterns")
    for entry in entries:
        if not isinstance(entry, str):
            raise ConfigError(f"policy {place}: {entry!r} is no text; put it in quotes")
        if entry.startswith("="):
            if entry[1:] not in lists:
                raise ConfigError(f"policy {place}: unknown list {entry[1:]!r}{did_you_mean(entry[1:], lists)}")
            yield from _patterns(lists[entry[1:]], {}, place=place)
            continue
        try:
            yield regex.compile(rf"(?<!\w)(?:{entry})(?!\w)")
        except regex.error as error:
            raise ConfigError(f"policy {place}: pattern {entry!r} cannot be used: {error}") from error


def _mapping(content: object, place: str, *, needed: Sequence[str], allowed: Sequence[str]) -> Mapping[str, Any]:
    known = [*needed, *allowed]
    if not isinstance(content, dict):
        raise ConfigError(f"policy {place}: expected the keys {', '.join(known)}")
    for key in content:
        if key not in known:
            raise ConfigError(f"policy {place}: unknown key {key!r}{did_you_mean(str(key), known)}")
    for key in needed:
        if key not in content:
            raise ConfigError(f"policy {place}: {key} is missing")
    return content


def _line(text: object) -> str:
    return " ".join(str(text or "").split())


def _found(patterns: Sequence[regex.Pattern[str]], text: str) -> bool:
    return any(pattern.search(text, timeout=PATIENCE) is not None for pattern in patterns)
