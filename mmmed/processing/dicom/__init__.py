"""DICOM objects as pictures, attributes and volumes, for whoever reads them and whoever serves them."""

from mmmed.processing.dicom.attributes import attributes
from mmmed.processing.dicom.image import DicomImage
from mmmed.processing.dicom.reading import dicom_faults, read_dataset
from mmmed.processing.dicom.series import Series, Slice, Volume, dicom_files, read_series, read_volume, series_images
from mmmed.processing.dicom.windows import CT_WINDOWS, Window

__all__ = [
    "CT_WINDOWS",
    "DicomImage",
    "Series",
    "Slice",
    "Volume",
    "Window",
    "attributes",
    "dicom_faults",
    "dicom_files",
    "read_dataset",
    "read_series",
    "read_volume",
    "series_images",
]
