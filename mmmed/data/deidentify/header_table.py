"""What becomes of each attribute of a DICOM header: the basic profile of PS3.15, as a table of what may stay.

The profile lists what must go. Here a kind of value (its VR) goes unless it is known to be harmless, or the table
names the attribute; so an attribute that nobody has thought of goes too. Private attributes, overlays and icons go.

Source: DICOM PS3.15, E.1-1 (attributes and actions), E.2 and E.3 (profile and options), CID 7050 (codes).
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

from pydicom.dataelem import DataElement

from mmmed.data.deidentify import lexicon

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


# Harmless kinds: numbers and pixels. Texts, names, places, dates and times are not, nor is packed content (OB).
_BY_VR: dict[str, Action] = {
    **dict.fromkeys(
        ("US", "SS", "UL", "SL", "UV", "SV", "FL", "FD", "DS", "IS", "AT", "OW", "OF", "OD", "OL", "OV", "CS"),
        "keep",
    ),
    "UI": "uid",
    "DA": "date",
    "DT": "date",
    "TM": "time",
    "SQ": "items",
    "AS": "age",
}
_EMPTY = (
    "AccessionNumber StudyID ReferringPhysicianName PatientBirthDate PatientBirthTime "
    "FillerOrderNumberImagingServiceRequest"
)
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
    "ICCProfile": "keep",
    # Of kinds that are harmless elsewhere: whom they describe, where it was and what else is packed in.
    **dict.fromkeys(lexicon.in_order("header_removed"), "remove"),
}
METHODS = {
    "113100": "Basic Application Confidentiality Profile",
    "113101": "Clean Pixel Data Option",
    "113105": "Clean Descriptors Option",
    "113107": "Retain Longitudinal Temporal Information Modified Dates Option",
    "113108": "Retain Patient Characteristics Option",
    "113109": "Retain Device Identity Option",
    "113110": "Retain UIDs Option",
}
"""Codes of CID 7050 and their meanings."""


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


def method_codes(policy: HeaderPolicy) -> Iterator[str]:
    """The codes of the profile and of the options that were taken."""
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
