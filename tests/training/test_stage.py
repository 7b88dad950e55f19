"""A stage trains what it names and nothing else, and can learn a batch by heart."""

from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import lightning
import pytest
import torch

from mmmed.data.collate import pack, pad
from mmmed.errors import CheckpointError, ConfigError
from mmmed.models.cross_attention import GatedCrossAttention
from mmmed.models.encoders.timm import TimmEncoder
from mmmed.models.experts import ExpertsProjector
from mmmed.models.features import FrozenFeatures
from mmmed.models.folder import save
from mmmed.models.projector import MLPProjector
from mmmed.models.qformer import QFormerProjector
from mmmed.models.vlm import Batch, VisionLanguageModel
from mmmed.records import Example
from mmmed.training.objectives import AnswerLoss
from mmmed.training.qformer import QFormerLoss
from mmmed.training.stage import Stage

MakeModel = Callable[..., VisionLanguageModel]
adam = partial(torch.optim.AdamW, weight_decay=0.0)


class OneBatch(lightning.LightningDataModule):
    """The same examples in every step."""

    def __init__(self, examples: list[Example]) -> None:
        super().__init__()
        self._examples = examples

    def examples(self, split: str) -> list[Example]:
        return self._examples

    def train_dataloader(self) -> torch.utils.data.DataLoader[Any]:
        processor = self.trainer.lightning_module.processor
        inputs = [processor.training(example) for example in self._examples]
        return torch.utils.data.DataLoader(
            inputs, batch_size=len(inputs), collate_fn=partial(pad, image_id=processor.image_id)
        )

    val_dataloader = train_dataloader


def trainer(folder: Path, **settings: Any) -> lightning.Trainer:
    quiet = {"logger": False, "enable_checkpointing": False, "enable_progress_bar": False}
    return lightning.Trainer(
        accelerator="cpu", default_root_dir=folder, enable_model_summary=False, **(quiet | settings)
    )


def learning(stage: Stage) -> set[str]:
    return {name.split(".")[0] for name, one in stage.model.named_parameters() if one.requires_grad}


def test_a_batch_is_learnt_by_heart(make_model: MakeModel, examples: list[Example], tmp_path: Path) -> None:
    stage = Stage("instruct", make_model(), {"projector": 1e-2, "language": 1e-2}, adam)
    runner = trainer(tmp_path, max_steps=80, check_val_every_n_epoch=80)
    runner.fit(stage, datamodule=OneBatch(examples))
    assert float(runner.callback_metrics["train/loss"]) < 0.05
    assert float(runner.callback_metrics["validation/loss"]) < 0.05


def test_a_loss_that_a_module_keeps_is_added_and_its_measures_are_told(
    make_model: MakeModel, examples: list[Example], tmp_path: Path
) -> None:
    plain = make_model()
    projector = partial(ExpertsProjector, experts=2, top_k=1, balance=1000.0)
    model = VisionLanguageModel(plain.language, plain.vision, projector)
    stage = Stage("align", model, {"projector": 1e-2}, adam)
    runner = trainer(tmp_path, max_steps=1)
    before = model.projector.mixture.router.weight.clone()
    runner.fit(stage, datamodule=OneBatch(examples))
    told = runner.callback_metrics
    # One expert per token has a weight of 1, so that the balance loss alone can teach the router.
    assert not torch.equal(model.projector.mixture.router.weight, before)
    assert told["train/auxiliary_loss"] == pytest.approx(1000 * told["train/projector.mixture/balance"].item())
    assert told["train/loss"] < 50 < told["train/auxiliary_loss"]
    assert told["train/projector.mixture/share_0"] + told["train/projector.mixture/share_1"] == pytest.approx(1)


def test_the_parts_of_an_objective_are_told(
    make_model: MakeModel, make_example: Callable[..., Example], tmp_path: Path
) -> None:
    plain = make_model()
    projector = partial(QFormerProjector, queries=2, width=8, layers=1, heads=2, vocabulary=420)
    model = VisionLanguageModel(plain.language, plain.vision, projector)
    stage = Stage("align", model, {"projector": 1e-2}, adam, objective=QFormerLoss())
    runner = trainer(tmp_path, max_steps=1)
    pair = [make_example(text, "What is shown?", text, shade) for shade, text in enumerate(["effusion", "normal"])]
    runner.fit(stage, datamodule=OneBatch(pair))
    told = runner.callback_metrics
    parts = sum(told[f"train/{name}"] for name in ("contrastive", "matching", "captioning"))
    assert told["train/loss"] == pytest.approx(parts.item())


