"""How well the finding labeller reads reports, held against what human annotators found in the same reports.

    python benchmarks/finding_labeller.py SHARED_DATA/03_iuxray_reports_text [--half held_out|develop] [--misses FILE]

The annotators gave 3,851 reports of Indiana University MeSH terms, from which NegBio's authors made fourteen findings
(openi_gld_std14.csv; one of them, hernia, is never marked). The reports are cut in two by a hash of their identifier:
the rules were written while looking at the develop half, the other half was only counted. A finding counts as present
where it is stated; one that is left open ("may represent") does not, as it did not for the annotators.
`--misses` writes what was missed and what was found wrongly in the develop half to a file of yours: it quotes reports.
"""

import argparse
import csv
import hashlib
import json
import sys
import tarfile
import time
import xml.etree.ElementTree as ElementTree
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np

from mmmed.evaluation.statistics import patient_weights
from mmmed.processing.findings.labeller import FindingLabeller, Status

FINDINGS = {
    "Atelectasis": "atelectasis",
    "Cardiomegaly": "cardiomegaly",
    "Consolidation": "consolidation",
    "Edema": "edema",
    "Effusion": "effusion",
    "Emphysema": "emphysema",
    "Fibrosis": "fibrosis",
    "Infiltration": "infiltrate",
    "Mass": "mass",
    "Nodule": "nodule",
    "Pleural_Thickening": "pleural thickening",
    "Pneumonia": "pneumonia",
    "Pneumothorax": "pneumothorax",
}
OBSERVATIONS = {
    "Atelectasis": ("Atelectasis",),
    "Cardiomegaly": ("Cardiomegaly",),
    "Consolidation": ("Consolidation",),
    "Edema": ("Edema",),
    "Lung Lesion": ("Mass", "Nodule"),
    "Pleural Effusion": ("Effusion",),
    "Pleural Other": ("Pleural_Thickening",),
    "Pneumonia": ("Pneumonia",),
    "Pneumothorax": ("Pneumothorax",),
}
"""The CheXpert observations of which the annotators' findings are the whole, by those findings."""
RESULTS = Path(__file__).parent / "results" / "finding_labeller.json"


class Report(NamedTuple):
    """One report with its marks."""

    id: str
    text: str
    marks: dict[str, str]


def reports(folder: Path, half: str) -> Iterator[Report]:
    with (folder / "openi_gld_std14.csv").open(encoding="utf-8", newline="") as file:
        marks = {row["filename"]: row for row in csv.DictReader(file)}
    with tarfile.open(folder / "NLMCXR_reports.tgz") as archive:
        for member in archive:
            content = archive.extractfile(member) if member.name.endswith(".xml") else None
            if content is None:
                continue
            root = ElementTree.parse(content).getroot()
            sections = {one.get("Label"): one.text or "" for one in root.iter("AbstractText")}
            identifier = root.find("uId")
            assert identifier is not None
            name = identifier.get("id", "")
            if name in marks and half_of(name) == half:
                text = "\n".join(sections.get(label, "") for label in ("FINDINGS", "IMPRESSION"))
                yield Report(name, text, marks[name])


def half_of(identifier: str) -> str:
    return "develop" if hashlib.sha256(identifier.encode()).digest()[0] % 2 == 0 else "held_out"


def figures(present: np.ndarray, marked: np.ndarray) -> dict[str, float | int]:
    """Precision, recall and F1 of two boolean arrays of the same shape."""
    hits, said, wanted = int((present & marked).sum()), int(present.sum()), int(marked.sum())
    return {
        "marked": wanted,
        "found": said,
        "hits": hits,
        "precision": round(hits / said, 3) if said else float("nan"),
        "recall": round(hits / wanted, 3) if wanted else float("nan"),
        "f1": round(2 * hits / (said + wanted), 3) if said + wanted else float("nan"),
    }


def interval(present: np.ndarray, marked: np.ndarray) -> list[float]:
    """95 % interval of the micro-F1 over resampled reports."""
    tallies = np.stack([(present & marked).sum(1), present.sum(1) + marked.sum(1)], axis=1).astype(float)
    totals = patient_weights(len(tallies), draws=2000, seed=0) @ tallies
    return [round(float(limit), 3) for limit in np.quantile(2 * totals[:, 0] / totals[:, 1], [0.025, 0.975])]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--half", choices=("held_out", "develop"), default="held_out")
    parser.add_argument("--misses", type=Path)
    chosen = parser.parse_args()
    if chosen.misses and chosen.half == "held_out":
        print("the held-out half is only counted; ask for --misses of --half develop", file=sys.stderr)
        return 2
    read = list(reports(chosen.folder, chosen.half))
    labeller = FindingLabeller()
    start = time.perf_counter()
    said = [labeller.findings(one.text) for one in read]
    seconds = time.perf_counter() - start
    observed = [labeller.observations(one.text) for one in read]
    present = np.array([[each[name] == Status.STATED for name in FINDINGS.values()] for each in said])
    marked = np.array([[one.marks[name] == "1" for name in FINDINGS] for one in read])
    seen = np.array([[each[name] == Status.STATED for name in OBSERVATIONS] for each in observed])
    true = np.array(
        [[any(one.marks[each] == "1" for each in whole) for whole in OBSERVATIONS.values()] for one in read]
    )
    normal = np.array([[each["No Finding"] == Status.STATED] for each in observed])
    marked_normal = np.array([[one.marks["normal"] == "1"] for one in read])
    per_finding = {name: figures(present[:, k], marked[:, k]) for k, name in enumerate(FINDINGS)}
    per_observation = {name: figures(seen[:, k], true[:, k]) for k, name in enumerate(OBSERVATIONS)}
    results = {
        "half": chosen.half,
        "reports": len(read),
        "milliseconds_per_report": round(1000 * seconds / len(read), 2),
        "micro": figures(present, marked) | {"f1_interval": interval(present, marked)},
        "macro_f1": round(float(np.nanmean([each["f1"] for each in per_finding.values()])), 3),
        "findings": per_finding,
        "observations_micro": figures(seen, true) | {"f1_interval": interval(seen, true)},
        "observations": per_observation,
        "no_finding_against_normal": figures(normal, marked_normal),
    }
    print(json.dumps(results, indent=1))
    if chosen.misses:
        lines = [
            f"{'missed' if marked[row, k] else 'wrong'} {name} {one.id}: {' '.join(one.text.split())}"
            for k, name in enumerate(FINDINGS)
            for row, one in enumerate(read)
            if marked[row, k] != present[row, k]
        ]
        chosen.misses.write_text("\n".join(lines), encoding="utf-8")
    if chosen.half == "held_out":
        RESULTS.parent.mkdir(exist_ok=True)
        RESULTS.write_text(json.dumps(results, indent=1) + "\n", encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
