"""Slices stand in the order of the body, whatever the files are called."""

import gc
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pydicom.fileset import FileSet

from mmmed.errors import DataError, ImageError, RecordError
from mmmed.processing.dicom import dicom_files, read_series, read_volume, series_images
from mmmed.processing.dicom.series import Series, read_slice

MakeDicom = Callable[..., Path]
AXIAL = [1, 0, 0, 0, 1, 0]


def stack(make_dicom: MakeDicom, heights: list[float], **values: Any) -> Series:
    paths = [
        make_dicom(
            f"stack/{number}.dcm",
            np.full((4, 5), int(height), dtype=np.int16),
            ImagePositionPatient=[0, 0, height],
            ImageOrientationPatient=AXIAL,
            PixelSpacing=[0.5, 0.25],
            InstanceNumber=number + 1,
            **values,
        )
        for number, height in enumerate(heights)
    ]
    (series,) = read_series(map(read_slice, paths))
    return series


def test_slices_are_ordered_along_the_normal_and_rescaled(make_dicom: MakeDicom) -> None:
    volume = read_volume(stack(make_dicom, [30, 10, 20], RescaleSlope=2, RescaleIntercept=-1000))
    assert volume.values_DHW[:, 0, 0].tolist() == [-980, -960, -940]
    assert volume.spacing == (10.0, 0.5, 0.25)
    assert volume.values_DHW.dtype == np.float32


def test_without_positions_the_number_counts(make_dicom: MakeDicom) -> None:
    paths = [make_dicom(f"{n}.dcm", np.full((2, 2), n, np.uint8), InstanceNumber=9 - n) for n in range(3)]
    (series,) = read_series(map(read_slice, paths))
    assert [one.number for one in series.slices] == [7, 8, 9]
    with pytest.raises(RecordError, match="does not say where its slices lie"):
        read_volume(series)


def test_a_missing_slice_is_named(make_dicom: MakeDicom) -> None:
    with pytest.raises(RecordError, match=r"has 20.00 mm between slices 2 and 3 where others have 10.00"):
        read_volume(stack(make_dicom, [0, 10, 30, 40, 50]))


def test_slices_that_are_not_parallel_are_no_stack(make_dicom: MakeDicom) -> None:
    axial = make_dicom("a", np.zeros((2, 2), np.uint8), ImagePositionPatient=[0, 0, 0], ImageOrientationPatient=AXIAL)
    scout = make_dicom(
        "b", np.zeros((2, 2), np.uint8), ImagePositionPatient=[0, 0, 0], ImageOrientationPatient=[1, 0, 0, 0, 0, -1]
    )
    with pytest.raises(RecordError, match="is not parallel"):
        read_series([read_slice(axial), read_slice(scout)])


def test_an_object_that_stands_twice_is_refused(make_dicom: MakeDicom, tmp_path: Path) -> None:
    first = make_dicom("a", np.zeros((2, 2), np.uint8))
    (tmp_path / "b").write_bytes(first.read_bytes())
    with pytest.raises(RecordError, match="are the same object"):
        read_series([read_slice(first), read_slice(tmp_path / "b")])


def test_slices_of_two_sizes_are_no_volume(make_dicom: MakeDicom) -> None:
    values: dict[str, Any] = {"ImageOrientationPatient": AXIAL}
    paths = [
        make_dicom(f"{n}", np.zeros((2, 2 + n), np.uint8), ImagePositionPatient=[0, 0, n], **values) for n in range(2)
    ]
    (series,) = read_series(map(read_slice, paths))
    with pytest.raises(ImageError, match="in a series of"):
        read_volume(series)


def test_frames_of_one_object_are_a_volume(make_dicom: MakeDicom) -> None:
    path = make_dicom(
        "mf", np.stack([np.full((3, 4), n, np.uint8) for n in range(6)]), PixelSpacing=[2, 1], SliceThickness=3
    )
    (series,) = read_series([read_slice(path)])
    volume = read_volume(series)
    assert volume.values_DHW.shape == (6, 3, 4)
    assert volume.spacing == (3.0, 2.0, 1.0)
    assert [image.frame for image in series_images(series, count=3)] == [1, 3, 5]


def test_files_are_found_by_their_content_or_by_the_dicomdir(make_dicom: MakeDicom, tmp_path: Path) -> None:
    for number in range(2):
        make_dicom(
            f"in/{number}",
            np.zeros((2, 2), np.uint8),
            PatientName="P",
            InstanceNumber=number,
            SeriesNumber=1,
            StudyID="1",
            StudyDate="20200101",
            StudyTime="10",
            Modality="OT",
        )
    (tmp_path / "in" / "notes.txt").write_text("no dicom")
    assert [path.name for path in dicom_files(tmp_path / "in")] == ["0", "1"]
    collection = FileSet()
    for path in dicom_files(tmp_path / "in"):
        collection.add(path)
    collection.write(tmp_path / "out")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # it leaves the removal of its temporary folder to chance
        del collection
        gc.collect()
    (tmp_path / "out" / "stray.dcm").write_bytes((tmp_path / "in" / "0").read_bytes())
    listed = dicom_files(tmp_path / "out")
    assert len(listed) == 2
    assert all(path.is_file() and path.name != "stray.dcm" for path in listed)


def test_a_folder_without_dicom_says_so(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="holds no DICOM file"):
        dicom_files(tmp_path)
    with pytest.raises(DataError, match="there is no folder"):
        dicom_files(tmp_path / "nowhere")