def test_cross_attention_learns_beside_a_frozen_language_model(
    make_model: MakeModel, examples: list[Example], tmp_path: Path
) -> None:
    plain = make_model(initializer_range=0.3)
    model = VisionLanguageModel(
        plain.language, plain.vision, MLPProjector, partial(GatedCrossAttention, every=1, heads=2, head_width=8)
    )
    stage = Stage("align", model, {"projector": 1e-2, "cross_attention": 1e-2}, adam)
    runner = trainer(tmp_path, max_steps=30)
    losses = []
    stage.on_train_batch_end = lambda outputs, *_: losses.append(outputs["loss"].item())
    runner.fit(stage, datamodule=OneBatch(examples))
    assert learning(stage) == {"projector", "cross_attention"}
    assert losses[-1] < 0.7 * losses[0]
    assert model.cross_attention.blocks[0].alpha_cross_attn.item() != 0


def test_the_balance_of_experts_is_learned_and_logged_beside_the_loss(
    make_model: MakeModel, examples: list[Example], tmp_path: Path
) -> None:
    model = make_model(model_type="mixtral", num_local_experts=4, num_experts_per_tok=1, router_aux_loss_coef=0.5)
    stage = Stage("instruct", model, {"language": 1e-3}, adam)
    runner = trainer(tmp_path, max_steps=1, limit_val_batches=0)
    runner.fit(stage, datamodule=OneBatch(examples))
    told = runner.callback_metrics
    assert float(told["train/auxiliary_loss"]) > 0.1
    assert 0.25 <= float(told["train/language/busiest_expert"]) <= 1


def test_a_checkpoint_of_adapters_on_four_bits_leaves_the_bits_out(make_model: MakeModel) -> None:
    pytest.importorskip("bitsandbytes")
    model = make_model(adapter={"kind": "qlora", "r": 2}, hidden_size=64)
    stage = Stage("instruct", model, {"language": 1e-3}, adam)
    checkpoint = {"state_dict": stage.state_dict()}
    stage.on_save_checkpoint(checkpoint)
    assert checkpoint["state_dict"]
    assert all("lora_" in key for key in checkpoint["state_dict"])


def test_a_soft_prompt_learns_alone(make_model: MakeModel) -> None:
    stage = Stage("instruct", make_model(adapter={"kind": "prompt"}), {"language": 1e-3}, adam)
    names = [name for name, one in stage.model.named_parameters() if one.requires_grad]
    assert names == ["language.soft_prompt.prompt_PD"]


def test_only_what_is_named_changes(make_model: MakeModel, examples: list[Example], tmp_path: Path) -> None:
    stage = Stage("align", make_model(), {"projector": 1e-2}, adam)
    before = {key: value.clone() for key, value in stage.model.state_dict().items()}
    trainer(tmp_path, max_steps=2).fit(stage, datamodule=OneBatch(examples))
    changed = {
        key.split(".")[0] for key, value in stage.model.state_dict().items() if not torch.equal(value, before[key])
    }
    assert changed == learning(stage) == {"projector"}


def test_of_a_part_with_adapters_the_adapters_alone_learn(make_model: MakeModel) -> None:
    stage = Stage("instruct", make_model(adapter={"kind": "lora", "r": 2}), {"language": 1e-3}, adam)
    names = [name for name, one in stage.model.named_parameters() if one.requires_grad]
    assert names
    assert all("lora_" in name for name in names)


def test_a_text_only_model_leaves_out_the_parts_it_has_not(make_model: MakeModel) -> None:
    stage = Stage("instruct", make_model(vision=False), {"projector": 1e-3, "language": 1e-3}, adam)
    assert stage.learning_rates == {"language": 1e-3}
    assert set(stage.counts()) == {"language"}


