"""Studies of one or more films with a report or findings, and the questions that are asked about them.

The sources of chest films differ in how their files are laid out, and in nothing else: each reads its files into
`Study`s, and what is asked about a study is decided here.
"""

import logging
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Literal

from mmmed.data.findings import Asked, balanced, question_about, topic_of
from mmmed.data.question import YES_NO, about_image, yes_no
from mmmed.data.tabular import Row
from mmmed.errors import ConfigError, RecordError
from mmmed.records import Example, LazyImage, Quarantined, Split, Turn

logger = logging.getLogger(__name__)

Question = Literal["report", "findings", "impression", "finding"]

INSTRUCTIONS: Mapping[str, tuple[str, str]] = {
    "report": ("Write the report of this chest radiograph.", "Write the report of these chest radiographs."),
    "findings": (
        "Describe the findings of this chest radiograph.",
        "Describe the findings of these chest radiographs.",
    ),
    "impression": (
        "What is the impression of this chest radiograph?",
        "What is the impression of these chest radiographs?",
    ),
}
"""What is asked for each part of a report, of one film and of several."""

FRONTAL = ("PA", "AP")
LATERAL = "lateral"


@dataclass(frozen=True, slots=True, kw_only=True)
class Film:
    """One image of a study.

    Args:
        name: Unique within the source.
        image: The image.
        view: `PA`, `AP`, `lateral`, or as the source has it; empty where it does not say.
    """

    name: str
    image: LazyImage
    view: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Study:
    """What was seen of one patient at one time.

    Args:
        id: Unique within the source.
        patient: Patient identifier.
        films: The images, none for a text alone.
        split: Where the study belongs.
        sections: Text of the report by section, `findings` and `impression`, or `report` where it has none.
        present: The findings that are there.
        known: The findings about which the source says yes or no, in the order in which they are asked.
        attributes: Known facts of the patient or study.
        language: In which the report is written, where it is not English.
        licence: Of this study, where it differs from the data set's.
    """

    id: str
    patient: str
    films: tuple[Film, ...]
    split: Split
    sections: Mapping[str, str] = field(default_factory=dict)
    present: tuple[str, ...] = ()
    known: Sequence[str] = ()
    attributes: Mapping[str, str | float] = field(default_factory=dict)
    language: str = ""
    licence: str = ""

    def text(self, part: str) -> str:
        """A section, or the whole report with its sections named; nothing where the report has no such part."""
        if part != "report" or "report" in self.sections:
            return self.sections.get(part, "")
        named = [f"{name.capitalize()}: {text}" for name, text in self.sections.items() if text]
        return "\n".join(named)


# Without slots: the parser of configurations reads the default's values from its __dict__.
@dataclass(frozen=True, kw_only=True)
class StudyQuestions:
    """What is asked about each study.

    A part that a report lacks is not asked for; a study about which nothing can be asked is set aside.

    Args:
        questions: `report` (all of it), `findings` or `impression` (that section alone), `finding` (yes/no questions
            about single findings).
        findings: Which findings are asked about.
        images: `study` shows all films of a study together; `each` asks about every film alone, as contrastive
            training needs; `none` asks about the text of the report: the whole of it to model, its impression to
            write from its findings, its findings to answer from it.
        views: Films of these views only, such as `[PA, AP]`; None takes all.
        most_images: Most films that are shown together, frontal ones first.
        without: Sections that hold one of these marks are not asked for, such as `XXXX` or `___`, which publishers put
            in the place of identifiers; so no model learns to write them.
        seed: Of which absent findings are asked about.

    Raises:
        ConfigError: Findings are to be described without an image, or no film is to be shown.
    """

    questions: tuple[Question, ...] = ("report", "finding")
    findings: Asked = "balanced"
    images: Literal["study", "each", "none"] = "study"
    views: tuple[str, ...] | None = None
    most_images: int = 4
    without: tuple[str, ...] = ()
    seed: int = 0

    def __post_init__(self) -> None:
        if self.images == "none" and "findings" in self.questions:
            raise ConfigError("findings cannot be described from the text alone; ask for report, impression or finding")
        if self.most_images < 1:
            raise ConfigError(f"most_images is {self.most_images}; expected 1 or more")

    def asks_for_text(self) -> bool:
        """Whether reports are needed."""
        return self.images == "none" or self.questions != ("finding",)

    def asks_for_findings(self) -> bool:
        """Whether labels are needed."""
        return "finding" in self.questions


DEFAULT_QUESTIONS = StudyQuestions()


def read_studies(
    source: str, rows: Iterable[Row], read: Callable[[Row], Study | None]
) -> Iterator[Study | Quarantined]:
    """Turn rows of one film each into studies of all their films; a row that raises `RecordError` is set aside.

    Args:
        source: Name of the data set.
        rows: In any order; the studies come in the order of their first rows.
        read: Makes a study of the row's one film, or nothing where the row is not asked for.
    """
    studies: dict[str, Study] = {}
    films: set[str] = set()
    for row in rows:
        try:
            if row.fault:
                raise RecordError(row.fault)
            one = read(row)
            if one is None:
                continue
            if repeated := [film.name for film in one.films if film.name in films]:
                raise RecordError(f"the identifier {repeated[0]!r} is used before")
            joined = _joined(studies[one.id], one) if one.id in studies else one
        except RecordError as error:
            yield Quarantined(source, row.place, str(error))
        else:
            films.update(film.name for film in one.films)
            studies[one.id] = joined
    yield from studies.values()


