"""Weights that are laid out a second time give what torch's own give, and are given up before they are out of date."""

import copy
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from mmmed.models import prepacked, products
from mmmed.models.prepacked import drop_prepacked, prepack
from mmmed.models.products import OneDnnLinear, use_fastest_products

SHAPES = [(40,), (1, 40), (16, 40), (2, 300, 40), (0, 40)]


class Layer(nn.Module):
    """As a decoder's: rows are read by several layers under their usual names."""

    def __init__(self, *, bias: bool = False) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.q_proj, self.k_proj, self.v_proj = (nn.Linear(40, width, bias=bias) for width in (40, 8, 8))
        self.gate_proj, self.up_proj = (nn.Linear(40, 96, bias=bias) for _ in range(2))
        self.down_proj = nn.Linear(96, 40, bias=bias)

    def forward(self, rows: Tensor) -> Tensor:
        wide = functional.silu(self.gate_proj(rows)) * self.up_proj(rows)
        return torch.cat([self.q_proj(rows), self.k_proj(rows), self.v_proj(rows), self.down_proj(wide)], dim=-1)


@pytest.fixture(autouse=True)
def foreign(monkeypatch: pytest.MonkeyPatch) -> None:
    for one in ("is_foreign", "is_faster"):
        monkeypatch.setattr(products, one, lambda: True)


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """How wide each product of weights that are laid out was."""
    found: list[int] = []
    computed = prepacked.computed

    def noted(input: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        output = computed(input, weight, bias)
        found.append(output.shape[-1])
        return output

    monkeypatch.setattr(prepacked, "computed", noted)
    return found


def answering(*, bias: bool = False) -> Layer:
    model = Layer(bias=bias).eval()
    use_fastest_products(model)
    prepack(model)
    return model


def read(model: nn.Module, rows: Tensor) -> Tensor:
    with torch.inference_mode():
        output: Tensor = model(rows)
    return output


@pytest.mark.parametrize("bias", [False, True])
@pytest.mark.parametrize("shape", SHAPES)
def test_outputs_are_those_of_torch(asked: list[int], bias: bool, shape: tuple[int, ...]) -> None:
    plain, rows = Layer(bias=bias).eval(), torch.randn(shape)
    found = read(answering(bias=bias), rows)
    assert found.shape == (*shape[:-1], 96)
    assert torch.allclose(found, read(plain, rows), atol=1e-5)
    assert asked == ([192, 56, 40] if len(found) else []), "layers that read the same rows are one product"


def test_where_something_learns_gradients_are_those_of_torch(asked: list[int]) -> None:
    rows = [torch.ones(3, 40, requires_grad=True) for _ in range(2)]
    for model, one in zip((answering(), Layer()), rows, strict=True):
        model(one).square().sum().backward()
    assert rows[0].grad is not None and rows[1].grad is not None
    assert torch.allclose(rows[0].grad, rows[1].grad, atol=1e-4)
    assert not asked


def test_layers_may_be_asked_in_any_order_and_more_than_once() -> None:
    model, plain = answering(), Layer()
    first, second = torch.randn(2, 3, 40)
    with torch.inference_mode():
        for name, rows in (
            ("v_proj", first),
            ("v_proj", first),
            ("q_proj", second),
            ("k_proj", first),
            ("q_proj", first),
            ("k_proj", second),
        ):
            assert torch.allclose(getattr(model, name)(rows), getattr(plain, name)(rows), atol=1e-5)


def test_threads_do_not_take_each_others_outputs() -> None:
    model, plain = answering(), Layer().eval()
    many = [torch.randn(5, 40) for _ in range(200)]
    with ThreadPoolExecutor(4) as pool:
        found = list(pool.map(lambda rows: read(model, rows), many))
    assert all(torch.allclose(one, read(plain, rows), atol=1e-5) for one, rows in zip(found, many, strict=True))


def test_only_plain_layers_of_the_same_rows_are_one_product(asked: list[int]) -> None:
    model = Layer().eval()
    use_fastest_products(model)
    model.k_proj = nn.Linear(40, 8, bias=False).bfloat16()
    model.up_proj.weight.data = model.up_proj.weight.data.bfloat16()
    prepack(model)
    rows = torch.randn(3, 40)
    for layer in (model.q_proj, model.v_proj, model.gate_proj):
        read(layer, rows)
    assert asked == [40, 8, 96]


@pytest.mark.parametrize(
    "change",
    [
        lambda model: [layer.weight.detach().mul_(2) for layer in model.children()],
        lambda model: [setattr(layer.weight, "data", layer.weight.data * 2) for layer in model.children()],
        lambda model: model.load_state_dict(Layer().state_dict()),
        lambda model: model.train().eval(),
        lambda model: model.double(),
        lambda model: drop_prepacked(model),
    ],
)
def test_they_are_not_looked_at_once_they_are_out_of_date(
    asked: list[int], change: Callable[[nn.Module], object]
) -> None:
    model = answering()
    change(model)
    rows = torch.randn(3, 40).to(model.q_proj.weight.dtype)
    usual = torch.cat(
        [functional.linear(rows, getattr(model, name).weight) for name in ("q_proj", "k_proj", "v_proj")], 1
    )
    assert torch.allclose(read(model, rows)[:, :56], usual, atol=1e-5)
    assert not asked
    prepack(model)
    read(model, rows)
    assert bool(asked) == (rows.dtype == torch.float32)


def test_a_copy_has_none_of_them() -> None:
    model = answering()
    copied = copy.deepcopy(model)
    assert all(isinstance(one, OneDnnLinear) and one.prepacked is None for one in copied.children())
    assert all(isinstance(one, OneDnnLinear) and one.prepacked is not None for one in model.children())


def test_what_is_compiled_takes_none_of_them(asked: list[int]) -> None:
    model, rows = answering(), torch.randn(3, 40)
    compiled = torch.compile(model, dynamic=True, backend="aot_eager", fullgraph=True)
    assert torch.allclose(read(compiled, rows), read(Layer().eval(), rows), atol=1e-5)
    assert not asked


def test_large_models_are_not_held_twice(monkeypatch: pytest.MonkeyPatch, asked: list[int]) -> None:
    model = answering()
    weights = sum(one.nbytes for one in model.parameters())
    for room in (weights, weights - 1):
        monkeypatch.setattr(prepacked, "MOST", room)
        prepack(model)
        read(model, torch.randn(3, 40))
        assert bool(asked) == (room == weights)
        asked.clear()
