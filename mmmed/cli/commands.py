"""The command that lets a trained model answer."""

from __future__ import annotations

import sys
from pathlib import Path

from mmmed.errors import DataError
from mmmed.inference.session import open_session
from mmmed.processing.image import ImageFile
from mmmed.records import IMAGE_PLACEHOLDER, Example, Turn


def generate(checkpoint: str, prompt: str, image: str | None = None, max_new_tokens: int = 128) -> None:
    """Answer one question about one picture, word by word.

    Args:
        checkpoint: Folder of a run or its `model` folder.
        prompt: The question or instruction.
        image: PNG, JPEG or other picture; none asks about text alone.
        max_new_tokens: Longest answer, in tokens.
    """
    if not prompt.strip():
        raise DataError("--prompt is empty; ask something")
    images = (ImageFile(Path(image)),) if image else ()
    text = f"{IMAGE_PLACEHOLDER}\n{prompt}" if image else prompt
    question = Example(id="prompt", patient="", turns=(Turn("user", text),), images=images, source="command line")
    for file in images:
        file.open()
    for words in open_session(checkpoint).stream(question, max_new_tokens=max_new_tokens):
        print(words, end="", flush=True)
    print()
    print("Research use only; not medical advice.", file=sys.stderr)
