"""A result as FHIR R4: report, observation, provenance and audit event, with the model as a device.

Source: HL7 FHIR R4; the marks for content of a machine are those of HL7's guide AI Transparency on FHIR (AIAST for what
a machine asserts, CLINAST_AIRPT for what a clinician asserts from it).
"""

import hashlib
import uuid
from collections.abc import Mapping
from typing import Any

from fhir.resources.R4B.bundle import Bundle
from pydantic import ValidationError

from mmmed.errors import SignoffError
from mmmed.serving.database.clock import read
from mmmed.serving.desk.draft import Event
from mmmed.serving.desk.outbox import FINAL, PRELIMINARY, WITHDRAWN
from mmmed.serving.hospital.result import Result

Resource = dict[str, Any]

DRAFT_SYSTEM = "urn:mmmed:draft"
MODEL_SYSTEM = "urn:mmmed:model"
PRACTITIONER_SYSTEM = "urn:mmmed:practitioner"
_STATUS = {PRELIMINARY: "preliminary", FINAL: "final", WITHDRAWN: "entered-in-error"}
_MACHINE = {
    "system": "http://terminology.hl7.org/CodeSystem/v3-ObservationValue",
    "code": "AIAST",
    "display": "Artificial Intelligence asserted",
}
_CLINICIAN = {
    "system": "http://hl7.org/fhir/uv/aitransparency/CodeSystem/AddedProvenanceCS",
    "code": "CLINAST_AIRPT",
    "display": "Clinician Asserted from AI Reported",
}
_REPORT_STATUS = "registered partial preliminary final amended corrected appended cancelled entered-in-error unknown"
_CODES: Mapping[tuple[str, str], frozenset[str]] = {
    ("Bundle", "type"): frozenset({"transaction"}),
    ("DiagnosticReport", "status"): frozenset(_REPORT_STATUS.split()),
    ("Observation", "status"): frozenset(
        ["registered", "preliminary", "final", "amended", "corrected", "cancelled", "entered-in-error", "unknown"]
    ),
    ("Device", "status"): frozenset(["active", "inactive", "entered-in-error", "unknown"]),
    ("AuditEvent", "action"): frozenset("CRUDE"),
    ("AuditEvent", "outcome"): frozenset({"0", "4", "8", "12"}),
}
"""Codes of R4 with a required binding, which the library does not check."""
_NEEDED = {"DiagnosticReport": "code", "Observation": "code", "Provenance": "target", "AuditEvent": "source"}
"""And what R4 requires to be there, which the library takes for absent where it is empty."""


def fhir_bundle(result: Result) -> Resource:
    """A transaction that makes the result known, or, sent again, changes nothing.

    Raises:
        SignoffError: What was made is no FHIR, which is a defect of ours; nothing is sent.
    """
    practitioners = [_practitioner(signer) for signer in result.signers]
    resources = [_device(result), *practitioners, _observation(result), _report(result)]
    bundle = {
        "resourceType": "Bundle",
        "type": "transaction",
        "entry": [_entry(resource) for resource in [*resources, _provenance(result), _audit(result)]],
    }
    check(bundle)
    return bundle


def check(bundle: Resource) -> None:
    """Refuse what is no FHIR R4, the codes with a required binding included. Raises `SignoffError`."""
    try:
        Bundle.model_validate(bundle)
    except ValidationError as error:
        where = ".".join(map(str, error.errors()[0]["loc"]))
        raise SignoffError(f"the result is no valid FHIR at {where}; it is not sent") from None
    for resource in (bundle, *(entry["resource"] for entry in bundle["entry"])):
        needed = _NEEDED.get(resource["resourceType"])
        if needed and not resource.get(needed):
            raise SignoffError(f"the result is no valid FHIR at {resource['resourceType']}.{needed}; it is not sent")
        for (kind, name), known in _CODES.items():
            if resource["resourceType"] == kind and resource.get(name) not in known:
                raise SignoffError(f"{kind}.{name} is {resource.get(name)!r}, which FHIR does not know; it is not sent")


