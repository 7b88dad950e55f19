"""DICOM headers without identifiers: every attribute is treated as the table says, and the result is searched."""

import datetime
import re
from collections.abc import Sequence
from typing import Any

from pydicom.dataelem import DataElement
from pydicom.dataset import Dataset
from pydicom.multival import MultiValue
from pydicom.sequence import Sequence as DicomSequence

from mmmed.data.deidentify.audit import Audit
from mmmed.data.deidentify.header_table import METHODS, Action, HeaderPolicy, action_for, method_codes
from mmmed.data.deidentify.privacy import Mode
from mmmed.data.deidentify.surrogates import Surrogates
from mmmed.data.deidentify.text import clean
from mmmed.errors import PrivacyError

_STANDARD_UID = "1.2.840.10008."
_OLDEST = 89
# What names the patient or the visit; none of it may be found anywhere in the result.
_NAMING = (
    "PatientName PatientID PatientAddress PatientTelephoneNumbers AccessionNumber ReferringPhysicianName "
    "InstitutionName"
    " PatientMotherBirthName OtherPatientNames OtherPatientIDs InstitutionAddress PerformingPhysicianName OperatorsName"
    " PhysiciansOfRecord RequestingPhysician PatientBirthName MilitaryRank MedicalRecordLocator "
    "NameOfPhysiciansReadingStudy"
)
_SHORTEST = 4


def clean_header(
    dataset: Dataset, surrogates: Surrogates, *, policy: HeaderPolicy, audit: Audit, record: str, mode: Mode = "rules"
) -> None:
    """Take identifiers out of a dataset, in place.

    Args:
        dataset: The object; its pixels are left alone.
        surrogates: Those of its patient.
        policy: Options of the profile.
        audit: Where actions are noted.
        record: Code of the object, for the audit.
        mode: How descriptors are read, where they are cleaned.

    Raises:
        PrivacyError: A descriptor cannot be read, or an identifier of the original is still there at the end.
    """
    naming = _naming_words(dataset)
    _clean_items(dataset, surrogates, policy=policy, audit=audit, record=record, mode=mode, naming=naming)
    _clean_meta(dataset, surrogates, policy=policy)
    dataset.PatientIdentityRemoved = "YES"
    dataset.LongitudinalTemporalInformationModified = "MODIFIED" if policy.dates == "shift" else "REMOVED"
    declare(dataset, *method_codes(policy))
    _refuse_remains(dataset, naming)


def declare(dataset: Dataset, *codes: str) -> None:
    """Say in the object by which methods it was made safe."""
    said = {item.CodeValue for item in dataset.get("DeidentificationMethodCodeSequence") or []}
    items = list(dataset.get("DeidentificationMethodCodeSequence") or [])
    for code in codes:
        if code not in said:
            item = Dataset()
            item.CodeValue, item.CodingSchemeDesignator, item.CodeMeaning = code, "DCM", METHODS[code]
            items.append(item)
    dataset.DeidentificationMethodCodeSequence = DicomSequence(items)
    dataset.DeidentificationMethod = "mmmed: PS3.15 basic profile, by table"


def new_uid(uid: str, surrogates: Surrogates) -> str:
    """Another UID for one of an instance, study or frame of reference; those of the standard stay."""
    if not uid or uid.startswith(_STANDARD_UID):
        return uid
    return f"2.25.{int(surrogates.token('uid', uid) * 2, 16)}"


def _clean_items(
    dataset: Dataset,
    surrogates: Surrogates,
    *,
    policy: HeaderPolicy,
    audit: Audit,
    record: str,
    mode: Mode,
    naming: Sequence[str],
) -> None:
    for tag in list(dataset.keys()):
        element = dataset[tag]
        action = action_for(element, policy)
        if action == "keep":
            continue
        if action == "items":
            for item in element.value or []:
                _clean_items(item, surrogates, policy=policy, audit=audit, record=record, mode=mode, naming=naming)
            continue
        place = element.keyword if element.keyword and not element.tag.is_private else f"group {element.tag.group:04x}"
        audit.value(source="dicom", record=record, place=place, kind="header", rule=f"PS3.15: {action}")
        if action == "remove":
            del dataset[tag]
        elif action == "clean":
            element.value = _clean_text(str(element.value or ""), surrogates, mode=mode, naming=naming)
        else:
            element.value = _changed(element, action, surrogates, policy)


