"""What is sent is read as the project reads pictures everywhere, and bombs go off in a process of their own."""

from __future__ import annotations

import asyncio
import io
import json
import struct
import subprocess
import sys
import zlib
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import pydicom
import pytest
from PIL import Image
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import DeflatedExplicitVRLittleEndian, ExplicitVRLittleEndian, SecondaryCaptureImageStorage

from mmmed.errors import ConfigError, ImageError
from mmmed.processing.dicom.image import DicomImage
from mmmed.processing.dicom.windows import Window, apply_window
from mmmed.serving.refusals import Full, Gone
from mmmed.serving.uploads import reading
from mmmed.serving.uploads.folder import Room, Uploads
from mmmed.serving.uploads.reader import Reader
from mmmed.serving.uploads.reading import kind_of, read_upload

Result = TypeVar("Result")


def png(size: tuple[int, int] = (20, 10)) -> bytes:
    buffer = io.BytesIO()
    Image.linear_gradient("L").resize(size).save(buffer, "PNG")
    return buffer.getvalue()


def dicom(**values: Any) -> bytes:
    """A grey film of 12 bits whose patient has a name."""
    film = Dataset()
    film.file_meta = FileMetaDataset()
    film.file_meta.TransferSyntaxUID = values.pop("syntax", ExplicitVRLittleEndian)
    film.SOPClassUID = film.file_meta.MediaStorageSOPClassUID = SecondaryCaptureImageStorage
    film.SOPInstanceUID = film.file_meta.MediaStorageSOPInstanceUID = "1.2.3"
    film.PatientName, film.PatientID, film.StudyInstanceUID, film.Modality = "DOE^JANE", "MRN77", "1.2", "CT"
    film.Rows, film.Columns, film.SamplesPerPixel, film.PhotometricInterpretation = 8, 12, 1, "MONOCHROME1"
    film.BitsAllocated, film.BitsStored, film.HighBit, film.PixelRepresentation = 16, 12, 11, 0
    film.RescaleSlope, film.RescaleIntercept, film.WindowCenter, film.WindowWidth = 2, -1000, 40, 400
    frames = int(values.get("NumberOfFrames", 1))
    film.PixelData = (np.arange(96 * frames) * 7 % 4096).astype("<u2").tobytes()
    for name, value in values.items():
        setattr(film, name, value)
    buffer = io.BytesIO()
    pydicom.dcmwrite(buffer, film, enforce_file_format=True)
    return buffer.getvalue()


def bomb(side: int = 60_000) -> bytes:
    """A PNG of a few kilobytes that unpacks to gigabytes."""

    def chunk(kind: bytes, content: bytes) -> bytes:
        return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))

    header = struct.pack(">IIBBBBB", side, side, 8, 0, 0, 0, 0)
    return (
        b"\x89PNG\r\n\x1a\n"
        + chunk(b"IHDR", header)
        + chunk(b"IDAT", zlib.compress(bytes(10_000_000)))
        + chunk(b"IEND", b"")
    )


async def chunks(content: bytes, size: int = 50) -> AsyncIterator[bytes]:
    for start in range(0, len(content), size):
        yield content[start : start + size]


class Inside(Reader):
    """Reads in this process, which starts at once."""

    async def read(self, file: Path, folder: Path) -> dict[str, Any]:
        told = reading.answer(json.dumps({"file": str(file), "folder": str(folder)}))
        if "fault" in told:
            raise ImageError(told["fault"])
        return dict(json.loads(json.dumps(told["read"])))


def within(folder: Path, work: Callable[[Uploads], Awaitable[Result]], **settings: Any) -> Result:
    async def run() -> Result:
        async with Uploads(folder, **({"reader": Inside(0)} | settings)).keeping() as uploads:
            return await work(uploads)

    return asyncio.run(run())


