"""Exactly what the assistant said is supervised, under any chat template."""

from pathlib import Path

import pytest
from transformers import AutoTokenizer, PreTrainedTokenizerBase

from mmmed.errors import ConfigError, RecordError
from mmmed.processing.prompt import PLAIN_TEMPLATE, ChatPrompt
from mmmed.records import Turn

LLAMA_2 = (
    "{% if messages[0]['role'] == 'system' %}{% set system = messages[0]['content'] %}{% set rest = messages[1:] %}"
    "{% else %}{% set system = '' %}{% set rest = messages %}{% endif %}"
    "{% for message in rest %}{% if message['role'] == 'user' %}"
    "{{ bos_token + '[INST] ' + ('<<SYS>>\n' + system + '\n<</SYS>>\n\n' if loop.first and system else '')"
    " + message['content'] + ' [/INST]' }}"
    "{% else %}{{ ' ' + message['content'] + ' ' + eos_token }}{% endif %}{% endfor %}"
)
VICUNA = (
    "{% for message in messages %}{% if message['role'] == 'system' %}{{ message['content'] + ' ' }}"
    "{% elif message['role'] == 'user' %}{{ 'USER: ' + message['content'] + ' ' }}"
    "{% else %}{{ 'ASSISTANT: ' + message['content'] + eos_token }}{% endif %}{% endfor %}"
    "{% if add_generation_prompt %}{{ 'ASSISTANT:' }}{% endif %}"
)
TEMPLATES = {"chatml": None, "llama 2": LLAMA_2, "vicuna": VICUNA, "plain": PLAIN_TEMPLATE}
STOPS = {"chatml": "<|im_end|>", "llama 2": " </s>", "vicuna": "</s>", "plain": "</s>"}

CONVERSATION = (
    Turn("system", "Answer yes or no."),
    Turn("user", "<image>\nIs it yes or no, yes?"),
    Turn("assistant", "yes"),
    Turn("user", "And <image> is the yes still yes?"),
    Turn("assistant", "no, not yes"),
)


