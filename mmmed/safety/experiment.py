"""Models of their own under the same suites of checks: what each figure is for each of them, side by side."""

import json
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from mmmed.errors import ConfigError
from mmmed.evaluation.model_arms import ModelArm, opened, read_arms, read_keys, train
from mmmed.evaluation.trained import Fit
from mmmed.page.files import replace_text
from mmmed.page.html import write_page
from mmmed.page.wording import NOTHING
from mmmed.safety.audit import Examined, Suite, audit, load_suite, plain, verdict_of_all
from mmmed.safety.card import write_card
from mmmed.safety.check import Subject
from mmmed.safety.measure import Measure

KIND = "bias"


@dataclass(frozen=True, slots=True, kw_only=True)
class BiasExperiment:
    """What an experiment.yaml of bias says.

    Args:
        name: Short name.
        question: What is to be answered.
        arms: The models.
        suites: Files of checks that every model goes through, unless `only` says otherwise.
        only: By suite file, the arms that go through it, such as those that see.
    """

    name: str
    question: str
    arms: Mapping[str, ModelArm]
    suites: tuple[str, ...]
    only: Mapping[str, tuple[str, ...]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Audited:
    """One model under one suite."""

    arm: str
    suite: Suite
    examined: tuple[Examined, ...]
    card: str


_KEYS = {"name": True, "question": True, "arms": True, "suites": True, "only": False}


def read_bias(path: Path) -> BiasExperiment:
    """Read an experiment of bias. Raises `ConfigError`."""
    place = f"experiment {path}"
    content = read_keys(path, kind=KIND, known=_KEYS)
    arms, suites, only = read_arms(content["arms"], place=place), content["suites"], content.get("only") or {}
    if not isinstance(suites, list) or not all(isinstance(one, str) for one in suites):
        raise ConfigError(f"{place}: suites is {suites!r}; expected a list of suite files")
    if lost := [one for one in suites if not Path(one).is_file()]:
        raise ConfigError(f"{place}: no file {lost[0]}; run from the folder that its paths start in")
    if not isinstance(only, dict) or not all(isinstance(one, list) and set(one) <= set(arms) for one in only.values()):
        raise ConfigError(f"{place}: only is {only!r}; expected lists of arms by suite file")
    if unknown := [one for one in only if one not in suites]:
        raise ConfigError(f"{place}: only names {unknown[0]!r}, which is none of the suites")
    return BiasExperiment(
        name=str(content["name"]),
        question=str(content["question"]),
        arms=arms,
        suites=tuple(suites),
        only={suite: tuple(named) for suite, named in only.items()},
    )


def run_bias(
    experiment: BiasExperiment, output: Path, *, fit: Fit, tell: Callable[[str], object] = lambda line: None
) -> list[Audited]:
    """Train what is not trained, and put every arm through every suite; what was answered is not asked again.

    Args:
        experiment: What to run.
        output: Folder of the results, with a safety card for each arm and suite.
        fit: Runs one training configuration, given the command line of `mmmed fit`.
        tell: Given a line when a check is done.
    """
    done: list[Audited] = []
    folders: dict[str, Path] = {}
    for name, arm in experiment.arms.items():
        if arm.is_trained:
            start = folders.get(arm.after) if arm.after is not None else None
            folders[name] = train(arm, output / name, fit=fit, start=start)
    for name, arm in experiment.arms.items():
        answerer, identity = opened(arm, folders.get(name))
        for file in experiment.suites:
            if name in experiment.only.get(file, experiment.arms):
                tell(f"{name}, {file}")
                done.append(_audited(name, answerer, identity, load_suite(file), output / name, tell=tell))
    write_results(output / "results.json", done)
    return done


def _audited(
    arm: str, answerer: object, identity: str, suite: Suite, folder: Path, *, tell: Callable[[str], object]
) -> Audited:
    subject = Subject(session=answerer, identity=identity, output=folder / "answers")  # type: ignore[arg-type]
    examined = audit(suite, subject, tell=tell)
    cards = folder / f"card_{suite.name}"
    card = write_card(cards, suite, examined, checkpoint=arm, command="mmmed experiment run")
    return Audited(arm=arm, suite=suite, examined=tuple(examined), card=str(card.relative_to(folder.parent)))


def write_results(path: Path, audited: Sequence[Audited]) -> None:
    """Keep every figure of every arm, without the names of items; what is not a number becomes null."""
    content = [
        {
            "arm": one.arm,
            "suite": one.suite.name,
            "version": one.suite.version,
            "verdict": verdict_of_all(one.examined),
            "not_tested": one.suite.not_tested,
            "checks": [
                {
                    "title": check.title,
                    "verdict": check.verdict,
                    "missing": check.missing,
                    "measures": [
                        {name: value for name, value in plain(measure).items() if name != "items"}
                        for measure in check.measures
                    ],
                }
                for check in one.examined
            ],
        }
        for one in audited
    ]
    replace_text(path, json.dumps(content, indent=1, ensure_ascii=False, allow_nan=False) + "\n")


@dataclass(frozen=True, slots=True, kw_only=True)
class Compared:
    """One figure of a check, for each of the arms; none where an arm has none."""

    check: str
    name: str
    measures: tuple[Measure | None, ...]


def compared(audited: Sequence[Audited]) -> list[Compared]:
    """All figures, in the order in which they were met, each with that of every arm."""
    arms = list(dict.fromkeys(one.arm for one in audited))
    found: dict[tuple[str, str], dict[str, Measure]] = {}
    for one in audited:
        for check in one.examined:
            for measure in check.measures:
                found.setdefault((check.title, measure.name), {})[one.arm] = measure
    return [
        Compared(check=check, name=name, measures=tuple(by_arm.get(arm) for arm in arms))
        for (check, name), by_arm in found.items()
    ]


def publish_bias(experiment: BiasExperiment, audited: Sequence[Audited], output: Path, *, command: str) -> Path:
    """Write `report.html`: each figure of each arm, with the cards behind them. Raises `OutputError`."""
    page = output / "report.html"
    by_suite: dict[str, list[Audited]] = {}
    for one in audited:
        by_suite.setdefault(one.suite.name, []).append(one)
    write_page(
        page,
        room="mmmed.safety",
        template="bias.html.j2",
        experiment=experiment,
        suites=[(name, of_suite, compared(of_suite)) for name, of_suite in by_suite.items()],
        command=command,
        shown=shown,
    )
    return page


def shown(measure: Measure | None) -> str:
    """A figure with its interval in a cell of the table; a dash where there is none."""
    if measure is None or not math.isfinite(measure.value):
        return NOTHING
    if not math.isfinite(measure.low):
        return f"{measure.value:.3f}"
    return f"{measure.value:.3f} ({measure.low:.3f} to {measure.high:.3f})"


def summary_of_bias(audited: Sequence[Audited], page: Path) -> list[str]:
    """What the command prints at its end."""
    lines = [f"{one.arm}, {one.suite.name}: {verdict_of_all(one.examined)}" for one in audited]
    return [*lines, f"report      {page}", f"results     {page.parent / 'results.json'}"]
