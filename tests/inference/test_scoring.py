"""Likelihoods from shared prefixes equal those of reading every sequence whole."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import pytest
import torch

from mmmed.data.collate import pad
from mmmed.inference import reading
from mmmed.inference.scoring import score_options
from mmmed.models.vlm import VisionLanguageModel
from mmmed.processing.processor import ModelInput, Processor
from mmmed.records import Example

MakeModel = Callable[..., VisionLanguageModel]
MakeProcessor = Callable[..., Processor]


@torch.no_grad()
def read_whole(model: VisionLanguageModel, processor: Processor, example: Example) -> list[float]:
    """One forward pass per option over question and option, alone in its batch."""
    values = []
    for option in example.options:
        asked, said = processor.question(example), processor.answer_ids(example, option)
        ids = torch.cat([asked.ids, torch.tensor(said)])
        whole = ModelInput("", ids, torch.zeros_like(ids, dtype=torch.bool), asked.pixels)
        log_probabilities = model(pad([whole], image_id=processor.image_id))[0].log_softmax(-1)
        start = len(asked.ids)
        values.append(sum(float(log_probabilities[start - 1 + place, token]) for place, token in enumerate(said)))
    return values


def closed(examples: Sequence[Example]) -> list[Example]:
    return [example for example in examples if example.options]


@pytest.fixture
def many(examples: list[Example], make_example: Callable[..., Example]) -> list[Example]:
    """Several questions about one film, films of prefixes of other lengths, text alone, duplicates, any order."""
    options = ("absent", "present", "no effusion at all")
    more = [
        make_example("a", "Is there cardiomegaly?", "no", 1, options=("yes", "no")),
        make_example("b", "What of the effusion on this film?", "absent", 1, options=options),
        make_example("c", "What of the effusion?", "absent", options=options),
        make_example("d", "Is there a pleural effusion?", "yes", 1, options=("yes", "no")),
    ]
    given = [*closed(examples), *more]
    return [given[place] for place in (5, 0, 7, 2, 4, 1, 8, 3, 6)]


SETTINGS = {
    "images": {},
    "text alone": {"vision": False},
    "padded": {"attention": "eager"},
    "sliding window": {"model_type": "gemma3_text", "head_dim": 8, "sliding_window": 9},
    "sliding window, padded": {"model_type": "mistral", "sliding_window": 9, "attention": "eager"},
}


@pytest.mark.parametrize("settings", SETTINGS.values(), ids=SETTINGS.keys())
@pytest.mark.parametrize(("shortest", "tokens_at_once"), [(1, 1), (1, 4096), (16, 256), (999, 4096)])
def test_likelihoods_equal_those_of_whole_sequences(
    make_model: MakeModel,
    make_processor: MakeProcessor,
    many: list[Example],
    settings: dict[str, Any],
    shortest: int,
    tokens_at_once: int,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(reading, "SHORTEST_SHARED", shortest)
    monkeypatch.setitem(reading.TOKENS_AT_ONCE, "cpu", tokens_at_once)
    model = make_model(initializer_range=0.3, **settings)
    processor = make_processor(model)
    for example, likelihoods in zip(many, score_options(model, processor, many), strict=True):
        expected = read_whole(model, processor, example)
        assert likelihoods.values == pytest.approx(expected, abs=1e-4), example.id


def test_questions_that_begin_alike_are_read_in_two_passes_without_padding(
    make_model: MakeModel, make_processor: MakeProcessor, make_example: Callable[..., Example]
) -> None:
    model, read = make_model(), []
    begin = "The film of a child of four years with a cough for ten days. "
    asked = ["Is there an effusion?", "Is there a fracture of the left clavicle?", "Is it normal?"]
    asks = [make_example(text, begin + text, "no", options=("yes", "no")) for text in asked]
    processor = make_processor(model)
    model.language.register_forward_pre_hook(lambda module, inputs: read.append(tuple(inputs[0].shape[:2])))
    score_options(model, processor, asks[:1])  # it tries once whether the model can
    read.clear()
    score_options(model, processor, asks)
    lengths = [len(processor.question(one).ids) for one in asks]
    (_, shared), (rows, rest) = read
    assert rows == 1
    assert shared * len(asks) + rest == sum(lengths)


def test_equal_questions_are_computed_once_and_all_are_told_of(
    make_model: MakeModel, make_processor: MakeProcessor, many: list[Example], monkeypatch: pytest.MonkeyPatch
) -> None:
    model, told, computed = make_model(), [], []
    head = model.language.head
    monkeypatch.setattr(model.language, "head", lambda *given, **how: computed.append(1) or head(*given, **how))
    scores = score_options(model, make_processor(model), [many[0]] * 5, advance=told.append)
    assert len(set(scores)) == 1
    assert sum(told) == 5
    assert len(computed) == 1


def test_another_film_under_the_same_words_is_another_question(
    make_model: MakeModel, make_processor: MakeProcessor, examples: list[Example]
) -> None:
    model = make_model(initializer_range=0.3)
    same = replace(examples[0], images=examples[3].images)
    first, second = score_options(model, make_processor(model), [examples[0], same])
    assert first != second


def test_options_read_with_a_long_chain_of_tokens_stay_apart(
    make_model: MakeModel, make_processor: MakeProcessor, make_example: Callable[..., Example]
) -> None:
    """An option that begins another is no shorter way to it."""
    model = make_model(initializer_range=0.3)
    example = make_example("x", "Where?", "left", 1, options=("left", "left lung", "left lung and right lung"))
    processor = make_processor(model)
    (likelihoods,) = score_options(model, processor, [example])
    assert likelihoods.values == pytest.approx(read_whole(model, processor, example), abs=1e-4)
    assert likelihoods.values[0] > likelihoods.values[1] > likelihoods.values[2]