def test_frames_are_those_that_training_would_see(tmp_path: Path) -> None:
    sent = tmp_path / "sent"
    sent.write_bytes(dicom(NumberOfFrames=3))
    about = read_upload(sent, tmp_path)
    assert (about["width"], about["height"], about["frames"], about["window"]) == (12, 8, [0, 1, 2], [40.0, 400.0])
    for frame in range(3):
        seen = np.asarray(Image.open(tmp_path / f"{frame}.png"))
        assert (seen == np.asarray(DicomImage(path=sent, frame=frame).open())).all()


def test_a_chosen_window_is_the_one_of_the_project(tmp_path: Path) -> None:
    async def work(uploads: Uploads) -> None:
        upload = await uploads.add(chunks(dicom()), owner="a")
        seen = np.asarray(upload.frame(0, Window(-600, 1500)).open())
        (tmp_path / "film.dcm").write_bytes(dicom())
        assert (seen == np.asarray(DicomImage(path=tmp_path / "film.dcm", window="lung").open())).all()
        own = np.asarray(upload.frame(0).open())
        assert not (seen == own).all()
        assert upload.frame(0).name != upload.frame(0, Window(-600, 1500)).name
        with pytest.raises(ImageError, match="no frame 1; 1 are kept"):
            upload.frame(1)

    within(tmp_path / "uploads", work)
    assert apply_window(np.zeros((1, 1), np.float32), Window(0, 2)).shape == (1, 1)


def test_identifiers_are_kept_from_pages(tmp_path: Path) -> None:
    async def work(uploads: Uploads) -> None:
        upload = await uploads.add(chunks(dicom()), owner="a")
        assert not {"DOE", "MRN77", "1.2"} & set(json.dumps(upload.about).replace("^", '"').split('"'))
        assert upload.identity()["PatientName"] == "DOE^JANE"
        assert (await uploads.add(chunks(png()), owner="a")).identity() == {}

    within(tmp_path / "uploads", work)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "no PNG, JPEG or DICOM"),
        (b"GIF89a" + bytes(300), "no PNG, JPEG or DICOM"),
        (b"<svg xmlns='http://www.w3.org/2000/svg'/>" + bytes(200), "no PNG, JPEG or DICOM"),
        (png()[:40], "damaged"),
        (b"\xff\xd8\xff" + bytes(300), "damaged"),
        (bomb(), "60000 x 60000 pixels; at most|damaged or too large"),
        (dicom(Rows=60_000, Columns=60_000), "claims"),
        (dicom(Rows=7000, Columns=7000), "7000 x 7000 pixels; at most"),
        (dicom(NumberOfFrames=100_000, PixelData=bytes(192)), "claims 100000 frame"),
        (dicom(syntax=DeflatedExplicitVRLittleEndian), "deflated"),
        (dicom(PixelData=bytes(10)), "cannot be read"),
        (bytes(128) + b"DICM", "cannot be read|no element|no usable"),
    ],
)
def test_what_is_no_picture_or_too_large_is_one_line(content: bytes, message: str, tmp_path: Path) -> None:
    async def work(uploads: Uploads) -> None:
        with pytest.raises(ImageError, match=message) as raised:
            await uploads.add(chunks(content), owner="a")
        assert str(tmp_path) not in str(raised.value)
        assert "\n" not in str(raised.value)
        assert [path.name for path in uploads.folder.iterdir()] == [".lock"]

    within(tmp_path / "uploads", work)


@pytest.mark.parametrize(("start", "kind"), [(png(), "PNG"), (b"\xff\xd8\xff\xe0", "JPEG"), (dicom()[:132], "DICOM")])
def test_the_kind_is_told_by_the_content(start: bytes, kind: str) -> None:
    assert kind_of(start[:132]) == kind
    assert kind_of(b"x" + start) is None


