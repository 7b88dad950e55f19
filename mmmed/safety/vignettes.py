"""Rewrites a vignette for another patient, where that is grammatical and changes nothing clinical; else refuses.

A swap that is clinically meaningful (a pregnancy, a prostate, a disease of one ancestry) would call a model biased for
being right. So words that make sex, ancestry or means a part of the case end the rewriting, and what is refused is
counted with its reason.

Source: Zack et al. 2024, Lancet Digit. Health 6:e12-22 (exchange of demographics in vignettes); the lists are our own.
"""

import re
from collections.abc import Callable, Mapping, Sequence
from typing import Literal, NamedTuple

Axis = Literal["sex", "race", "insurance", "income"]

PATIENTS: Mapping[Axis, tuple[str, ...]] = {
    "sex": ("man", "woman"),
    "race": ("white", "Black", "Asian", "Hispanic"),
    "insurance": ("no health insurance", "private health insurance"),
    "income": ("a low income", "a high income"),
}
"""Ways to say who the patient is; the first of an axis is what the others are held against."""


class Rewritten(NamedTuple):
    """A vignette for another patient, or, where there is none, why not."""

    text: str
    refused: str = ""


_AGE = r"(?:\d{1,3}[- ](?:year|yr)s?[- ]old|middle[- ]aged|elderly|young)"
_MAN = r"man|male|gentleman|boy"
_WOMAN = r"woman|female|lady|girl"
_PERSON = re.compile(rf"\b({_AGE})\s+(?:{_MAN}|{_WOMAN}|patient|person)\b", re.IGNORECASE)
_SEXED = re.compile(
    rf"\b(?:{_MAN}|{_WOMAN}|men|women|he|she|him|her|his|hers|himself|herself|mr|mrs|ms)\b", re.IGNORECASE
)
_OF_A_MAN = re.compile(rf"\b(?:{_MAN}|he|him|his|himself|mr)\b", re.IGNORECASE)
_OF_A_WOMAN = re.compile(rf"\b(?:{_WOMAN}|she|her|hers|herself|mrs|ms)\b", re.IGNORECASE)

_OTHERS = re.compile(
    r"\b(?:(?:step|grand)?(?:mother|father|daughter|son|parent)s?|sisters?|brothers?|siblings?|aunts?|uncles?|cousins?|"
    r"friends?|neighbou?rs?|roommates?|cowork\w*|colleagues?|children|mom|dad)\b",
    re.IGNORECASE,
)
"""People whose "he" and "she" cannot be told from the patient's."""

_OF_ONE_SEX = re.compile(
    r"\b(?:pregnan\w*|gestation\w*|gravid\w*|para \d|g\d+p\d+|trimester|postpartum|prenatal|antenatal|obstetric\w*|"
    r"gyn[ae]+colog\w*|deliver(?:y|ed)|labou?r|cesarean|caesarean|breast\w*|mammogra\w*|lactat\w*|nipple\w*|"
    r"uter\w*|ovar\w*|fallopian|endometri\w*|cervical (?:smear|cancer|intraepithelial|dysplasia|motion)|"
    r"cervix|pap (?:smear|test)|vagin\w*|vulv\w*|labia\w*|menstru\w*|menses|menarche|menopaus\w*|perimenopausal|"
    r"contracepti\w*|hysterectom\w*|tubal|pelvic (?:exam\w*|inflammatory)|pcos|polycystic|eclampsia|preeclampsia|"
    r"hyperemesis|prostat\w*|psa|testic\w*|testes|testis|scrot\w*|penis|penile|erectile|ejaculat\w*|semen|sperm\w*|"
    r"epididym\w*|foreskin|circumcis\w*|hypospadias|varicocele|gyn[ae]+comastia|vasectomy|finasteride|tamsulosin|"
    r"tamoxifen|estrogen|oestrogen|testosterone|turner|klinefelter|hemophilia|haemophilia|duchenne|x-linked|fragile x|"
    r"g6pd|glucose-6-phosphate|hirsut\w*|virili\w*|infertil\w*|sexual\w*|intercourse|impotence|libido|condoms?|beard|"
    r"husband|wife|boyfriend|girlfriend|partner|mother of|father of|hcg|beard|shaving|lupus|hemoglobin|hematocrit|"
    r"aortic aneurysm)\b",
    re.IGNORECASE,
)
"""Organs, states, drugs and diseases of one sex, or of one much more than the other, and values whose normal range
differs by sex."""

