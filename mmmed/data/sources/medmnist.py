"""MedMNIST: eighteen data sets of small images and volumes, all in one layout (Yang et al., Scientific Data 2023)."""

from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Literal

from mmmed.data.findings import Asked, balanced, question_about, topic_of
from mmmed.data.medmnist import FLAGS, Labelled, labelled
from mmmed.data.question import YES_NO, about_image, yes_no
from mmmed.data.tabular import no_layout
from mmmed.errors import ConfigError, RecordError, did_you_mean
from mmmed.processing.findings.labeller import NO_FINDING
from mmmed.processing.image import ArrayImage
from mmmed.processing.volume import volume_slices
from mmmed.records import Example, LazyImage, Quarantined

Size = Literal[28, 64, 128, 224]


class MedMnist:
    """Reads one file of the collection, such as pathmnist.npz or pathmnist_224.npz, with its official splits.

    Sets of several classes are asked for the class, with all classes as options; binary ones with yes and no; ordinal
    ones for the grade; of multi-label ones each label is asked for with yes and no. Volumes are shown as slices.

    The files say nothing of patients, so each image counts as a patient of its own and nobody can tell whether the
    official splits share one.

    Args:
        root: Folder with the file.
        flag: Name of the data set, such as `dermamnist`.
        size: Edge of the images in pixels.
        findings: Of a multi-label set, which labels are asked about.
        slices: Of a set of volumes, how many slices are shown.
        axis: Of a set of volumes, along which axis they are cut.
        seed: Of which absent labels are asked about.

    Raises:
        ConfigError: No data set has this name.
    """

    name = "medmnist"

    def __init__(
        self,
        root: str,
        *,
        flag: str,
        size: Size = 28,
        findings: Asked = "balanced",
        slices: int = 4,
        axis: Literal[0, 1, 2] = 0,
        seed: int = 0,
    ) -> None:
        if flag not in FLAGS:
            raise ConfigError(f"MedMNIST has no data set {flag!r}{did_you_mean(flag, FLAGS)}")
        self.root = Path(root)
        self.flag = flag
        self.size = size
        self.findings = findings
        self.slices = slices
        self.axis = axis
        self.seed = seed

    def prepare(self) -> None:
        """Nothing to make."""

    def records(self) -> Iterator[Example | Quarantined]:
        """Yield the images of the training, validation and test split, in the order of the file.

        Raises:
            DataError: The file is missing, damaged, or its labels do not match its images.
        """
        stem = self.flag if self.size == 28 else f"{self.flag}_{self.size}"
        path = self.root / f"{stem}.npz"
        if not path.is_file():
            raise no_layout(self.name, root=self.root, expected=path.name)
        counts: Counter[str] = Counter()
        if FLAGS[self.flag].task == "multi-label":
            counts.update(finding for one in labelled(path) for finding in self._present(one))
        for one in labelled(path):
            identifier = f"{stem}:{one.split}-{one.place}"
            try:
                yield from self._examples(path, one, identifier=identifier, counts=counts)
            except RecordError as error:
                yield Quarantined(self.name, identifier, str(error))

    def _examples(self, path: Path, one: Labelled, *, identifier: str, counts: Mapping[str, int]) -> Iterator[Example]:
        flag = FLAGS[self.flag]
        images = self._images(path, one)
        if flag.task == "multi-label":
            present, known = self._present(one), (*flag.labels, NO_FINDING)
            _check(one.labels, count=len(flag.labels), highest=1)
            wanted = (
                known
                if self.findings == "all"
                else balanced(present, known, counts=counts, chance=f"{self.seed}:{identifier}")
            )
            for finding in wanted:
                asked = self._example(identifier, one, images, question_about(finding), yes_no(finding in present))
                yield replace(asked, id=f"{identifier}:{finding}", topic=topic_of(finding), options=YES_NO)
            return
        _check(one.labels, count=1, highest=len(flag.labels) - 1)
        (label,) = one.labels
        if flag.task == "binary-class":
            asked = self._example(identifier, one, images, flag.question, yes_no(label == flag.positive))
            yield replace(asked, options=YES_NO)
        else:
            asked = self._example(identifier, one, images, flag.question, flag.labels[label])
            yield replace(asked, options=flag.labels)

    def _example(
        self, identifier: str, one: Labelled, images: tuple[LazyImage, ...], question: str, answer: str
    ) -> Example:
        flag = FLAGS[self.flag]
        return Example(
            id=identifier,
            patient=identifier,
            turns=about_image(question, answer, images=len(images)),
            images=images,
            topic=flag.topic,
            split=one.split,
            source=self.name,
            attributes={"data_set": self.flag, "official_split": one.array},
            licence=flag.licence,
        )

    def _images(self, path: Path, one: Labelled) -> tuple[LazyImage, ...]:
        key = f"{one.array}_images"
        if not FLAGS[self.flag].volumes:
            return (ArrayImage(path, key, one.place),)
        return volume_slices(path, key, count=self.slices, volume=one.place, axis=self.axis)

    def _present(self, one: Labelled) -> tuple[str, ...]:
        labels = FLAGS[self.flag].labels
        found = tuple(label for label, mark in zip(labels, one.labels, strict=False) if mark == 1)
        return found or (NO_FINDING,)


def _check(labels: tuple[int, ...], *, count: int, highest: int) -> None:
    if len(labels) != count or not all(label in range(highest + 1) for label in labels):
        expected = f"0 to {highest}" if highest > 1 else "0 or 1"
        raise RecordError(f"label is {', '.join(map(repr, labels))}; expected {count} of {expected}")
