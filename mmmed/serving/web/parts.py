"""What a part brings to the application: its routes, its pages, its entry in the navigation, and what it starts."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from typing import NamedTuple

from fastapi import APIRouter, FastAPI, Request


class Link(NamedTuple):
    """An entry of the navigation."""

    path: str
    words: str


class Identity(NamedTuple):
    """Who somebody is who has logged in.

    Args:
        name: By which the audit log knows them.
        shown: How pages call them.
    """

    name: str
    shown: str


Identify = Callable[[Request], Awaitable[Identity | None]]
"""Says who is asking; None where nobody has logged in."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Part:
    """A part of the application.

    Args:
        name: Short name, by which its files are found under `/static/NAME/`.
        router: Its routes.
        room: Package with its folders `templates` and `static`; empty where it has neither.
        link: Its entry in the navigation.
        identify: Says who is asking. At most one part does; with it, pages ask for a login.
        login: Path of the page that asks for it; goes with `identify`.
        logout: Path that a logged-in visitor posts to in order to leave; goes with `identify`.
        running: Opened when the application starts and closed when it ends.
    """

    name: str
    router: APIRouter
    room: str = ""
    link: Link | None = None
    identify: Identify | None = None
    login: str = ""
    logout: str = ""
    running: Callable[[FastAPI], AbstractAsyncContextManager[None]] | None = None
