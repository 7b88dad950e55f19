from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from mmmed.errors import ImageError
from mmmed.inference.session import Session
from mmmed.models.vlm import VisionLanguageModel
from mmmed.processing.processor import Processor
from mmmed.records import Example, Turn
from mmmed.serving.monitoring.embedding import WIDTH
from mmmed.serving.monitoring.observe import failed, findings_said, look, study_of
from mmmed.serving.monitoring.record import append, read_log

Make = Callable[..., VisionLanguageModel]


def test_an_answered_study_becomes_a_line_without_its_words(
    make_model: Make, make_processor: Callable[..., Processor], make_example: Callable[..., Example], tmp_path: Path
) -> None:
    model = make_model()
    session = Session(model, make_processor(model), device="cpu")
    example = make_example("a", "What is seen?", "x", 40, 200)
    seen = look(session, example.images)
    assert len(seen.embedding) == WIDTH
    assert seen.pixels["mean"] == look(session, example.images[1:]).pixels["mean"]  # of the newest picture
    assert look(session, example.images[:1]).embedding != seen.embedding
    text = "There is a pleural effusion. No pneumothorax. Jane Doe was told."
    study = study_of("s1", example, text, seen=seen, model="m", confidence=0.5, latency=1.0)
    append(tmp_path / "log.jsonl", study)
    append(tmp_path / "log.jsonl", failed("s2", ImageError("/data/jane.dcm"), model="m"))
    assert "ane" not in (tmp_path / "log.jsonl").read_text()
    one, other = read_log(tmp_path / "log.jsonl").studies
    said = {name.lower(): status for name, status in one.findings.items()}
    assert {said[name] for name in said if "effusion" in name} >= {"stated"}
    assert {said[name] for name in said if "pneumothorax" in name} == {"denied"}
    assert "unmentioned" in said.values()
    assert one.words == 11
    assert other.error == "ImageError"


def test_a_closed_question_says_something_of_what_it_asks_about_only(make_example: Callable[..., Example]) -> None:
    asked = make_example("a", "Is there an effusion?", "yes")
    asked = replace(asked, options=("yes", "no"), topic="effusion", turns=(*asked.turns[:-1], Turn("assistant", "yes")))
    assert findings_said(asked, "yes") == {"effusion": "stated"}
    assert findings_said(asked, "no") == {"effusion": "denied"}
    assert findings_said(asked, "perhaps") == {}
    assert findings_said(replace(asked, topic=""), "yes") == {}
    assert findings_said(replace(asked, options=("yes", "left")), "left") == {}
