"""PneumoniaMNIST: thumbnails of children's chest films, pneumonia or not (Yang et al. 2023; Kermany et al. 2018)."""

from collections.abc import Iterator
from pathlib import Path

from mmmed.data.question import YES_NO, about_image, yes_no
from mmmed.data.tabular import no_layout
from mmmed.errors import DataError
from mmmed.processing.image import ArrayImage, read_array
from mmmed.records import Example, Quarantined, Split

QUESTION = "Does this chest radiograph show pneumonia?"

_ARRAYS: dict[str, Split] = {"train": "train", "val": "validation", "test": "test"}


class PneumoniaMnist:
    """Reads pneumoniamnist.npz with its official splits.

    The file says nothing of patients, so each image counts as a patient of its own and nobody can tell whether
    the official splits share one; intervals computed from it are too narrow.

    Args:
        root: Folder with pneumoniamnist.npz.
    """

    name = "pneumonia_mnist"

    def __init__(self, root: str) -> None:
        self.root = Path(root)

    def prepare(self) -> None:
        """Nothing to make."""

    def records(self) -> Iterator[Example | Quarantined]:
        """Yield the images of the training, validation and test split, in the order of the file.

        Raises:
            DataError: The file is missing, damaged, or its labels do not match its images.
        """
        path = self.root / "pneumoniamnist.npz"
        if not path.is_file():
            raise no_layout(self.name, root=self.root, expected=path.name)
        for array, split in _ARRAYS.items():
            labels = read_array(path, f"{array}_labels").reshape(-1)
            images = read_array(path, f"{array}_images")
            if len(labels) != len(images):
                raise DataError(f"{path} has {len(labels)} {array} labels for {len(images)} images; fetch it again")
            for index, label in enumerate(labels.tolist()):
                yield self._record(path, array=array, index=index, label=label, split=split)

    def _record(self, path: Path, *, array: str, index: int, label: object, split: Split) -> Example | Quarantined:
        identifier = f"{split}-{index}"
        if label not in (0, 1):
            return Quarantined(self.name, identifier, f"label is {label!r}; expected 0 or 1")
        return Example(
            id=identifier,
            patient=identifier,
            turns=about_image(QUESTION, yes_no(label == 1)),
            images=(ArrayImage(path, f"{array}_images", index),),
            options=YES_NO,
            topic="pneumonia",
            split=split,
            source=self.name,
        )
