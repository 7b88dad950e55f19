"""`mmmed fit` from a configuration to a model: it resumes exactly, and says in one line what it cannot do."""

import copy
import gc
import json
import os
import random
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from lightning import Trainer
from safetensors.torch import load_file

from mmmed.cli.main import main
from mmmed.models.vlm import VisionLanguageModel
from mmmed.training.stage import Stage

ROOT = Path(__file__).parents[2]
FAULTS = '''
"""Callbacks for a test: write down what is trained on, and die."""

import hashlib
import os
import signal

from lightning.pytorch.callbacks import Callback


class Diary(Callback):
    """One line per step: its number, and what stands in its batch."""

    def __init__(self, path):
        self.path = path

    def on_train_batch_start(self, trainer, pl_module, batch, batch_idx):
        content = batch.ids_BT.numpy().tobytes() + batch.pixels_NCHW.numpy().tobytes()
        with open(self.path, "a") as file:
            file.write(f"{trainer.global_step} {hashlib.sha256(content).hexdigest()}\\n")


class Death(Callback):
    """The machine goes down at the beginning of a step."""

    def __init__(self, step):
        self.step = step

    def on_train_batch_start(self, trainer, pl_module, batch, batch_idx):
        if trainer.global_step == self.step:
            os.kill(os.getpid(), signal.SIGKILL)
'''

Config = dict[str, Any]


