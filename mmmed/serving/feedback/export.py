"""Writes amendments as pairs to learn from, and as a task that asks whether the errors are made again."""

import io
import json
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

from mmmed.data.deidentify.audit import Audit
from mmmed.data.deidentify.gate import Gate
from mmmed.data.deidentify.privacy import DEFAULT_PRIVACY, Privacy
from mmmed.errors import DataError, OutputError
from mmmed.page.files import replace_text
from mmmed.records import Example
from mmmed.serving.desk.desk import Desk
from mmmed.serving.feedback.source import TOPIC, Amendments

PREFERENCES, INSTRUCTIONS, TASK, PICTURES = "preferences.jsonl", "instructions.jsonl", "regression.yaml", "pictures"


@dataclass(frozen=True, slots=True)
class Exported:
    """What was written.

    Args:
        train: Pairs to learn from.
        test: Pairs of other patients, to test on.
        left_out: Drafts that could not be used, by reason.
        redactions: Identifiers that the privacy gate took out.
    """

    train: int
    test: int
    left_out: Counter[str]
    redactions: int


def export_feedback(desk: Desk, folder: Path, *, privacy: Privacy = DEFAULT_PRIVACY, seed: int = 0) -> Exported:
    """Write what was amended, through the privacy gate, into a folder that training and evaluation read.

    `preferences.jsonl` is for the source `Preferences` and the stage `preference`; `instructions.jsonl`, for the source
    `Pairs`, has the signed texts of those with a picture; `regression.yaml` is a task over the patients kept apart.

    Args:
        desk: Where reports were signed.
        folder: A folder; files of an earlier export in it are replaced.
        privacy: How identifiers are taken out.
        seed: Changes which patients are tested on.

    Raises:
        DataError: No signed report was amended.
        PrivacyError: A recogniser failed; nothing is written.
        OutputError: The folder cannot be written to.
    """
    audit, left_out = Audit(), Counter[str]()
    pairs: list[Example] = []
    gate = Gate(Amendments(desk, seed=seed), privacy, audit)
    gate.prepare()
    for record in gate.records():
        if not isinstance(record, Example):
            left_out[record.reason] += 1
        elif len(record.images) > 1:
            left_out["more than one picture, of which the pairs hold one"] += 1
        elif record.reference.strip() == record.turns[-1].rejected.strip():
            left_out["without identifiers both texts are the same"] += 1
        else:
            pairs.append(record)
    if not pairs:
        raise DataError("no signed report was amended; there is nothing to learn from yet")
    try:
        images = [_write_picture(pair, folder / PICTURES) for pair in pairs]
    except OSError as error:
        raise OutputError(f"cannot write into {folder}: {error.strerror or error}") from None
    told = [_told(pair, image) for pair, image in zip(pairs, images, strict=True)]
    _write_lines(folder / PREFERENCES, told)
    _write_lines(folder / INSTRUCTIONS, [_instruction(one) for one in told if "image" in one])
    replace_text(folder / TASK, _TASK.format(path=json.dumps(str((folder / PREFERENCES).resolve())), topic=TOPIC))
    train = sum(pair.split == "train" for pair in pairs)
    return Exported(train, len(pairs) - train, left_out, len(audit.lines))


_TASK = """# Does a model make the corrected errors again? Signed texts of patients that are not learned from.
name: feedback_regression
version: 1
source:
  class_path: mmmed.data.sources.preferences.Preferences
  init_args:
    path: {path}
topics: [{topic}]
max_new_tokens: 192
"""


def _told(pair: Example, image: str) -> dict[str, str]:
    told = {
        "id": pair.id,
        "patient": pair.patient,
        "question": pair.question,
        "chosen": pair.reference,
        "rejected": pair.turns[-1].rejected,
        "topic": pair.topic,
        "split": pair.split,
    }
    return told | {"image": image} if image else told


def _instruction(told: dict[str, str]) -> dict[str, str]:
    kept = {name: told[name] for name in ("id", "patient", "question", "image", "topic", "split")}
    return kept | {"answer": told["chosen"]}


def _write_picture(pair: Example, folder: Path) -> str:
    """The picture as the gate shows it; its path in the export, or nothing."""
    if not pair.images:
        return ""
    content = io.BytesIO()
    pair.images[0].open().save(content, format="PNG")
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{pair.id.replace(':', '-')}.png"
    partial = path.with_name(f".{path.name}.part")
    partial.write_bytes(content.getvalue())
    partial.replace(path)
    return f"{PICTURES}/{path.name}"


def _write_lines(path: Path, lines: list[dict[str, str]]) -> None:
    replace_text(path, "".join(json.dumps(line, ensure_ascii=False, sort_keys=True) + "\n" for line in lines))