def _changed(element: DataElement, action: Action, surrogates: Surrogates, policy: HeaderPolicy) -> Any:
    if action == "code":
        return surrogates.token("patient", "")
    if action == "uid":
        values = [element.value] if isinstance(element.value, str) else list(element.value or [])
        made = [new_uid(str(value), surrogates) for value in values]
        return made[0] if len(made) == 1 else made
    if action == "age":
        return _age(str(element.value or ""))
    if action == "date" and policy.dates == "shift":
        values = [element.value] if isinstance(element.value, str) else list(element.value or [])
        moved = [shift_dicom(str(value), surrogates.days) for value in values]
        return moved[0] if len(moved) == 1 else moved
    if action == "time" and policy.dates == "shift":
        return element.value
    return ""


def shift_dicom(written: str, days: int) -> str:
    """Move a DA or DT value by some days; what is no date becomes empty."""
    match = re.fullmatch(r"(\d{4})(\d{2})(\d{2})([\d.]*)(?:[+-]\d{4})?", written.strip())
    if match is None:
        return ""
    try:
        moved = datetime.date(int(match[1]), int(match[2]), int(match[3])) + datetime.timedelta(days=days)
    except (ValueError, OverflowError):
        return ""
    return f"{moved:%Y%m%d}{match[4]}"


def _age(written: str) -> str:
    match = re.fullmatch(r"\s*(\d{1,3})([DWMY]?)\s*", written)
    if match is None:
        return ""
    return "090Y" if match[2] in ("Y", "") and int(match[1]) > _OLDEST else written.strip()


def _clean_text(text: str, surrogates: Surrogates, *, mode: Mode, naming: Sequence[str]) -> str:
    (cleaned,) = clean([text], surrogates, mode=mode, known=naming)
    for word in naming:
        cleaned = cleaned._replace(text=re.sub(rf"(?i)(?<!\w){re.escape(word)}(?!\w)", "", cleaned.text))
    return " ".join(cleaned.text.split())


def _clean_meta(dataset: Dataset, surrogates: Surrogates, *, policy: HeaderPolicy) -> None:
    meta = getattr(dataset, "file_meta", None)
    if meta is None:
        return
    kept = ("FileMetaInformationVersion", "MediaStorageSOPClassUID", "MediaStorageSOPInstanceUID", "TransferSyntaxUID")
    for tag in list(meta.keys()):
        if meta[tag].keyword not in kept:
            del meta[tag]
    if "SOPInstanceUID" in dataset:
        meta.MediaStorageSOPInstanceUID = dataset.SOPInstanceUID
    if hasattr(dataset, "preamble"):
        dataset.preamble = b"\0" * 128


def _naming_words(dataset: Dataset) -> list[str]:
    """Words of the original that name the patient, the staff or the place."""
    words: set[str] = set()
    for keyword in _NAMING.split():
        value = dataset.get(keyword)
        for one in value if isinstance(value, MultiValue) else [value]:
            words |= {word for word in re.split(r"[\^=,;\\\s]+", str(one or "")) if len(word) >= _SHORTEST}
    return sorted(words - {"General", "Hospital", "Medical", "Center", "Clinic", "Anonymous", "Anonymized"})


def _refuse_remains(dataset: Dataset, naming: Sequence[str]) -> None:
    """Fail where a word that names somebody is left in any text: better no object than this one."""
    if not naming:
        return
    pattern = re.compile(rf"(?i)(?<!\w)(?:{'|'.join(map(re.escape, naming))})(?!\w)")
    for element in dataset.iterall():
        if element.VR in ("OB", "OW", "SQ", "OF", "OD", "UI", "DS", "IS"):
            continue
        if pattern.search(str(element.value)):
            raise PrivacyError(
                f"an identifier is left in {element.keyword or element.tag} of a DICOM object after cleaning; "
                "remove the attribute from the object, or choose descriptors 'remove'"
            )
