"""Whatever is sent, the server answers: no status 500, no hang, nothing outside the folder of uploads."""

from __future__ import annotations

import asyncio
import io
import random
import time
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import numpy as np
import pydicom
import pytest
from PIL import Image
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import ExplicitVRLittleEndian, ImplicitVRLittleEndian, RLELossless, SecondaryCaptureImageStorage

from mmmed.errors import MmmedError
from mmmed.serving.answering.served import Served
from mmmed.serving.demo.part import demo_part
from mmmed.serving.monitoring.study_log import StudyLog
from mmmed.serving.openai import interface_part
from mmmed.serving.uploads.folder import CODE, Room, Uploads
from mmmed.serving.web.application import make_application
from mmmed.serving.web.seen import SeenLog
from mmmed.serving.web.settings import Settings

LONG = (pytest.mark.long, pytest.mark.timeout(3600))
SLOWEST_S = 30.0
"""Of one request or file on a machine that does other things; what hangs takes longer than any patience."""


def pictures() -> list[bytes]:
    """One sound file of each kind."""
    gradient = Image.linear_gradient("L").resize((48, 40))
    made = []
    for picture, kind in ((gradient, "PNG"), (gradient.convert("P"), "PNG"), (gradient.convert("RGB"), "JPEG")):
        buffer = io.BytesIO()
        picture.save(buffer, kind)
        made.append(buffer.getvalue())
    return [*made, film(ExplicitVRLittleEndian), film(ImplicitVRLittleEndian), film(RLELossless), colour()]


def film(syntax: str) -> bytes:
    made = header(syntax)
    made.PhotometricInterpretation, made.SamplesPerPixel = "MONOCHROME2", 1
    made.BitsAllocated, made.BitsStored, made.HighBit = 16, 12, 11
    values = (np.arange(3 * 12 * 16) * 7 % 4096).astype("<u2").reshape(3, 12, 16)
    made.NumberOfFrames, made.PixelData = 3, values.tobytes()
    if syntax == RLELossless:
        made.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
        made.compress(RLELossless, values)
    return written(made)


def colour() -> bytes:
    made = header(ExplicitVRLittleEndian)
    made.PhotometricInterpretation, made.SamplesPerPixel, made.PlanarConfiguration = "RGB", 3, 0
    made.BitsAllocated, made.BitsStored, made.HighBit = 8, 8, 7
    made.PixelData = bytes(12 * 16 * 3)
    return written(made)


def header(syntax: str) -> Dataset:
    made = Dataset()
    made.file_meta = FileMetaDataset()
    made.file_meta.TransferSyntaxUID = syntax
    made.SOPClassUID = made.file_meta.MediaStorageSOPClassUID = SecondaryCaptureImageStorage
    made.SOPInstanceUID = made.file_meta.MediaStorageSOPInstanceUID = "1.2.3"
    made.PatientName, made.Modality, made.Rows, made.Columns, made.PixelRepresentation = "DOE^J", "CR", 12, 16, 0
    made.WindowCenter, made.WindowWidth = [40, 50], [400, 500]
    return made


def written(made: Dataset) -> bytes:
    buffer = io.BytesIO()
    pydicom.dcmwrite(buffer, made, enforce_file_format=True)
    return buffer.getvalue()


def damaged(content: bytes, chance: random.Random) -> bytes:
    """The same file with one to four faults: bits and bytes changed, parts cut out, doubled, or of another place."""
    made = bytearray(content)
    for _ in range(chance.randint(1, 4)):
        # The beginnings of files are where sizes and kinds stand.
        reach = len(made) if chance.random() < 0.5 else min(len(made), 600)
        place = chance.randrange(max(1, reach))
        length = chance.choice([1, 2, 4, 16, 200])
        kind = chance.randrange(6)
        if kind == 0:
            made[place : place + 1] = bytes([chance.randrange(256)])
        elif kind == 1:
            made[place : place + length] = bytes(chance.choice([0, 255]) for _ in range(length))
        elif kind == 2:
            del made[place : place + length]
        elif kind == 3:
            made[place:place] = made[place : place + length] * chance.choice([1, 3, 50])
        elif kind == 4:
            del made[place:]
        else:
            other = chance.randrange(len(content))
            made[place : place + length] = content[other : other + length]
    return bytes(made)


