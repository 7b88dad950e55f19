"""Weights that the Hugging Face hub, timm or open_clip know and fetch themselves, into the hub's own cache."""

import importlib
from pathlib import Path

from mmmed.errors import WeightsError, did_you_mean
from mmmed.models.weights.references import HubRepository, LibraryWeights, nearest

# Hub repositories often carry the same weights for several frameworks; only safetensors are taken, else PyTorch's.
_OTHER_FRAMEWORKS = ["*.h5", "*.msgpack", "*.ot", "*.tflite", "*.onnx", "onnx/*", "openvino/*", "*.mlmodel", "*.gguf"]
_PICKLED = ["*.bin", "*.pt", "*.pth", "*.ckpt"]


def hub_folder(reference: str, hub: HubRepository) -> Path:
    """The folder of a hub repository. Raises `WeightsError` if it cannot be fetched."""
    from huggingface_hub import snapshot_download

    try:
        unwanted = [*_OTHER_FRAMEWORKS, *_PICKLED]
        folder = Path(snapshot_download(hub.repository, revision=hub.revision, ignore_patterns=unwanted))
        if not any(folder.glob("*.safetensors")):
            snapshot_download(hub.repository, revision=hub.revision, ignore_patterns=_OTHER_FRAMEWORKS)
    except (OSError, ValueError) as error:  # what huggingface_hub raises on network, authorisation and names
        raise _unreachable(reference, error) from error
    return folder


def timm_file(reference: str, weights: LibraryWeights) -> Path:
    """The file of weights that timm knows. Raises `WeightsError` if it knows none, or it cannot be fetched."""
    import timm
    from huggingface_hub import hf_hub_download

    tags = {name.partition(".")[2] for name in timm.list_pretrained(f"{weights.architecture}.*")}
    if not tags:
        known = {name.partition(".")[0] for name in timm.list_pretrained()}
        hint = nearest(weights.architecture, known, otherwise="see timm.list_pretrained()")
        raise WeightsError(f"weights {reference!r}: timm has none for {weights.architecture!r}{hint}")
    if weights.tag not in tags:
        raise WeightsError(
            f"weights {reference!r}: timm has no tag {weights.tag!r} for {weights.architecture}"
            f"{did_you_mean(weights.tag, tags)}"
        )
    config = timm.get_pretrained_cfg(f"{weights.architecture}.{weights.tag}")
    if config is None or not config.hf_hub_id:
        raise WeightsError(
            f"weights {reference!r} are not on the hub; download them from their authors and name the file"
        )
    try:
        return Path(hf_hub_download(config.hf_hub_id, config.hf_hub_filename or "model.safetensors"))
    except (OSError, ValueError) as error:
        raise _unreachable(reference, error) from error


def open_clip_file(reference: str, weights: LibraryWeights) -> Path:
    """The file of weights that open_clip knows. Raises `WeightsError` if it knows none, or it cannot be fetched."""
    open_clip = importlib.import_module("open_clip")
    if weights.architecture not in open_clip.list_models():
        hint = nearest(weights.architecture, open_clip.list_models(), otherwise="see open_clip.list_models()")
        raise WeightsError(f"weights {reference!r}: open_clip knows no {weights.architecture!r}{hint}")
    tags = open_clip.list_pretrained_tags_by_model(weights.architecture)
    if weights.tag not in tags:
        raise WeightsError(
            f"weights {reference!r}: open_clip has no tag {weights.tag!r} for {weights.architecture}"
            f"{did_you_mean(weights.tag, tags)}"
        )
    try:
        return Path(open_clip.download_pretrained(open_clip.get_pretrained_cfg(weights.architecture, weights.tag)))
    except (OSError, ValueError) as error:
        raise _unreachable(reference, error) from error


def _unreachable(reference: str, error: Exception) -> WeightsError:
    reason = " ".join(str(error).split())
    return WeightsError(
        f"weights {reference!r} cannot be fetched ({type(error).__name__}: {reason[:160]}); check the name and the "
        "connection, or use weights that need no hub: mmmed weights list"
    )
