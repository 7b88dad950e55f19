import json
from collections import Counter, defaultdict
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from mmmed.data.card import read_card
from mmmed.data.sources.roco import Roco
from mmmed.data.splits import check_disjoint
from mmmed.errors import DataError
from mmmed.records import Example, Quarantined

NAMES = ("ROCOv2_2023_train_000001", "ROCOv2_2023_train_000002", "ROCOv2_2023_test_000001")
CAPTION = {
    "id": "ROCO_00020",
    "split": "validation",
    "caption": "Axial CT of  the pelvis.",
    "cuis": ["C0040405", "C0030797"],
    "license": "CC BY-NC",
    "pmc_file": "PMC3970251_CRIONM2014.jpg",
}


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """ROCOv2 as published: two figures of one article, one to train on and one to test on, and a third."""
    first, second, third = NAMES
    (tmp_path / "train_captions.csv").write_text(
        f'ID,Caption\n{first},"Chest X-ray, normal."\n{second},Head CT scan.\n'
    )
    (tmp_path / "test_captions.csv").write_text(f"ID,Caption\n{third},Lateral chest film.\n")
    (tmp_path / "train_concepts.csv").write_text(f"ID,CUIs\n{first},C1306645;C0817096\n{second},C0040405\n")
    (tmp_path / "train_concepts_manual.csv").write_text(f"ID,CUIs\n{first},C1306645\n{second},C0040405\n")
    table = f"ID, Attribution, Link\n{first}, CC BY [A et al. (2020)], https://ncbi.nlm.nih.gov/pmc/articles/PMC12/\n"
    table += f"{second}, CC BY-NC [B et al. (2021)], \n"
    table += f"{third}, CC BY [A et al. (2020)], https://ncbi.nlm.nih.gov/pmc/articles/PMC12/\n"
    (tmp_path / "license_information.csv").write_text(table)
    for name in NAMES:
        folder = tmp_path / name.split("_")[2]
        folder.mkdir(exist_ok=True)
        Image.new("L", (4, 4)).save(folder / f"{name}.jpg")
    return tmp_path


def read(root: Path, **settings: Any) -> tuple[list[Example], list[Quarantined]]:
    records = list(Roco(str(root), **settings).records())
    found = [record for record in records if isinstance(record, Example)]
    check_disjoint(found)
    return found, [record for record in records if isinstance(record, Quarantined)]


def test_figures_of_one_article_share_a_split_whatever_their_official_part(root: Path) -> None:
    found, bad = read(root)
    assert [(one.id, one.patient, one.licence, one.attributes["official_split"]) for one in found] == [
        (f"{NAMES[0]}:caption", "PMC12", "CC BY", "train"),
        (f"{NAMES[1]}:caption", "CC BY-NC [B et al. (2021)]", "CC BY-NC", "train"),
        (f"{NAMES[2]}:caption", "PMC12", "CC BY", "test"),
    ]
    assert found[0].split == found[2].split
    assert found[0].turns[0].text == "<image>\nDescribe this medical image."
    assert found[0].reference == "Chest X-ray, normal."
    assert found[0].attributes == {"concepts": "C1306645;C0817096", "modality": "X-ray", "official_split": "train"}
    assert found[0].images[0].open().size == (4, 4)
    assert not bad


def test_without_the_table_of_licences_each_figure_stands_alone(root: Path) -> None:
    (root / "license_information.csv").unlink()
    found, _ = read(root)
    assert [(one.patient, one.licence) for one in found] == [(name, "") for name in NAMES]


def test_missing_figures_and_short_captions_are_set_aside(root: Path) -> None:
    (root / "test" / f"{NAMES[2]}.jpg").unlink()
    with (root / "train_captions.csv").open("a") as file:
        file.write("x,\n")
    _, bad = read(root, fewest_words=4)
    assert [one.reason for one in bad] == [
        "'Caption' is 'Chest X-ray, normal.'; expected 4 words or more",
        "'Caption' is 'Head CT scan.'; expected 4 words or more",
        "'Caption' is empty",
        "'Caption' is 'Lateral chest film.'; expected 4 words or more",
    ]
    _, bad = read(root)
    assert f"image '{NAMES[2]}.jpg' is missing" in bad[-1].reason


def test_captions_alone_are_documents(tmp_path: Path) -> None:
    lines = [CAPTION, CAPTION | {"id": "b", "pmc_file": "x.jpg"}, CAPTION | {"id": "c", "split": "dev"}, CAPTION]
    (tmp_path / "roco_captions.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    (found,), bad = read(tmp_path)
    assert [(turn.speaker, turn.text) for turn in found.turns] == [("document", "Axial CT of the pelvis.")]
    assert (found.patient, found.licence, found.images) == ("PMC3970251", "CC BY-NC", ())
    assert found.attributes == {"concepts": "C0040405;C0030797", "modality": "CT", "official_split": "validation"}
    assert [one.reason for one in bad] == [
        "'pmc_file' is 'x.jpg'; expected the number of an article first",
        "'split' is 'dev' (known: test, train, validation)",
        "the identifier 'ROCO_00020:caption' is used before",
    ]


def test_an_empty_root_says_what_was_expected_and_where_to_get_it(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"expected train_captions\.csv and train/.*card data/roco\.md"):
        read(tmp_path)


@pytest.mark.shared
def test_the_captions_have_the_counts_of_the_card(shared_data: Path) -> None:
    counts = read_card("roco").counts
    found, bad = read(shared_data / "17_roco_captions_text_only")
    assert not bad
    assert len(found) == counts["captions"] == 12487
    assert len({one.patient for one in found}) == counts["articles"]
    assert Counter(one.attributes["official_split"] for one in found) == {
        "validation": counts["official validation"],
        "test": counts["official test"],
    }
    places: dict[str, set[Any]] = defaultdict(set)
    for one in found:
        places[one.patient].add(one.attributes["official_split"])
    assert sum(len(parts) > 1 for parts in places.values()) == counts["articles in two official parts"] == 895
    licences = Counter(one.licence for one in found)
    assert licences == {name: counts[f"captions under {name}"] for name in licences}
    assert sum(licences.values()) == counts["captions"]