def test_frozen_parts_keep_their_statistics_and_drop_nothing(make_model: MakeModel) -> None:
    language = make_model().language
    encoder = TimmEncoder("resnet10t", weights=None, layer=-1, size=32)
    stage = Stage("align", VisionLanguageModel(language, encoder, MLPProjector), {"projector": 1e-3}, adam)
    assert {part: stage.model.part(part).training for part in ("vision", "projector", "language")} == {
        "vision": False,
        "projector": True,
        "language": False,
    }


def test_a_checkpoint_keeps_what_learns_and_its_running_statistics(make_model: MakeModel) -> None:
    encoder = TimmEncoder("resnet10t", weights=None, layer=-1, size=32)
    stage = Stage("instruct", VisionLanguageModel(make_model().language, encoder, MLPProjector), {"vision": 1e-3}, adam)
    stage.trainer = SimpleNamespace(world_size=1)
    checkpoint: dict[str, Any] = {"state_dict": stage.state_dict(), "loops": {}}
    stage.on_save_checkpoint(checkpoint)
    kept = set(checkpoint["state_dict"])
    assert {key.split(".")[1] for key in kept} == {"vision"}
    assert any(key.endswith("running_mean") for key in kept)
    stage.on_load_checkpoint(checkpoint)


@pytest.mark.parametrize("tied", [True, False])
def test_a_checkpoint_of_adapters_is_small(make_model: MakeModel, tied: bool) -> None:
    model = make_model(adapter={"kind": "lora", "r": 2}, tie_word_embeddings=tied)
    stage = Stage("instruct", model, {"projector": 1e-3, "language": 1e-3}, adam)
    checkpoint = {"state_dict": stage.state_dict()}
    stage.on_save_checkpoint(checkpoint)
    assert all("lora_" in key or ".projector." in key for key in checkpoint["state_dict"])


@pytest.mark.parametrize(
    "settings", [{"hidden_size": 64}, {"adapter": {"kind": "lora", "r": 2}}, {"num_hidden_layers": 1}]
)
def test_a_checkpoint_of_another_configuration_is_refused(make_model: MakeModel, settings: dict[str, Any]) -> None:
    rates = {"projector": 1e-3, "language": 1e-3}
    checkpoint = {"state_dict": Stage("instruct", make_model(), rates, adam).state_dict()}
    Stage("instruct", make_model(), rates, adam).on_save_checkpoint(checkpoint)
    with pytest.raises(CheckpointError, match=r"differ in \d+ trained tensors, such as 'model\."):
        Stage("instruct", make_model(**settings), rates, adam).on_load_checkpoint(checkpoint)


def test_a_stage_begins_from_an_earlier_model(make_model: MakeModel, tmp_path: Path) -> None:
    earlier = make_model(seed=5)
    save(earlier, tmp_path / "model", settings={}, provenance={})
    stage = Stage("instruct", make_model(), {"language": 1e-3}, adam, init_from=str(tmp_path / "model"))
    assert all(torch.equal(stage.model.state_dict()[key], value) for key, value in earlier.state_dict().items())
    with pytest.raises(CheckpointError, match="is no model folder"):
        Stage("instruct", make_model(), {"language": 1e-3}, adam, init_from=str(tmp_path))


def test_a_stage_prepares_pictures_as_the_weights_it_begins_from_have_seen_them(
    make_model: MakeModel, make_towers: Any, tmp_path: Path
) -> None:
    for earlier in (make_model(seed=5), make_towers()):
        imported = replace(earlier.transform, fit="crop", fill=(0.5, 0.5, 0.5), size=64)
        earlier.vision.transform = imported
        save(earlier, tmp_path / "model", settings={}, provenance={})
        stage = Stage("align", make_model(), {"projector": 1e-3}, adam, init_from=str(tmp_path / "model"))
        assert stage.model.transform == replace(imported, size=32), "the size is the configuration's"
        assert stage.processor.transform == stage.model.transform
    save(make_model(vision=False), tmp_path / "reader", settings={}, provenance={})
    Stage("instruct", make_model(vision=False), {"language": 1e-3}, adam, init_from=str(tmp_path / "reader"))


