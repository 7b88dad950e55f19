"""Exactly what the assistant said is supervised, under any chat template."""

from pathlib import Path

import pytest
from tokenizers import Tokenizer, models, processors
from transformers import AutoTokenizer, PreTrainedTokenizerBase, PreTrainedTokenizerFast

from mmmed.errors import ConfigError, RecordError
from mmmed.processing.prompt import ChatPrompt
from mmmed.processing.templates import TEMPLATES
from mmmed.records import Turn

STOPS = {"chatml": "<|im_end|>", "llama2": " </s>"} | dict.fromkeys(
    ("plain", "completion", "vicuna", "mistral", "minigpt4", "xraygpt", "llava_med_v1"), "</s>"
)
SYSTEM = "Answer yes or no."
# What each system's own code writes for the conversation below, but for the marks of a turn's end.
FORMS = {
    "plain": "<s>Answer yes or no.\nQuestion: <image>\nIs it yes or no, yes?\nAnswer: yes</s>\n"
    "Question: And <image> is the yes still yes?\nAnswer: no, not yes</s>\n",
    "completion": "<s>Answer yes or no.\n\n<image>\nIs it yes or no, yes? yes</s>\n\n"
    "And <image> is the yes still yes? no, not yes</s>\n\n",
    "chatml": "<|im_start|>system\nAnswer yes or no.<|im_end|>\n<|im_start|>user\n<image>\nIs it yes or no, yes?"
    "<|im_end|>\n<|im_start|>assistant\nyes<|im_end|>\n<|im_start|>user\nAnd <image> is the yes still yes?<|im_end|>\n"
    "<|im_start|>assistant\nno, not yes<|im_end|>\n",
    "llama2": "<s>[INST] <<SYS>>\nAnswer yes or no.\n<</SYS>>\n\n<image>\nIs it yes or no, yes? [/INST] yes </s>"
    "<s>[INST] And <image> is the yes still yes? [/INST] no, not yes </s>",
    "vicuna": "<s>Answer yes or no. USER: <image>\nIs it yes or no, yes? ASSISTANT: yes</s>"
    "USER: And <image> is the yes still yes? ASSISTANT: no, not yes</s>",
    "mistral": "<s>[INST] Answer yes or no.\n\n<image>\nIs it yes or no, yes? [/INST] yes</s>"
    "[INST] And <image> is the yes still yes? [/INST] no, not yes</s>",
    "minigpt4": "<s>Answer yes or no.###Human: <Img><image></Img> Is it yes or no, yes? ###Assistant: yes</s>"
    "###Human: And <Img><image></Img> is the yes still yes? ###Assistant: no, not yes</s>",
    "xraygpt": "<s>Answer yes or no.###Patient: <Img><image></Img> Is it yes or no, yes? ###Doctor: yes</s>"
    "###Patient: And <Img><image></Img> is the yes still yes? ###Doctor: no, not yes</s>",
    "llava_med_v1": "<s>Answer yes or no.\n\n### Human: <im_start><image><im_end>\nIs it yes or no, yes?\n"
    "### Assistant: yes</s>\n### Human: And <im_start><image><im_end> is the yes still yes?\n"
    "### Assistant: no, not yes</s>\n",
}

