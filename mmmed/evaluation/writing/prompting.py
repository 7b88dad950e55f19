"""How an order to write is put to a model, and where the document begins in what it says."""

import re
from collections.abc import Sequence
from dataclasses import replace
from typing import Literal, get_args

from mmmed.data.sources.clinical_writing import order_of
from mmmed.data.splits import uniform
from mmmed.data.writing_case import WritingCase
from mmmed.records import Example, Turn

Strategy = Literal["direct", "chain_of_thought"]
STRATEGIES: tuple[Strategy, ...] = get_args(Strategy)

REASON = (
    "First list, below a line 'Facts:', every fact of the notes that the document must contain. Then write a line "
    "'Document:' and below it the document alone."
)
_DOCUMENT = re.compile(r"^[\s#*]*Document[\s*]*:[\s*]*", re.MULTILINE | re.IGNORECASE)


def put(case: WritingCase, others: Sequence[WritingCase], *, shots: int = 0, strategy: Strategy = "direct") -> Example:
    """A case as it is asked.

    Args:
        case: What is to be written.
        others: Where examples are taken from: cases of the same kind, never the case itself, always the same ones.
        shots: How many examples stand before the order, each with its careful document.
        strategy: "chain_of_thought" has the facts listed before the document is written.
    """
    asked = order_of(case)
    same = [one for one in others if one.kind == case.kind and one.id != case.id]
    shown = sorted(same, key=lambda one: uniform(f"{case.id}:{one.id}"))[:shots]
    turns = [turn for one in shown for turn in _turns(one, strategy)]
    return replace(asked, turns=(*turns, *_turns(case, strategy)))


def document_of(said: str, strategy: Strategy = "direct") -> str:
    """The document in what was said: all of it, or what stands below the last line 'Document:' after reasoning.

    Where a reasoned answer has no such line, all of it is the document, and is judged with its reasoning.
    """
    if strategy == "direct":
        return said.strip()
    *_, last = _DOCUMENT.split(said)
    return last.strip()


def _turns(case: WritingCase, strategy: Strategy) -> tuple[Turn, ...]:
    order, document = order_of(case).turns
    if strategy == "direct":
        return order, document
    facts = "\n".join(f"- {line.strip()}" for line in case.given.splitlines())
    return (
        Turn("user", f"{order.text}\n{REASON}"),
        Turn("assistant", f"Facts:\n{facts}\n\nDocument:\n{document.text}"),
    )
