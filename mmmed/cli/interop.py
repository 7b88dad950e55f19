"""`mmmed export | import | inspect`: checkpoints that travel between projects."""

from __future__ import annotations

from pathlib import Path

from mmmed.interop.export import Format, export
from mmmed.interop.importing import MAX_LENGTH, import_
from mmmed.interop.inspection import inspect_checkpoint
from mmmed.interop.llava import Precision
from mmmed.models.weights import resolve


def export_model(
    checkpoint: str, to: str, format: Format = "hf", shard_gigabytes: float = 5.0, precision: Precision = "keep"
) -> None:
    """Write a trained model in another project's layout, with the hash of every tensor in digest.json.

    Args:
        checkpoint: Folder of a run or its `model` folder. Adapters are merged, in a copy.
        to: Folder that is made.
        format: hf for transformers and vLLM (LLaVA's hub layout), gguf for llama.cpp (language model and mmproj).
        shard_gigabytes: Largest file of weights, for hf.
        precision: Of the written weights; keep leaves every tensor as it is.
    """
    folder = export(checkpoint, to, format=format, shard_gigabytes=shard_gigabytes, precision=precision)
    print(f"exported: {folder}")


def import_model(
    path: str,
    to: str,
    vision: str | None = None,
    language: str | None = None,
    base: str | None = None,
    template: str | None = None,
    max_length: int = MAX_LENGTH,
) -> None:
    """Turn another project's checkpoint into a model folder; a tensor left over or missing is an error.

    Args:
        path: Folder, file or reference (hf:ORG/NAME@REVISION) of a checkpoint: Hugging Face LLaVA, original LLaVA or
            LLaVA-Med, nanoVLM, Prismatic, or a projector alone (MiniGPT-4's, mm_projector.bin).
        to: Folder that is made.
        vision: Reference of the image encoder, where the checkpoint does not hold or describe it.
        language: Reference of the language model's configuration and tokenizer, where the checkpoint has neither.
        base: Model folder that a projector file is put into.
        template: Chat template for checkpoints that bring none: vicuna_v1, llava_v0 or mistral_instruct.
        max_length: Longest sequence of the model's processor, in tokens.
    """
    folder = import_(
        resolve(path), to, vision=vision, language=language, base=base, template=template, max_length=max_length
    )
    print(f"imported: {folder}")


def inspect_model(
    path: str, vision: str | None = None, language: str | None = None, base: str | None = None, digest: bool = False
) -> None:
    """Say what a checkpoint holds, which classes it would become, and whether it fits key by key.

    Args:
        path: Folder, file or reference of a checkpoint, ours or another project's.
        vision: As for import.
        language: As for import.
        base: As for import.
        digest: Hash every tensor and compare with the folder's digest.json.
    """
    seen = inspect_checkpoint(Path(resolve(path)), vision=vision, language=language, base=base, digest=digest)
    print("\n".join(seen.lines()))
