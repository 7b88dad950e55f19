from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from mmmed.data.sources.fitzpatrick17k import Fitzpatrick17k
from mmmed.errors import DataError
from mmmed.records import Example, Quarantined

HEADER = (
    "md5hash,fitzpatrick_scale,fitzpatrick_centaur,label,nine_partition_label,three_partition_label,qc,url,url_alphanum"
)
ROWS = [
    "aa,5,4,kaposi sarcoma,malignant dermal,malignant,,https://example.org/a.jpg,a.jpg",
    "bb,-1,-1,psoriasis,inflammatory,non-neoplastic,1 Diagnostic,https://example.org/b.jpg,b.jpg",
]


def write(root: Path, *rows: str, folder: str = "images") -> Path:
    (root / "fitzpatrick17k.csv").write_text("\n".join([HEADER, *ROWS, *rows, ""]))
    (root / folder).mkdir(parents=True, exist_ok=True)
    for name in ("aa", "bb", "cc"):
        Image.new("RGB", (4, 4)).save(root / folder / f"{name}.jpg")
    return root


def read(root: Path, **settings: Any) -> tuple[list[Example], list[Quarantined]]:
    records = list(Fitzpatrick17k(str(root), **settings).records())
    found = [record for record in records if isinstance(record, Example)]
    return found, [record for record in records if isinstance(record, Quarantined)]


@pytest.mark.parametrize("folder", ["images", "data/finalfitz17k"])
def test_images_are_asked_about_with_their_skin_type(tmp_path: Path, folder: str) -> None:
    found, bad = read(write(tmp_path, folder=folder), questions=["diagnosis", "category", "malignant"])
    assert [(one.id, one.reference, one.options) for one in found] == [
        ("aa:diagnosis", "kaposi sarcoma", ()),
        ("aa:category", "malignant", ("benign", "malignant", "non-neoplastic")),
        ("aa:malignant", "yes", ("yes", "no")),
        ("bb:diagnosis", "psoriasis", ()),
        ("bb:category", "non-neoplastic", ("benign", "malignant", "non-neoplastic")),
        ("bb:malignant", "no", ("yes", "no")),
    ]
    assert found[0].attributes == {
        "skin_type": "5",
        "skin_type_by_experts_and_crowd": "4",
        "diagnosis": "kaposi sarcoma",
        "category": "malignant",
        "group": "malignant dermal",
    }
    # -1 is no skin type but an unknown one.
    assert not any("skin_type" in name for name in found[3].attributes)
    assert found[0].patient == "aa"
    assert not bad


@pytest.mark.parametrize(
    ("row", "reason"),
    [
        ("cc,1,1,acne,inflammatory,non-neoplastic,3 Wrongly labelled,u,v", "a dermatologist found it"),
        ("cc,7,1,acne,inflammatory,non-neoplastic,,u,v", "'fitzpatrick_scale' is '7'"),
        ("cc,1,1,,inflammatory,non-neoplastic,,u,v", "'label' is empty"),
        ("cc,1,1,acne,inflammatory,neoplastic,,u,v", "'three_partition_label' is 'neoplastic' (did you mean"),
        ("dd,1,1,acne,inflammatory,benign,,u,v", "image 'dd.jpg' is missing"),
        (ROWS[0], "is used before"),
    ],
)
def test_malformed_rows_are_set_aside(tmp_path: Path, row: str, reason: str) -> None:
    _, (bad,) = read(write(tmp_path, row))
    assert (bad.source, bad.record) == ("fitzpatrick17k", "fitzpatrick17k.csv:4")
    assert reason in bad.reason


def test_an_empty_root_says_what_was_expected_and_where_to_get_it(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"expected fitzpatrick17k\.csv and images/; .*card data/fitzpatrick17k\.md"):
        read(tmp_path)
