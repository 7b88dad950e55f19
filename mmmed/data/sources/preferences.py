"""A user's own pairs of a better and a worse answer, to learn preferences from."""

from collections.abc import Iterator
from pathlib import Path

from mmmed.data.entries import Entry, plain, read_json_lines
from mmmed.data.official import MOSTLY_TRAINING
from mmmed.data.splits import Fractions, assign, check_disjoint
from mmmed.data.tabular import image_in, quarantine
from mmmed.errors import DataError, RecordError, did_you_mean
from mmmed.records import IMAGE_PLACEHOLDER, SPLITS, Example, Quarantined, Split, Turn

NEEDED = ("question", "chosen", "rejected")
KNOWN = (*NEEDED, "image", "patient", "split", "topic", "id")


class Preferences:
    """Reads JSON lines, each with a `question`, the better answer `chosen` and the worse one `rejected`.

    A line may name an `image`, put before the question, and whose it is (`patient`; a line without one counts for
    itself, or for its image). `split` places it, `topic` groups results, `id` identifies; other fields are refused.

    Args:
        path: The file (.jsonl, also .gz).
        images: Folder the images are relative to; None is the file's own.
        seed: Changes the splits, where lines have no `split`.
        fractions: Share of the patients in each split, where lines have no `split`.
    """

    name = "preferences"

    def __init__(
        self, path: str, *, images: str | None = None, seed: int = 0, fractions: Fractions = MOSTLY_TRAINING
    ) -> None:
        self.path = Path(path)
        self.images = Path(images) if images is not None else self.path.parent
        self.seed = seed
        self.fractions = fractions

    def prepare(self) -> None:
        """Nothing to make."""

    def records(self) -> Iterator[Example | Quarantined]:
        """Yield the pairs in the order of the file.

        Raises:
            DataError: The file is missing, lacks a field, or its splits share a patient or an image.
        """
        if not self.path.is_file():
            raise DataError(f"there is no file {self.path}; give JSON lines with {', '.join(map(repr, NEEDED))}")
        entries = read_json_lines(self.path, columns=NEEDED)
        records = list(quarantine(self.name, entries, self._examples))
        check_disjoint((record for record in records if isinstance(record, Example)), quoted=False)
        yield from records

    def _examples(self, entry: Entry) -> Iterator[Example]:
        if unknown := [name for name in entry.values if name not in KNOWN]:
            raise RecordError(f"unknown field {unknown[0]!r}{did_you_mean(unknown[0], KNOWN)}")
        question, chosen, rejected = (entry.text(name) for name in NEEDED)
        if plain(chosen) == plain(rejected):
            raise RecordError("'chosen' and 'rejected' are the same answer")
        if IMAGE_PLACEHOLDER in question:
            raise RecordError(f"'question' holds {IMAGE_PLACEHOLDER!r}, which is put before the question; leave it out")
        image = entry.maybe("image")
        patient = entry.maybe("patient") or image or entry.place
        yield Example(
            id=entry.maybe("id") or entry.place,
            patient=patient,
            turns=(
                Turn("user", f"{IMAGE_PLACEHOLDER}\n{question}" if image else question),
                Turn("assistant", chosen, rejected=rejected),
            ),
            images=(image_in(self.images, image),) if image else (),
            topic=entry.maybe("topic") or "preference",
            split=self._split(entry, patient),
            source=self.name,
        )

    def _split(self, entry: Entry, patient: str) -> Split:
        value = entry.maybe("split")
        if not value:
            return assign(patient, seed=self.seed, fractions=self.fractions)
        for split in SPLITS:
            if value == split:
                return split
        raise RecordError(f"'split' is {value!r}{did_you_mean(value, SPLITS)}")
