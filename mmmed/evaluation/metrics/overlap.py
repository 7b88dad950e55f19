"""How many words and word sequences a generated text shares with its reference: BLEU, ROUGE-L and CIDEr.

They measure wording, not truth: "no effusion" and "effusion" share half their words. Read them beside the findings
(`metrics.findings`). Words are compared in lower case, without punctuation, decimal numbers whole.
"""

import math
import re
import unicodedata
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from mmmed.evaluation.metrics.tally import FloatArray, Judged, ratio

LONGEST = 4
_SIGMA = 6.0
_WORD = re.compile(r"\d+(?:[.,]\d+)+|\w+")

Grams = Counter[tuple[str, ...]]


def words(text: str) -> list[str]:
    """The words of a text as these figures compare them."""
    return _WORD.findall(unicodedata.normalize("NFKC", text).casefold())


@dataclass(frozen=True, slots=True)
class BleuMetric:
    """Precision of word sequences up to a length, over all items at once, short texts penalised; not smoothed.

    Args:
        longest: How many words the longest sequences have.

    Source: Papineni et al. 2002, ACL, section 2.3.
    """

    longest: int

    def tally(self, items: Sequence[Judged], classes: Sequence[str]) -> FloatArray:
        """Matches and sequences of each length, then the words of answer and reference."""
        tallies = np.zeros((len(items), 2 * self.longest + 2))
        for row, item in enumerate(items):
            said, wanted = words(item.answer or ""), words(item.reference)
            for length in range(1, self.longest + 1):
                own = grams(said, length)
                tallies[row, length - 1] = (own & grams(wanted, length)).total()
                tallies[row, self.longest + length - 1] = own.total()
            tallies[row, -2:] = len(said), len(wanted)
        return tallies

    def value(self, totals: FloatArray) -> FloatArray:
        matches, sequences = totals[..., : self.longest], totals[..., self.longest : 2 * self.longest]
        said, wanted = totals[..., -2], totals[..., -1]
        precisions = np.nan_to_num(ratio(matches, sequences))
        with np.errstate(divide="ignore"):
            geometric = np.exp(np.log(precisions).mean(axis=-1))
            penalty = np.exp(np.minimum(0.0, 1.0 - ratio(wanted, said)))
        figure: FloatArray = np.where(wanted > 0, np.nan_to_num(geometric * penalty), np.nan)
        return figure

    def support(self, tallies: FloatArray) -> int:
        return len(tallies)


def rouge_l(item: Judged) -> float:
    """Harmonic mean of the shares of answer and reference that their longest common subsequence makes up.

    Source: Lin 2004, ROUGE, section 3.1, with both shares weighing the same.
    """
    said, wanted = words(item.answer or ""), words(item.reference)
    shared = common_subsequence(said, wanted)
    return 2 * shared / (len(said) + len(wanted)) if shared else 0.0


def common_subsequence(first: Sequence[str], second: Sequence[str]) -> int:
    """Length of the longest common subsequence of words, a row of the table at a time as bits of one number.

    Source: Hyyrö 2004, AWOCA, "Bit-parallel LCS-length computation revisited".
    """
    places: dict[str, int] = {}
    for place, word in enumerate(second):
        places[word] = places.get(word, 0) | 1 << place
    full = (1 << len(second)) - 1
    row = full
    for word in first:
        here = row & places.get(word, 0)
        row = ((row + here) | (row - here)) & full
    return len(second) - row.bit_count()


class CiderMetric:
    """CIDEr-D divided by 10, in [0, 1]: cosine of word sequences that weigh more the fewer references hold them.

    Document frequencies are those of the references, for every arm and resample alike. A reference of fewer than four
    words cannot reach 1, and where all references are equal the figure is 0; both are so in the original.

    Source: Vedantam et al. 2015, CVPR, equations 2 and 5 (CIDEr-D, sigma 6).
    """

    def tally(self, items: Sequence[Judged], classes: Sequence[str]) -> FloatArray:
        wanted = [_all_grams(words(item.reference)) for item in items]
        held_by = Counter(gram for each in wanted for gram in each)
        weight = {gram: math.log(len(items)) - math.log(count) for gram, count in held_by.items()}
        unseen = math.log(len(items)) if items else 0.0
        tallies = np.ones((len(items), 2))
        for row, (item, reference) in enumerate(zip(items, wanted, strict=True)):
            tallies[row, 0] = _cider(_all_grams(words(item.answer or "")), reference, weight=weight, unseen=unseen)
        return tallies

    def value(self, totals: FloatArray) -> FloatArray:
        return ratio(totals[..., 0], totals[..., 1])

    def support(self, tallies: FloatArray) -> int:
        return len(tallies)


def _cider(said: Grams, wanted: Grams, *, weight: Mapping[tuple[str, ...], float], unseen: float) -> float:
    apart = sum(count for gram, count in said.items() if len(gram) == 1) - sum(
        count for gram, count in wanted.items() if len(gram) == 1
    )
    near = math.exp(-(apart**2) / (2 * _SIGMA**2))
    shared, own, other = ([0.0] * LONGEST for _ in range(3))
    for gram, count in said.items():
        weighted = count * weight.get(gram, unseen)
        own[len(gram) - 1] += weighted**2
        if gram in wanted:
            reference = wanted[gram] * weight[gram]
            shared[len(gram) - 1] += min(weighted, reference) * reference
    for gram, count in wanted.items():
        other[len(gram) - 1] += (count * weight[gram]) ** 2
    cosines = [s / math.sqrt(a * b) if a * b > 0 else 0.0 for s, a, b in zip(shared, own, other, strict=True)]
    return near * sum(cosines) / LONGEST


def _all_grams(said: Sequence[str]) -> Grams:
    return sum((grams(said, length) for length in range(1, LONGEST + 1)), Counter[tuple[str, ...]]())


def grams(said: Sequence[str], length: int) -> Grams:
    """How often each sequence of so many words occurs."""
    return Counter(tuple(said[start : start + length]) for start in range(len(said) - length + 1))
