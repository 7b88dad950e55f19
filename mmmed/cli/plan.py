"""`mmmed plan`: what a training run will need and take, before it begins."""

from __future__ import annotations

import contextlib
import inspect
import warnings
from collections.abc import Mapping, Sequence
from functools import partial
from importlib import import_module
from itertools import islice
from typing import Any, NamedTuple

import torch
from jsonargparse import Namespace
from lightning.pytorch.cli import LightningArgumentParser, LightningCLI

from mmmed.cli.training import TrainingCLI, TrainingParser
from mmmed.data.collate import pad
from mmmed.data.conversation import merge
from mmmed.data.datamodule import MedicalData
from mmmed.errors import ConfigError, DataError, ImageError, RecordError
from mmmed.models.decoder import decoder_layers
from mmmed.models.features import FrozenFeatures
from mmmed.models.outline import Architectures, built, offline
from mmmed.models.vlm import Batch
from mmmed.processing.processor import ModelInput
from mmmed.records import Example
from mmmed.training.devices import Gpu, known_gpu
from mmmed.training.flops import Flops, step_cost
from mmmed.training.plan import GIB, Advice, Model, Needs, Setting, Strategy, advice, fits, needs, seconds_of_step
from mmmed.training.rehearsal import rehearse, state_bytes
from mmmed.training.stage import Stage

SAMPLE = 64
ASSUMED_WORDS = 96
"""Text tokens of an example where there is no data to measure: a question and an answer of two sentences."""


class PlanCLI(TrainingCLI):
    """Reads what `mmmed fit` reads, and builds nothing of it."""

    def add_arguments_to_parser(self, parser: LightningArgumentParser) -> None:
        super().add_arguments_to_parser(parser)
        parser.add_argument(
            "--gpu", type=str, default="h200", help="Kind of device: h200, a100-80gb, rtx4090 and so on."
        )
        parser.add_argument("--devices", type=int | None, default=None, help="How many, if not as configured.")
        parser.add_argument("--mfu", type=float, default=0.4, help="Share of the device's peak expected of a step.")

    def parse_arguments(self, parser: Any, args: Any) -> None:
        LightningCLI.parse_arguments(self, parser, args)

    def before_instantiate_classes(self) -> None:
        pass

    def instantiate_classes(self) -> None:
        pass


class Sample(NamedTuple):
    """Some inputs of the model, shortest first, and where they are from."""

    inputs: list[ModelInput]
    examples: list[Example]
    told: str


def main(arguments: list[str]) -> int:
    """Say what the run of a configuration will need and take; `arguments` are those of `mmmed fit`, and --gpu.

    Returns:
        1 where it does not fit on the device, else 0.

    Raises:
        ConfigError: The configuration is wrong, or its memory cannot be computed.
    """
    warnings.filterwarnings("ignore", module="lightning")
    described = _read(arguments[1:])
    kind, mfu = known_gpu(described["gpu"]), float(described["mfu"])
    if not 0 < mfu <= 1:
        raise ConfigError(f"mfu is {mfu}; expected a share of the peak above 0 and up to 1")
    setting = _setting(described, devices=described["devices"])
    stage = _stage(described)
    sample = _sample(described, stage)
    if sample.examples:
        stage.objective.prepare(stage.processor, sample.examples)
    lengths = [len(one.ids) for one in sample.inputs]
    typical, longest = _batches(stage, sample.inputs, setting.batch_size)
    cost = step_cost(stage.model)
    flops = cost.of(typical) if cost is not None else None
    model = _rehearsed(stage, longest, setting)
    need = needs(model, setting)
    print(_parameters(model.parameters))
    print(
        f"\ntokens per example   {sum(lengths) / len(lengths):.0f} on average, {max(lengths)} at most, of which "
        f"{stage.model.tokens_per_image} per image ({sample.told})"
    )
    print(f"a step               {_step(setting)}")
    if flops is not None:
        print(_operations(flops, setting, kind, mfu=mfu, steps=_steps(described)))
    print(_memory(need, setting, kind))
    if fits(need, kind):
        return 0
    print(_advice(advice(model, setting, kind)))
    return 1


