"""Damaged DICOM files end in a picture of the right shape, or set aside with one line; never in anything else."""

import functools
import time
from collections.abc import Sequence
from io import BytesIO
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pydicom
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pydicom.dataelem import RawDataElement
from pydicom.dataset import Dataset, FileDataset, FileMetaDataset
from pydicom.uid import ExplicitVRLittleEndian, RLELossless

from mmmed.data.source import decodable
from mmmed.data.sources.dicom_folder import DicomFolder
from mmmed.errors import MmmedError
from mmmed.processing.dicom import DicomImage, dicom_faults, read_dataset, read_series, read_volume
from mmmed.processing.dicom.series import read_slice
from mmmed.records import Example, Quarantined

KINDS = [b"CS", b"DS", b"IS", b"US", b"SS", b"UL", b"UI", b"SQ", b"OB", b"OW", b"PN", b"UN", b"FD", b"AT", b"UT", b"ZZ"]
VALUES = [
    b"\xff" * 8,
    b"\0" * 8,
    b"\x01\x80",
    b"1e400 ",
    b"nan\\inf ",
    b"-1",
    b"\\\\\\",
    b"two",
    b"99999999999999999999",
    b"MONOCHROME3 ",
    b"PALETTE COLOR ",
    b"YBR_FULL_422",
    b"1.2.840.10008.1.2.4.90",
    b"1.2.840.10008.1.2.5\0",
]
LONGEST = 20.0
"""Seconds of the processor that one file may take, however damaged."""


# The same cases every time; one folder serves them all, since each writes the file anew.
fuzzed = settings(deadline=None, derandomize=True, database=None, suppress_health_check=list(HealthCheck))


class Damage(NamedTuple):
    """One change to a file; places are shares of what there is to choose from."""

    how: str
    place: float
    content: bytes


class Element(NamedTuple):
    """Where an attribute of the outer dataset stands in a file."""

    start: int
    kind: int
    value: int
    end: int


damages = st.lists(
    st.builds(
        Damage,
        how=st.sampled_from(["flip", "flip header", "cut", "remove", "retype", "overwrite", "insert"]),
        place=st.floats(0, 1, exclude_max=True, allow_subnormal=False),
        content=st.one_of(st.sampled_from(VALUES), st.binary(min_size=1, max_size=12)),
    ),
    min_size=1,
    max_size=4,
)


def elements(content: bytes) -> list[Element]:
    """The attributes of a file with explicit VR."""
    dataset = pydicom.dcmread(BytesIO(content))
    found = []
    for tag in dataset.keys():  # noqa: SIM118 (a dataset gives elements, and converts them)
        raw = dataset.get_item(tag)
        if not isinstance(raw, RawDataElement) or raw.VR is None:
            continue
        # Long kinds have two spare bytes and four of length.
        before = 12 if raw.VR in ("OB", "OW", "OF", "OD", "OL", "SQ", "UN", "UT", "UC", "UR") else 8
        end = len(content) if raw.length == 0xFFFFFFFF else raw.value_tell + raw.length
        found.append(Element(raw.value_tell - before, raw.value_tell - before + 4, raw.value_tell, end))
    return found


def damaged(content: bytes, known: Sequence[Element], changes: Sequence[Damage]) -> bytes:
    """A file after some changes, the last in the file first, so that places stay what they were."""
    made = bytearray(content)
    for one in sorted(changes, key=lambda change: -change.place):
        element = known[int(one.place * len(known))]
        where = 132 + int(one.place * (len(content) - 132))
        if one.how == "flip" and where < len(made):
            made[where] ^= one.content[0] or 1
        elif one.how == "flip header":
            made[132 + int(one.place * (known[-1].start - 132))] ^= one.content[0] or 1
        elif one.how == "cut":
            del made[where:]
        elif one.how == "remove":
            del made[element.start : element.end]
        elif one.how == "retype":
            made[element.kind : element.kind + 2] = KINDS[one.content[0] % len(KINDS)]
        elif one.how == "overwrite":
            length = min(len(one.content), element.end - element.value)
            made[element.value : element.value + length] = one.content[:length]
        elif one.how == "insert":
            made[element.start : element.start] = one.content
        if len(made) < 200:
            break
    return bytes(made)


def outcome(folder: Path, content: bytes) -> str:
    """Read a file in every way there is. Anything but a `MmmedError` of one line passes through and fails the test."""
    path = folder / "file.dcm"
    path.write_bytes(content)
    began = time.process_time()
    try:
        records = list(DicomFolder(str(folder), slices=2).records())
    except MmmedError as error:  # it is no DICOM file any more
        assert "\n" not in str(error)
        return "no file"
    finally:
        assert time.process_time() - began < LONGEST
    (record,) = records
    if isinstance(record, Quarantined):
        assert record.reason
        assert "\n" not in record.reason
        return "set aside"
    checked = decodable([record])
    assert time.process_time() - began < LONGEST
    for bad in checked.quarantined:
        assert bad.reason
        assert "\n" not in bad.reason
    for example in checked.examples:
        check_pictures(example)
    check_volume(path)
    assert time.process_time() - began < LONGEST
    return "set aside" if checked.quarantined else "picture"


def check_pictures(example: Example) -> None:
    for image in example.images:
        assert isinstance(image, DicomImage)
        picture = image.open()
        dataset = read_dataset(image.path)
        assert picture.mode in ("L", "RGB")
        assert picture.size == (int(dataset.Columns), int(dataset.Rows))
        assert np.asarray(picture).dtype == np.uint8


