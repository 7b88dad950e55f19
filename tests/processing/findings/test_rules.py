"""Rules are read from files, and a file that does not fit is refused by name."""

from pathlib import Path

import pytest
import yaml

from mmmed.errors import ConfigError
from mmmed.processing.findings.labeller import FindingLabeller, Status
from mmmed.processing.findings.rules import chest_rules, phrases, read_rules

CUES = ("no_cue", "denied_before", "denied_after", "unsure_before", "unsure_after", "past_before", "ends")


@pytest.mark.parametrize(
    ("phrase", "text", "is_found"),
    [
        ("effusion*", "pleural effusions", True),
        ("effusion", "effusions", False),
        ("heart|cardiac .. enlarg*", "heart size is mildly enlarged", True),
        ("heart|cardiac .. enlarg*", "heart, lungs. enlarged", False),
        ("no", "nodule", False),
        ("no", "No nodule", True),
        (", the", "clear, the heart", True),
        (", the", "clear, there", False),
        ("air-space disease", "air-space disease", True),
    ],
)
def test_phrases_match_whole_words_endings_and_gaps(phrase: str, text: str, is_found: bool) -> None:
    assert bool(phrases([phrase]).search(text)) is is_found


def test_no_phrases_match_nothing() -> None:
    assert phrases([]).search("anything") is None


def german(**changes: object) -> dict[str, object]:
    content: dict[str, object] = {
        "findings": [{"name": "erguss", "observation": "Pleural Effusion", "mentions": ["pleuraerg*"]}],
        **{cue: [] for cue in CUES},
        "denied_before": ["kein*"],
    }
    return content | changes


def test_rules_of_ones_own_serve_another_language(tmp_path: Path) -> None:
    path = tmp_path / "german.yaml"
    path.write_text(yaml.safe_dump(german()), encoding="utf-8")
    labeller = FindingLabeller(read_rules(path))
    assert labeller.observations("Kein Pleuraerguss.")["Pleural Effusion"] == Status.DENIED
    assert labeller.observations("Links Pleuraerguss.")["Pleural Effusion"] == Status.STATED


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ({"findings": []}, "expected the keys findings"),
        (german(findings=[{"name": "x", "mention": ["y"]}]), "unknown key 'mention' .did you mean 'mentions'"),
        (german(findings=[{"name": "x"}]), "lacks its name or its mentions"),
        ("{", "finding rules"),
    ],
)
def test_rules_that_do_not_fit_are_refused(tmp_path: Path, content: object, message: str) -> None:
    path = tmp_path / "rules.yaml"
    path.write_text(content if isinstance(content, str) else yaml.safe_dump(content), encoding="utf-8")
    with pytest.raises(ConfigError, match=message):
        read_rules(path)


def test_missing_rules_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="cannot read finding rules"):
        read_rules(tmp_path / "none.yaml")


def test_every_finding_of_the_chest_is_found_by_its_own_name() -> None:
    rules = chest_rules()
    names = {finding.name: finding for finding in rules.findings}
    for name in ("cardiomegaly", "atelectasis", "pneumothorax", "consolidation", "edema", "pneumonia", "nodule"):
        assert names[name].mentions.search(name)
    assert {finding.observation for finding in rules.findings} - {""} <= set(FindingLabeller().observations("x"))