def _read(arguments: list[str]) -> dict[str, Any]:
    cli = PlanCLI(
        Stage,
        MedicalData,
        subclass_mode_model=True,
        subclass_mode_data=True,
        auto_configure_optimizers=False,
        save_config_callback=None,
        seed_everything_default=0,
        parser_class=TrainingParser,
        parser_kwargs={"prog": "mmmed plan"},
        trainer_defaults={"callbacks": [], "use_distributed_sampler": False},
        args=arguments,
        run=False,
    )
    given: dict[str, Any] = _plain(cli.config)
    return given


def _plain(value: Any) -> Any:
    """Namespaces as dictionaries, all the way down."""
    if isinstance(value, Namespace):
        value = vars(value)
    if isinstance(value, Mapping):
        return {str(name): _plain(one) for name, one in value.items()}
    return [_plain(one) for one in value] if isinstance(value, list) else value


def _setting(described: Mapping[str, Any], *, devices: int | None) -> Setting:
    trainer = described["trainer"]
    given = trainer["strategy"]
    named = str(given["class_path"] if isinstance(given, Mapping) else given)
    found = trainer["devices"]
    count = devices or (int(found) if str(found).isdigit() else 1) * int(trainer["num_nodes"] or 1)
    strategy: Strategy = "ddp" if count > 1 else "single"
    if any(name in named for name in ("Sharded", "ModelParallel", "fsdp", "FSDP")):
        strategy = "fsdp"
    precision = str(trainer["precision"] or "bf16-mixed")
    if precision not in (known := ("32-true", "bf16-mixed", "16-mixed", "bf16-true")):
        raise ConfigError(f"precision {precision!r} cannot be planned; expected one of {', '.join(known)}")
    batch_size = int(described["data"]["init_args"]["batch_size"])
    return Setting(strategy, count, batch_size, int(trainer["accumulate_grad_batches"] or 1), precision)


def _stage(described: Mapping[str, Any]) -> Stage:
    """The stage without its weights and without memory. Raises `ConfigError`."""
    given = dict(described["model"]["init_args"])
    try:
        outline = offline(given.pop("model"), Architectures())
    except KeyError as error:
        raise ConfigError(
            f"the architecture of {error.args[0]} is not known here; pull the weights with `mmmed weights pull`"
        ) from error
    optimizer = given.pop("optimizer")
    module, _, name = optimizer["class_path"].rpartition(".")
    made = getattr(import_module(module), name)
    settings = {key: value for key, value in (optimizer.get("init_args") or {}).items() if key in _known(made)}
    objective = built(given.pop("objective", None))
    with torch.device("meta"):
        return Stage(
            model=built(outline),
            optimizer=partial(made, **settings),
            objective=objective,
            **{key: value for key, value in given.items() if key != "init_from"},
        )


def _known(made: Any) -> set[str]:
    return set(inspect.signature(made).parameters)


def _sample(described: Mapping[str, Any], stage: Stage) -> Sample:
    """Inputs of the training split, if the data is here; else one that is assumed."""
    data = described["data"]["init_args"]
    examples: list[Example] = []
    try:
        for source in built(data["sources"]):
            records = (one for one in source.records() if isinstance(one, Example) and one.split == "train")
            wanted = (one for one in records if data["topics"] is None or one.topic in data["topics"])
            some = list(islice(wanted, SAMPLE * data["most_turns"]))
            examples += merge(some, most_turns=data["most_turns"], seed=data["seed"], join=data["join"])[:SAMPLE]
    except (DataError, OSError):
        examples = []
    inputs = []
    for example in examples:
        with contextlib.suppress(RecordError, ImageError):  # training sets them aside, or refuses them
            inputs.append(stage.processor.training(example))
    if inputs:
        ordered = sorted(inputs, key=lambda one: len(one.ids))
        return Sample(ordered, examples, f"measured on {len(inputs)} examples")
    told = f"assumed, the data is not here: one image and {ASSUMED_WORDS} tokens of text"
    return Sample([_assumed(stage)], [], told)


