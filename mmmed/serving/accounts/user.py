"""Who works with a deployment, in which role."""

from dataclasses import dataclass
from enum import StrEnum


class Role(StrEnum):
    """What somebody is there for; each may do its own things only."""

    READER = "reader"
    """Asks, and hands drafts in."""
    RADIOLOGIST = "radiologist"
    """Asks, reviews, amends, signs and rejects."""
    ADMIN = "admin"
    """Keeps the accounts; signs nothing."""


@dataclass(frozen=True, slots=True)
class User:
    """A person with an account.

    Args:
        name: What is typed at login.
        full_name: As it stands under a report, family name first: `Curie^Marie` or `Curie, Marie`.
        identifier: Number in the register of practitioners; empty where there is none.
        role: What the person may do.
        active: Whether the person may log in.
    """

    name: str
    full_name: str
    identifier: str
    role: Role
    active: bool = True

    @property
    def shown_name(self) -> str:
        """The full name as pages write it: `Curie, Marie`."""
        return self.full_name.replace("^", ", ", 1).replace("^", " ")


@dataclass(frozen=True, slots=True)
class Login:
    """A person who is logged in.

    Args:
        user: Who.
        csrf: What each form must send back, so that another site's form does nothing.
    """

    user: User
    csrf: str
