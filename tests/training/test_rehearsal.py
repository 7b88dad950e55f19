"""A rehearsed step says what the real one takes."""

import copy
from collections.abc import Callable
from contextlib import nullcontext
from functools import partial
from typing import Any

import pytest
import torch
from torch.autograd.graph import saved_tensors_hooks

from mmmed.data.collate import pad
from mmmed.errors import ConfigError
from mmmed.models.features import FrozenFeatures
from mmmed.models.vlm import Batch, VisionLanguageModel
from mmmed.training.objectives import AnswerLoss, VocabularyLoss
from mmmed.training.rehearsal import rehearse, state_bytes
from mmmed.training.stage import Stage

MakeModel = Callable[..., VisionLanguageModel]
adam = partial(torch.optim.AdamW, lr=1e-3)


class Peak(torch.utils._python_dispatch.TorchDispatchMode):
    """The most memory that a real step's tensors hold, beside what was there before."""

    def __init__(self, model: torch.nn.Module) -> None:
        super().__init__()
        self.held: dict[int, int] = {}
        self.highest = 0
        self._before = {one.untyped_storage().data_ptr() for one in [*model.parameters(), *model.buffers()]}
        self._live: list[Any] = []

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        import weakref

        out = func(*args, **(kwargs or {}))
        for one in out if isinstance(out, (tuple, list)) else [out]:
            if isinstance(one, torch.Tensor) and one.is_floating_point():
                storage = one.untyped_storage()
                if id(storage) not in self.held and storage.data_ptr() not in self._before:
                    self.held[id(storage)] = storage.nbytes()
                    weakref.finalize(storage, self.held.pop, id(storage), None)
                    self.highest = max(self.highest, sum(self.held.values()))
        return out


@pytest.fixture
def batch(make_model: MakeModel, make_processor: Callable[..., Any], make_example: Any) -> Batch:
    processor = make_processor(make_model())
    questions = ["Is there a pleural effusion?", "Where does it lie?", "What is shown?"]
    inputs = [
        processor.training(make_example(text, text, "Normal heart size. no effusion.", shade))
        for shade, text in enumerate(questions)
    ]
    return pad(inputs, image_id=processor.image_id)


@pytest.mark.parametrize("learning", [["projector"], ["projector", "language"], ["vision", "projector", "language"]])
@pytest.mark.parametrize("precision", ["32-true", "bf16-mixed"])
def test_activations_are_those_of_a_real_step(
    make_model: MakeModel, batch: Batch, learning: list[str], precision: str
) -> None:
    model = make_model(num_hidden_layers=4)
    Stage("instruct", model, dict.fromkeys(learning, 1e-3), adam)
    real = copy.deepcopy(model)
    gradients = 4 * sum(one.numel() for one in real.parameters() if one.requires_grad)
    with Peak(real) as peak:
        with torch.autocast("cpu", dtype=torch.bfloat16) if precision == "bf16-mixed" else nullcontext():
            loss = AnswerLoss().loss(real, batch)
        loss.backward()
    memory = rehearse(model, AnswerLoss(), batch, precision=precision)
    assert memory.weights >= 4 * sum(one.numel() for one in real.parameters())
    assert memory.gradients == gradients
    told = memory.activations + memory.logits
    assert memory.logits > 0
    # Of the real step's peak, a part may be gradients already.
    assert told <= 1.15 * peak.highest
    assert told + gradients >= 0.87 * peak.highest


def test_what_the_backward_pass_keeps_is_in_it(make_model: MakeModel, batch: Batch) -> None:
    model = make_model(num_hidden_layers=4)
    Stage("instruct", model, {"projector": 1e-3, "language": 1e-3}, adam)
    owned = {one.untyped_storage().data_ptr() for one in model.parameters()}
    kept: dict[int, int] = {}

    def pack(tensor: torch.Tensor) -> torch.Tensor:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in owned:
            kept[storage.data_ptr()] = storage.nbytes()
        return tensor

    with saved_tensors_hooks(pack, lambda tensor: tensor):
        AnswerLoss().loss(model, batch)
    memory = rehearse(model, AnswerLoss(), batch, precision="32-true")
    # Masks, a byte a token, are real in a rehearsal, and not counted.
    assert 0.99 * sum(kept.values()) <= memory.activations + memory.logits <= 2 * sum(kept.values())


def test_a_model_without_memory_is_rehearsed_as_one_with_it(make_model: MakeModel, batch: Batch) -> None:
    told = []
    for device in ("cpu", "meta"):
        model = make_model()
        assert model.vision is not None
        covered = VisionLanguageModel(model.language, FrozenFeatures(model.vision), type(model.projector))
        Stage("align", covered, {"projector": 1e-3}, adam)
        told.append(rehearse(covered.to(device), AnswerLoss(), batch, precision="bf16-true"))
    assert told[0] == told[1]
    assert told[0].gradients == 2 * sum(one.numel() for one in model.projector.parameters())


def test_other_objectives_are_rehearsed_too(
    make_model: MakeModel, make_processor: Callable[..., Any], batch: Batch, examples: Any
) -> None:
    model = make_model()
    Stage("align", model, {"projector": 1e-3}, adam)
    objective = VocabularyLoss(negatives=20)
    objective.prepare(make_processor(model), examples)
    memory = rehearse(model, objective, batch, precision="32-true")
    assert memory.activations > 0


def test_optimizers_say_what_they_keep() -> None:
    assert state_bytes(adam) == 8
    assert state_bytes(partial(torch.optim.SGD, lr=0.1, momentum=0.9)) == 4
    assert state_bytes(partial(torch.optim.SGD, lr=0.1)) == 0


def test_what_depends_on_values_is_told_in_one_line(make_model: MakeModel, batch: Batch) -> None:
    class Choosy:
        def prepare(self, processor: Any, examples: Any) -> None:
            pass

        def loss(self, model: Any, batch: Batch) -> torch.Tensor:
            hidden = model.read(batch)
            return hidden.sum() if float(hidden.sum()) > 0 else -hidden.sum()

    with pytest.raises(ConfigError, match="cannot be planned without running it"):
        rehearse(make_model(), Choosy(), batch, precision="32-true")
