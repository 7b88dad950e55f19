"""`mmmed export`: a trained model in a layout that others open."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Literal

from mmmed.errors import ConfigError, OutputError
from mmmed.interop.llava import Precision, write_hugging_face
from mmmed.interop.source import open_source

Format = Literal["hf", "gguf"]


def export(
    checkpoint: str | Path,
    to: str | Path,
    *,
    format: Format = "hf",
    shard_gigabytes: float = 5.0,
    precision: Precision = "keep",
) -> Path:
    """Write a trained model in the layout of another project; what that layout cannot hold is refused.

    Args:
        checkpoint: Folder of a run or its `model` folder. Adapters are merged, in a copy.
        to: Folder that is made.
        format: `hf` for transformers and vLLM (LLaVA's hub layout), `gguf` for llama.cpp (language model and mmproj).
        shard_gigabytes: Largest file of weights, for `hf`.
        precision: Of the written weights; `keep` leaves every tensor as it is.

    Returns:
        The folder.

    Raises:
        CheckpointError: There is no model, or the layout cannot hold it.
        OutputError: The folder exists already, or cannot be written.
    """
    if format not in ("hf", "gguf"):
        raise ConfigError(f"format {format!r} is not known; expected hf or gguf")
    if shard_gigabytes <= 0:
        raise ConfigError(f"shard_gigabytes is {shard_gigabytes}; expected more than 0")
    folder = Path(to)
    if folder.exists():
        raise OutputError(f"{folder} exists already; name a folder that does not, or remove it")
    partial = folder.with_name(f".{folder.name}.tmp")
    shutil.rmtree(partial, ignore_errors=True)
    try:
        with open_source(Path(checkpoint)) as source:
            if format == "hf":
                size = int(shard_gigabytes * 1e9)
                write_hugging_face(source, partial, title=folder.name, shard_bytes=size, precision=precision)
            else:
                from mmmed.interop.gguf import write_gguf

                write_gguf(source, partial, name=folder.name, precision=precision)
        partial.replace(folder)
    except OSError as error:
        raise OutputError(f"cannot write {folder}: {error}; free space or choose another --to") from error
    finally:
        shutil.rmtree(partial, ignore_errors=True)
    return folder
