"""What is looked for, and what was found: spans of a text with the rule behind each."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal, get_args

Kind = Literal[
    "name",
    "date",
    "age",
    "phone",
    "fax",
    "email",
    "url",
    "ip_address",
    "ssn",
    "record_number",
    "accession",
    "health_plan",
    "account",
    "licence",
    "vehicle",
    "device",
    "identifier",
    "address",
    "place",
    "institution",
]
"""The identifiers of 45 CFR 164.514(b)(2)(i) that stand in texts: (A) name; (B) address, place and institution;
(C) date, and age over 89; (D) phone; (E) fax; (F) email; (G) ssn; (H) record_number and accession; (I) health_plan;
(J) account; (K) licence; (L) vehicle; (M) device; (N) url; (O) ip_address; (R) identifier, any other number.
(P) biometric data and (Q) photographs of faces are no text."""

KINDS: tuple[Kind, ...] = get_args(Kind)

# Kinds that are known by their shape; they give a joined finding its kind before those known by a label or a list.
_SHAPES: tuple[Kind, ...] = ("email", "url", "ip_address", "ssn", "fax", "phone", "date")


@dataclass(frozen=True, slots=True, order=True)
class Finding:
    """One identifier in a text.

    Args:
        start: First character.
        end: The character after the last.
        kind: What it is.
        rule: What found it.
    """

    start: int
    end: int
    kind: Kind
    rule: str


def without_overlap(findings: Iterable[Finding]) -> list[Finding]:
    """Join findings that overlap, in order of the text: a joined one covers all and takes the most telling kind."""
    joined: list[Finding] = []
    longest = 0
    for one in sorted(findings, key=lambda each: (each.start, -each.end, each.kind not in _SHAPES, each.rule)):
        length = one.end - one.start
        if not joined or one.start >= joined[-1].end:
            joined.append(one)
            longest = length
            continue
        last = joined[-1]
        # A labelled number says more than "some number", however long.
        says_more = last.kind == "identifier" and one.kind != "identifier"
        named = one if says_more or (length > longest and one.kind != "identifier") else last
        longest = max(longest, length)
        joined[-1] = Finding(last.start, max(last.end, one.end), named.kind, named.rule)
    return joined
