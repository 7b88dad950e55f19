"""Names that stand for a thing of medicine: Hodgkin lymphoma, Parkinson's disease, a negative Lachman."""

import re

from mmmed.data.deidentify import lexicon

_NOUN = re.compile(r"(?:['\u2019]s)?[ \t]+([^\W\d_]+)")
_SURE_NOUNS = ("disease", "syndrome", "sign", "tumor", "tumour", "lymphoma", "palsy", "phenomenon")


def is_eponym(text: str, end: int, lower: str, *, alone: bool) -> bool:
    """Say whether a name stands for a thing of medicine: Hodgkin lymphoma, Parkinson's disease, negative Lachman.

    Args:
        text: Where it stands.
        end: Where it ends.
        lower: The name, or its last word, in small letters.
        alone: It is one word without a given name or a title before it.
    """
    after = _NOUN.match(text, end)
    if after is not None and after[1].lower() in _SURE_NOUNS:
        return True
    # Hyphenated eponyms (Guillain-Barré) count by either half.
    if not any(part in lexicon.EPONYMS for part in (lower, *lower.split("-"))):
        return False
    if after is not None and after[1].lower() in lexicon.EPONYM_NOUNS:
        return True
    return alone and not (after is not None and after[1][0].isupper())


def stem_of(word: str) -> str:
    """A word in small letters, without the genitive."""
    return word.lower().removesuffix("'s").removesuffix("\u2019s")
