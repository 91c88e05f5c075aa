"""What is asked straight on libpq is answered as psycopg would answer it."""

import asyncio
import socket
import tempfile
import threading
from collections.abc import AsyncIterator
from pathlib import Path
from select import select

import psycopg
import pytest
from psycopg.conninfo import conninfo_to_dict, make_conninfo

from events.store import asking
from mcp_server import connection as connections
from mcp_server.connection import Connection
from mcp_server.pool import Pool
from tests.conftest import Database

EACH_TYPE = """
SELECT v, length(v), v::jsonb, v::jsonb -> 'no', '\\x00ff'::bytea,
    '2026-12-01T10:00:00.000001Z'::timestamptz
FROM (SELECT %s AS v UNION ALL SELECT '"second"') AS x
"""


pytestmark = pytest.mark.each_loop


@pytest.fixture
async def pool(database: Database) -> AsyncIterator[Pool]:
    opened = Pool(database.app, 1, 5)
    await opened.open()
    yield opened
    await opened.close()


@pytest.fixture
async def connection(pool: Pool) -> AsyncIterator[Connection]:
    """One that prepares what it is asked at once."""
    async with pool.connection() as lent:
        lent.prepare_threshold = 0
        yield lent


def terminate(database: Database, connection: Connection) -> None:
    with psycopg.connect(database.admin, autocommit=True) as admin:
        admin.execute("SELECT pg_terminate_backend(%s, 5000)", [connection.info.backend_pid])


async def test_rows_are_the_same(connection: Connection) -> None:
    for text in ('{"a": [1, null, "ü", 9007199254740991]}', "[]", "7"):
        assert await connection.ask(EACH_TYPE, text) == await asking(connection)(EACH_TYPE, text)
    assert await connection.ask("SELECT 1 WHERE %s = ''", "x") == []


async def test_what_is_asked_for_the_first_time_takes_one_trip(pool: Pool) -> None:
    async with pool.connection() as lent:
        for number in range(1, 9):
            assert await lent.ask("SELECT %s", str(number)) == [(str(number),)]
            cursor = await lent.execute(
                "SELECT count(*) FROM pg_prepared_statements WHERE statement = 'SELECT $1'"
            )
            assert await cursor.fetchone() == (int(number > 5),)


async def test_without_anything_prepared_they_are_the_same_too(connection: Connection) -> None:
    rows = await connection.ask(EACH_TYPE, "[]")
    connection.prepare_threshold = None
    assert await connection.ask(EACH_TYPE, "[]") == rows
    assert await connection.ask("SELECT %s", "never prepared") == [("never prepared",)]
    cursor = await connection.execute("SELECT count(*) FROM pg_prepared_statements")
    assert await cursor.fetchone() == (1,)


@pytest.mark.parametrize("length", [1, 100_000, 10_000_000])
async def test_however_long_it_is_all_of_it_arrives(connection: Connection, length: int) -> None:
    text = "ü" * length
    for _ in range(2):
        assert await connection.ask("SELECT %s", text) == [(text,)]


TOO_LATE = """
CREATE TABLE public.late (text text);
CREATE FUNCTION public.refuse() RETURNS trigger LANGUAGE plpgsql AS
    $$ BEGIN RAISE EXCEPTION 'too late'; END $$;
CREATE CONSTRAINT TRIGGER refuse AFTER INSERT ON public.late DEFERRABLE INITIALLY DEFERRED
    FOR EACH ROW EXECUTE FUNCTION public.refuse();
GRANT INSERT, SELECT ON public.late TO tasktrail_server;
"""


@pytest.mark.parametrize("length", [1, 10_000_000])
async def test_what_fails_at_its_commit_has_failed(
    connection: Connection, database: Database, length: int
) -> None:
    """Postgres has sent the rows by then."""
    with psycopg.connect(database.admin, autocommit=True) as admin:
        admin.execute(TOO_LATE)
    insert = "INSERT INTO public.late VALUES (%s) RETURNING text"
    for _ in range(3):
        with pytest.raises(psycopg.errors.RaiseException, match="too late"):
            await connection.ask(insert, "x" * length)
    assert await connection.ask("SELECT count(*) FROM public.late WHERE text = %s", "x") == [(0,)]


