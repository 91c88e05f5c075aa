"""Work that is cut into spans, done by one process or by several, each with its own connection.

Several processes, because folding is Python's work and one process keeps one core busy. Killing
the parent leaves none behind: a worker watches it, and ends in the middle of what it does.
"""

import gc
import os
import signal
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from functools import partial
from itertools import islice
from multiprocessing import get_context, parent_process
from multiprocessing.connection import Connection as Pipe
from multiprocessing.connection import wait
from multiprocessing.context import SpawnProcess
from threading import Thread
from typing import Annotated, Any, TypeVar

import typer
from psycopg import Connection

from mcp_server.commands.arguments import whole_number
from mcp_server.failure import Failure
from mcp_server.reach import connect
from mcp_server.sight import SEES_ALL
from projections.rebuild import Connect
from projections.spans import Span

T = TypeVar("T")
Work = Callable[[Connect, Iterator[Span]], Iterator[T]]
"""Yields what becomes of each span, in their order."""

MOST_JOBS = 256
Jobs = Annotated[int, whole_number("Processes that work at once.", most=MOST_JOBS)]
DEFAULT_JOBS = min(max(1, (os.cpu_count() or 2) // 2), MOST_JOBS)
"""Half as many as there are cores: Postgres has as much work with it as we have."""

AsJson = Annotated[bool, typer.Option("--json", help="Print one JSON object.")]


class SeesTooLittle(Failure):
    """A login that sees one user at a time would find nothing wrong with all the others."""

    exit_code = 3


def require_sight(connection: Connection[Any]) -> None:
    """Raises: SeesTooLittle, when row-level security hides other users from this login."""
    cursor = connection.execute(SEES_ALL)
    if not cursor.fetchall()[0][0]:
        raise SeesTooLittle(
            f"The login {connection.info.user!r} sees one user at a time. Set ADMIN_DATABASE_URL to"
            " one that is a member of tasktrail_operator."
        )


class WorkerDied(Failure):
    """A process of ours was killed, by the system when it is out of memory, or by somebody."""

    exit_code = 3


@contextmanager
def connected(conninfo: str) -> Iterator[Connection[Any]]:
    """Lend a connection as the bulk reads want it: in autocommit mode, with times in UTC."""
    with connect(conninfo, autocommit=True) as connection:
        connection.execute("SET TIME ZONE 'UTC'")
        yield connection


def span_by_span(
    work: Callable[[Connection[Any], Span], T], connect: Connect, spans: Iterator[Span]
) -> Iterator[T]:
    """Do ``work`` on one span after another."""
    with connect() as connection:
        for span in spans:
            yield work(connection, span)


def each(
    conninfo: str, work: Work[T], spans: Iterable[Span], jobs: int, in_hand: int = 1
) -> Iterator[T]:
    """Yield what ``work`` makes of each span, in the order in which they get done.

    ``work`` is a function of a module, or a partial of one. What it raises ends it all. It may take
    ``in_hand`` spans before it yields the first; nobody would give it another.
    """
    collect_garbage_seldom()
    if jobs == 1:
        yield from work(partial(connected, conninfo), iter(spans))
        return
    with ExitStack() as stack:
        waiting = _Waiting(spans)
        at_work: dict[Any, list[Span]] = {}
        for _ in range(jobs):
            at_work[stack.enter_context(_worker(conninfo, work))] = []
        for pipe in [*at_work] * in_hand:
            _hand_one_more(waiting, at_work, pipe)
        while busy := [pipe for pipe, theirs in at_work.items() if theirs]:
            for pipe in wait(busy):
                result = _received(pipe)
                if isinstance(result, Exception):
                    raise result
                at_work[pipe].pop(0)
                _hand_one_more(waiting, at_work, pipe)
                yield result


def _hand_one_more(waiting: "_Waiting", at_work: dict[Any, list[Span]], pipe: Any) -> None:
    following = waiting.next(theirs for each, theirs in at_work.items() if each is not pipe)
    if following is not None:
        at_work[pipe].append(following)
    with suppress(ConnectionError):  # it has ended, or was killed: reading tells
        pipe.send(following)


class _Waiting:
    """The spans that nobody has in hand yet."""

    _AHEAD = 100

    def __init__(self, spans: Iterable[Span]) -> None:
        self._spans = iter(spans)
        self._ahead: list[Span] = []

    def next(self, elsewhere: Iterable[list[Span]]) -> Span | None:
        """Return the next one, None if there is none: if possible, not one of a user whom other
        workers have in hand ``elsewhere``. They would wait for each other."""
        self._ahead += islice(self._spans, self._AHEAD - len(self._ahead))
        if not self._ahead:
            return None
        users = {span.user_id for spans in elsewhere for span in spans} - {None}
        choice = next((s for s in self._ahead if s.user_id not in users), self._ahead[0])
        self._ahead.remove(choice)
        return choice


def _received(pipe: Any) -> Any:
    try:
        return pipe.recv()
    except (EOFError, ConnectionError):
        raise WorkerDied("A worker was killed. What it was doing is undone: try again.") from None


@contextmanager
def _worker(conninfo: str, work: Work[T]) -> Iterator[Any]:
    context = get_context("spawn")
    ours, theirs = context.Pipe()
    process = context.Process(target=_serve, args=(theirs, conninfo, work), daemon=True)
    _start(process)
    theirs.close()
    try:
        yield ours
    finally:
        ours.close()
        process.join(timeout=1)
        process.kill()


def _start(process: SpawnProcess) -> None:
    """Start it deaf to Ctrl-C, which a terminal sends to all: it ends with its parent."""
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        process.start()
    finally:
        signal.signal(signal.SIGINT, before)


def collect_garbage_seldom() -> None:
    """Look for cycles seldom: bulk work makes many objects and none, and a sixth of the time went
    into looking."""
    gc.freeze()
    gc.set_threshold(500_000, 50, 1000)


def _serve(pipe: Pipe, conninfo: str, work: Work[Any]) -> None:
    Thread(target=_end_with_parent, daemon=True).start()
    collect_garbage_seldom()
    try:
        for result in work(partial(connected, conninfo), iter(pipe.recv, None)):
            pipe.send(result)
    except (EOFError, ConnectionError):
        return
    except Exception as error:  # noqa: BLE001 - it goes on in the parent
        pipe.send(error)


def _end_with_parent() -> None:
    parent = parent_process()
    if parent is not None:
        wait([parent.sentinel])
        os._exit(1)