def test_an_upload_is_its_owners_and_ends(tmp_path: Path) -> None:
    now = [0.0]

    async def work(uploads: Uploads) -> None:
        upload = await uploads.add(chunks(png()), owner="account:ruth")
        folder = upload.folder
        assert oct(folder.stat().st_mode & 0o777) == "0o700"
        assert oct(upload.original.stat().st_mode & 0o777) == "0o600"
        assert folder.parent == uploads.folder and len(upload.code) == 24
        for code, owner in ((upload.code, "account:max"), ("x" * 24, "account:ruth"), ("../..", "account:ruth")):
            with pytest.raises(Gone, match="no such picture any more"):
                uploads.get(code, owner=owner)
        now[0] = 50
        uploads.get(upload.code, owner="account:ruth")
        now[0] = 140
        uploads.expire()
        assert folder.exists(), "looked at 90 s ago"
        now[0] = 151
        uploads.expire()
        assert not folder.exists()
        with pytest.raises(Gone):
            uploads.get(upload.code, owner="account:ruth")

    within(tmp_path / "uploads", work, room=Room(seconds=100), clock=lambda: now[0])


def test_there_is_room_for_so_much_and_no_more(tmp_path: Path) -> None:
    async def work(uploads: Uploads) -> None:
        for _ in range(2):
            await uploads.add(chunks(png()), owner="a")
        with pytest.raises(Full, match="you have 2 pictures"):
            await uploads.add(chunks(png()), owner="a")
        with pytest.raises(ImageError, match="larger than 0 MB"):
            await uploads.add(chunks(png() + bytes(3000)), owner="b")
        await uploads.add(chunks(png()), owner="b")
        uploads.room = Room(total_bytes=10)
        with pytest.raises(Full, match="no room for more"):
            await uploads.add(chunks(png()), owner="c")
        assert len(list(uploads.folder.iterdir())) == 4

    within(tmp_path / "uploads", work, room=Room(uploads=2, bytes=3000))


def test_what_a_killed_server_left_is_removed_and_nothing_else(tmp_path: Path) -> None:
    folder = tmp_path / "uploads"
    left = folder / ("a" * 24 + ".part")
    left.mkdir(parents=True)
    (left / "sent").write_bytes(b"half")

    async def nothing(uploads: Uploads) -> None:
        assert not left.exists()
        with pytest.raises(ConfigError, match="another server keeps its uploads"):
            async with Uploads(folder, reader=Inside(0)).keeping():
                pass

    within(folder, nothing)
    (folder / "thesis.txt").write_text("mine")
    with pytest.raises(ConfigError, match=r"thesis.txt is no upload"):
        within(folder, nothing)
    assert (folder / "thesis.txt").is_file()


@pytest.mark.slow
def test_the_process_that_reads_is_limited_and_replaced(tmp_path: Path) -> None:
    async def work(uploads: Uploads) -> None:
        first = await uploads.add(chunks(dicom(), 10**6), owner="a")
        assert first.about["kind"] == "DICOM"
        reader = uploads._reader
        (process,) = reader._all
        assert process._running is not None
        limits = Path(f"/proc/{process._running.pid}/limits").read_text()
        assert f"{reading.MEMORY}" in limits.partition("Max address space")[2].splitlines()[0]
        environment = Path(f"/proc/{process._running.pid}/environ").read_bytes()
        assert b"MMMED_TOKEN" not in environment
        process._running.kill()
        with pytest.raises(ImageError, match="breaks its decoder"):
            await uploads.add(chunks(png(), 10**6), owner="a")
        assert (await uploads.add(chunks(png(), 10**6), owner="a")).about["kind"] == "PNG"
        reader._seconds = 0.0
        with pytest.raises(ImageError, match="takes longer than 0 s"):
            await uploads.add(chunks(png((2000, 2000)), 10**6), owner="a")

    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MMMED_TOKEN", "a" * 32)
        within(tmp_path / "uploads", work, reader=Reader(1))


@pytest.mark.slow
def test_memory_of_the_process_is_bounded(tmp_path: Path) -> None:
    asked = "import resource, sys; from mmmed.serving.uploads import reading; reading.MEMORY = 2**27; reading.main()"
    sent = tmp_path / "sent"
    sent.write_bytes(png((5900, 5900)))
    done = subprocess.run(
        [sys.executable, "-c", asked],
        input=json.dumps({"file": str(sent), "folder": str(tmp_path)}) + "\n",
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert "read" not in (json.loads(done.stdout) if done.stdout.strip() else {"fault": done.returncode})