def test_parts_learn_at_their_own_rates(make_model: MakeModel, monkeypatch: pytest.MonkeyPatch) -> None:
    stage = Stage("instruct", make_model(), {"projector": 3e-3, "language": 1e-4}, adam, warmup=0.0)
    monkeypatch.setattr(Stage, "trainer", SimpleNamespace(estimated_stepping_batches=10))
    groups = stage.configure_optimizers()["optimizer"].param_groups
    assert {group["name"]: group["lr"] for group in groups} == {"projector": 3e-3, "language": 1e-4}
    assert sum(len(group["params"]) for group in groups) == sum(one.requires_grad for one in stage.parameters())


@pytest.mark.parametrize(
    ("name", "rates", "message"),
    [
        ("algin", {"projector": 1e-3}, r"unknown stage 'algin' \(did you mean 'align'\?\)"),
        ("align", {"projektor": 1e-3}, r"unknown part 'projektor' in learning_rates \(did you mean 'projector'\?\)"),
        ("align", {}, "stage 'align' trains nothing; name a part"),
    ],
)
def test_a_stage_that_cannot_be_is_refused(
    make_model: MakeModel, name: str, rates: dict[str, float], message: str
) -> None:
    with pytest.raises(ConfigError, match=message):
        Stage(name, make_model(), rates, adam)


def test_training_kept_features_is_refused(make_model: MakeModel, tmp_path: Path) -> None:
    model = make_model()
    model.vision = FrozenFeatures(model.vision, folder=str(tmp_path))
    with pytest.raises(ConfigError, match="FrozenFeatures never learns"):
        Stage("instruct", model, {"vision": 1e-3, "projector": 1e-3}, adam)


@pytest.mark.parametrize(
    ("last_blocks", "learn"),
    [
        (1, ("layers.1.",)),
        (2, ("layers.0.", "layers.1.")),
        (None, ("layers.", "embeddings.", "pre_layrnorm.")),
    ],
)
def test_of_the_encoder_the_last_blocks_learn(
    make_model: MakeModel,
    examples: list[Example],
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
    last_blocks: int | None,
    learn: tuple[str, ...],
) -> None:
    caplog.set_level("INFO")
    rates = {"vision": 1e-2, "projector": 1e-2}
    stage = Stage("instruct", make_model(), rates, adam, last_blocks=last_blocks)
    expected = {name for name, _ in stage.model.vision.named_parameters() if any(part in name for part in learn)}
    count = sum(one.numel() for name, one in stage.model.vision.named_parameters() if name in expected)
    total = sum(one.numel() for one in stage.model.vision.parameters())
    assert stage.counts()["vision"] == {"parameters": total, "trainable": count}
    assert f"vision: {count} of {total} parameters learn" in caplog.text
    before = {name: one.clone() for name, one in stage.model.vision.named_parameters()}
    trainer(tmp_path, max_steps=2).fit(stage, datamodule=OneBatch(examples[:4]))
    changed = {name for name, one in stage.model.vision.named_parameters() if not torch.equal(one, before[name])}
    # A softmax does not see the bias of its keys.
    assert changed | {name for name in expected if name.endswith("k_proj.bias")} == expected


def test_blocks_that_are_not_there_are_refused(make_model: MakeModel) -> None:
    for last_blocks in (0, 3):
        with pytest.raises(ConfigError, match=f"last_blocks is {last_blocks}; expected 1 to 2"):
            Stage("instruct", make_model(), {"vision": 1e-3}, adam, last_blocks=last_blocks)
    with pytest.raises(ConfigError, match="last_blocks is for a vision part that learns"):
        Stage("instruct", make_model(), {"projector": 1e-3}, adam, last_blocks=1)
    text_only = Stage("instruct", make_model(vision=False), {"vision": 1e-3, "language": 1e-3}, adam, last_blocks=1)
    assert learning(text_only) == {"language"}


