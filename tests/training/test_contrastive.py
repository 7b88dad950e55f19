"""The contrastive objective: chunks and processes change nothing, and the same text is no negative."""

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, ClassVar

import pytest
import torch
from torch import Tensor, nn
from torch.multiprocessing.reductions import StorageWeakRef
from torch.nn import functional

from mmmed.errors import ConfigError, DataError
from mmmed.models.contrastive import ContrastiveModel
from mmmed.models.folder import save
from mmmed.models.vlm import Batch
from mmmed.records import Example
from mmmed.training.contrastive import ContrastiveLoss, same_texts

ROOT = Path(__file__).parents[2]
PAIRS = 8
TEXTS = ["yes no", "effusion", "left right", "normal", "effusion", "heart size is normal", "yes", "no"]
"""The second and the fifth are the same, and lie in different halves."""

KINDS: list[tuple[Any, float | None]] = [("clip", None), ("siglip", -10.0)]
MakeModel = Callable[..., ContrastiveModel]


def batch_of(model: ContrastiveModel, chosen: range = range(PAIRS)) -> Batch:
    """Some of the eight pairs; images are noise of a fixed seed."""
    encoded = model.tokenizer([TEXTS[index] for index in chosen], padding=True, return_tensors="pt")
    ids_BT, attention_BT = encoded["input_ids"], encoded["attention_mask"]
    pixels = torch.randn(PAIRS, 3, 32, 32, generator=torch.Generator().manual_seed(1))[list(chosen)]
    pixels = pixels.to(model.shared.image.weight.dtype)
    return Batch(ids_BT, attention_BT, attention_BT.bool(), torch.zeros_like(ids_BT).bool(), pixels)


def gradients(model: nn.Module) -> dict[str, Tensor]:
    return {name: one.grad.clone() for name, one in model.named_parameters() if one.grad is not None}


def gradients_of(model: ContrastiveModel, objective: ContrastiveLoss, batch: Batch) -> dict[str, Tensor]:
    model.zero_grad()
    torch.manual_seed(5)
    objective.loss(model, batch).backward()
    return gradients(model)


def apart(some: dict[str, Tensor], others: dict[str, Tensor]) -> float:
    """The largest difference of a tensor, relative to its norm; those that are zero but for rounding count as such."""
    assert some.keys() == others.keys()
    least = 1e-6 * max(value.norm() for value in some.values())
    return max(float((value - others[name]).norm() / value.norm().clamp(min=least)) for name, value in some.items())


@pytest.mark.parametrize(("kind", "bias"), KINDS)
@pytest.mark.parametrize("pool", ["mean", "attention"])
@pytest.mark.parametrize("chunk", [1, 3])
def test_chunks_give_the_gradients_of_the_whole_batch(
    make_towers: MakeModel, kind: Any, bias: float | None, pool: str, chunk: int
) -> None:
    model = make_towers(bias=bias, pool=pool).double().train()
    batch = batch_of(model)
    direct = gradients_of(model, ContrastiveLoss(kind), batch)
    assert direct.keys() == {name for name, _ in model.named_parameters()}, "a parameter without gradient hangs DDP"
    assert apart(direct, gradients_of(model, ContrastiveLoss(kind, chunk=chunk), batch)) < 1e-9


def test_a_chunk_that_runs_again_drops_out_the_same(make_towers: MakeModel) -> None:
    """Against chunks that keep everything, whose draws are the same; other draws would give other gradients."""
    model = make_towers(dropout=0.5).double().train()
    batch = batch_of(model)

    class Keeping(ContrastiveLoss):
        def _chunked(self, model: Any, tower: str, embed: Any, *inputs: Tensor) -> Tensor:
            assert self.chunk is not None
            chunks = zip(*(torch.split(one, self.chunk) for one in inputs), strict=True)
            return torch.cat([embed(*chunk) for chunk in chunks])

    kept = gradients_of(model, Keeping(chunk=3), batch)
    assert apart(kept, gradients_of(model, ContrastiveLoss(chunk=3), batch)) < 1e-9
    torch.manual_seed(6)
    model.zero_grad()
    ContrastiveLoss(chunk=3).loss(model, batch).backward()
    assert apart(kept, gradients(model)) > 1e-2


