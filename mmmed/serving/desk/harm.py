"""How bad it is if a draft is wrong, by a harm matrix: what the queue multiplies uncertainty by."""

import re
from collections.abc import Callable, Iterator

from mmmed.processing.findings.answered import findings_answered, yes_or_no
from mmmed.processing.findings.labeller import NO_FINDING, Status, chest_labeller
from mmmed.safety.harm import OTHER, HarmMatrix

Harm = Callable[[str, str], float]
"""How bad it is if a text is wrong, of its question and itself."""

_SAID = {Status.STATED: "yes", Status.DENIED: "no"}


def harm_by(matrix: HarmMatrix) -> Harm:
    """The dearest error that a draft may be.

    A draft that states a finding may be a false alarm, one that denies it a miss, one that leaves open what it was
    asked about a delay; each costs what the matrix says. Of what a draft says, the dearest counts. A draft of which the
    matrix knows nothing comes where its dearest error does: what cannot be judged is not left for last.

    Args:
        matrix: What errors cost.
    """
    dearest = max(one.cost for costs in matrix.topics.values() for one in costs)

    def harm(question: str, text: str) -> float:
        known = [cost for topic, said in _said(matrix, question, text) for cost in matrix.costs_if_wrong(topic, said)]
        return max(known, default=dearest)

    return harm


def _said(matrix: HarmMatrix, question: str, text: str) -> Iterator[tuple[str, str]]:
    """What a draft says of the topics that it speaks of or was asked about."""
    labeller = chest_labeller()
    asked = {mention.finding for mention in labeller.mentions(question)}
    answered = findings_answered(question, text)
    for finding, status in answered.items():
        topic = _topic(matrix, finding)
        if topic and (status or finding in asked):
            yield topic, _SAID.get(status, OTHER)
    word = yes_or_no(text)
    for topic in matrix.topics:
        # A matrix may have topics that the labeller does not know, such as those of skin.
        if topic not in answered and re.search(rf"\b{re.escape(topic)}\b", question, re.IGNORECASE):
            yield topic, OTHER if word is None else "yes" if word else "no"
    may_be_normal = not asked and any(answered.values()) and NO_FINDING.lower() in matrix.topics
    if may_be_normal and labeller.observations(text)[NO_FINDING] is Status.STATED:
        yield NO_FINDING.lower(), "yes"


def _topic(matrix: HarmMatrix, finding: str) -> str | None:
    """What the matrix calls a finding of the labeller: "device" is of "support devices"."""
    return finding if finding in matrix.topics else next((one for one in matrix.topics if one in finding), None)
