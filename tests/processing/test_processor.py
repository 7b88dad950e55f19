"""One path from an example to a model's input, which refuses what it cannot show."""

from collections.abc import Callable
from dataclasses import replace

import pytest
import torch

from mmmed.errors import RecordError
from mmmed.models.vlm import VisionLanguageModel
from mmmed.processing.processor import Processor
from mmmed.processing.prompt import ChatPrompt
from mmmed.records import Example, Turn

TOKENS_PER_IMAGE = 16


@pytest.fixture
def processor(make_model: Callable[..., VisionLanguageModel], make_processor: Callable[..., Processor]) -> Processor:
    return make_processor(make_model())


@pytest.fixture
def text_only(make_model: Callable[..., VisionLanguageModel], make_processor: Callable[..., Processor]) -> Processor:
    return make_processor(make_model(vision=False))


def test_each_image_is_a_run_of_image_tokens_and_its_pixels(processor: Processor, examples: list[Example]) -> None:
    for example in examples:
        made = processor.training(example)
        assert int((made.ids == processor.image_id).sum()) == TOKENS_PER_IMAGE * len(example.images)
        assert made.pixels.shape == (len(example.images), 3, 32, 32)
        assert made.ids.shape == made.supervised.shape
        assert not made.supervised[made.ids == processor.image_id].any()


def test_what_is_supervised_is_the_answer_and_its_stop(processor: Processor, examples: list[Example]) -> None:
    for example in examples:
        made = processor.training(example)
        ids = made.ids[made.supervised].tolist()
        assert processor.prompt.tokenizer.decode(ids) == f"{example.reference}<|im_end|>"
        assert processor.supervised_ids(example) == ids


def test_what_is_said_is_tokenised_once_and_remembered_only_so_long(
    processor: Processor, examples: list[Example], monkeypatch: pytest.MonkeyPatch
) -> None:
    said: list[str] = []
    conversation = ChatPrompt.conversation
    monkeypatch.setattr(
        ChatPrompt, "conversation", lambda self, turns: [said.append(turns[-1].text), conversation(self, turns)][1]
    )
    monkeypatch.setattr("mmmed.processing.processor._REMEMBERED", 2)
    first, second, third = examples[0], examples[1], examples[-1]
    made = [processor.training(one) for one in (first, second, first, second)]
    assert said == [first.reference, second.reference]
    assert torch.equal(made[0].ids, made[2].ids)
    assert torch.equal(made[1].supervised, made[3].supervised)
    processor.training(third)
    again = processor.training(first)
    assert said == [one.reference for one in (first, second, third, first)]
    assert torch.equal(again.ids, made[0].ids)
    processor.system = "You look at films."
    assert len(processor.training(first).ids) > len(again.ids)


def test_question_and_answer_are_the_beginning_of_what_is_trained(
    processor: Processor, examples: list[Example]
) -> None:
    for example in examples:
        asked = [*processor.question(example).ids.tolist(), *processor.answer_ids(example, example.reference)]
        assert processor.training(example).ids[: len(asked)].tolist() == asked
        assert not processor.question(example).supervised.any()


def test_a_text_only_model_reads_the_same_words_without_placeholders(
    processor: Processor, text_only: Processor, examples: list[Example]
) -> None:
    for example in examples:
        made = text_only.training(example)
        words = text_only.prompt.tokenizer.decode(made.ids)
        seen = processor.prompt.tokenizer.decode(processor.training(example).ids).replace("<image>", "")
        assert "<image>" not in words
        assert words.split() == seen.replace("user\n\n", "user\n").split()
        assert len(made.pixels) == 0


def test_the_system_prompt_is_added_only_where_there_is_none(
    make_model: Callable[..., VisionLanguageModel], make_processor: Callable[..., Processor], examples: list[Example]
) -> None:
    processor = make_processor(make_model(), system="Answer briefly.")
    text = processor.prompt.tokenizer.decode(processor.training(examples[0]).ids)
    assert text.startswith("<|im_start|>system\nAnswer briefly.<|im_end|>")
    own = replace(examples[0], turns=(Turn("system", "Be kind."), *examples[0].turns))
    assert "briefly" not in processor.prompt.tokenizer.decode(processor.training(own).ids)


def test_an_example_without_answer_is_refused_by_name(processor: Processor) -> None:
    example = Example(id="7", patient="p", turns=(Turn("user", "Is there?"),), source="phantom")
    with pytest.raises(RecordError, match="phantom:7: no token is supervised; give it an assistant turn"):
        processor.training(example)


def test_an_example_without_question_is_refused_by_name(processor: Processor) -> None:
    example = Example(id="7", patient="p", turns=(Turn("assistant", "yes"),), source="phantom")
    with pytest.raises(RecordError, match="phantom:7: no question to answer"):
        processor.question(example)
    with pytest.raises(RecordError, match="phantom:7: begins with the assistant"):
        processor.training(example)


def test_an_example_that_is_too_long_is_refused_by_name(
    make_model: Callable[..., VisionLanguageModel], make_processor: Callable[..., Processor], examples: list[Example]
) -> None:
    processor = make_processor(make_model(), max_length=20)
    with pytest.raises(RecordError, match=r"phantom:effusion: \d+ tokens, more than max_length 20"):
        processor.training(examples[0])


def test_a_placeholder_without_image_is_refused() -> None:
    with pytest.raises(RecordError, match="phantom:7: 1 <image> placeholders for 0 images"):
        Example(id="7", patient="p", turns=(Turn("user", "<image> Is there?"),), source="phantom")


def test_pixels_are_the_same_for_training_and_asking(processor: Processor, examples: list[Example]) -> None:
    torch.testing.assert_close(processor.training(examples[2]).pixels, processor.question(examples[2]).pixels)