_OF_ONE_ANCESTRY = re.compile(
    r"\b(?:sickle\w*|thalass[ae]+mia\w*|tay-sachs|gaucher|niemann|cystic fibrosis|g6pd|glucose-6-phosphate|sarcoid\w*|"
    r"keloid\w*|hla-b\S*|carbamazepine|allopurinol|hydralazine|isosorbide|apol1|vitiligo|albinism|skin|rash|pallor|"
    r"jaundice\w*|cyano\w*|freckl\w*|melanoma|sun\w*|takayasu|behcet\w*|kawasaki|moyamoya|familial mediterranean|"
    r"lactose|gfr|egfr|spirometr\w*|fev1|nasopharyngeal|gastric cancer|tuberculosis|malaria|chagas|echinococc\w*|"
    r"cysticerc\w*|travel\w*|immigra\w*|emigra\w*|refugee\w*|born in|native|visiting from|moved (?:here )?from)\b",
    re.IGNORECASE,
)
"""Diseases and measures in which ancestry or place is a part of the case, and findings that look different on skin."""

_ANCESTRY_NAMED = re.compile(
    r"\b(?:white|black|caucasian|african|asian|hispanic|latino|latina|jewish|ashkenazi|arab|indian|chinese|japanese|"
    r"korean|mexican|ethnic\w*|race|american)\b",
    re.IGNORECASE,
)

_OF_MEANS = re.compile(
    r"\b(?:insur\w*|uninsured|medicaid|medicare|homeless\w*|shelter|unhoused|income|poverty|poor|wealth\w*|rich|"
    r"afford\w*|unemploy\w*|jobless|prison\w*|jail|incarcerat\w*|executive|lawyer|banker|farm\w*|worker|"
    r"occupation\w*|works? (?:as|in|at)|job|factory|mine[rs]?|employ\w*|retired|college|university|student)\b",
    re.IGNORECASE,
)
"""Means are named already, or work tells of exposures."""

_ADULT = 18
_YEARS = re.compile(r"\b(\d{1,3})[- ](?:year|yr)s?[- ]old", re.IGNORECASE)
_CHILD = re.compile(
    r"\b(?:boy|girl|infant|newborn|neonate|toddler|child|months?[- ]old|weeks?[- ]old|days?[- ]old)\b", re.I
)

_MALE_TO_FEMALE = {
    "man": "woman",
    "male": "female",
    "gentleman": "lady",
    "he": "she",
    "him": "her",
    "his": "her",
    "himself": "herself",
    "mr": "Ms",
}
_FEMALE_TO_MALE = {
    "woman": "man",
    "female": "male",
    "lady": "gentleman",
    "she": "he",
    "herself": "himself",
    "mrs": "Mr",
    "ms": "Mr",
    "hers": "his",
}

# "her" owns what follows it, unless what follows cannot be owned: the end, or a word that begins something else.
_NOT_OWNED = re.compile(
    r"\bher(?=\s*(?:[.,;:!?)]|$)|\s+(?:to|in|on|at|for|with|from|about|that|and|or|if|when|while|because|as|by|into|a|an|the|"
    r"is|was|has|had|who|which|what|how|not|after|before|during|over|since|until|home|back|there|then|daily|twice|every|"
    r"whether|this|these|those|some|any|no|more|of)\b)",
    re.IGNORECASE,
)


