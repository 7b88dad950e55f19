"""A session answers as its model does, alone or in company."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from mmmed.data.collate import pad
from mmmed.errors import CheckpointError
from mmmed.inference.scoring import score_options
from mmmed.inference.session import Session, open_session
from mmmed.models.adaptation import adapted_layers, is_adapter
from mmmed.models.folder import save
from mmmed.models.vlm import VisionLanguageModel
from mmmed.processing.processor import Processor
from mmmed.records import Example


@pytest.fixture
def session(make_model: Callable[..., VisionLanguageModel], make_processor: Callable[..., Processor]) -> Session:
    model = make_model(initializer_range=0.3)
    return Session(model, make_processor(model), device="cpu", batch_size=4)


def test_free_text_equals_what_transformers_generates_alone(session: Session, examples: list[Example]) -> None:
    told: list[int] = []
    answers = session.write(examples, max_new_tokens=8, advance=told.append)
    assert told == [4, 2]
    tokenizer, model = session.processor.prompt.tokenizer, session.model
    for example, answer in zip(examples, answers, strict=True):
        batch = pad([session.processor.question(example)], image_id=session.processor.image_id)
        ids = model.language.model.generate(
            inputs_embeds=model.embed(batch).detach(),
            attention_mask=batch.attention_BT,
            max_new_tokens=8,
            do_sample=False,
            eos_token_id=tokenizer.eos_token_id,
            pad_token_id=tokenizer.pad_token_id,
        )
        assert answer.text == tokenizer.decode(ids[0], skip_special_tokens=True).strip()
        assert answer.confidence is None


def test_in_bfloat16_it_answers_nearly_the_same_under_another_identity(
    session: Session, examples: list[Example], tmp_path: Path
) -> None:
    save(session.model, tmp_path / "model", settings={"system": None}, provenance={})
    exact, rounded = (open_session(tmp_path, device="cpu", precision=one) for one in ("float32", "bfloat16"))
    kinds = {name.split(".")[0]: one.dtype for name, one in rounded.model.named_parameters()}
    assert kinds == {"vision": torch.float32, "projector": torch.float32, "language": torch.bfloat16}
    assert exact.identity() != rounded.identity()
    closed = [replace(one, options=(one.reference, "perhaps")) for one in examples]
    for one, other in zip(exact.choose(closed), rounded.choose(closed), strict=True):
        assert other.options == pytest.approx(one.options, abs=0.05)
        assert other.options != one.options
    assert [one.text for one in rounded.write(examples[:2], max_new_tokens=4)] != ["", ""]


def test_a_stream_joins_to_what_is_written_at_once(session: Session, examples: list[Example]) -> None:
    for example in examples[:2]:
        pieces = list(session.stream(example, max_new_tokens=8))
        (answer,) = session.write([example], max_new_tokens=8)
        assert "".join(pieces).strip() == answer.text


def test_a_failure_while_streaming_is_raised_and_not_waited_for(
    session: Session, examples: list[Example], monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*arguments: Any, **settings: Any) -> None:
        raise RuntimeError("out of memory")

    monkeypatch.setattr(session.model, "generate", fail)
    with pytest.raises(RuntimeError, match="out of memory"):
        list(session.stream(examples[0], max_new_tokens=8))


def test_a_choice_is_the_likeliest_option_with_its_probability(session: Session, examples: list[Example]) -> None:
    closed = [example for example in examples if example.options]
    scores = score_options(session.model, session.processor, closed)
    for example, answer, likelihoods in zip(closed, session.choose(closed), scores, strict=True):
        assert tuple(answer.options) == example.options
        assert sum(answer.options.values()) == pytest.approx(1)
        assert answer.text == example.options[max(range(len(likelihoods.values)), key=likelihoods.values.__getitem__)]
        assert answer.confidence == max(answer.options.values())


@pytest.mark.parametrize("inside", ["", "model"])
def test_a_session_opened_from_a_folder_answers_as_the_one_saved(
    session: Session, examples: list[Example], tmp_path: Path, inside: str
) -> None:
    save(session.model, tmp_path / "model", settings={"system": None, "max_length": 512}, provenance={})
    opened = open_session(tmp_path / inside, device="cpu")
    assert opened.choose(examples[:2]) == session.choose(examples[:2])
    assert opened.write(examples[5:], max_new_tokens=4) == session.write(examples[5:], max_new_tokens=4)
    assert not any(module.training for module in opened.model.modules())


def test_adapters_are_in_the_weights_of_an_opened_session(
    make_model: Callable[..., VisionLanguageModel],
    make_processor: Callable[..., Processor],
    examples: list[Example],
    tmp_path: Path,
) -> None:
    model = make_model(initializer_range=0.3, adapter={"kind": "lora", "r": 2})
    for name, parameter in model.named_parameters():
        if is_adapter(name):
            parameter.data += 0.3
    save(model, tmp_path, settings={"system": None, "max_length": 512}, provenance={})
    opened = open_session(tmp_path, device="cpu")
    assert not adapted_layers(opened.model.language)
    closed = [example for example in examples if example.options]
    expected = score_options(model.eval(), make_processor(model), closed)
    found = score_options(opened.model, opened.processor, closed)
    for one, other in zip(found, expected, strict=True):
        assert one.values == pytest.approx(other.values, abs=1e-4)


def test_four_bits_and_soft_prompts_stay_what_they_are(make_model: Callable[..., VisionLanguageModel]) -> None:
    model = make_model(adapter={"kind": "prompt", "tokens": 3})
    model.language.finish_training()
    assert model.language.soft_prompt is not None
    pytest.importorskip("bitsandbytes")
    model = make_model(adapter={"kind": "qlora", "r": 2}, hidden_size=64)
    model.language.finish_training()
    assert adapted_layers(model.language)


def test_no_model_is_one_line(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match=r"no model at .*; name the `model` folder"):
        open_session(tmp_path / "nowhere")
    with pytest.raises(CheckpointError, match="is no model folder"):
        open_session(tmp_path)


def test_nothing_is_computed_with_gradients(session: Session, examples: list[Example]) -> None:
    session.choose(examples[:1])
    session.write(examples[:1], max_new_tokens=1)
    assert all(parameter.grad is None for parameter in session.model.parameters())
    assert torch.is_grad_enabled()
