"""A causal language model of transformers is asked as lm-evaluation-harness asks it."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

import mmmed
from mmmed.errors import ConfigError
from mmmed.inference.plain import is_language_model, open_language_model
from mmmed.inference.prompting import Form, put
from mmmed.inference.session import Session
from mmmed.models.language import CausalLanguageModel
from mmmed.processing.processor import Processor
from mmmed.records import Example

MakeExample = Callable[..., Example]


@pytest.fixture
def folder(make_model: Callable[..., Any], tmp_path: Path) -> Path:
    """A tiny model as transformers writes it."""
    language = make_model(vision=False, initializer_range=0.3).language
    language.model.save_pretrained(tmp_path / "tiny")
    language.tokenizer.save_pretrained(tmp_path / "tiny")
    return tmp_path / "tiny"


def text_of(session: Session, example: Example) -> str:
    return str(session.processor.prompt.tokenizer.decode(session.processor.question(example).ids))


def test_shots_and_questions_follow_each_other_and_nothing_is_added(folder: Path, make_example: MakeExample) -> None:
    session = mmmed.load(folder, device="cpu")
    form = Form(prompt="Question: {question}\nAnswer:")
    shots = [make_example("s", "Is it left?", "yes", options=("yes", "no"))]
    asked = put(make_example("a", "Is it right?", "no", 1, options=("yes", "no")), form, shots=shots)
    assert text_of(session, asked) == "Question: Is it left?\nAnswer: yes\n\nQuestion: Is it right?\nAnswer:"
    assert session.processor.prompt.tokenizer.decode(session.processor.answer_ids(asked, "no")) == " no"


def test_what_is_trained_under_completion_is_asked_in_the_same_words(folder: Path, make_example: MakeExample) -> None:
    language = CausalLanguageModel(str(folder))
    language.tokenizer.add_special_tokens({"bos_token": "<s>", "eos_token": "</s>"})
    trained = Processor(
        language.tokenizer, transform=None, tokens_per_image=0, max_length=99, system="", template="completion"
    )
    example = make_example("a", "Is it right?\nAnswer:", "no", options=("yes", "no"))
    ids = trained.question(example).ids
    assert trained.prompt.tokenizer.decode(ids) == "<s>" + text_of(mmmed.load(folder, device="cpu"), example)


def test_options_are_scored_as_the_harness_scores_them(folder: Path, make_example: MakeExample) -> None:
    """Context and continuation tokenised together, the continuation's log-probabilities summed."""
    session = open_language_model(folder, device="cpu")
    options = ("yes", "no", "left lung and right lung")
    example = put(
        make_example("a", "Is it right?", "no", options=options), Form(prompt="Question: {question}\nAnswer:")
    )
    model, tokenizer = session.model.language.model, session.processor.prompt.tokenizer
    context = "Question: Is it right?\nAnswer:"
    expected = []
    for option in options:
        whole, before = tokenizer(f"{context} {option}")["input_ids"], tokenizer(context)["input_ids"]
        with torch.no_grad():
            logged = model(torch.tensor([whole])).logits[0].log_softmax(-1)
        places = range(len(before), len(whole))
        expected.append(sum(float(logged[place - 1, whole[place]]) for place in places))
    (answer,) = session.choose([example])
    found = torch.tensor(list(answer.options.values()), dtype=torch.float64)
    assert torch.allclose(found, torch.tensor(expected, dtype=torch.float64).softmax(0), atol=1e-5)


def test_a_chat_template_is_used_when_asked_for(folder: Path, make_example: MakeExample) -> None:
    session = mmmed.load(folder, device="cpu", chat=True)
    assert text_of(session, make_example("a", "Is it so?", "")).startswith("<|im_start|>user")
    (folder / "chat_template.jinja").unlink()
    with pytest.raises(ConfigError, match="has no chat template"):
        mmmed.load(folder, device="cpu", chat=True)


def test_what_answers_are_kept_under_changes_with_weights_and_template(folder: Path) -> None:
    session = open_language_model(folder, device="cpu")
    assert session.identity() == open_language_model(folder, device="cpu").identity()
    assert session.identity() != open_language_model(folder, device="cpu", chat=True).identity()
    before = session.identity()
    next(session.model.parameters()).data[0, 0] += 1e-3
    assert session.identity() != before


def test_only_language_models_are_taken_for_one(folder: Path, tmp_path: Path) -> None:
    assert is_language_model(folder)
    assert not is_language_model(tmp_path)
    (tmp_path / "config.json").write_text('{"model_type": "llava", "vision_config": {}}')
    assert not is_language_model(tmp_path)
