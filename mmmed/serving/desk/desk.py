"""The store of sign-off: each step is one transaction that checks the rules, keeps the event and fills the outbox."""

import json
import uuid
from collections.abc import Callable
from dataclasses import asdict, dataclass
from datetime import timedelta
from typing import Any

from sqlalchemy import Connection, Engine, delete, insert, select, update
from sqlalchemy.exc import IntegrityError

from mmmed.errors import SignoffError
from mmmed.serving.accounts.user import Role, User
from mmmed.serving.database.clock import Clock, now, written
from mmmed.serving.database.engine import reading, writing
from mmmed.serving.desk.chain import chain_key
from mmmed.serving.desk.draft import LONGEST_TEXT, NewDraft, Opened, Picture, Waiting
from mmmed.serving.desk.history import SEEN, Entry, append, event_of, facts_of, rows_of, steps_of
from mmmed.serving.desk.outbox import put_final, put_preliminary, withdraw
from mmmed.serving.desk.states import FINAL, Act, Standing, State, Step, advance, fold
from mmmed.serving.desk.tables import DRAFTS, EVENTS, LOCKS, PICTURES

_ENDS_REVIEW = frozenset({Act.RETURNED, Act.APPROVED, Act.SIGNED, Act.REJECTED})


@dataclass(frozen=True, slots=True)
class Rules:
    """How sign-off works in a place.

    Args:
        two_people: A report is signed by two people.
        lock: So long a draft is kept for who took it, from the last step on.
        preliminary: Unsigned drafts are sent out too, marked as preliminary and as a machine's.
        destinations: Where results are sent: `dicom`, `fhir`, `log`.
    """

    two_people: bool = False
    lock: timedelta = timedelta(minutes=15)
    preliminary: bool = False
    destinations: tuple[str, ...] = ()


