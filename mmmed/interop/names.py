"""State-dict adapters: which tensor of one layout becomes which of another, and proof that none is forgotten.

Pure: names and shapes come in, a plan goes out; no tensor is read here.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from mmmed.errors import CheckpointError

Shape = tuple[int, ...]
Shapes = Mapping[str, Shape]
Change = Callable[[Tensor], Tensor]

# Computed from the configuration whenever a model is built; older files hold them beside the weights.
RECOMPUTED = re.compile(r"(.*\.)?(rotary_emb\.inv_freq|rotary_embd\.inv_freq|embeddings\.position_ids)")


class Rule(NamedTuple):
    """One line of a map: a pattern at the start of a source name, and what stands there in the target's."""

    pattern: str
    target: str


@dataclass(frozen=True, slots=True)
class Move:
    """How one target tensor comes about.

    Args:
        source: Name of the tensor that is read; None for a constant.
        change: What is done to it, such as taking a third of joined queries, keys and values; None takes it as it is.
        constant: Makes the tensor where there is no source.
    """

    source: str | None
    change: Change | None = None
    constant: Callable[[], Tensor] | None = None


Plan = Mapping[str, Move]


def rename(names: Iterable[str], rules: Sequence[Rule]) -> dict[str, str]:
    """Map each name to its target by the first rule that fits; names that no rule fits are left out."""
    renamed = {}
    for name in names:
        for rule in rules:
            if re.match(rule.pattern, name):
                renamed[name] = re.sub(rule.pattern, rule.target, name, count=1)
                break
    return renamed


def moves(renamed: Mapping[str, str]) -> dict[str, Move]:
    """Turn source → target names into a plan of plain moves.

    Raises:
        CheckpointError: Two sources would become one target.
    """
    plan: dict[str, Move] = {}
    for source, target in renamed.items():
        if target in plan:
            raise CheckpointError(f"{source!r} and {plan[target].source!r} would both become {target!r}")
        plan[target] = Move(source)
    return plan


def check_total(plan: Plan, *, sources: Shapes, targets: Shapes, what: str, set_aside: Iterable[str] = ()) -> None:
    """Prove that every source is used and every target filled, each in its shape.

    Args:
        plan: How targets come about.
        sources: Names and shapes of the file's tensors.
        targets: Names and shapes that the model needs, all of them.
        what: The file, for the message.
        set_aside: Sources that are kept elsewhere on purpose.

    Raises:
        CheckpointError: A source is unused, a target unfilled, or a shape wrong; the message lists all three.
    """
    used = {move.source for move in plan.values()} | set(set_aside)
    unused = [name for name in sources if name not in used and not RECOMPUTED.fullmatch(name)]
    unfilled = [name for name in targets if name not in plan]
    unknown = [str(move.source or name) for name, move in plan.items() if name not in targets]
    absent = [str(move.source) for move in plan.values() if move.source is not None and move.source not in sources]
    misshapen = [
        f"{name} {given} for {targets[name]}"
        for name, move in plan.items()
        if name in targets and move.source not in absent and (given := _shape(move, sources)) != targets[name]
    ]
    complaints = {
        "unused": sorted({*unused, *unknown}),
        "unfilled": sorted({*unfilled, *absent}),
        "of another shape": misshapen,
    }
    if any(complaints.values()):
        told = "; ".join(few(names, kind) for kind, names in complaints.items() if names)
        raise CheckpointError(f"{what} does not fit: {told}; nothing was written, check that it is of this layout")


def few(names: Sequence[str], kind: str) -> str:
    """Count names and show the first three: ``"5 unused (a, b, c and 2 more)"``."""
    more = f" and {len(names) - 3} more" if len(names) > 3 else ""
    return f"{len(names)} {kind} ({', '.join(names[:3])}{more})"


def carry_out(move: Move, read: Callable[[str], Tensor]) -> Tensor:
    """Make one target tensor."""
    if move.source is None:
        assert move.constant is not None
        return move.constant()
    tensor = read(move.source)
    return tensor if move.change is None else move.change(tensor)


def _shape(move: Move, sources: Shapes) -> Shape:
    if move.source is None:
        assert move.constant is not None
        return tuple(move.constant().shape)
    if move.change is None:
        return sources[move.source]
    try:
        return tuple(move.change(torch.empty(sources[move.source], device="meta")).shape)
    except (RuntimeError, IndexError):  # the change does not apply to such a shape
        return sources[move.source]
