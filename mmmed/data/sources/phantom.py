"""Phantom: procedurally rendered chest films whose truth is known, for trying out everything without patient data."""

import contextlib
import multiprocessing
import os
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, get_args

from PIL import Image, UnidentifiedImageError
from tqdm import tqdm

from mmmed.data.phantom.anatomy import SIZE
from mmmed.data.phantom.case import NOTHING_PLANTED, Case, Planted, make_case, recorded, tagged
from mmmed.data.phantom.findings import GRADED, KINDS, SEVERITIES, SIDES, Box, Finding
from mmmed.data.phantom.grammar import (
    ask_checklist,
    ask_findings,
    ask_presence,
    ask_report,
    ask_severity,
    ask_side,
    checklist,
    list_findings,
    report,
)
from mmmed.data.phantom.render import RENDER_VERSION, render
from mmmed.data.question import YES_NO, about_image, yes_no
from mmmed.data.splits import Fractions, assign
from mmmed.errors import ConfigError, ImageError, OutputError, did_you_mean
from mmmed.records import Example, Quarantined, Split, Turn

Question = Literal["report", "findings", "checklist", "finding", "side", "severity"]

_FRACTIONS = Fractions(train=0.7, validation=0.1, test=0.2)
_WORKERS = 2
_WORTH_A_POOL = 64


@dataclass(frozen=True, slots=True)
class PhantomImage:
    """A phantom film that is rendered when opened, or read from the cache.

    Args:
        seed: Of the data set.
        index: Of the film in it.
        planted: Faults planted into the data set; of them the prevalence changes the film.
        tag: Whether the film carries the planted lead tag.
        cache: Folder of rendered films, or none to render anew each time.
    """

    seed: int
    index: int
    planted: Planted = NOTHING_PLANTED
    tag: bool = False
    cache: Path | None = None

    @property
    def name(self) -> str:
        """Identifies the pixels: films of the same name are the same."""
        marks = [self.planted.digest, "tag" if self.tag else ""]
        return ":".join(["phantom", str(self.seed), str(self.index), *filter(None, marks)])

    @property
    def case(self) -> Case:
        """Everything that is true of the film."""
        return make_case(self.seed, self.index, self.planted)

    def boxes(self, topic: str) -> tuple[Box, ...]:
        """Where a finding lies on the film, one box per lesion; nothing for an absent finding or another topic."""
        return self.case.boxes(topic) if topic in KINDS else ()

    @property
    def path(self) -> Path | None:
        """The film's file in the cache; films of another renderer version have other names."""
        if self.cache is None:
            return None
        return self.cache / f"{self.name.replace(':', '-')}.r{RENDER_VERSION}.png"

    def content(self) -> bytes:
        """The name and the version of the renderer, which decide every pixel."""
        return f"{self.name}.r{RENDER_VERSION}".encode()

    def open(self) -> Image.Image:
        """Render or read the film, 256 x 256 of mode "L".

        Raises:
            ImageError: The cached file is damaged.
            OutputError: The cache cannot be written.
        """
        path = self.path
        if path is None:
            return render(self.case, tag=self.tag)
        if not path.is_file():
            film = render(self.case, tag=self.tag)
            _write(film, path)
            return film
        try:
            with Image.open(path) as stored:
                film = stored.convert("L")
        except (OSError, UnidentifiedImageError) as error:
            raise ImageError(f"{path} is no readable PNG; delete it and it is rendered anew") from error
        if film.size != (SIZE, SIZE):
            raise ImageError(f"{path} is {film.size[0]} x {film.size[1]} px, not {SIZE} x {SIZE}; delete it")
        return film


def _write(film: Image.Image, path: Path) -> None:
    """Write a PNG under a name of its own, then move it into place, so that no half film is ever read."""
    unfinished = path.with_name(f"{path.name}.{os.getpid()}.part")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        film.save(unfinished, format="PNG", compress_level=1)
        unfinished.replace(path)
    except OSError as error:
        with contextlib.suppress(OSError):
            unfinished.unlink()
        raise OutputError(f"cannot write {path} ({error.strerror}); give a writable folder as cache") from error


def _fill(image: PhantomImage) -> None:
    """Render one film into the cache."""
    image.open()


