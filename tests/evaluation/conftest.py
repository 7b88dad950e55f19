"""Fixtures of the evaluation tests: tasks in memory, a tiny session, an experiment on twelve phantoms."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import yaml

from mmmed.evaluation.experiment import Outcome, run
from mmmed.evaluation.experiment_file import Experiment
from mmmed.evaluation.task import Task
from mmmed.records import Example, Quarantined

if TYPE_CHECKING:
    from mmmed.inference.session import Session


@dataclass
class Listed:
    """A source of records in memory."""

    listed: Sequence[Example | Quarantined]
    name: str = "phantom"

    def prepare(self) -> None:
        pass

    def records(self) -> Iterator[Example | Quarantined]:
        yield from self.listed


@pytest.fixture
def make_task() -> Callable[..., Task]:
    """Makes a task of records in memory."""

    def make(records: Sequence[Example | Quarantined], **settings: Any) -> Task:
        return Task(**{"name": "listed", "version": 1, "source": Listed(records), "max_new_tokens": 3} | settings)

    return make


@pytest.fixture
def session(make_model: Callable[..., Any], make_processor: Callable[..., Any]) -> Session:
    """A tiny model that sees and answers."""
    from mmmed.inference.session import Session

    model = make_model()
    return Session(model, make_processor(model), device="cpu")


@dataclass
class TinyExperiment:
    """An experiment, the command lines that `fit` was given, and what each run found."""

    described: Experiment
    output: Path
    trained: list[list[str]] = field(default_factory=list)
    outcomes: list[Outcome] = field(default_factory=list)

    def fit(self, arguments: list[str]) -> None:
        from mmmed.cli.training import main

        self.trained.append(arguments)
        main(arguments)

    def run(self) -> None:
        self.outcomes.append(run(self.described, self.output, fit=self.fit))


@pytest.fixture(scope="session")
def phantoms(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """Twelve phantom films, as a configuration names them."""
    fractions = {"train": 0.5, "validation": 0.2, "test": 0.3}
    films = str(tmp_path_factory.mktemp("films"))
    return part("data.sources.phantom.PhantomSource", count=12, cache=films, fractions=fractions)


@pytest.fixture(scope="session")
def tiny_experiment(
    tmp_path_factory: pytest.TempPathFactory, tokenizer_folder: Path, phantoms: dict[str, Any]
) -> TinyExperiment:
    """Two stages of two steps each, a closed and an open task, every baseline; run once for all tests."""
    folder = tmp_path_factory.mktemp("experiment")
    align = training(phantoms, tokenizer_folder, name="align", topics=["findings"], parts=["projector"])
    instruct = training(phantoms, tokenizer_folder, topics=["effusion"], parts=["projector", "language"])
    closed = {"name": "closed", "version": 1, "source": phantoms, "topics": ["effusion", "nodule"]}
    free = {"name": "free", "version": 1, "source": phantoms, "topics": ["findings"], "max_new_tokens": 3}
    bert = {"model_type": "bert", "vocab_size": 420, "hidden_size": 16, "intermediate_size": 32}
    reader = {
        "weights": None,
        "config": bert | {"num_hidden_layers": 1, "num_attention_heads": 2},
        "tokenizer": str(tokenizer_folder),
        "epochs": 1,
    }
    files = {"align": align, "instruct": instruct, "closed": closed, "free": free, "reader": reader}
    for name, content in files.items():
        (folder / f"{name}.yaml").write_text(yaml.safe_dump(content))
    described = Experiment(
        name="tiny_experiment",
        question="Does the image matter to a tiny model?",
        stages=(str(folder / "align.yaml"), str(folder / "instruct.yaml")),
        tasks=(str(folder / "closed.yaml"), str(folder / "free.yaml")),
        text_classifier=str(folder / "reader.yaml"),
    )
    tiny = TinyExperiment(described, folder / "output")
    tiny.run()
    return tiny


def part(name: str, /, **arguments: Any) -> dict[str, Any]:
    return {"class_path": f"mmmed.{name}", "init_args": arguments}


def training(
    source: dict[str, Any], tokenizer: Path, *, topics: list[str], parts: list[str], name: str = "instruct"
) -> dict[str, Any]:
    """Configuration of two steps of a tiny model."""
    tiny = {"hidden_size": 16, "intermediate_size": 32, "num_attention_heads": 2}
    llama = {"model_type": "llama", "vocab_size": 420, "num_hidden_layers": 1, **tiny}
    clip = {"model_type": "clip_vision_model", "num_hidden_layers": 2, "image_size": 32, "patch_size": 16, **tiny}
    model = part(
        "models.vlm.VisionLanguageModel",
        language=part("models.language.CausalLanguageModel", weights=None, config=llama, tokenizer=str(tokenizer)),
        vision=part("models.encoders.transformers.TransformersEncoder", weights=None, config=clip, layer=-2),
        projector=part("models.projector.MLPProjector"),
    )
    return {
        "seed_everything": 0,
        "wandb": False,
        "model": part(
            "training.stage.Stage",
            name=name,
            model=model,
            learning_rates=dict.fromkeys(parts, 1e-2),
            optimizer={"class_path": "torch.optim.AdamW", "init_args": {"lr": 1e-3}},
        ),
        "data": part("data.datamodule.MedicalData", sources=[source], topics=topics, batch_size=2),
        "trainer": {
            "accelerator": "cpu",
            "devices": 1,
            "precision": "32-true",
            "max_steps": 2,
            "num_sanity_val_steps": 0,
            "log_every_n_steps": 1,
            "enable_progress_bar": False,
            "enable_model_summary": False,
            "callbacks": [
                {
                    "class_path": "lightning.pytorch.callbacks.ModelCheckpoint",
                    "init_args": {"save_last": True, "save_top_k": 0, "every_n_train_steps": 2},
                }
            ],
        },
    }
