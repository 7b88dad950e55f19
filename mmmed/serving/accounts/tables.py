"""Tables of the accounts."""

from sqlalchemy import Boolean, CheckConstraint, Column, ForeignKey, Integer, String, Table

from mmmed.serving.database.tables import DIGEST, METADATA, NAME, TIME

USERS = Table(
    "users",
    METADATA,
    Column("name", String(NAME), primary_key=True),
    Column("full_name", String(200), nullable=False),
    Column("identifier", String(64), nullable=False),
    Column("role", String(16), nullable=False),
    Column("password", String(200), nullable=False),
    Column("active", Boolean, nullable=False),
    Column("made_at", String(TIME), nullable=False),
    CheckConstraint("role IN ('reader', 'radiologist', 'admin')", name="known_role"),
)
LOGINS = Table(
    "logins",
    METADATA,
    Column("token", String(DIGEST), primary_key=True),
    Column("name", String(NAME), ForeignKey("users.name"), nullable=False, index=True),
    Column("csrf", String(64), nullable=False),
    Column("begun_at", String(TIME), nullable=False),
    Column("seen_at", String(TIME), nullable=False),
)
ATTEMPTS = Table(
    "login_attempts",
    METADATA,
    Column("number", Integer, primary_key=True),
    Column("name", String(NAME), nullable=False, index=True),
    Column("at", String(TIME), nullable=False),
)
