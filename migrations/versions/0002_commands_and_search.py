"""The one function that writes the ledger and the read tables, and full-text search.

Revision 0001 had them too. They are made anew as a whole, with the same interface: a server of the
version before goes on. Tasks written before keep the lexeme of their owner, which no search asks
for, until they are written the next time. Three functions of revision 0001 learn how to read their
strings.
"""

from pathlib import Path
from typing import Any

from alembic import op

revision = "0002"
down_revision = "0001"

_FOLDER = Path(__file__).parents[1] / "sql"
_FILES = (
    "searchable",
    "derive_task",
    "tasks_search",
    "search_tasks",
    "sealed",
    "accepted",
    "write_tasks",
    "write_conversations",
    "write_messages",
    "commit_commands",
    "strings",
)
_BEFORE = """
DROP FUNCTION IF EXISTS tasktrail.commit_commands(jsonb, timestamptz);
DROP TYPE IF EXISTS tasktrail.accepted CASCADE;  -- and the functions that take it
"""
_AFTER = "DROP FUNCTION IF EXISTS tasktrail.owner_lexeme(text)"


def upgrade() -> None:
    # The driver itself: SQLAlchemy would take the % of format() for a parameter.
    driver: Any = op.get_bind().connection.driver_connection
    driver.execute(_BEFORE)
    for name in _FILES:
        driver.execute((_FOLDER / f"{name}.sql").read_text())
    driver.execute(_AFTER)
