"""ROCO: radiology figures of open articles with their captions (Pelka et al. 2018; ROCOv2, Rückert et al. 2024)."""

import re
from collections.abc import Iterator, Mapping
from itertools import chain
from pathlib import Path

from mmmed.data.entries import in_cells, read_json_lines
from mmmed.data.question import about_image
from mmmed.data.splits import DEFAULT_FRACTIONS, Fractions, assign
from mmmed.data.tabular import (
    Row,
    index_images,
    indexed_image,
    no_layout,
    present,
    quarantine,
    read_csv,
)
from mmmed.errors import RecordError
from mmmed.records import Example, Quarantined, Split, Turn

QUESTION = "Describe this medical image."

_PARTS: Mapping[str, Split] = {"train": "train", "valid": "validation", "test": "test"}
_CAPTIONS = "roco_captions.jsonl"
_LICENSES = "license_information.csv"
_MODALITIES = {
    "C0040405": "CT",
    "C1306645": "X-ray",
    "C0024485": "MRI",
    "C0041618": "ultrasound",
    "C0002978": "angiography",
    "C0032743": "PET",
}
_LICENCE = re.compile(r"CC0|CC BY(?:-[A-Z]{2})*", re.IGNORECASE)
_ARTICLE = re.compile(r"PMC\d+")


class Roco:
    """Reads ROCOv2 as published (train_captions.csv with train/, and so on), or the captions alone in JSON lines.

    Figures of one article show one patient more often than not, and articles have figures in several official parts:
    splits go by article, and the official part is kept as the attribute `official_split`. The article and the licence
    of a figure stand in license_information.csv; without that table, each figure counts as an article of its own.

    Captions without images (roco_captions.jsonl) become documents, to model the language of.

    Args:
        root: Folder with the tables.
        seed: Changes which articles fall into which split.
        fractions: Share of the articles in each split.
        fewest_words: Captions of fewer words, such as `CT image` or `Figure 2`, are set aside.
    """

    name = "roco"

    def __init__(
        self, root: str, *, seed: int = 0, fractions: Fractions = DEFAULT_FRACTIONS, fewest_words: int = 1
    ) -> None:
        self.root = Path(root)
        self.seed = seed
        self.fractions = fractions
        self.fewest_words = fewest_words

    def prepare(self) -> None:
        """Nothing to make."""

    def records(self) -> Iterator[Example | Quarantined]:
        """Yield the captions in the order of the tables: train, valid, test.

        Raises:
            DataError: The tables are missing or lack a column.
        """
        parts = [part for part in _PARTS if (self.root / f"{part}_captions.csv").is_file()]
        captions = self.root / _CAPTIONS
        if parts:
            yield from self._figures(parts)
        elif captions.is_file():
            rows = in_cells(read_json_lines(captions, columns=("id", "split", "caption", "license", "pmc_file")))
            yield from quarantine(self.name, rows, lambda row: [self._document(row)])
        else:
            raise no_layout(self.name, root=self.root, expected=f"train_captions.csv and train/, or {_CAPTIONS}")

    def _figures(self, parts: list[str]) -> Iterator[Example | Quarantined]:
        folders = [self.root / name for part in parts for name in (part, f"{part}_images", f"{part}_images/{part}")]
        images = index_images(folder for folder in folders if folder.is_dir())
        licences = self._licences()
        yield from chain.from_iterable(self._part(part, images, licences) for part in parts)

    def _part(
        self, part: str, images: Mapping[str, Path], licences: Mapping[str, str]
    ) -> Iterator[Example | Quarantined]:
        concepts = self._concepts(part)
        rows = read_csv(self.root / f"{part}_captions.csv", columns=("ID", "Caption"))
        yield from quarantine(self.name, rows, lambda row: [self._figure(row, part, images, licences, concepts)])

    def _licences(self) -> Mapping[str, str]:
        """What is written of the article of each figure, all on one line."""
        file = self.root / _LICENSES
        if not file.is_file():
            return {}
        return {
            row.maybe("ID"): " ".join(text for column, text in row.cells.items() if column != "ID" and text)
            for row in read_csv(file, columns=("ID",))
        }

    def _concepts(self, part: str) -> Mapping[str, str]:
        """The concepts of each figure, found by machine and by hand."""
        found: dict[str, str] = {}
        for name in (f"{part}_concepts.csv", f"{part}_concepts_manual.csv"):
            if (self.root / name).is_file():
                for row in read_csv(self.root / name, columns=("ID", "CUIs")):
                    found[row.maybe("ID")] = f"{found.get(row.maybe('ID'), '')};{row.maybe('CUIs')}".strip(";")
        return found

    def _figure(
        self, row: Row, part: str, images: Mapping[str, Path], licences: Mapping[str, str], concepts: Mapping[str, str]
    ) -> Example:
        name = row.text("ID")
        source = licences.get(name, "")
        number, licence = _ARTICLE.search(source), _LICENCE.search(source)
        # Two figures with the same line of attribution are of the same article, whether or not it is numbered.
        article = number[0] if number else source or name
        return Example(
            id=f"{name}:caption",
            patient=article,
            turns=about_image(QUESTION, row.line("Caption", fewest_words=self.fewest_words)),
            images=(indexed_image(images, f"{name}.jpg"),),
            topic="caption",
            split=assign(article, seed=self.seed, fractions=self.fractions),
            source=self.name,
            attributes=_attributes(concepts.get(name, ""), part=_PARTS[part]),
            licence=licence[0] if licence else "",
        )

    def _document(self, row: Row) -> Example:
        number = _ARTICLE.match(row.text("pmc_file"))
        if number is None:
            raise RecordError(f"'pmc_file' is {row.text('pmc_file')!r}; expected the number of an article first")
        return Example(
            id=f"{row.text('id')}:caption",
            patient=number[0],
            turns=(Turn("document", row.line("caption", fewest_words=self.fewest_words)),),
            topic="caption",
            split=assign(number[0], seed=self.seed, fractions=self.fractions),
            source=self.name,
            attributes=_attributes(row.maybe("cuis"), part=row.one_of("split", _PARTS.values())),
            licence=row.text("license"),
        )


def _attributes(concepts: str, *, part: str) -> dict[str, str | float]:
    codes = re.findall(r"C\d{7}", concepts)
    modalities = dict.fromkeys(_MODALITIES[code] for code in codes if code in _MODALITIES)
    modality = next(iter(modalities)) if len(modalities) == 1 else ""
    return present({"concepts": ";".join(dict.fromkeys(codes)), "modality": modality, "official_split": part})
