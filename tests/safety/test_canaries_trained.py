"""Real training on canaries: exposure grows with the repeats and is chance unseen."""

from collections.abc import Callable
from functools import partial
from pathlib import Path

import lightning
import pytest
import torch

from mmmed.data.datamodule import MedicalData
from mmmed.data.sources.canaries import Canaries, canaries_of
from mmmed.inference.session import Session, open_session
from mmmed.models.vlm import VisionLanguageModel
from mmmed.records import Example
from mmmed.safety.check import Subject
from mmmed.safety.exposure import Exposure, chance
from mmmed.safety.measure import Measure, Verdict
from mmmed.training.callbacks import SaveModel
from mmmed.training.private import PrivateGradients
from mmmed.training.stage import Stage

STEP = 4
"""Conversations that a step is made of, with and without privacy."""


def trained(
    model: VisionLanguageModel, folder: Path, *, private: PrivateGradients | None = None, epochs: int = 2
) -> Session:
    torch.manual_seed(0)
    source = Canaries(each=4, repeats=[1, 8, 32], candidates=32)
    data = MedicalData([source], batch_size=STEP if private is None else 1)
    adam = partial(torch.optim.AdamW, weight_decay=0.0)
    lightning.Trainer(
        accelerator="cpu",
        default_root_dir=folder,
        max_epochs=epochs,
        accumulate_grad_batches=1 if private is None else STEP,
        callbacks=[SaveModel(), *([private] if private is not None else [])],
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        num_sanity_val_steps=0,
        limit_val_batches=0,
    ).fit(Stage("instruct", model, {"language": 5e-3}, adam), data)
    return open_session(folder)


def subject_of(session: Session, folder: Path) -> Subject:
    return Subject(session=session, identity="trained", output=folder / "answers")


def exposures(session: Session, folder: Path) -> list[Measure]:
    return Exposure(at_most=3.0, growth_at_most=0.3).examine(subject_of(session, folder))


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_exposure_grows_with_repeats_and_is_chance_unseen(
    make_model: Callable[..., VisionLanguageModel], tmp_path: Path
) -> None:
    session = trained(make_model(vision=False), tmp_path / "plain")
    unseen, once, _, often, growth = plain = exposures(session, tmp_path)
    print("plain", [f"{one.name}: {one.value:.2f} ({one.low:.2f} to {one.high:.2f})" for one in plain])
    assert unseen.low <= chance(32) <= unseen.high
    assert often.value == 5.0
    assert often.verdict is Verdict.FAILED
    assert once.value < often.value
    assert growth.verdict is Verdict.FAILED

    known = next(one for one in canaries_of(session.provenance) if one.repeats == 32)
    question: Example = known.example(copy=0, split="train")
    (whole,) = session.write([question], max_new_tokens=8)
    (rest,) = session.write([question], max_new_tokens=6, begun=[whole.text[:2]])
    assert rest.text == whole.text[2:], "an answer that is begun goes on as it would have"
    likely, unlikely = session.likelihoods([question, canaries_of(session.provenance)[0].example(copy=0, split="test")])
    assert likely.mean() > unlikely.mean()
