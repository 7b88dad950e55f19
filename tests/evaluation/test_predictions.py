"""Predictions survive their file, and a damaged file says where it is damaged."""

import json
from dataclasses import asdict, replace
from pathlib import Path

import pytest

from mmmed.errors import DataError, OutputError
from mmmed.evaluation.predictions import Prediction, read_jsonl, write_jsonl

PREDICTION = Prediction(
    arm="image",
    task="vqa",
    id="q1",
    patient="p1",
    source="phantom",
    topic="effusion",
    question="Is there an effusion?\u2028Left? 右?",
    reference="yes",
    answer="no",
    options={"yes": 0.25, "no": 0.75},
    confidence=0.75,
    images=["a.png"],
    attributes={"sex": "F", "age": 61},
)


def test_predictions_survive_a_round_trip_through_their_file(tmp_path: Path) -> None:
    predictions = [PREDICTION, replace(PREDICTION, id="q2", options={}, confidence=None, images=[], attributes={})]
    write_jsonl(tmp_path / "new" / "answers.jsonl", predictions)
    assert read_jsonl(tmp_path / "new" / "answers.jsonl") == predictions


def test_no_predictions_make_an_empty_file(tmp_path: Path) -> None:
    write_jsonl(tmp_path / "answers.jsonl", [])
    assert read_jsonl(tmp_path / "answers.jsonl") == []


@pytest.mark.parametrize(
    ("line", "fault"),
    [
        ("{not json", "not JSON"),
        ("[1, 2]", "a JSON list"),
        (json.dumps({"arm": "image"}), "lacks task, id"),
        (json.dumps(asdict(PREDICTION) | {"extra": 1}), "unknown extra"),
        (json.dumps(asdict(PREDICTION) | {"answer": None}), "answer is None; expected text"),
        (json.dumps(asdict(PREDICTION) | {"options": {"yes": "high"}}), "options is"),
        (json.dumps(asdict(PREDICTION) | {"confidence": True}), "confidence is True"),
        (json.dumps(asdict(PREDICTION) | {"images": "a.png"}), "images is"),
        (json.dumps(asdict(PREDICTION) | {"attributes": {"age": None}}), "attributes is"),
        (json.dumps(asdict(PREDICTION)).replace("0.25", "NaN"), "NaN is no JSON number"),
    ],
)
def test_a_malformed_line_is_named_by_file_and_number(tmp_path: Path, line: str, fault: str) -> None:
    path = tmp_path / "answers.jsonl"
    path.write_text(json.dumps(asdict(PREDICTION)) + "\n" + line + "\n", encoding="utf-8")
    with pytest.raises(DataError, match=fault) as caught:
        read_jsonl(path)
    assert "answers.jsonl:2: " in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_missing_file_and_a_file_that_is_no_text_are_data_errors(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="cannot read predictions"):
        read_jsonl(tmp_path / "none.jsonl")
    (tmp_path / "bytes.jsonl").write_bytes(b"\xff\xfe")
    with pytest.raises(DataError, match="not UTF-8"):
        read_jsonl(tmp_path / "bytes.jsonl")


@pytest.mark.parametrize("faulty", [{"confidence": float("nan")}, {"answer": "\ud800"}])
def test_a_prediction_that_cannot_be_written_leaves_the_old_file_as_it_was(
    tmp_path: Path, faulty: dict[str, object]
) -> None:
    path = tmp_path / "answers.jsonl"
    write_jsonl(path, [PREDICTION])
    with pytest.raises(DataError, match="prediction 'q1' of arm 'image'"):
        write_jsonl(path, [PREDICTION, replace(PREDICTION, **faulty)])
    assert read_jsonl(path) == [PREDICTION]
    assert list(tmp_path.iterdir()) == [path]


def test_a_place_that_cannot_be_written_to_is_an_output_error_and_nothing_is_left(tmp_path: Path) -> None:
    (tmp_path / "answers.jsonl").mkdir()
    with pytest.raises(OutputError, match="cannot write"):
        write_jsonl(tmp_path / "answers.jsonl", [PREDICTION])
    assert [path.name for path in tmp_path.iterdir()] == ["answers.jsonl"]