def _entry(resource: Resource) -> Resource:
    """Found again by its identifier, so that it is made once."""
    own_uuid = resource.pop("_uuid")
    if "identifier" not in resource:  # provenance and audit events have none: they are made once, or left as they are
        mark = f"{DRAFT_SYSTEM}|{own_uuid}"
        resource["meta"] = {"tag": [{"system": DRAFT_SYSTEM, "code": own_uuid}], **resource.get("meta", {})}
        request = {"method": "POST", "url": resource["resourceType"], "ifNoneExist": f"_tag={mark}"}
    else:
        own = resource["identifier"][0]
        request = {"method": "PUT", "url": f"{resource['resourceType']}?identifier={own['system']}|{own['value']}"}
    return {"fullUrl": f"urn:uuid:{own_uuid}", "request": request, "resource": resource}


def _device(result: Result) -> Resource:
    facts = result.facts
    return {
        "resourceType": "Device",
        "_uuid": _device_uuid(result),
        "identifier": [{"system": MODEL_SYSTEM, "value": _device_value(result)}],
        "status": "active",
        "deviceName": [{"name": facts.model, "type": "model-name"}],
        "type": {"text": "Machine-learning model that drafts reports; research use only"},
        **({"version": [{"value": facts.model_version}]} if facts.model_version else {}),
    }


def _practitioner(signer: Event) -> Resource:
    family, _, given = signer.full_name.replace(", ", "^").partition("^")
    name = {"family": family, **({"given": given.replace("^", " ").split()} if given else {})}
    return {
        "resourceType": "Practitioner",
        "_uuid": _practitioner_uuid(signer),
        "identifier": [{"system": PRACTITIONER_SYSTEM, "value": signer.identifier or signer.actor}],
        "name": [name],
    }


def _observation(result: Result) -> Resource:
    said: Resource = {"valueString": result.text} if result.text else {"dataAbsentReason": _absent()}
    return {
        "resourceType": "Observation",
        "_uuid": str(result.uuid("observation")),
        "meta": {"security": [_mark(result)]},
        "identifier": [{"system": DRAFT_SYSTEM, "value": f"{result.facts.id}-observation"}],
        "status": _STATUS[result.kind],
        "category": [_concept("http://terminology.hl7.org/CodeSystem/observation-category", "imaging", "Imaging")],
        "code": {
            **_concept("http://loinc.org", "59776-5", "Procedure findings Narrative"),
            **({"text": result.facts.question} if result.facts.question else {}),
        },
        **_about(result),
        "issued": _instant(result.at),
        "device": {"reference": f"urn:uuid:{_device_uuid(result)}"},
        **_performers(result, "performer"),
        **said,
    }


def _report(result: Result) -> Resource:
    return {
        "resourceType": "DiagnosticReport",
        "_uuid": str(result.uuid("report")),
        "meta": {"security": [_mark(result)]},
        "identifier": [{"system": DRAFT_SYSTEM, "value": result.facts.id}],
        "status": _STATUS[result.kind],
        "category": [_concept("http://terminology.hl7.org/CodeSystem/v2-0074", "RAD", "Radiology")],
        "code": _concept("http://loinc.org", "18748-4", "Diagnostic imaging study"),
        **_about(result),
        "issued": _instant(result.at),
        **_performers(result, "performer"),
        **_performers(result, "resultsInterpreter"),
        "result": [{"reference": f"urn:uuid:{result.uuid('observation')}"}],
        **_studies(result),
        **({"conclusion": result.text} if result.text else {}),
    }


def _provenance(result: Result) -> Resource:
    kinds = "http://terminology.hl7.org/CodeSystem/provenance-participant-type"
    agents: list[Resource] = [
        {
            "type": _concept(kinds, "assembler", "Assembler"),
            "who": {"reference": f"urn:uuid:{_device_uuid(result)}"},
        }
    ]
    for signer in result.signers:
        who = {"reference": f"urn:uuid:{_practitioner_uuid(signer)}"}
        agents.append({"type": _concept(kinds, "attester", "Attester"), "who": who})
    return {
        "resourceType": "Provenance",
        "_uuid": str(result.uuid(f"provenance {result.kind}")),
        "target": [{"reference": f"urn:uuid:{result.uuid(what)}"} for what in ("report", "observation")],
        "recorded": _instant(result.at),
        "agent": agents,
    }


