"""DICOM headers without identifiers: the basic profile of PS3.15, as a table of what may stay.

The profile lists what must go. Here a kind of value (its VR) goes unless it is known to be harmless, or the table
names the attribute; so an attribute that nobody has thought of goes too. Private attributes, overlays and icons go.

Source: DICOM PS3.15, E.1-1 (attributes and actions), E.2 and E.3 (profile and options), CID 7050 (codes).
"""

import datetime
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from pydicom.dataelem import DataElement
from pydicom.dataset import Dataset
from pydicom.multival import MultiValue
from pydicom.sequence import Sequence as DicomSequence

from mmmed.data.deidentify.audit import Audit
from mmmed.data.deidentify.privacy import Mode
from mmmed.data.deidentify.surrogates import Surrogates
from mmmed.data.deidentify.text import clean
from mmmed.errors import PrivacyError

Action = Literal["keep", "remove", "empty", "code", "uid", "date", "time", "age", "clean", "items"]


@dataclass(frozen=True, kw_only=True)
class HeaderPolicy:
    """Which options of the profile are taken.

    Args:
        dates: `shift` moves all dates of a patient by the same number of days and leaves times of day (retain
            longitudinal temporal information with modified dates); `remove` empties both.
        characteristics: Keep sex, age (up to 89), size and weight (retain patient characteristics).
        devices: Keep manufacturer, model, station and serial numbers (retain device identity).
        descriptors: `clean` takes identifiers out of descriptions and protocol names, `remove` removes these.
        uids: `replace` makes new ones, the same for the same original everywhere; `keep` keeps them.
    """

    dates: Literal["shift", "remove"] = "shift"
    characteristics: bool = True
    devices: bool = False
    descriptors: Literal["clean", "remove"] = "remove"
    uids: Literal["replace", "keep"] = "replace"


