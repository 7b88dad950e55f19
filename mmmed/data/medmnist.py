"""The data sets of MedMNIST: what their files hold, and what may be asked about it (Yang et al. 2023).

Source: the table `INFO` of the package medmnist 3.0.2; labels in the publishers' order.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, NamedTuple

from mmmed.errors import DataError
from mmmed.processing.image import read_array
from mmmed.records import Split

Task = Literal["multi-class", "binary-class", "ordinal-regression", "multi-label"]

ARRAYS: Mapping[str, Split] = {"train": "train", "val": "validation", "test": "test"}
"""Prefix of the arrays in a file to split."""

_ORGANS = (
    "bladder",
    "left femur",
    "right femur",
    "heart",
    "left kidney",
    "right kidney",
    "liver",
    "left lung",
    "right lung",
    "pancreas",
    "spleen",
)
# The volumes number the same organs in another order.
_ORGANS_3D = (
    "liver",
    "right kidney",
    "left kidney",
    "right femur",
    "left femur",
    "bladder",
    "heart",
    "right lung",
    "left lung",
    "spleen",
    "pancreas",
)


class Labelled(NamedTuple):
    """One image or volume of a file: where it stands, and its labels."""

    array: str
    split: Split
    place: int
    labels: tuple[int, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Flag:
    """One data set of the collection.

    Args:
        task: How its labels are to be read.
        topic: What is asked about.
        question: What is asked; of a multi-label set each label is asked for in its own words.
        labels: In the order of their numbers; of a binary set, those that stand for "no" and "yes".
        positive: Of a binary set, the number that stands for "yes".
        volumes: Whether it holds volumes.
        licence: Terms of use.
    """

    task: Task
    topic: str
    question: str
    labels: tuple[str, ...]
    positive: int = 1
    volumes: bool = False
    licence: str = "CC BY 4.0"


def _organ(plane: str) -> Flag:
    return Flag(
        task="multi-class",
        topic="organ",
        question=f"Which organ is in the middle of this {plane} CT image?",
        labels=_ORGANS,
    )


FLAGS: Mapping[str, Flag] = {
    "pathmnist": Flag(
        task="multi-class",
        topic="tissue",
        question="What kind of tissue does this patch of a colorectal slide show?",
        labels=(
            "adipose",
            "background",
            "debris",
            "lymphocytes",
            "mucus",
            "smooth muscle",
            "normal colon mucosa",
            "cancer-associated stroma",
            "colorectal adenocarcinoma epithelium",
        ),
    ),
    "chestmnist": Flag(
        task="multi-label",
        topic="finding",
        question="",
        labels=(
            "Atelectasis",
            "Cardiomegaly",
            "Effusion",
            "Infiltration",
            "Mass",
            "Nodule",
            "Pneumonia",
            "Pneumothorax",
            "Consolidation",
            "Edema",
            "Emphysema",
            "Fibrosis",
            "Pleural_Thickening",
            "Hernia",
        ),
    ),
    "dermamnist": Flag(
        task="multi-class",
        topic="diagnosis",
        question="What is the diagnosis of this lesion?",
        labels=(
            "actinic keratoses and intraepithelial carcinoma",
            "basal cell carcinoma",
            "benign keratosis-like lesions",
            "dermatofibroma",
            "melanoma",
            "melanocytic nevi",
            "vascular lesions",
        ),
        licence="CC BY-NC 4.0",
    ),
    "octmnist": Flag(
        task="multi-class",
        topic="diagnosis",
        question="What does this optical coherence tomography image of the retina show?",
        labels=("choroidal neovascularization", "diabetic macular edema", "drusen", "normal"),
    ),
    "pneumoniamnist": Flag(
        task="binary-class",
        topic="pneumonia",
        question="Does this chest radiograph show pneumonia?",
        labels=("normal", "pneumonia"),
    ),
    "retinamnist": Flag(
        task="ordinal-regression",
        topic="retinopathy grade",
        question="What is the grade of diabetic retinopathy in this fundus image, from 0 (none) to 4 (proliferative)?",
        labels=("0", "1", "2", "3", "4"),
    ),
    "breastmnist": Flag(
        task="binary-class",
        topic="malignant",
        question="Does this breast ultrasound image show a malignant lesion?",
        labels=("malignant", "normal, benign"),
        positive=0,
    ),
    "bloodmnist": Flag(
        task="multi-class",
        topic="cell",
        question="Which blood cell is this?",
        labels=(
            "basophil",
            "eosinophil",
            "erythroblast",
            "immature granulocyte",
            "lymphocyte",
            "monocyte",
            "neutrophil",
            "platelet",
        ),
    ),
    "tissuemnist": Flag(
        task="multi-class",
        topic="cell",
        question="Which cell of the kidney cortex is this?",
        labels=(
            "collecting duct or connecting tubule",
            "distal convoluted tubule",
            "glomerular endothelial cell",
            "interstitial endothelial cell",
            "leukocyte",
            "podocyte",
            "proximal tubule segment",
            "thick ascending limb",
        ),
    ),
    "organamnist": _organ("axial"),
    "organcmnist": _organ("coronal"),
    "organsmnist": _organ("sagittal"),
    "organmnist3d": Flag(
        task="multi-class",
        topic="organ",
        question="Which organ do these slices of a CT volume show?",
        labels=_ORGANS_3D,
        volumes=True,
    ),
    "nodulemnist3d": Flag(
        task="binary-class",
        topic="malignant",
        question="Is the lung nodule in these CT slices malignant?",
        labels=("benign", "malignant"),
        volumes=True,
    ),
    "adrenalmnist3d": Flag(
        task="binary-class",
        topic="hyperplasia",
        question="Do these slices of the shape of an adrenal gland show hyperplasia?",
        labels=("normal", "hyperplasia"),
        volumes=True,
    ),
    "fracturemnist3d": Flag(
        task="multi-class",
        topic="fracture",
        question="Which kind of rib fracture do these CT slices show?",
        labels=("buckle rib fracture", "nondisplaced rib fracture", "displaced rib fracture"),
        volumes=True,
    ),
    "vesselmnist3d": Flag(
        task="binary-class",
        topic="aneurysm",
        question="Do these slices of the shape of a brain vessel show an aneurysm?",
        labels=("vessel", "aneurysm"),
        volumes=True,
    ),
    "synapsemnist3d": Flag(
        task="binary-class",
        topic="synapse",
        question="Is the synapse in these electron microscopy slices excitatory?",
        labels=("inhibitory synapse", "excitatory synapse"),
        volumes=True,
    ),
}


def labelled(path: Path) -> Iterator[Labelled]:
    """Every image of a file with its labels: training, then validation, then test.

    Raises:
        DataError: The file is damaged, lacks an array, or its labels do not match its images.
    """
    for array, split in ARRAYS.items():
        labels = read_array(path, f"{array}_labels")
        images = read_array(path, f"{array}_images")
        if len(labels) != len(images):
            raise DataError(f"{path} has {len(labels)} {array} labels for {len(images)} images; fetch it again")
        for index, row in enumerate(labels.reshape(len(labels), -1).tolist()):
            yield Labelled(array, split, index, tuple(row))
