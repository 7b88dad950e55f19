import io
from pathlib import Path

import pyarrow
import pytest
from PIL import Image
from pyarrow import parquet

from mmmed.data.parquet import ParquetImage, read_parquet
from mmmed.errors import DataError, ImageError


def png(shade: int) -> bytes:
    buffer = io.BytesIO()
    Image.new("L", (5, 4), shade).save(buffer, format="PNG")
    return buffer.getvalue()


def write(path: Path, pictures: list[object]) -> Path:
    table = pyarrow.table({"image": pictures, "question": [f"q{number}" for number in range(len(pictures))]})
    parquet.write_table(table, path, row_group_size=2)
    return path


@pytest.mark.parametrize("wrapped", [False, True])
def test_pictures_are_found_again_in_their_row_group(tmp_path: Path, wrapped: bool) -> None:
    pictures = [png(shade) for shade in (10, 20, 30)]
    path = write(tmp_path / "a.parquet", [{"bytes": one, "path": None} for one in pictures] if wrapped else pictures)
    rows = list(read_parquet([path], columns=("question",)))
    assert [(row.text("question"), row.whole("_group"), row.whole("_row")) for row in rows] == [
        ("q0", 0, 0),
        ("q1", 0, 1),
        ("q2", 1, 0),
    ]
    assert rows[2].place == "a.parquet[1, 0]"
    images = [ParquetImage(path, "image", row.whole("_group"), row.whole("_row")) for row in rows]
    assert [image.open().getpixel((0, 0)) for image in images] == [10, 20, 30]
    assert len({image.name for image in images}) == 3


def test_missing_and_damaged_pictures_are_image_errors(tmp_path: Path) -> None:
    path = write(tmp_path / "a.parquet", [None, b"no picture"])
    for row, message in ((0, "is empty"), (1, "is no picture"), (2, "is empty")):
        with pytest.raises(ImageError, match=message):
            ParquetImage(path, "image", 0, row).open()
    for image in (ParquetImage(tmp_path / "gone.parquet", "image", 0, 0), ParquetImage(path, "image", 7, 0)):
        with pytest.raises(ImageError, match="cannot be read"):
            image.open()


def test_files_that_are_no_parquet_or_lack_a_column_are_refused(tmp_path: Path) -> None:
    (tmp_path / "b.parquet").write_bytes(b"PAR1 no table PAR1")
    with pytest.raises(DataError, match=r"b\.parquet cannot be read as parquet .*; fetch it again"):
        list(read_parquet([tmp_path / "b.parquet"], columns=("question",)))
    path = write(tmp_path / "a.parquet", [b""])
    with pytest.raises(DataError, match=r"lacks the column\(s\) 'answer'; it has 'image', 'question'"):
        list(read_parquet([path], columns=("answer",)))
