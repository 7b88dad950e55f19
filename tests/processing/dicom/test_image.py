"""Stored samples become the picture a radiologist would see."""

import random
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pydicom
import pytest
from PIL import Image
from pydicom.dataset import Dataset
from pydicom.pixels import apply_voi_lut

from mmmed.errors import ConfigError, ImageError
from mmmed.processing.dicom import CT_WINDOWS, DicomImage, attributes, dicom_faults, read_dataset
from mmmed.processing.dicom.windows import Window, apply_window

MakeDicom = Callable[..., Path]
RAMP = np.arange(256, dtype=np.uint8).reshape(16, 16)


def pixels(path: Path, **settings: object) -> np.ndarray:
    return np.asarray(DicomImage(path=path, **settings).open())  # type: ignore[arg-type]


def test_eight_bit_grey_passes_unchanged_and_monochrome1_is_inverted(make_dicom: MakeDicom) -> None:
    assert np.array_equal(pixels(make_dicom("a", RAMP)), RAMP)
    assert np.array_equal(pixels(make_dicom("b", RAMP, PhotometricInterpretation="MONOCHROME1")), 255 - RAMP)


def test_a_window_is_applied_in_the_units_of_the_modality(make_dicom: MakeDicom) -> None:
    hounsfield = np.linspace(-1200, 1400, 256).round().astype(np.int16).reshape(16, 16)
    path = make_dicom("ct", hounsfield + 1024, RescaleSlope=1, RescaleIntercept=-1024, WindowCenter=40, WindowWidth=80)
    assert np.array_equal(pixels(path), pixels(path, window="brain"))
    lung = pixels(path, window="lung")
    low, high = -600 - 750, -600 + 750
    assert (lung[hounsfield >= high] == 255).all()
    middle = abs(hounsfield.astype(float) - (low + high) / 2).argmin()
    assert abs(int(lung.flat[middle]) - 128) <= 2
    with pytest.raises(ConfigError, match=r"unknown CT window 'lungs' .did you mean 'lung'"):
        pixels(path, window="lungs")


@pytest.mark.parametrize("shape", ["LINEAR", "LINEAR_EXACT", "SIGMOID"])
def test_windows_agree_with_pydicom(shape: str) -> None:
    dataset = Dataset()
    dataset.PhotometricInterpretation, dataset.BitsStored, dataset.PixelRepresentation = "MONOCHROME2", 8, 0
    dataset.WindowCenter, dataset.WindowWidth, dataset.VOILUTFunction = 120, 60, shape
    expected = apply_voi_lut(RAMP, dataset)
    assert abs(apply_window(RAMP.astype(np.float32), Window(120, 60, shape)) - expected).max() <= 1  # type: ignore[arg-type]


def test_a_lookup_table_goes_before_a_window(make_dicom: MakeDicom) -> None:
    table = Dataset()
    table.LUTDescriptor, table.LUTData = [256, 0, 16], (np.arange(255, -1, -1) * 257).astype("<u2").tobytes()
    path = make_dicom("lut", RAMP, VOILUTSequence=pydicom.Sequence([table]), WindowCenter=10, WindowWidth=3)
    assert np.array_equal(pixels(path), 255 - RAMP)


def test_padding_does_not_take_part_in_the_stretching(make_dicom: MakeDicom) -> None:
    deep = np.tile(np.linspace(0, 1000, 64), (64, 1)).astype(np.int16)
    padded = deep.copy()
    padded[:8] = -2000
    plain = pixels(make_dicom("a", deep))
    filled = pixels(make_dicom("b", padded, PixelPaddingValue=-2000))
    assert abs(filled[8:].astype(int) - plain[8:]).max() <= 1
    assert (filled[:8] == 0).all()


def test_frames_of_an_enhanced_object_have_windows_of_their_own(make_dicom: MakeDicom) -> None:
    groups = []
    for center in (50, 150):
        window = Dataset()
        window.WindowCenter, window.WindowWidth = center, 20
        group = Dataset()
        group.FrameVOILUTSequence = pydicom.Sequence([window])
        groups.append(group)
    path = make_dicom("mf", np.stack([RAMP, RAMP]), PerFrameFunctionalGroupsSequence=pydicom.Sequence(groups))
    first, second = pixels(path, frame=0), pixels(path, frame=1)
    assert (first[RAMP > 62] == 255).all()
    assert (second[RAMP < 138] == 0).all()
    with pytest.raises(ImageError, match="has no frame 2; it holds 2"):
        pixels(path, frame=2)


def test_colour_stays_colour(make_dicom: MakeDicom) -> None:
    colour = np.random.default_rng(0).integers(0, 255, (8, 9, 3), dtype=np.uint8)
    assert np.array_equal(pixels(make_dicom("rgb", colour)), colour)
    planar = make_dicom("planar", colour)
    dataset = pydicom.dcmread(planar)
    dataset.PlanarConfiguration, dataset.PixelData = 1, colour.transpose(2, 0, 1).tobytes()
    dataset.save_as(planar)
    assert np.array_equal(pixels(planar), colour)


def test_ybr_becomes_rgb(make_dicom: MakeDicom) -> None:
    picture = Image.radial_gradient("L").convert("RGB").resize((16, 16))
    path = make_dicom("ybr", np.asarray(picture.convert("YCbCr")), PhotometricInterpretation="YBR_FULL")
    assert abs(pixels(path).astype(int) - np.asarray(picture)).max() <= 3


