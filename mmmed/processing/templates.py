"""Chat templates by name, for base models that bring none and for checkpoints that were trained in a form of their own.

Each renders a turn on its own, ends the prompt without white space (the space before the answer is the answer's), and
ends an answer with the tokenizer's end-of-sequence token, so that answers can be masked exactly and generation stops.
Where the original ends an answer with the mark of the next turn (``###``), that is the one deviation.
"""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class ChatTemplate:
    """A conversation's form.

    Args:
        jinja: The template, as tokenizers keep it.
        needs: Tokens that the tokenizer has to know as one; the last of them ends an answer.
    """

    jinja: str
    needs: tuple[str, ...] = ()


def _turns(user: str, assistant: str, *, system: str = "{{ text }}") -> str:
    """A template from what becomes of the `text` of a turn of each speaker; of an empty system prompt nothing does."""
    said = "{% if text %}" + system + "{% endif %}"
    return (
        "{{ bos_token }}{% for message in messages %}{% set text = message['content'] %}"
        "{% if message['role'] == 'system' %}" + said + "{% elif message['role'] == 'user' %}" + user + "{% else %}"
    ) + (assistant + "{% endif %}{% endfor %}")


def _marked(before: str, after: str) -> str:
    """The user's text with each image between two marks."""
    return "{{ text | replace('<image>', '" + before + "<image>" + after + "') }}"


# MiniGPT-4 and what follows it go on in the line of the image.
_IN_LINE = "{% set text = text | replace('<image>\n', '<image> ') %}" + _marked("<Img>", "</Img>")
_SAID = " {{ text + eos_token }}"
_LINE = "{{ text + '\n' }}"

TEMPLATES = {
    # Nothing but the words question and answer.
    "plain": ChatTemplate(_turns("Question: {{ text }}\nAnswer:", _SAID + "{{ '\n' }}", system=_LINE)),
    # No words but its own, as base models are asked (`inference/plain.py`): an answer goes on behind a space.
    "completion": ChatTemplate(_turns("{{ text }}", _SAID + "{{ '\n\n' }}", system="{{ text + '\n\n' }}")),
    # OpenAI's ChatML, as Qwen and SmolLM2 use it.
    "chatml": ChatTemplate(
        "{% for message in messages %}"
        "{{ '<|im_start|>' + message['role'] + '\n' + message['content'] + '<|im_end|>\n' }}{% endfor %}"
        "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}",
        needs=("<|im_start|>", "<|im_end|>"),
    ),
    # Llama-2-Chat (arXiv 2307.09288), as its reference code writes it: the system prompt is part of the first question.
    "llama2": ChatTemplate(
        "{% set seen = namespace(system='') %}"
        "{% for message in messages %}{% set text = message['content'] %}"
        "{% if message['role'] == 'system' %}"
        "{% if text %}{% set seen.system = '<<SYS>>\n' + text + '\n<</SYS>>\n\n' %}{% endif %}"
        "{% elif message['role'] == 'user' %}{{ bos_token }}[INST] {{ seen.system + text }} [/INST]"
        "{% set seen.system = '' %}"
        "{% else %} {{ text }} {{ eos_token }}{% endif %}{% endfor %}"
    ),
    # Vicuna 1.1 and 1.5, and with it LLaVA-1.5.
    "vicuna": ChatTemplate(_turns("USER: {{ text }} ASSISTANT:", _SAID, system="{{ text + ' ' }}")),
    # Mistral-Instruct 0.2, and with it LLaVA-Med v1.5; it has no system prompt, which goes before the question.
    "mistral": ChatTemplate(
        "{{ bos_token }}{% set seen = namespace(system='') %}"
        "{% for message in messages %}{% set text = message['content'] %}"
        "{% if message['role'] == 'system' %}{% if text %}{% set seen.system = text + '\n\n' %}{% endif %}"
        "{% elif message['role'] == 'user' %}[INST] {{ seen.system + text }} [/INST]{% set seen.system = '' %}"
        "{% else %} {{ text + eos_token }}{% endif %}{% endfor %}"
    ),
    # MiniGPT-4 (arXiv 2304.10592); SkinGPT-4 uses the same.
    "minigpt4": ChatTemplate(_turns("###Human: " + _IN_LINE + " ###Assistant:", _SAID)),
    # XrayGPT (arXiv 2306.07971).
    "xraygpt": ChatTemplate(_turns("###Patient: " + _IN_LINE + " ###Doctor:", _SAID)),
    # LLaVA-Med v1.0 (arXiv 2306.00890), as its training script writes it (version v0), images marked.
    "llava_med_v1": ChatTemplate(
        _turns(
            "### Human: " + _marked("<im_start>", "<im_end>") + "\n### Assistant:",
            _SAID + "{{ '\n' }}",
            system="{{ text + '\n\n' }}",
        )
    ),
}
