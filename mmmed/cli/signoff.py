"""`mmmed signoff serve | verify`: the desk on which drafts are signed, and the proof that its history is intact."""

from mmmed.cli.lists import listed
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
    log: str = "",
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
        log: The log of studies that signatures are written into, for `mmmed monitor`.
    """
    try:
        from mmmed.serving.deployment import Deployment, open_deployment
        from mmmed.serving.web.application import make_application
        from mmmed.serving.web.server import serve
        from mmmed.serving.web.settings import Settings
    except ImportError as error:
        raise ConfigError(f"sign-off needs {error.name}; install it with: pip install 'mmmed[serve]'") from error

    settings = Settings(host=host, port=port, names=listed(names))
    opened = open_deployment(
        Deployment(
            database=database,
            two_people=two_people,
            lock_minutes=lock_minutes,
            preliminary=preliminary,
            archive=archive,
            record=record,
            log=log,
        )
    )
    serve(make_application(settings, opened.parts), settings)


def take_in(
    checkpoint: str,
    folder: str,
    question: str = "Describe this image.",
    database: str | None = None,
    archive: str = "",
    study_date: str = "",
    preliminary: bool = False,
    harm: str = "",
    log: str = "",
    every: float = 10.0,
    once: bool = False,
) -> None:
    """Watch a folder of DICOM files, and an archive, and make a draft of each new object.

    Args:
        checkpoint: Folder of a run or its `model` folder.
        folder: Where objects come in; those of the archive are fetched into it.
        question: What is asked about each.
        database: URL of the database; `MMMED_DATABASE` where none is given.
        archive: URL of a DICOMweb service that is searched; none watches the folder alone.
        study_date: What the archive is searched for, such as 20260301 or 20260301-20260331.
        preliminary: Unsigned drafts are sent out too, by the server that has the same option.
        harm: File of what errors cost, such as configs/harm/chest.yaml; the queue begins with what may harm most.
        log: The log of studies that is written for `mmmed monitor`; none writes none.
        every: Seconds between two looks.
        once: Look once, and end.
    """
    import time
    from pathlib import Path

    from mmmed.data.sources.dicom_web import DicomWeb
    from mmmed.inference.generation import Decoding
    from mmmed.inference.session import open_session
    from mmmed.safety.harm import load_harm
    from mmmed.serving.answering.alone import answer_alone
    from mmmed.serving.database.engine import open_database
    from mmmed.serving.database.upgrade import upgrade
    from mmmed.serving.desk.desk import Desk, Rules
    from mmmed.serving.desk.harm import harm_by
    from mmmed.serving.hospital.intake import LONGEST, Intake
    from mmmed.serving.monitoring.study_log import IntakeLog

    if every <= 0:
        raise ConfigError(f"every is {every}; expected a number above 0")
    engine = open_database(database)
    upgrade(engine)
    session, name = open_session(checkpoint), Path(checkpoint.rstrip("/")).name
    rules = Rules(preliminary=preliminary, destinations=("dicom", "fhir") if preliminary else ())
    intake = Intake(
        folder=Path(folder),
        desk=Desk(engine, rules=rules),
        writer=lambda example: answer_alone(session, example, Decoding(max_new_tokens=LONGEST)),
        question=question,
        model=name,
        version=session.identity(),
        harm=harm_by(load_harm(harm)) if harm else None,
        log=IntakeLog(Path(log), session, model=name) if log else None,
    )
    studies = {"StudyDate": study_date} if study_date else None
    source = DicomWeb(archive, folder, studies=studies) if archive else None
    while True:
        if source is not None:
            source.prepare()
            if once:
                time.sleep(intake.settled)  # what was fetched is new, and only what has settled is taken in
        made = intake.look()
        if made or once:
            told = "; ".join(f"{count} {reason}" for reason, count in intake.passed_over.items())
            print(f"{made} new drafts{f'; passed over: {told}' if told else ''}", flush=True)
        if once:
            return
        time.sleep(every)


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
