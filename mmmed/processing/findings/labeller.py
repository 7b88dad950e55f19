"""Which findings a report states, denies, leaves open or does not mention, by rules that can be read.

Scores of generated reports, retrieval and checks for invented findings all ask this one labeller.

Source: the approach is that of NegEx (Chapman et al. 2001, J. Biomed. Inform. 34:301-310: cues and their reach), with
the fourteen observations and the three kinds of mention of CheXpert (Irvin et al. 2019, AAAI); the rules are our own.
"""

import re
from collections.abc import Iterator
from enum import IntEnum
from functools import lru_cache
from typing import NamedTuple

from mmmed.processing.findings.rules import Rules, chest_rules

NO_FINDING = "No Finding"
"""What the lists of findings of chest films call a film without any."""

SUPPORT_DEVICES = "Support Devices"

OBSERVATIONS = (
    NO_FINDING,
    "Enlarged Cardiomediastinum",
    "Cardiomegaly",
    "Lung Opacity",
    "Lung Lesion",
    "Edema",
    "Consolidation",
    "Pneumonia",
    "Atelectasis",
    "Pneumothorax",
    "Pleural Effusion",
    "Pleural Other",
    "Fracture",
    SUPPORT_DEVICES,
)
"""The fourteen observations of CheXpert."""


class Status(IntEnum):
    """What a report says of a finding; where it says several things, the greatest holds."""

    UNMENTIONED = 0
    DENIED = 1
    UNSURE = 2
    STATED = 3


class Mention(NamedTuple):
    """One place where a finding is named."""

    finding: str
    observation: str
    status: Status
    sentence: str
    phrase: str


class FindingLabeller:
    """Labels texts by rules; those for chest films unless others are given."""

    def __init__(self, rules: Rules | None = None) -> None:
        self.rules = rules or chest_rules()

    def mentions(self, text: str) -> list[Mention]:
        """Every place where a finding is named, in the order of the text."""
        return [mention for sentence in sentences(text) for mention in self._mentions(sentence)]

    def findings(self, text: str) -> dict[str, Status]:
        """What a text says of each finding of the vocabulary."""
        said = dict.fromkeys((each.name for each in self.rules.findings), Status.UNMENTIONED)
        for mention in self.mentions(text):
            said[mention.finding] = max(said[mention.finding], mention.status)
        return said

    def observations(self, text: str) -> dict[str, Status]:
        """What a text says of each of the fourteen observations.

        "No Finding" is stated where the text says something and neither states nor leaves open any other observation,
        support devices aside. An empty text says nothing, not even that.
        """
        said = dict.fromkeys(OBSERVATIONS, Status.UNMENTIONED)
        for mention in self.mentions(text):
            if mention.observation:
                said[mention.observation] = max(said[mention.observation], mention.status)
        if text.strip():
            is_clear = all(said[each] < Status.UNSURE for each in OBSERVATIONS if each != SUPPORT_DEVICES)
            said[NO_FINDING] = Status.STATED if is_clear else Status.DENIED
        return said

    def _mentions(self, sentence: str) -> Iterator[Mention]:
        for finding in self.rules.findings:
            excepted = [match.span() for match in finding.except_in.finditer(sentence)]
            for match in finding.mentions.finditer(sentence):
                if not any(start <= match.start() and match.end() <= end for start, end in excepted):
                    status = self._status(sentence, match.start(), match.end())
                    yield Mention(finding.name, finding.observation, status, sentence, match.group())

    def _status(self, sentence: str, start: int, end: int) -> Status:
        rules = self.rules
        before, after = _last_clause(sentence[:start], rules.ends), _first_clause(sentence[end:], rules.ends)
        if rules.unsure_after.search(after):  # "is not excluded" denies nothing, so it is asked first
            return Status.UNSURE
        seen = rules.no_cue.sub("", before)
        # The phrase's own words may hold the cue: "heart is not enlarged".
        if any(rules.denied_before.search(part) for part in (seen, sentence[start:end])):
            return Status.DENIED
        if rules.past_before.search(before) or rules.denied_after.search(after):
            return Status.DENIED
        return Status.UNSURE if rules.unsure_before.search(before) else Status.STATED


@lru_cache(maxsize=1)
def chest_labeller() -> FindingLabeller:
    """The labeller of chest reports, made once."""
    return FindingLabeller()


_SENTENCE_END = re.compile(
    r"(?<=[.!?])(?<!\d\.)(?<!\bDr\.)\s+|(?<=[a-z)]\.)(?=[A-Z])|\s*[\r\n]+\s*|;\s+|(?<=\d\.)\s+(?=[A-Z])"
)


def sentences(text: str) -> list[str]:
    """Cut a report into sentences: at full stops, lines and semicolons, not in numbers; numbers of lists stay apart."""
    return [cut.strip() for cut in _SENTENCE_END.split(text) if cut and any(map(str.isalpha, cut))]


def _last_clause(before: str, ends: re.Pattern[str]) -> str:
    cut = 0
    for match in ends.finditer(before):
        cut = match.end()
    return before[cut:]


def _first_clause(after: str, ends: re.Pattern[str]) -> str:
    match = ends.search(after)
    return after[: match.start()] if match else after
