"""Linear layers by oneDNN give what torch's own give, forward and backward, and step aside where need be."""

import copy

import pytest
import torch
from torch import Tensor, nn

from mmmed.models import products
from mmmed.models.products import OneDnnLinear, use_fastest_products


@pytest.fixture
def faster(monkeypatch: pytest.MonkeyPatch) -> None:
    for one in ("is_foreign", "is_faster"):
        monkeypatch.setattr(products, one, lambda: True)


def network(*, bias: bool) -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(40, 96, bias=bias), nn.SiLU(), nn.Linear(96, 24, bias=bias))


def learned(model: nn.Module, rows: Tensor) -> list[Tensor]:
    rows = rows.clone().requires_grad_()
    output = model(rows)
    output.square().sum().backward()
    gradients = [one.grad for one in model.parameters() if one.grad is not None]
    assert rows.grad is not None
    return [output.detach(), rows.grad, *gradients]


@pytest.mark.usefixtures("faster")
@pytest.mark.parametrize("bias", [False, True])
@pytest.mark.parametrize("shape", [(40,), (1, 40), (7, 40), (2, 5, 40), (2, 3, 4, 40)])
def test_outputs_and_gradients_are_those_of_torch(bias: bool, shape: tuple[int, ...]) -> None:
    plain = network(bias=bias)
    fast = copy.deepcopy(plain)
    use_fastest_products(fast)
    assert type(fast[0]) is type(fast[2]) is OneDnnLinear
    rows = torch.randn(shape)
    for ours, theirs in zip(learned(fast, rows), learned(plain, rows), strict=True):
        assert ours.shape == theirs.shape
        assert (ours - theirs).norm() <= 2e-6 * theirs.norm()


@pytest.mark.usefixtures("faster")
def test_frozen_weights_hand_the_gradient_on() -> None:
    plain = network(bias=True).requires_grad_(False)
    fast = copy.deepcopy(plain)
    use_fastest_products(fast)
    rows = torch.randn(3, 40)
    _, of_input, *of_weights = learned(fast, rows)
    assert not of_weights
    assert torch.allclose(of_input, learned(plain, rows)[1], atol=1e-5)


@pytest.mark.usefixtures("faster")
def test_a_bias_learns_alone() -> None:
    plain = nn.Linear(40, 96)
    plain.weight.requires_grad_(False)
    fast = copy.deepcopy(plain)
    use_fastest_products(fast)
    rows = torch.randn(3, 40)
    for layer in (fast, plain):
        layer(rows).square().sum().backward()
    assert fast.bias.grad is not None and plain.bias.grad is not None
    assert torch.allclose(fast.bias.grad, plain.bias.grad, atol=1e-4)


@pytest.mark.usefixtures("faster")
def test_rows_that_are_a_view_and_no_rows_at_all() -> None:
    plain = network(bias=True)
    fast = copy.deepcopy(plain)
    use_fastest_products(fast)
    with torch.inference_mode():
        turned = torch.randn(40, 6).t()
        assert torch.allclose(fast(turned), plain(turned), atol=1e-5)
        assert fast(torch.empty(0, 40)).shape == (0, 24)


@pytest.mark.usefixtures("faster")
def test_other_precisions_are_torchs_own_to_the_bit() -> None:
    plain = network(bias=True)
    fast = copy.deepcopy(plain)
    use_fastest_products(fast)
    rows = torch.randn(5, 40)
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(fast(rows), plain(rows))
    assert torch.equal(fast.double()(rows.double()), plain.double()(rows.double()))


@pytest.mark.usefixtures("faster")
def test_compiled_it_computes_the_same() -> None:
    fast = network(bias=True)
    use_fastest_products(fast)
    compiled = torch.compile(copy.deepcopy(fast), dynamic=True, backend="aot_eager", fullgraph=True)
    rows = torch.randn(5, 40)
    for ours, theirs in zip(learned(compiled, rows), learned(fast, rows), strict=True):
        assert torch.equal(ours, theirs)


@pytest.mark.parametrize(
    ("capability", "told", "foreign", "faster"),
    [
        ("AVX512", "vendor_id : AuthenticAMD", True, True),
        ("AVX512", "vendor_id : GenuineIntel", False, False),
        ("AVX2", "vendor_id : AuthenticAMD", True, False),
        ("DEFAULT", "vendor_id : AuthenticAMD", False, False),
    ],
)
def test_it_is_for_processors_that_mkl_was_not_made_for(
    monkeypatch: pytest.MonkeyPatch,
    tmp_path_factory: pytest.TempPathFactory,
    capability: str,
    told: str,
    foreign: bool,
    faster: bool,
) -> None:
    file = tmp_path_factory.mktemp("proc") / "cpuinfo"
    file.write_text(told)
    monkeypatch.setattr(products, "_CPUINFO", file)
    monkeypatch.setattr(torch.backends.cpu, "get_cpu_capability", lambda: capability)
    monkeypatch.setattr(products, "is_foreign", products.is_foreign.__wrapped__)
    assert products.is_foreign() is foreign
    assert products.is_faster.__wrapped__() is faster


def test_where_mkl_is_faster_with_weights_as_they_are_it_computes_them(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(products, "is_foreign", lambda: True)
    monkeypatch.setattr(products, "is_faster", lambda: False)
    plain = network(bias=True)
    fast = copy.deepcopy(plain)
    use_fastest_products(fast)
    compiled = torch.compile(fast, dynamic=True, backend="aot_eager", fullgraph=True)
    rows = torch.randn(5, 40)
    for model in (fast, compiled):
        for ours, theirs in zip(learned(model, rows), learned(plain, rows), strict=True):
            assert torch.equal(ours, theirs)
        model.zero_grad()
        plain.zero_grad()


def test_special_layers_are_left_alone(faster: None) -> None:
    class Own(nn.Linear):
        pass

    model = nn.Sequential(Own(4, 4), nn.Linear(4, 4))
    use_fastest_products(model)
    assert [type(layer) for layer in model] == [Own, OneDnnLinear]
