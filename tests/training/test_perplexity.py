"""Perplexity is that of transformers on each text, and is kept beside the run before and after."""

import json
import math
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from lightning.pytorch.plugins import MixedPrecision

from mmmed.errors import ConfigError
from mmmed.models.vlm import VisionLanguageModel
from mmmed.processing.processor import Processor
from mmmed.records import Example, Turn
from mmmed.training.perplexity import FILE, Perplexity, perplexity

TEXTS = ("Normal heart size.", "Left lower lobe opacity, which was not there before.", "No effusion.", "Clear.")


def documents(split: str = "validation") -> list[Example]:
    return [
        Example(id=str(index), patient=str(index), turns=(Turn("document", text),), split=split)  # type: ignore[arg-type]
        for index, text in enumerate(TEXTS)
    ]


class Listed:
    name = "listed"

    def prepare(self) -> None:
        pass

    def records(self) -> Iterator[Example]:
        yield from documents()


def test_it_is_that_of_transformers_over_all_tokens_together(
    make_model: Callable[..., VisionLanguageModel], make_processor: Callable[..., Processor]
) -> None:
    model = make_model(vision=False, initializer_range=0.3)
    processor = make_processor(model)
    total, count = 0.0, 0
    for example in documents():
        ids = processor.training(example).ids[None]
        total += model.language.model(input_ids=ids, labels=ids).loss.item() * (ids.shape[1] - 1)
        count += ids.shape[1] - 1
    found = [perplexity(model, processor, documents(), batch_size=size) for size in (1, 3)]
    assert found == pytest.approx([math.exp(total / count)] * 2, rel=1e-5)


def test_what_it_was_before_and_after_is_kept_and_modes_come_back(
    make_model: Callable[..., VisionLanguageModel], make_processor: Callable[..., Processor], tmp_path: Path
) -> None:
    model = make_model(vision=False, initializer_range=0.3)
    model.train()
    stage = torch.nn.Module()
    stage.model, stage.processor = model, make_processor(model)  # type: ignore[assignment]
    logged: list[dict[str, float]] = []
    logger = SimpleNamespace(log_metrics=lambda told, step: logged.append(told))
    trainer = SimpleNamespace(
        loggers=[logger],
        global_step=3,
        default_root_dir=str(tmp_path),
        is_global_zero=True,
        precision_plugin=MixedPrecision("bf16-mixed", "cpu"),
    )
    callback = Perplexity({"medical": Listed(), "general": Listed()}, limit=2)
    callback.setup(trainer, stage, "fit")  # type: ignore[arg-type]
    callback.on_train_start(trainer, stage)  # type: ignore[arg-type]
    with torch.no_grad():
        for one in model.parameters():
            one.mul_(0.5)
    callback.on_fit_end(trainer, stage)  # type: ignore[arg-type]
    kept = json.loads((tmp_path / FILE).read_text())
    assert model.training and len(logged) == 2 and set(logged[0]) == {"perplexity/medical", "perplexity/general"}
    with torch.autocast("cpu", dtype=torch.bfloat16):
        expected = perplexity(model.eval(), stage.processor, documents()[::2])  # type: ignore[arg-type]
    assert kept["after"]["medical"] == expected != perplexity(model, stage.processor, documents()[::2])  # type: ignore[arg-type]
    assert kept["rise"]["general"] == pytest.approx(kept["after"]["general"] / kept["before"]["general"] - 1)
    assert kept["before"]["medical"] != kept["after"]["medical"]


def test_no_texts_measure_nothing() -> None:
    with pytest.raises(ConfigError, match="expected sources by name"):
        Perplexity({})
