"""Pages that need nothing beside them: one HTML file, pictures inside, in light and dark, on a desk and on a phone."""

import base64
import io
from pathlib import Path
from typing import Any

from jinja2 import ChoiceLoader, Environment, PackageLoader, StrictUndefined
from PIL import Image, ImageOps

from mmmed.page.files import replace_text
from mmmed.page.wording import count, label, p_value, percent, points

PICTURE_SIDE = 224


def write_page(path: Path, *, room: str, template: str, **content: Any) -> None:
    """Fill a template of a package and write the page whole or not at all.

    All text is escaped, and what the template asks for must be given.

    Args:
        path: The page.
        room: Package with a folder `templates`; those of this package (the style) can be included too.
        template: Name of the template.
        content: What the template shows.

    Raises:
        OutputError: The folder cannot be written to.
    """
    html = environment(room).get_template(template).render(**content)
    # A half of a surrogate pair in a model's answer cannot be written; the page shows a question mark instead.
    replace_text(path, html.lstrip().encode("utf-8", "replace").decode("utf-8"))


def environment(*rooms: str) -> Environment:
    """Templates of packages, each in its folder `templates`, with those of this package; text in them is escaped.

    What a template asks for and is not given is an error.
    """
    made = Environment(
        loader=ChoiceLoader([PackageLoader(room) for room in (*rooms, "mmmed.page")]),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    made.filters |= {"percent": percent, "points": points, "p_value": p_value, "count": count, "label": label}
    return made


def data_uri(image: Image.Image, *, side: int = PICTURE_SIDE) -> str:
    """A JPEG of at most `side` pixels as text that stands in the page itself."""
    small = image.convert("L" if image.mode in {"1", "L"} else "RGB")
    small = ImageOps.contain(small, (side, side)) if max(small.size) > side else small
    buffer = io.BytesIO()
    small.save(buffer, format="JPEG", quality=82, optimize=True)
    return "data:image/jpeg;base64," + base64.b64encode(buffer.getvalue()).decode("ascii")
