"""From files of foreign formats to what the models load: a Hugging Face folder, or a state dict.

A conversion is done once; its result is kept in the cache under the hash of the file it was made from.
"""

import contextlib
import io
import json
import mmap
import pickle
import shutil
import struct
import time
from collections.abc import Iterator, Mapping
from functools import cache
from pathlib import Path
from typing import Any
from unittest.mock import patch

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from mmmed.errors import CheckpointError, ConfigError, WeightsError
from mmmed.models.weights.catalogue import CatalogueEntry, catalogue
from mmmed.models.weights.fetch import cache_folder, exclusive, file_sha256, report, resolve, scratch
from mmmed.models.weights.references import LibraryWeights, parse

MANIFEST = "manifest.json"
TENSORS = "model.safetensors"

State = dict[str, Tensor]


def language_folder(reference: str) -> Path:
    """Give the Hugging Face folder (config, tokenizer, safetensors) of a language model.

    A GGUF file is unpacked into one, in float32: its values are products of a half-precision scale and a small
    integer, which bfloat16 cannot hold (on SmolLM2 it would move the log-likelihood in the third digit), and
    float32 is mapped from disk without a copy.

    Raises:
        WeightsError: The reference cannot be resolved, or is no language model.
    """
    path = resolve(reference)
    if path.is_file() and path.suffix == ".gguf":
        return _unpacked_gguf(path)
    if (path / "config.json").is_file():
        return path
    raise WeightsError(f"weights {reference!r}: expected a GGUF file or a folder with a config.json, found {path}")


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
    if isinstance(content, Mapping) and isinstance(content.get("state_dict"), Mapping):
        content = content["state_dict"]
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
            with scratch(folder) as temporary:
                made = temporary / "language"
                _unpack_gguf(gguf, made)
                _write_manifest(made, made_from=gguf)
                made.replace(target)
            report(f"unpacked {gguf.name}, {time.monotonic() - began:.1f} s")
    return target


def _unpack_gguf(gguf: Path, folder: Path) -> None:
    from transformers import AutoModelForCausalLM, AutoTokenizer, GgufConfig

    # Its progress bars go to standard error; errors are exceptions.
    with contextlib.redirect_stderr(io.StringIO()), _parsed_once():
        model = AutoModelForCausalLM.from_pretrained(
            gguf.parent,
            gguf_file=gguf.name,
            quantization_config=GgufConfig(dequantize=True),
            dtype=torch.float32,
            local_files_only=True,
        )
        tokenizer = AutoTokenizer.from_pretrained(gguf.parent, gguf_file=gguf.name, local_files_only=True)
        _mend_tokenizer(tokenizer, pretokenizer=_gguf_text(gguf, "tokenizer.ggml.pre"))
        tokenizer.model_max_length = model.config.max_position_embeddings
        for config in (model.config, model.generation_config):
            config.pad_token_id = tokenizer.pad_token_id
        model.save_pretrained(folder)
        tokenizer.save_pretrained(folder)


@contextlib.contextmanager
def _parsed_once() -> Iterator[None]:
    """Let transformers read a GGUF header once, not anew for configuration, weights, tokenizer and every tensor."""
    import gguf

    reader, names = cache(gguf.GGUFReader), cache(gguf.get_tensor_name_map)
    with patch.object(gguf, "GGUFReader", reader), patch.object(gguf, "get_tensor_name_map", names):
        yield


def _mend_tokenizer(tokenizer: Any, *, pretokenizer: str) -> None:
    """Put right what the reading of GGUF loses.

    Padding must not be the token that ends a turn, or masking the padding would hide the end of each answer too.
    SmolLM2 takes digits singly before anything else, which matters for the spaces in front of numbers.

    Source: llama.cpp, src/llama-vocab.cpp, LLAMA_VOCAB_PRE_TYPE_SMOLLM, for the order of the two rules.
    """
    if tokenizer.pad_token == tokenizer.eos_token and tokenizer.unk_token not in (None, tokenizer.eos_token):
        tokenizer.pad_token = tokenizer.unk_token
    if pretokenizer == "smollm":
        from tokenizers.pre_tokenizers import ByteLevel, Digits, Sequence

        rules = [Digits(individual_digits=True), ByteLevel(add_prefix_space=False, use_regex=True)]
        tokenizer.backend_tokenizer.pre_tokenizer = Sequence(rules)


