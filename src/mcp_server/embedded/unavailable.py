"""The ways in which the embedded Postgres fails."""

from mcp_server.failure import Failure


class PostgresUnavailable(Failure):
    """The embedded Postgres cannot be used; the message says why and what to do."""

    exit_code = 3


class NoDatabase(PostgresUnavailable):
    """There is none in that home, and whoever only wants to look at one does not make one."""

    def __init__(self, home: object) -> None:
        super().__init__(
            f"There is no database in {home}. If one should be there, look at TASKTRAIL_HOME and"
            " DATABASE_URL; `tasktrail serve` or `tasktrail migrate` makes a new one."
        )