def _audit(result: Result) -> Resource:
    act = {
        PRELIMINARY: ("originate", "Originate/Retain Record Lifecycle Event", "C"),
        FINAL: ("attest", "Attest Record Lifecycle Event", "U"),
        WITHDRAWN: ("deprecate", "Deprecate Record Lifecycle Event", "U"),
    }
    code, display, action = act[result.kind]
    agents: list[Resource] = [
        {"who": {"reference": f"urn:uuid:{_practitioner_uuid(signer)}"}, "requestor": signer is result.signers[-1]}
        for signer in result.signers
    ]
    device = {"who": {"reference": f"urn:uuid:{_device_uuid(result)}"}, "requestor": not agents}
    return {
        "resourceType": "AuditEvent",
        "_uuid": str(result.uuid(f"audit {result.kind}")),
        "type": {
            "system": "http://terminology.hl7.org/CodeSystem/iso-21089-lifecycle",
            "code": code,
            "display": display,
        },
        "action": action,
        "recorded": _instant(result.at),
        "outcome": "0",
        "agent": [*agents, device],
        "source": {"observer": {"reference": f"urn:uuid:{_device_uuid(result)}"}},
        "entity": [{"what": {"reference": f"urn:uuid:{result.uuid('report')}"}}],
    }


def _about(result: Result) -> Resource:
    """Whose it is, as the archive calls the patient; the hospital's server knows the rest."""
    if not result.headers:
        return {}
    header = result.headers[0]
    patient: Resource = {"value": str(header.PatientID)} if header.get("PatientID") else {}
    about: Resource = {"subject": {"type": "Patient", "identifier": patient}} if patient else {}
    if accession := header.get("AccessionNumber"):
        kind = _concept("http://terminology.hl7.org/CodeSystem/v2-0203", "ACSN", "Accession ID")
        about["basedOn"] = [{"type": "ServiceRequest", "identifier": {"type": kind, "value": str(accession)}}]
    date = str(header.get("StudyDate") or "")
    if len(date) == 8 and date.isdigit():
        about["effectiveDateTime"] = f"{date[:4]}-{date[4:6]}-{date[6:]}"
    return about


def _studies(result: Result) -> Resource:
    uids = sorted({str(header.StudyInstanceUID) for header in result.headers})
    studies = [{"system": "urn:dicom:uid", "value": f"urn:oid:{uid}"} for uid in uids]
    return {"imagingStudy": [{"type": "ImagingStudy", "identifier": one} for one in studies]} if studies else {}


def _performers(result: Result, name: str) -> Resource:
    people = [{"reference": f"urn:uuid:{_practitioner_uuid(signer)}"} for signer in result.signers]
    return {name: people} if people else {}


def _mark(result: Result) -> Resource:
    return dict(_CLINICIAN if result.kind == FINAL else _MACHINE)


def _absent() -> Resource:
    return _concept("http://terminology.hl7.org/CodeSystem/data-absent-reason", "error", "Error")


def _concept(system: str, code: str, display: str) -> Resource:
    return {"coding": [{"system": system, "code": code, "display": display}]}


def _instant(at: str) -> str:
    return read(at).isoformat(timespec="milliseconds")


def _device_value(result: Result) -> str:
    return hashlib.sha256(f"{result.facts.model}:{result.facts.model_version}".encode()).hexdigest()


def _device_uuid(result: Result) -> str:
    return _named_uuid(f"device {_device_value(result)}")


def _practitioner_uuid(signer: Event) -> str:
    return _named_uuid(f"practitioner {signer.identifier or signer.actor}")


def _named_uuid(name: str) -> str:
    return str(uuid.uuid5(uuid.NAMESPACE_URL, f"{DRAFT_SYSTEM}:{name}"))
