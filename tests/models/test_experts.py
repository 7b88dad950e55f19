"""A mixture is its experts weighted by the router; its balance loss is the published one; too late means zero."""

import pytest
import torch
from torch import nn
from transformers.models.mixtral.modeling_mixtral import load_balancing_loss_func

from mmmed.errors import ConfigError
from mmmed.models.auxiliary import measures_of, take_auxiliary_loss
from mmmed.models.experts import ExpertsProjector, MixtureOfExperts, within_capacity
from mmmed.models.projector import MLPProjector, projected_tokens


def mixture(experts: int = 3, **settings: object) -> MixtureOfExperts:
    torch.manual_seed(0)
    return MixtureOfExperts([nn.Linear(6, 5) for _ in range(experts)], width=6, **settings)


@pytest.mark.parametrize("layers", [1, 2, 3])
@pytest.mark.parametrize("training", [True, False])
def test_with_one_expert_the_output_is_exactly_the_mlps(layers: int, training: bool) -> None:
    dense = MLPProjector(6, 10, layers=layers)
    one = ExpertsProjector(6, 10, experts=1, top_k=1, capacity=1.0, layers=layers).train(training)
    one.mixture.experts[0].load_state_dict(dense.state_dict())
    features = torch.randn(2, 16, 6)
    assert torch.equal(one(features), dense(features))


@pytest.mark.parametrize("normalise", [True, False])
def test_a_token_is_the_weighted_sum_of_the_experts_it_asks(normalise: bool) -> None:
    layer = mixture(top_k=2, normalise=normalise)
    tokens = torch.randn(2, 7, 6)
    said = layer(tokens)
    for place in [(0, 0), (1, 3)]:
        likelihoods = layer.router(tokens[place]).softmax(-1)
        chosen = likelihoods.argsort(descending=True)[:2].tolist()
        total = sum(likelihoods[one] for one in chosen) if normalise else 1.0
        expected = sum(likelihoods[one] / total * layer.experts[one](tokens[place]) for one in chosen)
        torch.testing.assert_close(said[place], expected)


@pytest.mark.parametrize("top_k", [1, 2, 3])
def test_the_balance_loss_is_that_of_mixtral_per_choice(top_k: int) -> None:
    layer = mixture(top_k=top_k, balance=0.5)
    tokens = torch.randn(40, 6)
    layer(tokens)
    expected = load_balancing_loss_func((layer.router(tokens),), 3, top_k) / top_k
    torch.testing.assert_close(layer.measures()["balance"], expected.detach())
    torch.testing.assert_close(take_auxiliary_loss(layer), 0.5 * expected)


def test_balance_is_one_when_balanced_and_the_number_of_experts_at_worst() -> None:
    layer = mixture(top_k=1)
    nn.init.zeros_(layer.router.weight)  # equal likelihoods: the mean likelihood is even, whoever is chosen
    layer(torch.randn(30, 6))
    assert layer.measures()["balance"].item() == pytest.approx(1.0)
    with torch.no_grad():
        layer.router.weight[1] = 100.0
    layer(torch.rand(30, 6) + 1)
    assert layer.measures()["balance"].item() == pytest.approx(3.0)
    assert [layer.measures()[f"share_{number}"].item() for number in range(3)] == [0, 1, 0]


def test_the_balance_loss_teaches_the_router_and_evaluation_keeps_none() -> None:
    layer = mixture()
    layer(torch.randn(10, 6))
    take_auxiliary_loss(layer).backward()
    assert layer.router.weight.grad.abs().max() > 0
    assert take_auxiliary_loss(layer) is None
    layer.eval()(torch.randn(10, 6))
    assert take_auxiliary_loss(layer) is None


def test_measures_are_told_by_the_module_they_are_of() -> None:
    projector = ExpertsProjector(6, 10, experts=2, top_k=1)
    assert measures_of(projector) == {}
    projector(torch.randn(1, 16, 6))
    told = measures_of(projector)
    assert set(told) == {f"mixture/{name}" for name in ("share_0", "share_1", "dropped", "balance")}
    assert float(told["mixture/share_0"] + told["mixture/share_1"]) == pytest.approx(1)


def test_asking_for_the_shape_alone_leaves_no_measures() -> None:
    projector = ExpertsProjector(6, 10, pool=2)
    assert projected_tokens(projector, tokens=16, width=6) == 4
    assert measures_of(projector) == {}


def test_first_choices_go_before_second_and_early_tokens_before_late_ones() -> None:
    choices = torch.tensor([[0, 1], [0, 1], [1, 0], [0, 1]])
    kept = within_capacity(choices, experts=2, most=2)
    # Expert 0: first choices of tokens 0 and 1. Expert 1: first choice of token 2, then second of token 0.
    assert kept.tolist() == [[True, True], [True, False], [True, False], [False, False]]


def test_a_token_that_comes_too_late_gets_zero_in_training_and_all_it_asks_in_evaluation() -> None:
    layer = mixture(experts=2, top_k=1, capacity=0.5)
    nn.init.zeros_(layer.router.weight)
    tokens = torch.randn(8, 6)
    said = layer(tokens)
    chosen = layer.router(tokens).softmax(-1).topk(1).indices.flatten()
    assert chosen.unique().numel() == 1  # ties go to one expert, which takes 0.5 * 8 / 2 tokens
    assert said.abs().sum(1).bool().tolist() == [True] * 2 + [False] * 6
    assert layer.measures()["dropped"].item() == pytest.approx(6 / 8)
    assert layer.eval()(tokens).abs().sum(1).bool().all()
    assert layer.measures()["dropped"].item() == 0


def test_an_expert_that_nobody_asks_has_a_gradient_of_zero() -> None:
    layer = mixture(top_k=1)
    with torch.no_grad():
        layer.router.weight.zero_()[0] = 100.0
    layer(torch.rand(4, 6) + 1).sum().backward()
    assert all(expert.weight.grad is not None for expert in layer.experts)
    assert layer.experts[1].weight.grad.abs().max() == 0 < layer.experts[0].weight.grad.abs().max()


@pytest.mark.parametrize(
    ("settings", "message"),
    [({"top_k": 4}, "top_k is 4 of 3 experts"), ({"capacity": 0.0}, "capacity of experts is 0.0")],
)
def test_a_mixture_that_cannot_be_is_refused(settings: dict[str, float], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        mixture(**settings)
