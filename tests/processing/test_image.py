import pickle
import zlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from mmmed.errors import ImageError
from mmmed.processing import image as module
from mmmed.processing.image import ArrayImage, ImageFile, read_array, stretch_grey
from mmmed.records import LazyImage


def noise(*shape: int) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, shape, dtype=np.uint8)


def saved(path: Path, image: Image.Image, **options: object) -> ImageFile:
    image.save(path, **options)
    return ImageFile(path)


def test_grey_and_colour_keep_their_values(tmp_path: Path) -> None:
    for name, pixels in {"grey": noise(6, 5), "colour": noise(6, 5, 3)}.items():
        decoded = saved(tmp_path / f"{name}.png", Image.fromarray(pixels)).open()
        assert decoded.mode == ("L" if pixels.ndim == 2 else "RGB")
        np.testing.assert_array_equal(np.asarray(decoded), pixels)


def test_both_references_are_lazy_images_and_can_be_sent_to_a_worker(tmp_path: Path) -> None:
    for image in (ImageFile(tmp_path / "a.png"), ArrayImage(tmp_path / "a.npz", "train_images", 3)):
        assert isinstance(image, LazyImage)
        assert pickle.loads(pickle.dumps(image)) == image
        assert str(tmp_path) in image.name


def test_pictures_of_one_stack_have_different_names(tmp_path: Path) -> None:
    assert ArrayImage(tmp_path, "a", 0).name != ArrayImage(tmp_path, "a", 1).name != ArrayImage(tmp_path, "b", 1).name


def test_orientation_in_exif_is_applied(tmp_path: Path) -> None:
    pixels = np.zeros((8, 16), dtype=np.uint8)
    pixels[:, :8] = 255
    exif = Image.Exif()
    exif[0x0112] = 6  # shown after a quarter turn clockwise
    decoded = saved(tmp_path / "turned.png", Image.fromarray(pixels), exif=exif).open()
    assert decoded.size == (8, 16)
    assert np.asarray(decoded)[:8].min() == 255
    assert np.asarray(decoded)[8:].max() == 0


@pytest.mark.parametrize("suffix", ["png", "tiff"])
def test_deep_grey_is_stretched_between_its_percentiles(tmp_path: Path, suffix: str) -> None:
    ramp = np.linspace(1000, 5000, 10_000).astype(np.uint16).reshape(100, 100)
    ramp[0, 0], ramp[-1, -1] = 0, 65535  # a hot and a dead pixel must not squeeze the rest
    decoded = np.asarray(saved(tmp_path / f"deep.{suffix}", Image.fromarray(ramp)).open())
    assert decoded.dtype == np.uint8
    assert (decoded.min(), decoded.max()) == (0, 255)
    assert abs(int(decoded[50, 0]) - 128) <= 2


def test_constant_and_not_finite_grey_become_black() -> None:
    assert stretch_grey(np.full((3, 3), 700, dtype=np.uint16)).max() == 0
    assert stretch_grey(np.full((3, 3), np.nan)).max() == 0
    assert stretch_grey(np.array([[0.0, 1.0], [np.nan, np.inf]])).tolist() == [[0, 255], [0, 0]]


def test_transparency_is_laid_on_black(tmp_path: Path) -> None:
    pixels = np.full((2, 2, 4), 200, dtype=np.uint8)
    pixels[0, 0, 3] = 0
    pixels[1, 1, 3] = 255
    decoded = saved(tmp_path / "clear.png", Image.fromarray(pixels)).open()
    assert decoded.mode == "RGB"
    assert decoded.getpixel((0, 0)) == (0, 0, 0)
    assert decoded.getpixel((1, 1)) == (200, 200, 200)
    grey = saved(tmp_path / "grey.png", Image.fromarray(pixels[..., :2].copy(), mode=None).convert("LA")).open()
    assert grey.mode == "L"


def test_palettes_are_resolved(tmp_path: Path) -> None:
    image = Image.new("P", (2, 1))
    image.putpalette([10, 20, 30, 200, 100, 50])
    image.putpixel((1, 0), 1)
    decoded = saved(tmp_path / "palette.png", image).open()
    assert decoded.mode == "RGB"
    assert [decoded.getpixel((0, 0)), decoded.getpixel((1, 0))] == [(10, 20, 30), (200, 100, 50)]


@pytest.mark.parametrize("mode", ["1", "CMYK", "F", "I"])
def test_every_other_mode_becomes_grey_or_colour(tmp_path: Path, mode: str) -> None:
    assert saved(tmp_path / "other.tiff", Image.new(mode, (4, 3))).open().mode in ("L", "RGB")


