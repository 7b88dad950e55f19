"""From a GGUF file to a Hugging Face folder, with what transformers loses on the way."""

import contextlib
import io
import mmap
import struct
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any
from unittest.mock import patch

import torch


def unpack_gguf(gguf: Path, folder: Path) -> None:
    """Write the language model of a GGUF file as a Hugging Face folder, in float32, with its tokenizer."""
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
