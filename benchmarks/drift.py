"""How often monitoring raises a false alarm, and after how many studies it finds a planted shift.

    python benchmarks/drift.py [null runs] [runs of each shift] [folder of the data sets] [folder for features] [shifts]

Studies are phantom films as the default encoder sees them. The model that answers is a logistic regression for each
finding, trained on other films; the signed reports say what is really there. Every run draws its studies anew, without
replacement, from the same pools. Rows go to results/drift.json, in the place of those of the same shift; features are
kept, so that a second run costs less. `shifts` is a word: only those are run in whose name it is.
"""

import json
import os
import sys
from collections.abc import Callable, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from statistics import median
from typing import Any, NamedTuple

import numpy as np
import torch
from encoders import encoder
from measuring import RESULTS
from measuring import read as read_rows
from PIL import Image, ImageEnhance
from scipy.stats import binom, binomtest
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from tqdm import tqdm

from mmmed.data.phantom.case import Case, Planted, make_case
from mmmed.data.phantom.findings import KINDS
from mmmed.data.phantom.render import render
from mmmed.data.source import read
from mmmed.data.sources.pocus import Pocus
from mmmed.processing.pixels import to_pixels
from mmmed.records import SPLITS
from mmmed.serving.monitoring.embedding import sketch
from mmmed.serving.monitoring.pixels import pixel_statistics
from mmmed.serving.monitoring.record import Signed, Study
from mmmed.serving.monitoring.watch import ALPHA, Watched, watch

AT_ONCE = 32
TRAINING, USUAL, SHIFTED = 300, 700, 100
REFERENCE, BEFORE, AFTER = 200, 100, 100
NEW_MIX = {"": {"effusion": 0.85, "cardiomegaly": 0.85, "opacity": 0.1, "nodule": 0.1}}
MORE = {"": {"effusion": 0.65}}
BEGUN = datetime(2026, 1, 1, tzinfo=UTC)


Maker = Callable[[], Sequence[tuple[Image.Image, dict[str, Any]]]]


class Pool(NamedTuple):
    """Films of one kind as they are logged, all in the same order."""

    features_NW: np.ndarray
    pixels: list[dict[str, float]]
    about: list[dict[str, Any]]


def main() -> None:
    """Make the pools, run, write the rows."""
    nulls = int(sys.argv[1]) if len(sys.argv) > 1 else 200
    runs = int(sys.argv[2]) if len(sys.argv) > 2 else 20
    root = Path(sys.argv[3] if len(sys.argv) > 3 else "../shared/data")
    kept = Path(sys.argv[4] if len(sys.argv) > 4 else "outputs/drift")
    torch.set_num_threads(1)
    word = sys.argv[5] if len(sys.argv) > 5 else ""
    training = pool(kept, "training", lambda: films(seed=11, count=TRAINING))
    usual = pool(kept, "usual", lambda: films(seed=12, count=USUAL))
    makers: dict[str, tuple[str, Maker]] = {
        "scanner: contrast 0.6 of what it was": ("contrast", lambda: films(seed=13, contrast=0.6)),
        "weak: contrast 0.9 of what it was": ("contrast09", lambda: films(seed=15, contrast=0.9)),
        "other disease mix": ("mix", lambda: films(seed=14, planted=Planted(prevalence=NEW_MIX))),
        "weak: effusion on 0.65 of films, not 0.45": (
            "effusion",
            lambda: films(seed=16, planted=Planted(prevalence=MORE)),
        ),
        "other body part: ultrasound": ("ultrasound", lambda: ultrasound(root)),
    }
    shifts = {name: pool(kept, *maker) for name, maker in makers.items() if word in name}
    model = Model(training)
    log = {name: model.studies(one, name) for name, one in {"usual": usual, **shifts}.items()}
    for name in shifts:
        write(delays(name, log["usual"], log[name], runs))
    if nulls:
        write(false_alarms(log["usual"], nulls))