class Desk:
    """Drafts and what people do with them.

    Every change names a request, an identifier that whoever sends makes up: sent twice, as after a server that died
    before it answered, it is done once.

    Args:
        engine: The database, up to date.
        rules: How sign-off works here.
        clock: Tells the time.
    """

    def __init__(self, engine: Engine, *, rules: Rules | None = None, clock: Clock = now) -> None:
        self.engine = engine
        self.rules = rules or Rules()
        self.clock = clock
        self._key = chain_key()

    def hand_in(self, draft: NewDraft, *, by: str, request: str) -> str:
        """Put a draft into the queue, and return its identifier.

        Args:
            draft: What the model said.
            by: Who or what hands it in.
            request: The same for the same draft.
        """
        at, id = written(self.clock()), uuid.uuid4().hex
        facts: dict[str, Any] = {
            "question": draft.question,
            "model": draft.model,
            "model_version": draft.model_version,
            "uncertainty": draft.uncertainty,
            "harm": draft.harm,
            "pictures": [picture.digest for picture in draft.pictures],
            "attributes": dict(draft.attributes),
            "study": draft.study,
        }
        content = json.dumps({"text": draft.text, "facts": facts}, sort_keys=True)
        with writing(self.engine) as connection:
            if (done := _draft_of(connection, request)) is not None:
                return done
            append(connection, Entry(id, 1, Act.DRAFTED, by, at, content, request), key=self._key)
            row = {"id": id, "made_at": at, "state": State.DRAFT, "steps": 1, "approved_by": ""}
            row |= {"question": draft.question, "priority": draft.priority}
            connection.execute(insert(DRAFTS).values(row))
            for number, picture in enumerate(draft.pictures):
                kept = asdict(picture) | {"draft": id, "number": number, "digest": picture.digest}
                connection.execute(insert(PICTURES).values(kept))
            if self.rules.preliminary:
                put_preliminary(connection, id, self._destinations(connection, id), at=at)
        return id

    def is_done(self, request: str) -> bool:
        """Whether a request was done already."""
        with reading(self.engine) as connection:
            return _draft_of(connection, request) is not None

    def queue(self) -> list[Waiting]:
        """What waits for a person: the most uncertain and most harmful first, then the oldest."""
        moment = written(self.clock())
        holder = select(LOCKS.c.holder).where(LOCKS.c.draft == DRAFTS.c.id, LOCKS.c.until >= moment).scalar_subquery()
        wanted = select(DRAFTS, holder.label("holder")).where(DRAFTS.c.state.not_in([str(state) for state in FINAL]))
        with reading(self.engine) as connection:
            rows = connection.execute(wanted.order_by(DRAFTS.c.priority.desc(), DRAFTS.c.made_at, DRAFTS.c.id))
            return [
                Waiting(
                    id=row.id,
                    made_at=row.made_at,
                    state=row.state,
                    question=row.question,
                    priority=row.priority,
                    approved_by=row.approved_by,
                    holder=row.holder or "",
                )
                for row in rows
            ]

    def done(self, *, most: int = 50) -> list[Waiting]:
        """What was signed or rejected, the latest draft first."""
        wanted = select(DRAFTS).where(DRAFTS.c.state.in_([str(state) for state in FINAL]))
        with reading(self.engine) as connection:
            rows = connection.execute(wanted.order_by(DRAFTS.c.made_at.desc()).limit(most))
            names = ("id", "made_at", "state", "question", "priority", "approved_by")
            return [Waiting(holder="", **{name: getattr(row, name) for name in names}) for row in rows]

    def open(self, id: str) -> Opened:
        """A draft with its history.

        Raises:
            SignoffError: There is no such draft.
        """
        with reading(self.engine) as connection:
            return self._open(connection, id)

    def look(self, id: str, *, by: User) -> Opened:
        """The same, and keep that somebody has seen it.

        Raises:
            SignoffError: There is no such draft.
        """
        with writing(self.engine) as connection:
            opened = self._open(connection, id)
            entry = Entry(id, None, SEEN, by.name, written(self.clock()), "{}", None)
            append(connection, entry, key=self._key)
        return opened

    def picture(self, id: str, number: int) -> Picture:
        """A picture of a draft.

        Raises:
            SignoffError: There is none.
        """
        wanted = select(PICTURES).where(PICTURES.c.draft == id, PICTURES.c.number == number)
        with reading(self.engine) as connection:
            row = connection.execute(wanted).first()
        if row is None:
            raise SignoffError("there is no such picture")
        return Picture(bytes(row.shown), bytes(row.header))

    def take(self, id: str, *, by: User, request: str) -> None:
        """Take a draft into review; nobody else can, until it is returned, ended, or the time is over.

        Raises:
            SignoffError: Somebody else reviews it, it is final, or the person may not review.
        """

        def lock(connection: Connection, standing: Standing, moment: str) -> bool:
            connection.execute(delete(LOCKS).where(LOCKS.c.draft == id, LOCKS.c.until < moment))
            holder = connection.execute(select(LOCKS.c.holder).where(LOCKS.c.draft == id)).scalar_one_or_none()
            if holder not in (None, by.name):
                raise SignoffError(f"the draft is in review by {holder}; take another one")
            if holder == by.name and standing.holder == by.name:
                self._extend(connection, id)
                return False
            if standing.is_final:
                return True  # the rules say why this cannot be
            until = written(self.clock() + self.rules.lock)
            connection.execute(delete(LOCKS).where(LOCKS.c.draft == id))
            connection.execute(insert(LOCKS).values(draft=id, holder=by.name, until=until))
            return True

        self._step(id, Step(act=Act.TAKEN, actor=by.name), by=by, request=request, steps=None, before=lock)

    def give_back(self, id: str, *, by: User, request: str, steps: int | None = None) -> None:
        """Return a draft to the queue. Raises `SignoffError` as `sign` does."""
        self._step(id, Step(act=Act.RETURNED, actor=by.name), by=by, request=request, steps=steps)

    def amend(self, id: str, text: str, *, by: User, request: str, reason: str = "", steps: int | None = None) -> None:
        """Change the text. Raises `SignoffError` as `sign` does, and where the text is empty or the same."""
        if len(text) > LONGEST_TEXT:
            raise SignoffError(f"the text has more than {LONGEST_TEXT} characters")
        step = Step(act=Act.AMENDED, actor=by.name, text=text, reason=reason)
        self._step(id, step, by=by, request=request, steps=steps)

    def approve(self, id: str, *, by: User, request: str, steps: int | None = None) -> None:
        """Sign first, of two people. Raises `SignoffError` as `sign` does."""
        self._step(id, Step(act=Act.APPROVED, actor=by.name), by=by, request=request, steps=steps)

    def sign(self, id: str, *, by: User, request: str, steps: int | None = None) -> None:
        """Answer for the text as it is; it becomes final and leaves.

        Args:
            id: The draft.
            by: Who signs.
            request: The same for the same click.
            steps: How many steps the draft had when the person saw it; another number is refused.

        Raises:
            SignoffError: The person does not hold the draft, or no more; the text has changed since it was seen; it
                is final already; another person must approve it first.
        """
        self._step(id, Step(act=Act.SIGNED, actor=by.name), by=by, request=request, steps=steps)

    def reject(self, id: str, reason: str, *, by: User, request: str, steps: int | None = None) -> None:
        """Refuse the draft; it never leaves. Raises `SignoffError` as `sign` does, and without a reason."""
        if len(reason) > LONGEST_TEXT:
            raise SignoffError(f"the reason has more than {LONGEST_TEXT} characters")
        self._step(id, Step(act=Act.REJECTED, actor=by.name, reason=reason), by=by, request=request, steps=steps)

    def _step(
        self,
        id: str,
        step: Step,
        *,
        by: User,
        request: str,
        steps: int | None,
        before: Callable[[Connection, Standing, str], bool] | None = None,
    ) -> None:
        if by.role is not Role.RADIOLOGIST or not by.active:
            raise SignoffError(f"{by.name} is {by.role}; only a radiologist reviews")
        at = written(self.clock())
        try:
            with writing(self.engine) as connection:
                if (done := _draft_of(connection, request)) is not None:
                    if done != id:
                        raise SignoffError("this request belongs to another draft; load the page again")
                    return
                standing = self._standing(connection, id)
                if steps is not None and steps != standing.steps:
                    raise SignoffError("the draft has changed since this page was loaded; read it again")
                if before is not None:
                    if not before(connection, standing, at):
                        return
                elif not standing.is_final:
                    self._check_lock(connection, id, by.name, at)
                after = advance(standing, step, two_people=self.rules.two_people)
                told = {"text": step.text, "reason": step.reason, "full_name": by.full_name}
                content = json.dumps(told | {"identifier": by.identifier}, sort_keys=True)
                entry = Entry(id, after.steps, step.act, by.name, at, content, request)
                append(connection, entry, key=self._key)
                self._keep(connection, id, after, step.act, at)
        except IntegrityError:
            # Should be impossible, as writers come one after the other; the database has the last word.
            raise SignoffError("somebody else was faster; read the draft again") from None

    def _keep(self, connection: Connection, id: str, after: Standing, act: Act, at: str) -> None:
        changed = {"state": str(after.state), "steps": after.steps, "approved_by": after.approved_by}
        connection.execute(update(DRAFTS).where(DRAFTS.c.id == id).values(changed))
        if act in _ENDS_REVIEW:
            connection.execute(delete(LOCKS).where(LOCKS.c.draft == id))
        else:
            self._extend(connection, id)
        if after.state is State.SIGNED:
            put_final(connection, id, self._destinations(connection, id), at=at)
        elif after.state is State.REJECTED:
            withdraw(connection, id, at=at)

    def _destinations(self, connection: Connection, id: str) -> list[str]:
        """Where a result can go: into the archive only what belongs to a study in it."""
        headers = connection.execute(select(PICTURES.c.header).where(PICTURES.c.draft == id)).scalars()
        has_study = any(bytes(header) for header in headers)
        return [name for name in self.rules.destinations if has_study or name != "dicom"]

    def _check_lock(self, connection: Connection, id: str, name: str, moment: str) -> None:
        lock = connection.execute(select(LOCKS).where(LOCKS.c.draft == id)).first()
        if lock is None:
            raise SignoffError("the draft is in nobody's review; take it into review first")
        if lock.holder != name:
            raise SignoffError(f"the draft is in review by {lock.holder}; take another one")
        if lock.until < moment:
            raise SignoffError("the time for this review is over; take the draft again, and read it again")

    def _extend(self, connection: Connection, id: str) -> None:
        until = written(self.clock() + self.rules.lock)
        connection.execute(update(LOCKS).where(LOCKS.c.draft == id).values(until=until))

    def _standing(self, connection: Connection, id: str) -> Standing:
        return fold(steps_of(rows_of(connection, id)))

    def _open(self, connection: Connection, id: str) -> Opened:
        rows = rows_of(connection, id)
        standing = fold(steps_of(rows))
        wanted = select(LOCKS).where(LOCKS.c.draft == id, LOCKS.c.until >= written(self.clock()))
        lock = connection.execute(wanted).first()
        return Opened(
            facts=facts_of(rows[0]),
            standing=standing,
            history=tuple(event_of(row) for row in rows),
            holder=lock.holder if lock else "",
            until=lock.until if lock else "",
        )


def _draft_of(connection: Connection, request: str) -> str | None:
    """The draft that a request was about, where it was done already."""
    if not 16 <= len(request) <= 64:
        raise SignoffError("a request needs an identifier of 16 to 64 characters; load the page again")
    found: str | None = connection.execute(
        select(EVENTS.c.draft).where(EVENTS.c.request == request)
    ).scalar_one_or_none()
    return found
