"""Splits as a publisher drew them, kept where they do not leak."""

from typing import NamedTuple

from mmmed.data.splits import Fractions
from mmmed.errors import RecordError
from mmmed.records import Split

MOSTLY_TRAINING = Fractions(0.98, 0.02, 0.0)
"""Where nothing is tested on: large sets that are learned from only."""


class OfficialFile(NamedTuple):
    """One set: how its file is named in the release and in a sample, and its split as published and as read here."""

    release: str
    sample: str
    official: str
    split: Split


class HeldOut:
    """Keeps published test sets whole and comparable: what stands in one is refused in the split learned from.

    Splits are to be given in the order test, validation, train; the first that has something keeps it.

    Args:
        what: What must not be shared, as the reason says it: "article", "question".
    """

    def __init__(self, what: str) -> None:
        self.what = what
        self._seen: dict[str, tuple[Split, str]] = {}

    def admit(self, content: str, *, split: Split, name: str) -> str:
        """Note the content of a record and give the name of the first record of the split that had the same.

        Raises:
            RecordError: The same content stands in a split that was given before.
        """
        first, name_of_first = self._seen.setdefault(content, (split, name))
        if first != split:
            raise RecordError(f"its {self.what} stands in the official {first} split as well ({name_of_first})")
        return name_of_first
