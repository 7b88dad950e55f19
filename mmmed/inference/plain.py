"""Causal language models of transformers, asked as they are.

Such a model goes on from a text: examples and questions follow each other with an empty line between them, an answer
comes after a space, and nothing else is added. That is the form of lm-evaluation-harness, so figures can be held
against published ones; a chat template, where the tokenizer has one, is used only when asked for.
"""

from __future__ import annotations

import json
from pathlib import Path

from mmmed.errors import CheckpointError, ConfigError
from mmmed.inference.session import Precision, Session
from mmmed.models.language import CausalLanguageModel
from mmmed.models.vlm import VisionLanguageModel
from mmmed.processing.processor import Processor

COMPLETION = (
    "{% for message in messages %}{% set text = message['content'] %}"
    "{% if message['role'] == 'user' %}{{ text }}"
    "{% elif message['role'] == 'assistant' %}{{ ' ' + text + '\n\n' }}"
    "{% else %}{{ text + '\n\n' }}{% endif %}{% endfor %}"
)
LONGEST = 8192
"""Tokens of the longest question of a model that can read more; memory on a laptop is the limit."""


def is_language_model(path: Path) -> bool:
    """Whether a folder holds a causal language model of transformers, and no vision-language model."""
    from transformers.models.auto.modeling_auto import MODEL_FOR_CAUSAL_LM_MAPPING_NAMES

    try:
        content = json.loads((path / "config.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return False
    is_bare = isinstance(content, dict) and "vision_config" not in content and "mm_vision_tower" not in content
    return is_bare and content.get("model_type") in MODEL_FOR_CAUSAL_LM_MAPPING_NAMES


def open_language_model(
    path: Path, *, device: str | None = None, chat: bool = False, precision: Precision = "float32"
) -> Session:
    """Open a causal language model to ask it.

    Args:
        path: Its folder.
        device: Where to compute; None takes a GPU where there is one.
        chat: Put questions in the tokenizer's chat template.
        precision: What it computes in.

    Raises:
        CheckpointError: transformers cannot open it.
        ConfigError: A chat template is asked for, and the tokenizer has none.
    """
    try:
        language = CausalLanguageModel(str(path))
    except (OSError, ValueError, KeyError) as error:
        raise CheckpointError(f"{path}: {' '.join(str(error).split())[:300]}; expected a causal model") from error
    tokenizer = language.tokenizer
    if chat and tokenizer.chat_template is None:
        raise ConfigError(f"the tokenizer of {path} has no chat template; ask it without one")
    if not chat:
        begun = tokenizer("x")["input_ids"][:1] == [tokenizer.bos_token_id] and tokenizer.bos_token is not None
        tokenizer.chat_template = ("{{ bos_token }}" if begun else "") + COMPLETION
    longest = getattr(language.model.config, "max_position_embeddings", LONGEST)
    model = VisionLanguageModel(language, None, None)
    processor = Processor(tokenizer, transform=None, tokens_per_image=0, max_length=min(longest, LONGEST))
    return Session(model, processor, device=device, precision=precision)