def check_volume(path: Path) -> None:
    try:
        one = read_slice(path)
        (series,) = read_series([one])
        volume = read_volume(series)
    except MmmedError as error:
        assert "\n" not in str(error)
        return
    with dicom_faults(path):
        dataset = read_dataset(path)
        assert volume.values_DHW.shape == (one.frames, int(dataset.Rows), int(dataset.Columns))
    assert volume.values_DHW.dtype == np.float32
    assert all(np.isfinite(volume.spacing))


def example_file(*, frames: int = 1, colour: bool = False, compressed: bool = False) -> bytes:
    """A small file that has most of what readers look at."""
    dataset = FileDataset("", {}, file_meta=FileMetaDataset(), preamble=b"\0" * 128)
    dataset.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    dataset.file_meta.MediaStorageSOPClassUID = dataset.SOPClassUID = "1.2.840.10008.5.1.4.1.1.7"
    dataset.file_meta.MediaStorageSOPInstanceUID = dataset.SOPInstanceUID = "1.2.3.4.5"
    dataset.StudyInstanceUID, dataset.SeriesInstanceUID, dataset.PatientID = "1.2.3", "1.2.3.4", "P1"
    dataset.PatientAge, dataset.PatientSex, dataset.Modality, dataset.ViewPosition = "061Y", "F", "CR", "PA"
    dataset.InstanceNumber, dataset.BodyPartExamined = 1, "CHEST"
    dataset.PixelSpacing, dataset.SliceThickness = [0.5, 0.25], 2
    dataset.ImagePositionPatient, dataset.ImageOrientationPatient = [0, 0, 5], [1, 0, 0, 0, 1, 0]
    dataset.Rows, dataset.Columns, dataset.SamplesPerPixel = 16, 12, 3 if colour else 1
    dataset.PhotometricInterpretation = "RGB" if colour else "MONOCHROME1"
    if colour:
        dataset.PlanarConfiguration = 0
    if frames > 1:
        dataset.NumberOfFrames = frames
    kind = np.uint8 if colour else np.int16
    dataset.BitsAllocated = dataset.BitsStored = 8 * np.dtype(kind).itemsize
    dataset.HighBit, dataset.PixelRepresentation = dataset.BitsStored - 1, 0 if colour else 1
    dataset.WindowCenter, dataset.WindowWidth, dataset.RescaleSlope, dataset.RescaleIntercept = 40, [400, 80], 1, -1024
    if not colour:
        dataset.PixelPaddingValue = -2000
        table = Dataset()
        table.LUTDescriptor, table.LUTData = [256, 0, 16], (np.arange(256) * 257).astype("<u2").tobytes()
        dataset.VOILUTSequence = pydicom.Sequence([table])
    shape = (frames, 16, 12, 3) if colour else (frames, 16, 12)
    dataset.PixelData = (np.arange(np.prod(shape)) % 251).astype(kind).tobytes()
    dataset["PixelData"].VR = "OW"
    if compressed:
        dataset.compress(RLELossless, generate_instance_uid=False)
    file = BytesIO()
    dataset.save_as(file, enforce_file_format=True)
    return file.getvalue()


@functools.cache
def examples() -> list[bytes]:
    return [example_file(), example_file(frames=3), example_file(colour=True), example_file(frames=2, compressed=True)]


@settings(fuzzed, max_examples=300)
@given(number=st.integers(0, 3), changes=damages)
def test_a_damaged_file_is_a_picture_or_set_aside(tmp_path: Path, number: int, changes: list[Damage]) -> None:
    content = examples()[number]
    outcome(tmp_path, damaged(content, elements(content), changes))


def test_undamaged_files_are_pictures_and_damage_is_noticed(tmp_path: Path) -> None:
    assert [outcome(tmp_path, content) for content in examples()] == ["picture"] * 4
    content = examples()[0]
    known = elements(content)
    rows = next(place for place, one in enumerate(known) if content[one.start : one.start + 4] == b"\x28\0\x10\0")
    at_rows = (rows + 0.5) / len(known)
    assert outcome(tmp_path, damaged(content, known, [Damage("remove", at_rows, b"x")])) == "set aside"
    assert outcome(tmp_path, damaged(content, known, [Damage("overwrite", at_rows, b"\xff\xff")])) == "set aside"
    assert outcome(tmp_path, damaged(content, known, [Damage("cut", 0.97, b"x")])) == "set aside"
    assert outcome(tmp_path, b"\0" * 300) == "no file"


@pytest.mark.shared
@pytest.mark.slow
@pytest.mark.timeout(3600)
@settings(fuzzed, max_examples=2000)
@given(number=st.integers(0, 10_000), changes=damages)
def test_a_damaged_file_of_a_real_device_is_a_picture_or_set_aside(
    shared_data: Path, tmp_path: Path, number: int, changes: list[Damage]
) -> None:
    content, known = real_file(shared_data / "13_dicom", number)
    outcome(tmp_path, damaged(content, known, changes))


@functools.cache
def real_file(folder: Path, number: int) -> tuple[bytes, list[Element]]:
    # The largest films take a second each to decode, and are as the smaller ones.
    files = sorted((path for path in folder.rglob("*.dcm") if path.stat().st_size < 200_000), key=str)
    path = files[number % len(files)]
    return _content(path)


@functools.cache
def _content(path: Path) -> tuple[bytes, list[Element]]:
    content = path.read_bytes()
    return content, elements(content)