@pytest.fixture(autouse=True)
def _faults(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The callbacks as a module that a configuration can name."""
    (tmp_path / "faults.py").write_text(FAULTS)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "faults", raising=False)
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(tmp_path), str(ROOT)]))
    for name in (
        "OMP_WAIT_POLICY",
        "GOMP_SPINCOUNT",
        "TOKENIZERS_PARALLELISM",
        "WANDB_MODE",
        "HF_HUB_DISABLE_TELEMETRY",
        "PL_GLOBAL_SEED",
    ):
        monkeypatch.setenv(name, os.environ.get(name, ""))
    monkeypatch.setenv("WANDB_MODE", "offline")


@pytest.fixture
def config(tmp_path: Path, tokenizer_folder: Path) -> Config:
    """A tiny model that drops out, so that the random state matters too, on twelve films."""
    llama = {
        "model_type": "llama",
        "vocab_size": 420,
        "hidden_size": 16,
        "intermediate_size": 32,
        "num_hidden_layers": 1,
        "num_attention_heads": 2,
        "attention_dropout": 0.2,
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
    parts = {
        "language": part(
            "models.language.CausalLanguageModel", weights=None, config=llama, tokenizer=str(tokenizer_folder)
        ),
        "vision": part("models.encoders.transformers.TransformersEncoder", weights=None, config=clip, layer=-2),
        "projector": part("models.projector.MLPProjector"),
    }
    source = part("data.sources.phantom.PhantomSource", count=12, cache=str(tmp_path / "films"), questions=["finding"])
    checkpoints = {"save_last": True, "save_top_k": 0, "every_n_train_steps": 2, "enable_version_counter": False}
    return {
        "seed_everything": 3,
        "output": str(tmp_path / "run"),
        "wandb": False,
        "model": part(
            "training.stage.Stage",
            name="instruct",
            model=part("models.vlm.VisionLanguageModel", **parts),
            learning_rates={"projector": 1.0e-2, "language": 1.0e-2},
            optimizer={"class_path": "torch.optim.AdamW", "init_args": {"lr": 1.0e-3}},
        ),
        "data": part(
            "data.datamodule.MedicalData", sources=[source], topics=["effusion", "nodule"], batch_size=2, most_turns=2
        ),
        "trainer": {
            "accelerator": "cpu",
            "devices": 1,
            "precision": "32-true",
            "max_epochs": 3,
            "num_sanity_val_steps": 0,
            "log_every_n_steps": 1,
            "enable_progress_bar": False,
            "enable_model_summary": False,
            "callbacks": [
                {"class_path": "lightning.pytorch.callbacks.ModelCheckpoint", "init_args": checkpoints},
                {"class_path": "faults.Diary", "init_args": {"path": str(tmp_path / "diary")}},
            ],
        },
    }


def part(name: str, /, **arguments: Any) -> Config:
    return {"class_path": f"mmmed.{name}", "init_args": arguments}


def written(config: Config, path: Path) -> str:
    path.write_text(yaml.safe_dump(config))
    return str(path)


def as_run(config: Config, folder: Path, *, dies_at: int | None = None) -> str:
    """The configuration of a run in another folder, with a diary of its own."""
    config = copy.deepcopy(config)
    folder.mkdir(exist_ok=True)
    config["output"] = str(folder)
    config["trainer"]["callbacks"][1]["init_args"]["path"] = str(folder / "diary")
    if dies_at is not None:
        config["trainer"]["callbacks"].append({"class_path": "faults.Death", "init_args": {"step": dies_at}})
    return written(config, folder / "given.yaml")


def diary(folder: Path) -> list[str]:
    return (folder / "diary").read_text().splitlines()


@pytest.fixture
def uninterrupted(config: Config, tmp_path: Path) -> Path:
    assert main(["fit", "--config", as_run(config, tmp_path / "whole")]) == 0
    return tmp_path / "whole"


@pytest.mark.parametrize("moment", ["in the middle of an epoch", pytest.param("at its end", marks=pytest.mark.slow)])
def test_a_killed_and_resumed_run_ends_as_an_uninterrupted_one(
    uninterrupted: Path, config: Config, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, moment: str
) -> None:
    expected = diary(uninterrupted)
    per_epoch = len(expected) // 3
    assert per_epoch >= 3
    assert len(set(expected)) == len(expected)
    assert [line.split()[1] for line in expected[:per_epoch]] != [
        line.split()[1] for line in expected[per_epoch:][:per_epoch]
    ]
    middle = [step for step in range(3, len(expected)) if (step // 2 * 2) % per_epoch]
    step = (
        random.choice(middle) if moment != "at its end" else next(s for s in (2 * per_epoch, per_epoch) if s % 2 == 0)
    )

    killed = as_run(config, tmp_path / "killed", dies_at=step)
    done = subprocess.run([sys.executable, "-m", "mmmed", "fit", "--config", killed], check=False, capture_output=True)
    assert done.returncode == -signal.SIGKILL, done.stderr.decode()
    assert diary(tmp_path / "killed") == expected[: step + 1]
    assert not (tmp_path / "killed" / "model").exists()
    (tmp_path / "killed" / "diary").unlink()

    loaded: list[object] = []
    load = torch.load
    monkeypatch.setattr(
        torch, "load", lambda *given, **how: loaded.append(how.get("weights_only")) or load(*given, **how)
    )
    again = as_run(config, tmp_path / "killed")
    assert main(["fit", "--config", again, "--ckpt_path", "last"]) == 0
    assert loaded
    assert all(value is True for value in loaded), "a checkpoint is data and runs no code"

    assert diary(tmp_path / "killed") == expected[step // 2 * 2 :], f"killed at step {step}"
    ends = [load_file(folder / "model" / "model.safetensors") for folder in (uninterrupted, tmp_path / "killed")]
    assert ends[0].keys() == ends[1].keys()
    assert all(torch.equal(value, ends[1][key]) for key, value in ends[0].items()), f"killed at step {step}"
    steps = [
        json.loads((folder / "model" / "model.json").read_text())["provenance"]["steps"]
        for folder in (uninterrupted, tmp_path / "killed")
    ]
    assert steps == [len(expected)] * 2


def error_of(capsys: pytest.CaptureFixture[str]) -> str:
    """The one line of ours on standard error."""
    lines = [line for line in capsys.readouterr().err.splitlines() if line.startswith("mmmed: error: ")]
    assert len(lines) == 1
    return lines[0]


def test_resuming_with_another_configuration_is_one_line(
    uninterrupted: Path, config: Config, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    checkpoint = str(uninterrupted / "checkpoints" / "last.ckpt")
    wider = copy.deepcopy(config)
    wider["model"]["init_args"]["model"]["init_args"]["projector"]["init_args"]["hidden"] = 24
    config["data"]["init_args"]["batch_size"] = 1
    config["trainer"]["max_epochs"] = wider["trainer"]["max_epochs"] = 4
    capsys.readouterr()
    assert main(["fit", "--config", as_run(wider, tmp_path / "wider"), "--ckpt_path", checkpoint]) == 2
    assert "checkpoint and model differ in 3 trained tensors, such as 'model.projector.linear_1.bias'" in error_of(
        capsys
    )
    assert main(["fit", "--config", as_run(config, tmp_path / "smaller"), "--ckpt_path", checkpoint]) == 2
    assert "the checkpoint was made with other batches; resume with the data, batch_size and seed" in error_of(capsys)


def test_a_run_leaves_model_configuration_logs_and_quarantine_in_its_folder(
    uninterrupted: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    left = {path.name for path in uninterrupted.iterdir()} - {"given.yaml", "diary"}
    assert left == {"model", "checkpoints", "logs", "quarantine.jsonl"}
    assert (uninterrupted / "logs" / "config.yaml").is_file()
    provenance = json.loads((uninterrupted / "model" / "model.json").read_text())["provenance"]
    assert provenance["data"]["examples"]["train"]["phantom"] > 0
    assert "train/loss" in (uninterrupted / "logs" / "metrics.csv").read_text()


def test_a_process_that_trains_again_keeps_no_model(config: Config, tmp_path: Path) -> None:
    before = len(models_alive())
    assert main(["fit", "--config", as_run(config, tmp_path / "run")]) == 0
    assert len(models_alive()) == before


def models_alive() -> list[Any]:
    gc.collect()
    return [one for one in gc.get_objects() if type(one) in (Stage, VisionLanguageModel, Trainer)]


def test_validate_and_test_run_on_their_splits(
    config: Config, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    given = as_run(config, tmp_path / "run")
    assert main(["validate", "--config", given]) == 0
    assert "validation/loss" in capsys.readouterr().out
    assert main(["test", "--config", given]) == 0
    assert "test/loss" in capsys.readouterr().out


Change = Callable[[Config], object]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            lambda given: given["model"]["init_args"].update(name="algin"),
            "unknown stage 'algin' (did you mean 'align'?)",
        ),
        (
            lambda given: given["model"]["init_args"].update(learning_rates={"projektor": 1e-3}),
            "unknown part 'projektor' in learning_rates (did you mean 'projector'?)",
        ),
        (lambda given: given["model"]["init_args"].update(warmpu=0.1), "did you mean 'warmup'?"),
        (lambda given: given["trainer"].update(max_epoch=3), "did you mean 'trainer.max_epochs'?"),
        (lambda given: given["data"]["init_args"].update(bath_size=3), "did you mean 'batch_size'?"),
        (lambda given: given["data"].update(class_path="mmmed.data.datamodule.MedicalDate"), "MedicalDate"),
        (
            lambda given: given["model"]["init_args"]["model"]["init_args"]["vision"].update(
                class_path="mmmed.Nothing"
            ),
            "mmmed.Nothing",
        ),
        (lambda given: given["data"]["init_args"].update(sources=[]), "name at least one in `sources`"),
        (
            lambda given: given["data"]["init_args"].update(topics=["fracture"]),
            "no train example has a topic among ['fracture']; name topics the sources ask about",
        ),
        (
            lambda given: given["data"]["init_args"]["sources"][0]["init_args"].update(count=1),
            "source 'phantom' has no usable",
        ),
        (lambda given: given["model"]["init_args"].update(init_from="nowhere"), "name the `model` folder of a run"),
        (lambda given: given["model"]["init_args"].update(max_length=10), "more than max_length 10"),
    ],
)
def test_a_mistake_in_a_configuration_is_one_line_and_exit_code_2(
    config: Config, tmp_path: Path, capsys: pytest.CaptureFixture[str], change: Change, message: str
) -> None:
    change(config)
    assert main(["fit", "--config", written(config, tmp_path / "given.yaml")]) == 2
    assert message in error_of(capsys)


def test_an_output_that_cannot_be_written_is_one_line(
    config: Config, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "file").write_text("")
    given = written(config, tmp_path / "given.yaml")
    assert main(["fit", "--config", given, "--output", str(tmp_path / "file" / "run")]) == 2
    assert "choose another folder with --output" in error_of(capsys)


def test_a_checkpoint_that_is_not_there_is_one_line(
    config: Config, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    given = written(config, tmp_path / "given.yaml")
    assert main(["fit", "--config", given, "--ckpt_path", str(tmp_path / "nowhere.ckpt")]) == 2
    assert "nowhere.ckpt; name a .ckpt file, or 'last'" in error_of(capsys)


@pytest.mark.parametrize("by_name", [True, False])
def test_a_checkpoint_that_was_cut_off_is_one_line(
    by_name: bool, config: Config, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    whole = tmp_path / "whole.ckpt"
    torch.save({"state_dict": {}}, whole)
    cut = tmp_path / "run" / "checkpoints" / "last.ckpt"
    cut.parent.mkdir(parents=True)
    cut.write_bytes(whole.read_bytes()[:-100])
    given = written(config, tmp_path / "given.yaml")
    path = str(cut) if by_name else "last"
    assert main(["fit", "--config", given, "--output", str(tmp_path / "run"), "--ckpt_path", path]) == 2
    assert "last.ckpt is damaged; delete it, and resume from another or start anew" in error_of(capsys)