class Watched(torch.autograd.Function):
    """Passes on what it is given, and keeps an activation; how many images have one is counted in the backward pass."""

    kept: ClassVar[list[tuple[StorageWeakRef, int]]] = []
    most = 0

    @staticmethod
    def forward(ctx: Any, given: Tensor) -> Tensor:
        activation = given.clone()
        ctx.save_for_backward(activation)
        Watched.kept.append((StorageWeakRef(activation.untyped_storage()), len(activation)))
        return given.clone()

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Tensor:
        _ = ctx.saved_tensors  # makes a checkpointed chunk run again
        Watched.most = max(Watched.most, sum(images for storage, images in Watched.kept if not storage.expired()))
        return gradient


@pytest.mark.parametrize(("chunk", "most"), [(None, PAIRS), (2, 2)])
def test_only_one_chunk_of_activations_is_kept(
    make_towers: MakeModel, monkeypatch: pytest.MonkeyPatch, chunk: int | None, most: int
) -> None:
    model = make_towers().train()
    monkeypatch.setattr(Watched, "kept", [])
    monkeypatch.setattr(Watched, "most", 0)
    encode = model.vision.forward
    monkeypatch.setattr(model.vision, "forward", lambda pixels: Watched.apply(encode(pixels)))
    ContrastiveLoss(chunk=chunk).loss(model, batch_of(model)).backward()
    assert Watched.most == most


def test_frozen_towers_do_not_run_again(make_towers: MakeModel, monkeypatch: pytest.MonkeyPatch) -> None:
    model = make_towers().train()
    model.vision.requires_grad_(False)
    seen: list[int] = []
    encode = model.vision.forward
    monkeypatch.setattr(model.vision, "forward", lambda pixels: (seen.append(len(pixels)), encode(pixels))[1])
    ContrastiveLoss(chunk=3).loss(model, batch_of(model)).backward()
    assert seen == [3, 3, 2]


def test_the_clip_loss_of_different_texts_is_cross_entropy_in_both_directions(make_towers: MakeModel) -> None:
    model = make_towers()
    batch = batch_of(model, range(2, PAIRS))
    images, texts = model.embed_images(batch.pixels_NCHW), model.embed_texts(batch.ids_BT, batch.attention_BT)
    logits = images @ texts.T / 0.07
    own = torch.arange(len(logits))
    expected = (functional.cross_entropy(logits, own) + functional.cross_entropy(logits.T, own)) / 2
    torch.testing.assert_close(ContrastiveLoss().loss(model, batch), expected)


def test_the_siglip_loss_is_a_decision_for_every_pair(make_towers: MakeModel) -> None:
    model = make_towers(scale=10.0, bias=-10.0)
    batch = batch_of(model)
    images, texts = model.embed_images(batch.pixels_NCHW), model.embed_texts(batch.ids_BT, batch.attention_BT)
    matches = torch.tensor([[one == other for other in TEXTS] for one in TEXTS]).float()
    logits = 10 * images @ texts.T - 10
    expected = functional.binary_cross_entropy_with_logits(logits, matches, reduction="sum") / PAIRS
    torch.testing.assert_close(ContrastiveLoss("siglip").loss(model, batch), expected)


def test_similarities_are_compared_in_full_precision(make_towers: MakeModel) -> None:
    """Of the same places, which mixed precision rounds, the loss is that of float32."""
    model = make_towers(scale=100.0)
    batch = batch_of(model, range(2, PAIRS))
    with torch.autocast("cpu", dtype=torch.bfloat16):
        loss = ContrastiveLoss().loss(model, batch)
        images, texts = model.embed_images(batch.pixels_NCHW), model.embed_texts(batch.ids_BT, batch.attention_BT)
    assert images.dtype == texts.dtype == loss.dtype == torch.float32
    logits = 100 * images @ texts.T
    own = torch.arange(len(logits))
    expected = (functional.cross_entropy(logits, own) + functional.cross_entropy(logits.T, own)) / 2
    torch.testing.assert_close(loss, expected)


def test_the_same_text_is_a_match_whatever_its_padding(make_towers: MakeModel) -> None:
    model = make_towers()
    expected = torch.tensor([[one == other for other in TEXTS] for one in TEXTS])
    batch = batch_of(model)
    assert torch.equal(same_texts(batch), expected)
    wider = functional.pad(batch.ids_BT, (0, 5), value=7)
    padded = Batch(
        wider, functional.pad(batch.attention_BT, (0, 5)), batch.supervised_BT, batch.is_image_BT, batch.pixels_NCHW
    )
    assert torch.equal(same_texts(padded), expected)


