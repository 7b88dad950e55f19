"""Events that can only be added to, drafts, locks, pictures, and what may leave."""

import sqlalchemy as sa
from alembic import op

revision = "signoff"
down_revision = "accounts"

_FIXED = "events can only be added to"
_SQLITE = (
    f"CREATE TRIGGER events_are_not_changed BEFORE UPDATE ON events BEGIN SELECT RAISE(ABORT, '{_FIXED}'); END",
    f"CREATE TRIGGER events_are_not_removed BEFORE DELETE ON events BEGIN SELECT RAISE(ABORT, '{_FIXED}'); END",
    # INSERT OR REPLACE removes rows without the trigger above.
    f"""CREATE TRIGGER events_are_not_replaced BEFORE INSERT ON events WHEN EXISTS (
        SELECT 1 FROM events WHERE sequence = NEW.sequence OR previous = NEW.previous OR digest = NEW.digest
    ) BEGIN SELECT RAISE(ABORT, '{_FIXED}'); END""",
)
_POSTGRESQL = (
    f"""CREATE FUNCTION refuse_change() RETURNS trigger LANGUAGE plpgsql AS $$
    BEGIN RAISE EXCEPTION '{_FIXED}'; END $$""",
    """CREATE TRIGGER events_are_not_changed BEFORE UPDATE OR DELETE ON events
    FOR EACH ROW EXECUTE FUNCTION refuse_change()""",
    """CREATE TRIGGER events_are_not_emptied BEFORE TRUNCATE ON events
    FOR EACH STATEMENT EXECUTE FUNCTION refuse_change()""",
)


def upgrade() -> None:
    """Make the tables, and the triggers that keep events as they are."""
    op.create_table(
        "events",
        sa.Column("sequence", sa.Integer(), primary_key=True, autoincrement=False),
        sa.Column("draft", sa.String(64), nullable=False),
        sa.Column("number", sa.Integer()),
        sa.Column("act", sa.String(16), nullable=False),
        sa.Column("actor", sa.String(64), nullable=False),
        sa.Column("at", sa.String(32), nullable=False),
        sa.Column("content", sa.Text(), nullable=False),
        sa.Column("request", sa.String(64), unique=True),
        sa.Column("previous", sa.String(64), nullable=False, unique=True),
        sa.Column("digest", sa.String(64), nullable=False, unique=True),
        sa.UniqueConstraint("draft", "number", name="one_step_at_a_time"),
    )
    final = sa.text("act IN ('signed', 'rejected')")
    op.create_index("one_end", "events", ["draft"], unique=True, sqlite_where=final, postgresql_where=final)
    op.create_table(
        "drafts",
        sa.Column("id", sa.String(64), primary_key=True),
        sa.Column("made_at", sa.String(32), nullable=False),
        sa.Column("state", sa.String(16), nullable=False),
        sa.Column("steps", sa.Integer(), nullable=False),
        sa.Column("approved_by", sa.String(64), nullable=False),
        sa.Column("question", sa.Text(), nullable=False),
        sa.Column("priority", sa.Float(), nullable=False),
    )
    op.create_index("waiting", "drafts", ["state", "priority"])
    op.create_table(
        "locks",
        sa.Column("draft", sa.String(64), sa.ForeignKey("drafts.id"), primary_key=True),
        sa.Column("holder", sa.String(64), nullable=False),
        sa.Column("until", sa.String(32), nullable=False),
    )
    op.create_table(
        "pictures",
        sa.Column("draft", sa.String(64), sa.ForeignKey("drafts.id"), primary_key=True),
        sa.Column("number", sa.Integer(), primary_key=True, autoincrement=False),
        sa.Column("shown", sa.LargeBinary(), nullable=False),
        sa.Column("header", sa.LargeBinary(), nullable=False),
        sa.Column("digest", sa.String(64), nullable=False),
    )
    op.create_table(
        "outbox",
        sa.Column("number", sa.Integer(), primary_key=True),
        sa.Column("draft", sa.String(64), sa.ForeignKey("drafts.id"), nullable=False),
        sa.Column("kind", sa.String(16), nullable=False),
        sa.Column("destination", sa.String(16), nullable=False),
        sa.Column("state", sa.String(16), nullable=False),
        sa.Column("attempts", sa.Integer(), nullable=False),
        sa.Column("due_at", sa.String(32), nullable=False),
        sa.Column("told", sa.String(200), nullable=False),
        sa.UniqueConstraint("draft", "kind", "destination", name="sent_once"),
        sa.CheckConstraint("kind IN ('preliminary', 'final', 'withdrawn')", name="known_kind"),
        sa.CheckConstraint("state IN ('waiting', 'sent', 'dropped')", name="known_state"),
    )
    for statement in _SQLITE if op.get_bind().dialect.name == "sqlite" else _POSTGRESQL:
        op.execute(statement)


def downgrade() -> None:
    """Refuse: histories are kept."""
    raise NotImplementedError("a history of sign-off is not taken away; use another database")
