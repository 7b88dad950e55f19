"""From a folder or a DICOMDIR to series in anatomical order, and from a series to a volume.

D, H, W: slices, rows, columns.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from mmmed.errors import DataError, ImageError, RecordError
from mmmed.processing.dicom.attributes import slice_normal
from mmmed.processing.dicom.frames import modality_values
from mmmed.processing.dicom.image import DicomImage
from mmmed.processing.dicom.reading import check_size, dicom_faults, read_dataset
from mmmed.processing.volume import evenly

if TYPE_CHECKING:
    from numpy.typing import NDArray

# Slices of one stack are parallel; scanners round their cosines to about four digits.
_PARALLEL = 0.999
# Distances of neighbours may differ by rounding; a missing slice doubles one.
_UNEVEN = 0.25


@dataclass(frozen=True, slots=True, kw_only=True)
class Slice:
    """One object of a series, as far as its place needs it.

    Args:
        path: The file.
        instance: Its SOPInstanceUID.
        series: Its SeriesInstanceUID.
        study: Its StudyInstanceUID.
        patient: Its PatientID.
        number: Its InstanceNumber; 0 where there is none.
        frames: How many frames it has.
        position: Where its first voxel lies in the patient, in mm, if that is known.
        orientation: Direction cosines of its rows and columns, if known.
    """

    path: Path
    instance: str
    series: str
    study: str
    patient: str
    number: int
    frames: int
    position: tuple[float, ...]
    orientation: tuple[float, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Series:
    """The objects of one series in order: along the normal of the slices, or by number where no place is known."""

    identifier: str
    slices: tuple[Slice, ...]


class Volume(NamedTuple):
    """A stack of slices in the units of the modality, and its grid in mm (between slices, rows, columns)."""

    values_DHW: NDArray[np.float32]
    spacing: tuple[float, float, float]


def dicom_files(root: Path) -> list[Path]:
    """The objects under a folder: those its DICOMDIR lists, or else every file that begins like DICOM, by path.

    Raises:
        DataError: There is no such folder, or it holds no DICOM file.
        ImageError: The DICOMDIR is damaged.
    """
    if not root.is_dir():
        raise DataError(f"there is no folder {root}; give the folder of the DICOM files")
    directory = next((path for path in sorted(root.iterdir()) if path.name.upper() == "DICOMDIR"), None)
    files = list(_listed(directory)) if directory else sorted(path for path in root.rglob("*") if _is_dicom(path))
    if not files:
        raise DataError(f"{root} holds no DICOM file; give the folder of the DICOM files")
    return files


def read_slice(path: Path) -> Slice:
    """Read what the place of an object needs. Raises `ImageError`."""
    dataset = read_dataset(path, pixels=False)
    with dicom_faults(path):
        position, orientation = dataset.get("ImagePositionPatient"), dataset.get("ImageOrientationPatient")
        return Slice(
            path=path,
            instance=_printable(dataset.get("SOPInstanceUID")),
            series=_printable(dataset.get("SeriesInstanceUID")),
            study=_printable(dataset.get("StudyInstanceUID")),
            patient=_printable(dataset.get("PatientID")),
            number=int(dataset.get("InstanceNumber") or 0),
            frames=check_size(dataset, path=path),
            position=tuple(map(float, position)) if position is not None and len(position) == 3 else (),
            orientation=tuple(map(float, orientation)) if orientation is not None and len(orientation) == 6 else (),
        )


def _printable(value: object) -> str:
    """An identifier without what would break a line, which damaged files hold."""
    return "".join(character for character in str(value or "") if character.isprintable()).strip()


def read_series(slices: Iterable[Slice]) -> list[Series]:
    """Group objects into series and put each in order.

    Raises:
        RecordError: An object has no SeriesInstanceUID, or stands in a series twice.
    """
    groups: dict[str, list[Slice]] = defaultdict(list)
    for one in slices:
        if not one.series:
            raise RecordError(f"{one.path} has no SeriesInstanceUID; it belongs to no series")
        groups[one.series].append(one)
    return [Series(identifier=series, slices=tuple(in_order(group))) for series, group in groups.items()]


def in_order(slices: list[Slice]) -> list[Slice]:
    """Put the objects of a series in order: from feet to head, right to left or front to back, as they are cut.

    Raises:
        RecordError: An object stands twice, or the slices are not parallel, so that they are no stack.
    """
    seen: dict[str, Path] = {}
    for one in slices:
        if one.instance and one.instance in seen:
            raise RecordError(f"{one.path} and {seen[one.instance]} are the same object; remove one")
        seen[one.instance] = one.path
    places = _places(slices)
    if places is None:
        return sorted(slices, key=lambda one: (one.number, str(one.path)))
    return sorted(slices, key=lambda one: (places[one.path], one.number, str(one.path)))


def series_images(series: Series, *, count: int, window: str | None = None) -> tuple[DicomImage, ...]:
    """Choose frames at even distances through a series, as the `images` of an `Example`."""
    frames = [(one.path, frame) for one in series.slices for frame in range(one.frames)]
    chosen = (frames[index] for index in evenly(len(frames), count))
    return tuple(DicomImage(path=path, frame=frame, window=window) for path, frame in chosen)


def read_volume(series: Series) -> Volume:
    """Stack a series of slices, or the frames of a multi-frame object, in the units of the modality.

    Raises:
        ImageError: A file is damaged, or slices differ in size.
        RecordError: The places of the slices are unknown or uneven, as after a lost slice.
    """
    first, *others = series.slices
    if not others and first.frames > 1:
        return _multi_frame(first)
    gap = _distance(series)
    layers = []
    spacing = (1.0, 1.0)
    for one in series.slices:
        dataset = read_dataset(one.path)
        with dicom_faults(one.path):
            check_size(dataset, path=one.path)
            layers.append(modality_values(dataset, 0))
            row, column = dataset.get("PixelSpacing") or (1.0, 1.0)
            spacing = (float(row), float(column))
        if layers[-1].shape != layers[0].shape or layers[-1].ndim != 2:
            raise ImageError(f"{one.path} has shape {layers[-1].shape} in a series of {layers[0].shape}")
    return Volume(np.stack(layers), (gap, *spacing))


def _multi_frame(one: Slice) -> Volume:
    dataset = read_dataset(one.path)
    with dicom_faults(one.path):
        check_size(dataset, path=one.path)
        layers = np.stack([modality_values(dataset, frame) for frame in range(one.frames)])
        shared = dataset.get("SharedFunctionalGroupsSequence") or [dataset]
        measures = (shared[0].get("PixelMeasuresSequence") or [dataset])[0]
        row, column = measures.get("PixelSpacing") or (1.0, 1.0)
        gap = measures.get("SpacingBetweenSlices") or measures.get("SliceThickness") or 1.0
        return Volume(layers, (float(gap), float(row), float(column)))


def _places(slices: list[Slice]) -> dict[Path, float] | None:
    """How far along the normal each slice lies, in mm; None where any does not say."""
    if not all(one.position and one.orientation for one in slices):
        return None
    reference = slice_normal(slices[0].orientation)
    if reference is None:
        return None
    # Towards the head, the left or the back, whichever way the scanner went.
    reference = reference * np.sign(reference[int(np.argmax(np.abs(reference)))])
    for one in slices:
        normal = slice_normal(one.orientation)
        if normal is None or abs(float(normal @ reference)) < _PARALLEL:
            raise RecordError(f"{one.path} is not parallel to {slices[0].path}; the series {one.series} is no stack")
    return {one.path: round(float(reference @ np.asarray(one.position)), 4) for one in slices}


def _distance(series: Series) -> float:
    places = _places(list(series.slices))
    if places is None:
        raise RecordError(f"series {series.identifier} does not say where its slices lie; read it slice by slice")
    gaps = np.diff([places[one.path] for one in series.slices])
    if not len(gaps):
        return 1.0
    middle = float(np.median(gaps))
    if middle <= 0 or bool((np.abs(gaps - middle) > _UNEVEN * middle).any()):
        worst = int(np.argmax(np.abs(gaps - middle)))
        raise RecordError(
            f"series {series.identifier} has {gaps[worst]:.2f} mm between slices {worst + 1} and {worst + 2} where "
            f"others have {middle:.2f} mm; a slice is missing or stands twice"
        )
    return middle


def _listed(directory: Path) -> Iterator[Path]:
    root = directory.parent.resolve()
    dataset = read_dataset(directory)
    with dicom_faults(directory):
        for record in dataset.get("DirectoryRecordSequence") or []:
            parts = record.get("ReferencedFileID")
            if not parts:
                continue
            path = root.joinpath(*([parts] if isinstance(parts, str) else list(parts)))
            if root not in path.resolve().parents:
                raise ImageError(f"{directory} lists {path}, which lies outside its folder")
            yield path


def _is_dicom(path: Path) -> bool:
    if not path.is_file() or path.name.upper() == "DICOMDIR":
        return False
    with path.open("rb") as file:
        return file.read(132)[128:] == b"DICM"
