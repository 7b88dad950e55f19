"""Every figure leads to its items, and nothing is shown of data that may hold identifiers."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from mmmed.records import Example
from mmmed.safety.audit import ITEMS_SHOWN, Suite, audit
from mmmed.safety.card import write_card
from mmmed.safety.check import Subject
from mmmed.safety.counterfactual import DemographicSwap
from mmmed.safety.items import link
from mmmed.safety.subgroups import SubgroupGaps

Judge = Callable[..., Subject]
Films = Callable[..., str]


def suite(task: str) -> Suite:
    checks = [
        SubgroupGaps(task=task, by=["sex"], rate="error", at_most=0.1),
        DemographicSwap(task=task, patients={"sex": ["a man", "a woman"]}, most_flips=0.1, limit=40),
    ]
    return Suite(name="small", version=1, checks=checks)


def doubts_women(example: Example) -> float:
    return 0.3 if "a woman" in example.question or example.attributes["sex"] == "F" else 0.8


def test_a_figure_leads_to_what_it_was_made_from(known_films_task: Films, subject: Judge, tmp_path: Path) -> None:
    described = suite(known_films_task("finding"))
    examined = audit(described, subject(doubts_women))
    page = write_card(tmp_path, described, examined, checkpoint="a/model", command="mmmed audit").read_text()
    for number, one in enumerate(examined):
        for place, measure in enumerate(one.measures):
            assert (link(number, place) in page) == bool(measure.items)
            file, _, anchor = link(number, place).partition("#")
            assert not measure.items or f'id="{anchor}"' in (tmp_path / file).read_text()
    first = (tmp_path / "items" / "01.html").read_text()
    assert first.count('class="item"') == min(ITEMS_SHOWN, len(examined[0].measures[0].items))
    assert "data:image/jpeg;base64," in first
    assert "Held to be right" in first
    swapped = (tmp_path / "items" / "02.html").read_text()
    assert "The patient is a woman." in swapped
    assert "a woman:</span> answered" in swapped
    assert "http" not in swapped.replace("http-equiv", "")


def test_what_may_hold_identifiers_is_withheld(
    known_films_task: Films, subject: Judge, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("mmmed.safety.items.may_be_shown", lambda source: False)
    described = suite(known_films_task("finding"))
    examined = audit(described, subject(doubts_women))
    write_card(tmp_path, described, examined, checkpoint="a/model", command="mmmed audit")
    text = (tmp_path / "items" / "01.html").read_text()
    assert "does not say that identifiers were removed" in text
    assert "data:image/jpeg" not in text
    assert "Is there" not in text


def test_evidence_is_of_the_check_under_way(known_films_task: Films, subject: Judge) -> None:
    gaps, swaps = audit(suite(known_films_task("finding")), subject(doubts_women))
    shown = gaps.evidence.shown
    assert set(shown) == set(gaps.measures[0].items[:ITEMS_SHOWN])
    assert {one.change for each in shown.values() for one in each} == {""}
    changes = {one.change for each in swaps.evidence.shown.values() for one in each}
    assert changes == {"", "nothing said", "a man", "a woman"}
    assert replace(gaps, evidence=swaps.evidence) == gaps, "what was seen is no part of the outcome"
