"""Logins begin with the right password only, end in time, and cannot be guessed or taken from the database."""

import hashlib
import threading
import time

import pytest
from argon2 import PasswordHasher
from sqlalchemy import Engine, select

from mmmed.errors import AccountError
from mmmed.serving.accounts.accounts import Accounts
from mmmed.serving.accounts.passwords import Passwords, check_password
from mmmed.serving.accounts.tables import LOGINS, USERS
from mmmed.serving.accounts.user import Role, User
from mmmed.serving.database.engine import reading

from ..conftest import CHEAP, EACH, PASSWORD, Hands


def test_a_new_database_has_no_account(engine: Engine) -> None:
    assert Accounts(engine).users() == []


@EACH
def test_who_logs_in_is_found_by_the_token(accounts: Accounts) -> None:
    token = accounts.log_in(" Anna ", PASSWORD)
    login = accounts.find(token)
    assert login is not None
    assert login.user == User("anna", "Arzt^Anna", "R-100", Role.RADIOLOGIST)
    assert len(login.csrf) > 40
    assert accounts.find(token + "x") is None
    accounts.log_out(token)
    assert accounts.find(token) is None


def test_neither_password_nor_token_stands_in_the_database(accounts: Accounts) -> None:
    token = accounts.log_in("anna", PASSWORD)
    with reading(accounts.engine) as connection:
        kept = connection.execute(select(USERS.c.password)).scalars().all()
        tokens = connection.execute(select(LOGINS.c.token)).scalars().all()
    assert all(hash.startswith("$argon2id$") for hash in kept)
    assert len(set(kept)) == len(kept), "the same password has another salt each time"
    assert tokens == [hashlib.sha256(token.encode()).hexdigest()]


@pytest.mark.parametrize(
    ("name", "password"), [("anna", "another sentence"), ("nobody", PASSWORD), ("anna", "x" * 999)]
)
def test_a_refusal_does_not_say_what_was_wrong(accounts: Accounts, name: str, password: str) -> None:
    with pytest.raises(AccountError, match=r"^name or password is wrong$"):
        accounts.log_in(name, password)


def test_an_unknown_name_takes_as_long_as_a_wrong_password(engine: Engine) -> None:
    passwords = Passwords(PasswordHasher(time_cost=2, memory_cost=16384, parallelism=1))
    kept = passwords.hash(PASSWORD)

    def quickest(hash: str | None) -> float:
        times = []
        for _ in range(5):
            start = time.perf_counter()
            assert not passwords.match(hash, "another sentence")
            times.append(time.perf_counter() - start)
        return min(times)

    assert quickest(None) > quickest(kept) / 2


def test_a_login_ends_when_nothing_is_asked(accounts: Accounts, hands: Hands) -> None:
    token = accounts.log_in("anna", PASSWORD)
    for _ in range(5):
        hands.pass_(minutes=29)
        assert accounts.find(token) is not None
    hands.pass_(minutes=31)
    assert accounts.find(token) is None


def test_a_login_ends_after_a_day_of_work_in_any_case(accounts: Accounts, hands: Hands) -> None:
    token = accounts.log_in("anna", PASSWORD)
    for _ in range(36):
        hands.pass_(minutes=20)
        assert accounts.find(token) is not None
    hands.pass_(minutes=1)
    assert accounts.find(token) is None


def test_five_failures_close_a_name_for_a_while_and_no_other(accounts: Accounts, hands: Hands) -> None:
    for _ in range(5):
        with pytest.raises(AccountError, match="is wrong"):
            accounts.log_in("anna", "another sentence")
    with pytest.raises(AccountError, match="try again in 15 minutes"):
        accounts.log_in("anna", PASSWORD)
    assert accounts.log_in("bert", PASSWORD)
    hands.pass_(minutes=16)
    assert accounts.log_in("anna", PASSWORD)


@EACH
def test_many_attempts_at_once_are_counted_too(accounts: Accounts) -> None:
    told: list[str] = []

    def attempt() -> None:
        try:
            accounts.log_in("anna", "another sentence")
        except AccountError as error:
            told.append(str(error))

    threads = [threading.Thread(target=attempt) for _ in range(12)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sum("is wrong" in text for text in told) == 5
    assert sum("too many" in text for text in told) == 7


def test_who_is_disabled_or_has_a_new_password_is_out_at_once(accounts: Accounts) -> None:
    anna, bert = accounts.log_in("anna", PASSWORD), accounts.log_in("bert", PASSWORD)
    accounts.disable("anna")
    accounts.set_password("bert", "eleven red buckets")
    assert accounts.find(anna) is None
    assert accounts.find(bert) is None
    with pytest.raises(AccountError, match="is wrong"):
        accounts.log_in("anna", PASSWORD)
    accounts.enable("anna")
    assert accounts.log_in("anna", PASSWORD)
    assert accounts.log_in("bert", "eleven red buckets")


@pytest.mark.parametrize(
    ("user", "complaint"),
    [
        (User("Anna B", "Berg^Anna", "", Role.READER), "no name to log in with"),
        (User("../x", "Berg^Anna", "", Role.READER), "no name to log in with"),
        (User("anna", "Berg^Anna", "", Role.READER), "there is a user anna already"),
        (User("emil", " ", "", Role.RADIOLOGIST), "has no full name"),
    ],
)
def test_an_account_that_cannot_be_is_refused(accounts: Accounts, user: User, complaint: str) -> None:
    with pytest.raises(AccountError, match=complaint):
        accounts.add(user, PASSWORD)
    assert len(accounts.users()) == 4


def test_a_name_that_is_not_there_is_answered_with_those_that_are(accounts: Accounts) -> None:
    with pytest.raises(AccountError, match=r"no user 'ana' \(known: adam, anna, bert, rita\)"):
        accounts.disable("ana")


@pytest.mark.parametrize(
    "password", ["short", "x" * 257, "aaaaaaaaaaaaaaaa", "Password1234", "anna's own secret", "121212121212"]
)
def test_a_password_that_is_guessed_first_is_refused(password: str) -> None:
    with pytest.raises(AccountError, match="password"):
        check_password(password, name="anna")


def test_a_sentence_is_a_password() -> None:
    check_password(PASSWORD, name="anna")
    assert CHEAP.match(CHEAP.hash(PASSWORD), PASSWORD)
