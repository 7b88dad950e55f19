"""`mmmed fit` on several ranks: the same losses, the same batches, and checkpoints that any number of ranks opens."""

import contextlib
import copy
import multiprocessing
import os
import random
import shutil
import signal
import socket
import sys
import time
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from safetensors.torch import load_file

from mmmed.cli.main import main
from mmmed.training import provenance
from mmmed.training.shard_files import whole_checkpoint

# Ranks are forked from a process that has imported everything and done nothing: one that has trained has threads that
# its forks lack, and autograd refuses to run in them.
SERVER = multiprocessing.get_context("forkserver")
SERVER.set_forkserver_preload(["mmmed.cli.training", "mmmed.training.stage", "mmmed.data.datamodule"])
PASSED_ON = (
    "OMP_WAIT_POLICY",
    "GOMP_SPINCOUNT",
    "TOKENIZERS_PARALLELISM",
    "HF_HUB_DISABLE_TELEMETRY",
    "PL_GLOBAL_SEED",
    "WANDB_MODE",
    "MMMED_CACHE",
)
DIARY = '''
"""A callback for a test: write down what each rank is trained on."""

import hashlib

from lightning.pytorch.callbacks import Callback


class Diary(Callback):
    """One line per micro-batch: the step, what stands in the batch, and the loss that is told after it."""

    def __init__(self, path):
        self.path = path

    def on_train_batch_end(self, trainer, pl_module, outputs, batch, batch_idx):
        # Whether a picture is decoded depends on what was kept before; its key does not.
        content = batch.ids_BT.numpy().tobytes() + repr(batch.kept.keys).encode()
        loss = trainer.callback_metrics.get("train/loss")
        with open(f"{self.path}.{trainer.global_rank}", "a") as file:
            told = float(loss) if loss is not None else float("nan")
            file.write(f"{trainer.global_step} {hashlib.sha256(content).hexdigest()[:16]} {told!r}\\n")
'''

Config = dict[str, Any]


def part(name: str, /, **arguments: Any) -> Config:
    return {"class_path": f"mmmed.{name}", "init_args": arguments}


@pytest.fixture(autouse=True)
def _quiet(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "diary_of_ranks.py").write_text(DIARY)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "diary_of_ranks", raising=False)
    monkeypatch.setenv("WANDB_MODE", "offline")


@pytest.fixture(scope="module")
def films(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where the films of all runs are kept, once they are rendered."""
    return tmp_path_factory.mktemp("films")


@pytest.fixture
def config(tmp_path: Path, films: Path, tokenizer_folder: Path) -> Config:
    """A tiny model behind an encoder whose features are kept, on twelve films."""
    llama = {
        "model_type": "llama",
        "vocab_size": 420,
        "hidden_size": 16,
        "intermediate_size": 32,
        "num_hidden_layers": 2,
        "num_attention_heads": 2,
        "attention_dropout": 0.0,
        "tie_word_embeddings": True,
    }
    clip = {
        "model_type": "clip_vision_model",
        "hidden_size": 16,
        "intermediate_size": 32,
        "num_hidden_layers": 2,
        "num_attention_heads": 2,
        "image_size": 32,
        "patch_size": 16,
    }
    encoder = part("models.encoders.transformers.TransformersEncoder", weights=None, config=clip, layer=-2)
    parts = {
        "language": part(
            "models.language.CausalLanguageModel", weights=None, config=llama, tokenizer=str(tokenizer_folder)
        ),
        "vision": part("models.features.FrozenFeatures", encoder=encoder, folder=str(tmp_path / "features")),
        "projector": part("models.projector.MLPProjector"),
    }
    source = part("data.sources.phantom.PhantomSource", count=12, cache=str(films), questions=["finding"])
    kept = {"save_last": True, "save_top_k": 0, "every_n_train_steps": 2, "enable_version_counter": False}
    return {
        "seed_everything": 3,
        "wandb": False,
        "model": part(
            "training.stage.Stage",
            name="instruct",
            model=part("models.vlm.VisionLanguageModel", **parts),
            learning_rates={"projector": 1.0e-2, "language": 1.0e-2},
            optimizer={"class_path": "torch.optim.AdamW", "init_args": {"lr": 1.0e-3}},
        ),
        "data": part(
            "data.datamodule.MedicalData",
            sources=[source],
            topics=["effusion", "nodule", "opacity"],
            batch_size=2,
            most_turns=3,
        ),
        "trainer": {
            "accelerator": "cpu",
            "devices": 1,
            "precision": "32-true",
            "max_epochs": 4,
            "limit_val_batches": 0,
            "num_sanity_val_steps": 0,
            "log_every_n_steps": 1,
            "gradient_clip_val": 1.0,
            "enable_progress_bar": False,
            "enable_model_summary": False,
            "callbacks": [
                {"class_path": "lightning.pytorch.callbacks.ModelCheckpoint", "init_args": kept},
                {"class_path": "diary_of_ranks.Diary", "init_args": {"path": ""}},
            ],
        },
    }


STRATEGIES: dict[str, Any] = {"ddp": "ddp", "fsdp": {"class_path": "mmmed.training.sharding.Sharded"}}


def given(config: Config, folder: Path, *, ranks: int, strategy: str | None = None, **trainer: Any) -> list[str]:
    """Arguments of a run in a folder of its own."""
    folder.mkdir(exist_ok=True)
    content = copy.deepcopy(config) | {"output": str(folder)}
    content["trainer"] |= {"devices": ranks, **trainer} | ({"strategy": STRATEGIES[strategy]} if strategy else {})
    content["trainer"]["callbacks"][1]["init_args"]["path"] = str(folder / "diary")
    (folder / "given.yaml").write_text(yaml.safe_dump(content))
    return ["fit", "--config", str(folder / "given.yaml")]


def run_rank(arguments: list[str], rank: int, environment: dict[str, str]) -> None:
    """One rank of a run, in a process of its own."""
    os.setsid()
    torch.set_num_threads(1)
    os.environ |= environment
    if "WORLD_SIZE" in environment:
        os.environ["LOCAL_RANK"] = str(rank)
    # Git is asked for the commit of each run, and may take its time on a busy machine.
    provenance.git_commit = lambda: "unknown"
    sys.argv = ["mmmed", *arguments]
    os._exit(main(arguments))


def started(arguments: list[str], *, ranks: int) -> list[Any]:
    """Processes of a run, one for each rank, as torchrun would start them."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    passed_on = {name: os.environ[name] for name in PASSED_ON if name in os.environ}
    if ranks > 1:
        passed_on |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port), "NODE_RANK": "0", "WORLD_SIZE": str(ranks)}
    processes = [SERVER.Process(target=run_rank, args=(arguments, rank, passed_on)) for rank in range(ranks)]
    for process in processes:
        process.start()
    return processes


