"""`mmmed signoff serve | verify`: the desk on which drafts are signed, and the proof that its history is intact."""

from mmmed.errors import ConfigError, DataError


def serve_desk(
    database: str | None = None,
    host: str = "127.0.0.1",
    port: int = 7861,
    names: str = "",
    two_people: bool = False,
    lock_minutes: float = 15,
    preliminary: bool = False,
    archive: str = "",
    record: str = "",
) -> None:
    """Open the pages of sign-off: log in, the queue, drafts, accounts.

    Args:
        database: URL of the database; `MMMED_DATABASE` where none is given.
        host: Address to listen on.
        port: Port to listen on; 0 takes a free one.
        names: Other host names that the server answers to, such as that of a proxy, with commas between.
        two_people: A report is signed by two people.
        lock_minutes: So long a draft is kept for who took it.
        preliminary: Unsigned drafts are sent out too, marked as preliminary and as a machine's.
        archive: URL of the DICOMweb service that reports are stored in.
        record: Base of the FHIR R4 server that results are posted to.
    """
    try:
        from mmmed.serving.deployment import Deployment, open_deployment
        from mmmed.serving.web.application import make_application
        from mmmed.serving.web.server import serve
        from mmmed.serving.web.settings import Settings
    except ImportError as error:
        raise ConfigError(f"sign-off needs {error.name}; install it with: pip install 'mmmed[serve]'") from error

    settings = Settings(host=host, port=port, names=tuple(name for one in names.split(",") if (name := one.strip())))
    opened = open_deployment(
        Deployment(
            database=database,
            two_people=two_people,
            lock_minutes=lock_minutes,
            preliminary=preliminary,
            archive=archive,
            record=record,
        )
    )
    serve(make_application(settings, opened.parts), settings)


def verify_history(database: str | None = None, head: str | None = None) -> None:
    """Prove that no event, draft or picture was altered, and print the head of the chain, to be noted elsewhere.

    Args:
        database: URL of the database; `MMMED_DATABASE` where none is given.
        head: What an earlier run printed; it must still be in the history.
    """
    from mmmed.serving.database.engine import open_database
    from mmmed.serving.database.upgrade import upgrade
    from mmmed.serving.desk.verification import verify

    engine = open_database(database)
    upgrade(engine)
    found = verify(engine, head=head)
    for fault in found.faults:
        print(f"fault: {fault}")
    if found.faults:
        raise DataError(f"the history of sign-off was altered: {len(found.faults)} faults, the first is printed first")
    print(f"intact: {found.events} events of {found.drafts} drafts; head {found.head}")