def _assumed(stage: Stage) -> ModelInput:
    transform = stage.model.transform
    images = 0 if transform is None else 1
    tokens_per_image: int = stage.processor.tokens_per_image if images else 0
    places = images * tokens_per_image
    ids = torch.zeros(places + ASSUMED_WORDS, dtype=torch.long)
    ids[:places] = stage.processor.image_id
    supervised = torch.zeros(len(ids), dtype=torch.bool)
    supervised[-ASSUMED_WORDS // 2 :] = True
    side = transform.size if transform is not None else 1
    return ModelInput(id="assumed", ids=ids, supervised=supervised, pixels=torch.zeros(images, 3, side, side))


def _batches(stage: Stage, inputs: list[ModelInput], size: int) -> tuple[Batch, Batch]:
    """A batch of lengths that stand for all, and one of the longest."""
    spread = [inputs[int((place + 0.5) * len(inputs) / size)] for place in range(size)]
    longest = [inputs[-1 - place % len(inputs)] for place in range(size)]
    typical, long = (pad(chosen, image_id=stage.processor.image_id) for chosen in (spread, longest))
    return typical, long


def _rehearsed(stage: Stage, batch: Batch, setting: Setting) -> Model:
    model: Any = stage.model
    counts = stage.counts()
    language = getattr(model, "language", None)
    layers = list(decoder_layers(language)) if language is not None else []
    each = 2 if setting.precision == "bf16-true" else 4
    inside = [one for layer in layers for one in layer.parameters()]
    whole = [one for part in model.modules() if isinstance(part, FrozenFeatures) for one in part.parameters()]
    known = {id(one) for one in inside}
    outside = [one for one in model.parameters() if id(one) not in known]
    sizes = [each * sum(one.numel() for one in some) for some in (inside, outside, whole)]
    states = state_bytes(stage.optimizer)
    memory = rehearse(model, stage.objective, batch, precision=setting.precision)
    return Model(
        parameters=counts,
        memory=memory,
        state_bytes=states,
        layer_bytes=sizes[0] / max(1, len(layers)),
        outer_bytes=sizes[1],
        whole_bytes=sizes[2],
        setting=setting,
    )


def _steps(described: Mapping[str, Any]) -> int | None:
    steps = int(described["trainer"]["max_steps"])
    return steps if steps > 0 else None


def _parameters(counts: Mapping[str, Mapping[str, int]]) -> str:
    rows = [f"{'part':<20} {'parameters':>16} {'learn':>16}"]
    rows += [f"{name:<20} {one['parameters']:>16,} {one['trainable']:>16,}" for name, one in counts.items()]
    has, learns = (sum(one[what] for one in counts.values()) for what in ("parameters", "trainable"))
    return "\n".join([*rows, f"{'all':<20} {has:>16,} {learns:>16,}"])


def _step(setting: Setting) -> str:
    together = setting.batch_size * setting.accumulate * setting.devices
    return (
        f"{together} examples: {setting.batch_size} x {setting.accumulate} micro-batches x {setting.devices} devices "
        f"({setting.strategy}, {setting.precision})"
    )


def _operations(flops: Flops, setting: Setting, kind: Gpu, *, mfu: float, steps: int | None) -> str:
    times = setting.accumulate * setting.devices
    seconds = seconds_of_step(flops, setting, kind, mfu=mfu)
    lines = [
        f"operations a step    {flops.total * times / 1e12:.3g} TFLOP: {flops.forward * times / 1e12:.3g} forward, "
        f"{flops.backward * times / 1e12:.3g} backward",
        f"time a step          {seconds:.3g} s at {mfu:.0%} of {kind.peak(setting.precision) / 1e12:g} TFLOP/s "
        f"({kind.name}: {kind.source})",
    ]
    if steps:
        lines.append(f"time of {steps} steps   {steps * seconds / 3600:.2f} h, without validation")
    return "\n".join(lines)


def _memory(need: Needs, setting: Setting, kind: Gpu) -> str:
    named = {
        "weights": need.weights,
        "gradients": need.gradients,
        "optimizer states": need.states,
        "activations": need.activations,
        "logits": need.logits,
        "gathered layers": need.gathered,
    }
    rows = [f"\n{'memory of a device':<20} {'GiB':>9}"]
    rows += [f"{name:<20} {value / GIB:>9.3f}" for name, value in named.items() if value or name != "gathered layers"]
    verdict = "fits" if fits(need, kind) else "does not fit"
    return "\n".join([*rows, f"{'all':<20} {need.total / GIB:>9.3f}  of {kind.memory:g} on a {kind.name}: {verdict}"])


def _advice(options: Sequence[Advice]) -> str:
    rows = [
        f"{place}. {one.words}: {one.need.total / GIB:.1f} GiB{'' if one.fits else ', which does not fit either'}"
        for place, one in enumerate(options, start=1)
    ]
    return "\n".join(["\nwhat to change, what changes least of the run first:", *rows])
