"""The ledger, the read tables, and the one function that writes them."""

from pathlib import Path

from alembic import op

revision = "0001"
down_revision = None

_FILES = (
    "protect",
    "ledgers",
    "events",
    "append_only",
    "idempotency",
    "tasks",
    "conversations",
    "messages",
    "as_user",
    "lock_ledger",
    "commit_command",
)


def upgrade() -> None:
    folder = Path(__file__).parents[1] / "sql"
    for name in _FILES:
        op.get_bind().exec_driver_sql((folder / f"{name}.sql").read_text())
    op.get_bind().exec_driver_sql(
        "GRANT SELECT ON tasktrail.alembic_version"
        " TO tasktrail_app, tasktrail_operator, tasktrail_auditor"
    )
