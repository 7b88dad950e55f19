"""The way to a DICOMweb server: signed in as the environment says, and every fault on the way is one line."""

import logging
import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from mmmed.errors import ConfigError, DataError

if TYPE_CHECKING:
    import requests
    from dicomweb_client.web import DICOMwebClient

USER, PASSWORD, TOKEN = "MMMED_DICOMWEB_USER", "MMMED_DICOMWEB_PASSWORD", "MMMED_DICOMWEB_TOKEN"
"""Variables of the environment with what the server asks for; none of it belongs into a configuration."""

_UNINSTALLED = "DICOMweb needs dicomweb-client; pip install 'mmmed[dicomweb]'"
_ATTEMPTS = 3
_SIGN_IN = f"set {USER} and {PASSWORD}, or {TOKEN}"
_ADVICE = {
    401: _SIGN_IN,
    403: f"this user may not read that; {_SIGN_IN}",
    404: "check the url, which ends where /studies begins, such as /dicom-web",
}


def open_session(url: str) -> "requests.Session":
    """A session that signs in.

    Raises:
        ConfigError: The url is none or holds a password, or the client is not installed.
    """
    parts = urlsplit(url)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise ConfigError(f"url {url!r} is none of a DICOMweb server; expected https://HOST/PATH")
    if parts.username or parts.password:
        raise ConfigError(f"the url of the DICOMweb server holds a password; take it out and {_SIGN_IN}")
    try:
        import requests
    except ImportError as error:
        raise ConfigError(_UNINSTALLED) from error
    session = requests.Session()
    if token := os.environ.get(TOKEN):
        session.headers["Authorization"] = f"Bearer {token}"
    elif user := os.environ.get(USER):
        session.auth = (user, os.environ.get(PASSWORD, ""))
    return session


def open_client(url: str, session: "requests.Session", *, patience: float) -> "DICOMwebClient":
    """A client of a server, that waits so many seconds for an answer.

    Raises:
        ConfigError: The client is not installed.
    """
    try:
        from dicomweb_client.web import DICOMwebClient
    except ImportError as error:
        raise ConfigError(_UNINSTALLED) from error
    # Its messages quote the search, and with it names.
    logging.getLogger("dicomweb_client").setLevel(logging.ERROR)
    client = DICOMwebClient(url.rstrip("/"), session=session, timeout=patience)
    client.set_http_retry_params(max_attempts=_ATTEMPTS)
    return client


@contextmanager
def told(url: str) -> Iterator[None]:
    """Turn what goes wrong on the way to the server into one line. Raises `DataError`."""
    import requests
    from retrying import RetryError

    try:
        yield
    except requests.HTTPError as error:
        status = error.response.status_code if error.response is not None else 0
        advice = _ADVICE.get(status, "look into its log")
        raise DataError(f"DICOMweb server {url} answers with status {status}; {advice}") from None
    except (requests.ConnectionError, requests.Timeout) as error:
        raise DataError(
            f"DICOMweb server {url} does not answer ({type(error).__name__}); check the url and the network"
        ) from None
    except RetryError:
        raise DataError(f"DICOMweb server {url} is too busy; try again later, what was fetched is kept") from None
    except (requests.RequestException, ValueError, KeyError, TypeError, AttributeError) as error:
        raise DataError(
            f"DICOMweb server {url} gives an answer that is no DICOMweb ({type(error).__name__}); check the url"
        ) from None
