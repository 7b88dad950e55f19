"""Every folder of the development data is read by a configuration, with as many records as its README says."""

from collections.abc import Callable, Hashable
from pathlib import Path
from typing import NamedTuple

import pytest

from mmmed.cli.data import read_sources
from mmmed.data.card import read_card
from mmmed.data.splits import check_disjoint
from mmmed.records import Example, Quarantined

pytestmark = pytest.mark.shared

CONFIGS = Path(__file__).parents[2] / "configs" / "data"
TOGETHER = "chest"
"""Reads two folders that have configurations of their own."""
OWN = "false_premise"
"""Comes with the project, and reads no folder."""


def example(one: Example) -> Hashable:
    """Counts examples."""
    return one.id


def record(one: Example) -> Hashable:
    """Counts what stands before the last colon of an identifier: the record that several questions are about."""
    return one.id.rpartition(":")[0]


def document(one: Example) -> Hashable:
    """Counts whole documents, of which long ones are cut."""
    return one.id.partition("#")[0]


def picture(one: Example) -> Hashable:
    """Counts the pictures that questions are about."""
    return one.images[0].name


class Count(NamedTuple):
    """What the README of a folder counts, and how many of them a source reads and sets aside."""

    folder: str
    unit: Callable[[Example], Hashable]
    read: int
    set_aside: int = 0
    pictures: int = 0


# README.md and LICENSE.md of the data; what is set aside is listed on the cards.
COUNTS = {
    "covid_chestxray": [Count("01_cxr_notes_covid", picture, 266, pictures=266)],
    "nih_cxr": [Count("02_cxr_nih_labels", picture, 481, pictures=481)],
    "iu_xray": [Count("03_iuxray_reports_text", lambda one: one.study, 3955 - 28, set_aside=28)],
    "vqa_rad": [Count("04_vqa_rad", example, 1762, pictures=244)],
    "slake": [Count("04b_slake_text_only", example, 9835 + 2099 + 2094 - 3254, set_aside=3254)],
    "pocus": [Count("05_pocus_ultrasound", picture, 222 - 2, set_aside=2, pictures=222 - 2)],
    "ham10000": [Count("06_skin_ham10000", picture, 1388, pictures=1388)],
    "pubmedqa": [Count("07_qa_pubmedqa", example, 1000)],
    "medmcqa": [Count("08_qa_mcq", example, 4183 - 21, set_aside=21)],
    "medqa": [Count("08_qa_mcq", example, 1273)],
    "mmlu_medical": [Count("08_qa_mcq", example, 135 + 265 + 144 + 173 + 100)],
    "counterfactual_medqa": [Count("09_bias_counterfactual", example, 2881)],
    "text_corpus": [Count("10_deid", document, number) for number in (854, 250, 1500, 127, 14)],
    "aci_bench": [Count("11_dialogue_notes", example, 67 + 20 + 40)],
    "mts_dialog": [Count("11_dialogue_notes", record, 1201 + 100 + 200 - 3, set_aside=3)],
    "fhir_records": [Count("12_fhir", document, 12)],
    "dicom_folder": [Count("13_dicom", picture, 9 + 6, pictures=9 + 6)],
    "pneumonia_mnist": [Count("14_medmnist_pneumonia", picture, 4708 + 524 + 624, pictures=4708 + 524 + 624)],
    "medec": [Count("15_hallucination_error", record, 574)],
    "medhallu": [Count("15_hallucination_error", record, 1000)],
    "medquad": [Count("16_consumer_health_qa", example, 4000)],
    "roco": [Count("17_roco_captions_text_only", example, 12487)],
}


@pytest.mark.parametrize("name", COUNTS)
def test_a_folder_is_read_with_the_counts_of_its_readme(
    shared_data: Path, name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Configurations name the data as they lie beside a checkout.
    (tmp_path / "shared").mkdir()
    (tmp_path / "shared" / "data").symlink_to(shared_data)
    (tmp_path / "checkout").mkdir()
    monkeypatch.chdir(tmp_path / "checkout")
    sources = read_sources(CONFIGS / f"{name}.yaml")
    assert [source.name for source in sources] == [name] * len(COUNTS[name])
    assert read_card(name).name == name
    for source, count in zip(sources, COUNTS[name], strict=True):
        assert f"/{count.folder}" in str(getattr(source, "root", None) or getattr(source, "path", None))
        records = list(source.records())
        examples = [one for one in records if isinstance(one, Example)]
        check_disjoint(examples)
        assert len({count.unit(one) for one in examples}) == count.read
        assert sum(isinstance(one, Quarantined) for one in records) == count.set_aside
        images = {image.name: image for one in examples for image in one.images}
        assert len(images) == count.pictures
        for image in list(images.values())[:: max(1, len(images) // 3)]:
            assert min(image.open().size) > 0


def test_every_folder_has_a_configuration_and_every_configuration_a_count(shared_data: Path) -> None:
    folders = {path.name for path in shared_data.iterdir() if path.is_dir()}
    assert folders == {count.folder for counts in COUNTS.values() for count in counts}
    assert {path.stem for path in CONFIGS.glob("*.yaml")} - {TOGETHER, OWN} == set(COUNTS)
