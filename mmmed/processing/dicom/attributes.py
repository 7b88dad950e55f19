"""What the header says of the patient and the picture, in the words that all sources use.

Only what a model or an audit has a use for; nothing that names a person leaves here.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import numpy as np
from pydicom.dataset import Dataset

from mmmed.processing.dicom.reading import dicom_faults

_YEARS = {"Y": 1.0, "M": 1 / 12, "W": 1 / 52.1775, "D": 1 / 365.25, "": 1.0}
_OLDEST = 120.0
# How far a slice may tilt and still be called by the plane it lies in: cosine of 30 degrees.
_ALIGNED = 0.866
_PLANES = ("sagittal", "coronal", "axial")


def attributes(dataset: Dataset, *, path: Path) -> dict[str, str | float]:
    """Facts of one object; what the header lacks or garbles is absent.

    Keys: modality, body_part, view, laterality (L or R), sex (F, M, O), age (years), orientation (axial, coronal,
    sagittal, oblique), patient_orientation (rows then columns, such as ``L\\F``), row_spacing and column_spacing
    (mm in the patient) or detector_row_spacing and detector_column_spacing (mm at the detector, not corrected for
    magnification), slice_thickness (mm), frames.

    Raises:
        ImageError: The header is damaged.
    """
    with dicom_faults(path):
        facts: dict[str, str | float | None] = {
            "modality": _word(dataset.get("Modality")),
            "body_part": _word(dataset.get("BodyPartExamined")),
            "view": _word(dataset.get("ViewPosition")),
            "laterality": _one_of(_word(dataset.get("ImageLaterality") or dataset.get("Laterality")), "LRB"),
            "sex": _one_of(_word(dataset.get("PatientSex")), "FMO"),
            "age": age(str(dataset.get("PatientAge") or "")),
            "orientation": plane(dataset.get("ImageOrientationPatient")),
            "patient_orientation": "\\".join(map(str, dataset.get("PatientOrientation") or ())),
            "slice_thickness": _positive(dataset.get("SliceThickness")),
            "frames": _positive(dataset.get("NumberOfFrames")),
            **_spacing(dataset),
        }
    return {name: value for name, value in facts.items() if value not in (None, "")}


def age(text: str) -> float | None:
    """Years from an age string such as ``061Y``, ``011M`` or, in files that break the rule, ``81``."""
    match = re.fullmatch(r"\s*(\d{1,3})\s*([DWMY]?)\s*", text)
    years = int(match[1]) * _YEARS[match[2]] if match else -1.0
    return round(years, 2) if 0 <= years <= _OLDEST else None


def plane(orientation: Any) -> str | None:
    """Name the plane of a slice from the direction cosines of its rows and columns.

    Source: DICOM PS3.3, C.7.6.2.1.1: x to the patient's left, y to the back, z to the head.
    """
    normal = slice_normal(orientation)
    if normal is None:
        return None
    axis = int(np.argmax(np.abs(normal)))
    return _PLANES[axis] if abs(float(normal[axis])) >= _ALIGNED else "oblique"


def slice_normal(orientation: Any) -> np.ndarray[Any, np.dtype[np.float64]] | None:
    """The unit vector at right angles to a slice, or None where the cosines are missing or no directions."""
    if orientation is None or isinstance(orientation, str) or len(orientation) != 6:
        return None
    cosines = np.asarray([float(value) for value in orientation])
    normal = np.cross(cosines[:3], cosines[3:])
    length = float(np.linalg.norm(normal))
    return normal / length if np.isfinite(length) and length > 0.5 else None


def _spacing(dataset: Dataset) -> dict[str, float | None]:
    for keyword, prefix in (("PixelSpacing", ""), ("ImagerPixelSpacing", "detector_")):
        value = dataset.get(keyword)
        if value is not None and not isinstance(value, str) and len(value) == 2:
            row, column = _positive(value[0]), _positive(value[1])
            if row and column:
                return {f"{prefix}row_spacing": row, f"{prefix}column_spacing": column}
    return {}


def _word(value: Any) -> str:
    return " ".join(str(value or "").split()).upper()


def _one_of(value: str, known: str) -> str:
    return value if len(value) == 1 and value in known else ""


def _positive(value: Any) -> float | None:
    try:
        number = float(value)
    except (TypeError, ValueError):
        return None
    return round(number, 6) if np.isfinite(number) and number > 0 else None