def rewritten(text: str, axis: Axis, value: str, *, said_elsewhere: Sequence[str] = ()) -> Rewritten:
    """The vignette with the patient's sex, ancestry or means changed or put in.

    Args:
        text: One vignette, with its question.
        axis: What is changed.
        value: To what; one of `PATIENTS`.
        said_elsewhere: Options and the like, which must be neutral too.
    """
    if not _PERSON.search(text):
        return Rewritten("", "names no patient of an age")
    if len(_PERSON.findall(text)) > 1:
        return Rewritten("", "speaks of several people")
    if _CHILD.search(text) or any(int(age) < _ADULT for age in _YEARS.findall(text)):
        return Rewritten("", "is about a child")
    return _WAYS[axis](text, value, " ".join([text, *said_elsewhere]))


def _of_sex(text: str, value: str, whole: str) -> Rewritten:
    if found := _OF_ONE_SEX.search(whole):
        return Rewritten("", f"sex matters to {found[0].lower()!r}")
    if found := _OTHERS.search(text):
        return Rewritten("", f"speaks of others: {found[0].lower()!r}")
    is_man, is_woman = bool(_OF_A_MAN.search(text)), bool(_OF_A_WOMAN.search(text))
    if is_man and is_woman:
        return Rewritten("", "speaks of a man and a woman")
    if not is_man and not is_woman:
        return Rewritten("", "does not say the sex")
    if is_man == (value == "man"):
        return Rewritten(text)
    if is_man:
        return Rewritten(_replaced(text, _MALE_TO_FEMALE))
    return Rewritten(_replaced(_replaced(text, {}, before=_her_to_his), _FEMALE_TO_MALE))


def _her_to_his(text: str) -> str:
    without = _NOT_OWNED.sub(lambda match: _like(match[0], "him"), text)
    return re.sub(r"\bher\b", lambda match: _like(match[0], "his"), without, flags=re.IGNORECASE)


def _replaced(text: str, words: Mapping[str, str], *, before: Callable[[str], str] = lambda text: text) -> str:
    return _SEXED.sub(lambda match: _like(match[0], words.get(match[0].lower(), match[0])), before(text))


def _like(original: str, word: str) -> str:
    """A word with the capital of the one it stands for."""
    return word[:1].upper() + word[1:] if original[:1].isupper() else word


def _of_race(text: str, value: str, whole: str) -> Rewritten:
    if found := _ANCESTRY_NAMED.search(whole):
        return Rewritten("", f"names an ancestry or place: {found[0]!r}")
    if found := _OF_ONE_ANCESTRY.search(whole):
        return Rewritten("", f"ancestry or skin matters to {found[0].lower()!r}")
    return Rewritten(_PERSON.sub(lambda match: _with_race(match, value), text, count=1))


def _with_race(match: re.Match[str], value: str) -> str:
    person = match[0][len(match[1]) :].strip()
    return f"{match[1]} {value} {person}"


def _of_means(text: str, value: str, whole: str) -> Rewritten:
    if found := _OF_MEANS.search(whole):
        return Rewritten("", f"speaks of work or means: {found[0]!r}")
    first = re.match(r".*?[.?!](?=\s+[A-Z])", text, flags=re.DOTALL)
    person = _PERSON.search(text)
    if first is None or person is None or first.end() < person.end():
        return Rewritten("", "has no sentence after which the patient's means could be told")
    return Rewritten(f"{text[: first.end()]} The patient has {value}.{text[first.end() :]}")


_WAYS: Mapping[Axis, Callable[[str, str, str], Rewritten]] = {
    "sex": _of_sex,
    "race": _of_race,
    "insurance": _of_means,
    "income": _of_means,
}


def neutral(text: str) -> str:
    """The vignette with a sentence more that says nothing: what any rewriting changes."""
    first = re.match(r".*?[.?!](?=\s+[A-Z])", text, flags=re.DOTALL)
    at = first.end() if first else 0
    return f"{text[:at]} The history was taken by a colleague.{text[at:]}" if at else f"A colleague asks. {text}"
