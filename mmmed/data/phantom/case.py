"""One phantom film as data: who the patient is, what is really there, and which faults were planted around it.

A `Case` is a pure function of a seed, an index and the planted prevalence, so that nothing needs to be stored.
"""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Literal, get_args

import numpy as np

from mmmed.data.phantom.anatomy import HABITUS, Anatomy, Habitus, Sex, View, sample_anatomy
from mmmed.data.phantom.findings import KINDS, Box, Finding, Kind, boxes, sample_findings
from mmmed.errors import ConfigError, did_you_mean
from mmmed.records import Split

PREVALENCE = 0.45
"""How often each finding is present unless a prevalence is planted; near balance, so that yes and no weigh alike."""

_SECOND_FILM = 0.3
"""How often two neighbouring indices are two films of one patient."""

Scanner = Literal["A", "B"]

_GROUPS: dict[str, tuple[str, ...]] = {
    "sex": get_args(Sex),
    "view": get_args(View),
    "scanner": get_args(Scanner),
    "habitus": HABITUS,
    "age": ("<50", ">=50"),
}
_LEVELS = tuple(f"{attribute}={level}" for attribute, levels in _GROUPS.items() for level in levels)


@dataclass(frozen=True, slots=True, kw_only=True)
class Planted:
    """Faults put into the data on purpose, so that an audit can be shown to find them; none by default.

    A group is written ``"sex=F"``, ``"view=AP"``, ``"scanner=B"``, ``"habitus=large"``, ``"age=<50"`` or
    ``"age=>=50"``; an empty group means everyone.

    Args:
        shortcut: Finding that a lead tag in the lower corner of the film goes with; empty for no tag at all.
        shortcut_strength: In train, P(tag | present) - P(tag | absent), in [0, 1]; in validation and test the tag
            is on half of the films whatever they show.
        label_noise: Probability that a train label is recorded the wrong way round, in [0, 1]; validation and
            test labels stay true, and so do the attributes.
        label_noise_group: The group whose labels are noisy.
        label_noise_finding: The finding whose labels are noisy; empty for all six.
        prevalence: Group → finding → probability of being present, in every split; a later group overrides an
            earlier one. ``{"": {"effusion": 0.1}, "sex=F": {"effusion": 0.8}}``.

    Raises:
        ConfigError: An unknown finding or group, or a probability outside [0, 1].
    """

    shortcut: str = ""
    shortcut_strength: float = 0.0
    label_noise: float = 0.0
    label_noise_group: str = ""
    label_noise_finding: str = ""
    prevalence: Mapping[str, Mapping[str, float]] = field(default_factory=dict, hash=False)

    def __post_init__(self) -> None:
        named = [
            self.shortcut,
            self.label_noise_finding,
            *(kind for table in self.prevalence.values() for kind in table),
        ]
        for kind in filter(None, named):
            if kind not in KINDS:
                raise ConfigError(f"planted: no finding {kind!r}{did_you_mean(kind, KINDS)}")
        for group in filter(None, [self.label_noise_group, *self.prevalence]):
            if group not in _LEVELS:
                raise ConfigError(f"planted: no group {group!r}{did_you_mean(group, _LEVELS)}")
        shares = [self.shortcut_strength, self.label_noise]
        shares += [share for table in self.prevalence.values() for share in table.values()]
        for share in shares:
            if not 0 <= share <= 1:
                raise ConfigError(f"planted: {share} is not a probability; give a number from 0 to 1")

    @property
    def digest(self) -> str:
        """Short name of what was planted into the cases themselves (the prevalence); empty if nothing was."""
        if not self.prevalence:
            return ""
        text = json.dumps([[group, sorted(table.items())] for group, table in self.prevalence.items()])
        return hashlib.sha256(text.encode()).hexdigest()[:10]