def test_damaged_and_foreign_files_are_refused_in_one_line(tmp_path: Path) -> None:
    whole = tmp_path / "whole.jpg"
    Image.fromarray(noise(64, 64, 3)).save(whole)
    contents = {
        "truncated.jpg": (whole.read_bytes()[:1500], "is damaged .*truncated.*; fetch it again"),
        "empty.png": (b"", r"is empty \(0 bytes\); fetch it again"),
        "page.jpg": (b"<html>404 not found</html>", "no picture in a known format .*; convert it"),
        "drawing.eps": (b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 1 1\n", "no picture in a known format"),
    }
    for name, (content, message) in contents.items():
        (tmp_path / name).write_bytes(content)
        with pytest.raises(ImageError, match=message) as caught:
            ImageFile(tmp_path / name).open()
        assert name in str(caught.value)
        assert "\n" not in str(caught.value)


def test_a_missing_file_or_a_folder_is_refused_with_the_remedy(tmp_path: Path) -> None:
    with pytest.raises(ImageError, match=r"gone\.png cannot be read .*check the path, or the root of its source"):
        ImageFile(tmp_path / "gone.png").open()
    with pytest.raises(ImageError, match="is damaged"):
        ImageFile(tmp_path).open()


def test_too_large_pictures_are_refused_before_they_are_decoded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "MOST_PIXELS", 50)
    with pytest.raises(
        ImageError, match=r"bomb\.png \(10 x 6\) has more than the .* pixels that are decoded; make it smaller"
    ):
        saved(tmp_path / "bomb.png", Image.fromarray(noise(6, 10))).open()


@pytest.mark.parametrize("side", [10_000, 20_000])
def test_a_header_that_claims_a_huge_picture_is_refused(tmp_path: Path, side: int) -> None:
    path = saved(tmp_path / "bomb.png", Image.fromarray(noise(6, 10))).path
    content = bytearray(path.read_bytes())
    content[16:24] = side.to_bytes(4, "big") * 2
    content[29:33] = zlib.crc32(content[12:29]).to_bytes(4, "big")
    path.write_bytes(content)
    with pytest.raises(ImageError, match=r"bomb\.png has more than the 67108864 pixels .*; make it smaller"):
        ImageFile(path).open()


def test_the_decoded_picture_does_not_need_its_file(tmp_path: Path) -> None:
    image = saved(tmp_path / "gone.png", Image.fromarray(noise(4, 4))).open()
    (tmp_path / "gone.png").unlink()
    assert image.resize((2, 2)).size == (2, 2)


def test_pictures_are_taken_from_a_stack_that_is_read_once(tmp_path: Path) -> None:
    grey, colour, deep = noise(3, 4, 5), noise(3, 4, 5, 3), noise(3, 4, 5).astype(np.uint16) * 100
    np.savez(tmp_path / "stack.npz", grey=grey, colour=colour, deep=deep)
    path = tmp_path / "stack.npz"
    np.testing.assert_array_equal(np.asarray(ArrayImage(path, "grey", 2).open()), grey[2])
    np.testing.assert_array_equal(np.asarray(ArrayImage(path, "colour", 0).open()), colour[0])
    assert ArrayImage(path, "deep", 0).open().mode == "L"
    assert read_array(path, "grey") is read_array(path, "grey")


def test_a_stack_that_cannot_give_the_picture_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "stack.npz"
    np.savez(path, grey=noise(3, 4, 5), flat=noise(3, 4))
    np.savez(tmp_path / "pickled.npz", objects=np.array([{}, None], dtype=object))
    (tmp_path / "text.npz").write_text("no archive")
    for image, message in (
        (ArrayImage(path, "grey", 3), r"grey\[3\] does not exist: 'grey' holds 3"),
        (ArrayImage(path, "train", 0), "has no array 'train'; it holds flat, grey"),
        (ArrayImage(path, "flat", 0), r"has shape \(4,\).*expected \(H, W\)"),
        (ArrayImage(tmp_path / "pickled.npz", "objects", 0), "cannot be read as npz .*allow_pickle=False"),
        (ArrayImage(tmp_path / "text.npz", "grey", 0), "cannot be read as npz"),
        (ArrayImage(tmp_path / "gone.npz", "grey", 0), r"gone\.npz cannot be read"),
    ):
        with pytest.raises(ImageError, match=message):
            image.open()
