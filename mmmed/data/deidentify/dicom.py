"""A DICOM file made safe: its header by table, its pixels by reading them, and nothing else changed."""

import os
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from PIL import Image
from pydicom.dataset import Dataset
from pydicom.uid import ExplicitVRLittleEndian

from mmmed.data.deidentify.audit import Audit
from mmmed.data.deidentify.burned_in import RULE, Box, find_text, picture_digest
from mmmed.data.deidentify.header_table import HeaderPolicy
from mmmed.data.deidentify.headers import clean_header, declare
from mmmed.data.deidentify.privacy import Mode
from mmmed.data.deidentify.surrogates import Surrogates
from mmmed.errors import ImageError, OutputError, PrivacyError
from mmmed.processing.dicom.frames import eight_bit_frame
from mmmed.processing.dicom.reading import check_size, dicom_faults, read_dataset

DEFAULT_POLICY = HeaderPolicy()


class Masked(NamedTuple):
    """What was painted over, by frame."""

    boxes: dict[int, list[Box]]


def deidentify_dicom(
    path: Path,
    output: Path,
    *,
    key: bytes,
    audit: Audit,
    policy: HeaderPolicy = DEFAULT_POLICY,
    mode: Mode = "rules",
) -> Masked:
    """Write a copy of a DICOM file without identifiers in header and pixels.

    Where text is burned in, the copy is uncompressed and the text is black; every pixel outside of the boxes keeps its
    stored value. Where there is none, the pixels are copied as they are, compressed or not.

    Args:
        path: The original.
        output: The copy.
        key: The secret of the surrogates.
        audit: Where redactions are noted.
        policy: Options of the profile.
        mode: How descriptors are read, where they are cleaned.

    Raises:
        ImageError: The original is broken.
        PrivacyError: It could not be made safe.
        OutputError: The copy cannot be written.
    """
    dataset = read_dataset(path)
    with dicom_faults(path):
        patient = str(dataset.get("PatientID") or dataset.get("PatientName") or dataset.get("StudyInstanceUID") or path)
        surrogates = Surrogates(key, patient=patient)
        record = Surrogates(key, patient="dicom").token("record", str(dataset.get("SOPInstanceUID") or path))
        masked = mask_pixels(dataset, audit=audit, path=path) if "PixelData" in dataset else Masked({})
        clean_header(dataset, surrogates, policy=policy, audit=audit, record=record, mode=mode)
        declare(dataset, "113101")
    _write(dataset, output)
    return masked


def mask_pixels(dataset: Dataset, *, audit: Audit, path: Path) -> Masked:
    """Paint text that is burned into the frames of a dataset black, in place.

    Raises:
        ImageError: A frame cannot be decoded.
        PrivacyError: Text was found in pixels of a kind that cannot be painted.
    """
    frames = check_size(dataset, path=path)
    boxes: dict[int, list[Box]] = {}
    for frame in range(frames):
        picture = Image.fromarray(eight_bit_frame(dataset, frame, window=None, path=path))
        found = find_text(picture)
        audit.picture(found, picture=picture_digest(picture), rule=RULE)
        if found:
            boxes[frame] = found
    if boxes:
        _paint(dataset, boxes, frames=frames)
        dataset.BurnedInAnnotation = "NO"
    return Masked(boxes)


def _paint(dataset: Dataset, boxes: dict[int, list[Box]], *, frames: int) -> None:
    if int(dataset.BitsAllocated) not in (8, 16, 32):
        raise PrivacyError(f"text is burned into pixels of {dataset.BitsAllocated} bits, which cannot be painted over")
    was_compressed = dataset.file_meta.TransferSyntaxUID.is_compressed
    if was_compressed:
        dataset.decompress(as_rgb=True, generate_instance_uid=False)
    pixels = _stored(dataset)
    stack = pixels if frames > 1 else pixels[None]
    black = _black(dataset, stack)
    for frame, found in boxes.items():
        for box in found:
            stack[frame, box.top : box.bottom, box.left : box.right] = black
    dataset.PixelData = stack.astype(stack.dtype.newbyteorder("<")).tobytes()
    dataset["PixelData"].VR = "OW" if int(dataset.BitsAllocated) > 8 else "OB"
    if len(dataset.PixelData) % 2:
        dataset.PixelData += b"\0"
    if int(dataset.get("SamplesPerPixel") or 1) > 1:
        dataset.PlanarConfiguration = 0
    dataset.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian


def _stored(dataset: Dataset) -> "np.ndarray[tuple[int, ...], np.dtype[np.generic]]":
    from pydicom.pixels.utils import pixel_array

    # As stored, without a change of colour space, so that what is not painted goes back as it came.
    return np.array(pixel_array(dataset, raw=True))


def _black(dataset: Dataset, stack: "np.ndarray[tuple[int, ...], np.dtype[np.generic]]") -> Any:
    kind = str(dataset.PhotometricInterpretation)
    if kind == "MONOCHROME1":
        return stack.max()
    if kind == "MONOCHROME2":
        return stack.min()
    if kind == "PALETTE COLOR":
        from pydicom.pixels.processing import apply_color_lut

        used = np.unique(stack)
        colours = np.asarray(apply_color_lut(used[None], dataset)).reshape(len(used), -1)
        return used[int(colours[:, :3].sum(axis=1).argmin())]
    if kind == "RGB":
        return 0
    if kind.startswith("YBR_FULL"):
        return np.array([0, 128, 128], dtype=stack.dtype)
    raise PrivacyError(f"text is burned into pixels of kind {kind}, which cannot be painted over")


def _write(dataset: Dataset, output: Path) -> None:
    partial = output.with_name(f".{output.name}.{os.getpid()}.tmp")
    try:
        output.parent.mkdir(parents=True, exist_ok=True)
        dataset.save_as(partial, enforce_file_format=True)
        partial.replace(output)
    except OSError as error:
        raise OutputError(f"cannot write {output} ({error.strerror}); choose another folder") from error
    except (ValueError, TypeError, AttributeError, KeyError, NotImplementedError) as error:
        raise ImageError(f"DICOM object cannot be written again ({type(error).__name__}); remove its record") from error
    finally:
        partial.unlink(missing_ok=True)
