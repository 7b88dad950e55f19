"""The commands that put a model behind a page, or into the terminal."""

from __future__ import annotations

import sys
from pathlib import Path

from mmmed.cli.lists import listed
from mmmed.errors import ConfigError, MmmedError


def demo(
    checkpoint: str,
    host: str = "127.0.0.1",
    port: int = 7860,
    names: str = "",
    name: str | None = None,
    index: str | None = None,
    card: str | None = None,
    policy: str | None = None,
    folder: str = "outputs/demo",
    sure: float = 0.6,
    harm: str = "",
    database: str | None = None,
    two_people: bool = False,
    archive: str = "",
    record: str = "",
    device: str | None = None,
) -> None:
    """Open a local page on which a model is asked about pictures, and an interface for programs beside it.

    Args:
        checkpoint: Folder of a run or its `model` folder, or a LLaVA of transformers, by folder or hub name.
        host: Address to listen on; anything but this machine's own needs accounts or a token (`MMMED_TOKEN`).
        port: Port to listen on; 0 takes a free one.
        names: Other host names that the server answers to, such as that of a proxy, with commas between.
        name: By which programs ask for the model; none takes the folder's name.
        index: Folder of passages to answer from, that `mmmed index` wrote.
        card: The model's `safety_card.json`; none takes the one beside the checkpoint, if there is one.
        policy: File of rules on what may be asked and said; none takes those of the package.
        folder: Where uploads are kept while they are looked at, and the log of who saw what.
        sure: Confidence below which the model is held not to know.
        harm: File of what errors cost, such as configs/harm/chest.yaml; drafts that may harm most come first.
        database: URL of the database of accounts and drafts: people log in, and hand answers in for sign-off.
        two_people: A report is signed by two people.
        archive: URL of the DICOMweb service that signed reports are stored in.
        record: Base of the FHIR server that signed results are posted to.
        device: Where to compute; none takes a GPU where there is one.
    """
    try:
        import fastapi  # noqa: F401
        import uvicorn  # noqa: F401
    except ImportError as error:
        raise ConfigError(f"the page needs {error.name}; install it with: pip install 'mmmed[serve]'") from error
    from mmmed.serving.demo.server import STUDIES, Wanted, application, open_model
    from mmmed.serving.web.server import serve
    from mmmed.serving.web.settings import Settings

    settings = Settings(host=host, port=port, names=listed(names))
    wanted = Wanted(
        checkpoint=checkpoint,
        name=name,
        index=index,
        card=card,
        policy=policy,
        folder=folder,
        sure=sure,
        device=device,
    )
    if not database:
        serve(application(open_model(wanted), settings, wanted), settings)
        return
    # Needs a database's packages, which the page alone does not.
    from mmmed.safety.harm import load_harm
    from mmmed.serving.deployment import Deployment, open_deployment
    from mmmed.serving.desk.handing_in import hands_in
    from mmmed.serving.desk.harm import harm_by
    from mmmed.serving.hospital.header import kept_of

    opened = open_deployment(
        Deployment(
            database=database,
            two_people=two_people,
            archive=archive,
            record=record,
            log=str(Path(folder) / STUDIES),
            start="/",
        )
    )
    costs = harm_by(load_harm(harm)) if harm else None
    served = open_model(wanted)
    version = served.engine.session.identity()
    draft = hands_in(opened.desk, model=served.name, version=version, harm=costs, keep=kept_of)
    serve(application(served, settings, wanted, parts=opened.parts, draft=draft), settings)


def chat(checkpoint: str, image: str = "", longest: int = 256, policy: str | None = None) -> None:
    """Ask a model in the terminal, question after question, each going on from those before it.

    An empty line ends it; `/image FILE` begins anew with another picture, `/new` without one.

    Args:
        checkpoint: Folder of a run or its `model` folder, or a LLaVA of transformers, by folder or hub name.
        image: PNG, JPEG or DICOM files to ask about, the oldest first, with commas between.
        longest: Longest answer, in tokens.
        policy: File of rules on what may be asked and said; none takes those of the package.
    """
    from mmmed.inference.loading import load
    from mmmed.safety.policy import Policy
    from mmmed.serving.answering.terminal import Conversation

    rules = Policy.load(policy)
    files = [Path(name) for name in listed(image)]
    conversation = Conversation(load(checkpoint), rules, files=files, longest=longest)
    print("Research use only; not medical advice.", file=sys.stderr)
    while line := _asked():
        try:
            for words in conversation.say(line):
                print(words, end="", flush=True)
        except MmmedError as error:
            print(f"mmmed: {error}", file=sys.stderr, end="")
        print()


def _asked() -> str:
    try:
        return input("> " if sys.stdin.isatty() else "").strip()
    except EOFError:
        return ""