def finished(processes: list[Any]) -> list[int]:
    for process in processes:
        process.join()
    return [process.exitcode for process in processes]


def trained(arguments: list[str], *, ranks: int) -> None:
    assert finished(started(arguments, ranks=ranks)) == [0] * ranks


def diary(folder: Path, rank: int = 0) -> list[tuple[int, str, float]]:
    lines = [line.split() for line in (folder / f"diary.{rank}").read_text().splitlines()]
    return [(int(step), digest, float(loss)) for step, digest, loss in lines]


def losses(folder: Path, *, each: int = 1) -> list[float]:
    """The loss of each step, of which `each` micro-batches make one."""
    return [loss for _, _, loss in diary(folder)][each - 1 :: each]


def weights(folder: Path) -> dict[str, torch.Tensor]:
    return load_file(folder / "model" / "model.safetensors")


def test_ranks_learn_as_one_process_does(config: Config, tmp_path: Path) -> None:
    alone, ddp, fsdp = (tmp_path / name for name in ("alone", "ddp", "fsdp"))
    trained(given(config, alone, ranks=1, accumulate_grad_batches=2), ranks=1)
    trained(given(config, ddp, ranks=2, strategy="ddp"), ranks=2)
    trained(given(config, fsdp, ranks=2, strategy="fsdp"), ranks=2)
    expected = losses(alone, each=2)
    assert len(expected) >= 6
    assert expected[-1] < 0.9 * expected[0]
    seen = [digest for _, digest, _ in diary(alone)]
    for folder in (ddp, fsdp):
        assert [digest for _, digest, _ in diary(folder)] == seen[0::2]
        assert [digest for _, digest, _ in diary(folder, rank=1)] == seen[1::2]
        assert losses(folder) == pytest.approx(expected, rel=1e-5)
        assert weights(folder).keys() == weights(alone).keys()
        for name, tensor in weights(folder).items():
            torch.testing.assert_close(tensor, weights(alone)[name], rtol=1e-3, atol=1e-4)


def test_a_checkpoint_in_pieces_holds_what_one_file_does(config: Config, tmp_path: Path) -> None:
    trained(given(config, tmp_path / "ddp", ranks=2, strategy="ddp", max_steps=2), ranks=2)
    trained(given(config, tmp_path / "fsdp", ranks=2, strategy="fsdp", max_steps=2), ranks=2)
    one = torch.load(tmp_path / "ddp" / "checkpoints" / "last.ckpt", weights_only=True)
    put_together = whole_checkpoint(tmp_path / "fsdp" / "checkpoints" / "last.ckpt")
    assert one["state_dict"].keys() == put_together["state_dict"].keys()
    for name, tensor in one["state_dict"].items():
        torch.testing.assert_close(put_together["state_dict"][name], tensor, rtol=1e-4, atol=1e-5)
    ours, theirs = put_together["optimizer_states"][0], one["optimizer_states"][0]
    assert [group["params"] for group in ours["param_groups"]] == [group["params"] for group in theirs["param_groups"]]
    assert ours["state"].keys() == theirs["state"].keys()
    for number, kept in theirs["state"].items():
        for kind, value in kept.items():
            torch.testing.assert_close(ours["state"][number][kind], value, rtol=1e-3, atol=1e-5)


