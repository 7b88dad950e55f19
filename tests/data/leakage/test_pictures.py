from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from mmmed.data.leakage.pictures import fingerprint, thumbnail, thumbnails
from mmmed.errors import OutputError
from mmmed.processing.image import ImageFile


def film(path: Path, shade: int = 0) -> ImageFile:
    Image.linear_gradient("L").rotate(shade).save(path)
    return ImageFile(path)


def test_a_thumbnail_is_square_and_grey() -> None:
    assert thumbnail(Image.new("RGB", (300, 20), (255, 0, 0))).shape == (64, 64)


def test_the_same_pixels_have_the_same_fingerprint_however_they_are_saved(tmp_path: Path) -> None:
    grey = Image.linear_gradient("L")
    grey.save(tmp_path / "a.png")
    grey.convert("RGB").save(tmp_path / "b.bmp")
    first, second = (ImageFile(tmp_path / name).open() for name in ("a.png", "b.bmp"))
    assert fingerprint(first) == fingerprint(second) != fingerprint(grey.rotate(90))


def test_what_cannot_be_decoded_is_named_with_its_reason(tmp_path: Path) -> None:
    (tmp_path / "bad.png").write_bytes(b"no picture")
    made = thumbnails([film(tmp_path / "good.png"), ImageFile(tmp_path / "bad.png")])
    assert made.is_readable_N.tolist() == [True, False]
    assert "is no picture in a known format" in made.reasons[str(tmp_path / "bad.png")]


def test_the_cache_is_used_until_the_file_changes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    images = [film(tmp_path / f"{n}.png", n) for n in range(3)]
    first = thumbnails(images, cache=tmp_path / "kept" / "t.safetensors")
    opened: list[str] = []
    real = ImageFile.open

    def counted(self: ImageFile) -> Image.Image:
        opened.append(self.path.name)
        return real(self)

    monkeypatch.setattr(ImageFile, "open", counted)
    film(tmp_path / "1.png", 45)
    second = thumbnails(images[::-1], cache=tmp_path / "kept" / "t.safetensors")
    assert opened == ["1.png"]
    assert np.array_equal(second.brightness_NSS[[0, 2]], first.brightness_NSS[[2, 0]])
    assert not np.array_equal(second.content_N32[1], first.content_N32[1])


def test_a_damaged_cache_is_made_anew(tmp_path: Path) -> None:
    (tmp_path / "t.safetensors").write_bytes(b"damaged")
    assert thumbnails([film(tmp_path / "a.png")], cache=tmp_path / "t.safetensors").is_readable_N.all()
    assert (tmp_path / "t.safetensors").stat().st_size > 4096


def test_a_cache_that_cannot_be_written_is_an_output_error(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(OutputError, match="choose another --cache"):
        thumbnails([film(tmp_path / "a.png")], cache=tmp_path / "file" / "t.safetensors")
