"""A model behind its page and its interface, with sign-off where a database of drafts is named."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from fastapi import FastAPI

from mmmed.inference.loading import load
from mmmed.inference.retrieval import read_index
from mmmed.safety.policy import Policy
from mmmed.serving.answering.engine import Capacity, Engine
from mmmed.serving.answering.served import Served, read_card
from mmmed.serving.demo.answers import Draft
from mmmed.serving.demo.part import demo_part
from mmmed.serving.monitoring.study_log import StudyLog
from mmmed.serving.openai import interface_part
from mmmed.serving.uploads.folder import Room, Uploads
from mmmed.serving.web.application import make_application
from mmmed.serving.web.parts import Part
from mmmed.serving.web.seen import SeenLog
from mmmed.serving.web.settings import Settings

UPLOADS, SEEN, STUDIES = "uploads", "seen.jsonl", "studies.jsonl"


@dataclass(frozen=True, slots=True, kw_only=True)
class Wanted:
    """What is served.

    Args:
        checkpoint: The model.
        name: By which programs ask for it; none takes the folder's.
        index: Folder of passages that `mmmed index` wrote, or none.
        card: The safety card; none takes the one beside the checkpoint, if there is one.
        policy: File of rules; none takes those that come with the package.
        folder: Where uploads, the log of who saw what and the log of studies are.
        sure: Confidence below which the model is held not to know.
        device: Where to compute; none takes a GPU where there is one.
    """

    checkpoint: str
    name: str | None = None
    index: str | None = None
    card: str | None = None
    policy: str | None = None
    folder: str = "outputs/demo"
    sure: float = 0.6
    device: str | None = None


def open_model(wanted: Wanted, capacity: Capacity | None = None) -> Served:
    """Load all that answers are made with; a mistake in any of it is told before the server starts.

    Raises:
        MmmedError: Something that was named is not there or does not fit.
    """
    policy = Policy.load(wanted.policy)
    card = read_card(wanted.checkpoint, wanted.card)
    index = read_index(Path(wanted.index)) if wanted.index else None
    session = load(wanted.checkpoint, device=wanted.device)
    name = wanted.name or Path(wanted.checkpoint.rstrip("/")).name
    return Served(name=name, engine=Engine(session, capacity), policy=policy, index=index, card=card)


def application(
    served: Served, settings: Settings, wanted: Wanted, *, parts: tuple[Part, ...] = (), draft: Draft | None = None
) -> FastAPI:
    """The page and the interface, with further parts.

    Args:
        served: The model.
        settings: Where the server listens and how much it takes.
        wanted: What is served.
        parts: Such as accounts and the desk.
        draft: Hands an answer in for sign-off; with it, the page has a button that does.
    """
    folder = Path(wanted.folder)
    uploads = Uploads(folder / UPLOADS, room=Room(bytes=settings.upload_bytes))
    seen = SeenLog(folder / SEEN)
    log = StudyLog(folder / STUDIES, served.engine, model=served.name)
    page = demo_part(served, uploads, seen, log, draft=draft, sure=wanted.sure)
    return make_application(settings, [interface_part(served, uploads, seen), page, *parts])
