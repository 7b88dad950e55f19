"""Where no bar is drawn, lines say how far a run is."""

import logging
from pathlib import Path

import lightning
import pytest
from lightning.pytorch.demos.boring_classes import BoringModel

from mmmed.training.progress import ProgressLines


class Learner(BoringModel):
    def training_step(self, batch, batch_idx):  # type: ignore[no-untyped-def]
        found = super().training_step(batch, batch_idx)
        self.log("train/loss", found["loss"])
        return found


def lines(folder: Path, caplog: pytest.LogCaptureFixture, every: float, **settings: object) -> list[str]:
    settings = {"accelerator": "cpu", "enable_progress_bar": False, "logger": False, **settings}
    trainer = lightning.Trainer(
        default_root_dir=folder,
        callbacks=[ProgressLines(every)],
        enable_checkpointing=False,
        enable_model_summary=False,
        **settings,  # type: ignore[arg-type]
    )
    with caplog.at_level(logging.INFO, logger="mmmed.training.progress"):
        trainer.fit(Learner())
    return [one.message for one in caplog.records if one.name == "mmmed.training.progress"]


def test_they_tell_folder_step_loss_and_what_is_left(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    found = lines(tmp_path, caplog, 0.0, max_steps=3)
    assert [one.partition(",")[0] for one in found] == [f"{tmp_path}: step {step} of 3" for step in (1, 2, 3)]
    assert all(", loss " in one for one in found)
    assert found[-1].endswith("0 min left")


def test_they_count_steps_and_no_batches(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    found = lines(tmp_path, caplog, 0.0, max_steps=2, accumulate_grad_batches=2)
    assert [one.partition(",")[0] for one in found[-2:]] == [f"{tmp_path}: step {step} of 2" for step in (1, 2)]


def test_they_do_not_come_more_often_than_asked(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    assert not lines(tmp_path, caplog, 3600.0, max_steps=3)
