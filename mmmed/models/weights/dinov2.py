"""DINOv2 out of an ONNX graph, by timm's names."""

from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor

from mmmed.errors import CheckpointError


def dinov2_state(path: Path) -> dict[str, Tensor]:
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