def test_a_palette_is_looked_up(make_dicom: MakeDicom) -> None:
    values: dict[str, object] = {"PhotometricInterpretation": "PALETTE COLOR"}
    for number, colour in enumerate(("Red", "Green", "Blue")):
        values[f"{colour}PaletteColorLookupTableDescriptor"] = [256, 0, 16]
        table = (np.arange(256) * (number + 1) % 256 * 257).astype("<u2")
        values[f"{colour}PaletteColorLookupTableData"] = table.tobytes()
    found = pixels(make_dicom("palette", RAMP, **values))
    assert found.shape == (16, 16, 3)
    assert np.array_equal(found[..., 1], (RAMP.astype(int) * 2 % 256).astype(np.uint8))


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"", "is empty"),
        (b"no dicom at all", "cannot be read"),
        (b"\0" * 128 + b"DICM", "cannot be read|holds no element"),
    ],
)
def test_a_broken_file_is_one_line(tmp_path: Path, content: bytes, reason: str) -> None:
    (tmp_path / "x.dcm").write_bytes(content)
    with pytest.raises(ImageError, match=reason):
        pixels(tmp_path / "x.dcm")
    with pytest.raises(ImageError, match="is missing"):
        pixels(tmp_path / "y.dcm")


def test_a_panic_of_a_decoder_is_one_line_and_an_interruption_is_none(tmp_path: Path) -> None:
    panic = type("PanicException", (BaseException,), {"__module__": "pyo3_runtime"})
    with pytest.raises(ImageError, match=r"cannot be read \(index out of bounds\)"), dicom_faults(tmp_path):
        raise panic("index out of bounds")
    with pytest.raises(KeyboardInterrupt), dicom_faults(tmp_path):
        raise KeyboardInterrupt


def test_absurd_sizes_are_refused_before_memory_is_taken(make_dicom: MakeDicom) -> None:
    path = make_dicom("bomb", RAMP)
    dataset = pydicom.dcmread(path)
    dataset.Rows = dataset.Columns = 65535
    dataset.save_as(path)
    with pytest.raises(ImageError, match=r"claims 1 frame.s. of 65535 x 65535"):
        pixels(path)


def test_mutated_files_end_in_a_picture_or_one_line(make_dicom: MakeDicom, tmp_path: Path) -> None:
    original = bytearray(make_dicom("good", RAMP, RescaleSlope=2, WindowCenter=100, WindowWidth=90).read_bytes())
    chance = random.Random(0)
    outcomes = set()
    for _ in range(400):
        mutated = bytearray(original)
        for _ in range(chance.randint(1, 12)):
            mutated[chance.randrange(128, len(mutated))] = chance.randrange(256)
        if chance.random() < 0.2:
            del mutated[chance.randrange(132, len(mutated)) :]
        (tmp_path / "mutated").write_bytes(mutated)
        try:
            assert DicomImage(path=tmp_path / "mutated").open().mode in ("L", "RGB")
            outcomes.add("picture")
        except ImageError as error:
            assert "\n" not in str(error)
            outcomes.add("error")
    assert outcomes == {"picture", "error"}


def test_attributes_are_facts_or_absent(make_dicom: MakeDicom) -> None:
    path = make_dicom(
        "a",
        RAMP,
        Modality="CR",
        PatientAge="018M",
        PatientSex="F",
        ViewPosition="PA",
        ImageLaterality="L",
        PixelSpacing=[0.2, 0.3],
        ImageOrientationPatient=[1, 0, 0, 0, 0, -1],
        PatientName="Somebody",
    )
    assert attributes(read_dataset(path), path=path) == {
        "modality": "CR",
        "view": "PA",
        "laterality": "L",
        "sex": "F",
        "age": 1.5,
        "orientation": "coronal",
        "row_spacing": 0.2,
        "column_spacing": 0.3,
    }
    # Some files break the rule that an age has a unit.
    bare = make_dicom("b", RAMP, PixelSpacing=[0, 0], ImagerPixelSpacing=[0.1, 0.1], PatientSex="", PatientAge="061Y")
    bare.write_bytes(bare.read_bytes().replace(b"061Y", b"  81"))
    found = attributes(read_dataset(bare), path=bare)
    assert found == {"age": 81.0, "detector_row_spacing": 0.1, "detector_column_spacing": 0.1}


def test_every_named_window_has_a_width() -> None:
    assert all(window.width > 1 for window in CT_WINDOWS.values())


@pytest.mark.shared
def test_real_files_of_every_kind_are_read(shared_data: Path) -> None:
    sizes = {path.name: DicomImage(path=path).open() for path in sorted((shared_data / "13_dicom").rglob("*.dcm"))}
    assert len(sizes) == 15
    assert sizes["us_color_j2k.dcm"].mode == sizes["us_palette_rle.dcm"].mode == "RGB"
    assert sizes["cxr_RG1_cr_monochrome1_j2k.dcm"].size == (1841, 1955)
    film = np.asarray(sizes["cxr_RG1_cr_monochrome1_j2k.dcm"])
    middle, edge = film[900:1000, 850:950].mean(), film[900:1000, 400:500].mean()
    assert middle > edge  # the spine is brighter than the lung
