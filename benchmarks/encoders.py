"""Which embedded encoder sees more of the real sets, and what a picture costs it.

    python benchmarks/encoders.py [most pictures of a set] [folder of the data sets]

Each encoder's frozen features, averaged over the picture, feed a logistic regression with balanced classes, in five
folds by patient. The encoders take turns on the same batches. It prints the table that docs/weights.md shows.
"""

import platform
import statistics
import sys
import time
from collections.abc import Sequence
from importlib import import_module
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
import yaml
from numpy.typing import NDArray
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import roc_auc_score
from sklearn.model_selection import GroupKFold, cross_val_predict
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from tqdm import tqdm

from mmmed.data.source import Source, decodable, read
from mmmed.data.sources.covid_chestxray import CovidChestXray
from mmmed.data.sources.ham10000 import Ham10000
from mmmed.data.sources.nih_cxr import NihCxr
from mmmed.data.sources.pneumonia_mnist import PneumoniaMnist
from mmmed.data.splits import uniform
from mmmed.evaluation.statistics import patient_weights
from mmmed.models.vision import VisionEncoder
from mmmed.processing.pixels import to_pixels
from mmmed.records import SPLITS, Example

MODELS = ("smollm2_lite0", "smollm2_dinov2")
CONFIGS = Path(__file__).parents[1] / "configs" / "model"
BATCH = 32
DRAWS = 500


class Seen(NamedTuple):
    """Features (pictures, width) and milliseconds per picture of one encoder."""

    features: NDArray[np.float32]
    milliseconds: float


def main() -> None:
    """Print one row for each data set, and the machine."""
    most = int(sys.argv[1]) if len(sys.argv) > 1 else 1000
    encoders = {name: encoder(name) for name in MODELS}
    columns = " | ".join(f"{name.removeprefix('smollm2_')} | ms" for name in MODELS)
    rows = [f"| AUROC (95 % interval) of | n | {columns} |", "| --- " * (2 + 2 * len(MODELS)) + "|"]
    for source, topic in data_sets(Path(sys.argv[2] if len(sys.argv) > 2 else "../shared/data")):
        examples = chosen(source, topic, most)
        seen = look(encoders, examples)
        cells = " | ".join(f"{auroc(one.features, examples)} | {one.milliseconds:.0f}" for one in seen.values())
        rows.append(f"| {source.name}, {topic} | {len(examples)} | {cells} |")
    print("\n".join(rows))
    machine = platform.processor() or platform.machine()
    print(
        f"{machine}, {torch.get_num_threads()} threads, torch {torch.__version__}, Python {platform.python_version()}"
    )


def data_sets(root: Path) -> list[tuple[Source, str]]:
    """The real sets with a yes-or-no question about the whole picture."""
    return [
        (PneumoniaMnist(str(root / "14_medmnist_pneumonia")), "pneumonia"),
        (Ham10000(str(root / "06_skin_ham10000")), "malignant"),
        (NihCxr(str(root / "02_cxr_nih_labels")), "no finding"),
        (CovidChestXray(str(root / "01_cxr_notes_covid")), "finding"),
    ]


def encoder(model: str) -> VisionEncoder:
    """The frozen encoder of a model's configuration."""
    config = yaml.safe_load((CONFIGS / f"{model}.yaml").read_text(encoding="utf-8"))
    described: dict[str, Any] = config["init_args"]["vision"]["init_args"]["encoder"]
    module, _, name = described["class_path"].rpartition(".")
    made: VisionEncoder = getattr(import_module(module), name)(**described["init_args"])
    return made.eval().to(memory_format=torch.channels_last)


def chosen(source: Source, topic: str, most: int) -> list[Example]:
    """Questions of one topic, in a fixed random order of patients."""
    source.prepare()
    asked = [one for split in SPLITS for one in read([source], split).examples if one.topic == topic]
    return decodable(sorted(asked, key=lambda one: uniform(one.patient))[:most]).examples


@torch.inference_mode()
def look(encoders: dict[str, VisionEncoder], examples: Sequence[Example]) -> dict[str, Seen]:
    """Encode all pictures, the encoders in turn on each batch."""
    features: dict[str, list[NDArray[np.float32]]] = {name: [] for name in encoders}
    paces: dict[str, list[float]] = {name: [] for name in encoders}
    for start in tqdm(range(0, len(examples), BATCH), desc=examples[0].source, unit="batch"):
        pictures = [one.images[0].open() for one in examples[start : start + BATCH]]
        for name, one in encoders.items():
            pixels = torch.stack([to_pixels(picture, one.transform) for picture in pictures])
            began = time.perf_counter()
            features[name].append(one(pixels).mean(1).numpy())
            paces[name].append((time.perf_counter() - began) / len(pictures) * 1000)
    return {name: Seen(np.concatenate(features[name]), statistics.median(paces[name])) for name in encoders}


def auroc(features: NDArray[np.float32], examples: Sequence[Example]) -> str:
    """Area under the curve with an interval over resampled patients."""
    truth = np.array([one.reference == "yes" for one in examples])
    patients, of = np.unique([one.patient for one in examples], return_inverse=True)
    probe = make_pipeline(StandardScaler(), LogisticRegression(C=0.01, max_iter=1000, class_weight="balanced"))
    scores = cross_val_predict(probe, features, truth, groups=of, cv=GroupKFold(5), method="predict_proba")[:, 1]
    drawn = [
        roc_auc_score(truth, scores, sample_weight=weights[of])
        for weights in patient_weights(len(patients), draws=DRAWS, seed=0)
    ]
    low, high = np.quantile(drawn, [0.025, 0.975])
    return f"{roc_auc_score(truth, scores):.3f} ({low:.3f} to {high:.3f})"


if __name__ == "__main__":
    main()
