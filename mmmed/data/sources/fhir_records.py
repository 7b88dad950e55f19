"""Health records as FHIR bundles, one of a patient, to learn a language from (HL7 FHIR R4)."""

import json
from collections.abc import Iterator
from functools import partial
from pathlib import Path

from mmmed.data.entries import Entry
from mmmed.data.health_record import read_bundle
from mmmed.data.official import MOSTLY_TRAINING
from mmmed.data.passages import passages
from mmmed.data.splits import Fractions, assign
from mmmed.data.tabular import no_layout, present, quarantine
from mmmed.errors import ConfigError, RecordError
from mmmed.records import Example, Quarantined, Turn


class FhirRecords:
    """Reads a folder of FHIR R4 bundles (`.json`), each the whole record of one patient, as documents.

    A record is told day by day in plain words, with the age of the patient in place of dates: visits, diagnoses,
    observations with their units, reports, imaging, procedures, medication, vaccines. Names, addresses, numbers and
    generated narratives are not read. Files are called by their number, since their names may be those of patients.

    Args:
        root: The folder; it is read with all that is below it, in the order of the names.
        longest: Most characters of an example; longer records are cut between days. None cuts none.
        seed: Changes which patients validate.
        fractions: Share of the patients in each split.
    """

    name = "fhir_records"

    def __init__(
        self,
        root: str,
        *,
        longest: int | None = None,
        seed: int = 0,
        fractions: Fractions = MOSTLY_TRAINING,
    ) -> None:
        if longest is not None and longest < 1:
            raise ConfigError(f"fhir_records: longest is {longest}; expected a number of characters, such as 4000")
        self.root = Path(root)
        self.longest = longest
        self.seed = seed
        self.fractions = fractions

    def prepare(self) -> None:
        """Nothing to make."""

    def records(self) -> Iterator[Example | Quarantined]:
        """Yield the records, patient by patient.

        Raises:
            DataError: There is no such file.
        """
        files = sorted(path for path in self.root.rglob("*.json") if path.is_file())
        if not files:
            raise no_layout(self.name, root=self.root, expected="a .json file with a FHIR R4 bundle for each patient")
        seen: set[str] = set()
        bundles = (_bundle(path, number) for number, path in enumerate(files, start=1))
        yield from quarantine(self.name, bundles, partial(self._examples, seen=seen))

    def _examples(self, bundle: Entry, *, seen: set[str]) -> Iterator[Example]:
        record = read_bundle(bundle)
        if record.patient in seen:
            raise RecordError("its patient has a bundle before; put all of one patient into one bundle")
        seen.add(record.patient)
        for place, passage in enumerate(passages(record.text, longest=self.longest or len(record.text))):
            yield Example(
                id=f"{bundle.place}#{place}",
                patient=record.patient,
                turns=(Turn("document", passage),),
                topic="document",
                split=assign(record.patient, seed=self.seed, fractions=self.fractions),
                source=self.name,
                attributes=present({"sex": record.sex, "race": record.race, "age": record.age}),
            )


def _bundle(path: Path, number: int) -> Entry:
    place = f"bundle {number}"
    try:
        bundle = json.loads(path.read_text(encoding="utf-8-sig"))
    except (OSError, ValueError, RecursionError) as error:
        # What json and OSError say may quote the file's name.
        return Entry(place, fault=f"cannot be read as JSON in UTF-8 ({type(error).__name__})")
    if not isinstance(bundle, dict):
        return Entry(place, fault=f"expected a bundle, not {type(bundle).__name__}")
    return Entry(place, bundle)