NOTHING_PLANTED = Planted()


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """One film with everything that is true of it.

    Args:
        seed: Of the whole data set.
        index: Of the film in the data set.
        patient: Patient identifier; two neighbouring films may share it.
        sex: Of the patient.
        age: In years.
        habitus: Body build.
        view: PA (standing) or AP (supine, larger heart, higher diaphragm).
        scanner: Which machine took the film; B is softer and noisier.
        anatomy: Shape of this body on this film.
        findings: All six potential findings, in the order of `KINDS`.
    """

    seed: int
    index: int
    patient: str
    sex: Sex
    age: int
    habitus: Habitus
    view: View
    scanner: Scanner
    anatomy: Anatomy
    findings: tuple[Finding, ...]

    def finding(self, kind: str) -> Finding:
        """One finding by its name. Raises `ConfigError` for a name that is none of `KINDS`."""
        for finding in self.findings:
            if finding.kind == kind:
                return finding
        raise ConfigError(f"no finding {kind!r}{did_you_mean(kind, KINDS)}")

    def boxes(self, kind: str) -> tuple[Box, ...]:
        """Where a present finding lies on the film, one box per lesion; nothing for an absent one."""
        finding = self.finding(kind)
        return boxes(self.anatomy, finding) if finding.present else ()

    def counterfactual(self, kind: str, *, present: bool) -> "Case":
        """The same body and film with one finding switched on or off."""
        switched = replace(self.finding(kind), present=present)
        return replace(self, findings=tuple(switched if one.kind == kind else one for one in self.findings))

    def belongs_to(self, group: str) -> bool:
        """Whether the patient or film is in a group such as ``"sex=F"``; everyone is in the empty group."""
        if not group:
            return True
        if group.startswith("age="):
            return (self.age >= 50) == (group == "age=>=50")
        attribute, level = group.split("=", 1)
        return bool(getattr(self, attribute) == level)


def _generator(seed: int, number: int, stream: str) -> np.random.Generator:
    """An independent generator for each purpose, so that a draw added to one leaves all others as they were."""
    return np.random.default_rng((seed, number, int.from_bytes(stream.encode(), "big")))


def make_case(seed: int, index: int, planted: Planted = NOTHING_PLANTED) -> Case:
    """Draw film `index` of the data set `seed`: a pure function of its arguments."""
    pair = index // 2
    shared = _generator(seed, pair, "pair").random() < _SECOND_FILM
    number = 2 * pair if shared else index
    patient = _generator(seed, number, "patient")
    film = _generator(seed, index, "film")
    sex: Sex = "F" if patient.random() < 0.5 else "M"
    age = int(np.clip(patient.normal(58, 17), 18, 95))
    habitus = HABITUS[int(patient.choice(3, p=(0.3, 0.4, 0.3)))]
    view: View = "PA" if film.random() < 0.65 else "AP"
    scanner: Scanner = "A" if film.random() < 0.5 else "B"
    anatomy = sample_anatomy(patient, film=film, sex=sex, age=age, habitus=habitus, view=view)
    bare = Case(
        seed=seed,
        index=index,
        patient=f"{seed}:{number}",
        sex=sex,
        age=age,
        habitus=habitus,
        view=view,
        scanner=scanner,
        anatomy=anatomy,
        findings=(),
    )
    prevalence: dict[Kind, float] = dict.fromkeys(KINDS, PREVALENCE)
    for group, table in planted.prevalence.items():
        if bare.belongs_to(group):
            prevalence.update({kind: table[kind] for kind in KINDS if kind in table})
    findings = sample_findings(_generator(seed, index, "findings"), anatomy=anatomy, prevalence=prevalence)
    return replace(bare, findings=findings)


def recorded(case: Case, *, split: Split, planted: Planted = NOTHING_PLANTED) -> tuple[Finding, ...]:
    """The findings as the data set records them: the truth, but for planted label noise in train."""
    if split != "train" or not planted.label_noise or not case.belongs_to(planted.label_noise_group):
        return case.findings
    flips = _generator(case.seed, case.index, "noise").random(len(KINDS)) < planted.label_noise
    return tuple(
        replace(finding, present=not finding.present)
        if flip and planted.label_noise_finding in ("", finding.kind)
        else finding
        for finding, flip in zip(case.findings, flips, strict=True)
    )


def tagged(case: Case, *, split: Split, planted: Planted = NOTHING_PLANTED) -> bool:
    """Whether the film carries the planted lead tag."""
    if not planted.shortcut:
        return False
    lean = planted.shortcut_strength if split == "train" else 0.0
    sign = 1 if case.finding(planted.shortcut).present else -1
    return bool(_generator(case.seed, case.index, "tag").random() < 0.5 * (1 + sign * lean))
