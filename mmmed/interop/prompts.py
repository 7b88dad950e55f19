"""Chat templates on their way in and out.

Ours render a turn's text, in which `<image>` stands for an image; those of Hugging Face's processors render lists of
parts. Both directions put a few lines of Jinja before a template, so that the template itself stays as it is.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

from jinja2 import TemplateError

from mmmed.errors import CheckpointError
from mmmed.records import Turn

AS_TEXT = (
    "{%- set turns = namespace(all=[]) -%}{%- for message in messages -%}"
    "{%- set turn = namespace(text='') -%}{%- if message['content'] is string -%}"
    "{%- set turn.text = message['content'] -%}{%- else -%}{%- for part in message['content'] -%}"
    "{%- if part['type'] == 'image' -%}{%- set turn.text = turn.text + '<image>\\n' -%}"
    "{%- elif part['type'] == 'text' -%}{%- set turn.text = turn.text + part['text'] -%}{%- endif -%}"
    "{%- endfor -%}{%- endif -%}"
    "{%- set turns.all = turns.all + [{'role': message['role'], 'content': turn.text | trim}] -%}"
    "{%- endfor -%}{%- set messages = turns.all -%}"
)
"""Makes text of lists of parts."""

AS_PARTS = (
    "{%- set turns = namespace(all=[]) -%}{%- for message in messages -%}"
    "{%- if message['content'] is string -%}{%- set turn = namespace(parts=[]) -%}"
    "{%- for _ in message['content'].split('<image>')[1:] -%}"
    "{%- set turn.parts = turn.parts + [{'type': 'image'}] -%}{%- endfor -%}"
    "{%- set text = message['content'] | replace('<image>\\n', '') | replace('<image>', '') | trim -%}"
    "{%- set turns.all = turns.all + [{'role': message['role'], "
    "'content': turn.parts + [{'type': 'text', 'text': text}]}] -%}"
    "{%- else -%}{%- set turns.all = turns.all + [message] -%}{%- endif -%}"
    "{%- endfor -%}{%- set messages = turns.all -%}"
)
"""Makes lists of parts of text: images first, then the words."""

BEGINNING = "{{- bos_token -}}"

_SYSTEM = "{%- if messages[0]['role'] != 'system' -%}{%- set messages = [SYSTEM] + messages -%}{%- endif -%}"

_POLITE = (
    "A chat between a curious {0} and an artificial intelligence assistant. The assistant gives helpful, detailed, and "
    "polite answers to the {0}'s questions."
)
_TURNS = (
    "{{%- if messages[0]['role'] != 'system' -%}}{{{{- '{system}' -}}}}{{%- endif -%}}{{%- for message in messages -%}}"
    "{{%- if message['role'] == 'system' -%}}{{{{- message['content'] + '{gap}' -}}}}"
    "{{%- elif message['role'] == 'user' -%}}{{{{- '{user}: ' + message['content'] + '{gap}' -}}}}"
    "{{%- else -%}}{{{{- '{assistant}: ' + message['content'] + {stop} -}}}}{{%- endif -%}}{{%- endfor -%}}"
    "{{%- if add_generation_prompt -%}}{{{{- '{assistant}:' -}}}}{{%- endif -%}}"
)


def _turns(human: str, *, user: str, assistant: str, gap: str, stop: str) -> str:
    system = (_POLITE.format(human) + gap).replace("'", "\\'")
    return BEGINNING + _TURNS.format(system=system, user=user, assistant=assistant, gap=gap, stop=stop)


_IMAGES_FIRST = (
    "{%- for message in messages -%}{%- for _ in message['content'].split('<image>')[1:] -%}{{- '<image>' -}}"
    "{%- endfor -%}{%- endfor -%}{%- set turns = namespace(all=[]) -%}{%- for message in messages -%}"
    "{%- set turns.all = turns.all + [{'role': message['role'], "
    "'content': message['content'] | replace('<image>', '') | trim}] -%}{%- endfor -%}"
    "{%- set messages = turns.all -%}"
)
_NO_BREAK = (
    "{%- set turns = namespace(all=[]) -%}{%- for message in messages -%}"
    "{%- set turns.all = turns.all + [{'role': message['role'], "
    "'content': message['content'] | replace('<image>\\n', '<image>')}] -%}{%- endfor -%}"
    "{%- set messages = turns.all -%}"
)

NAMED = {
    "vicuna_v1": _turns("user", user="USER", assistant="ASSISTANT", gap=" ", stop="eos_token"),
    "llava_v0": _turns("human", user="Human", assistant="Assistant", gap="###", stop="'###' + eos_token"),
    "mistral_instruct": BEGINNING
    + "{%- for message in messages -%}{%- if message['role'] == 'assistant' -%}"
    + "{{- ' ' + message['content'] + ' ' + eos_token -}}"
    + "{%- else -%}{{- '[INST] ' + message['content'] + ' [/INST]' -}}{%- endif -%}{%- endfor -%}",
    "pure": BEGINNING
    + "{%- for message in messages -%}{%- if message['role'] == 'assistant' -%}"
    + "{{- ' ' + message['content'] + eos_token -}}"
    + "{%- else -%}{{- 'In: ' + message['content'] + '\\nOut:' -}}{%- endif -%}{%- endfor -%}",
    "nanovlm": "{%- for message in messages -%}{%- if message['role'] == 'assistant' -%}"
    "{{- ' ' + message['content'] + eos_token -}}"
    "{%- else -%}{{- 'Question: ' + message['content'] + ' Answer:' -}}{%- endif -%}{%- endfor -%}",
}
"""Prompts of checkpoints that bring no template, by LLaVA's names for them.