@pytest.fixture(params=TEMPLATES)
def template(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def tokenizer(tokenizer_folder: Path) -> PreTrainedTokenizerBase:
    return AutoTokenizer.from_pretrained(tokenizer_folder)


@pytest.fixture
def prompt(tokenizer: PreTrainedTokenizerBase, template: str) -> ChatPrompt:
    return dressed(tokenizer, template)


def dressed(tokenizer: PreTrainedTokenizerBase, template: str) -> ChatPrompt:
    if template != "chatml":
        tokenizer.chat_template = TEMPLATES[template]
        tokenizer.eos_token = "</s>"
    return ChatPrompt(tokenizer)


def supervised_texts(prompt: ChatPrompt, turns: tuple[Turn, ...]) -> list[str]:
    """The text of each run of supervised tokens."""
    tokens = prompt.conversation(turns)
    runs: list[list[int]] = [[]]
    for token, supervised in zip(tokens.ids, tokens.supervised, strict=True):
        if supervised:
            runs[-1].append(token)
        elif runs[-1]:
            runs.append([])
    return [prompt.tokenizer.decode(run).lstrip() for run in runs if run]


def test_exactly_the_answers_and_their_stops_are_supervised(prompt: ChatPrompt, template: str) -> None:
    stop = STOPS[template]
    assert supervised_texts(prompt, CONVERSATION) == [f"yes{stop}", f"no, not yes{stop}"]


def test_white_space_around_an_answer_changes_nothing(prompt: ChatPrompt) -> None:
    padded = tuple(Turn(turn.speaker, f" {turn.text}\n ") for turn in CONVERSATION)
    assert prompt.conversation(padded) == prompt.conversation(CONVERSATION)


def test_a_conversation_that_ends_with_a_question_supervises_the_earlier_answers(
    prompt: ChatPrompt, template: str
) -> None:
    assert supervised_texts(prompt, CONVERSATION[:-1]) == [f"yes{STOPS[template]}"]


@pytest.mark.parametrize("answer", ["no, not yes", "yes", "user", "12.5 mm [INST]", "größer"])
def test_question_and_answer_are_the_beginning_of_the_conversation(prompt: ChatPrompt, answer: str) -> None:
    asked = CONVERSATION[:-1]
    tokens = prompt.conversation((*asked, Turn("assistant", answer)))
    opening, said = prompt.before_answer(asked), prompt.answer(asked, answer)
    assert tokens.ids[: len(opening) + len(said)] == opening + said
    assert prompt.tokenizer.decode(said).strip() == answer
    # All that follows the opening is trained, so that generation begins where training did.
    assert all(tokens.supervised[len(opening) : len(opening) + len(said)])


def test_one_token_stands_for_each_image(prompt: ChatPrompt) -> None:
    assert prompt.conversation(CONVERSATION).ids.count(prompt.image_id) == 2


def test_a_tokenizer_without_template_gets_the_plain_one(tokenizer: PreTrainedTokenizerBase) -> None:
    tokenizer.chat_template = None
    text = "Question: Is it?\nAnswer:"
    assert ChatPrompt(tokenizer).tokenizer.decode(ChatPrompt(tokenizer).before_answer([Turn("user", "Is it?")])) in {
        f"<s>{text}",
        text,
    }


def test_a_stop_among_the_extra_special_tokens_outlives_the_image_token(tokenizer_folder: Path) -> None:
    tokenizer = AutoTokenizer.from_pretrained(tokenizer_folder, eos_token="</s>", extra_special_tokens=["<|im_end|>"])
    prompt = ChatPrompt(tokenizer)
    assert {"<|im_end|>", "<image>"} <= set(prompt.tokenizer.all_special_tokens)
    assert supervised_texts(prompt, CONVERSATION) == ["yes<|im_end|>", "no, not yes<|im_end|>"]


def test_a_second_prompt_of_a_tokenizer_adds_nothing(tokenizer: PreTrainedTokenizerBase) -> None:
    first = ChatPrompt(tokenizer)
    size = len(tokenizer)
    assert ChatPrompt(tokenizer).image_id == first.image_id
    assert len(tokenizer) == size


@pytest.mark.parametrize(
    "content",
    ["{{ message['content'] | upper }}", "{{ 'hidden' if message['role'] == 'assistant' else message['content'] }}"],
)
def test_a_template_that_rewrites_answers_is_refused(tokenizer: PreTrainedTokenizerBase, content: str) -> None:
    tokenizer.chat_template = f"{{% for message in messages %}}{content}{{% endfor %}}"
    with pytest.raises(ConfigError, match="rewrites assistant turn 3"):
        ChatPrompt(tokenizer).conversation(CONVERSATION)


def test_a_template_that_drops_earlier_answers_is_refused(tokenizer: PreTrainedTokenizerBase) -> None:
    tokenizer.chat_template = (
        "{% for message in messages %}{% if message['role'] == 'user' or loop.last %}"
        "{{ message['content'] + '\n' }}{% endif %}{% endfor %}"
    )
    with pytest.raises(ConfigError, match="rewrites assistant turn 3"):
        ChatPrompt(tokenizer).conversation(CONVERSATION)


def test_an_opening_that_melts_into_the_answer_is_refused(tokenizer: PreTrainedTokenizerBase) -> None:
    tokenizer.chat_template = "{% for message in messages %}{{ message['content'] + ' ' }}{% endfor %}"
    with pytest.raises(ConfigError, match="end the generation prompt without white space"):
        ChatPrompt(tokenizer).answer([Turn("user", "Is it?")], "yes")


def test_a_tokenizer_without_end_token_is_refused(tokenizer: PreTrainedTokenizerBase) -> None:
    tokenizer.eos_token = None
    with pytest.raises(ConfigError, match="no end-of-sequence token"):
        ChatPrompt(tokenizer)


def test_only_the_blanks_of_a_form_are_supervised(prompt: ChatPrompt) -> None:
    form = Turn("assistant", "now: no, nodule: yes.", blanks=("no", "yes"))
    texts = supervised_texts(prompt, (Turn("user", "Fill it in."), form))
    assert [text.strip() for text in texts] == ["no", "yes"], "the no of now and of nodule is no blank"


def test_a_blank_that_the_form_lacks_is_refused(prompt: ChatPrompt) -> None:
    form = Turn("assistant", "nodule: yes.", blanks=("no",))
    with pytest.raises(RecordError, match="no blank 'no' in the rest of the form"):
        prompt.conversation((Turn("user", "Fill it in."), form))
