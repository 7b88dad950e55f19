"""The page in a real browser: by mouse and by keyboard, on a desk and on a phone, with no request to anywhere else."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from mmmed.serving.answering.served import Served
from mmmed.serving.demo.part import demo_part
from mmmed.serving.monitoring.study_log import StudyLog
from mmmed.serving.openai import interface_part
from mmmed.serving.web.application import make_application
from mmmed.serving.web.seen import SeenLog
from mmmed.serving.web.settings import Settings

from ..conftest import CHROMIUM

pytestmark = [pytest.mark.slow, pytest.mark.skipif(CHROMIUM is None, reason="needs Debian's chromium")]

SERIOUS = ("serious", "critical")


@pytest.fixture
def address(served: Served, uploads: Any, seen: SeenLog, studies: StudyLog, serve: Callable[[Any], str]) -> str:
    parts = [interface_part(served, uploads, seen), demo_part(served, uploads, seen, studies)]
    return serve(make_application(Settings(), parts))


def opened(browser: Any, address: str, **settings: Any) -> tuple[Any, list[str]]:
    """A page whose faults and foreign requests are written down."""
    page = browser.new_context(**settings).new_page()
    page.set_default_timeout(120_000)
    wrong: list[str] = []
    page.on("request", lambda one: wrong.append(one.url) if not one.url.startswith((address, "data:")) else None)
    page.on("console", lambda one: wrong.append(one.text) if one.type in ("error", "warning") else None)
    page.on("pageerror", lambda one: wrong.append(str(one)))
    page.goto(address)
    return page, wrong


def faults(page: Any) -> list[str]:
    """What axe-core holds to be serious."""
    from axe_playwright_python.sync_playwright import Axe

    # Its script would not pass the page's content policy; the browser's own debugger may.
    found = Axe().run(page).response["violations"]
    return [f"{one['id']}: {one['nodes'][0]['html']}" for one in found if one["impact"] in SERIOUS]


@pytest.mark.parametrize(("width", "height", "scheme"), [(1280, 900, "light"), (390, 844, "dark")])
def test_a_picture_is_asked_about(
    browser: Any, address: str, film: bytes, tmp_path: Path, width: int, height: int, scheme: str
) -> None:
    page, wrong = opened(browser, address, viewport={"width": width, "height": height}, color_scheme=scheme)
    assert faults(page) == []
    (tmp_path / "DOE_JANE.png").write_bytes(film)
    page.set_input_files("#files", str(tmp_path / "DOE_JANE.png"))
    page.wait_for_selector("#viewer:not([hidden])")
    page.fill("#question", "Is there a pleural effusion?")
    page.press("#question", "Enter")
    page.wait_for_selector(".turn .tools")
    assert page.locator(".lane").count() == 2, "with the picture and without"
    assert page.locator(".lane.busy").count() == 0
    assert "Confidence" in page.inner_text(".turn")
    page.click("text=Where does it look?")
    page.wait_for_selector("#heat:not([hidden])")
    page.wait_for_selector(".tools [role=status]:has-text('% less likely')")  # on a phone too
    assert faults(page) == []
    assert page.evaluate("document.documentElement.scrollWidth <= window.innerWidth"), "nothing is wider than the page"
    assert page.evaluate("document.querySelector('#shown').naturalWidth") > 0
    assert "DOE" not in page.content(), "names of files may be names of patients"
    assert wrong == []


def test_the_page_is_worked_by_keyboard_alone(browser: Any, address: str) -> None:
    page, wrong = opened(browser, address, viewport={"width": 1280, "height": 900})
    reached = []
    for _ in range(12):
        page.keyboard.press("Tab")
        reached.append(page.evaluate("document.activeElement.id || document.activeElement.tagName"))
        if reached[-1] == "question":
            break
    assert "files" in reached and reached[-1] == "question"
    page.keyboard.type("Where does it lie?")
    page.keyboard.press("Tab")
    page.keyboard.press("Enter")  # opens what says how it is asked
    page.keyboard.press("Tab")
    page.keyboard.type("left, right")
    page.focus("#send")
    page.keyboard.press("Enter")
    page.wait_for_selector(".turn .shares")
    assert page.locator(".shares li").count() == 2
    assert wrong == []


def test_a_file_that_is_no_picture_is_told(browser: Any, address: str, tmp_path: Path) -> None:
    page, wrong = opened(browser, address)
    (tmp_path / "notes.png").write_text("no picture " * 30)
    page.set_input_files("#files", str(tmp_path / "notes.png"))
    page.wait_for_selector("#sending.fault")
    assert "no PNG, JPEG or DICOM" in page.inner_text("#sending")
    assert all("422" in one for one in wrong), "the browser's own note of the refusal"
