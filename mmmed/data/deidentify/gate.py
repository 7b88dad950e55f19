"""The gate between a source and everything else: what passes holds no identifier that could be found.

It stands before every source whose card does not say that identifiers were removed. It fails closed: where a
recogniser cannot be loaded or fails on one record, the run stops.
"""

import re
from collections.abc import Iterator, Mapping
from dataclasses import replace

from mmmed.data.deidentify import secret
from mmmed.data.deidentify.audit import Audit
from mmmed.data.deidentify.burned_in import MaskedImage
from mmmed.data.deidentify.codes import Codes, coded_quarantined
from mmmed.data.deidentify.privacy import Privacy
from mmmed.data.deidentify.recognisers import engine
from mmmed.data.deidentify.surrogates import Surrogates
from mmmed.data.deidentify.text import clean
from mmmed.data.source import Source
from mmmed.records import Example, LazyImage, Quarantined, Turn

_OLDEST = 90
# A letter and seven digits have the form of a patient's number; in this attribute they are concepts of the UMLS.
_CONCEPTS = re.compile(r"C\d{7}(?:;C\d{7})*")


class Gate:
    """A source behind the gate; a source itself.

    Args:
        source: What is read.
        privacy: How it is made safe.
        audit: Where redactions are noted.
    """

    def __init__(self, source: Source, privacy: Privacy, audit: Audit) -> None:
        self.name = source.name
        self.source = source
        self.privacy = privacy
        self.audit = audit

    def prepare(self) -> None:
        """Prepare the source, and the recognisers, so that what is missing shows before anything is read."""
        self.source.prepare()
        engine(self.privacy.text)

    def records(self) -> Iterator[Example | Quarantined]:
        """Yield the records of the source, made safe.

        Raises:
            PrivacyError: A recogniser failed.
        """
        key = secret.key(self.privacy.key)
        for number, record in enumerate(self.source.records(), start=1):
            if isinstance(record, Quarantined):
                yield self._quarantined(record, key, number=number)
            else:
                yield self._example(record, key)

    def _example(self, example: Example, key: bytes) -> Example:
        surrogates = Surrogates(key, patient=f"{example.source}\0{example.patient}")
        codes = Codes(key, source=self.name)
        record = codes.record(example.id)
        texts = _texts(example)
        known = [value for value in (example.patient, example.study, example.id) if value]
        cleaned = clean(list(texts.values()), surrogates, mode=self.privacy.text, known=known)
        for place, one in zip(texts, cleaned, strict=True):
            self.audit.text(one.findings, source=example.source, record=record, place=place)
        safe = {place: one.text for place, one in zip(texts, cleaned, strict=True)}
        for place, value in (("patient", example.patient), ("study", example.study), ("id", example.id)):
            if value:
                self.audit.value(source=example.source, record=record, place=place, kind="identifier", rule="code")
        return replace(
            example,
            id=record,
            patient=codes.patient(example.patient),
            study=codes.study(example.study),
            turns=tuple(_turn(turn, number, safe) for number, turn in enumerate(example.turns)),
            options=tuple(safe[f"option {number}"] for number in range(len(example.options))),
            attributes=self._attributes(example, safe, record),
            images=tuple(self._image(codes.image(image)) for image in example.images),
        )

    def _attributes(self, example: Example, safe: Mapping[str, str], record: str) -> dict[str, str | float]:
        attributes: dict[str, str | float] = {}
        for name, value in example.attributes.items():
            if isinstance(value, str):
                attributes[name] = safe.get(f"attribute {name}", value)
            elif name == "age" and value >= _OLDEST:
                attributes[name] = float(_OLDEST)
                self.audit.value(
                    source=example.source, record=record, place="attribute age", kind="age", rule="age over 89"
                )
            else:
                attributes[name] = value
        return attributes

    def _image(self, image: LazyImage) -> LazyImage:
        return MaskedImage(image, self.audit) if self.privacy.images == "mask" else image

    def _quarantined(self, record: Quarantined, key: bytes, *, number: int) -> Quarantined:
        """A reason may quote a cell."""
        coded = coded_quarantined(record, number=number)
        (cleaned,) = clean([coded.reason], Surrogates(key, patient=record.source), mode=self.privacy.text)
        return replace(coded, reason=cleaned.text)


def _texts(example: Example) -> dict[str, str]:
    """Every text of an example by its place in it."""
    texts: dict[str, str] = {}
    for number, turn in enumerate(example.turns):
        texts[f"turn {number}"] = turn.text
        texts |= {f"turn {number} blank {place}": blank for place, blank in enumerate(turn.blanks)}
        if turn.rejected:
            texts[f"turn {number} rejected"] = turn.rejected
    texts |= {f"option {number}": option for number, option in enumerate(example.options)}
    for name, value in example.attributes.items():
        if isinstance(value, str) and not (name == "concepts" and _CONCEPTS.fullmatch(value)):
            texts[f"attribute {name}"] = value
    return texts


def _turn(turn: Turn, number: int, safe: Mapping[str, str]) -> Turn:
    return replace(
        turn,
        text=safe[f"turn {number}"],
        blanks=tuple(safe[f"turn {number} blank {place}"] for place in range(len(turn.blanks))),
        rejected=safe[f"turn {number} rejected"] if turn.rejected else "",
    )
