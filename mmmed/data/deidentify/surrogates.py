"""What stands in the place of an identifier: made up, of the same form, and the same for one patient throughout.

A surrogate depends on the secret key, the patient and the original alone. Whoever lacks the key cannot go back.
"""

import hashlib
import hmac
import re
from collections.abc import Callable
from functools import cached_property
from typing import ClassVar

from mmmed.data.deidentify import lexicon
from mmmed.data.deidentify.dates import shift
from mmmed.data.deidentify.entities import Kind
from mmmed.data.deidentify.spanish import is_spanish

_WORD = re.compile(r"[^\W\d_][\w'\u2019-]*")
_WEEKS = 52
"""Dates move by whole weeks, so that days of the week stay, and by a year at most, so that ages nearly do."""

# Enough to hide in; the rarest of the lists would be conspicuous.
_FREQUENT = 300
_TOWNS = lexicon.in_order("surrogate_towns")
_STREETS = lexicon.in_order("surrogate_streets")


class Surrogates:
    """Makes surrogates for one patient.

    Args:
        key: The secret.
        patient: Who; two patients get different surrogates for the same name.
    """

    def __init__(self, key: bytes, *, patient: str) -> None:
        self._key = key
        self._patient = patient
        self._memory: dict[tuple[str, str], str] = {}

    @cached_property
    def days(self) -> int:
        """By how many days this patient's dates move; never 0."""
        weeks = 1 + self._number("shift", "") % _WEEKS
        return 7 * weeks * (1 if self._number("direction", "") % 2 else -1)

    def replace(self, kind: Kind, original: str, *, day_first: bool = False) -> str:
        """The surrogate of one identifier. A date that cannot be read becomes ``[date]``."""
        memory = (kind, original)
        if memory not in self._memory:
            if kind == "date":
                self._memory[memory] = shift(original, self.days, day_first=day_first) or "[date]"
            else:
                self._memory[memory] = self._MAKERS[kind](self, original)
        return self._memory[memory]

    def token(self, kind: str, original: str) -> str:
        """A code for a whole identifier such as a patient's number: 16 hexadecimal digits."""
        return self._digest(kind, original).hex()[:16]

    def _name(self, original: str) -> str:
        return _WORD.sub(lambda match: self._name_word(match[0]), original)

    def _name_word(self, word: str) -> str:
        stem = re.sub(r"['\u2019]s$", "", word)
        lower = stem.lower()
        if word[0].islower() and len(word) < 5:
            return word  # de, van, y
        if len(stem) == 1:
            return chr(ord("A") + self._number("initial", lower) % 26)
        names = lexicon.in_order("last")
        for sex in ("female", "male"):
            if lower in lexicon.words_of(sex):
                names = lexicon.in_order(sex)
                break
        chosen = names[self._number("name", lower) % min(_FREQUENT, len(names))]
        if chosen == lower:
            chosen = names[(names.index(chosen) + 1) % _FREQUENT]
        return _in_case_of(stem, chosen) + word[len(stem) :]

    def _same_form(self, original: str) -> str:
        """Other digits for digits, other letters for letters."""
        # "#123" and "123" are one number.
        stream = iter(self._stream("form", "".join(filter(str.isalnum, original)), len(original)))
        return "".join(_like(character, next(stream)) if character.isalnum() else character for character in original)

    def _phone(self, original: str) -> str:
        # 555 is no area code, and its last four digits reach nobody.
        made = self._same_form(original)
        digits = [place for place, character in enumerate(made) if character.isdigit()]
        if len(digits) >= 10:
            letters = list(made)
            for place in digits[-10:-7]:
                letters[place] = "5"
            return "".join(letters)
        return made

    def _email(self, original: str) -> str:
        return f"{self.token('email', original.lower())[:8]}@example.org"

    def _url(self, original: str) -> str:
        return f"https://example.org/{self.token('url', original)[:8]}"

    def _address_of_net(self, original: str) -> str:
        number = self._number("ip", original)
        return f"2001:db8::{number % 0xFFFF:x}" if ":" in original else f"192.0.2.{number % 254 + 1}"

    def _ssn(self, original: str) -> str:
        # No number begins with 000.
        made = self._same_form(original)
        return re.sub(r"\d", "0", made[:3]) + made[3:]

    def _address(self, original: str) -> str:
        number = self._number("address", original.lower())
        return f"{number % 900 + 100} {_STREETS[number // 1000 % len(_STREETS)]} Street"

    def _place(self, original: str) -> str:
        if not any(character.isalpha() for character in original):
            return self._same_form(original)
        return _TOWNS[self._number("place", original.lower()) % len(_TOWNS)]

    def _institution(self, original: str) -> str:
        noun = "Clinic" if "clinic" in original.lower() or "clínica" in original.lower() else "Hospital"
        return f"{_TOWNS[self._number('institution', original.lower()) % len(_TOWNS)]} {noun}"

    def _age(self, original: str) -> str:
        return "90"

    _MAKERS: ClassVar[dict[str, Callable[["Surrogates", str], str]]] = {
        "name": _name,
        "age": _age,
        "phone": _phone,
        "fax": _phone,
        "email": _email,
        "url": _url,
        "ip_address": _address_of_net,
        "ssn": _ssn,
        "address": _address,
        "place": _place,
        "institution": _institution,
        **dict.fromkeys(
            (
                "record_number",
                "accession",
                "health_plan",
                "account",
                "licence",
                "vehicle",
                "device",
                "identifier",
            ),
            _same_form,
        ),
    }

    def _digest(self, kind: str, original: str) -> bytes:
        message = f"{self._patient}\0{kind}\0{original}".encode()
        return hmac.new(self._key, message, hashlib.sha256).digest()

    def _number(self, kind: str, original: str) -> int:
        return int.from_bytes(self._digest(kind, original)[:8], "big")

    def _stream(self, kind: str, original: str, length: int) -> bytes:
        stream = b""
        while len(stream) < length:
            stream += self._digest(f"{kind} {len(stream)}", original)
        return stream[:length]


def reads_day_first(text: str) -> bool:
    """Say whether 3/4/2020 is the third of April in this text."""
    return is_spanish(text)


def _like(character: str, byte: int) -> str:
    if character.isdigit():
        return str((int(character) + 1 + byte % 9) % 10) if character.isascii() else "0"
    if character.isascii() and character.isalpha():
        first = ord("A" if character.isupper() else "a")
        return chr(first + (ord(character) - first + 1 + byte % 25) % 26)
    return character


def _in_case_of(example: str, word: str) -> str:
    if example.isupper():
        return word.upper()
    return word.capitalize() if example[0].isupper() else word