@pytest.mark.parametrize(("kind", "bias"), KINDS)
def test_two_pairs_of_one_text_may_be_swapped(make_towers: MakeModel, kind: Any, bias: float | None) -> None:
    """Neither is the other's negative: a batch of two such pairs has nothing to push apart."""
    model = make_towers(bias=bias)
    batch = batch_of(model, range(1, 5, 3))
    loss = ContrastiveLoss(kind).loss(model, batch)
    if kind == "clip":
        images, texts = model.embed_images(batch.pixels_NCHW), model.embed_texts(batch.ids_BT, batch.attention_BT)
        logits = images @ texts.T / 0.07
        shared = torch.full((2, 2), 0.5)
        torch.testing.assert_close(
            loss, (functional.cross_entropy(logits, shared) + functional.cross_entropy(logits.T, shared)) / 2
        )
    swapped = Batch(batch.ids_BT, batch.attention_BT, batch.supervised_BT, batch.is_image_BT, batch.pixels_NCHW.flip(0))
    torch.testing.assert_close(ContrastiveLoss(kind).loss(model, swapped), loss)


ONE_OF_TWO = """
import sys
from pathlib import Path

import torch
from torch import distributed, nn
from torch.nn.parallel import DistributedDataParallel

from mmmed.models.folder import load_contrastive
from mmmed.models.vlm import Batch
from mmmed.training.contrastive import ContrastiveLoss

folder, rank = Path(sys.argv[1]), int(sys.argv[2])
distributed.init_process_group("gloo", init_method=f"file://{folder}/meeting", rank=rank, world_size=2)
batch = Batch(**torch.load(folder / f"batch{rank}.pt", weights_only=True))


class Loss(nn.Module):
    def __init__(self, kind, chunk):
        super().__init__()
        self.model = load_contrastive(folder / kind).model.double().train()
        self.objective = ContrastiveLoss(kind, chunk=chunk)

    def forward(self, batch):
        return self.objective.loss(self.model, batch)


for kind, chunk in (("clip", None), ("siglip", 3)):
    module = Loss(kind, chunk)
    reduced = DistributedDataParallel(module)  # which must live until the gradients are there
    loss = reduced(batch)
    loss.backward()
    found = {name: one.grad for name, one in module.model.named_parameters()}
    torch.save({"loss": loss.detach(), "gradients": found}, folder / f"{kind}{rank}.pt")
distributed.destroy_process_group()
"""


def test_two_processes_give_the_gradients_of_one(make_towers: MakeModel, tmp_path: Path) -> None:
    """With the same text once in each process, and longer texts in one than in the other."""
    models = {kind: make_towers(bias=bias) for kind, bias in KINDS}
    for kind, model in models.items():
        save(model, tmp_path / kind, settings={}, provenance={})
        model.double().train()
    (tmp_path / "process.py").write_text(ONE_OF_TWO)
    half = PAIRS // 2
    running = []
    for rank in range(2):
        part = batch_of(models["clip"], range(rank * half, (rank + 1) * half))
        torch.save({name: getattr(part, name) for name in part.__slots__}, tmp_path / f"batch{rank}.pt")
        words = [sys.executable, str(tmp_path / "process.py"), str(tmp_path), str(rank)]
        running.append(subprocess.Popen(words, env=os.environ | {"PYTHONPATH": str(ROOT)}))
    try:
        assert [one.wait(timeout=280) for one in running] == [0, 0]
    finally:
        for one in running:
            one.kill()
            one.wait()
    for kind, model in models.items():
        objective, batch = ContrastiveLoss(kind), batch_of(model)
        expected, loss = gradients_of(model, objective, batch), objective.loss(model, batch)
        for rank in range(2):
            found = torch.load(tmp_path / f"{kind}{rank}.pt", weights_only=True)
            torch.testing.assert_close(found["loss"], loss.detach())
            assert apart(expected, found["gradients"]) < 1e-9


def test_what_cannot_be_learned_from_is_refused(make_towers: MakeModel, examples: list[Example]) -> None:
    with pytest.raises(ConfigError, match="expected clip or siglip"):
        ContrastiveLoss("infonce")  # type: ignore[arg-type]
    with pytest.raises(ConfigError, match="expected 1 or more pairs"):
        ContrastiveLoss(chunk=0)
    with pytest.raises(DataError, match="reports that differ"):
        ContrastiveLoss().prepare(None, examples[-1:] * 3)  # type: ignore[arg-type]
