"""A training step without computing and without memory, to see how much of it the real one would need.

The model's own code runs, forward and backward, on tensors that have shapes and types and no content; whole numbers and
masks, which decide about shapes, are real.
"""

import weakref
from collections import Counter
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensor, FakeTensorMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_iter, tree_map

from mmmed.errors import ConfigError
from mmmed.models.features import FrozenFeatures
from mmmed.models.parts import ModelOfParts
from mmmed.models.vlm import Batch
from mmmed.training.objectives import Objective

aten = torch.ops.aten


@dataclass(frozen=True, slots=True)
class Memory:
    """Bytes of a step on one device, where nothing is cut.

    Args:
        weights: Parameters and buffers.
        gradients: Of what learns.
        activations: At their highest: what the backward pass needs of the forward pass, and what is being computed.
        logits: Of these, whatever has the vocabulary as its last dimension, beside its activations.
    """

    weights: int
    gradients: int
    activations: int
    logits: int


def rehearse(model: ModelOfParts, objective: Objective, batch: Batch, *, precision: str) -> Memory:
    """Run a training step of a model without memory; the model, which may be on the meta device, is used up.

    Args:
        model: With the parameters frozen that do not learn.
        objective: The loss.
        batch: A real one; the content of its pixels does not matter.
        precision: Lightning's name of it: ``32-true``, ``bf16-mixed`` or ``bf16-true``.

    Raises:
        ConfigError: What the step does depends on values that only a real one has.
    """
    _uncover_encoders(model)
    fake = FakeTensorMode(allow_non_fake_inputs=True)
    weights = _without_content(model, fake, dtype=torch.bfloat16 if precision == "bf16-true" else None)
    ledger = _Ledger(vocabulary=_vocabulary(model))
    for parameter in model.parameters():
        ledger.leave_out(parameter)
        if parameter.requires_grad:
            parameter.register_post_accumulate_grad_hook(ledger.gradient)  # type: ignore[no-untyped-call]
    for buffer in model.buffers():
        ledger.leave_out(buffer)
    mixed = precision == "bf16-mixed"
    try:
        with _Ghosts(ledger):
            with torch.autocast("cpu", dtype=torch.bfloat16) if mixed else nullcontext():
                loss = objective.loss(model, batch)
            loss.backward()  # type: ignore[no-untyped-call]
    except (RuntimeError, NotImplementedError) as error:
        reason = str(error).strip().partition("\n")[0][:120]
        raise ConfigError(f"the memory of this step cannot be planned without running it ({reason})") from error
    gradients = sum(one.numel() * one.element_size() for one in model.parameters() if one.requires_grad)
    return Memory(weights, gradients, ledger.highest["activations"], ledger.highest["logits"])


class _Ledger:
    """Keeps count of the memory that tensors hold, and of the most that they ever held."""

    def __init__(self, *, vocabulary: int) -> None:
        self.highest = {"activations": 0, "logits": 0}
        self._vocabulary = vocabulary
        self._held: Counter[str] = Counter()
        self._known: dict[int, tuple[Any, str, int]] = {}

    def leave_out(self, tensor: Tensor) -> None:
        """What stands there before the step."""
        self._enter(tensor, "weights", 0)

    def enter(self, tensor: Tensor) -> None:
        """Take note of a tensor that an operation has made, which may be a view of another."""
        size = tensor.untyped_storage().nbytes()
        wide = tensor.ndim > 1 and tensor.shape[-1] == self._vocabulary and tensor.is_floating_point()
        self._enter(tensor, "logits" if wide else "activations", size)
        if self._held["activations"] + self._held["logits"] > sum(self.highest.values()):
            self.highest = {kind: self._held[kind] for kind in self.highest}

    def gradient(self, parameter: Tensor) -> None:
        """A gradient that stays is no activation."""
        assert parameter.grad is not None
        key = id(parameter.grad.untyped_storage())
        if key in self._known:
            reference, kind, size = self._known[key]
            self._held[kind] -= size
            self._known[key] = (reference, "gradients", size)
            self._held["gradients"] += size

    def _enter(self, tensor: Tensor, kind: str, size: int) -> None:
        storage = tensor.untyped_storage()
        key = id(storage)
        if key in self._known:
            return
        self._known[key] = (weakref.ref(storage, partial(self._leave, key)), kind, size)
        self._held[kind] += size

    def _leave(self, key: int, reference: Any) -> None:
        _, kind, size = self._known.pop(key)
        self._held[kind] -= size


class _Ghosts(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Computes what is real, and of the rest shapes and types alone."""

    def __init__(self, ledger: _Ledger) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self._ledger = ledger

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        if not any(isinstance(one, FakeTensor) for one in tree_iter((args, kwargs))):
            return func(*args, **kwargs)
        if func is aten.masked_select.default:
            out = args[0][args[1].expand(args[0].shape).nonzero().unbind(1)]
        else:
            out = func(*_counted(func, args), **kwargs)
        tree_map(lambda one: self._ledger.enter(one) if isinstance(one, FakeTensor) else None, out)
        return out


def _counted(func: Any, args: Any) -> Any:
    """Arguments whose masks, of which nobody knows how much they pick, are replaced by the places that they pick."""
    if func.overloadpacket not in (aten.index, aten.index_put, aten.index_put_, aten._index_put_impl_):
        return args
    places: list[Tensor | None] = []
    for one in args[1]:
        masks = isinstance(one, Tensor) and one.dtype == torch.bool and not isinstance(one, FakeTensor)
        places += list(one.nonzero().unbind(1)) if masks else [one]
    return (args[0], places, *args[2:])


def _uncover_encoders(model: nn.Module) -> None:
    """Put encoders in the place of what keeps their features: the first epoch computes them."""
    for name, part in model.named_children():
        if isinstance(part, FrozenFeatures):
            setattr(model, name, part.encoder)
        else:
            _uncover_encoders(part)


def _without_content(model: nn.Module, fake: FakeTensorMode, *, dtype: torch.dtype | None) -> int:
    """Let parameters and buffers have no content, those that are one stay one; returns what they would take."""
    made: dict[int, Tensor] = {}

    def ghost(tensor: Tensor) -> Tensor:
        if id(tensor) not in made:
            kind = dtype if dtype is not None and tensor.is_floating_point() else tensor.dtype
            with fake:
                empty = torch.empty(tensor.shape, dtype=kind, device="cpu")
            learns = tensor.requires_grad
            made[id(tensor)] = nn.Parameter(empty, learns) if isinstance(tensor, nn.Parameter) else empty
        return made[id(tensor)]

    # Kept alive, so that no other tensor takes the identity of one that is replaced.
    originals = [*model.parameters(), *model.buffers()]
    for module in model.modules():
        for held in (module._parameters, module._buffers):
            for name, tensor in held.items():
                if tensor is not None:
                    held[name] = ghost(tensor)  # type: ignore[assignment]
    del originals
    return sum(one.numel() * one.element_size() for one in made.values())


def _vocabulary(model: ModelOfParts) -> int:
    language = getattr(model, "language", None)
    return len(language.output_matrix) if language is not None else 0


def state_bytes(optimizer: Callable[..., torch.optim.Optimizer]) -> float:
    """What an optimizer keeps of each number that learns, in bytes, found out on a few of them."""
    probe = nn.Parameter(torch.zeros(64, 64))
    made = optimizer([{"params": [probe], "lr": 1e-3}])
    probe.grad = torch.zeros_like(probe)
    made.step()
    kept = [one for one in made.state[probe].values() if isinstance(one, Tensor) and one.ndim]
    return sum(one.numel() * one.element_size() for one in kept) / probe.numel()