def films(
    *, seed: int, count: int = SHIFTED, planted: Planted | None = None, contrast: float = 1.0
) -> list[tuple[Image.Image, dict[str, Any]]]:
    """Phantom films with what is true of them; the contrast is that of a machine that was set otherwise."""
    cases = [make_case(seed, index, planted or Planted()) for index in range(count)]
    pictures = (render(case, tag=False) for case in tqdm(cases, desc="films", mininterval=5))
    return [
        (ImageEnhance.Contrast(one).enhance(contrast), truth(case)) for one, case in zip(pictures, cases, strict=True)
    ]


def truth(case: Case) -> dict[str, Any]:
    """View, machine, sex and findings."""
    findings = {one.kind: one.present for one in case.findings}
    return {"view": case.view, "scanner": case.scanner, "sex": case.sex, "findings": findings}


def ultrasound(root: Path) -> list[tuple[Image.Image, dict[str, Any]]]:
    """Real pictures of another kind; none of the findings asked about can be seen on them."""
    source = Pocus(str(root / "05_pocus_ultrasound"))
    source.prepare()
    images = {one.images[0].name: one.images[0] for split in SPLITS for one in read([source], split).examples}
    about = {"view": "", "scanner": "", "sex": "", "findings": dict.fromkeys(KINDS, False)}
    return [(image.open().convert("L"), about) for image in list(images.values())[:SHIFTED]]


def pool(kept: Path, name: str, make: Maker) -> Pool:
    """Films as the encoder and the statistics of pixels see them; read back where they were kept."""
    path = kept / f"{name}.npz"
    if not path.is_file():
        both = make()
        features = encoded([picture for picture, _ in both], name)
        lines = json.dumps([[pixel_statistics(picture), about] for picture, about in both])
        kept.mkdir(parents=True, exist_ok=True)
        partial = kept / f"{name}.{os.getpid()}.npz"
        np.savez(partial, features=features, lines=np.array(lines))
        partial.replace(path)
    with np.load(path) as file:
        lines = json.loads(str(file["lines"]))
        return Pool(file["features"], [one for one, _ in lines], [one for _, one in lines])


@torch.inference_mode()
def encoded(pictures: Sequence[Image.Image], name: str) -> np.ndarray:
    """Mean features of the default encoder (N, W)."""
    eye = encoder("smollm2_lite0")
    found = []
    for start in tqdm(range(0, len(pictures), AT_ONCE), desc=name, mininterval=5):
        pixels = torch.stack([to_pixels(one, eye.transform) for one in pictures[start : start + AT_ONCE]])
        found.append(eye(pixels).mean(1).numpy())
    return np.concatenate(found)


class Model:
    """Answers about the six findings from frozen features."""

    def __init__(self, training: Pool) -> None:
        self.probes = {}
        for kind in KINDS:
            present = [one["findings"][kind] for one in training.about]
            probe = make_pipeline(StandardScaler(), LogisticRegression(C=0.01, max_iter=1000))
            self.probes[kind] = probe.fit(training.features_NW, present)

    def studies(self, films: Pool, name: str) -> list[tuple[Study, Signed]]:
        """What a log would hold of films, and what a reader would sign."""
        chances = {kind: probe.predict_proba(films.features_NW)[:, 1] for kind, probe in self.probes.items()}
        logged = []
        for number, (features_W, pixels, about) in enumerate(
            zip(films.features_NW, films.pixels, films.about, strict=True)
        ):
            said = {kind: float(chances[kind][number]) for kind in KINDS}
            code = f"{name.partition(':')[0].replace(' ', '-')}-{number}"
            study = Study(
                study=code,
                time=BEGUN.isoformat(),
                model="probe",
                embedding=sketch(features_W),
                pixels=pixels,
                view=about["view"],
                scanner=about["scanner"],
                findings={kind: "stated" if chance > 0.5 else "denied" for kind, chance in said.items()},
                confidence=float(np.mean([max(chance, 1 - chance) for chance in said.values()])),
            )
            signed = Signed(
                study=code,
                time=BEGUN.isoformat(),
                findings={kind: "stated" if there else "denied" for kind, there in about["findings"].items()},
                groups={"sex": about["sex"]} if about["sex"] else {},
            )
            logged.append((study, signed))
        return logged


