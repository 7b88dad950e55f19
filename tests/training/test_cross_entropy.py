"""Cross-entropy in parts is that of the whole, and never holds the whole's logits."""

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from mmmed.training.cross_entropy import cross_entropy

WIDTH, VOCABULARY, TOKENS = 8, 50, 37


class Watched(nn.Linear):
    """A head that remembers how many logits it made at once at most."""

    most = 0

    def forward(self, hidden_SD: Tensor) -> Tensor:
        logits = super().forward(hidden_SD)
        self.most = max(self.most, logits.numel())
        return logits


def made() -> tuple[Watched, Tensor, Tensor]:
    torch.manual_seed(0)
    hidden_SD = torch.randn(TOKENS, WIDTH, requires_grad=True)
    return Watched(WIDTH, VOCABULARY), hidden_SD, torch.randint(VOCABULARY, (TOKENS,))


@pytest.mark.parametrize(
    ("elements", "least"), [(1, 1), (10 * VOCABULARY, 1), (10 * VOCABULARY, 12), (TOKENS * VOCABULARY, 1), (10**9, 1)]
)
def test_parts_give_the_loss_and_gradients_of_the_whole(elements: int, least: int) -> None:
    head, hidden_SD, ids_S = made()
    expected = functional.cross_entropy(head(hidden_SD), ids_S)
    references = torch.autograd.grad(expected, [hidden_SD, *head.parameters()])
    head.most = 0
    loss = cross_entropy(head, hidden_SD, ids_S, elements=elements, least=least)
    found = torch.autograd.grad(loss, [hidden_SD, *head.parameters()])
    torch.testing.assert_close(loss, expected)
    for gradient, reference in zip(found, references, strict=True):
        torch.testing.assert_close(gradient, reference)
    assert head.most == VOCABULARY * min(TOKENS, max(elements // VOCABULARY, least))


def test_no_logits_are_kept_for_the_gradient() -> None:
    head, hidden_SD, ids_S = made()
    kept: list[int] = []

    def keep(tensor: Tensor) -> Tensor:
        kept.append(tensor.numel())
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        whole = cross_entropy(head, hidden_SD, ids_S)
        logits, kept[:] = sum(kept), []
        parts = cross_entropy(head, hidden_SD, ids_S, elements=5 * VOCABULARY, least=1)
    torch.testing.assert_close(parts, whole)
    assert sum(kept) < TOKENS * VOCABULARY <= logits


def test_nothing_to_learn_is_a_loss_of_zero() -> None:
    head, hidden_SD, ids_S = made()
    loss = cross_entropy(head, hidden_SD[:0], ids_S[:0])
    loss.backward()
    assert loss == 0
