"""What a run will need and take, computed before it begins: memory, time, and what to change."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Literal

from mmmed.training.devices import Gpu
from mmmed.training.flops import Flops
from mmmed.training.rehearsal import Memory

Strategy = Literal["single", "ddp", "fsdp"]
GIB = 2**30
RESERVED = 0.06
"""Share of a device that the driver, kernels and the gaps between tensors take."""


@dataclass(frozen=True, slots=True)
class Setting:
    """What decides how the same step is laid out.

    Args:
        strategy: `single`, `ddp` (each device holds everything) or `fsdp` (weights, gradients and states are cut).
        devices: How many.
        batch_size: Conversations per step and device.
        accumulate: Micro-batches of a step.
        precision: Lightning's name of it.
    """

    strategy: Strategy
    devices: int
    batch_size: int
    accumulate: int
    precision: str


@dataclass(frozen=True, slots=True)
class Needs:
    """Bytes on one device, by what they are for."""

    weights: float
    gradients: float
    states: float
    activations: float
    logits: float
    gathered: float = 0.0

    @property
    def total(self) -> float:
        return sum((self.weights, self.gradients, self.states, self.activations, self.logits, self.gathered))


@dataclass(frozen=True, slots=True)
class Model:
    """What is known of a step on one device that holds everything.

    Args:
        parameters: Of each part: all, and those that learn.
        memory: Of a micro-batch of `setting`.
        state_bytes: What the optimizer keeps of each number that learns.
        layer_bytes: Weights of one decoder layer.
        outer_bytes: Weights that lie outside the decoder's layers.
        whole_bytes: Of these, what is never cut: encoders whose features are kept.
        setting: That the memory is of.
    """

    parameters: Mapping[str, Mapping[str, int]]
    memory: Memory
    state_bytes: float
    layer_bytes: float
    outer_bytes: float
    whole_bytes: float
    setting: Setting


def needs(model: Model, setting: Setting) -> Needs:
    """Memory of one device in another setting than the one that was rehearsed, or in the same.

    Gradients of `ddp` stand twice, in themselves and in the buckets that travel. Of `fsdp`, a layer and the one after
    it are whole while they are used, and what lies outside the layers is whole for all of a step.
    """
    seen = model.memory
    share = setting.batch_size / model.setting.batch_size
    half = _bytes_of(setting.precision) / _bytes_of(model.setting.precision)
    # Activations of mixed precision are about two thirds of those in float32, since sums stay in float32.
    width = _WIDTH[setting.precision] / _WIDTH[model.setting.precision]
    weights, gradients = seen.weights * half, seen.gradients * half
    learning = seen.gradients / _bytes_of(model.setting.precision)
    states = model.state_bytes * learning * _bytes_of(setting.precision) / 4
    activations, logits = seen.activations * share * width, seen.logits * share * width
    if setting.strategy == "fsdp":
        cut = setting.devices
        kept = model.whole_bytes * half
        gathered = (2 * model.layer_bytes + model.outer_bytes - model.whole_bytes) * half
        return Needs(
            kept + (weights - kept) / cut, gradients / cut, states / cut, activations, logits, max(0.0, gathered)
        )
    twice = 2 if setting.strategy == "ddp" else 1
    return Needs(weights, gradients * twice, states, activations, logits)


_WIDTH = {"32-true": 1.0, "bf16-mixed": 0.65, "16-mixed": 0.65, "bf16-true": 0.5}


def _bytes_of(precision: str) -> int:
    return 2 if precision == "bf16-true" else 4


def fits(need: Needs, gpu: Gpu) -> bool:
    """Whether it all goes on a device."""
    return need.total <= gpu.memory * GIB * (1 - RESERVED)


@dataclass(frozen=True, slots=True)
class Advice:
    """A change of settings and what comes of it."""

    words: str
    need: Needs
    fits: bool


def advice(model: Model, setting: Setting, gpu: Gpu) -> list[Advice]:
    """Changes that save memory: first those after which it fits, the least change of what is learned before others.

    An adapter is taken to have a hundredth of what it stands for.
    """
    options = [(words, changed) for words, changed in _changes(setting) if changed != setting]
    told = [Advice(words, need := needs(model, changed), fits(need, gpu)) for words, changed in options]
    counts = model.parameters.get("language", {"parameters": 1, "trainable": 0})
    if counts["trainable"] > counts["parameters"] / 2:
        rest = sum(one["trainable"] for one in model.parameters.values()) - counts["trainable"]
        share = (rest + counts["parameters"] / 100) / (rest + counts["trainable"])
        need = needs(model, setting)
        need = replace(need, gradients=need.gradients * share, states=need.states * share)
        told.append(Advice("adapter: {kind: lora, r: 16} of the language model", need, fits(need, gpu)))
    return sorted(told, key=lambda one: not one.fits)  # stable: within, in the order of `_changes`


def _changes(setting: Setting) -> Sequence[tuple[str, Setting]]:
    """From what changes nothing of what is learned to what changes most."""
    changes = []
    halved = setting
    while halved.batch_size > 1:
        smaller = halved.batch_size // 2
        halved = replace(halved, batch_size=smaller, accumulate=setting.accumulate * setting.batch_size // smaller)
        changes.append((f"data batch_size {smaller}, trainer.accumulate_grad_batches {halved.accumulate}", halved))
    if setting.strategy == "ddp":
        changes.append(("configs/trainer/fsdp.yaml in the place of ddp", replace(setting, strategy="fsdp")))
    if setting.strategy == "single":
        many = replace(setting, strategy="fsdp", devices=8)
        changes.append(("configs/trainer/fsdp.yaml on 8 devices", many))
    smallest: Setting = replace(halved, strategy="fsdp", devices=max(8, setting.devices))
    changes.append((f"both: fsdp on {smallest.devices} devices and batch_size {smallest.batch_size}", smallest))
    if setting.precision == "32-true":
        changes.append(("trainer.precision bf16-mixed", replace(setting, precision="bf16-mixed")))
    if setting.precision != "bf16-true":
        words = "trainer.precision bf16-true (weights and states in bf16: small updates are lost)"
        changes.append((words, replace(setting, precision="bf16-true")))
    return changes


def seconds_of_step(flops: Flops, setting: Setting, gpu: Gpu, *, mfu: float) -> float:
    """Time of an optimizer's step at a share of a device's peak; `flops` are those of a micro-batch of one device."""
    return flops.total * setting.accumulate / (gpu.peak(setting.precision) * mfu)