CONVERSATION = (
    Turn("system", SYSTEM),
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
    tokenizer.chat_template = None
    tokenizer.eos_token = "</s>"
    return ChatPrompt(tokenizer, template=template)


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


def test_a_named_template_writes_what_its_system_does(prompt: ChatPrompt, template: str) -> None:
    assert prompt.tokenizer.decode(prompt.conversation(CONVERSATION).ids) == FORMS[template]
    opening = prompt.tokenizer.decode(prompt.before_answer(CONVERSATION[:-1]))
    assert FORMS[template].startswith(opening)
    assert FORMS[template][len(opening) :].strip().removesuffix(STOPS[template].strip()).strip() == "no, not yes"


def test_of_an_empty_system_prompt_nothing_is_said(prompt: ChatPrompt, template: str) -> None:
    asked = Turn("user", "Is it yes or no?")
    empty, none = (
        prompt.tokenizer.decode(prompt.before_answer(turns)) for turns in ([Turn("system", ""), asked], [asked])
    )
    opening = "<|im_start|>system\n<|im_end|>\n" if template == "chatml" else ""  # which some models were trained with
    assert empty == opening + none


def test_every_named_template_is_tested() -> None:
    assert set(TEMPLATES) == set(FORMS) == set(STOPS)


def test_a_named_template_stands_in_the_place_of_the_tokenizers_own_and_is_saved_with_it(
    tokenizer: PreTrainedTokenizerBase, tmp_path: Path
) -> None:
    prompt = ChatPrompt(tokenizer, template="vicuna")
    prompt.tokenizer.save_pretrained(tmp_path)
    again = ChatPrompt(AutoTokenizer.from_pretrained(tmp_path))
    assert again.conversation(CONVERSATION) == prompt.conversation(CONVERSATION)
    assert "USER: " in again.tokenizer.decode(again.before_answer(CONVERSATION[:-1]))


def test_a_template_ends_answers_with_the_token_that_ends_generation(tokenizer: PreTrainedTokenizerBase) -> None:
    tokenizer.eos_token = "</s>"
    assert ChatPrompt(tokenizer, template="chatml").tokenizer.eos_token == "<|im_end|>"


def test_an_unknown_template_is_refused(tokenizer: PreTrainedTokenizerBase) -> None:
    with pytest.raises(ConfigError, match=r"unknown chat template 'vicunna' \(did you mean 'vicuna'\?\)"):
        ChatPrompt(tokenizer, template="vicunna")


def test_a_template_of_tokens_that_the_tokenizer_lacks_is_refused() -> None:
    bare = PreTrainedTokenizerFast(
        tokenizer_object=Tokenizer(models.BPE({"a": 0, "</s>": 1}, [])), eos_token="</s>", bos_token="</s>"
    )
    with pytest.raises(ConfigError, match=r"chat template chatml is made of <\|im_start\|>, which the tokenizer lacks"):
        ChatPrompt(bare, template="chatml")


def test_all_of_a_document_but_its_beginning_is_supervised(tokenizer: PreTrainedTokenizerBase) -> None:
    tokens = ChatPrompt(tokenizer).document(" Normal heart size. ")
    assert tokenizer.decode(tokens.ids) == "Normal heart size.<|im_end|>"
    assert all(tokens.supervised)
    tokenizer.backend_tokenizer.post_processor = processors.TemplateProcessing(
        single="<s> $A", special_tokens=[("<s>", tokenizer.bos_token_id)]
    )
    begun = ChatPrompt(tokenizer).document("Normal heart size.")
    assert tokenizer.decode(begun.ids) == "<s>Normal heart size.<|im_end|>"
    assert begun.supervised == [False, *[True] * (len(begun.ids) - 1)]


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
    opening, said = prompt.before_answer(asked), prompt.answers(asked, [answer])[0]
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
    prompt = ChatPrompt(tokenizer)
    with pytest.raises(ConfigError, match="rewrites assistant turn 3"):
        prompt.conversation(CONVERSATION)
    with pytest.raises(ConfigError, match="rewrites assistant turn 5"):
        prompt.answers([*CONVERSATION, Turn("user", "And the heart?")], ["normal", "enlarged"])


def test_an_opening_that_melts_into_the_answer_is_refused(tokenizer: PreTrainedTokenizerBase) -> None:
    tokenizer.chat_template = "{% for message in messages %}{{ message['content'] + ' ' }}{% endfor %}"
    with pytest.raises(ConfigError, match="end the generation prompt without white space"):
        ChatPrompt(tokenizer).answers([Turn("user", "Is it?")], ["yes"])


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
