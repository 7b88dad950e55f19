"""The whole way in a real browser: a film is uploaded, asked about, drafted, amended, signed, stored and read back.

`MMMED_WALK` names a folder for the screenshots, and `MMMED_WALK_MODEL` a checkpoint to ask instead of a tiny one.
"""

import os
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import requests
from dicomweb_client.web import DICOMwebClient
from pydicom.dataset import FileMetaDataset
from pydicom.uid import ExplicitVRLittleEndian

from mmmed.serving.accounts.accounts import Accounts
from mmmed.serving.database.engine import open_database
from mmmed.serving.database.upgrade import upgrade
from mmmed.serving.demo.server import Wanted, application, open_model
from mmmed.serving.deployment import Deployment, open_deployment
from mmmed.serving.desk.handing_in import hands_in
from mmmed.serving.desk.verification import verify
from mmmed.serving.hospital.header import kept_of
from mmmed.serving.web.settings import Settings
from tests.orthanc import PASSWORD as ARCHIVE_PASSWORD
from tests.orthanc import USER as ARCHIVE_USER

from .conftest import CHEAP, CHROMIUM, PASSWORD, PEOPLE, wait_for
from .hospital.conftest import film
from .hospital.fhir_server import running_fhir

pytestmark = [
    pytest.mark.slow,
    pytest.mark.timeout(1200),
    pytest.mark.skipif(CHROMIUM is None, reason="needs Debian's chromium"),
]
SIGNED = "Heart size is normal. No pleural effusion."
DESK, PHONE = {"width": 1280, "height": 900}, {"width": 390, "height": 844}


def write_film(path: Path) -> None:
    """A film as a modality writes it, drawn as a phantom."""
    from mmmed.data.sources.phantom import PhantomImage

    pixels = np.asarray(PhantomImage(seed=3, index=5).open().convert("L"))
    dataset = film()
    dataset.Rows, dataset.Columns = pixels.shape
    dataset.SamplesPerPixel, dataset.PhotometricInterpretation = 1, "MONOCHROME2"
    dataset.BitsAllocated = dataset.BitsStored = 8
    dataset.HighBit, dataset.PixelRepresentation = 7, 0
    dataset.PixelData = pixels.tobytes() + b"\0" * (pixels.size % 2)
    dataset.file_meta = FileMetaDataset()
    dataset.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    dataset.save_as(path, enforce_file_format=True)


class Walk:
    """A browser whose requests and faults are written down, and whose pages are looked at."""

    def __init__(self, browser: Any, address: str, folder: Path) -> None:
        self.browser, self.address, self.folder = browser, address, folder
        self.wrong: list[str] = []
        self.shots = 0

    def enter(self, name: str, size: dict[str, int], scheme: str) -> Any:
        page = self.browser.new_context(viewport=size, color_scheme=scheme).new_page()
        page.set_default_timeout(240_000)
        own = (self.address, "data:", "blob:")
        page.on("request", lambda one: self.wrong.append(one.url) if not one.url.startswith(own) else None)
        page.on("pageerror", lambda one: self.wrong.append(str(one)))
        page.goto(f"{self.address}/login")
        self.look(page, "login")
        page.fill("#name", name)
        page.fill("#password", PASSWORD)
        page.keyboard.press("Enter")
        page.wait_for_selector("text=Log out")
        return page

    def look(self, page: Any, name: str) -> None:
        """Photograph a page, and let axe-core judge it."""
        from axe_playwright_python.sync_playwright import Axe

        self.shots += 1
        width = page.viewport_size["width"]
        page.screenshot(path=self.folder / f"{self.shots:02d}_{name}_{width}.png", full_page=True)
        found = Axe().run(page).response["violations"]
        bad = [one for one in found if one["impact"] in ("serious", "critical")]
        assert not bad, [f"{one['id']}: {one['nodes'][0]['html']}" for one in bad]
        assert page.evaluate("document.documentElement.scrollWidth <= window.innerWidth"), f"{name} is too wide"