def _gguf_text(gguf: Path, key: str) -> str:
    """Read one text from a GGUF header, or nothing.

    The gguf package would first read all the tokens and merges, which takes seconds.

    Source: the GGUF specification: a key, the type 8 for text, and the text; lengths in 64 bits, little endian.
    """
    needle = struct.pack("<Q", len(key)) + key.encode() + struct.pack("<I", 8)
    with gguf.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as content:
        at = content.find(needle)
        if at < 0:
            return ""
        start = at + len(needle) + 8
        (length,) = struct.unpack("<Q", content[start - 8 : start])
        return content[start : start + length].decode("utf-8")


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
            with scratch(folder) as temporary:
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


def dinov2_state(path: Path) -> State:
    """Take the DINOv2 backbone (Hugging Face's names) out of an ONNX graph, by timm's names.

    The graph keeps biases and norms under their own names, but the weights of linear layers only as the
    transposed constants of MatMul nodes; the nodes' names tell which is which.

    Raises:
        CheckpointError: A part is not in the graph.
    """
    import onnx
    from onnx import numpy_helper

    graph = onnx.load(str(path)).graph
    constants = {constant.name: constant for constant in graph.initializer}
    inputs = {node.name: [name for name in node.input if name in constants] for node in graph.node}

    def constant(name: str) -> Tensor:
        if name not in constants:
            raise CheckpointError(f"{path} holds no {name!r}; expected a DINOv2 backbone exported to ONNX")
        return torch.from_numpy(numpy_helper.to_array(constants[name]).copy())

    def linear(node: str) -> Tensor:
        names = inputs.get(f"{node}/MatMul", [])
        if len(names) != 1:
            raise CheckpointError(f"{path} holds no {node!r}; expected a DINOv2 backbone exported to ONNX")
        return constant(names[0]).T.contiguous()

    # Position embeddings were folded into two constants without names of their own.
    class_position = constant(_folded(inputs, "/backbone/embeddings/Concat"))
    patch_positions = constant(_folded(inputs, "/backbone/embeddings/Reshape"))
    state = {
        "cls_token": constant("backbone.embeddings.cls_token"),
        "pos_embed": torch.cat([class_position, patch_positions], dim=1),
        "patch_embed.proj.weight": constant("backbone.embeddings.patch_embeddings.projection.weight"),
        "patch_embed.proj.bias": constant("backbone.embeddings.patch_embeddings.projection.bias"),
        "norm.weight": constant("backbone.layernorm.weight"),
        "norm.bias": constant("backbone.layernorm.bias"),
    }
    blocks = {name.split(".")[3] for name in constants if name.startswith("backbone.encoder.layer.")}
    for block in sorted(blocks, key=int):
        theirs, node, ours = f"backbone.encoder.layer.{block}", f"/backbone/encoder/layer.{block}", f"blocks.{block}"
        parts = ("query", "key", "value")
        state[f"{ours}.attn.qkv.weight"] = torch.cat([linear(f"{node}/attention/attention/{part}") for part in parts])
        state[f"{ours}.attn.qkv.bias"] = torch.cat([constant(f"{theirs}.attention.attention.{p}.bias") for p in parts])
        for our_linear, their_linear in (
            ("attn.proj", "attention.output.dense"),
            ("mlp.fc1", "mlp.fc1"),
            ("mlp.fc2", "mlp.fc2"),
        ):
            state[f"{ours}.{our_linear}.weight"] = linear(f"{node}/{their_linear.replace('.', '/')}")
            state[f"{ours}.{our_linear}.bias"] = constant(f"{theirs}.{their_linear}.bias")
        for number in ("1", "2"):
            state[f"{ours}.ls{number}.gamma"] = constant(f"{theirs}.layer_scale{number}.lambda1")
            for kind in ("weight", "bias"):
                state[f"{ours}.norm{number}.{kind}"] = constant(f"{theirs}.norm{number}.{kind}")
    return state


def _folded(inputs: Mapping[str, list[str]], node: str) -> str:
    """Name the constant that the one numbered node of this kind takes that has one of the exporter's making."""
    found = [
        name
        for numbered, names in inputs.items()
        if numbered.partition("_")[0] == node
        for name in names
        if name.startswith("onnx::")
    ]
    return found[0] if len(found) == 1 else f"constant of {node}"
