"""How a step is laid out decides what each device holds."""

from dataclasses import replace

import pytest

from mmmed.training.devices import known_gpu
from mmmed.training.flops import Flops
from mmmed.training.plan import GIB, Model, Setting, advice, fits, needs, seconds_of_step
from mmmed.training.rehearsal import Memory

SETTING = Setting("single", devices=1, batch_size=8, accumulate=2, precision="32-true")
# Seven billion parameters, of which all but three hundred million learn.
MODEL = Model(
    parameters={
        "vision": {"parameters": 300_000_000, "trainable": 0},
        "language": {"parameters": 6_700_000_000, "trainable": 6_700_000_000},
    },
    memory=Memory(weights=28 * 10**9, gradients=4 * 6_700_000_000, activations=16 * GIB, logits=GIB),
    state_bytes=8,
    layer_bytes=8e8,
    outer_bytes=2.2e9,
    whole_bytes=1.2e9,
    setting=SETTING,
)


def test_one_device_holds_weights_gradients_states_and_activations() -> None:
    need = needs(MODEL, SETTING)
    assert need.states == 8 * 6_700_000_000
    assert need.total == 28e9 + 3 * 4 * 6_700_000_000 + 17 * GIB
    assert not fits(need, known_gpu("a100-80gb"))


def test_ddp_holds_gradients_twice_and_fsdp_an_eighth_of_all_and_the_layers_at_work() -> None:
    single = needs(MODEL, SETTING)
    ddp = needs(MODEL, replace(SETTING, strategy="ddp", devices=8))
    assert ddp.total == single.total + single.gradients
    fsdp = needs(MODEL, replace(SETTING, strategy="fsdp", devices=8))
    assert fsdp.gradients == single.gradients / 8
    assert fsdp.states == single.states / 8
    assert fsdp.weights == pytest.approx(1.2e9 + (28e9 - 1.2e9) / 8)
    assert fsdp.gathered == pytest.approx(2 * 8e8 + 2.2e9 - 1.2e9)
    assert fsdp.activations == single.activations


def test_half_the_batch_holds_half_the_activations_and_half_the_bits_half_of_all() -> None:
    single = needs(MODEL, SETTING)
    smaller = needs(MODEL, replace(SETTING, batch_size=4))
    assert (smaller.activations, smaller.logits) == (single.activations / 2, single.logits / 2)
    narrow = needs(MODEL, replace(SETTING, precision="bf16-true"))
    assert narrow.total == pytest.approx(single.total / 2)


def test_what_fits_is_named_first_and_what_changes_least_of_it_before_the_rest() -> None:
    gpu = known_gpu("a100-80gb")
    told = advice(MODEL, SETTING, gpu)
    assert [one.fits for one in told] == sorted((one.fits for one in told), reverse=True)
    assert told[0].words.startswith("configs/trainer/fsdp.yaml on 8 devices")
    assert any("adapter" in one.words and one.fits for one in told)
    assert any("batch_size 4, trainer.accumulate_grad_batches 4" in one.words for one in told)


def test_time_is_operations_over_a_share_of_the_peak() -> None:
    setting = replace(SETTING, precision="bf16-mixed")
    assert seconds_of_step(Flops(989e12, 989e12), setting, known_gpu("h200"), mfu=0.5) == pytest.approx(8)
