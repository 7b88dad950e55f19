"""Who is trained on and who is tested on: by patient, never by image.

Two films of one patient in two splits let a model recognise the patient instead of the disease.
"""

import hashlib
import math
from collections import defaultdict
from collections.abc import Collection, Iterable, Mapping
from typing import NamedTuple

from mmmed.errors import ConfigError, DataError
from mmmed.records import SPLITS, Example, Split


class Fractions(NamedTuple):
    """Share of the patients in each split; the shares sum to 1."""

    train: float = 0.8
    validation: float = 0.1
    test: float = 0.1


DEFAULT_FRACTIONS = Fractions()


def assign(patient: str, *, seed: int, fractions: Fractions = DEFAULT_FRACTIONS) -> Split:
    """Place a patient by a hash of the identifier: the same patient always lands in the same split.

    The place depends on nothing else, so adding, removing or reordering records moves nobody.

    Raises:
        ConfigError: The fractions are negative or do not sum to 1.
    """
    _check(fractions)
    place = uniform(f"{seed}:{patient}")
    used = [(split, share) for split, share in zip(SPLITS, fractions, strict=True) if share > 0]
    for split, share in used[:-1]:
        place -= share
        if place < 0:
            return split
    # The last split takes what rounding leaves over, so that an empty split stays empty.
    return used[-1][0]


def stratified(
    tags: Mapping[str, Collection[str]], *, seed: int, fractions: Fractions = DEFAULT_FRACTIONS
) -> dict[str, Split]:
    """Place all patients at once, so that every label and group has its share in every split.

    Tags are placed from the rarest to the most common, each patient where its tag is most wanting; equals are settled
    by a hash. Unlike `assign`, a patient's place depends on who else is there: write the result down.

    Args:
        tags: Labels and groups of each patient, such as ``{"p1": {"sex=F", "finding=Mass"}}``.
        seed: Changes who goes where.
        fractions: Share of the patients in each split.

    Raises:
        ConfigError: The fractions are negative or do not sum to 1.

    Source: iterative stratification, Sechidis et al., On the stratification of multi-label data, ECML PKDD 2011,
        section 3.
    """
    _check(fractions)
    used = {split: share for split, share in zip(SPLITS, fractions, strict=True) if share > 0}
    holders: dict[str, set[str]] = defaultdict(set)
    for patient, mine in tags.items():
        for tag in mine:
            holders[tag].add(patient)
    wanting = {tag: {split: share * len(those) for split, share in used.items()} for tag, those in holders.items()}
    room = {split: share * len(tags) for split, share in used.items()}
    places: dict[str, Split] = {}

    def place(patient: str, *, of: Mapping[Split, float]) -> None:
        chosen = max(used, key=lambda split: (of[split], room[split], uniform(f"{seed}:{patient}:{split}")))
        places[patient] = chosen
        room[chosen] -= 1
        for tag in tags[patient]:
            wanting[tag][chosen] -= 1
            holders[tag].discard(patient)

    while remaining := {tag: len(those) for tag, those in holders.items() if those}:
        rarest = min(remaining, key=lambda tag: (remaining[tag], tag))
        for patient in _shuffled(holders[rarest], seed=seed):
            place(patient, of=wanting[rarest])
    for patient in _shuffled((one for one in tags if one not in places), seed=seed):
        place(patient, of=room)
    return places


def _shuffled(patients: Iterable[str], *, seed: int) -> list[str]:
    return sorted(patients, key=lambda patient: (uniform(f"{seed}:{patient}"), patient))


def _check(fractions: Fractions) -> None:
    if min(fractions) < 0 or not math.isclose(sum(fractions), 1.0, abs_tol=1e-6):
        raise ConfigError(f"split fractions {tuple(fractions)} must be 0 or more and sum to 1; such as (0.8, 0.1, 0.1)")


def uniform(text: str) -> float:
    """A number in [0, 1) that depends on the text alone: chance that any machine and any run repeats."""
    digest = hashlib.sha256(text.encode("utf-8")).digest()
    return (int.from_bytes(digest[:8], "big") >> 11) / 2**53


def check_disjoint(examples: Iterable[Example], *, quoted: bool = True) -> None:
    """Refuse splits that share a patient, a study or an image.

    Args:
        examples: Of all splits.
        quoted: Name the first few; not before the privacy gate, where a name may be a patient's.

    Raises:
        DataError: Something stands in two splits.
    """
    places: dict[str, dict[tuple[str, str], set[Split]]] = {kind: defaultdict(set) for kind in _KINDS}
    for example in examples:
        places["patient"][example.source, example.patient].add(example.split)
        if example.study:
            places["study"][example.source, example.study].add(example.split)
        for image in example.images:
            # Image names are unique within a run, so two sources that read one file are found too.
            places["image"]["", image.name].add(example.split)
    for kind in _KINDS:
        shared = sorted(key for key, splits in places[kind].items() if len(splits) > 1)
        if shared:
            first = ", ".join(":".join(filter(None, key)) for key in shared[:_NAMED])
            more = f" and {len(shared) - _NAMED} more" if len(shared) > _NAMED else ""
            which = f": {first}{more}" if quoted else f" (compare the columns {kind} and split)"
            raise DataError(f"{len(shared)} {kind}(s) stand in two splits{which}; split by patient")


_KINDS = ("patient", "study", "image")
_NAMED = 3