@pytest.mark.long
@pytest.mark.timeout(1200)
@pytest.mark.parametrize(("strategy", "ranks"), [("ddp", 1), ("ddp", 4), ("fsdp", 1), ("fsdp", 4)])
def test_a_checkpoint_of_two_ranks_opens_on_one_and_on_four(
    config: Config, tmp_path: Path, strategy: str, ranks: int
) -> None:
    whole, begun = tmp_path / "whole", tmp_path / "begun"
    trained(given(config, whole, ranks=1, accumulate_grad_batches=2), ranks=1)
    config["trainer"]["callbacks"][0]["init_args"]["save_top_k"] = -1
    trained(given(config, begun, ranks=2, strategy=strategy), ranks=2)
    (second,) = (begun / "checkpoints").glob("*step=2.ckpt")
    resumed = ["--ckpt_path", str(second)]
    if ranks == 1:
        again = given(config, tmp_path / "again", ranks=1, accumulate_grad_batches=2)
        trained([*again, *resumed], ranks=1)
        expected = losses(whole, each=2)
        assert losses(tmp_path / "again", each=2) == pytest.approx(expected[2:], rel=1e-4)
        assert [one for _, one, _ in diary(tmp_path / "again")] == [one for _, one, _ in diary(whole)][4:]
    else:
        trained([*given(config, tmp_path / "again", ranks=ranks, strategy=strategy), *resumed], ranks=ranks)
        steps = [step for step, _, _ in diary(tmp_path / "again")]
        assert steps[0] == 3
        assert (tmp_path / "again" / "model" / "model.json").is_file()


@pytest.mark.long
@pytest.mark.timeout(3600)
@pytest.mark.parametrize("strategy", ["ddp", "fsdp"])
def test_runs_killed_at_random_moments_end_as_an_uninterrupted_one(
    config: Config, tmp_path: Path, strategy: str
) -> None:
    language = config["model"]["init_args"]["model"]["init_args"]["language"]
    language["init_args"]["config"]["attention_dropout"] = 0.2  # so that the random state matters too
    asked = config["data"]["init_args"]
    del asked["batch_size"], asked["most_turns"]
    asked |= {"workers": 2, "packing": "tree", "batch_tokens": 256}
    whole = tmp_path / "whole"
    trained(given(config, whole, ranks=2, strategy=strategy), ranks=2)
    expected = [diary(whole, rank) for rank in range(2)]
    end = weights(whole)
    resumptions = 0
    while resumptions < 20:
        folder = tmp_path / "killed"
        arguments = given(config, folder, ranks=2, strategy=strategy)
        lines, wait = random.randrange(len(expected[0]) - 1), random.uniform(0, 0.3)
        told = f"killed {wait:.3f} s after {lines} steps"
        killed(started(arguments, ranks=2), folder, lines=lines, wait=wait)
        if (folder / "model").exists():  # the kill came after the end
            shutil.rmtree(folder)
            continue
        for rank in range(2):
            (folder / f"diary.{rank}").unlink(missing_ok=True)
        checkpoint = folder / "checkpoints" / "last.ckpt"
        trained([*arguments, *(["--ckpt_path", str(checkpoint)] if checkpoint.exists() else [])], ranks=2)
        for rank in range(2):
            # Killed between the last checkpoint and the model, a run has no step left.
            seen = diary(folder, rank) if (folder / f"diary.{rank}").exists() else []
            assert seen == expected[rank][len(expected[rank]) - len(seen) :], told
        resumed = weights(folder)
        assert all(torch.equal(tensor, resumed[name]) for name, tensor in end.items()), told
        shutil.rmtree(folder)
        resumptions += 1


def killed(processes: list[Any], folder: Path, *, lines: int, wait: float) -> None:
    """Let a run come so far and a moment further, and take the power from all of its processes."""
    written = folder / "diary.0"
    while any(one.is_alive() for one in processes):
        if written.exists() and len(written.read_text().splitlines()) >= lines:
            break
        time.sleep(0.02)
    time.sleep(wait)
    for process in processes:
        assert process.pid is not None
        # The workers are in the group of their rank; a run that is over has none.
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.kill()
    finished(processes)
