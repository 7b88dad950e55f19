"""What an arm answered to every item of a task, and the JSON-lines file it is kept in.

Scores, comparisons and reports are all made from these files, so that a metric can be changed without asking
the model again.
"""

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import NoReturn

from mmmed.errors import DataError
from mmmed.inference.retrieval import Found
from mmmed.page.files import replace_text
from mmmed.records import Example


@dataclass(frozen=True, slots=True, kw_only=True)
class Prediction:
    """One item's answer by one arm.

    Args:
        arm: Which model or control answered.
        task: Which task the item belongs to.
        id: Identifier of the item; arms are joined on it.
        patient: Patient (or lesion) identifier; intervals resample by it.
        source: Data set the item comes from.
        topic: What is asked about.
        question: The question as put, without image placeholders.
        reference: The answer held to be right.
        answer: What the arm said; empty where it said nothing.
        options: Probability of each option, empty for free text.
        confidence: Probability of the answer, where it is known.
        images: Names of the images that were shown.
        attributes: Known facts of the patient or image.
    """

    arm: str
    task: str
    id: str
    patient: str
    source: str
    topic: str
    question: str
    reference: str
    answer: str
    options: dict[str, float] = field(default_factory=dict)
    confidence: float | None = None
    images: list[str] = field(default_factory=list)
    attributes: dict[str, str | float] = field(default_factory=dict)


_TEXTS = ("arm", "task", "id", "patient", "source", "topic", "question", "reference", "answer")
_FIELDS = tuple(each.name for each in fields(Prediction))


def write_jsonl(path: Path, predictions: Iterable[Prediction]) -> None:
    """Keep predictions, one JSON object a line, whole or not at all.

    Raises:
        DataError: A number is not finite, or a text is not valid Unicode.
        OutputError: The folder cannot be written to.
    """
    replace_text(path, "".join(_line(prediction) for prediction in predictions))


def write_found(path: Path, asked: Sequence[Example], found: Sequence[Sequence[Found]]) -> None:
    """Keep which passages were retrieved for which question, by id and score, one JSON object a line."""
    lines = [
        {
            "id": f"{example.source}:{example.id}",
            "passages": [{"id": one.passage.id, "score": round(one.score, 6)} for one in ranked],
        }
        for example, ranked in zip(asked, found, strict=True)
    ]
    replace_text(path, "".join(json.dumps(line, ensure_ascii=False) + "\n" for line in lines))


def read_jsonl(path: Path) -> list[Prediction]:
    """Read predictions in the order of the file; blank lines are passed over.

    Raises:
        DataError: The file cannot be read, or a line is no prediction (the message names file and line).
    """
    path = Path(path)
    try:
        # Split at line feeds only: an answer may hold other characters that Unicode counts as line ends.
        lines = path.read_bytes().decode("utf-8").split("\n")
    except OSError as error:
        raise DataError(f"cannot read predictions {path}: {error.strerror or error}; check the path") from error
    except UnicodeDecodeError as error:
        raise DataError(f"{path}: not UTF-8 text at byte {error.start}; expected JSON lines in UTF-8") from error
    return [_prediction(line, place=f"{path}:{number}") for number, line in enumerate(lines, 1) if line.strip()]


def _line(prediction: Prediction) -> str:
    try:
        line = json.dumps(asdict(prediction), ensure_ascii=False, allow_nan=False)
        line.encode("utf-8")
    except ValueError as error:
        raise DataError(
            f"prediction {prediction.id!r} of arm {prediction.arm!r}: {error}; expected finite numbers and Unicode text"
        ) from error
    return line + "\n"


def _prediction(line: str, *, place: str) -> Prediction:
    try:
        raw = json.loads(line, parse_constant=_reject_constant)
    except ValueError as error:
        raise DataError(f"{place}: not JSON ({error}); expected one prediction object per line") from error
    if not isinstance(raw, dict):
        raise DataError(f"{place}: a JSON {type(raw).__name__}; expected one prediction object per line")
    if missing := [name for name in _FIELDS if name not in raw]:
        raise DataError(f"{place}: lacks {', '.join(missing)}; expected the fields {', '.join(_FIELDS)}")
    if unknown := sorted(set(raw) - set(_FIELDS)):
        raise DataError(f"{place}: unknown {', '.join(unknown)}; expected the fields {', '.join(_FIELDS)}")
    if fault := _fault(raw):
        raise DataError(f"{place}: {fault}")
    return Prediction(**raw)


def _reject_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is no JSON number")


def _fault(raw: Mapping[str, object]) -> str:
    """Say which field has the wrong type, or nothing."""
    for name in _TEXTS:
        if not isinstance(raw[name], str):
            return f"{name} is {raw[name]!r}; expected text"
    options, confidence, images, attributes = (raw[n] for n in ("options", "confidence", "images", "attributes"))
    if not isinstance(options, dict) or not all(_is_number(value) for value in options.values()):
        return f"options is {options!r}; expected an object of probabilities"
    if confidence is not None and not _is_number(confidence):
        return f"confidence is {confidence!r}; expected a number or null"
    if not isinstance(images, list) or not all(isinstance(name, str) for name in images):
        return f"images is {images!r}; expected a list of names"
    if not isinstance(attributes, dict) or not all(isinstance(v, str) or _is_number(v) for v in attributes.values()):
        return f"attributes is {attributes!r}; expected an object of texts and numbers"
    return ""


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)
