import hashlib
import logging
import re
from pathlib import Path

import pytest

from mmmed.data.card import Card, cards_folder, parse_card, read_card, show_licence
from mmmed.errors import DataError

FILES = {
    "aci_bench": "11_dialogue_notes/aci_train.csv",
    "counterfactual_medqa": "09_bias_counterfactual/counterfactual_medqa.jsonl",
    "covid_chestxray": "01_cxr_notes_covid/metadata.csv",
    "ham10000": "06_skin_ham10000/metadata.csv",
    "iu_xray": "03_iuxray_reports_text/NLMCXR_reports.tgz",
    "medec": "15_hallucination_error/medec_ms_valid.csv",
    "medhallu": "15_hallucination_error/medhallu_pqa_labeled.jsonl",
    "medmcqa": "08_qa_mcq/medmcqa_dev.jsonl",
    "medqa": "08_qa_mcq/medqa_us_test.jsonl",
    "medquad": "16_consumer_health_qa/medquad_sample.jsonl",
    "mmlu_medical": "08_qa_mcq/mmlu_clinical_knowledge_test.jsonl",
    "mts_dialog": "11_dialogue_notes/mts_train.csv",
    "nih_cxr": "02_cxr_nih_labels/metadata.csv",
    "pneumonia_mnist": "14_medmnist_pneumonia/pneumoniamnist.npz",
    "pocus": "05_pocus_ultrasound/metadata.csv",
    "pubmedqa": "07_qa_pubmedqa/ori_pqal.json",
    "roco": "17_roco_captions_text_only/roco_captions.jsonl",
    "slake": "04b_slake_text_only/train.jsonl",
    "vqa_rad": "04_vqa_rad/vqa_rad.jsonl",
}
NAMES = tuple(FILES)
NOT_COUNTED = ("llava_med", "path_vqa", "pmc_vqa", "preferences", "pubmed_abstracts", "text_corpus", "vqa_med")
TEXT = """---
name: toy
title: Toy set
version: 2
licence: >-
  CC BY
  4.0
forbids: [commercial use, resale]
consent: none needed
deidentified: true
home: https://example.org
obtain: make it
citation: nobody
splits: by patient
counts: {images: 3}
sha256: abc
demographics: []
faults: [it is a toy]
---
# Toy
"""


@pytest.mark.parametrize("name", NAMES)
def test_every_source_has_a_card_of_its_name(name: str) -> None:
    card = read_card(name)
    assert card.name == name
    assert re.fullmatch("[0-9a-f]{64}", card.sha256)
    assert card.licence and card.consent and card.obtain and card.faults and card.counts


@pytest.mark.parametrize("name", NOT_COUNTED)
def test_a_card_of_what_was_not_at_hand_counts_nothing(name: str) -> None:
    card = read_card(name)
    assert card.name == name
    assert not card.counts and not re.fullmatch("[0-9a-f]{64}", card.sha256)
    assert card.licence and card.forbids and card.consent and card.obtain and card.faults


def test_every_source_file_has_a_card_and_every_card_is_in_the_table() -> None:
    folder = cards_folder()
    sources = {path.stem for path in (folder.parent / "mmmed" / "data" / "sources").glob("*.py")} - {"__init__"}
    cards = {path.stem for path in folder.glob("*.md")} - {"README"}
    assert sources == cards
    table = (folder / "README.md").read_text(encoding="utf-8")
    assert [name for name in sorted(cards) if f"[{name}]({name}.md)" not in table] == []


def test_a_card_is_read_with_its_lists_numbers_and_folded_text() -> None:
    card = parse_card(TEXT, place="toy.md")
    assert (card.version, card.licence, card.deidentified) == ("2", "CC BY 4.0", True)
    assert (card.forbids, card.demographics, dict(card.counts)) == (("commercial use", "resale"), (), {"images": 3})


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("consent:", "consents:", r"toy\.md: unknown key 'consents' \(did you mean 'consent'\?\)"),
        ("sha256: abc\n", "", r"toy\.md: missing key\(s\) 'sha256'; add them"),
        ("[it is a toy]", "a toy", "'faults' is 'a toy'; expected a list of texts"),
        ("{images: 3}", "{images: many}", "'counts' is .*; expected whole numbers by name"),
        ("deidentified: true", "deidentified: perhaps", "'deidentified' is 'perhaps'; expected true or false"),
        ("title: Toy set", "title: [Toy]", "'title' is .*; expected text"),
        ("title: Toy set", "title: a: b", r"toy\.md: front matter is no YAML"),
        ("---\nname", "name", r"toy\.md has no front matter"),
    ],
)
def test_a_faulty_card_is_refused_in_one_line(old: str, new: str, message: str) -> None:
    with pytest.raises(DataError, match=message) as caught:
        parse_card(TEXT.replace(old, new, 1), place="toy.md")
    assert "\n" not in str(caught.value)


def test_a_misspelt_name_is_answered_with_a_near_one() -> None:
    with pytest.raises(DataError, match=r"nih_crx\.md \(did you mean 'nih_cxr'\?\)"):
        read_card("nih_crx")


def test_cards_lie_in_the_checkout() -> None:
    assert cards_folder() == Path(__file__).parents[2] / "data"


def test_the_licence_is_logged_once(caplog: pytest.LogCaptureFixture) -> None:
    card: Card = parse_card(TEXT.replace("Toy set", "Toy set shown once"), place="toy.md")
    with caplog.at_level(logging.INFO):
        show_licence(card)
        show_licence(card)
    assert caplog.messages == ["Toy set shown once: CC BY 4.0; forbids commercial use, resale; see https://example.org"]


@pytest.mark.shared
@pytest.mark.parametrize("name", NAMES)
def test_cards_describe_the_file_that_was_counted(shared_data: Path, name: str) -> None:
    assert read_card(name).sha256 == hashlib.sha256((shared_data / FILES[name]).read_bytes()).hexdigest()
