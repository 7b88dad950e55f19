"""The program that reads what was sent: the only one that looks inside, in a process with little memory and time.

The server never decodes a stranger's file. This program does, writes plain pictures and values beside it, and says what
it found in a line of JSON. Whatever a file does to it (memory, time, a fault of a decoder) ends this process and no
other.

    python -m mmmed.serving.uploads.reading

Each line of its input is ``{"file": PATH, "folder": PATH}``, each line of its output a description, or what is wrong.
"""

from __future__ import annotations

import contextlib
import json
import resource
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from PIL import Image

from mmmed.errors import ImageError
from mmmed.processing.dicom.frames import eight_bit_frame, modality_values, own_window
from mmmed.processing.dicom.reading import check_size, dicom_faults, read_dataset
from mmmed.processing.image import decode
from mmmed.processing.volume import evenly

if TYPE_CHECKING:
    from pydicom.dataset import Dataset

Kind = Literal["PNG", "JPEG", "DICOM"]

MOST_PIXELS = 36_000_000
"""Pixels of a picture, and of all frames that are kept of one file: twice a mammogram."""
MOST_FRAMES = 32
"""Frames that are kept of a file, at even distances."""
MEMORY = 3 * 2**30
"""Bytes of address space that reading may take."""
FILE_BYTES = 512 * 2**20
"""Bytes of one file that reading may write."""
HEAD = 132
"""Bytes from which the kind of a file is told."""

_DEFLATED = "1.2.840.10008.1.2.1.99"
_GREY = ("MONOCHROME1", "MONOCHROME2")
IDENTIFIERS = (
    "PatientID",
    "PatientName",
    "PatientBirthDate",
    "PatientSex",
    "StudyInstanceUID",
    "SeriesInstanceUID",
    "SOPInstanceUID",
    "SOPClassUID",
    "AccessionNumber",
    "StudyDate",
    "StudyID",
)


def kind_of(head: bytes) -> Kind | None:
    """What a file is, by its first bytes and not by its name; None for what is not taken."""
    if head.startswith(b"\x89PNG\r\n\x1a\n"):
        return "PNG"
    if head.startswith(b"\xff\xd8\xff"):
        return "JPEG"
    return "DICOM" if head[128:132] == b"DICM" else None


def read_upload(file: Path, folder: Path) -> dict[str, Any]:
    """Write a file's frames into a folder, `0.png` … as they are shown and `0.npy` … as they were measured.

    Identifiers of a DICOM file go into `identity.json` and, with all of its header, `header.dcm`, which are for whoever
    signs, and nowhere else.

    Returns:
        What a page may know: kind, size, frames, and for grey DICOM the range of values and the file's own window.

    Raises:
        ImageError: It cannot be read, or is larger than pictures are.
    """
    with file.open("rb") as opened:
        kind = kind_of(opened.read(HEAD))
    if kind is None:
        raise ImageError("this is no PNG, JPEG or DICOM file; convert it first")
    if kind == "DICOM":
        return _read_dicom(file, folder)
    picture = _decode(file, kind)
    picture.save(folder / "0.png", compress_level=1)
    return {"kind": kind, "width": picture.width, "height": picture.height, "frames": [0]}


def _decode(file: Path, kind: Kind) -> Image.Image:
    try:
        with Image.open(file, formats=[kind]) as header:
            if header.width * header.height > MOST_PIXELS:
                raise ImageError(
                    f"the picture has {header.width} x {header.height} pixels; at most {MOST_PIXELS} are read"
                )
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
        raise ImageError(f"the {kind} file is damaged or too large; send another") from error
    return decode(file, name="the picture")


