"""Tables of sign-off. The events are the truth; drafts and locks are what is quickly found of it."""

from sqlalchemy import (
    CheckConstraint,
    Column,
    Float,
    ForeignKey,
    Index,
    Integer,
    LargeBinary,
    String,
    Table,
    Text,
    UniqueConstraint,
    text,
)

from mmmed.serving.database.tables import DIGEST, METADATA, NAME, TIME

EVENTS = Table(
    "events",
    METADATA,
    Column("sequence", Integer, primary_key=True, autoincrement=False),
    Column("draft", String(NAME), nullable=False),
    # Of the steps that change a draft; looking at it is kept too, and has none.
    Column("number", Integer),
    Column("act", String(16), nullable=False),
    Column("actor", String(NAME), nullable=False),
    Column("at", String(TIME), nullable=False),
    Column("content", Text, nullable=False),
    # Named by who sends: what is sent twice is done once.
    Column("request", String(NAME), unique=True),
    Column("previous", String(DIGEST), nullable=False, unique=True),
    Column("digest", String(DIGEST), nullable=False, unique=True),
    UniqueConstraint("draft", "number", name="one_step_at_a_time"),
    # Whatever the code does, the database holds one end of a draft.
    Index(
        "one_end",
        "draft",
        unique=True,
        sqlite_where=text("act IN ('signed', 'rejected')"),
        postgresql_where=text("act IN ('signed', 'rejected')"),
    ),
)
DRAFTS = Table(
    "drafts",
    METADATA,
    Column("id", String(NAME), primary_key=True),
    Column("made_at", String(TIME), nullable=False),
    Column("state", String(16), nullable=False),
    Column("steps", Integer, nullable=False),
    Column("approved_by", String(NAME), nullable=False),
    Column("question", Text, nullable=False),
    Column("priority", Float, nullable=False),
    Index("waiting", "state", "priority"),
)
LOCKS = Table(
    "locks",
    METADATA,
    # One row for a draft: two people cannot both have it.
    Column("draft", String(NAME), ForeignKey("drafts.id"), primary_key=True),
    Column("holder", String(NAME), nullable=False),
    Column("until", String(TIME), nullable=False),
)
PICTURES = Table(
    "pictures",
    METADATA,
    Column("draft", String(NAME), ForeignKey("drafts.id"), primary_key=True),
    Column("number", Integer, primary_key=True, autoincrement=False),
    Column("shown", LargeBinary, nullable=False),
    Column("header", LargeBinary, nullable=False),
    Column("digest", String(DIGEST), nullable=False),
)
OUTBOX = Table(
    "outbox",
    METADATA,
    Column("number", Integer, primary_key=True),
    Column("draft", String(NAME), ForeignKey("drafts.id"), nullable=False),
    Column("kind", String(16), nullable=False),
    Column("destination", String(16), nullable=False),
    Column("state", String(16), nullable=False),
    Column("attempts", Integer, nullable=False),
    Column("due_at", String(TIME), nullable=False),
    Column("told", String(200), nullable=False),
    UniqueConstraint("draft", "kind", "destination", name="sent_once"),
    CheckConstraint("kind IN ('preliminary', 'final', 'withdrawn')", name="known_kind"),
    CheckConstraint("state IN ('waiting', 'sent', 'dropped')", name="known_state"),
)
