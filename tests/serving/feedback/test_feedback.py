"""Amendments become pairs without identifiers, and errors that come back are counted."""

import io
import json
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import yaml
from PIL import Image
from sqlalchemy import Engine

from mmmed.data.datamodule import MedicalData
from mmmed.data.sources.pairs import Pairs
from mmmed.data.sources.preferences import Preferences
from mmmed.errors import DataError
from mmmed.evaluation.task import load_task
from mmmed.records import Example, Turn
from mmmed.serving.desk.desk import Desk
from mmmed.serving.desk.draft import NewDraft, Picture
from mmmed.serving.feedback.export import export_feedback
from mmmed.serving.feedback.repeats import is_repeat, repeats
from mmmed.serving.hospital.header import header_of

from ..conftest import PEOPLE
from ..desk.conftest import request
from ..hospital.conftest import film

_, ANNA, _, _ = PEOPLE
CONFIG = Path(__file__).parents[3] / "configs" / "experiment" / "feedback_preference.yaml"


def png(shade: int) -> bytes:
    content = io.BytesIO()
    Image.new("L", (48, 48), shade).save(content, format="PNG")
    return content.getvalue()


@pytest.fixture
def hand_in(engine: Engine) -> Callable[..., Desk]:
    """Signs drafts of so many patients with an amended text, and one as it was, and rejects one."""

    def make(count: int, said: str = "No effusion.", signed: str = "Left effusion.") -> Desk:
        desk = Desk(engine)
        for number in range(count + 2):
            header = film()
            header.PatientID = f"MRN-{7000000 + number}"
            picture = Picture(png(number), header_of(header))
            new = NewDraft(text=said, question="Is there an effusion?", model="m", pictures=(picture,))
            id = desk.hand_in(new, by="rita", request=request())
            desk.take(id, by=ANNA, request=request())
            if number < count:
                desk.amend(id, signed, by=ANNA, request=request())
            if number <= count:
                desk.sign(id, by=ANNA, request=request())
            else:
                desk.reject(id, "blurred", by=ANNA, request=request())
        return desk

    return make


@pytest.mark.slow
def test_amended_reports_become_pairs_that_the_sources_read(hand_in: Callable[..., Desk], tmp_path: Path) -> None:
    done = export_feedback(hand_in(12), tmp_path)
    assert (done.train + done.test, done.left_out.total()) == (12, 0)
    assert min(done.train, done.test) > 0
    pairs = [one for one in Preferences(str(tmp_path / "preferences.jsonl")).records() if isinstance(one, Example)]
    assert len(pairs) == 12
    assert {(one.reference, one.turns[-1].rejected) for one in pairs} == {("Left effusion.", "No effusion.")}
    assert all(one.images[0].open().size == (48, 48) for one in pairs)
    by_split = {split: {one.patient for one in pairs if one.split == split} for split in ("train", "test")}
    assert not by_split["train"] & by_split["test"]
    learned = [one for one in Pairs(str(tmp_path / "instructions.jsonl")).records() if isinstance(one, Example)]
    assert len(learned) == 12
    task = load_task(tmp_path / "regression.yaml")
    assert len([one for one in task.source.records() if isinstance(one, Example) and one.split == "test"]) == done.test


@pytest.mark.slow
def test_the_configuration_of_the_project_learns_from_an_export(
    hand_in: Callable[..., Desk],
    make_model: Callable[..., Any],
    make_processor: Callable[..., Any],
    tmp_path: Path,
) -> None:
    done = export_feedback(hand_in(12), tmp_path)
    told = yaml.safe_load(CONFIG.read_text(encoding="utf-8"))["data"]["init_args"]
    data = MedicalData(**(told | {"sources": [Preferences(str(tmp_path / "preferences.jsonl"))]}))
    module = SimpleNamespace(processor=make_processor(make_model()))
    data.trainer = SimpleNamespace(  # type: ignore[assignment]
        lightning_module=module, global_rank=0, world_size=1, default_root_dir=str(tmp_path / "run")
    )
    data.setup("fit")
    assert len(data.examples("train")) == done.train
    batch = next(iter(data.train_dataloader()))
    assert batch.rejected is not None


def test_identifiers_stay_behind(hand_in: Callable[..., Desk], tmp_path: Path) -> None:
    desk = hand_in(3, signed="Left effusion in Mr. Karl Beispiel, MRN-7000001, seen by Dr. Schmidt on 03/04/2021.")
    assert export_feedback(desk, tmp_path).redactions > 0
    written = (tmp_path / "preferences.jsonl").read_text() + (tmp_path / "instructions.jsonl").read_text()
    for told in ("Beispiel", "7000001", "Schmidt", "03/04/2021", "Muster", "MRN-7"):
        assert told not in written
    assert "Left effusion" in written
    names = {path.stem for path in (tmp_path / "pictures").iterdir()}
    assert len(names) == 3
    assert not any(desk.done()[0].id in name for name in names)
    assert all(json.loads(line)["patient"] for line in (tmp_path / "preferences.jsonl").read_text().splitlines())


def test_nothing_amended_is_one_line(hand_in: Callable[..., Desk], tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no signed report was amended"):
        export_feedback(hand_in(0), tmp_path / "out")
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("answer", "again"),
    [
        ("No effusion.", True),
        ("no effusion", True),
        ("Left effusion.", False),
        ("There is no effusion at all", True),
        ("A left one", False),
        ("Something else", False),
    ],
)
def test_an_error_is_made_again_when_the_answer_is_nearer_to_it(answer: str, again: bool) -> None:
    assert is_repeat(answer, chosen="Left effusion.", rejected="No effusion.") is again


def pair(number: int) -> Example:
    turns = (Turn("user", "?"), Turn("assistant", "left", rejected="none"))
    return Example(id=str(number), patient=f"patient {number}", turns=turns)


def test_a_model_that_learned_makes_fewer_errors_with_an_interval_that_excludes_none() -> None:
    examples = [pair(number) for number in range(40)]
    found = repeats(examples, ["none"] * 8 + ["left"] * 32, ["none"] * 40)
    assert found.before is not None
    assert found.difference is not None
    assert (found.questions, found.patients, found.rate.value, found.before.value) == (40, 40, 0.2, 1.0)
    assert found.difference.value == pytest.approx(-0.8)
    assert found.difference.high < -0.5
    same = repeats(examples, ["none", "left"] * 20, ["left", "none"] * 20)
    assert same.difference is not None
    assert same.difference.low < 0 < same.difference.high


def test_without_pairs_there_is_no_rate() -> None:
    with pytest.raises(DataError, match="no pair to ask about"):
        repeats([], [])
