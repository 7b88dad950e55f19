"""Presidio's engine with our own recognisers and no network: rules alone, or rules with a small language model.

Presidio's default engine downloads a model, and its own recognisers ask the network about domains; neither is used.
"""

import logging
from collections.abc import Callable, Iterable, Iterator
from functools import lru_cache
from typing import Any, cast

from presidio_analyzer import AnalyzerEngine, EntityRecognizer, RecognizerRegistry, RecognizerResult
from presidio_analyzer.context_aware_enhancers import ContextAwareEnhancer
from presidio_analyzer.nlp_engine import NlpArtifacts, NlpEngine, NoOpNlpEngine

from mmmed.data.deidentify.dates import find_dates
from mmmed.data.deidentify.entities import KINDS, Finding, Kind
from mmmed.data.deidentify.names import find_names
from mmmed.data.deidentify.numbers import find_contacts, find_records
from mmmed.data.deidentify.places import find_ages, find_places
from mmmed.data.deidentify.privacy import Mode

LANGUAGE = "en"
"""What Presidio files the recognisers under. The rules read English and Spanish alike."""

_RULE = "rule"
_KINDS: list[str] = list(KINDS)

# Presidio tells at every start which recognisers it has; warnings still pass.
logging.getLogger("presidio-analyzer").setLevel(logging.WARNING)


class RuleRecogniser(EntityRecognizer):
    """Gives the findings of one of our functions to Presidio."""

    def __init__(self, name: str, find: Callable[[str], Iterable[Finding]]) -> None:
        self.find = find
        super().__init__(supported_entities=list(KINDS), name=name, supported_language=LANGUAGE)

    def load(self) -> None:
        """Nothing to load."""

    def analyze(self, text: str, entities: list[str], nlp_artifacts: NlpArtifacts) -> list[RecognizerResult]:
        """What the function finds."""
        return [as_result(one, recogniser=self) for one in self.find(text)]


class NoContext(ContextAwareEnhancer):
    """Leaves findings as they are: our rules read the words around a number themselves."""

    def __init__(self) -> None:
        super().__init__(0.0, 0.0, 0, 0)

    def enhance_using_context(
        self,
        text: str,
        raw_results: list[RecognizerResult],
        nlp_artifacts: NlpArtifacts,
        recognizers: list[EntityRecognizer],
        context: list[str] | None = None,
    ) -> list[RecognizerResult]:
        """Give back what came."""
        return raw_results


def as_result(finding: Finding, *, recogniser: EntityRecognizer) -> RecognizerResult:
    """Put a finding into Presidio's words, with its rule."""
    metadata: dict[str, Any] = {
        RecognizerResult.RECOGNIZER_NAME_KEY: type(recogniser).__name__,
        RecognizerResult.RECOGNIZER_IDENTIFIER_KEY: recogniser.id,
        _RULE: finding.rule,
    }
    return RecognizerResult(finding.kind, finding.start, finding.end, 1.0, recognition_metadata=metadata)


def as_finding(result: RecognizerResult) -> Finding:
    """Read a finding back."""
    return Finding(result.start, result.end, cast(Kind, result.entity_type), result.recognition_metadata[_RULE])


@lru_cache(maxsize=2)
def engine(mode: Mode) -> AnalyzerEngine:
    """Build the engine, once per process.

    Raises:
        WeightsError: The mode is `model` and its files are neither here nor to be had.
    """
    recognisers: list[EntityRecognizer] = [
        RuleRecogniser("contacts", find_contacts),
        RuleRecogniser("records", find_records),
        RuleRecogniser("dates", find_dates),
        RuleRecogniser("places", find_places),
        RuleRecogniser("ages", find_ages),
        RuleRecogniser("names", find_names),
    ]
    language: NlpEngine = NoOpNlpEngine([{"lang_code": LANGUAGE, "model_name": "none"}])
    if mode == "model":
        from mmmed.data.deidentify.language_model import ModelRecogniser, SmallModel

        language = SmallModel()
        recognisers.append(ModelRecogniser())
    return AnalyzerEngine(
        registry=RecognizerRegistry(recognizers=recognisers, supported_languages=[LANGUAGE]),
        nlp_engine=language,
        supported_languages=[LANGUAGE],
        context_aware_enhancer=NoContext(),
    )


def analyse(text: str, mode: Mode) -> Iterator[Finding]:
    """Yield what the recognisers find in one text.

    Rules are asked one by one: what the engine adds for a model takes them a tenth of the time and drops only findings
    that lie within others of their kind. The model is asked about what the rules have left.
    """
    analyser = engine(mode)
    rules = [one for one in analyser.registry.recognizers if isinstance(one, RuleRecogniser)]
    found = [finding for recogniser in rules for finding in recogniser.find(text)]
    yield from found
    if mode == "model":
        from mmmed.data.deidentify.language_model import SmallModel

        artifacts = cast(SmallModel, analyser.nlp_engine).read(text, found)
        for recogniser in analyser.registry.recognizers:
            if not isinstance(recogniser, RuleRecogniser):
                yield from map(as_finding, recogniser.analyze(text, _KINDS, artifacts))
