"""CheXbert's published layout is read whole or refused, and its heads mean what its paper says."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from transformers import BertConfig, BertModel

from mmmed.errors import CheckpointError
from mmmed.evaluation.metrics.findings import FindingMetric
from mmmed.evaluation.metrics.learned.chexbert import HEADS, CheXbert
from mmmed.evaluation.metrics.tally import Judged, f1
from mmmed.processing.findings.labeller import OBSERVATIONS

SAID = {"Edema": 1, "Fracture": 2, "Pneumonia": 3, "No Finding": 1}
"""What a file is made to say of every text: stated, denied, left open; all other heads are blank."""


def config_of(folder: Path) -> dict[str, Any]:
    return BertConfig.from_pretrained(folder).to_dict()


@pytest.fixture
def published(bert_folder: Path, tmp_path: Path) -> Path:
    """A file of the published layout, whose heads answer by their bias alone."""
    state = {
        f"module.bert.{name}": value for name, value in BertModel.from_pretrained(bert_folder).state_dict().items()
    }
    state["module.bert.embeddings.position_ids"] = torch.arange(64)[None]
    for place, name in enumerate(HEADS):
        classes = 2 if name == "No Finding" else 4
        state[f"module.linear_heads.{place}.weight"] = torch.zeros(classes, 32)
        state[f"module.linear_heads.{place}.bias"] = torch.eye(classes)[SAID.get(name, 0)]
    torch.save({"epoch": 1, "model_state_dict": state}, tmp_path / "chexbert.pth")
    return tmp_path


def test_what_is_left_open_counts_as_in_published_figures_unless_told_otherwise(
    published: Path, bert_folder: Path
) -> None:
    config = config_of(bert_folder)
    for unsure, expected in ((True, {"Edema", "Pneumonia", "No Finding"}), (False, {"Edema", "No Finding"})):
        labeller = CheXbert(str(published), str(bert_folder), config=config, unsure=unsure)
        (row,) = labeller.stated(["Normal heart size ."])
        assert {name for name, value in zip(OBSERVATIONS, row, strict=True) if value} == expected


def test_an_empty_text_states_nothing(published: Path, bert_folder: Path) -> None:
    labeller = CheXbert(str(published), str(bert_folder), config=config_of(bert_folder))
    assert labeller.stated(["", " ", "no"]).sum(axis=1).tolist() == [0, 0, 3]
    assert labeller.stated([]).shape == (0, 14)


def test_batches_do_not_change_what_is_read(published: Path, bert_folder: Path) -> None:
    texts = ["no", "Normal heart size .", "Is there a pleural effusion on this film ?"]
    alone, together = (
        CheXbert(str(published), str(bert_folder), config=config_of(bert_folder), batch_size=size).places(texts)
        for size in (1, 8)
    )
    np.testing.assert_allclose(alone, together, atol=1e-5)


def test_it_reads_for_the_finding_metric(published: Path, bert_folder: Path) -> None:
    labeller = CheXbert(str(published), str(bert_folder), config=config_of(bert_folder))
    metric = FindingMetric(f1, reader=labeller)
    items = [Judged("no", "yes", "p1"), Judged("no", None, "p2")]
    assert metric.value(metric.tally(items, []).sum(axis=0)) == pytest.approx(2 * 3 / (3 + 6))


def test_a_file_of_another_model_is_refused(published: Path, bert_folder: Path) -> None:
    torch.save({"model_state_dict": {"module.bert.pooler.weight": torch.zeros(3)}}, published / "chexbert.pth")
    with pytest.raises(CheckpointError, match=r"is no CheXbert: .* tensors do not fit"):
        CheXbert(str(published), str(bert_folder), config=config_of(bert_folder))
