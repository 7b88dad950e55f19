"""Results are valid FHIR, say who is answerable, and are there once on a real server."""

import json
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from typing import Any

import pytest
import requests

from mmmed.errors import ConfigError, DataError, SignoffError
from mmmed.serving.desk.desk import Desk
from mmmed.serving.hospital.delivery import Courier
from mmmed.serving.hospital.fhir import check, fhir_bundle
from mmmed.serving.hospital.record import Record
from mmmed.serving.hospital.result import result_of

from ..desk.conftest import request
from .conftest import ANNA, BETTER, TEXT
from .fhir_server import MISSING, running_fhir

Sign = Callable[[Desk, str], None]
HandIn = Callable[..., str]


def resources(bundle: dict[str, Any]) -> dict[str, dict[str, Any]]:
    return {entry["resource"]["resourceType"]: entry["resource"] for entry in bundle["entry"]}


def security(resource: dict[str, Any]) -> list[str]:
    return [label["code"] for label in resource["meta"]["security"]]


def test_a_preliminary_result_is_marked_as_a_machines_and_names_no_practitioner(
    make_desk: Callable[..., Desk], hand_in: HandIn
) -> None:
    desk = make_desk(preliminary=True)
    found = resources(fhir_bundle(result_of(desk, hand_in(desk), "preliminary")))
    report, observation = found["DiagnosticReport"], found["Observation"]
    assert (report["status"], observation["status"]) == ("preliminary", "preliminary")
    assert (report["conclusion"], observation["valueString"]) == (TEXT, TEXT)
    assert security(report) == security(observation) == ["AIAST"]
    assert "Practitioner" not in found
    assert "resultsInterpreter" not in report
    assert found["Device"]["deviceName"][0]["name"] == "quickstart"
    assert found["AuditEvent"]["agent"][0]["requestor"] is True


def test_a_final_result_names_its_signers_and_keeps_the_models_part(
    make_desk: Callable[..., Desk], hand_in: HandIn, sign: Sign
) -> None:
    desk = make_desk(two_people=True)
    id = hand_in(desk)
    sign(desk, id)
    bundle = fhir_bundle(result_of(desk, id, "final"))
    found = resources(bundle)
    report = found["DiagnosticReport"]
    assert (report["status"], report["conclusion"]) == ("final", BETTER)
    assert security(report) == ["CLINAST_AIRPT"]
    assert len(report["resultsInterpreter"]) == 2
    people = [entry["resource"] for entry in bundle["entry"] if entry["resource"]["resourceType"] == "Practitioner"]
    assert [one["identifier"][0]["value"] for one in people] == ["R-100", "R-200"]
    assert people[0]["name"] == [{"family": "Arzt", "given": ["Anna"]}]
    roles = [agent["type"]["coding"][0]["code"] for agent in found["Provenance"]["agent"]]
    assert roles == ["assembler", "attester", "attester"]
    assert report["subject"]["identifier"]["value"] == "P-17"
    assert report["imagingStudy"][0]["identifier"]["value"] == "urn:oid:2.25.1"
    urls = {entry["fullUrl"] for entry in bundle["entry"]}
    referred = {part.split('"')[0] for part in json.dumps(bundle).split('"reference": "')[1:]}
    assert referred <= urls, "every reference is to something in the bundle"
    assert TEXT not in json.dumps(bundle)
    assert "Muster" not in json.dumps(bundle), "the hospital knows its patients' names"


def test_made_again_it_is_the_same(make_desk: Callable[..., Desk], hand_in: HandIn, sign: Sign) -> None:
    desk = make_desk()
    id = hand_in(desk)
    sign(desk, id)
    assert fhir_bundle(result_of(desk, id, "final")) == fhir_bundle(result_of(desk, id, "final"))


def test_a_result_called_back_holds_nothing_of_the_draft(make_desk: Callable[..., Desk], hand_in: HandIn) -> None:
    desk = make_desk(preliminary=True)
    id = hand_in(desk)
    desk.take(id, by=ANNA, request=request())
    desk.reject(id, "wrong side", by=ANNA, request=request())
    bundle = fhir_bundle(result_of(desk, id, "withdrawn"))
    assert resources(bundle)["DiagnosticReport"]["status"] == "entered-in-error"
    assert TEXT not in json.dumps(bundle)