def watched(drawn: Sequence[tuple[Study, Signed]]) -> Watched:
    """Monitor studies in the order drawn, a minute apart; the first are the reference, and all are signed at once."""
    times = [(BEGUN + timedelta(minutes=number)).isoformat() for number in range(len(drawn))]
    studies = [changed(study, time) for (study, _), time in zip(drawn, times, strict=True)]
    signed = [changed(one, time) for (_, one), time in zip(drawn, times, strict=True)]
    return watch(studies[:REFERENCE], studies[REFERENCE:], signed=signed)


def changed(record: Any, time: str) -> Any:
    """The same at another time."""
    return type(record)(**{name: getattr(record, name) for name in type(record).__dataclass_fields__} | {"time": time})


def false_alarms(usual: Sequence[tuple[Study, Signed]], runs: int) -> dict[str, Any]:
    """Runs without a shift, and how many raised any alarm at any time."""
    found = []
    for run in tqdm(range(runs), desc="no shift", mininterval=20):
        order = np.random.default_rng((1, run)).permutation(len(usual))[: REFERENCE + BEFORE + AFTER]
        found.append([one.name for one in watched([usual[place] for place in order]).alarms])
    alarms = sum(map(bool, found))
    interval = binomtest(alarms, runs).proportion_ci(method="exact")
    return {
        "shift": "none",
        "runs": runs,
        "studies": {"reference": REFERENCE, "monitored": BEFORE + AFTER},
        "alpha": ALPHA,
        "alarms": alarms,
        "share": alarms / runs,
        "interval_95": [interval.low, interval.high],
        "at_most_if_alpha_holds_95": int(binom.ppf(0.95, runs, ALPHA)),
        "alarms_in_each_twenty": [sum(map(bool, found[start : start + 20])) for start in range(0, runs - 19, 20)],
        "groups": {name: sum(name in one for one in found) for name in sorted({name for one in found for name in one})},
    }


def delays(
    name: str, usual: Sequence[tuple[Study, Signed]], shifted: Sequence[tuple[Study, Signed]], runs: int
) -> dict[str, Any]:
    """Runs whose studies change after a while, and how many changed studies it took until an alarm."""
    first: list[int] = []
    by_group: dict[str, list[int]] = {}
    early = 0
    for run in tqdm(range(runs), desc=name, mininterval=20):
        generator = np.random.default_rng((2, run))
        order = generator.permutation(len(usual))[: REFERENCE + BEFORE]
        after = generator.permutation(len(shifted))[:AFTER]
        found = watched([usual[place] for place in order] + [shifted[place] for place in after])
        taken = {group.name: (found.studies_until(group) or 0) - BEFORE for group in found.alarms}
        early += any(number <= 0 for number in taken.values())
        late = {group: number for group, number in taken.items() if number > 0}
        for group, number in late.items():
            by_group.setdefault(group, []).append(number)
        if late:
            first.append(min(late.values()))
    return {
        "shift": name,
        "runs": runs,
        "studies": {"reference": REFERENCE, "before": BEFORE, "after": min(AFTER, len(shifted))},
        "found": len(first),
        "false_before_the_shift": early,
        "delay_studies": spread(first),
        "delay_by_group": {group: {"runs": len(each), **spread(each)} for group, each in sorted(by_group.items())},
    }


def spread(delays: Sequence[int]) -> dict[str, float]:
    """Median and range; nothing without any."""
    return {"median": median(delays), "least": min(delays), "most": max(delays)} if delays else {}


def write(row: dict[str, Any]) -> None:
    """Print a row and keep it in the place of that of the same shift, whole or not at all."""
    print(json.dumps(row, indent=1), flush=True)
    path = RESULTS / "drift.json"
    rows = {one["shift"]: one for one in read_rows(path)} | {row["shift"]: row}
    partial = path.with_suffix(f".{os.getpid()}.part")
    partial.write_text(json.dumps(list(rows.values()), indent=1) + "\n", encoding="utf-8")
    partial.replace(path)


if __name__ == "__main__":
    main()
