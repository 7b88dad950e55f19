import re
from pathlib import Path

from PIL import Image

from mmmed.page import html
from mmmed.page.html import data_uri


def test_pictures_are_small_jpegs() -> None:
    uri = data_uri(Image.new("RGBA", (2000, 1000)))
    assert uri.startswith("data:image/jpeg;base64,")
    assert len(uri) < 20_000
    assert data_uri(Image.new("L", (8, 8))).startswith("data:image/jpeg")


def luminance(colour: str) -> float:
    channels = [int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)]
    linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in channels]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def test_text_has_enough_contrast_in_light_and_dark() -> None:
    css = (Path(html.__file__).parent / "templates" / "page.css").read_text(encoding="utf-8")
    schemes = [
        dict(re.findall(r"--(\w+): (#[0-9a-f]{6})", block)) for block in re.findall(r":root \{(.*?)\}", css, re.S)
    ]
    assert len(schemes) == 2
    for scheme in schemes:
        for ground in ("paper", "card", "tint"):
            for text in ("ink", "soft", "main", "good", "bad"):
                light, dark = sorted((luminance(scheme[ground]), luminance(scheme[text])), reverse=True)
                assert (light + 0.05) / (dark + 0.05) >= 4.5, (ground, text)
