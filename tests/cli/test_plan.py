"""`mmmed plan` says what `mmmed fit` will do with the same configuration."""

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from mmmed.cli.main import main


def part(name: str, /, **arguments: Any) -> dict[str, Any]:
    return {"class_path": f"mmmed.{name}", "init_args": arguments}


@pytest.fixture
def write(tmp_path: Path, tokenizer_folder: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., str]:
    """Writes the configuration of a stage with a language model of a width."""
    monkeypatch.setenv("JSONARGPARSE_DEPRECATION_WARNINGS", "off")

    def written(*, width: int = 32, layers: int = 2, batch_size: int = 2, weights: str | None = None) -> str:
        llama = {
            "model_type": "llama",
            "vocab_size": 420,
            "hidden_size": width,
            "intermediate_size": 2 * width,
            "num_hidden_layers": layers,
            "num_attention_heads": 2,
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
        language = part(
            "models.language.CausalLanguageModel", weights=weights, config=llama, tokenizer=str(tokenizer_folder)
        )
        model = part(
            "models.vlm.VisionLanguageModel",
            language=language,
            vision=part("models.features.FrozenFeatures", encoder=encoder),
            projector=part("models.projector.MLPProjector"),
        )
        stage = part(
            "training.stage.Stage",
            name="instruct",
            model=model,
            learning_rates={"projector": 1e-3, "language": 1e-3},
            optimizer={"class_path": "torch.optim.AdamW", "init_args": {"lr": 1e-3}},
        )
        source = part("data.sources.phantom.PhantomSource", count=4, cache=str(tmp_path / "films"))
        content = {
            "model": stage,
            "data": part("data.datamodule.MedicalData", sources=[source], batch_size=batch_size),
            "trainer": {"devices": 1, "max_steps": 100, "precision": "bf16-mixed"},
        }
        path = tmp_path / "given.yaml"
        path.write_text(yaml.safe_dump(content))
        return str(path)

    return written


def gib(shown: str, name: str) -> float:
    return float(re.search(rf"^{name} +([\d.]+)", shown, re.MULTILINE)[1])  # type: ignore[index]


def test_a_plan_names_parameters_tokens_operations_memory_and_time(
    write: Callable[..., str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["plan", "--config", write(), "--gpu", "a100-80gb"]) == 0
    shown = capsys.readouterr().out
    # Embeddings and head of 420 words, two layers of four square and three wide matrices and two norms, a last norm.
    language = 2 * 420 * 32 + 2 * (4 * 32 * 32 + 3 * 32 * 64 + 2 * 32) + 32
    assert re.search(rf"^language +{language:,} +{language:,}$", shown, re.MULTILINE)
    assert re.search(r"^vision +[\d,]+ +0$", shown, re.MULTILINE)
    assert re.search(r"4 per image \(measured on \d+ examples\)", shown)
    assert "2 examples: 2 x 1 micro-batches x 1 devices (single, bf16-mixed)" in shown
    assert "backward" in shown
    assert "at 40% of 312 TFLOP/s" in shown
    assert "time of 100 steps" in shown
    assert "fits" in shown


def test_tokens_are_assumed_and_said_to_be_where_the_data_is_not_here(
    write: Callable[..., str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    given = Path(write())
    content = yaml.safe_load(given.read_text())
    nowhere = part("data.sources.pairs.Pairs", path=str(tmp_path / "nowhere.csv"))
    content["data"]["init_args"]["sources"] = [nowhere]
    given.write_text(yaml.safe_dump(content))
    assert main(["plan", "--config", str(given)]) == 0
    assert "assumed, the data is not here" in capsys.readouterr().out


def test_what_does_not_fit_is_told_with_what_to_change(
    write: Callable[..., str], capsys: pytest.CaptureFixture[str]
) -> None:
    given = write(width=4096, layers=12, batch_size=4)
    assert main(["plan", "--config", given, "--gpu", "rtx4090"]) == 1
    shown = capsys.readouterr().out
    assert "does not fit" in shown
    assert "1. configs/trainer/fsdp.yaml" in shown or "1. adapter" in shown
    assert gib(shown, "optimizer states") == pytest.approx(2 * gib(shown, "gradients"), rel=0.01)


def test_weights_and_devices_that_are_not_known_are_one_line(
    write: Callable[..., str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["plan", "--config", write(), "--gpu", "h20"]) == 2
    assert "unknown GPU 'h20' (did you mean 'h200'?)" in capsys.readouterr().err
    assert main(["plan", "--config", write(weights="hf:somebody/nothing@main")]) == 2
    assert "the architecture of hf:somebody/nothing@main is not known here" in capsys.readouterr().err
