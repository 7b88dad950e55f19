"""The item browser holds every item once, within a limit, and nothing that may not be shown."""

from __future__ import annotations

import base64
import hashlib
import json
import re
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from mmmed.evaluation.browser import LONGEST_TEXT, Item, Thumbnails, browser, state
from mmmed.evaluation.predictions import Prediction
from mmmed.evaluation.report import render
from mmmed.evaluation.report_data import ReportData

ATTACK = "</script><script>alert('x')</script>"


@dataclass(frozen=True)
class Noise:
    seed: int

    @property
    def name(self) -> str:
        return f"noise{self.seed}"

    def open(self) -> Image.Image:
        return Image.fromarray(np.random.default_rng(self.seed).integers(0, 256, (300, 300), dtype=np.uint8))


def said(number: int, answer: str = "yes", *, arm: str = "vlm", source: str = "phantom", **more: Any) -> Prediction:
    facts = {"sex": "FM"[number % 2], "accession": f"a{number}"}
    return Prediction(
        arm=arm,
        task="t",
        id=f"{source}:{number}",
        patient=f"p{number}",
        source=source,
        topic="effusion",
        question=f"Effusion {number}? {ATTACK}",
        reference="yes",
        answer=answer,
        options={"yes": 0.8, "no": 0.2},
        confidence=0.8,
        attributes=facts,
        **more,
    )


def item(number: int, answer: str = "yes", *, source: str = "phantom") -> Item:
    return Item(
        prediction=said(number, answer, source=source),
        others=[said(number, "no", arm="shuffled", source=source)],
        prompt=f"<image>\nLook. Effusion {number}?",
        images=[Noise(number // 2)],
    )


def content(items: list[Item], **how: Any) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(browser(items, **how).items)
    return found


def test_an_item_has_its_prompt_picture_options_and_all_answers() -> None:
    (row, *_) = content([item(0), item(1, "no")])["items"]
    assert row["prompt"].startswith("<image>\nLook.")
    assert row["options"] == [["yes", 0.8], ["no", 0.2]]
    assert row["changed"] is True
    assert [(one["arm"], one["text"], one["state"]) for one in row["answers"]] == [
        ("vlm", "yes", "right"),
        ("shuffled", "no", "wrong"),
    ]
    assert row["pictures"] == [0]
    assert content([item(0, "no")])["items"][0]["changed"] is False


def test_a_picture_of_several_questions_stands_in_the_page_once() -> None:
    found = content([item(number) for number in range(6)])
    assert len(found["pictures"]) == 3
    assert [row["pictures"] for row in found["items"]] == [[0], [0], [1], [1], [2], [2]]


def test_pictures_stop_at_the_limit_and_the_items_go_on() -> None:
    items = [item(number) for number in range(40)]
    room = 60_000
    found = content(items, limit=room)
    assert 0 < len(found["pictures"]) < 20
    assert sum(map(len, found["pictures"][:-1])) < room
    assert len(found["items"]) == 40
    assert browser(items, limit=room).unseen == sum(not row["pictures"] for row in found["items"]) > 0


def test_the_more_pictures_the_smaller_they_are() -> None:
    sides = [Thumbnails(count).side for count in (10, 500, 5000)]
    assert sides == sorted(sides, reverse=True) and len(set(sides)) == 3


def test_subgroups_are_attributes_with_few_values() -> None:
    found = content([item(number) for number in range(60)])
    assert found["subgroups"] == {"sex": ["F", "M"]}, "what names each item alone is no subgroup"
    assert found["items"][1]["groups"] == {"sex": "M"}


@pytest.mark.parametrize("source", ["dicom_folder", "a_source_without_a_card"])
def test_nothing_is_shown_of_a_source_that_may_hold_identifiers(source: str) -> None:
    made = browser([item(0), item(1, source=source)])
    row = json.loads(made.items)["items"][1]
    assert row["pictures"] == []
    assert made.withheld == (source,)
    assert [one["state"] for one in row["answers"]] == ["right", "wrong"], "its figures stay"
    texts = json.dumps(row)
    assert not [word for word in ("Effusion", "Look", f"{source}:1", "yes", "FM"[1], "a1") if f'"{word}' in texts]
    assert len(json.loads(made.items)["pictures"]) == 1


def test_a_long_text_loses_its_middle() -> None:
    long = replace(item(0), prompt="a" * LONGEST_TEXT + "b" * LONGEST_TEXT)
    prompt = content([long])["items"][0]["prompt"]
    assert len(prompt) < 1.1 * LONGEST_TEXT
    assert prompt[0] == "a" and prompt[-1] == "b" and "4000 characters" in prompt


@pytest.mark.parametrize(("answer", "expected"), [("yes", "right"), ("no", "wrong"), ("yes no", "unparsed")])
def test_an_answer_is_right_wrong_or_unparsed(answer: str, expected: str) -> None:
    assert state(said(0, answer)) == expected


def test_the_page_runs_its_own_script_and_no_other(tmp_path: Path) -> None:
    render(ReportData(title="T", rows=[], main="vlm", items=[item(0), item(1)]), tmp_path / "report.html")
    html = (tmp_path / "report.html").read_text(encoding="utf-8")
    scripts = re.findall(r"<script([^>]*)>(.*?)</script>", html, flags=re.DOTALL)
    (data, run) = scripts
    assert data[0] == ' type="application/json" id="items-data"'
    assert json.loads(data[1])["items"][0]["question"] == f"Effusion 0? {ATTACK}", "as data, and never as a script"
    assert run[0] == ""
    digest = base64.b64encode(hashlib.sha256(run[1].encode()).digest()).decode()
    policy = re.search(r'Content-Security-Policy" content="([^"]+)"', html)
    assert policy is not None and f"script-src 'sha256-{digest}'" in policy[1]
    assert "default-src 'none'" in policy[1]
    for forbidden in ("innerHTML", "eval(", "http:", "https:"):
        assert forbidden not in run[1], forbidden


def test_five_thousand_items_stay_below_twenty_megabytes() -> None:
    few = [replace(item(number), images=()) for number in range(5000)]
    assert len(browser(few).items) < 8_000_000
