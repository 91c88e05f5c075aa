"""The ledger and the read tables. (What writes them, and what searches, is in revision 0002.)"""

from pathlib import Path
from typing import Any

from alembic import op

revision = "0001"
down_revision = None

_FOLDER = Path(__file__).parents[1] / "sql"
_FILES = (
    "protect",
    "ledgers",
    "events",
    "append_only",
    "audit_access",
    "record_access",
    "idempotency",
    "words",
    "tasks",
    "conversations",
    "messages",
    "as_user",
    "search_these",
    "lock_ledger",
    "holds",
    "erase_ledger",
    "no_statistics",
    "checkpoints",
    "checkpoint_leaves",
    "grants",
)


def upgrade() -> None:
    # The driver itself: SQLAlchemy would take the % of format() for a parameter.
    driver: Any = op.get_bind().connection.driver_connection
    for name in _FILES:
        driver.execute((_FOLDER / f"{name}.sql").read_text())