@pytest.mark.parametrize(
    ("kind", "name", "value", "complaint"),
    [
        ("DiagnosticReport", "status", "prelim", "DiagnosticReport.status is 'prelim', which FHIR does not know"),
        ("Observation", "status", None, "no valid FHIR|Observation.status"),
        ("AuditEvent", "action", "X", "AuditEvent.action is 'X'"),
        ("DiagnosticReport", "code", None, "is no valid FHIR at"),
        ("DiagnosticReport", "colour", "red", "is no valid FHIR at"),
    ],
)
def test_what_is_no_fhir_is_not_sent(
    make_desk: Callable[..., Desk], hand_in: HandIn, kind: str, name: str, value: object, complaint: str
) -> None:
    desk = make_desk(preliminary=True)
    bundle = fhir_bundle(result_of(desk, hand_in(desk), "preliminary"))
    resources(bundle)[kind][name] = value
    with pytest.raises(SignoffError, match=complaint):
        check(bundle)


@pytest.mark.parametrize("url", ["example.org/fhir", "ftp://example.org"])
def test_a_url_that_cannot_be_right_is_refused(url: str) -> None:
    with pytest.raises(ConfigError, match="is none of a FHIR server"):
        Record(url)
    with pytest.raises(ConfigError, match="take it out and set MMMED_FHIR_TOKEN") as told:
        Record("https://anna:secret@example.org/fhir")
    assert "secret" not in str(told.value)


@pytest.mark.parametrize(
    ("status", "body"),
    [(500, b"patient Muster"), (200, b"hello"), (200, b'{"entry": [{"response": {"status": "422"}}]}'), (302, b"")],
)
def test_a_server_that_does_not_keep_it_is_a_fault_in_one_line(
    make_desk: Callable[..., Desk], hand_in: HandIn, status: int, body: bytes
) -> None:
    class Refusing(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            self.rfile.read(int(self.headers["Content-Length"]))
            self.send_response(status)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            pass

    desk = make_desk(preliminary=True)
    result = result_of(desk, hand_in(desk), "preliminary")
    with HTTPServer(("127.0.0.1", 0), Refusing) as server:
        threading.Thread(target=server.handle_request, daemon=True).start()
        with pytest.raises(DataError, match="refuses: status") as told:
            Record(f"http://127.0.0.1:{server.server_port}").send(result)
    assert "Muster" not in str(told.value)


@pytest.fixture(scope="module")
def server() -> Iterator[str]:
    with running_fhir() as url:
        if not url:
            pytest.skip(MISSING)
        yield url


@pytest.mark.slow
def test_a_real_server_has_each_result_once_and_its_history(
    server: str, make_desk: Callable[..., Desk], hand_in: HandIn, sign: Sign
) -> None:
    desk = make_desk(preliminary=True, destinations=("fhir",))
    id = hand_in(desk)
    record = Record(server)
    assert Courier(desk, {"fhir": record}).deliver() == 1

    def found(kind: str) -> list[dict[str, Any]]:
        entries = requests.get(f"{server}/{kind}", timeout=60).json().get("entry", [])
        return [entry["resource"] for entry in entries]

    (preliminary,) = found("DiagnosticReport")
    assert (preliminary["status"], preliminary["conclusion"]) == ("preliminary", TEXT)
    sign(desk, id)
    assert Courier(desk, {"fhir": record}).deliver() == 1
    record.send(result_of(desk, id, "final"))  # as after a courier that was killed before it could mark it
    (report,) = found("DiagnosticReport")
    assert (report["status"], report["conclusion"], security(report)) == ("final", BETTER, ["CLINAST_AIRPT"])
    assert report["id"] == preliminary["id"]
    interpreter = requests.get(f"{server}/{report['resultsInterpreter'][0]['reference']}", timeout=60).json()
    assert interpreter["name"][0]["family"] == "Arzt"
    counts = {kind: len(found(kind)) for kind in ("Device", "Practitioner", "Observation", "Provenance", "AuditEvent")}
    assert counts == {"Device": 1, "Practitioner": 1, "Observation": 1, "Provenance": 2, "AuditEvent": 2}
    history = requests.get(f"{server}/DiagnosticReport/{report['id']}/_history", timeout=60).json()
    assert {entry["resource"]["status"] for entry in history["entry"]} == {"preliminary", "final"}
