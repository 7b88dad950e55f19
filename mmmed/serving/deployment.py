"""All parts together: a model's page, accounts, the desk, and the ways out to archive and record."""

from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path

from mmmed.errors import ConfigError
from mmmed.serving.accounts.accounts import Accounts
from mmmed.serving.accounts.part import accounts_part
from mmmed.serving.database.engine import open_database
from mmmed.serving.database.upgrade import upgrade
from mmmed.serving.desk.desk import Desk, Rules
from mmmed.serving.desk.part import desk_part
from mmmed.serving.hospital.delivery import Courier, Destination
from mmmed.serving.hospital.part import delivery_part
from mmmed.serving.monitoring.signed_log import SignedLog
from mmmed.serving.web.parts import Part


@dataclass(frozen=True, slots=True, kw_only=True)
class Deployment:
    """How sign-off is set up in a place.

    Args:
        database: URL of the database; None takes it from the environment.
        two_people: A report is signed by two people.
        lock_minutes: So long a draft is kept for who took it.
        preliminary: Unsigned drafts are sent too, marked as such.
        archive: URL of the DICOMweb service that reports are stored in; empty for none.
        record: Base of the FHIR server that results are posted to; empty for none.
        log: The log of studies that signatures are written into, for `mmmed monitor`; empty for none.
        start: Path of the page after the login.
    """

    database: str | None = None
    two_people: bool = False
    lock_minutes: float = 15.0
    preliminary: bool = False
    archive: str = ""
    record: str = ""
    log: str = ""
    start: str = "/desk"


@dataclass(frozen=True, slots=True)
class Open:
    """A deployment that was opened: its desk, and the parts that a server puts together."""

    desk: Desk
    parts: tuple[Part, ...]


def open_deployment(wanted: Deployment) -> Open:
    """Open the database, bring it up to date, and make the parts.

    Raises:
        ConfigError: Nobody has an account, a number or url is wrong, or a package is missing.
        OutputError: The database cannot be opened.
    """
    if wanted.lock_minutes <= 0:
        raise ConfigError(f"lock_minutes is {wanted.lock_minutes}; expected a number above 0")
    destinations = _destinations(wanted)
    engine = open_database(wanted.database)
    upgrade(engine)
    accounts = Accounts(engine)
    if not accounts.users():
        raise ConfigError("nobody has an account yet; make one with: mmmed accounts add NAME --role admin ...")
    rules = Rules(
        two_people=wanted.two_people,
        lock=timedelta(minutes=wanted.lock_minutes),
        preliminary=wanted.preliminary,
        destinations=tuple(destinations),
    )
    desk = Desk(engine, rules=rules)
    parts = [accounts_part(accounts, start=wanted.start), desk_part(desk)]
    if destinations:
        parts.append(delivery_part(Courier(desk, destinations)))
    return Open(desk, tuple(parts))


def _destinations(wanted: Deployment) -> dict[str, Destination]:
    destinations: dict[str, Destination] = {}
    if wanted.log:
        destinations["log"] = SignedLog(Path(wanted.log))
    if not (wanted.archive or wanted.record):
        return destinations
    try:
        from mmmed.serving.hospital.archive import Archive
        from mmmed.serving.hospital.record import Record
    except ImportError as error:
        raise ConfigError(f"the hospital needs {error.name}; install it: pip install 'mmmed[hospital]'") from error
    if wanted.archive:
        destinations["dicom"] = Archive(wanted.archive)
    if wanted.record:
        destinations["fhir"] = Record(wanted.record)
    return destinations
