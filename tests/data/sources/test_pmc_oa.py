import json
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from mmmed.data.sources.pmc_oa import PmcOa
from mmmed.data.splits import check_disjoint
from mmmed.errors import DataError
from mmmed.records import Example, Quarantined

FIGURE = {
    "image": "PMC212319_Fig3_4.jpg",
    "caption": "A. Real time image\nof a granule.",
    "alignment_type": "ocr",
    "alignment_score": 0.9,
}
OTHER = FIGURE | {"image": "PMC212319_Fig3_5.jpg", "caption": "Another granule of it."}


def write(root: Path, figures: list[dict[str, Any]], *, name: str = "pmc_oa.jsonl", folder: str = "images") -> Path:
    (root / name).write_text("".join(json.dumps(figure) + "\n" for figure in figures))
    (root / folder).mkdir(parents=True, exist_ok=True)
    for figure in figures:
        if figure["image"]:
            Image.new("RGB", (4, 4)).save(root / folder / figure["image"])
    return root


def read(root: Path, **settings: Any) -> tuple[list[Example], list[Quarantined]]:
    records = list(PmcOa(str(root), **settings).records())
    found = [record for record in records if isinstance(record, Example)]
    check_disjoint(found)
    return found, [record for record in records if isinstance(record, Quarantined)]


@pytest.mark.parametrize("folder", ["images", "images/caption_T060_filtered_top4_sep_v0_subfigures"])
def test_subfigures_are_asked_for_their_caption(tmp_path: Path, folder: str) -> None:
    found, bad = read(write(tmp_path, [FIGURE, OTHER], folder=folder))
    first, second = found
    assert (first.id, first.patient) == ("PMC212319_Fig3_4.jpg:caption", "PMC212319")
    assert first.reference == "A. Real time image of a granule."
    assert first.attributes == {"alignment": "ocr", "alignment_score": "0.9"}
    assert first.split == second.split
    assert first.images[0].open().size == (4, 4)
    assert not bad


def test_official_lists_are_read_and_kept_as_an_attribute_alone(tmp_path: Path) -> None:
    write(tmp_path, [FIGURE], name="train.jsonl")
    found, _ = read(write(tmp_path, [OTHER], name="test.jsonl"))
    assert [one.attributes["official_split"] for one in found] == ["train", "test"]
    assert found[0].split == found[1].split


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"caption": "(A)"}, "expected 3 words or more"),
        ({"caption": ""}, "'caption' is empty"),
        ({"caption": "an <image> of it"}, "holds '<image>'"),
        ({"image": "Fig1.jpg"}, "expected the number of an article first"),
        ({}, "is used before"),
    ],
)
def test_malformed_figures_are_set_aside(tmp_path: Path, change: dict[str, Any], reason: str) -> None:
    _, (bad,) = read(write(tmp_path, [FIGURE, FIGURE | change]))
    assert (bad.source, bad.record) == ("pmc_oa", "pmc_oa.jsonl:2")
    assert reason in bad.reason


def test_an_empty_root_says_what_was_expected_and_where_to_get_it(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"expected pmc_oa\.jsonl and .*card data/pmc_oa\.md"):
        read(tmp_path)
