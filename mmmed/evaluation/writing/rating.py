"""Blinded rating by people: forms in which codes stand for the arms, and what raters gave, read back.

`FOLDER/rater_N/` is what a rater gets: a form to open in a browser, which saves a table, and the same table to fill
in by hand. `FOLDER/key.json` says which arm a code stands for, and stays with whoever runs the experiment.
"""

import csv
import io
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from random import Random

import numpy as np

from mmmed.errors import DataError
from mmmed.evaluation.metrics.tally import ratio
from mmmed.evaluation.statistics import Estimate, FloatArray, bootstrap_estimate, patient_weights
from mmmed.evaluation.writing.agreement import alpha_estimate
from mmmed.page.files import replace_text
from mmmed.page.html import write_page

SCALES: Mapping[str, str] = {
    "accuracy": "Everything that is said agrees with the notes.",
    "completeness": "Everything the reader needs is there.",
    "clarity": "The intended reader would understand it.",
    "safety": "Acting on it as it stands would harm nobody.",
}
LEAST, MOST = 1, 5
_COLUMNS = ("code", *SCALES, "comment")


@dataclass(frozen=True, slots=True, kw_only=True)
class Document:
    """What an arm wrote to an order."""

    case: str
    arm: str
    order: str
    text: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Ratings:
    """What raters gave: by scale, how far they agree, and each arm's mean."""

    raters: int
    documents: int
    agreement: Mapping[str, Estimate]
    means: Mapping[str, Mapping[str, Estimate]]


def write_forms(folder: Path, documents: Sequence[Document], *, raters: int, seed: int = 0) -> list[Path]:
    """Write a form for each rater and the key; each rater sees all documents, in an order of their own.

    Forms that are there already are left alone if they are about the same documents, since they may be filled in.

    Returns:
        The folders of the raters.

    Raises:
        DataError: The folder holds forms about other documents.
    """
    chance = Random(f"{seed}")
    codes = chance.sample(range(10_000, 100_000), len(documents))
    key = {f"D{code}": asdict(document) for code, document in zip(codes, documents, strict=True)}
    place = folder / "key.json"
    if place.is_file() and json.loads(place.read_text(encoding="utf-8")) != key:
        raise DataError(f"{folder} holds rating forms about other documents; move it away, or choose another --output")
    folders = []
    for number in range(1, raters + 1):
        own = folder / f"rater_{number}"
        folders.append(own)
        if own.is_dir():
            continue
        order = Random(f"{seed}:{number}").sample(sorted(key), len(key))
        buffer = io.StringIO()
        writer = csv.writer(buffer, lineterminator="\n")
        writer.writerow(_COLUMNS)
        writer.writerows([code, *([""] * (len(_COLUMNS) - 1))] for code in order)
        replace_text(own / "ratings.csv", buffer.getvalue())
        write_page(
            own / "form.html",
            room="mmmed.evaluation.writing",
            template="form.html.j2",
            rater=number,
            documents=[{"code": code, **key[code]} for code in order],
            scales=SCALES,
            steps=list(range(LEAST, MOST + 1)),
        )
    replace_text(place, json.dumps(key, indent=1, ensure_ascii=False) + "\n")
    return folders


def read_ratings(folder: Path, files: Sequence[Path]) -> Ratings:
    """Read the raters' tables back and say how far they agree and what they gave.

    Args:
        folder: Where `write_forms` left the key.
        files: One table of each rater.

    Raises:
        DataError: There is no key, fewer than two tables, or one has an unknown code, a code twice, or a value that is
            no whole number of the scale.
    """
    try:
        key = json.loads((folder / "key.json").read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise DataError(f"no key of rating forms at {folder / 'key.json'}; run the experiment first") from error
    if len(files) < 2:
        raise DataError(f"{len(files)} rating tables; expected two or more, one of each rater")
    tables = [_table(file, key) for file in files]
    codes = sorted(key)
    given = {
        scale: np.array([[table.get(code, {}).get(scale, np.nan) for table in tables] for code in codes])
        for scale in SCALES
    }
    arms = list(dict.fromkeys(key[code]["arm"] for code in codes))
    cases = [key[code]["case"] for code in codes]
    return Ratings(
        raters=len(tables),
        documents=int(sum(np.isfinite(given["accuracy"]).any(axis=1))),
        agreement={scale: alpha_estimate(rated_UR, level="ordinal") for scale, rated_UR in given.items()},
        means={
            arm: {
                scale: _mean(rated_UR, [key[code]["arm"] == arm for code in codes], cases)
                for scale, rated_UR in given.items()
            }
            for arm in sorted(arms)
        },
    )


def _mean(rated_UR: FloatArray, chosen: Sequence[bool], cases: Sequence[str]) -> Estimate:
    """The mean of what was given to the chosen documents, over raters and cases; cases are resampled."""
    sums: dict[str, list[float]] = {}
    for row_R, is_chosen, case in zip(rated_UR, chosen, cases, strict=True):
        told = row_R[np.isfinite(row_R)]
        if is_chosen and len(told):
            sums.setdefault(case, [0.0, 0.0])
            sums[case][0] += float(told.sum())
            sums[case][1] += len(told)
    tallies = np.array(list(sums.values()), dtype=np.float64).reshape(-1, 2)
    return bootstrap_estimate(
        tallies,
        value_of=lambda totals: ratio(totals[..., 0], totals[..., 1]),
        weights=patient_weights(len(tallies), seed=0),
        support=len(tallies),
        bounds=(LEAST, MOST),
    )


def _table(file: Path, key: Mapping[str, object]) -> dict[str, dict[str, float]]:
    """What one rater gave, by code and scale; what was left empty is left out."""
    try:
        rows = list(csv.DictReader(io.StringIO(file.read_text(encoding="utf-8-sig"))))
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"cannot read ratings {file}: {error}; give the table that the form saved") from error
    table: dict[str, dict[str, float]] = {}
    for number, row in enumerate(rows, start=2):
        if missing := [name for name in _COLUMNS if name != "comment" and row.get(name) is None]:
            raise DataError(f"{file}:{number} lacks {missing[0]}; expected the columns {', '.join(_COLUMNS)}")
        code = row["code"].strip()
        if code not in key:
            raise DataError(f"{file}:{number}: no document {code!r} in the key; give a table made from these forms")
        if code in table:
            raise DataError(f"{file}:{number}: document {code!r} is rated twice; keep one line of it")
        table[code] = {}
        for scale in SCALES:
            if said := row[scale].strip():
                if said not in map(str, range(LEAST, MOST + 1)):
                    raise DataError(f"{file}:{number}: {scale} is {said!r}; expected {LEAST} to {MOST}, or nothing")
                table[code][scale] = float(said)
    return table