class PhantomSource:
    """Renders as many films as asked for and asks about each.

    Per film: one report, a yes/no question for each of the six findings, and for the present ones the patient's
    side and the severity where the finding has them. Questions follow the labels as recorded, which planted label
    noise may have turned; the attributes hold the truth: per finding ``"absent"``, ``"present"`` or its side.

    Args:
        count: Number of films; a larger data set begins with the films of a smaller one.
        seed: Changes all films and which patients fall into which split.
        cache: Folder to keep rendered films in, or none to render whenever a film is opened.
        planted: Faults to plant, none if not given.
        questions: Which kinds of question are asked.
        fractions: Share of the patients in each split.

    Raises:
        ConfigError: Less than one film, or an unknown kind of question.
    """

    name = "phantom"

    def __init__(
        self,
        count: int = 1000,
        *,
        seed: int = 0,
        cache: str | None = None,
        planted: Planted | None = None,
        questions: Sequence[Question] = ("report", "findings", "checklist", "finding", "side", "severity"),
        fractions: Fractions = _FRACTIONS,
    ) -> None:
        if count < 1:
            raise ConfigError(f"phantom: count is {count}; give 1 or more films")
        if seed < 0:
            raise ConfigError(f"phantom: seed is {seed}; give 0 or more")
        for question in questions:
            if question not in get_args(Question):
                raise ConfigError(f"phantom: no question {question!r}{did_you_mean(question, get_args(Question))}")
        self.count = count
        self.seed = seed
        self.cache = Path(cache) if cache is not None else None
        self.planted = planted or NOTHING_PLANTED
        self.questions = tuple(questions)
        self.fractions = fractions

    def prepare(self) -> None:
        """Render the films that the cache does not hold yet, in two processes; nothing without a cache.

        Raises:
            OutputError: The cache cannot be written.
        """
        if self.cache is None:
            return
        images = [self._image(case, split) for case, split in self._cases()]
        missing = [image for image in images if image.path is not None and not image.path.is_file()]
        if not missing:
            return
        workers = min(_WORKERS, os.cpu_count() or 1)
        progress = tqdm(total=len(missing), desc="phantom films", unit="film")
        with progress:
            if workers == 1 or len(missing) < _WORTH_A_POOL:
                for image in missing:
                    _fill(image)
                    progress.update()
                return
            # Spawned, because a fork of a process that already runs threads (torch) may hang.
            with ProcessPoolExecutor(workers, mp_context=multiprocessing.get_context("spawn")) as pool:
                for _ in pool.map(_fill, missing, chunksize=16):
                    progress.update()

    def records(self) -> Iterator[Example | Quarantined]:
        """Yield the questions film by film; nothing is ever set aside."""
        for case, split in self._cases():
            yield from self._examples(case, split)

    def _cases(self) -> Iterator[tuple[Case, Split]]:
        for index in range(self.count):
            case = make_case(self.seed, index, self.planted)
            yield case, assign(case.patient, seed=self.seed, fractions=self.fractions)

    def _image(self, case: Case, split: Split) -> PhantomImage:
        tag = tagged(case, split=split, planted=self.planted)
        return PhantomImage(self.seed, case.index, self.planted, tag, self.cache)

    def _examples(self, case: Case, split: Split) -> Iterator[Example]:
        image = self._image(case, split)
        attributes = _attributes(case)
        if self.planted.shortcut:
            attributes["tag"] = yes_no(image.tag)

        def example(
            ending: str, *, topic: str, question: str, answer: str | Turn, options: tuple[str, ...] = ()
        ) -> Example:
            said = answer if isinstance(answer, Turn) else Turn("assistant", answer)
            return Example(
                id=f"{case.index}/{ending}",
                patient=case.patient,
                turns=(about_image(question, said.text)[0], said),
                images=(image,),
                options=options,
                topic=topic,
                split=split,
                source=self.name,
                study=f"{case.seed}:{case.index}",
                attributes=attributes,
            )

        findings = recorded(case, split=split, planted=self.planted)
        if "report" in self.questions:
            yield example("report", topic="report", question=ask_report(case), answer=report(case, findings))
        if "findings" in self.questions:
            yield example("findings", topic="findings", question=ask_findings(case), answer=list_findings(findings))
        if "checklist" in self.questions:
            form = checklist(case, findings)
            yield example("checklist", topic="checklist", question=ask_checklist(case), answer=form)
        for finding in findings:
            kind = finding.kind
            if "finding" in self.questions:
                question, answer = ask_presence(case, kind), yes_no(finding.present)
                yield example(kind, topic=kind, question=question, answer=answer, options=YES_NO)
            if "side" in self.questions and _has_side(finding):
                question, answer = ask_side(case, kind), str(finding.side)
                yield example(f"{kind}/side", topic="side", question=question, answer=answer, options=SIDES[kind])
            if "severity" in self.questions and finding.present and kind in GRADED:
                question, answer = ask_severity(case, kind), str(finding.severity)
                yield example(
                    f"{kind}/severity", topic="severity", question=question, answer=answer, options=SEVERITIES
                )


def _has_side(finding: Finding) -> bool:
    return finding.present and finding.side is not None


def _attributes(case: Case) -> dict[str, str | float]:
    """The true facts of a film."""
    patient: dict[str, str | float] = {
        "sex": case.sex,
        "age": case.age,
        "view": case.view,
        "scanner": case.scanner,
        "habitus": case.habitus,
    }
    return patient | {finding.kind: finding.truth for finding in case.findings}
