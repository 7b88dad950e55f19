"""What was signed, written into the log of studies: a way out for results, beside archive and record."""

from collections.abc import Mapping
from datetime import datetime
from pathlib import Path

from pydicom import Dataset

from mmmed.errors import DataError, OutputError, RecordError
from mmmed.serving.desk.outbox import FINAL
from mmmed.serving.hospital.result import Result
from mmmed.serving.monitoring.observe import findings_written
from mmmed.serving.monitoring.record import Signed, append

_OLDEST = 90


class SignedLog:
    """Writes a line for each signed report of a study that is in the log; of two of one study the last one holds.

    Args:
        path: The log that `mmmed monitor` reads.
    """

    def __init__(self, path: Path) -> None:
        self._path = path

    def send(self, result: Result) -> None:
        """Write a signed report down, in findings. Raises `DataError` where that cannot be done for now."""
        if result.kind != FINAL or not result.facts.study:
            return
        try:
            append(self._path, signed_of(result))
        except (OutputError, RecordError) as error:
            raise DataError(f"the signature is not in the log of studies: {type(error).__name__}") from None


def signed_of(result: Result) -> Signed:
    """The line of a signed report: what it says of findings, and to which groups the patient belongs."""
    return Signed(
        study=result.facts.study,
        time=result.at,
        findings=findings_written(result.facts.question, result.text),
        groups=groups_of(result.headers[-1] if result.headers else Dataset(), result.facts.attributes),
    )


def groups_of(header: Dataset, attributes: Mapping[str, str | float]) -> dict[str, str]:
    """Sex, and age in bands of ten years, as the draft or else its newest DICOM object has them."""
    sex = str(attributes.get("sex") or header.get("PatientSex") or "")
    age = attributes.get("age") or _years(header)
    groups = {"sex": sex} if sex in {"F", "M", "O"} else {}
    if isinstance(age, int | float) and age >= 0:
        first = int(age) // 10 * 10
        groups["age"] = f"{first}-{first + 9}" if first < _OLDEST else f"{_OLDEST}+"
    return groups


def _years(header: Dataset) -> int | None:
    """Between the dates of birth and of the study; none where either is missing or is no date."""
    try:
        born, seen = (
            datetime.strptime(str(header.get(name) or ""), "%Y%m%d") for name in ("PatientBirthDate", "StudyDate")
        )
    except ValueError:
        return None
    return seen.year - born.year - ((seen.month, seen.day) < (born.month, born.day))
