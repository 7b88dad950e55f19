"""A tokenizer of transformers as llama.cpp's metadata: tokens, their kinds, merges or scores, the pre-tokenizer's name.

Source: llama.cpp, src/llama-vocab.cpp: `gpt2` vocabularies merge by a list after a named split into words; `llama`
vocabularies (SentencePiece) merge whatever has the highest score.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from gguf import TokenType

from mmmed.errors import CheckpointError

_SPACE = "\u2581"
_SPLITS = {
    # What stands in the split's regular expression and in no other's.
    r"\p{N}{1,3}": "llama-bpe",
    r"?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+": "qwen2",
}


class Vocabulary(NamedTuple):
    """What llama.cpp must know to tokenise.

    Args:
        model: `gpt2` or `llama`.
        pre: Name of the split into words.
        tokens: By id.
        kinds: Of each token.
        merges: Pairs in the order they are tried, for `gpt2`.
        scores: For `llama`.
        space_prefix: A space is put before the text, for `llama`.
    """

    model: str
    pre: str
    tokens: Sequence[str]
    kinds: Sequence[int]
    merges: Sequence[str]
    scores: Sequence[float]
    space_prefix: bool


def vocabulary_of(tokenizer: Any, *, rows: int) -> Vocabulary:
    """Read a tokenizer.

    Args:
        tokenizer: A fast one, by byte pairs.
        rows: Of the embedding matrix; ids without a token become unused ones.

    Raises:
        CheckpointError: llama.cpp has no such tokenizer.
    """
    content = json.loads(tokenizer.backend_tokenizer.to_str())
    model = content["model"]
    if model["type"] != "BPE":
        raise CheckpointError(f"a {model['type']} tokenizer cannot be written to GGUF; expected byte pairs (BPE)")
    tokens = {index: token for token, index in model["vocab"].items()}
    added = {one["id"]: one for one in content["added_tokens"]}
    tokens |= {index: one["content"] for index, one in added.items()}
    if max(tokens) >= rows:
        raise CheckpointError(f"the tokenizer has id {max(tokens)} and the model {rows} rows; train or copy it again")
    listed = [tokens.get(index, f"[PAD{index}]") for index in range(rows)]
    pairs = [pair.split(" ", 1) if isinstance(pair, str) else pair for pair in model["merges"]]
    sentencepiece = bool(model.get("byte_fallback"))
    kinds = [_kind(index, tokens, added, model, sentencepiece=sentencepiece) for index in range(rows)]
    if not sentencepiece:
        merges = [" ".join(pair) for pair in pairs]
        return Vocabulary("gpt2", _pre(content.get("pre_tokenizer")), listed, kinds, merges, [], False)
    rank: dict[str, int] = {}
    for place, pair in enumerate(pairs):
        rank.setdefault("".join(pair), place)
    scores = [-float(rank.get(token, len(pairs) + index)) for index, token in enumerate(listed)]
    return Vocabulary("llama", "default", listed, kinds, [], scores, _prepends(content))


def _kind(
    index: int, tokens: Mapping[int, str], added: Mapping[int, Any], model: Mapping[str, Any], *, sentencepiece: bool
) -> int:
    if index not in tokens:
        return int(TokenType.UNUSED)
    token = tokens[index]
    if sentencepiece and token == model.get("unk_token"):
        return int(TokenType.UNKNOWN)
    if index in added:
        return int(TokenType.CONTROL if added[index]["special"] else TokenType.USER_DEFINED)
    if sentencepiece and len(token) == 6 and token.startswith("<0x") and token.endswith(">"):
        return int(TokenType.BYTE)
    return int(TokenType.NORMAL)


def _pre(content: Any) -> str:
    """Name the split into words as llama.cpp does.

    Raises:
        CheckpointError: The split is not one whose name is known here.
    """
    steps = content["pretokenizers"] if content and content["type"] == "Sequence" else [content]
    kinds = [step["type"] if step else None for step in steps]
    if kinds == ["ByteLevel"] and steps[0].get("use_regex", True):
        return "gpt-2"
    if kinds == ["Digits", "ByteLevel"] and steps[0]["individual_digits"]:
        return "smollm"
    if kinds == ["Split", "ByteLevel"]:
        pattern = str(steps[0]["pattern"].get("Regex", ""))
        for part, name in _SPLITS.items():
            if part in pattern:
                return name
    raise CheckpointError(
        f"the tokenizer splits words by {kinds}, for which no name of llama.cpp is known here; "
        "known: GPT-2, SmolLM, Llama 3, Qwen 2"
    )


def _prepends(content: Mapping[str, Any]) -> bool:
    normalizer, pre = json.dumps(content.get("normalizer")), content.get("pre_tokenizer") or {}
    return '"Prepend"' in normalizer or pre.get("prepend_scheme", "never") != "never"