def send_damaged(folder: Path, reader: Any, *, files: int, seed: int) -> tuple[int, int]:
    """How many damaged files were read, and how many refused."""
    chance, sound = random.Random(seed), pictures()

    async def chunks(content: bytes) -> AsyncIterator[bytes]:
        half = len(content) // 2
        yield content[:half]
        yield content[half:]

    async def send() -> tuple[int, int]:
        read = refused = 0
        room = Room(uploads=10**6)
        async with Uploads(folder / "uploads", room=room, reader=reader).keeping() as uploads:
            for content in sound:
                await uploads.add(chunks(content), owner="a")
            for number in range(files):
                content, started = damaged(sound[number % len(sound)], chance), time.monotonic()
                try:
                    upload = await uploads.add(chunks(content), owner="a")
                    for place in range(len(upload.about["frames"])):
                        assert upload.frame(place).open().mode in ("L", "RGB")
                    uploads.remove(upload.code, owner="a")
                    read += 1
                except MmmedError as error:
                    refused += 1
                    assert "\n" not in str(error) and "DOE" not in str(error) and str(folder) not in str(error)
                assert time.monotonic() - started < SLOWEST_S
            left = {path.name for path in uploads.folder.iterdir()} - {".lock"}
            assert len(left) == len(sound) and all(CODE.fullmatch(name) for name in left)
        return read, refused

    found = asyncio.run(send())
    assert sorted(path.name for path in folder.iterdir()) == ["uploads"]
    assert [path.name for path in (folder / "uploads").iterdir()] == [".lock"]
    return found


@pytest.mark.parametrize("files", [210, pytest.param(2800, marks=LONG)])
def test_damaged_pictures_are_read_or_refused(tmp_path: Path, uploads: Any, files: int) -> None:
    read, refused = send_damaged(tmp_path, uploads._reader, files=files, seed=files)
    print(f"{read} damaged files were read, {refused} refused")
    assert read + refused == files
    assert refused > files // 5


@pytest.fixture
def address(served: Served, uploads: Any, seen: SeenLog, studies: StudyLog, serve: Callable[[Any], str]) -> str:
    """A server that limits nobody, since one visitor asks thousands of times."""
    settings = Settings(asks_at_once=10**6, uploads_at_once=10**6)
    uploads.room = Room(uploads=10**6)
    parts = [interface_part(served, uploads, seen), demo_part(served, uploads, seen, studies)]
    return serve(make_application(settings, parts))


@pytest.mark.slow
@pytest.mark.parametrize("examples", [8, pytest.param(150, marks=LONG)])
def test_requests_of_any_form_get_an_answer(address: str, examples: int, tmp_path: Path) -> None:
    import schemathesis
    from hypothesis import HealthCheck, Phase, given, settings
    from schemathesis import GenerationMode

    schema = schemathesis.openapi.from_url(f"{address}/openapi.json")
    answers: dict[int, int] = {}
    for found in schema.get_all_operations():
        operation = found.ok()
        for mode in GenerationMode:
            checks = settings(
                max_examples=examples,
                deadline=None,
                derandomize=True,
                database=None,
                phases=[Phase.explicit, Phase.generate],
                suppress_health_check=list(HealthCheck),
            )

            @checks
            @given(case=operation.as_strategy(generation_mode=mode))
            def sent(case: Any) -> None:
                answer = case.call(base_url=address, timeout=SLOWEST_S)
                answers[answer.status_code] = answers.get(answer.status_code, 0) + 1
                told = answer.content.decode("utf-8", "replace")
                # Streams answer 200 before the model does.
                assert answer.status_code < 500, (case.method, case.path, answer.status_code)
                assert "Traceback" not in told and str(tmp_path) not in told

            try:
                sent()
            except Exception as error:
                if type(error).__name__ not in ("Unsatisfiable", "InvalidArgument"):
                    raise
    print(f"answers by status: {dict(sorted(answers.items()))}, {sum(answers.values())} in all")
    assert answers.get(200, 0) > 0 and answers.get(422, 0) > 0