Source: LLaVA and LLaVA-Med, `llava/conversation.py`: vicuna_v1, llava_v0 and mistral_instruct; Prismatic's
PurePromptBuilder: pure; nanoVLM, `generate.py`: nanovlm.
"""


def images_first(template: str) -> str:
    """Put all images before the words, right after the beginning, as Prismatic and the first nanoVLM do."""
    beginning = BEGINNING if template.startswith(BEGINNING) else ""
    return beginning + _IMAGES_FIRST + template.removeprefix(BEGINNING)


def without_break(template: str) -> str:
    """Take out the line break that we put after an image."""
    return _NO_BREAK + template


def with_markers(template: str) -> str:
    """Put LLaVA v1.0's marks before and after each image (`mm_use_im_start_end`)."""
    marked = "| replace('<image>', '<im_start><image><im_end>')"
    return template.replace("message['content'] +", f"(message['content'] {marked}) +")


def for_hugging_face(template: str, *, system: str | None) -> str:
    """Make a template of ours render lists of parts as well, and bring our system prompt."""
    if AS_PARTS in template:
        return template.replace(AS_PARTS, "")
    said = json.dumps({"role": "system", "content": system}, ensure_ascii=False)
    return AS_TEXT + ("" if system is None else _SYSTEM.replace("SYSTEM", said)) + template


def from_hugging_face(tokenizer: Any, template: str, *, adds_beginning: bool) -> str:
    """Make a template of a Hugging Face processor render plain text as well.

    Args:
        tokenizer: Renders the template.
        template: As it came.
        adds_beginning: The tokenizer puts the beginning-of-sequence token first where the template does not; we
            tokenise what the template renders and nothing more.
    """
    if template.startswith(AS_TEXT):
        template = template.removeprefix(AS_TEXT)
    text = "no word of any template"
    rendered = rendering(tokenizer, template, [Turn("user", text)])
    if text not in rendered:
        template = AS_PARTS + template
        rendered = rendering(tokenizer, template, [Turn("user", text)])
    beginning = tokenizer.bos_token
    if adds_beginning and beginning and not rendered.startswith(beginning):
        template = BEGINNING + template
    return template


def adds_tokens(tokenizer: Any) -> bool:
    """Say whether a tokenizer puts tokens of its own around a text."""
    return bool(tokenizer("x")["input_ids"] != tokenizer("x", add_special_tokens=False)["input_ids"])


def rendering(tokenizer: Any, template: str, turns: Sequence[Turn]) -> str:
    """Render turns of plain text up to where the assistant answers.

    Raises:
        CheckpointError: The template does not render.
    """
    messages = [{"role": turn.speaker, "content": turn.text} for turn in turns]
    try:
        return str(
            tokenizer.apply_chat_template(messages, chat_template=template, tokenize=False, add_generation_prompt=True)
        )
    except (TemplateError, TypeError) as error:
        raise CheckpointError(f"the chat template does not render ({error}); give --template") from error
