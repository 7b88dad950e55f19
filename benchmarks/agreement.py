"""Agreement with lm-evaluation-harness, item by item, same weights, float32.

    python benchmarks/agreement.py [MedMCQA items] [PubMedQA items] [folder of the data sets] [folder for answers]

The harness reads its own prompts of `medmcqa` and `pubmedqa`, made here from the raw files and not by mmmed's sources;
mmmed reads its tasks. What both answered is kept after every few items, so that a run that was stopped goes on. It
prints the share of items with the same answer, the largest difference of a log-likelihood, the items scored apart by
more than 1e-4, and each item answered otherwise with its margin; and keeps that in results/agreement.json.
"""

import json
import logging
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from lm_eval.tasks.medmcqa import utils_medmcqa
from lm_eval.tasks.pubmedqa import preprocess_pubmedqa
from measuring import RESULTS
from option_scoring import WEIGHTS, harness, likelihoods
from tqdm import tqdm

from mmmed.evaluation.task import load_task
from mmmed.inference.loading import load
from mmmed.inference.prompting import put
from mmmed.inference.scoring import score_options
from mmmed.inference.session import Session

TASKS = Path(__file__).parents[1] / "configs" / "task"
AT_ONCE = 20
CLOSE = 1e-4


def main() -> None:
    """Ask both what is not asked yet, and compare."""
    counts = {"medmcqa": int(sys.argv[1]) if len(sys.argv) > 1 else 1000}
    counts["pubmedqa"] = int(sys.argv[2]) if len(sys.argv) > 2 else 500
    root = Path(sys.argv[3] if len(sys.argv) > 3 else "../shared/data")
    kept = Path(sys.argv[4] if len(sys.argv) > 4 else "outputs/agreement")
    kept.mkdir(parents=True, exist_ok=True)
    logging.disable(logging.WARNING)
    session = load(WEIGHTS, device="cpu")
    rows = []
    for name, documents in {"medmcqa": dict(medmcqa(root)), "pubmedqa": dict(pubmedqa(root))}.items():
        known = {example.id for example in load_task(TASKS / f"{name}.yaml").examples()}
        both = [id for id in documents if id in known][: counts[name]]
        answers = ask(session, name, {id: documents[id] for id in both}, kept / f"{name}.jsonl")
        # Our source sets records aside that cannot be answered rightly, such as with one option twice.
        set_aside = [id for id in list(documents)[: counts[name]] if id not in known]
        rows.append(compared(name, answers) | {"set_aside_among_the_first": set_aside})
        print(json.dumps(rows[-1], indent=1))
    RESULTS.mkdir(exist_ok=True)
    (RESULTS / "agreement.json").write_text(json.dumps(rows, indent=1) + "\n")


def medmcqa(root: Path) -> Iterator[tuple[str, list[tuple[str, str]]]]:
    """Context and continuations of each question of the dev set, by the harness's own prompt."""
    for line in (root / "08_qa_mcq" / "medmcqa_dev.jsonl").read_text().splitlines():
        raw = json.loads(line)
        context = utils_medmcqa.doc_to_text(
            {"question": raw["question"], **{f"op{letter.lower()}": raw["options"][letter] for letter in "ABCD"}}
        )
        yield raw["id"], [(context, f" {letter}") for letter in "ABCD"]


def pubmedqa(root: Path) -> Iterator[tuple[str, list[tuple[str, str]]]]:
    """The same for the official test questions of PubMedQA."""
    folder = root / "07_qa_pubmedqa"
    questions = json.loads((folder / "ori_pqal.json").read_text())
    for pmid in json.loads((folder / "test_ground_truth.json").read_text()):
        context = preprocess_pubmedqa.doc_to_text(questions[pmid])
        yield pmid, [(context, f" {answer}") for answer in ("yes", "no", "maybe")]


def ask(session: Session, name: str, documents: dict[str, list[tuple[str, str]]], path: Path) -> list[dict[str, Any]]:
    """Log-likelihoods of both for each document; those of an earlier run are read back."""
    known = [json.loads(line) for line in path.read_text().splitlines()] if path.is_file() else []
    task, peer = load_task(TASKS / f"{name}.yaml"), harness(session, 1)
    examples = {example.id: example for example in task.examples()}
    left = [id for id in documents if id not in {one["id"] for one in known}]
    with tqdm(total=len(left), desc=name) as progress, path.open("a") as file:
        for start in range(0, len(left), AT_ONCE):
            ids = left[start : start + AT_ONCE]
            ours = score_options(
                session.model, session.processor, [put(examples[id], task.asking().form) for id in ids]
            )
            for id, one in zip(ids, ours, strict=True):
                row = {"id": id, "ours": list(one.values), "theirs": likelihoods(peer, documents[id])}
                known.append(row)
                file.write(json.dumps(row) + "\n")
                file.flush()
                progress.update()
    return [one for one in known if one["id"] in documents]


def compared(name: str, answers: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """What is the same, and every answer that is not, with how far apart its two likeliest options are."""
    other = [one for one in answers if best(one["ours"]) != best(one["theirs"])]
    apart = {one["id"]: difference(one) for one in answers}
    return {
        "task": name,
        "items": len(answers),
        "same_answer": 1 - len(other) / max(len(answers), 1),
        "largest_difference": max(apart.values(), default=0.0),
        "largest_of_the_close": max((one for one in apart.values() if one <= CLOSE), default=0.0),
        "scored_apart": [id for id, one in apart.items() if one > CLOSE],
        "answered_otherwise": [
            {
                "id": one["id"],
                "margin": sorted(one["theirs"])[-1] - sorted(one["theirs"])[-2],
                "difference": apart[one["id"]],
            }
            for one in other
        ],
    }


def difference(one: dict[str, Any]) -> float:
    """The largest between the two of one item."""
    return max(abs(a - b) for a, b in zip(one["ours"], one["theirs"], strict=True))


def best(values: Sequence[float]) -> int:
    """The likeliest option, the first of equals."""
    return max(range(len(values)), key=values.__getitem__)


if __name__ == "__main__":
    main()
