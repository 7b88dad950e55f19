"""What is kept of a DICOM object for its report: whose it is and where it belongs, without pixels and all else."""

from io import BytesIO

from pydicom import Dataset, dcmread
from pydicom.dataset import FileMetaDataset
from pydicom.errors import InvalidDicomError
from pydicom.uid import ExplicitVRLittleEndian

from mmmed.errors import ImageError

_MAY_BE_EMPTY = (
    "StudyID",
    "StudyDate",
    "StudyTime",
    "AccessionNumber",
    "ReferringPhysicianName",
    "PatientID",
    "PatientName",
    "PatientBirthDate",
    "PatientSex",
)
_KEPT = (
    *_MAY_BE_EMPTY,
    "SpecificCharacterSet",
    "SOPClassUID",
    "SOPInstanceUID",
    "StudyInstanceUID",
    "SeriesInstanceUID",
    "StudyDescription",
    "Modality",
    "SeriesNumber",
    "InstanceNumber",
    "IssuerOfPatientID",
    "BodyPartExamined",
    "InstitutionName",
    "Rows",
    "Columns",
    "NumberOfFrames",
)


def header_of(dataset: Dataset) -> bytes:
    """A DICOM file of the kept attributes alone; those that a report must name are there, empty if need be."""
    kept = Dataset()
    for keyword in _KEPT:
        if keyword in dataset:
            kept[keyword] = dataset[keyword]
    for keyword in _MAY_BE_EMPTY:
        if keyword not in kept:
            setattr(kept, keyword, None)
    kept.file_meta = FileMetaDataset()
    kept.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    content = BytesIO()
    kept.save_as(content, enforce_file_format=True)
    return content.getvalue()


def kept_of(header: bytes) -> bytes:
    """The same of a header as it lies in a file; nothing of one without a study.

    Raises:
        ImageError: It is no DICOM.
    """
    try:
        dataset = dcmread(BytesIO(header), force=False)
    except InvalidDicomError:
        raise ImageError("the header of the picture is no DICOM; send the file again") from None
    return header_of(dataset) if dataset.get("StudyInstanceUID") and dataset.get("SOPInstanceUID") else b""
