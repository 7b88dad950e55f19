"""PneumoniaMNIST: thumbnails of children's chest films, pneumonia or not (Yang et al. 2023; Kermany et al. 2018)."""

from collections.abc import Iterator
from pathlib import Path

from mmmed.data.medmnist import FLAGS, Labelled, labelled
from mmmed.data.question import YES_NO, about_image, yes_no
from mmmed.data.tabular import no_layout
from mmmed.processing.image import ArrayImage
from mmmed.records import Example, Quarantined

_FLAG = FLAGS["pneumoniamnist"]


class PneumoniaMnist:
    """Reads pneumoniamnist.npz with its official splits; `medmnist.MedMnist` reads the other sets and sizes.

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
        for one in labelled(path):
            yield self._record(path, one)

    def _record(self, path: Path, one: Labelled) -> Example | Quarantined:
        identifier = f"{one.split}-{one.place}"
        if one.labels not in ((0,), (1,)):
            return Quarantined(self.name, identifier, f"label is {one.labels[0]!r}; expected 0 or 1")
        return Example(
            id=identifier,
            patient=identifier,
            turns=about_image(_FLAG.question, yes_no(one.labels == (1,))),
            images=(ArrayImage(path, f"{one.array}_images", one.place),),
            options=YES_NO,
            topic=_FLAG.topic,
            split=one.split,
            source=self.name,
        )
