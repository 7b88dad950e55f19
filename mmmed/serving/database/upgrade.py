"""Brings a database to the tables that this version of the code knows."""

from pathlib import Path

from alembic import command
from alembic.config import Config
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import Engine

from mmmed.errors import ConfigError
from mmmed.serving.database.engine import writing

_MIGRATIONS = Path(__file__).parent / "migrations"


def upgrade(engine: Engine) -> None:
    """Make or alter the tables, all in one transaction; nothing is done where they are up to date.

    Raises:
        ConfigError: The database was made by a later version of the code.
    """
    config = Config()
    config.set_main_option("script_location", str(_MIGRATIONS))
    script = ScriptDirectory.from_config(config)
    known = {revision.revision for revision in script.walk_revisions()}
    with writing(engine) as connection:
        present = MigrationContext.configure(connection).get_current_revision()
        if present is not None and present not in known:
            raise ConfigError(f"the database is of a later version ({present}); update mmmed, or use another database")
        if present != script.get_current_head():
            config.attributes["connection"] = connection
            command.upgrade(config, "head")
