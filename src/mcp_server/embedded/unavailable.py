"""The one way in which the embedded Postgres fails."""

from mcp_server.failure import Failure


class PostgresUnavailable(Failure):
    """The embedded Postgres cannot be used; the message says why and what to do."""

    exit_code = 3
