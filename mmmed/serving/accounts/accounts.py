"""Users and their logins in the database."""

import hashlib
import re
import secrets
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

from sqlalchemy import Connection, Engine, delete, func, insert, select, update
from sqlalchemy.exc import IntegrityError

from mmmed.errors import AccountError
from mmmed.serving.accounts.passwords import LONGEST, Passwords, check_password
from mmmed.serving.accounts.tables import ATTEMPTS, LOGINS, USERS
from mmmed.serving.accounts.user import Login, Role, User
from mmmed.serving.database.clock import Clock, now, written
from mmmed.serving.database.engine import reading, writing

_NAME = re.compile(r"[a-z0-9][a-z0-9._-]{0,63}")
_REFUSED = "name or password is wrong"


@dataclass(frozen=True, slots=True)
class Limits:
    """How long logins last, and how many may fail.

    Args:
        idle: A login ends after this time without a request.
        longest: And after this time in any case.
        attempts: So many failed logins under one name within `window` are the last ones.
        window: After this time failed logins are forgotten.
    """

    idle: timedelta = timedelta(minutes=30)
    longest: timedelta = timedelta(hours=12)
    attempts: int = 5
    window: timedelta = timedelta(minutes=15)


class Accounts:
    """The people of a deployment.

    A login is a random token. The database knows its SHA-256 only, so that who reads the database cannot use it.

    Args:
        engine: The database, up to date.
        limits: How long logins last, and how many may fail.
        passwords: How passwords are hashed.
        clock: Tells the time.
    """

    def __init__(
        self, engine: Engine, *, limits: Limits | None = None, passwords: Passwords | None = None, clock: Clock = now
    ) -> None:
        self.engine = engine
        self.limits = limits or Limits()
        self._passwords = passwords or Passwords()
        self._clock = clock

    def add(self, user: User, password: str) -> None:
        """Make an account.

        Raises:
            AccountError: The name is taken or none, the full name is empty, or the password is weak.
        """
        if not _NAME.fullmatch(user.name):
            raise AccountError(f"{user.name!r} is no name to log in with; use small letters, digits and . _ -")
        if not user.full_name.strip():
            raise AccountError(f"user {user.name} has no full name, which stands under what is signed; give it")
        check_password(password, name=user.name)
        row = {
            "name": user.name,
            "full_name": user.full_name.strip(),
            "identifier": user.identifier.strip(),
            "role": str(user.role),
            "password": self._passwords.hash(password),
            "active": user.active,
            "made_at": written(self._clock()),
        }
        try:
            with writing(self.engine) as connection:
                connection.execute(insert(USERS).values(row))
        except IntegrityError:
            raise AccountError(f"there is a user {user.name} already; choose another name") from None

    def users(self) -> list[User]:
        """All accounts, by name."""
        with reading(self.engine) as connection:
            return [_user(row) for row in connection.execute(select(USERS).order_by(USERS.c.name))]

    def set_password(self, name: str, password: str) -> None:
        """Change a password, and end all logins under it.

        Raises:
            AccountError: There is no such user, or the password is weak.
        """
        check_password(password, name=name)
        self._alter(name, password=self._passwords.hash(password))

    def disable(self, name: str) -> None:
        """Let somebody log in no more, and end all logins. What the person has signed stays.

        Raises:
            AccountError: There is no such user.
        """
        self._alter(name, active=False)

    def enable(self, name: str) -> None:
        """Let somebody log in again.

        Raises:
            AccountError: There is no such user.
        """
        self._alter(name, active=True)

    def log_in(self, name: str, password: str) -> str:
        """Begin a login and return its token.

        Raises:
            AccountError: Name or password is wrong (which of them is not said), or too many attempts failed.
        """
        name = name.strip().casefold()[:64]
        self._count_attempt(name)
        with reading(self.engine) as connection:
            row = connection.execute(select(USERS).where(USERS.c.name == name)).first()
        # Hashing takes long on purpose, and is done outside of the transaction.
        right = len(password) <= LONGEST and self._passwords.match(row.password if row else None, password)
        if not right or row is None or not row.active:
            raise AccountError(_REFUSED)
        token, moment = secrets.token_urlsafe(32), written(self._clock())
        login = {"token": _digest(token), "name": name, "csrf": secrets.token_urlsafe(32)}
        with writing(self.engine) as connection:
            connection.execute(delete(ATTEMPTS).where(ATTEMPTS.c.name == name))
            connection.execute(delete(LOGINS).where(self._over()))
            connection.execute(insert(LOGINS).values(login | {"begun_at": moment, "seen_at": moment}))
        return token

    def find(self, token: str) -> Login | None:
        """Who a token belongs to; nobody where it is unknown, has expired, or the account is disabled.

        A request keeps the login from expiring.
        """
        wanted = select(USERS, LOGINS.c.csrf, LOGINS.c.seen_at).join(LOGINS).where(LOGINS.c.token == _digest(token))
        with reading(self.engine) as connection:
            row = connection.execute(wanted.where(~self._over(), USERS.c.active)).first()
        if row is None:
            return None
        moment = self._clock()
        # Not each request is a write: to the minute is exact enough.
        if row.seen_at < written(moment - min(timedelta(minutes=1), self.limits.idle / 10)):
            with writing(self.engine) as connection:
                seen = update(LOGINS).where(LOGINS.c.token == _digest(token)).values(seen_at=written(moment))
                connection.execute(seen)
        return Login(_user(row), row.csrf)

    def log_out(self, token: str) -> None:
        """End a login."""
        with writing(self.engine) as connection:
            connection.execute(delete(LOGINS).where(LOGINS.c.token == _digest(token)))

    def _count_attempt(self, name: str) -> None:
        """Count an attempt before it is known whether it fails, so that many at once are counted too."""
        moment = self._clock()
        with writing(self.engine) as connection:
            connection.execute(delete(ATTEMPTS).where(ATTEMPTS.c.at < written(moment - self.limits.window)))
            count = select(func.count()).select_from(ATTEMPTS).where(ATTEMPTS.c.name == name)
            if connection.execute(count).scalar_one() >= self.limits.attempts:
                minutes = max(1, round(self.limits.window.total_seconds() / 60))
                raise AccountError(f"too many attempts to log in have failed; try again in {minutes} minutes")
            connection.execute(insert(ATTEMPTS).values(name=name, at=written(moment)))

    def _over(self) -> Any:
        moment = self._clock()
        idle, longest = written(moment - self.limits.idle), written(moment - self.limits.longest)
        return (LOGINS.c.seen_at < idle) | (LOGINS.c.begun_at < longest)

    def _alter(self, name: str, **values: object) -> None:
        with writing(self.engine) as connection:
            if connection.execute(update(USERS).where(USERS.c.name == name).values(**values)).rowcount == 0:
                known = _names(connection)
                raise AccountError(f"there is no user {name!r} (known: {', '.join(known) or 'none'})")
            connection.execute(delete(LOGINS).where(LOGINS.c.name == name))


def _names(connection: Connection) -> Sequence[str]:
    return connection.execute(select(USERS.c.name).order_by(USERS.c.name)).scalars().all()


def _user(row: Any) -> User:
    return User(row.name, row.full_name, row.identifier, Role(row.role), row.active)


def _digest(token: str) -> str:
    return hashlib.sha256(token.encode()).hexdigest()
