"""Preferences are learned as direct preference optimisation says, against a reference that stays what it was."""

import math
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from mmmed.data.collate import pad
from mmmed.data.conversation import merge
from mmmed.errors import ConfigError, DataError, RecordError
from mmmed.models.adaptation import is_adapter
from mmmed.models.folder import save
from mmmed.models.vlm import Batch, VisionLanguageModel
from mmmed.processing.processor import Processor
from mmmed.records import Example, Turn
from mmmed.training.preference import PreferenceLoss, answer_likelihood
from mmmed.training.provenance import data_hash

MakeModel = Callable[..., VisionLanguageModel]
MakeProcessor = Callable[..., Processor]
LORA = {"kind": "lora", "r": 2, "lora_dropout": 0.5}
PROMPT = {"kind": "prompt", "tokens": 3}
WORSE = ("no", "What is shown is absent", "yes", "left")


@pytest.fixture
def pairs(examples: list[Example]) -> list[Example]:
    """Questions about films and about none, each with a better and a worse answer."""
    made = []
    for example, worse in zip((examples[0], examples[5], examples[2], examples[4]), WORSE, strict=True):
        *before, last = example.turns
        made.append(replace(example, turns=(*before, replace(last, rejected=worse)), options=()))
    return made


def batch_of(processor: Processor, examples: list[Example]) -> Batch:
    return pad([processor.training(example) for example in examples], image_id=processor.image_id)


def learn(model: VisionLanguageModel, *, all_of_it: bool = False) -> VisionLanguageModel:
    """Let the adapter learn, or everything, and move it away from where it began."""
    torch.manual_seed(5)
    for name, one in model.named_parameters():
        one.requires_grad_(all_of_it or is_adapter(name))
        if one.requires_grad:
            one.data += 0.05 * torch.randn_like(one)
    return model


@torch.no_grad()
def by_hand(model: VisionLanguageModel, processor: Processor, example: Example, answer: str) -> Tensor:
    """Log-likelihood of one answer and its stop, alone, from the logits of the whole model."""
    *before, last = example.turns
    made = processor.training(replace(example, turns=(*before, replace(last, text=answer, rejected=""))))
    words_TV = model(pad([made], image_id=processor.image_id))[0].double().log_softmax(-1)
    said = made.supervised.nonzero().flatten()
    return words_TV[said - 1].gather(1, made.ids[said][:, None]).sum()


def test_the_loss_is_the_formula(
    make_model: MakeModel, make_processor: MakeProcessor, pairs: list[Example], tmp_path: Path
) -> None:
    reference = make_model(initializer_range=0.2)
    save(reference, tmp_path / "model", settings={}, provenance={})
    model = learn(make_model(initializer_range=0.2), all_of_it=True)
    processor = make_processor(model)
    objective = PreferenceLoss(beta=0.3, reference=str(tmp_path / "model"))
    loss = objective.loss(model, batch_of(processor, pairs))
    margins = []
    for example in pairs:
        better, worse = example.reference, example.turns[-1].rejected
        gains = [
            by_hand(model, processor, example, one) - by_hand(reference, processor, example, one)
            for one in (better, worse)
        ]
        margins.append(0.3 * float(gains[0] - gains[1]))
    expected = sum(math.log1p(math.exp(-margin)) for margin in margins) / len(margins)
    assert float(loss.detach()) == pytest.approx(expected, abs=1e-5)
    assert objective.measures()["margin"] == pytest.approx(sum(margins) / len(margins), abs=1e-4)
    assert objective.measures()["preferred"] == sum(margin > 0 for margin in margins) / len(margins)
    assert abs(expected - math.log(2)) > 1e-3


def test_an_anchor_adds_what_a_token_of_the_better_answer_costs(
    make_model: MakeModel, make_processor: MakeProcessor, pairs: list[Example]
) -> None:
    model = make_model(adapter={"kind": "lora", "r": 2}, initializer_range=0.2)
    for name, one in model.named_parameters():
        one.requires_grad_(is_adapter(name))
    processor = make_processor(model)
    batch = batch_of(processor, pairs)
    costs = []
    for example in pairs:
        tokens = int(processor.training(example).supervised.sum())
        costs.append(-float(by_hand(model, processor, example, example.reference)) / tokens)
    plain, anchored = (float(PreferenceLoss(anchor=anchor).loss(model, batch).detach()) for anchor in (0.0, 0.5))
    assert anchored - plain == pytest.approx(0.5 * sum(costs) / len(costs), abs=1e-4)
    with pytest.raises(ConfigError, match="anchor is -1; expected 0 or more"):
        PreferenceLoss(anchor=-1)


@pytest.mark.parametrize("adapter", [LORA, {"kind": "dora", "r": 2}, {"kind": "ia3"}], ids=lambda one: one["kind"])
def test_it_begins_at_log_2(
    make_model: MakeModel, make_processor: MakeProcessor, pairs: list[Example], adapter: dict[str, Any]
) -> None:
    model = make_model(adapter=adapter)
    for name, one in model.named_parameters():
        one.requires_grad_(is_adapter(name))
    loss = PreferenceLoss().loss(model, batch_of(make_processor(model), pairs))
    assert float(loss.detach()) == pytest.approx(math.log(2), abs=1e-6)


