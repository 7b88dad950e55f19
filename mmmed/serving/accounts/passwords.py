"""What a password must be, and how it is kept: as an Argon2id hash."""

from argon2 import PasswordHasher
from argon2.exceptions import InvalidHashError, VerificationError

from mmmed.errors import AccountError

SHORTEST, LONGEST = 12, 256
_FEWEST_CHARACTERS = 5
_GUESSED_FIRST = ("password", "passwort", "123456", "qwerty", "letmein", "welcome", "radiolog", "hospital", "mmmed")


def check_password(password: str, *, name: str) -> None:
    """Refuse a password that is guessed first.

    Raises:
        AccountError: It is too short or too long, holds the user's name, or is of a common kind.
    """
    low = password.casefold()
    if not SHORTEST <= len(password) <= LONGEST:
        raise AccountError(f"a password has {SHORTEST} to {LONGEST} characters; use a sentence of your own")
    if name.casefold() in low:
        raise AccountError("the password holds the user's name; use another")
    rest = low
    for common in _GUESSED_FIRST:
        rest = rest.replace(common, "")
    if len(set(low)) < _FEWEST_CHARACTERS or len(rest) < len(low) / 2:
        raise AccountError("the password is one of those that are guessed first; use a sentence of your own")


class Passwords:
    """Hashes passwords and compares them.

    Args:
        hasher: With which costs; the default is the library's, some 50 ms and 64 MB for each.
    """

    def __init__(self, hasher: PasswordHasher | None = None) -> None:
        self._hasher = hasher or PasswordHasher()
        # Compared with where there is no such user, so that the answer takes as long.
        self._nobody = self._hasher.hash("a password that nobody has")

    def hash(self, password: str) -> str:
        """A salted hash with its settings."""
        return self._hasher.hash(password)

    def match(self, kept: str | None, password: str) -> bool:
        """Whether the password is the one that was hashed; without a hash, no, and no sooner."""
        try:
            right = self._hasher.verify(kept or self._nobody, password)
        except (VerificationError, InvalidHashError):
            return False
        return right and kept is not None
