"""From contrastive training to its evaluation and to the stage that takes the encoder over."""

import copy
import json
import os
import shutil
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from safetensors.torch import load_file

from mmmed.cli.main import ENVIRONMENT, main

ROOT = Path(__file__).parents[2]
Config = dict[str, Any]
CLIP = {
    "model_type": "clip_vision_model",
    "hidden_size": 16,
    "intermediate_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "image_size": 32,
    "patch_size": 16,
}
BERT = {"model_type": "bert", "hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 1}
LLAMA = {"model_type": "llama", "vocab_size": 420, "hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 1}
DEATH = """
from lightning.pytorch.callbacks import Callback


class Death(Callback):
    def on_train_batch_start(self, trainer, pl_module, batch, batch_idx):
        if trainer.global_step == 5:
            raise RuntimeError("the machine goes down")
"""


@pytest.fixture(autouse=True)
def _environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "deaths.py").write_text(DEATH)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "deaths", raising=False)
    for name in (*ENVIRONMENT, "PL_GLOBAL_SEED"):
        monkeypatch.setenv(name, os.environ.get(name, ""))


def part(name: str, /, **arguments: Any) -> Config:
    return {"class_path": f"mmmed.{name}", "init_args": arguments}


@pytest.fixture
def towers(tokenizer_folder: Path) -> Config:
    heads = {"num_attention_heads": 2, "hidden_dropout_prob": 0.2}
    text = part("models.text.TransformerText", weights=None, config=BERT | heads, tokenizer=str(tokenizer_folder))
    vision = part("models.encoders.transformers.TransformersEncoder", weights=None, config=CLIP, layer=-1)
    return part("models.contrastive.ContrastiveModel", vision=vision, text=text, width=8)


@pytest.fixture
def source(tmp_path: Path) -> Config:
    return part("data.sources.phantom.PhantomSource", count=40, cache=str(tmp_path / "films"))


@pytest.fixture
def config(towers: Config, source: Config) -> Config:
    checkpoints = {"save_last": True, "save_top_k": 0, "every_n_train_steps": 2, "enable_version_counter": False}
    return {
        "seed_everything": 3,
        "wandb": False,
        "model": part(
            "training.stage.Stage",
            name="contrastive",
            model=towers,
            learning_rates={"vision": 1e-2, "text": 1e-2, "shared": 1e-2},
            optimizer={"class_path": "torch.optim.AdamW", "init_args": {"lr": 1e-3}},
            objective=part("training.contrastive.ContrastiveLoss", chunk=3),
        ),
        "data": part("data.datamodule.MedicalData", sources=[source], topics=["report"], batch_size=8),
        "trainer": {
            "accelerator": "cpu",
            "devices": 1,
            "precision": "32-true",
            "max_epochs": 3,
            "num_sanity_val_steps": 0,
            "log_every_n_steps": 1,
            "enable_progress_bar": False,
            "enable_model_summary": False,
            "callbacks": [{"class_path": "lightning.pytorch.callbacks.ModelCheckpoint", "init_args": checkpoints}],
        },
    }


def fit(config: Config, folder: Path, *more: str) -> int:
    folder.mkdir(exist_ok=True)
    (folder / "given.yaml").write_text(yaml.safe_dump(config | {"output": str(folder)}))
    return main(["fit", "--config", str(folder / "given.yaml"), *more])


def test_a_resumed_run_ends_as_an_uninterrupted_one(config: Config, tmp_path: Path) -> None:
    assert fit(config, tmp_path / "whole") == 0
    dying = copy.deepcopy(config)
    dying["trainer"]["callbacks"].append({"class_path": "deaths.Death"})
    with pytest.raises(RuntimeError, match="the machine goes down"):
        fit(dying, tmp_path / "again")
    assert fit(config, tmp_path / "again", "--ckpt_path", "last") == 0
    ends = [load_file(tmp_path / name / "model" / "model.safetensors") for name in ("whole", "again")]
    assert all(torch.equal(value, ends[1][key]) for key, value in ends[0].items())
    given = json.loads((tmp_path / "whole" / "model" / "model.json").read_text())["provenance"]
    assert given["stage"] == "contrastive"
    assert given["parameters"].keys() == {"vision", "text", "shared"}