# Harmless kinds: numbers and pixels. Texts, names, places, dates and times are not.
_BY_VR: dict[str, Action] = {
    **dict.fromkeys(
        ("US", "SS", "UL", "SL", "UV", "SV", "FL", "FD", "DS", "IS", "AT", "OB", "OW", "OF", "OD", "OL", "OV", "CS"),
        "keep",
    ),
    "UI": "uid",
    "DA": "date",
    "DT": "date",
    "TM": "time",
    "SQ": "items",
    "AS": "age",
}
_EMPTY = "AccessionNumber StudyID ReferringPhysicianName PatientBirthDate PatientBirthTime FillerOrderNumberImagingServiceRequest"
_CHARACTERISTICS = "PatientSex PatientAge PatientSize PatientWeight PatientSexNeutered PregnancyStatus SmokingStatus"
_DEVICES = (
    "Manufacturer ManufacturerModelName DeviceSerialNumber StationName SoftwareVersions GantryID DetectorID PlateID"
    " DeviceUID CassetteID DetectorManufacturerName DetectorManufacturerModelName"
)
_DESCRIPTORS = (
    "StudyDescription SeriesDescription ProtocolName ImageComments AcquisitionProtocolDescription DerivationDescription"
    " RequestedProcedureDescription PerformedProcedureStepDescription AcquisitionComments ContrastBolusAgent"
)
_TABLE: dict[str, Action] = {
    **dict.fromkeys(_EMPTY.split(), "empty"),
    "PatientName": "code",
    "PatientID": "code",
    # Codes that are words of a standard.
    "CodeValue": "keep",
    "CodingSchemeDesignator": "keep",
    "CodeMeaning": "keep",
    "SpecificCharacterSet": "keep",
    "PatientOrientation": "keep",
    "SequenceName": "keep",
    "ConvolutionKernel": "keep",
    "LUTExplanation": "keep",
    "WindowCenterWidthExplanation": "keep",
    "RescaleType": "keep",
    "PixelData": "keep",
    "MagneticFieldStrength": "keep",
    # Kinds that are harmless elsewhere.
    "IconImageSequence": "remove",
    "OriginalAttributesSequence": "remove",
    "ReferencedPatientSequence": "remove",
    "OtherPatientIDsSequence": "remove",
    "RequestAttributesSequence": "remove",
    "PersonIdentificationCodeSequence": "remove",
    "ReferencedStudySequence": "remove",
    "DigitalSignaturesSequence": "remove",
    "EncryptedAttributesSequence": "remove",
    "ContentSequence": "remove",
    "TextObjectSequence": "remove",
    "GraphicAnnotationSequence": "remove",
    "ModifiedAttributesSequence": "remove",
    "PatientInsurancePlanCodeSequence": "remove",
    "IssuerOfPatientIDQualifiersSequence": "remove",
    "InstitutionCodeSequence": "remove",
    "PatientPrimaryLanguageCodeSequence": "remove",
    "DataSetTrailingPadding": "remove",
    "TimezoneOffsetFromUTC": "remove",
}
_STANDARD_UID = "1.2.840.10008."
_OLDEST = 89
_METHODS = {
    "113100": "Basic Application Confidentiality Profile",
    "113101": "Clean Pixel Data Option",
    "113105": "Clean Descriptors Option",
    "113107": "Retain Longitudinal Temporal Information Modified Dates Option",
    "113108": "Retain Patient Characteristics Option",
    "113109": "Retain Device Identity Option",
    "113110": "Retain UIDs Option",
}
# What names the patient or the visit; none of it may be found anywhere in the result.
_NAMING = (
    "PatientName PatientID PatientAddress PatientTelephoneNumbers AccessionNumber ReferringPhysicianName InstitutionName"
    " PatientMotherBirthName OtherPatientNames OtherPatientIDs InstitutionAddress PerformingPhysicianName OperatorsName"
    " PhysiciansOfRecord RequestingPhysician PatientBirthName MilitaryRank MedicalRecordLocator NameOfPhysiciansReadingStudy"
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
    declare(dataset, *_codes(policy))
    _refuse_remains(dataset, naming)


def declare(dataset: Dataset, *codes: str) -> None:
    """Say in the object by which methods it was made safe."""
    said = {item.CodeValue for item in dataset.get("DeidentificationMethodCodeSequence") or []}
    items = list(dataset.get("DeidentificationMethodCodeSequence") or [])
    for code in codes:
        if code not in said:
            item = Dataset()
            item.CodeValue, item.CodingSchemeDesignator, item.CodeMeaning = code, "DCM", _METHODS[code]
            items.append(item)
    dataset.DeidentificationMethodCodeSequence = DicomSequence(items)
    dataset.DeidentificationMethod = "mmmed: PS3.15 basic profile, by table"


def new_uid(uid: str, surrogates: Surrogates) -> str:
    """Another UID for one of an instance, study or frame of reference; those of the standard stay."""
    if not uid or uid.startswith(_STANDARD_UID):
        return uid
    return f"2.25.{int(surrogates.token('uid', uid) * 2, 16)}"


def action_for(element: DataElement, policy: HeaderPolicy) -> Action:
    """What happens to one attribute."""
    if element.tag.is_private or element.tag.group in (0x0004,) or 0x5000 <= element.tag.group <= 0x60FF:
        return "remove"
    keyword = element.keyword
    if keyword in _CHARACTERISTICS.split():
        if keyword == "PatientAge":
            return "age" if policy.characteristics else "remove"
        return "keep" if policy.characteristics else "empty" if keyword == "PatientSex" else "remove"
    if keyword in _DEVICES.split():
        return "keep" if policy.devices else "remove"
    if keyword in _DESCRIPTORS.split():
        return "clean" if policy.descriptors == "clean" else "remove"
    if not keyword:
        return "remove"
    action = _TABLE.get(keyword) or _BY_VR.get(element.VR, "remove")
    if action == "uid" and policy.uids == "keep":
        return "keep"
    return action


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


def _codes(policy: HeaderPolicy) -> Iterator[str]:
    yield "113100"
    if policy.descriptors == "clean":
        yield "113105"
    if policy.dates == "shift":
        yield "113107"
    if policy.characteristics:
        yield "113108"
    if policy.devices:
        yield "113109"
    if policy.uids == "keep":
        yield "113110"


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