def test_from_an_upload_to_a_signed_report_in_archive_and_record(
    served: Any, archive: str, browser: Any, serve: Callable[..., str], tmp_path: Path
) -> None:
    folder = Path(os.environ.get("MMMED_WALK", tmp_path))
    folder.mkdir(parents=True, exist_ok=True)
    if checkpoint := os.environ.get("MMMED_WALK_MODEL"):
        served = open_model(Wanted(checkpoint=checkpoint))
    with ExitStack() as stack:
        record = stack.enter_context(running_fhir())
        url = f"sqlite:///{tmp_path}/mmmed.sqlite"
        engine = open_database(url)
        upgrade(engine)
        for user in PEOPLE:
            Accounts(engine, passwords=CHEAP).add(user, PASSWORD)
        deployment = Deployment(database=url, archive=archive, record=record, start="/")
        opened = open_deployment(deployment)
        draft = hands_in(opened.desk, model=served.name, version=served.engine.session.identity(), keep=kept_of)
        wanted = Wanted(checkpoint="", folder=str(tmp_path / "served"))
        app = application(served, Settings(), wanted, parts=opened.parts, draft=draft)
        walk = Walk(browser, serve(app), folder)

        path = ask_and_hand_in(walk, tmp_path)
        amend_and_sign(walk, path)
        assert walk.wrong == [], "a request to elsewhere, or a fault of a script"

        id = path.rpartition("/")[2]
        written = opened.desk.open(id)
        assert written.standing.signed_by == ("anna",)
        assert written.facts.made_by == "rita"
        assert verify(engine).faults == ()
        read_back_from_archive(archive)
        if record:
            read_back_from_record(record, id)
        engine.dispose()


def ask_and_hand_in(walk: Walk, tmp_path: Path) -> str:
    """A reader uploads a film, asks, sees the answer come, and hands it in; returns the draft's path."""
    page = walk.enter("rita", DESK, "light")
    page.goto(walk.address)
    write_film(tmp_path / "MUSTER_ERIKA.dcm")
    page.set_input_files("#files", str(tmp_path / "MUSTER_ERIKA.dcm"))
    page.wait_for_selector("#viewer:not([hidden])")
    page.fill("#question", "Is there a pleural effusion?")
    page.press("#question", "Enter")
    page.wait_for_selector(".turn .tools")
    walk.look(page, "answer")
    page.click("text=Make a draft for sign-off")
    page.wait_for_selector("text=Open the draft")
    assert "MUSTER" not in page.content().upper(), "names of files may be names of patients"
    path: str = page.get_attribute("text=Open the draft", "href")
    return path


def amend_and_sign(walk: Walk, path: str) -> None:
    """A radiologist amends the draft at a desk, and signs it on a phone, by keyboard."""
    page = walk.enter("anna", DESK, "light")
    page.goto(f"{walk.address}/desk")
    walk.look(page, "queue")
    page.click(f"a[href='{path}']")
    walk.look(page, "draft")
    page.click("text=Take into review")
    page.fill("#text", SIGNED)
    page.fill("#why", "heart size was not mentioned")
    page.click("text=Save the amendment")
    page.wait_for_selector("ins")
    walk.look(page, "amended")
    phone = walk.enter("anna", PHONE, "dark")
    phone.goto(f"{walk.address}/desk")
    walk.look(phone, "queue")
    phone.goto(walk.address + path)
    walk.look(phone, "amended")
    phone.focus("#read")
    phone.keyboard.press("Space")
    phone.keyboard.press("Tab")
    phone.keyboard.press("Enter")
    phone.wait_for_selector("text=signed by anna")
    walk.look(phone, "signed")


def read_back_from_archive(archive: str) -> None:
    with requests.Session() as session:
        session.auth = (ARCHIVE_USER, ARCHIVE_PASSWORD)
        client = DICOMwebClient(archive, session=session)
        wait_for(lambda: bool(client.search_for_studies()), seconds=120)
        (report,) = client.retrieve_study("2.25.1")
    assert (report.VerificationFlag, report.PreliminaryFlag, str(report.PatientName)) == (
        "VERIFIED",
        "FINAL",
        "Muster^Erika",
    )
    assert SIGNED in [item.TextValue for item in report.ContentSequence if item.ValueType == "TEXT"]


def read_back_from_record(record: str, id: str) -> None:
    def reports() -> list[Any]:
        found = requests.get(f"{record}/DiagnosticReport", params={"identifier": f"urn:mmmed:draft|{id}"}, timeout=60)
        entries: list[Any] = found.json().get("entry", [])
        return entries

    wait_for(lambda: bool(reports()), seconds=120)
    (entry,) = reports()
    assert (entry["resource"]["status"], entry["resource"]["conclusion"]) == ("final", SIGNED)