@pytest.mark.parametrize("ask", [True, False])
async def test_texts_are_utf_8_whatever_the_environment_says(
    database: Database, monkeypatch: pytest.MonkeyPatch, ask: bool
) -> None:
    """Or a user's name would be another's."""
    monkeypatch.setenv("PGCLIENTENCODING", "LATIN1")
    opened = Pool(f"{database.app} client_encoding=latin1", 1, 5)
    await opened.open()
    async with opened.connection() as lent:
        lent.prepare_threshold = 0
        asked = lent.ask if ask else asking(lent)
        assert await asked("SELECT length(x), x FROM (SELECT %s AS x) AS x", "é") == [(1, "é")]
    await opened.close()


async def test_both_ways_may_take_turns(connection: Connection) -> None:
    for number in range(3):
        assert await connection.ask("SELECT %s", str(number)) == [(str(number),)]
        cursor = await connection.execute("SELECT %s AS value", (number,))
        assert await cursor.fetchone() == (number,)


@pytest.mark.parametrize(
    ("statement", "error"),
    [
        ("SELECT %s::int", psycopg.errors.InvalidTextRepresentation),
        ("SELECT nothing(%s)", psycopg.errors.UndefinedFunction),
    ],
)
async def test_an_error_is_of_its_own_class_and_then_it_goes_on(
    connection: Connection, statement: str, error: type[psycopg.Error]
) -> None:
    for _ in range(2):
        with pytest.raises(error) as raised:
            await connection.ask(statement, "x")
        assert raised.value.diag.message_primary
        assert await connection.ask("SELECT %s", "y") == [("y",)]
    assert not connection.broken


@pytest.mark.parametrize("asked", [True, False], ids=["asked", "executed"])
async def test_what_was_prepared_before_a_migration_is_prepared_anew(
    connection: Connection, database: Database, asked: bool
) -> None:
    """Else it would be refused for as long as the connection lasts."""
    ask = connection.ask if asked else asking(connection)
    with psycopg.connect(database.admin, autocommit=True) as admin:
        admin.execute("CREATE TABLE public.old AS SELECT 'x' AS name, 7 AS value")
        admin.execute("GRANT SELECT ON public.old TO tasktrail_server")
        for value in (7, "7"):
            for _ in range(2):
                rows = await ask("SELECT value FROM public.old WHERE name = %s", "x")
                assert rows == [(value,)]
                assert await ask("SELECT name FROM public.old WHERE name = %s", "x") == [("x",)]
            admin.execute("ALTER TABLE public.old ALTER COLUMN value TYPE text")


FAILS_FIRST = """
CREATE SEQUENCE public.tries;
CREATE FUNCTION public.fails_first(p_code text, p_until bigint) RETURNS bigint
LANGUAGE plpgsql SECURITY DEFINER AS $$
DECLARE
    v_try bigint := nextval('public.tries');  -- which no rollback takes back
BEGIN
    IF v_try < p_until THEN
        RAISE EXCEPTION 'try %', v_try USING ERRCODE = p_code;
    END IF;
    RETURN v_try;
END
$$;
"""
TRY = "SELECT public.fails_first(x ->> 0, (x ->> 1)::bigint) FROM (SELECT %s::jsonb AS x) AS x"


@pytest.fixture
def fails_first(database: Database) -> None:
    """A function that counts its calls, and fails until there have been as many as are asked."""
    with psycopg.connect(database.admin, autocommit=True) as admin:
        admin.execute(FAILS_FIRST)


@pytest.mark.usefixtures("fails_first")
@pytest.mark.parametrize("prepared", [True, False])
@pytest.mark.parametrize("code", ["XX000", "42704", "0A000"])
async def test_what_a_migration_overtook_is_sent_once_more(
    connection: Connection, code: str, prepared: bool
) -> None:
    connection.prepare_threshold = 0 if prepared else None
    assert await connection.ask(TRY, f'["{code}", 2]') == [(2,)]
    with pytest.raises(psycopg.Error, match="try 4"):
        await connection.ask(TRY, f'["{code}", 9]')
    assert await connection.ask(TRY, f'["{code}", 5]') == [(5,)]


@pytest.mark.usefixtures("fails_first")
async def test_nothing_else_is_sent_again(connection: Connection) -> None:
    for number, code in enumerate(("22012", "42883", "53100", "57014"), 1):
        with pytest.raises(psycopg.Error, match=f"try {number}"):
            await connection.ask(TRY, f'["{code}", 99]')
    await connection.execute("BEGIN")
    with pytest.raises(psycopg.errors.InternalError_, match="try 5"):
        await connection.ask(TRY, '["XX000", 99]')
    await connection.execute("ROLLBACK")