def test_a_trained_model_is_evaluated_and_its_encoder_taken_over(
    config: Config, towers: Config, source: Config, tokenizer_folder: Path, tmp_path: Path, capsys: Any
) -> None:
    config["trainer"]["max_epochs"] = 1
    assert fit(config, tmp_path / "run") == 0
    prompts = {"nodule": {"positive": ["A nodule."], "negative": ["No nodule."]}}
    task = {"name": "tiny", "version": 1, "source": source, "prompts": prompts, "reports": "report"}
    (tmp_path / "task.yaml").write_text(yaml.safe_dump(task))
    (tmp_path / "towers.yaml").write_text(yaml.safe_dump(towers))
    capsys.readouterr()
    given = ["--checkpoint", str(tmp_path / "run"), "--task", str(tmp_path / "task.yaml")]
    given += ["--untrained", str(tmp_path / "towers.yaml"), "--output", str(tmp_path / "scores")]
    assert main(["zero_shot", *given]) == 0
    said = capsys.readouterr().out
    assert "mean_zero_shot_auroc" in said
    assert "on untrained" in said
    assert "report_to_image_recall@10" in said
    rows = json.loads((tmp_path / "scores" / "results.json").read_text())
    assert {row["baseline"] for row in rows} == {None, "chance", "untrained"}
    kept = {path.stem for path in (tmp_path / "scores" / "predictions" / "tiny").iterdir()}
    assert kept == {"model", "untrained", "model_linear_probe", "untrained_linear_probe"}

    language = part(
        "models.language.CausalLanguageModel",
        weights=None,
        config=LLAMA | {"num_attention_heads": 2},
        tokenizer=str(tokenizer_folder),
    )
    vision = towers["init_args"]["vision"]
    projector = part("models.projector.MLPProjector")
    model = part("models.vlm.VisionLanguageModel", language=language, vision=vision, projector=projector)
    stage = {"name": "align", "model": model, "learning_rates": {"projector": 1e-2}, "objective": None}
    config["model"]["init_args"] |= stage | {"init_from": str(tmp_path / "run" / "model")}
    assert fit(config, tmp_path / "align") == 0
    before, after = (load_file(tmp_path / name / "model" / "model.safetensors") for name in ("run", "align"))
    taken = [key for key in after if key.startswith("vision.")]
    assert taken
    assert all(torch.equal(after[key], before[key]) for key in taken)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"name": "align"}, "stage 'align' with ContrastiveModel and ContrastiveLoss"),
        ({"objective": None, "name": "instruct"}, "stage 'instruct' with ContrastiveModel and ContrastiveLoss"),
        ({"system": "Be brief."}, "reads no conversation; leave system and template out"),
        ({"learning_rates": {"projector": 1e-3}}, "unknown part 'projector' in learning_rates"),
        ({"objective": part("training.contrastive.ContrastiveLoss", chunk=0)}, "expected 1 or more pairs"),
        ({"max_length": 8}, "more than max_length 8"),
    ],
)
def test_a_mistake_in_a_configuration_is_one_line(
    config: Config, tmp_path: Path, capsys: Any, change: Config, message: str
) -> None:
    config["model"]["init_args"] |= change
    assert fit(config, tmp_path / "run") == 2
    assert message in capsys.readouterr().err


def test_a_checkpoint_of_another_kind_is_one_line(tmp_path: Path, capsys: Any) -> None:
    (tmp_path / "task.yaml").write_text(
        yaml.safe_dump({"name": "t", "version": 1, "source": {"class_path": "PhantomSource"}, "reports": "report"})
    )
    given = ["--checkpoint", str(tmp_path / "nowhere"), "--task", str(tmp_path / "task.yaml")]
    assert main(["zero_shot", *given]) == 2
    assert "mmmed: error: " in capsys.readouterr().err


@pytest.mark.slow
@pytest.mark.long
@pytest.mark.network
@pytest.mark.timeout(3600)
def test_the_tiny_pre_training_knows_findings_it_was_never_asked_about(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    shutil.copytree(ROOT / "configs", "configs")
    assert main(["fit", "--config", "configs/experiment/contrastive_phantom.yaml", "--wandb", "false"]) == 0
    given = ["--checkpoint", "outputs/contrastive_phantom", "--task", "configs/zero_shot/phantom.yaml"]
    assert main(["zero_shot", *given, "--output", "scores"]) == 0
    rows = json.loads(Path("scores/results.json").read_text())
    (mean,) = [row for row in rows if row["metric"] == "mean_zero_shot_auroc" and row["baseline"] is None]
    assert mean["value"] >= 0.85
