"""An answer on its way to a reader, judged before it is shown: no word is given out that has not been judged with those
that follow it."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator
from dataclasses import dataclass

from mmmed.inference.generation import Decoding
from mmmed.records import Example
from mmmed.safety.policy import Judgement, Policy
from mmmed.safety.policy_rules import Decision
from mmmed.serving.answering.served import Served
from mmmed.serving.answering.ticket import Ended, LoopInbox, Piece, Ticket

LOOK_AHEAD = 8
"""Words that an answer is judged ahead of what is shown; most of what may not be said is said in fewer."""
_WORD = re.compile(r"\S+\s*")
ALLOWED = Judgement(decision=Decision.ALLOW)


@dataclass(frozen=True, slots=True)
class Shown:
    """More of the answer, which may stand."""

    text: str


@dataclass(frozen=True, slots=True)
class Finished:
    """The answer is whole, or was stopped by the policy; then nothing of it may stand."""

    ended: Ended | None
    judgement: Judgement


class Held:
    """Text that is held back until it has been judged.

    Args:
        policy: The rules.
        question: What was asked.
    """

    def __init__(self, policy: Policy, question: str) -> None:
        self._policy, self._question = policy, question
        self._text, self._given = "", 0
        self.judgement = ALLOWED

    def more(self, piece: str) -> str:
        """What may be shown after a further piece."""
        self._text += piece
        words = list(_WORD.finditer(self._text, self._given))
        # Judged by the handful, since each time all of it is read.
        if not self.judgement.allowed or len(words) < LOOK_AHEAD + 4:
            return ""
        self._judge()
        return self._give(words[-LOOK_AHEAD].start())

    def rest(self) -> str:
        """What may be shown at the end."""
        if self.judgement.allowed:
            self._judge()
        return self._give(len(self._text))

    def _judge(self) -> None:
        self.judgement = self._policy.judge_answer(self._question, self._text)

    def _give(self, end: int) -> str:
        if not self.judgement.allowed:
            return ""
        given, self._given = self._text[self._given : end], end
        return given


async def judged_answer(
    served: Served, example: Example, decoding: Decoding, *, asked: str
) -> AsyncIterator[Shown | Finished]:
    """Answer a question that may be asked. Whoever stops reading gives the answer up.

    Args:
        served: The model and the policy.
        example: The question as the model reads it.
        decoding: How the answer is written.
        asked: The visitor's own words, which are judged.

    Raises:
        Busy: Too many wait.
    """
    judgement = served.policy.judge_question(asked)
    if not judgement.allowed:
        yield Finished(None, judgement)
        return
    inbox = LoopInbox()
    ticket = Ticket(example=example, decoding=decoding, inbox=inbox)
    served.engine.submit(ticket)
    held = Held(served.policy, asked)
    try:
        async for event in inbox.events():
            if isinstance(event, Piece):
                if text := held.more(event.text):
                    yield Shown(text)
                if not held.judgement.allowed:
                    yield Finished(None, held.judgement)
                    return
            else:
                if text := held.rest():
                    yield Shown(text)
                yield Finished(event if held.judgement.allowed else None, held.judgement)
    finally:
        ticket.cancel()
