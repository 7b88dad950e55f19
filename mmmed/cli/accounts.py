"""`mmmed accounts add | list | disable | password`: who may log in. There is no default account."""

import os
import sys
from getpass import getpass
from typing import Literal

from mmmed.errors import AccountError
from mmmed.serving.accounts.accounts import Accounts
from mmmed.serving.accounts.user import Role, User
from mmmed.serving.database.engine import open_database
from mmmed.serving.database.upgrade import upgrade

PASSWORD = "MMMED_PASSWORD"
"""Variable of the environment with a new password, where nobody can be asked for it."""


def add(
    name: str,
    role: Literal["reader", "radiologist", "admin"],
    full_name: str,
    identifier: str = "",
    database: str | None = None,
) -> None:
    """Make an account. Its password comes from `MMMED_PASSWORD`, or is asked for.

    Args:
        name: What is typed at login: small letters, digits and . _ -
        role: reader (asks), radiologist (reviews and signs) or admin (keeps the accounts).
        full_name: As it stands under a report, such as "Curie, Marie".
        identifier: Number in the register of practitioners.
        database: URL of the database; `MMMED_DATABASE` where none is given.
    """
    _accounts(database).add(User(name, full_name, identifier, Role(role)), _password())
    print(f"{name} may log in as {role}")


def list_accounts(database: str | None = None) -> None:
    """List the accounts: name, role, full name.

    Args:
        database: URL of the database; `MMMED_DATABASE` where none is given.
    """
    for user in _accounts(database).users():
        print(f"{user.name}  {user.role}  {user.full_name}{'' if user.active else '  (disabled)'}")


def disable(name: str, database: str | None = None) -> None:
    """Let somebody log in no more; what the person has signed stays.

    Args:
        name: Of the account.
        database: URL of the database; `MMMED_DATABASE` where none is given.
    """
    _accounts(database).disable(name)
    print(f"{name} may log in no more")


def password(name: str, database: str | None = None) -> None:
    """Change a password, and end all logins under it. The new one comes from `MMMED_PASSWORD`, or is asked for.

    Args:
        name: Of the account.
        database: URL of the database; `MMMED_DATABASE` where none is given.
    """
    _accounts(database).set_password(name, _password())
    print(f"{name} has a new password")


def _accounts(database: str | None) -> Accounts:
    engine = open_database(database)
    upgrade(engine)
    return Accounts(engine)


def _password() -> str:
    if given := os.environ.get(PASSWORD):
        return given
    if not sys.stdin.isatty():
        raise AccountError(f"nobody can be asked for a password here; set {PASSWORD}")
    first = getpass("Password: ")
    if first != getpass("Once more: "):
        raise AccountError("the two passwords differ; nothing was changed")
    return first
