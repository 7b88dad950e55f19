"""What a result was made with, so that it can be made again."""

from __future__ import annotations

import platform
import subprocess
from collections.abc import Iterable
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import torch

from mmmed.data.collection import Collection, digest_of
from mmmed.records import Example

PACKAGES = ("mmmed", "torch", "torchvision", "transformers", "timm", "open_clip_torch", "lightning", "peft", "numpy")


def environment() -> dict[str, str]:
    """Versions of what computes, the processor, and the commit of the code."""
    versions = {name: _version(name) for name in PACKAGES}
    device = torch.cuda.get_device_name() if torch.cuda.is_available() else f"CPU, {torch.get_num_threads()} threads"
    return {"python": platform.python_version(), **versions, "device": device, "commit": git_commit()}


def git_commit() -> str:
    """Commit of the checkout, marked when files differ from it; ``unknown`` outside a checkout."""
    root = Path(__file__).parents[2]
    if not (root / ".git").exists():
        return "unknown"
    try:
        commit = _git(root, "rev-parse", "HEAD")
        changed = _git(root, "status", "--porcelain", "--untracked-files=no")
    except (OSError, subprocess.SubprocessError):
        return "unknown"
    return f"{commit}{' with changes' if changed else ''}"


def data_hash(examples: Iterable[Example]) -> str:
    """SHA-256 over ids, patients, splits and texts, in order: equal data, equal hash.

    Of prepared data it is over their version and what is taken of them, which is known without reading them.
    """
    return examples.digest() if isinstance(examples, Collection) else digest_of(examples)


def _version(name: str) -> str:
    try:
        return version(name)
    except PackageNotFoundError:
        return "not installed"


def _git(root: Path, *words: str) -> str:
    return subprocess.run(
        ["git", "-C", str(root), *words], capture_output=True, text=True, check=True, timeout=10
    ).stdout.strip()
