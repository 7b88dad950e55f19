"""What an answer says of findings, read together with its question: "Yes." says nothing by itself."""

import re

from mmmed.processing.findings.labeller import FindingLabeller, Status, chest_labeller

_WORD = re.compile(r"\W*(yes|no)\b", re.IGNORECASE)


def yes_or_no(text: str) -> bool | None:
    """Whether an answer begins with yes or no; None with neither."""
    match = _WORD.match(text)
    return match and match[1].lower() == "yes"


def findings_answered(question: str, text: str, labeller: FindingLabeller | None = None) -> dict[str, Status]:
    """What an answer says of the findings that its question names; of all in the vocabulary where it names none.

    A mere yes or no is of the finding asked about; a mere yes, of one of several, says which of them by no word.
    """
    labeller = labeller or chest_labeller()
    said = labeller.findings(text)
    asked: dict[str, Status] = {}
    for mention in labeller.mentions(question):
        asked[mention.finding] = max(asked.get(mention.finding, Status.UNMENTIONED), mention.status)
    if not asked:
        return said
    word = yes_or_no(text)
    return {name: said[name] or _by_word(word, of, alone=len(asked) == 1) for name, of in asked.items()}


def _by_word(word: bool | None, asked: Status, *, alone: bool) -> Status:
    if word is None:
        return Status.UNMENTIONED
    if word and not alone:
        return Status.UNSURE
    # "Is there no effusion?" names the finding by its absence, and yes denies it.
    return Status.STATED if word == (asked != Status.DENIED) else Status.DENIED