def test_the_order_of_pictures_is_a_part_that_learns(
    make_model: MakeModel, examples: list[Example], tmp_path: Path
) -> None:
    plain = make_model()
    model = VisionLanguageModel(plain.language, plain.vision, MLPProjector, order=2)
    stage = Stage("align", model, {"order": 1e-2}, adam)
    assert learning(stage) == {"order"}
    trainer(tmp_path, max_steps=2).fit(stage, datamodule=OneBatch(examples))
    assert (model.order.embedding.weight.abs().amax(1) > 1e-3).all()
    with pytest.raises(ConfigError, match="learning_rates names order, but the model has none"):
        Stage("align", plain, {"order": 1e-2, "projector": 1e-2}, adam)
    text_only = Stage("instruct", make_model(vision=False), {"order": 1e-3, "language": 1e-3}, adam)
    assert text_only.learning_rates == {"language": 1e-3}


def test_frozen_parts_in_bfloat16_teach_nearly_the_same(
    make_model: MakeModel, examples: list[Example], tmp_path: Path
) -> None:
    gradients = []
    for halved in (False, True):
        stage = Stage("align", make_model(), {"projector": 1e-2}, adam, frozen_bfloat16=halved)
        kept: list[torch.Tensor] = []
        stage.on_after_backward = lambda stage=stage, kept=kept: kept.extend(
            one.grad.flatten().clone() for one in stage.model.projector.parameters()
        )
        precision = "bf16-mixed" if halved else "32-true"
        trainer(tmp_path, max_steps=1, precision=precision).fit(stage, datamodule=OneBatch(examples))
        gradients.append(torch.cat(kept))
    assert torch.nn.functional.cosine_similarity(*gradients, dim=0) > 0.99
    language = dict(stage.model.language.named_parameters())
    halves = {name for name, one in language.items() if one.dtype == torch.bfloat16}
    assert halves == {name for name in language if "norm" not in name}
    assert all(one.dtype == torch.float32 for one in stage.model.projector.parameters())


@pytest.mark.parametrize("precision", ["32-true", "bf16-mixed"])
@pytest.mark.parametrize("fused", [False, True])
def test_a_step_is_no_longer_than_the_gradient_is_clipped_to(
    make_model: MakeModel, examples: list[Example], tmp_path: Path, precision: str, fused: bool
) -> None:
    stage = Stage("align", make_model(), {"projector": 1.0}, partial(torch.optim.SGD, fused=fused), warmup=0.0)
    before = torch.nn.utils.parameters_to_vector(stage.model.projector.parameters()).detach().clone()
    trainer(tmp_path, max_steps=1, precision=precision, gradient_clip_val=1e-3).fit(
        stage, datamodule=OneBatch(examples)
    )
    after = torch.nn.utils.parameters_to_vector(stage.model.projector.parameters()).detach()
    assert float((after - before).norm()) == pytest.approx(1e-3, rel=0.02)


def test_frozen_parts_in_bfloat16_need_a_trainer_of_that_precision(
    make_model: MakeModel, examples: list[Example], tmp_path: Path
) -> None:
    stage = Stage("align", make_model(), {"projector": 1e-2}, adam, frozen_bfloat16=True)
    with pytest.raises(ConfigError, match="frozen_bfloat16 with trainer precision 32-true: set precision: bf16-mixed"):
        trainer(tmp_path, max_steps=1).fit(stage, datamodule=OneBatch(examples))


def quiet_compiler(test: Callable[..., None]) -> Callable[..., None]:
    """Let torch's compiler warn: it looks at gradients, leaf or not, and at every name of every module."""
    for warning in (
        "ignore::jsonargparse._deprecated.JsonargparseDeprecationWarning",
        "ignore:The .grad attribute of a Tensor that is not a leaf Tensor:UserWarning",
    ):
        test = pytest.mark.filterwarnings(warning)(test)
    return test


TRACED = "aot_eager"
"""Traces as any compiler does and runs what it traced: writing that in C++, too, takes most of the time."""


