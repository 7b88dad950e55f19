"""From a path or a hub id to a session, whatever project the checkpoint comes from."""

from __future__ import annotations

import hashlib
import re
import shutil
from pathlib import Path

from mmmed.errors import CheckpointError
from mmmed.inference.session import Session, open_session
from mmmed.interop.importing import import_, is_imported
from mmmed.models.folder import RECIPE
from mmmed.models.weights import cache_folder, resolve
from mmmed.models.weights.fetch import exclusive

_HUB_NAME = re.compile(r"[\w.-]+/[\w.-]+")


def load(checkpoint: str | Path, *, device: str | None = None) -> Session:
    """Open a model to ask it: one of ours, or a LLaVA of Hugging Face or of the original project.

    A foreign checkpoint is converted once and kept in the cache (`MMMED_CACHE`).

    Args:
        checkpoint: A run's folder or its `model` folder; a folder of a foreign checkpoint; ``hf:ORG/NAME@REVISION``;
            or ``ORG/NAME`` on the hub, at its present state.
        device: Where to compute; None takes a GPU where there is one.

    Raises:
        CheckpointError: There is no model, or it does not fit what mmmed can compute, key by key.
        WeightsError: The hub does not answer.
    """
    path = _folder(str(checkpoint))
    if any((folder / RECIPE).is_file() for folder in (path, path / "model")):
        return open_session(path, device=device)
    if path.is_dir() and not (path / "config.json").is_file():
        raise CheckpointError(f"no model at {path}; expected model.json (ours) or config.json (another project's)")
    return open_session(_converted(path), device=device)


def _folder(checkpoint: str) -> Path:
    path = Path(checkpoint).expanduser()
    if path.exists():
        return path
    return resolve(f"hf:{checkpoint}@main" if _HUB_NAME.fullmatch(checkpoint) else checkpoint)


def _converted(path: Path) -> Path:
    """The conversion of a foreign checkpoint, made unless its files are as they were."""
    state = [(str(file), file.stat().st_size, file.stat().st_mtime_ns) for file in sorted(path.resolve().rglob("*"))]
    key = hashlib.sha256(repr(state).encode()).hexdigest()[:16]
    with exclusive(cache_folder() / "imported" / key) as folder:
        model = folder / "model"
        if not is_imported(model):
            shutil.rmtree(model, ignore_errors=True)
            import_(path, model)
        return model