def _read_dicom(file: Path, folder: Path) -> dict[str, Any]:
    _refuse_deflated(file)
    dataset = read_dataset(file)
    with dicom_faults(file):
        frames = check_size(dataset, path=file)
        rows, columns = int(dataset.Rows), int(dataset.Columns)
        kept = list(evenly(frames, min(frames, MOST_FRAMES, max(1, MOST_PIXELS // (rows * columns)))))
        if rows * columns > MOST_PIXELS:
            raise ImageError(f"the picture has {columns} x {rows} pixels; at most {MOST_PIXELS} are read")
        is_grey = str(dataset.get("PhotometricInterpretation", "")) in _GREY
        low, high = np.inf, -np.inf
        for place, frame in enumerate(kept):
            shown = eight_bit_frame(dataset, frame, window=None, path=file)
            if shown.shape[:2] != (rows, columns):
                raise ImageError(
                    f"the pixels are {shown.shape[1]} x {shown.shape[0]}, the header says {columns} x {rows}"
                )
            Image.fromarray(shown).save(folder / f"{place}.png", compress_level=1)
            if is_grey:
                values = modality_values(dataset, frame)
                np.save(folder / f"{place}.npy", values)
                finite = values[np.isfinite(values)]
                if finite.size:
                    low, high = min(low, float(finite.min())), max(high, float(finite.max()))
        described: dict[str, Any] = {
            "kind": "DICOM",
            "width": columns,
            "height": rows,
            "frames": kept,
            "frames_in_file": frames,
            "modality": _code(dataset, "Modality"),
        }
        if is_grey and high >= low:
            window = own_window(dataset, kept[0])
            described |= {
                "range": [low, high],
                "window": [window.center, window.width] if window else None,
                "is_inverted": str(dataset.PhotometricInterpretation) == "MONOCHROME1",
            }
        identity = {name: _text(dataset, name) for name in IDENTIFIERS}
        del dataset["PixelData"]
        dataset.save_as(folder / "header.dcm", enforce_file_format=True)
    (folder / "identity.json").write_text(json.dumps(identity), encoding="utf-8")
    return described


def _refuse_deflated(file: Path) -> None:
    """Refuse a file that unpacks to any size; it is told by its header, which is never packed."""
    from pydicom.filereader import read_file_meta_info

    with dicom_faults(file):
        syntax = str(read_file_meta_info(file).get("TransferSyntaxUID", ""))
    if syntax == _DEFLATED:
        raise ImageError("the DICOM file is deflated as a whole, which can unpack to any size; send it uncompressed")


def _code(dataset: Dataset, name: str) -> str:
    """A coded value of two to sixteen capitals, which holds no identifier; nothing where it is anything else."""
    value = _text(dataset, name)
    return value if value.isascii() and value.isalpha() and value.isupper() and len(value) <= 16 else ""


def _text(dataset: Dataset, name: str) -> str:
    value = "".join(letter for letter in str(dataset.get(name) or "") if letter.isprintable())
    return value[:256]


def answer(line: str) -> dict[str, Any]:
    """What is said to one line of input."""
    asked = json.loads(line)
    file, folder = Path(asked["file"]), Path(asked["folder"])
    try:
        return {"read": read_upload(file, folder)}
    except ImageError as error:
        return {"fault": str(error).replace(str(file), "sent").replace("; fetch it again or remove its record", "")}
    except MemoryError:
        return {"fault": "the picture takes more memory than reading may; make it smaller"}


def main() -> None:
    """Answer line by line until the input ends."""
    for limit, value in (
        (resource.RLIMIT_AS, MEMORY),
        (resource.RLIMIT_FSIZE, FILE_BYTES),
        (resource.RLIMIT_CORE, 0),
        (resource.RLIMIT_NOFILE, 64),
    ):
        resource.setrlimit(limit, (value, value))
    # What a library prints must not be taken for an answer.
    answers, sys.stdout = sys.stdout, sys.stderr
    with contextlib.suppress(KeyboardInterrupt):
        for line in sys.stdin:
            print(json.dumps(answer(line), allow_nan=False), file=answers, flush=True)


if __name__ == "__main__":
    main()