@pytest.mark.slow
@quiet_compiler
@pytest.mark.parametrize(
    ("lay", "backend"),
    [(pad, TRACED), (pack, "inductor"), pytest.param(pad, "inductor", marks=pytest.mark.long)],
)
def test_what_is_compiled_teaches_the_same_for_texts_of_any_length(
    make_model: MakeModel,
    make_processor: Callable[..., Any],
    examples: list[Example],
    monkeypatch: pytest.MonkeyPatch,
    lay: Callable[..., Batch],
    backend: str,
) -> None:
    monkeypatch.setattr(torch, "compile", partial(torch.compile, backend=backend))
    plain, compiled = (
        Stage("align", make_model(), {"projector": 1e-2}, adam, compiled=compiled) for compiled in (False, True)
    )
    names = [set(stage.model.state_dict()) for stage in (plain, compiled)]
    assert names[0] == names[1]
    processor = make_processor(plain.model)
    for some in (examples[:2], examples[2:], examples):
        batch = lay([processor.training(one) for one in some], image_id=processor.image_id)
        losses = [AnswerLoss().loss(stage.model, batch) for stage in (plain, compiled)]
        torch.testing.assert_close(*losses, rtol=1e-5, atol=1e-6)
        for loss in losses:
            loss.backward()
        theirs = dict(plain.model.projector.named_parameters())
        for name, one in compiled.model.projector.named_parameters():
            torch.testing.assert_close(one.grad, theirs[name].grad, rtol=1e-4, atol=1e-6)


@pytest.mark.slow
@quiet_compiler
@pytest.mark.parametrize("backend", [TRACED, pytest.param("inductor", marks=pytest.mark.long)])
@pytest.mark.parametrize("recompute", [False, True])
def test_what_is_compiled_looks_at_the_pictures_of_each_batch(
    make_model: MakeModel,
    make_processor: Callable[..., Any],
    examples: list[Example],
    monkeypatch: pytest.MonkeyPatch,
    recompute: bool,
    backend: str,
) -> None:
    monkeypatch.setattr(torch, "compile", partial(torch.compile, backend=backend))
    stages = []
    for compiled in (False, True):
        plain = make_model()
        torch.manual_seed(0)
        crossing = partial(GatedCrossAttention, every=1, heads=2, head_width=8)
        model = VisionLanguageModel(plain.language, plain.vision, MLPProjector, crossing)
        for block in model.cross_attention.blocks:
            torch.nn.init.constant_(block.alpha_cross_attn, 1.0)
        stages.append(
            Stage("align", model, {"cross_attention": 1e-2}, adam, compiled=compiled, recompute=recompute).train()
        )
    processor = make_processor(stages[0].model)
    batches = [
        pad([processor.training(one) for one in some], image_id=processor.image_id)
        for some in (examples[:2], examples[2:4])
    ]
    graphs = []
    for batch in batches * 2:
        plain, compiled = (AnswerLoss().loss(stage.model, batch) for stage in stages)
        torch.testing.assert_close(plain, compiled, rtol=1e-5, atol=1e-6)
        compiled.backward()
        graphs.append(torch._dynamo.utils.counters["stats"]["unique_graphs"])
    assert graphs[-1] == graphs[1], "what was compiled serves the batches that follow"


@pytest.mark.slow
def test_what_is_compiled_writes_as_before(make_model: MakeModel) -> None:
    language = make_model().language
    torch.manual_seed(0)
    embeddings, attention = torch.randn(2, 5, language.width), torch.ones(2, 5, dtype=torch.long)
    before = language.generate(embeddings, attention, max_new_tokens=4)
    language.compile_layers()
    compiled_frames = torch._dynamo.utils.counters["frames"]["ok"]
    assert language.generate(embeddings, attention, max_new_tokens=4).equal(before)
    assert torch._dynamo.utils.counters["frames"]["ok"] == compiled_frames


def test_what_is_recomputed_teaches_the_same(make_model: MakeModel, examples: list[Example], tmp_path: Path) -> None:
    weights = []
    for recompute in (False, True):
        stage = Stage("instruct", make_model(), {"projector": 1e-2, "language": 1e-2}, adam, recompute=recompute)
        trainer(tmp_path, max_steps=2).fit(stage, datamodule=OneBatch(examples))
        assert stage.model.language.model.is_activation_checkpointing == recompute
        weights.append(torch.cat([one.flatten() for one in stage.model.projector.parameters()]))
    torch.testing.assert_close(*weights)