def ask_about(
    studies: Iterable[Study | Quarantined], *, source: str, ask: StudyQuestions
) -> Iterator[Example | Quarantined]:
    """Put the questions to every study; one about which nothing can be asked is set aside."""
    read = list(studies)
    counts = Counter(finding for study in read if isinstance(study, Study) for finding in study.present)
    silent: Counter[str] = Counter()
    for study in read:
        if isinstance(study, Quarantined):
            yield study
            continue
        try:
            examples = list(_examples(_legible(study, ask=ask), source=source, ask=ask, counts=counts))
            if not examples:
                raise RecordError(f"nothing to ask: its report has no {_or(ask)}")
        except RecordError as error:
            yield Quarantined(source, study.id, str(error))
            continue
        silent.update({*ask.questions} - {"finding"} - {example.topic for example in examples})
        yield from examples
    for part, count in sorted(silent.items()):
        logger.info("%s: %d studies have no %s and are not asked for it", source, count, part)


def shown(films: Sequence[Film], *, ask: StudyQuestions) -> tuple[Film, ...]:
    """The films of a study that are asked about, frontal ones first."""
    wanted = [film for film in films if ask.views is None or film.view in ask.views]
    return tuple(sorted(wanted, key=lambda film: _rank(film.view)))


def normal_view(view: str) -> str:
    """A view in the words of `Film`: ``"LL"``, ``"LATERAL"`` and ``"L"`` are `lateral`, ``"AP_horizontal"`` is `AP`."""
    word = view.strip().upper().replace("_", " ")
    if word in ("L", "LL", "RL") or "LATERAL" in word:
        return LATERAL
    first = word.split(" ")[0]
    return first if first in FRONTAL else view.strip()


def _examples(study: Study, *, source: str, ask: StudyQuestions, counts: Mapping[str, int]) -> Iterator[Example]:
    if ask.images == "none":
        yield from _texts(study, source=source, ask=ask, counts=counts)
        return
    films = shown(study.films, ask=ask)
    if not films:
        raise RecordError(f"none of its {len(study.films)} films has a view among {', '.join(ask.views or ())}")
    if ask.images == "study":
        films = films[: ask.most_images]
        yield from _about(study, films, name=study.id, source=source, ask=ask, counts=counts)
        return
    for film in films:
        yield from _about(study, (film,), name=film.name, source=source, ask=ask, counts=counts)


def _about(
    study: Study,
    films: tuple[Film, ...],
    *,
    name: str,
    source: str,
    ask: StudyQuestions,
    counts: Mapping[str, int],
) -> Iterator[Example]:
    views = ";".join(film.view for film in films if film.view)
    attributes = study.attributes if not views else {**study.attributes, "view": views}

    def example(topic: str, question: str, answer: str, *, options: tuple[str, ...] = (), suffix: str) -> Example:
        return Example(
            id=f"{name}:{suffix}",
            patient=study.patient,
            turns=about_image(question, answer, images=len(films)),
            images=tuple(film.image for film in films),
            options=options,
            topic=topic,
            split=study.split,
            source=source,
            study=study.id,
            attributes=attributes,
            licence=study.licence,
        )

    for part in ask.questions:
        if part == "finding":
            for finding in _asked(study, name=name, ask=ask, counts=counts):
                answer = yes_no(finding in study.present)
                yield example(topic_of(finding), question_about(finding), answer, options=YES_NO, suffix=finding)
        elif text := study.text(part):
            question = INSTRUCTIONS[part][len(films) > 1]
            if study.language:
                question = f"{question} Answer in {study.language}."
            yield example(part, question, text, suffix=part)


def _texts(study: Study, *, source: str, ask: StudyQuestions, counts: Mapping[str, int]) -> Iterator[Example]:
    def example(topic: str, turns: tuple[Turn, ...], *, options: tuple[str, ...] = (), suffix: str) -> Example:
        return Example(
            id=f"{study.id}:{suffix}",
            patient=study.patient,
            turns=turns,
            options=options,
            topic=topic,
            split=study.split,
            source=source,
            study=study.id,
            attributes=study.attributes,
            licence=study.licence,
        )

    report, findings, impression = (study.text(part) for part in ("report", "findings", "impression"))
    for part in ask.questions:
        if part == "report" and report:
            yield example("report", (Turn("document", report),), suffix="report")
        elif part == "impression" and findings and impression:
            question = f"Findings: {findings}\nWhat is the impression?"
            yield example("impression", (Turn("user", question), Turn("assistant", impression)), suffix="impression")
        elif part == "finding" and report:
            for finding in _asked(study, name=study.id, ask=ask, counts=counts):
                turns = (
                    Turn("user", f"{report}\n{question_about(finding)}"),
                    Turn("assistant", yes_no(finding in study.present)),
                )
                yield example(topic_of(finding), turns, options=YES_NO, suffix=finding)


def _asked(study: Study, *, name: str, ask: StudyQuestions, counts: Mapping[str, int]) -> list[str]:
    if ask.findings == "all":
        return list(study.known)
    return balanced(study.present, study.known, counts=counts, chance=f"{ask.seed}:{name}")


def _legible(study: Study, *, ask: StudyQuestions) -> Study:
    if not ask.without:
        return study
    kept = {name: text for name, text in study.sections.items() if not any(mark in text for mark in ask.without)}
    return replace(study, sections=kept)


def _joined(first: Study, other: Study) -> Study:
    if (first.patient, first.split) != (other.patient, other.split):
        raise RecordError(f"study {first.id!r} belongs to {first.patient!r} ({first.split}) and to {other.patient!r}")
    return replace(first, films=(*first.films, *other.films))


def _rank(view: str) -> int:
    return 0 if view in FRONTAL else 1 if view == LATERAL else 2


def _or(ask: StudyQuestions) -> str:
    words = {"report": "findings or impression", "finding": "label"}
    return " and no ".join(words.get(part, part) for part in ask.questions)
