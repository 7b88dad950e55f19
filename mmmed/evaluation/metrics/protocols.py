"""Rules by which published work calls an answer to a question about a picture right, side by side with a strict one.

The same answers get very different figures under them, so a figure is worth nothing without the name of its rule.
Of these only `strict` should be used to compare models; the others serve to set a figure beside a published one.
A question is closed if it has options.
"""

from collections.abc import Callable, Mapping
from typing import Literal

from mmmed.evaluation.metrics.tally import Judged
from mmmed.evaluation.scorers import normalise

Protocol = Literal["strict", "llava_med", "multimedeval", "lmms"]
"""What a task can be decided by as a whole, closed and open questions alike."""

CLOSED_RECALL = 0.4
OPEN_RECALL = 0.75


def strict(item: Judged) -> float:
    """Closed: the answer names one option, and it is the reference. Open: the same text after `normalise`.

    An answer that names no option, or two, is unparsed: not right, and counted apart.
    """
    return float(item.answer is not None and normalise(item.answer) == normalise(item.reference))


def llava_med(item: Judged) -> float:
    """Closed: "yes" or "no" stands somewhere in the answer, and so does the reference. Open: share of the words found.

    Defects: "yes no" is right for every yes/no question, and so is "I do not know" where "no" is; a closed
    question about anything else ("CT" or "MR") can hardly be answered rightly; a long open answer only gains.

    Source: Li et al. 2023, LLaVA-Med (arXiv 2306.00890), section 5.2 and `run_eval.py` of its repository.
    """
    said, reference = normalise(item.said), normalise(item.reference)
    if item.options:
        return float(("yes" in said or "no" in said) and reference in said)
    return word_recall(item)


def llava_med_exact(item: Judged) -> float:
    """What LLaVA-Med's evaluation prints as "exact match": distinct shared words by all words of the answer.

    Defect: it is a precision of words. "left" for "left lower lobe" is exact, and every further word costs.

    Source: `calculate_exactmatch` of `eval_metrics/evaluate_metrics.py` in LLaVA-Med's repository.
    """
    said = normalise(item.said).split()
    shared = set(said) & set(normalise(item.reference).split())
    return len(shared) / len(said) if said else 0.0


def multimedeval(item: Judged) -> float:
    """Right if the answer holds at least 0.4 of the reference's words (closed), or 0.75 (open).

    Defects: a list of every option is right; half of a closed answer's words suffice ("no" for "no effusion").

    Source: Royer et al. 2024, MultiMedEval (arXiv 2402.09262) and its VQA tasks.
    """
    return float(word_recall(item) >= (CLOSED_RECALL if item.options else OPEN_RECALL))


def lmms(item: Judged) -> float:
    """Right if answer and reference are the same but for case, outer white space and a final full stop.

    Defect: the same words in a sentence ("It is a CT.") are wrong, so it measures brevity as well as knowledge.

    Source: lmms-eval's VQA-RAD task, `exact_match` with case and punctuation ignored.
    """
    return float(_trimmed(item.said) == _trimmed(item.reference))


def word_recall(item: Judged) -> float:
    """Share of the reference's distinct words that the answer holds, in any order."""
    wanted = set(normalise(item.reference).split())
    return len(wanted & set(normalise(item.said).split())) / len(wanted) if wanted else 0.0


def _trimmed(text: str) -> str:
    return text.strip().removesuffix(".").strip().casefold()


PROTOCOLS: Mapping[str, Callable[[Judged], float]] = {
    "strict": strict,
    "llava_med": llava_med,
    "llava_med_exact": llava_med_exact,
    "multimedeval": multimedeval,
    "lmms": lmms,
}
"""By the name under which a task asks for them."""