@pytest.mark.parametrize("adapter", [LORA, PROMPT], ids=lambda one: one["kind"])
def test_leaving_the_adapter_out_equals_a_frozen_copy(
    make_model: MakeModel, make_processor: MakeProcessor, pairs: list[Example], tmp_path: Path, adapter: dict[str, Any]
) -> None:
    start = make_model(vision=False, initializer_range=0.2)
    save(start, tmp_path / "model", settings={}, provenance={})
    model = learn(make_model(vision=False, initializer_range=0.2, adapter=adapter))
    batch = batch_of(make_processor(model), pairs)
    losses, gradients = [], []
    for reference in (None, str(tmp_path / "model")):
        model.zero_grad()
        loss = PreferenceLoss(reference=reference).loss(model, batch)
        loss.backward()
        losses.append(loss.detach())
        gradients.append({name: one.grad.clone() for name, one in model.named_parameters() if one.grad is not None})
    torch.testing.assert_close(*losses)
    torch.testing.assert_close(*gradients)
    assert gradients[0].keys() == {name for name, _ in model.named_parameters() if is_adapter(name)}


def test_the_reference_drops_nothing_and_the_model_learns_on_as_before(
    make_model: MakeModel, make_processor: MakeProcessor, pairs: list[Example]
) -> None:
    model = learn(make_model(adapter=LORA)).train()
    batch = batch_of(make_processor(model), pairs)
    modes = {name: module.training for name, module in model.named_modules()}
    learning = {name for name, one in model.named_parameters() if one.requires_grad}
    PreferenceLoss().loss(model, batch)
    assert {name: module.training for name, module in model.named_modules()} == modes
    assert {name for name, one in model.named_parameters() if one.requires_grad} == learning


def test_steps_tell_the_better_answer_from_the_worse(
    make_model: MakeModel, make_processor: MakeProcessor, pairs: list[Example]
) -> None:
    model = learn(make_model(adapter=LORA | {"lora_dropout": 0.0}))
    batch = batch_of(make_processor(model), pairs)
    objective = PreferenceLoss(beta=1.0)
    optimizer = torch.optim.Adam([one for one in model.parameters() if one.requires_grad], lr=1e-2)
    for _ in range(25):
        optimizer.zero_grad()
        loss = objective.loss(model, batch)
        loss.backward()
        optimizer.step()
    assert float(loss.detach()) < 0.3
    assert objective.measures()["preferred"] == 1.0


def test_a_likelihood_is_of_the_answer_alone(
    make_model: MakeModel, make_processor: MakeProcessor, pairs: list[Example]
) -> None:
    model = make_model(initializer_range=0.2)
    processor = make_processor(model)
    with torch.no_grad():
        found = answer_likelihood(model, batch_of(processor, pairs))
    expected = [float(by_hand(model, processor, example, example.reference)) for example in pairs]
    assert found.tolist() == pytest.approx(expected, abs=1e-4)


def test_both_answers_follow_the_same_question_and_films(
    make_model: MakeModel, make_processor: MakeProcessor, pairs: list[Example]
) -> None:
    processor = make_processor(make_model())
    for example in pairs:
        made = processor.training(example)
        other = made.rejected
        assert other is not None
        assert other.pixels is made.pixels
        asked = len(processor.question(example).ids)
        assert torch.equal(made.ids[:asked], other.ids[:asked])
        decode = processor.prompt.tokenizer.decode
        assert decode(made.ids[made.supervised]) == f"{example.reference}<|im_end|>"
        assert decode(other.ids[other.supervised]) == f"{example.turns[-1].rejected}<|im_end|>"


def test_a_batch_goes_to_a_device_with_its_rejected_answers(
    make_model: MakeModel, make_processor: MakeProcessor, pairs: list[Example]
) -> None:
    moved = batch_of(make_processor(make_model()), pairs).to(torch.device("meta"))
    assert moved.rejected is not None
    assert moved.rejected.ids_BT.device.type == moved.ids_BT.device.type == "meta"


def test_pairs_stay_alone_and_count_in_the_hash_of_the_data(pairs: list[Example]) -> None:
    closed = replace(pairs[0], options=("yes", "no"))
    assert len(merge([closed, replace(closed, id="b")], most_turns=8, seed=0)) == 2
    *before, last = closed.turns
    plain = replace(closed, turns=(*before, replace(last, rejected="")))
    assert data_hash([closed]) != data_hash([plain])


def test_what_is_no_pair_is_refused(
    make_model: MakeModel, make_processor: MakeProcessor, pairs: list[Example], examples: list[Example]
) -> None:
    model = make_model(adapter=LORA)
    processor = make_processor(model)
    with pytest.raises(DataError, match="the batch has no rejected answers"):
        PreferenceLoss().loss(model, batch_of(processor, examples))
    with pytest.raises(DataError, match="phantom:report: no rejected answer; preferences are learned from two"):
        PreferenceLoss().prepare(processor, [*pairs, examples[5]])
    with pytest.raises(RecordError, match="phantom:report: no rejected answer, as others of its batch have"):
        batch_of(processor, [*pairs, examples[5]])
    early = Turn("assistant", "yes", rejected="no")
    turns = (Turn("user", "Is it?"), early, Turn("user", "Is it?"), Turn("assistant", "no"))
    with pytest.raises(RecordError, match="only a last assistant turn without blanks"):
        processor.training(Example(id="a", patient="p", turns=turns))
    form = Turn("assistant", "nodule: yes", blanks=("yes",), rejected="nodule: no")
    with pytest.raises(RecordError, match="only a last assistant turn without blanks"):
        processor.training(Example(id="a", patient="p", turns=(Turn("user", "Is it?"), form)))


def test_a_reference_that_moves_is_refused(
    make_model: MakeModel, make_processor: MakeProcessor, pairs: list[Example]
) -> None:
    model = make_model(adapter=LORA)
    batch = batch_of(make_processor(model), pairs)
    with pytest.raises(ConfigError, match=r"projector\.\S+ learns|learns, so that the model without its adapter"):
        PreferenceLoss().loss(model.requires_grad_(True), batch)
    with pytest.raises(ConfigError, match="beta is 0; expected a positive number"):
        PreferenceLoss(beta=0)