async def test_that_the_server_has_gone_is_told(connection: Connection, database: Database) -> None:
    asked = asyncio.create_task(connection.ask("SELECT pg_sleep(60), %s", ""))
    await asyncio.sleep(0.2)
    await asyncio.to_thread(terminate, database, connection)
    with pytest.raises(psycopg.OperationalError):
        await asked
    with pytest.raises(psycopg.OperationalError):
        await connection.ask("SELECT %s", "")
    assert connection.broken


LAST_WORDS = b"SFATAL\0VFATAL\0C57P01\0Mthe postmaster has gone\0\0"


class DyingServer(threading.Thread):
    """Stands before a server; once ``dies`` is set it answers the next request, which it does not
    even read, as a session does whose postmaster was killed: with a last message. A socket that is
    closed with something unread has failed, which is another thing than to have ended.
    """

    def __init__(self, database: Database, folder: Path) -> None:
        super().__init__(daemon=True)
        parts = conninfo_to_dict(database.app)
        self._upstream = str(parts["host"]), int(parts.get("port") or 5432)
        self._listening = socket.socket(socket.AF_UNIX)
        self._listening.bind(str(folder / ".s.PGSQL.1"))
        self._listening.listen()
        self.conninfo = make_conninfo(database.app, host=str(folder), port=1)
        self.dies = False

    def run(self) -> None:
        client, _ = self._listening.accept()
        with self._listening, client, self._to_server() as server:
            while ready := select([client, server], [], [])[0]:
                if client in ready and self.dies:
                    client.sendall(b"E" + (len(LAST_WORDS) + 4).to_bytes(4) + LAST_WORDS)
                    return
                for here, there in ((client, server), (server, client)):
                    if here in ready:
                        there.sendall(here.recv(1 << 16))

    def _to_server(self) -> socket.socket:
        host, port = self._upstream
        if not host.startswith("/"):
            return socket.create_connection((host, port))
        server = socket.socket(socket.AF_UNIX)
        server.connect(f"{host}/.s.PGSQL.{port}")
        return server


@pytest.mark.parametrize("asked_before", [False, True])
async def test_a_socket_that_failed_is_told_of_once_only(
    database: Database, asked_before: bool
) -> None:
    with tempfile.TemporaryDirectory() as folder:
        dying = DyingServer(database, Path(folder))
        dying.start()
        connection = await Connection.connect(dying.conninfo, autocommit=True)
        connection.prepare_threshold = 0
        if asked_before:
            assert await connection.ask("SELECT %s", "") == [("",)]
        dying.dies = True
        async with asyncio.timeout(10):
            with pytest.raises(psycopg.OperationalError, match="the postmaster has gone"):
                await connection.ask("SELECT %s", "")
        assert connection.broken
        await connection.close()
        dying.join(10)


async def test_who_is_silent_for_too_long_has_gone(
    connection: Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(connections, "LONGEST", 0.2)
    async with asyncio.timeout(20):
        with pytest.raises(psycopg.OperationalError):
            await connection.ask("SELECT pg_sleep(60), %s", "")
    assert connection.broken


async def test_a_connection_whose_question_was_cancelled_is_not_used_again(pool: Pool) -> None:
    async def call(statement: str, text: str) -> object:
        async with pool.connection() as lent:
            lent.prepare_threshold = 0
            return await lent.ask(statement, text)

    under_way = asyncio.create_task(call("SELECT pg_sleep(60), %s", "old"))
    await asyncio.sleep(0.2)
    under_way.cancel()
    with pytest.raises(asyncio.CancelledError):
        await under_way
    async with asyncio.timeout(20):
        assert await call("SELECT %s", "new") == [("new",)]


async def test_nobody_listens_when_nothing_is_asked(
    pool: Pool, database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A socket that was closed can be read all the time: whoever listened would do nothing else."""
    heard = 0
    hear = Connection._hear

    def counted(self: Connection) -> None:
        nonlocal heard
        heard += 1
        hear(self)

    monkeypatch.setattr(Connection, "_hear", counted)
    async with pool.connection() as lent:
        lent.prepare_threshold = 0
        await lent.ask("SELECT %s", "")
        assert heard
        heard = 0
        await asyncio.to_thread(terminate, database, lent)
        await asyncio.sleep(0.2)
        assert heard == 1
        with pytest.raises(psycopg.OperationalError):
            await lent.ask("SELECT %s", "")
    async with pool.connection() as lent:
        lent.prepare_threshold = 0
        await lent.ask("SELECT %s", "")
    heard = 0
    await asyncio.to_thread(terminate, database, lent)
    await asyncio.sleep(0.2)
    assert not heard
