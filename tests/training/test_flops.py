"""Operations counted from shapes are those that torch counts while it computes."""

from collections.abc import Callable
from functools import partial
from typing import Any

import pytest
import torch
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from mmmed.data.collate import pack, pad
from mmmed.models import products
from mmmed.models.features import FrozenFeatures
from mmmed.models.vlm import VisionLanguageModel
from mmmed.training.devices import gpus, known_gpu, measured_rate, peak_of
from mmmed.training.flops import step_cost
from mmmed.training.objectives import AnswerLoss
from mmmed.training.stage import Stage

MakeModel = Callable[..., VisionLanguageModel]
adam = partial(torch.optim.AdamW, lr=1e-3)
SIZES = {"hidden_size": 64, "intermediate_size": 256, "num_hidden_layers": 4}


@pytest.fixture(autouse=True)
def usual_products(monkeypatch: pytest.MonkeyPatch) -> None:
    """Torch counts its own products alone."""
    monkeypatch.setattr(products, "is_faster", lambda: False)


def counted(stage: Stage, batch: Any) -> tuple[int, int]:
    """Operations of the forward and the backward pass, as torch counts them.

    Attention is laid out as plain products, since not every version counts the fused kernels of a processor.
    """
    with sdpa_kernel(SDPBackend.MATH), FlopCounterMode(display=False) as counter:
        loss = AnswerLoss().loss(stage.model, batch)
        forward = counter.get_total_flops()
        loss.backward()
    return forward, counter.get_total_flops() - forward


@pytest.mark.parametrize(
    ("learning", "adapter"),
    [
        (["projector"], None),
        (["projector", "language"], None),
        (["vision", "projector", "language"], None),
        (["vision"], None),
        (["language"], {"kind": "lora", "r": 4}),
        (["projector", "language"], {"kind": "lora", "r": 4}),
    ],
)
def test_operations_are_those_that_torch_counts(
    make_model: MakeModel, make_processor: Callable[..., Any], make_example: Any, learning: list[str], adapter: Any
) -> None:
    model = make_model(adapter=adapter, **SIZES)
    stage = Stage("instruct", model, dict.fromkeys(learning, 1e-3), adam)
    processor = make_processor(model)
    example = make_example("one", "Is there a pleural effusion?", "Normal heart size. no effusion.", 1)
    batch = pad([processor.training(example)] * 3, image_id=processor.image_id)
    cost = step_cost(model)
    assert cost is not None
    flops = cost.of(batch)
    forward, backward = counted(stage, batch)
    assert flops.forward == pytest.approx(forward, rel=0.01)
    assert flops.backward == pytest.approx(backward, rel=0.05)
    assert flops.total == pytest.approx(forward + backward, rel=0.03)


def test_text_alone_and_padding(make_model: MakeModel, make_processor: Callable[..., Any], make_example: Any) -> None:
    model = make_model(vision=False, **SIZES)
    Stage("language", model, {"language": 1e-3}, adam)
    processor = make_processor(model)
    short, long = (make_example(text, text, "yes") for text in ("Is there?", "Is there a pleural effusion? " * 8))
    inputs = [processor.training(one) for one in (short, long)]
    cost = step_cost(model)
    assert cost is not None
    together = cost.of(pad(inputs, image_id=processor.image_id)).total
    apart = sum(cost.of(pad([one], image_id=processor.image_id)).total for one in inputs)
    assert together == pytest.approx(apart), "padding is no use"


def test_a_tree_costs_what_its_tokens_cost_once(
    make_model: MakeModel, make_processor: Callable[..., Any], make_example: Any
) -> None:
    """Held against a count by hand: a trunk of t tokens and branches of b, of which each sees the trunk and itself."""
    layers, width, inner = 3, 64, 128
    model = make_model(hidden_size=width, intermediate_size=inner, num_hidden_layers=layers)
    Stage("instruct", model, {"projector": 1e-3, "language": 1e-3}, adam)
    processor = make_processor(model)
    questions = ("Is there a pleural effusion?", "Normal heart size?", "no effusion?")
    about_one = [processor.training(make_example(one, one, "yes", 1)) for one in questions]
    other = processor.training(make_example("other", questions[0], "yes", 2))
    batch = pack([*about_one, other], image_id=processor.image_id)
    cost = step_cost(model)
    assert cost is not None
    assert batch.layout is not None
    assert len(batch.layout.trees) == 2
    begin, trunk_end, end = batch.layout.trees[0]
    trunk, branches = trunk_end - begin, [len(one.ids) - (trunk_end - begin) for one in about_one]
    assert trunk + sum(branches) == end - begin, "these questions share a trunk and nothing else"
    pairs = trunk**2 + sum(one**2 + 2 * trunk * one for one in branches) + len(other.ids) ** 2
    answers = sum(int(one.supervised.sum()) for one in (*about_one, other))
    # Queries and output, half as many keys and values each, and the three matrices of the perceptron.
    matrices = layers * (3 * width**2 + 3 * width * inner)
    vocabulary = model.language.output_matrix.shape[0]
    tokens = trunk + sum(branches) + len(other.ids)
    decoder = 2 * matrices * tokens + 4 * width * layers * pairs + 2 * width * vocabulary * answers
    images = sum(one.times(2).forward for one in cost.images)
    flops = cost.of(batch)
    assert flops.forward == pytest.approx(decoder + images)
    backward = 2 * (2 * matrices * tokens + 4 * width * layers * pairs + 2 * width * vocabulary * answers)
    assert flops.backward == pytest.approx(backward + sum(one.times(2).backward for one in cost.images))
    padded = pad([*about_one, other], image_id=processor.image_id)
    assert cost.of(padded).total > flops.total
    alone = [f([other], image_id=processor.image_id) for f in (pad, pack)]
    assert cost.of(alone[0]) == cost.of(alone[1]), "a tree of one branch is a sequence"


def test_kept_features_cost_nothing(make_model: MakeModel) -> None:
    model = make_model()
    assert model.vision is not None
    kept = VisionLanguageModel(model.language, FrozenFeatures(model.vision), type(model.projector))
    for one in (model, kept):
        Stage("align", one, {"projector": 1e-3}, adam)
    costs = [step_cost(one) for one in (model, kept)]
    assert [len(cost.images) for cost in costs if cost is not None] == [2, 1]


def test_experts_that_a_token_passes_by_do_not_count(make_model: MakeModel) -> None:
    dense = make_model(vision=False)
    sparse = make_model(vision=False, model_type="mixtral", num_local_experts=4, num_experts_per_tok=1)
    for one in (dense, sparse):
        Stage("language", one, {"language": 1e-3}, adam)
    ours, theirs = (step_cost(one) for one in (sparse, dense))
    assert ours is not None
    assert theirs is not None
    assert ours.token.forward == pytest.approx(theirs.token.forward, rel=0.05)


def test_towers_are_not_counted(make_towers: Callable[..., Any]) -> None:
    assert step_cost(make_towers()) is None


def test_devices_are_known_and_a_processor_is_measured() -> None:
    assert known_gpu("h200").peak("bf16-mixed") == 989e12
    assert known_gpu("a100-80gb").peak("32-true") == 19.5e12
    assert all(one.source for one in gpus().values())
    with pytest.raises(Exception, match="did you mean 'h200'"):
        known_gpu("h20")
    assert peak_of(torch.device("cpu"), "32-true") == measured_rate(torch.float32) > 1e8
