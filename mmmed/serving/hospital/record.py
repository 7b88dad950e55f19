"""The hospital's record: results are posted to it as FHIR transactions."""

import os
from urllib.parse import urlsplit

import requests

from mmmed.errors import ConfigError, DataError
from mmmed.serving.hospital.fhir import fhir_bundle
from mmmed.serving.hospital.result import Result

TOKEN = "MMMED_FHIR_TOKEN"
"""Variable of the environment with the bearer token that the server asks for."""
_PATIENCE = 60.0


class Record:
    """Posts results to a FHIR R4 server.

    Args:
        url: Base of the server.

    Raises:
        ConfigError: The url is none, or holds a password.
    """

    def __init__(self, url: str) -> None:
        parts = urlsplit(url)
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise ConfigError(f"url {url!r} is none of a FHIR server; expected https://HOST/PATH")
        if parts.username or parts.password:
            raise ConfigError(f"the url of the FHIR server holds a password; take it out and set {TOKEN}")
        self.url = url.rstrip("/") + "/"

    def send(self, result: Result) -> None:
        """Post a result. Raises `DataError` where the server does not answer, or refuses."""
        headers = {"Content-Type": "application/fhir+json", "Accept": "application/fhir+json"}
        if token := os.environ.get(TOKEN):
            headers["Authorization"] = f"Bearer {token}"
        bundle = fhir_bundle(result)
        try:
            answer = requests.post(self.url, json=bundle, headers=headers, timeout=_PATIENCE, allow_redirects=False)
        except requests.RequestException as error:
            raise DataError(f"FHIR server {self.url} does not answer ({type(error).__name__})") from None
        refused = [status for status in _statuses(answer) if not status.startswith("2")]
        # What a refusal says may quote the patient's words; its status does not.
        if not answer.ok or refused:
            raise DataError(f"FHIR server {self.url} refuses: status {refused[0] if refused else answer.status_code}")


def _statuses(answer: requests.Response) -> list[str]:
    """What the server says of each entry; a server that answers something else has not kept the transaction."""
    if not answer.ok:
        return []
    try:
        entries = answer.json()["entry"]
        return [str(entry["response"]["status"]) for entry in entries]
    except (ValueError, KeyError, TypeError):
        return ["that is no answer to a transaction"]
