"""A note that an unsigned report is not to be used: a key object selection, as archives and viewers know it.

Source: IHE Radiology Technical Framework, Imaging Object Change Management; DICOM PS3.16, CID 7010.
"""

from highdicom.ko import KeyObjectSelection, KeyObjectSelectionDocument
from pydicom import Dataset
from pydicom.sr.codedict import codes
from pydicom.uid import EnhancedSRStorage

from mmmed.errors import SignoffError
from mmmed.serving.desk.outbox import PRELIMINARY
from mmmed.serving.hospital.result import Result
from mmmed.serving.hospital.structured_report import date

_SERIES_NUMBER = 9701


def withdrawal(result: Result) -> Dataset:
    """The note that rejects the preliminary report of a draft.

    Raises:
        SignoffError: The draft comes from no DICOM object.
    """
    if not result.headers:
        raise SignoffError(f"draft {result.facts.id} comes from no DICOM object; no report of it was stored")
    report = Dataset()
    report.update(result.headers[0])
    report.SOPClassUID, report.SOPInstanceUID = EnhancedSRStorage, result.uid(PRELIMINARY)
    report.SeriesInstanceUID = result.uid("series")
    note = KeyObjectSelectionDocument(
        evidence=[report],
        content=KeyObjectSelection(
            document_title=codes.DCM.RejectedForPatientSafetyReasons,
            referenced_objects=[report],
            description="The draft was rejected by a radiologist.",
        ),
        series_instance_uid=result.uid("withdrawn series"),
        series_number=_SERIES_NUMBER,
        sop_instance_uid=result.uid(result.kind),
        instance_number=1,
        manufacturer="mmmed",
    )
    date(note, result.at)
    return note
