"""Whether 50 amended drafts keep the next model from an error: desk, export, preference learning, films never seen.

    python benchmarks/feedback.py CHECKPOINT FOLDER [films held out] [films asked closed questions]

A model lists the findings of phantom films. Its drafts are handed in at a desk and, where they name a finding twice,
amended to what is true of the film and signed, until 50 were amended. `mmmed feedback export` writes them, and the
`preference` stage learns from those of seven patients in ten as configs/experiment/feedback_preference.yaml has it.
Both models are then asked about films of another seed. The error is an answer that names a finding twice, as small
models give that do not find the end of a list.

Told beside it, on the same films: how well both tell the findings apart in what they list, and when asked one by one,
so that what learning costs elsewhere is seen. Phantoms stand for the reader; nobody knows from this what a radiologist
would amend.
"""

import io
import json
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
import yaml
from measuring import RESULTS

from mmmed.data.phantom.findings import KINDS
from mmmed.data.phantom.grammar import NAMES
from mmmed.data.sources.phantom import PhantomSource
from mmmed.evaluation.metrics.tally import FloatArray, ratio
from mmmed.evaluation.statistics import (
    Estimate,
    bootstrap_estimate,
    paired_estimate,
    patient_weights,
    sum_by_patient,
)
from mmmed.inference.session import Session, open_session
from mmmed.records import Example
from mmmed.serving.accounts.user import Role, User
from mmmed.serving.database.engine import open_database
from mmmed.serving.database.upgrade import upgrade
from mmmed.serving.desk.desk import Desk
from mmmed.serving.desk.draft import NewDraft, Picture
from mmmed.serving.feedback.export import PREFERENCES, export_feedback

AMENDED = 50
AT_MOST = 600
AT_ONCE = 16
LONGEST = 32
DRAFTED, HELD_OUT = 77, 78
"""Seeds of the films; the quickstart's are 0."""
ERROR = "names a finding twice"
LISTS = ("findings", "findings")
"""The kind of question that asks for a list, and its topic."""
READER = User("reader", "Reader^Phantom", "R-1", Role.RADIOLOGIST)
EXPERIMENT = Path(__file__).parents[1] / "configs" / "experiment" / "feedback_preference.yaml"
Value = Callable[[FloatArray], FloatArray]


def main() -> None:
    """Draft, amend, learn, ask again; print and keep a row."""
    checkpoint, folder = sys.argv[1], Path(sys.argv[2])
    held, closed = (int(sys.argv[place]) if len(sys.argv) > place else usual for place, usual in ((3, 200), (4, 60)))
    before = open_session(checkpoint, device="cpu")
    engine = open_database(f"sqlite:///{folder / 'desk.sqlite'}")
    upgrade(engine)
    desk = Desk(engine)
    drafted = draft_and_amend(desk, before)
    done = export_feedback(desk, folder)
    learn(checkpoint, folder)
    after = open_session(str(folder / "next"), device="cpu")
    films = questions(LISTS, HELD_OUT, held)
    said = [write(session, films) for session in (before, after)]
    row: dict[str, Any] = {
        "error": ERROR,
        "objective": yaml.safe_load(EXPERIMENT.read_text(encoding="utf-8"))["model"]["init_args"]["objective"],
        "drafts": drafted,
        "amended": done.train + done.test,
        "learned_from": done.train,
        "films_held_out": len(films),
        "share_of_answers_in_error": compared(films, [wrong(one) for one in said], share),
        "findings_told_apart": compared(films, [listed(films, one) for one in said], balanced),
    }
    asked = [one for kind in KINDS for one in questions(("finding", kind), HELD_OUT, closed)]
    answers = [[answer.text for answer in session.choose(asked)] for session in (before, after)]
    row["closed_questions"] = len(asked)
    row["closed_told_apart"] = compared(asked, [told_apart(asked, one) for one in answers], balanced)
    row["examples"] = [
        {"true": one.reference, "before": old, "after": new}
        for one, old, new in list(zip(films, *said, strict=True))[:5]
    ]
    keep(row)


def questions(about: tuple[str, str], seed: int, count: int) -> list[Example]:
    """One question about each of so many films."""
    kind, topic = about
    source = PhantomSource(count, seed=seed, questions=(kind,))  # type: ignore[arg-type]
    return [one for one in source.records() if isinstance(one, Example) and one.topic == topic]


def write(session: Session, asked: Sequence[Example]) -> list[str]:
    """Answers in the model's own words."""
    return [answer.text for answer in session.write(asked, max_new_tokens=LONGEST)]


def is_wrong(text: str) -> bool:
    """Whether an answer is the error."""
    return any(text.lower().count(name) > 1 for name in NAMES.values())


