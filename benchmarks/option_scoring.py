"""Option scoring against lm-evaluation-harness, same weights and precision: equal log-likelihoods first, then time.

    python benchmarks/option_scoring.py [items] [pairs] [folder of the data sets]

It needs `pip install lm-eval` (in an environment of its own, for it is no dependency of mmmed). Both are given the same
weights and the same texts; the harness takes the batch size of 1 and 8 that is faster here. In float32 they are
equal to 1e-4; in bfloat16, where the processor has units for it, how far they lie apart is told.
"""

import logging
import sys
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from lm_eval.api.instance import Instance
from lm_eval.models.huggingface import HFLM
from measuring import Claim, has_bfloat16, in_turns, stock, write

from mmmed.data.sources.medmcqa import MedMcqa
from mmmed.data.sources.pubmedqa import PubMedQa
from mmmed.evaluation.task import Task
from mmmed.inference.loading import load
from mmmed.inference.prompting import put
from mmmed.inference.scoring import score_options
from mmmed.inference.session import Session
from mmmed.inference.shots import choose_shots
from mmmed.models.vlm import VisionLanguageModel
from mmmed.records import Example

WEIGHTS = "smollm2-135m-instruct"
PEER = "lm-evaluation-harness"
WARM = 32
"""Requests that both batch sizes of the harness are tried on."""


def main() -> None:
    """Print and keep a row for each claim."""
    items = int(sys.argv[1]) if len(sys.argv) > 1 else 16
    pairs = int(sys.argv[2]) if len(sys.argv) > 2 else 5
    root = Path(sys.argv[3] if len(sys.argv) > 3 else "../shared/data")
    logging.disable(logging.WARNING)
    session = load(WEIGHTS, device="cpu")
    medmcqa = Task(
        name="medmcqa",
        version=1,
        source=MedMcqa(str(root / "08_qa_mcq")),
        prompt="Question: {question}\nChoices:\n{options}\nAnswer:",
        answer="letters",
        shots=5,
        shot_split="test",
    )
    pubmedqa = Task(
        name="pubmedqa",
        version=1,
        source=PubMedQa(str(root / "07_qa_pubmedqa")),
        prompt="{question}\nAnswer:",
        shot_split="test",
    )
    five_shot, no_shot = asked(medmcqa, items), asked(pubmedqa, items)
    with_abstracts = asked(replace(pubmedqa, shots=5), items // 4)
    write("option_scoring", [compare(session, f"MedMCQA 5-shot, {items} items", five_shot, bar=4.5, pairs=pairs)])
    write("option_scoring", [compare(session, f"PubMedQA 0-shot, {items} items", no_shot, bar=1.8, pairs=pairs)])
    claim = f"PubMedQA 5-shot with abstracts, {items // 4} items"
    write("option_scoring", [compare(session, claim, with_abstracts, bar=None, pairs=pairs)])
    if has_bfloat16():
        session.model.bfloat16()
        claim = f"MedMCQA 5-shot in bfloat16, {items} items"
        write("option_scoring", [compare(session, claim, five_shot, bar=3.5, pairs=pairs, exact=False)])


def asked(task: Task, items: int) -> list[Example]:
    """The first questions of a task as they are put; shots come from behind them, and are the same for all."""
    examples, asking = task.examples(), task.asking()
    shots = choose_shots(examples[:items], examples[items:], asking.shots)
    return [put(one, asking.form, shots=before) for one, before in zip(examples[:items], shots, strict=True)]


def compare(
    session: Session, claim: str, examples: Sequence[Example], *, bar: float | None, pairs: int, exact: bool = True
) -> Claim:
    """One claim, on these questions."""
    requests = [request for example in examples for request in requests_of(session, example)]
    theirs = stock(session.model)
    peers = {size: harness(theirs, size) for size in (1, 8)}

    def ours() -> list[float]:
        found = score_options(session.model, session.processor, examples)
        return [value for one in found for value in one.values]

    taken = {}
    for size, peer in peers.items():
        begun = time.process_time()
        likelihoods(peer, requests[:WARM])
        taken[size] = time.process_time() - begun
    size = min(taken, key=taken.__getitem__)
    apart = max(abs(one - other) for one, other in zip(ours(), likelihoods(peers[size], requests), strict=True))
    print(f"{claim}: largest difference {apart:.1e}; the harness is faster with batches of {size}", flush=True)
    if exact and apart > 1e-4:
        raise SystemExit(f"{claim}: the two disagree by {apart}; nothing is timed")
    return in_turns(
        claim,
        peer=f"{PEER}, batches of {size}",
        theirs=lambda: likelihoods(peers[size], requests),
        ours=ours,
        equal=apart,
        bar=bar,
        pairs=pairs,
    )


def harness(model: VisionLanguageModel, batch_size: int) -> HFLM:
    """The harness around a model."""
    language: Any = model.language
    return HFLM(
        pretrained=language.model, tokenizer=language.tokenizer, backend="causal", batch_size=batch_size, device="cpu"
    )


def requests_of(session: Session, example: Example) -> list[tuple[str, str]]:
    """Context and continuation of each option, as the harness wants them."""
    turns = list(example.turns)
    while turns[-1].speaker == "assistant":
        turns.pop()
    messages = [{"role": turn.speaker, "content": turn.text.strip()} for turn in turns]
    context = session.processor.prompt.tokenizer.apply_chat_template(
        messages, tokenize=False, add_generation_prompt=True
    )
    return [(str(context), f" {option}") for option in example.options]


def likelihoods(peer: HFLM, requests: Sequence[tuple[str, str]]) -> list[float]:
    """The harness's log-likelihoods."""
    instances = [Instance("loglikelihood", {}, pair, number) for number, pair in enumerate(requests)]
    return [value for value, _ in peer.loglikelihood(instances, disable_tqdm=True)]


if __name__ == "__main__":
    main()
