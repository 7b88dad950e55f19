"""A result as a DICOM Structured Report: TID 1500, with the model as device and the signers as persons.

Source: DICOM PS3.16, TID 1500 Measurement Report and TID 1001 Observation Context; PS3.3 C.17.2 SR Document General
Module (completion, verification and preliminary flags, predecessor documents).
"""

import uuid

from highdicom.sr import (
    AlgorithmIdentification,
    DeviceObserverIdentifyingAttributes,
    EnhancedSR,
    Measurement,
    MeasurementReport,
    MeasurementsAndQualitativeEvaluations,
    ObservationContext,
    ObserverContext,
    PersonObserverIdentifyingAttributes,
    RelationshipTypeValues,
    TextContentItem,
    TrackingIdentifier,
)
from pydicom import Dataset
from pydicom.sr.codedict import codes
from pydicom.uid import EnhancedSRStorage

from mmmed.errors import SignoffError
from mmmed.serving.database.clock import read
from mmmed.serving.desk.outbox import FINAL, PRELIMINARY
from mmmed.serving.hospital.result import Result

_SERIES_NUMBER = 9700
_MAKER = "mmmed"
_WARNING = "Draft by a machine-learning model; not read by a person; research use only."


def structured_report(result: Result) -> Dataset:
    """The report as a DICOM object.

    A preliminary one is unverified; a final one is verified by its signers and names what it replaces, the preliminary
    one, whether or not that has left. Made again, it is the same object.

    Raises:
        SignoffError: The draft comes from no DICOM object, or was called back.
    """
    if not result.headers:
        raise SignoffError(f"draft {result.facts.id} comes from no DICOM object; no study can take its report")
    if result.kind not in (PRELIMINARY, FINAL):
        raise SignoffError("a draft that was called back has no report")
    is_final = result.kind == FINAL
    signers = [_person_name(signer.full_name) for signer in result.signers]
    report = EnhancedSR(
        evidence=list(result.headers),
        content=_content(result, signers)[0],
        series_instance_uid=result.uid("series"),
        series_number=_SERIES_NUMBER,
        sop_instance_uid=result.uid(result.kind),
        instance_number=2 if is_final else 1,
        manufacturer=_MAKER,
        is_complete=is_final,
        is_final=is_final,
        is_verified=is_final,
        verifying_observer_name=signers[-1] if signers else None,
        verifying_organization=_organization(result) if is_final else None,
        series_description="AI draft, signed" if is_final else "AI draft, not signed",
    )
    date(report, result.at)
    if is_final:
        _verify(report, result, signers)
        report.PredecessorDocumentsSequence = [_predecessor(result)]
    return report


def _content(result: Result, signers: list[str]) -> MeasurementReport:
    device = DeviceObserverIdentifyingAttributes(
        uid=_device_uid(result),
        name=result.facts.model[:64],
        manufacturer_name=_MAKER,
        model_name=result.facts.model[:64],
        serial_number=result.facts.model_version[:64] or None,
    )
    person = None
    if signers:
        attributes = PersonObserverIdentifyingAttributes(name=signers[-1], login_name=result.signers[-1].actor)
        person = ObserverContext(codes.DCM.Person, attributes)
    report = MeasurementReport(
        observation_context=ObservationContext(
            observer_person_context=person, observer_device_context=ObserverContext(codes.DCM.Device, device)
        ),
        procedure_reported=codes.LN.DiagnosticImagingReport,
        imaging_measurements=[_certainty(result)],
    )
    told = [(codes.DCM.Comment, _marking(result, signers)), (codes.DCM.Finding, result.text)]
    if result.facts.question:
        told.insert(1, (codes.DCM.Comment, f"The model was asked: {result.facts.question}"))
    for name, text in told:
        report[0].ContentSequence.append(TextContentItem(name, text, RelationshipTypeValues.CONTAINS))
    return report


def _certainty(result: Result) -> MeasurementsAndQualitativeEvaluations:
    """How sure the model said to be, as the measurement that the template asks for."""
    certainty = Measurement(
        name=codes.DCM.CertaintyOfFinding, value=round(100 * (1 - result.facts.uncertainty), 1), unit=codes.UCUM.Percent
    )
    return MeasurementsAndQualitativeEvaluations(
        tracking_identifier=TrackingIdentifier(uid=result.uid("finding"), identifier=result.facts.id),
        algorithm_id=AlgorithmIdentification(
            name=result.facts.model[:64], version=result.facts.model_version[:64] or "not stated"
        ),
        measurements=[certainty],
    )


def _marking(result: Result, signers: list[str]) -> str:
    if result.kind == PRELIMINARY:
        return _WARNING
    changed = "amended" if result.is_amended else "left as it was"
    return f"Drafted by the model {result.facts.model}; {changed} and signed by {' and '.join(signers)}."


def _device_uid(result: Result) -> str:
    return f"2.25.{uuid.uuid5(uuid.NAMESPACE_URL, f'{result.facts.model}:{result.facts.model_version}').int}"


def _person_name(full_name: str) -> str:
    """As DICOM writes names: `Curie, Marie` becomes `Curie^Marie`."""
    family, comma, given = full_name.partition(",")
    name = f"{family.strip()}^{given.strip()}" if comma else full_name.strip()
    return (name if "^" in name else f"{name}^")[:64]


def _organization(result: Result) -> str:
    return str(result.headers[0].get("InstitutionName", "") or "not stated")[:64]


def date(report: Dataset, at: str) -> None:
    """Dates of the step that made the report, not of the moment in which it is written down."""
    moment = read(at)
    day, time = moment.strftime("%Y%m%d"), moment.strftime("%H%M%S.%f")
    report.ContentDate = report.SeriesDate = report.InstanceCreationDate = day
    report.ContentTime = report.SeriesTime = report.InstanceCreationTime = time
    report.TimezoneOffsetFromUTC = "+0000"
    for equipment in report.get("ContributingEquipmentSequence", []):
        equipment.ContributionDateTime = f"{day}{time}"


def _verify(report: Dataset, result: Result, signers: list[str]) -> None:
    """Name each who has signed, and when."""
    items = []
    for signer, name in zip(result.signers, signers, strict=True):
        item = Dataset()
        item.VerifyingObserverName = name
        item.VerifyingObserverIdentificationCodeSequence = []
        item.VerifyingOrganization = _organization(result)
        item.VerificationDateTime = read(signer.at).strftime("%Y%m%d%H%M%S.%f+0000")
        items.append(item)
    report.VerifyingObserverSequence = items


def _predecessor(result: Result) -> Dataset:
    """A reference to the preliminary report of the same draft."""
    instance, series, study = Dataset(), Dataset(), Dataset()
    instance.ReferencedSOPClassUID = EnhancedSRStorage
    instance.ReferencedSOPInstanceUID = result.uid(PRELIMINARY)
    series.SeriesInstanceUID = result.uid("series")
    series.ReferencedSOPSequence = [instance]
    study.StudyInstanceUID = result.headers[0].StudyInstanceUID
    study.ReferencedSeriesSequence = [series]
    return study
