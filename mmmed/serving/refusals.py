"""What the server refuses, each with the status that says so to a program."""

from __future__ import annotations

from typing import ClassVar

from mmmed.errors import MmmedError


class Refusal(MmmedError):
    """A request that is not carried out."""

    status: ClassVar[int] = 422


class Busy(Refusal):
    """So many wait already that another would wait too long; to be tried again later."""

    status = 503


class Closed(Refusal):
    """The server is ending."""

    status = 503


class Full(Refusal):
    """The owner, or all visitors together, keep more than there is room for."""

    status = 429


class Gone(Refusal):
    """There is no such thing, or it is another's: nobody can tell which."""

    status = 404
