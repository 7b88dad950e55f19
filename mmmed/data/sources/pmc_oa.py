"""PMC-OA: subfigures of open articles with their captions (Lin et al., PMC-CLIP, MICCAI 2023)."""

import re
from collections.abc import Iterator
from itertools import chain
from pathlib import Path

from mmmed.data.entries import in_cells, read_json_lines
from mmmed.data.question import about_image
from mmmed.data.splits import DEFAULT_FRACTIONS, Fractions, assign
from mmmed.data.tabular import Row, image_in, no_layout, present, quarantine
from mmmed.errors import RecordError
from mmmed.records import Example, Quarantined

QUESTION = "Describe this medical image."

_PARTS = {"train.jsonl": "train", "valid.jsonl": "validation", "test.jsonl": "test"}
_WHOLE = ("pmc_oa.jsonl", "pmc_oa_beta.jsonl")
_UNPACKED = "caption_T060_filtered_top4_sep_v0_subfigures"
_IMAGE_FOLDERS = (_UNPACKED, f"images/{_UNPACKED}", "images")


class PmcOa:
    """Reads pmc_oa.jsonl (or pmc_oa_beta.jsonl) and the unpacked images.zip of the authors' hub repository.

    The lists train.jsonl, valid.jsonl and test.jsonl are read instead where they are there. Subfigures of one article
    show one patient more often than not: splits go by article, and the list that a figure stands in is kept as the
    attribute `official_split`.

    Args:
        root: Folder with the list or lists.
        seed: Changes which articles fall into which split.
        fractions: Share of the articles in each split.
        fewest_words: Captions of fewer words, such as `(A)` or `CT scan`, are set aside.
    """

    name = "pmc_oa"

    def __init__(
        self,
        root: str,
        *,
        seed: int = 0,
        fractions: Fractions = DEFAULT_FRACTIONS,
        fewest_words: int = 3,
    ) -> None:
        self.root = Path(root)
        self.seed = seed
        self.fractions = fractions
        self.fewest_words = fewest_words

    def prepare(self) -> None:
        """Nothing to make."""

    def records(self) -> Iterator[Example | Quarantined]:
        """Yield the captions in the order of the lists.

        Raises:
            DataError: The lists are missing or lack a field.
        """
        folder = next((name for name in _IMAGE_FOLDERS if (self.root / name).is_dir()), None)
        parts = [name for name in _PARTS if (self.root / name).is_file()]
        lists = parts or [name for name in _WHOLE if (self.root / name).is_file()][:1]
        if folder is None or not lists:
            raise no_layout(self.name, root=self.root, expected=f"{_WHOLE[0]} and {_UNPACKED}/ or images/")
        rows = chain.from_iterable(
            in_cells(read_json_lines(self.root / name, columns=("image", "caption"))) for name in lists
        )
        yield from quarantine(self.name, rows, lambda row: [self._example(row, folder)])

    def _example(self, row: Row, folder: str) -> Example:
        name = row.text("image")
        number = re.match(r"PMC\d+", name)
        if number is None:
            raise RecordError(f"'image' is {name!r}; expected the number of an article first, such as PMC212319_Fig3_4")
        caption = row.line("caption", fewest_words=self.fewest_words)
        return Example(
            id=f"{name}:caption",
            patient=number[0],
            turns=about_image(QUESTION, caption),
            images=(image_in(self.root, f"{folder}/{name}"),),
            topic="caption",
            split=assign(number[0], seed=self.seed, fractions=self.fractions),
            source=self.name,
            attributes=present(
                {
                    "alignment": row.maybe("alignment_type"),
                    "alignment_score": row.maybe("alignment_score"),
                    "official_split": _PARTS.get(row.place.rpartition(":")[0]),
                }
            ),
        )
