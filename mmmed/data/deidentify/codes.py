"""Codes in the place of what names a record: patient, study, record and the path of a picture.

Folders and files of a hospital are often called after the patient, so paths do not pass the gate either, and where
a message quotes one it is taken out.
"""

import dataclasses
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from PIL import Image

from mmmed.data.deidentify.surrogates import Surrogates
from mmmed.data.source import Source
from mmmed.errors import ImageError
from mmmed.records import Example, LazyImage, Quarantined

HIDDEN = "\N{HORIZONTAL ELLIPSIS}"

# From the first slash to a file's ending, blanks included, or else up to the next blank.
_PATH = re.compile(r"[^\s'\"(]*[/\\][^\n:;()]*?\.[A-Za-z0-9]{1,5}(?=[\s:;,)'\"\[]|$)|[^\s'\"(]*[/\\][^\s'\";)]*")
_SHORTEST_PART = 3


def without_names(message: str, names: Iterable[str] = ()) -> str:
    """Take paths, and names that are known, out of a message."""
    parts = {part for name in names for part in (name, *re.split(r"[/\\]", name)) if len(part) >= _SHORTEST_PART}
    hidden = _PATH.sub(HIDDEN, message)
    for part in sorted(parts, key=len, reverse=True):
        hidden = hidden.replace(part, HIDDEN)
    return hidden


@dataclass(frozen=True)
class CodedImage:
    """A picture under a code, whose messages name no file.

    Args:
        image: The picture.
        name: The code.
    """

    image: LazyImage = field(repr=False)
    name: str

    @property
    def path(self) -> Path | None:
        """The picture's file, where it has one: by its size and time thumbnails are known again."""
        path: Any = getattr(self.image, "path", None)
        return path if isinstance(path, Path) else None

    def open(self) -> Image.Image:
        """Decode it. Raises `ImageError`."""
        try:
            return self.image.open()
        except ImageError as error:
            # Without its cause, which names the file too.
            raise ImageError(without_names(str(error), [self.image.name])) from None


class Codes:
    """Makes the codes of one source.

    Args:
        key: The secret.
        source: Name of the source; two sources may call two patients alike.
    """

    def __init__(self, key: bytes, *, source: str) -> None:
        self._codes = Surrogates(key, patient=source)
        # A picture that stands in two sources keeps one name, by which splits are compared.
        self._pictures = Surrogates(key, patient="pictures")

    def record(self, identifier: str) -> str:
        """Code of a record."""
        return self._codes.token("record", identifier)

    def patient(self, identifier: str) -> str:
        """Code of a patient."""
        return self._codes.token("patient", identifier)

    def study(self, identifier: str) -> str:
        """Code of a study, where there is one."""
        return self._codes.token("study", identifier) if identifier else ""

    def image(self, image: LazyImage) -> CodedImage:
        """A picture under its code."""
        return CodedImage(image, f"picture {self._pictures.token('picture', image.name)}")


class Coded:
    """A source whose records and pictures bear codes, while texts and pixels stay as they are.

    For comparisons, which need what is there and report only which records it stands in.

    Args:
        source: What is read.
        key: The secret of the codes.
    """

    def __init__(self, source: Source, key: bytes) -> None:
        self.name = source.name
        self.source = source
        self._key = key

    def prepare(self) -> None:
        """Prepare the source."""
        self.source.prepare()

    def records(self) -> Iterator[Example | Quarantined]:
        """Yield the records of the source under codes."""
        codes = Codes(self._key, source=self.name)
        for number, record in enumerate(self.source.records(), start=1):
            if isinstance(record, Quarantined):
                yield coded_quarantined(record, number=number)
            else:
                yield dataclasses.replace(
                    record,
                    id=codes.record(record.id),
                    patient=codes.patient(record.patient),
                    study=codes.study(record.study),
                    images=tuple(map(codes.image, record.images)),
                )


def coded_quarantined(record: Quarantined, *, number: int) -> Quarantined:
    """A record that was set aside, by its place in the source; whoever has the source can count up to it."""
    return dataclasses.replace(record, record=f"record {number}", reason=without_names(record.reason, [record.record]))