def draft_and_amend(desk: Desk, session: Session) -> int:
    """Hand answers in and sign them, those in error amended, until enough were; how many drafts it took."""
    amended = 0
    asked = questions(LISTS, DRAFTED, AT_MOST)
    for start in range(0, len(asked), AT_ONCE):
        batch = asked[start : start + AT_ONCE]
        for place, (example, text) in enumerate(zip(batch, write(session, batch), strict=True)):
            sign(desk, example, text, amend=is_wrong(text))
            amended += is_wrong(text)
            if amended == AMENDED:
                return start + place + 1
    raise SystemExit(f"{amended} of {len(asked)} answers name a finding twice: too few to amend; take another model")


def sign(desk: Desk, example: Example, text: str, *, amend: bool) -> None:
    """One draft on its way over the desk."""
    content = io.BytesIO()
    example.images[0].open().save(content, format="PNG")
    draft = NewDraft(text=text, question=example.question, model="quickstart", pictures=(Picture(content.getvalue()),))

    def request(what: str) -> str:
        return f"{what} of film {example.study:>16}"

    id = desk.hand_in(draft, by="reader", request=request("draft"))
    desk.take(id, by=READER, request=request("take"))
    if amend:
        desk.amend(id, example.reference, by=READER, request=request("amend"))
    desk.sign(id, by=READER, request=request("sign"))


def learn(checkpoint: str, folder: Path) -> None:
    """Train by the file of the project, on what was exported, from the model that had drafted."""
    told = yaml.safe_load(EXPERIMENT.read_text(encoding="utf-8"))
    told["output"] = str(folder / "next")
    stage = told["model"]["init_args"]
    stage["model"] = str((EXPERIMENT.parent / stage["model"]).resolve())
    stage["init_from"] = f"{checkpoint}/model"
    stage["objective"]["init_args"]["reference"] = f"{checkpoint}/model"
    told["data"]["init_args"]["sources"][0]["init_args"]["path"] = str(folder / PREFERENCES)
    (folder / "learn.yaml").write_text(yaml.safe_dump(told), encoding="utf-8")
    subprocess.run([sys.executable, "-m", "mmmed", "fit", "--config", str(folder / "learn.yaml")], check=True)


def wrong(texts: Sequence[str]) -> FloatArray:
    """A row for each answer: whether it is the error, and one."""
    return np.array([[float(is_wrong(one)), 1.0] for one in texts])


def listed(films: Sequence[Example], texts: Sequence[str]) -> FloatArray:
    """Of the six findings of each film: those listed of the present ones, those not listed of the absent ones."""
    return np.array([_film(one, text.lower()) for one, text in zip(films, texts, strict=True)])


def _film(film: Example, text: str) -> FloatArray:
    return np.sum([_told(film.attributes[kind] != "absent", NAMES[kind] in text) for kind in KINDS], axis=0)


def told_apart(asked: Sequence[Example], texts: Sequence[str]) -> FloatArray:
    """The same of closed questions."""
    return np.array([_told(one.reference == "yes", text == "yes") for one, text in zip(asked, texts, strict=True)])


def _told(is_there: bool, is_said: bool) -> FloatArray:
    return np.array([is_there and is_said, is_there, not is_there and not is_said, not is_there], dtype=np.float64)


def share(totals: FloatArray) -> FloatArray:
    """Of all answers."""
    return ratio(totals[..., 0], totals[..., 1])


def balanced(totals: FloatArray) -> FloatArray:
    """Mean of sensitivity and specificity."""
    return (ratio(totals[..., 0], totals[..., 1]) + ratio(totals[..., 2], totals[..., 3])) / 2


def compared(asked: Sequence[Example], tallies: Sequence[FloatArray], value: Value) -> dict[str, Any]:
    """A figure before, after, and its change on the same films, each with its interval over films."""
    films = [str(one.study) for one in asked]
    order = sorted(set(films))
    weights = patient_weights(len(order), seed=0)
    before, after = (sum_by_patient(one, films, order=order) for one in tallies)
    given = {"value_of": value, "weights": weights, "support": len(order)}
    return {
        "before": _interval(bootstrap_estimate(before, **given)),  # type: ignore[arg-type]
        "after": _interval(bootstrap_estimate(after, **given)),  # type: ignore[arg-type]
        "change": _interval(paired_estimate(after, before, **given)),  # type: ignore[arg-type]
    }


def _interval(found: Estimate) -> dict[str, float]:
    return {"value": round(found.value, 4), "low": round(found.low, 4), "high": round(found.high, 4)}


def keep(row: dict[str, Any]) -> None:
    """Print a row and put it in the place of that of the same error and objective."""
    path = RESULTS / "feedback.json"
    rows = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else []
    rows = [one for one in rows if (one["error"], one["objective"]) != (row["error"], row["objective"])] + [row]
    path.write_text(json.dumps(rows, indent=1) + "\n", encoding="utf-8")
    print(json.dumps(row, indent=1))


if __name__ == "__main__":
    torch.set_num_threads(1)
    main()
