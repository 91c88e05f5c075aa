"""Rebuild the read tables from the ledger, online: neither readers nor writers notice.

    a span -> fold and compare (one snapshot, no lock) -> what is wrong -> mend (locks, briefly)

An event and the rows it folds to are committed together, so in every snapshot they must agree:
whatever differs is wrong, and not merely late. Only such rows are written. So at any moment every
row is as it was or as it should be, and a rebuild may be killed and started again without a trace.

While some spans are mended, which keeps the server busy, the next is read, which keeps us busy.
"""

import sys
from collections import defaultdict, deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor, wait
from contextlib import AbstractContextManager, ExitStack, contextmanager
from typing import Any

from psycopg import Connection

from projections.chains import Belief
from projections.compare import Wrong, compare
from projections.finding import Report
from projections.fold import fold_span
from projections.mend import Drift, Mended, mend
from projections.read_tables import READ_TABLES
from projections.snapshot import snapshot
from projections.spans import Span

Connect = Callable[[], AbstractContextManager[Connection[Any]]]
"""Lends a connection in autocommit mode."""


def rebuild(
    connect: Connect, spans: Iterable[Span], fix: bool, rewrite: bool = False, tell: bool = True
) -> Iterator[Report]:
    """Compare the rows of each of ``spans`` with the ledger; put right what is wrong if ``fix``.

    Yields a report for each, in their order. Some are mended while the next is read, so at most
    MENDERS + 1 of them are in memory. ``rewrite``: write every row, so that what the database
    derives from it is derived anew. ``tell``: find for each wrong row what is wrong with it.
    """
    belief = Belief()
    if not fix:
        with connect() as connection:
            for span in spans:
                yield belief.sift(connection, span, *scan(connection, span, False, tell))[0]
        return
    with connect() as connection, _menders(connect) as start:
        mending: deque[tuple[Report, Future[Mended]]] = deque()
        for span in spans:
            seen = scan(connection, span, rewrite, tell)
            report, drifts = belief.sift(connection, span, *seen)
            if len(mending) == MENDERS:
                yield _when_mended(*mending.popleft())
            mending.append((report, start(drifts, not span.whole)))
        while mending:
            yield _when_mended(*mending.popleft())


MENDERS = 2
"""So many spans are mended at once: that is mostly waiting for the server."""

_SWITCH_S = 0.0005
"""So long a thread may compute while others want to go on: reading is all computing, and with the
usual 5 ms locks would be held for it."""


@contextmanager
def _menders(connect: Connect) -> Iterator[Callable[[list[Drift], bool], Future[Mended]]]:
    """Mend in threads with connections of their own. Whatever ends this early ends them too."""
    before = sys.getswitchinterval()
    with ExitStack() as stack:
        connections = [stack.enter_context(connect()) for _ in range(MENDERS)]
        idle = deque(connections)
        threads = stack.enter_context(ThreadPoolExecutor(MENDERS, "mend"))
        started: set[Future[Mended]] = set()

        def work(drifts: list[Drift], shared: bool) -> Mended:
            connection = idle.popleft()
            try:
                return mend(connection, drifts, shared)
            finally:
                idle.append(connection)

        def start(drifts: list[Drift], shared: bool) -> Future[Mended]:
            future = threads.submit(work, drifts, shared)
            started.add(future)
            future.add_done_callback(started.discard)
            return future

        sys.setswitchinterval(_SWITCH_S)
        try:
            yield start
        finally:
            sys.setswitchinterval(before)
            while wait(started.copy(), timeout=0.05).not_done:
                for connection in connections:
                    connection.cancel_safe()


def _when_mended(report: Report, mending: Future[Mended]) -> Report:
    return _with(report, mending.result())


def _with(report: Report, mended: Mended) -> Report:
    return report._replace(mended=mended.rows, findings=report.findings + mended.findings)


def scan(
    connection: Connection[Any],
    span: Span,
    every: bool = False,
    tell: bool = True,
    words: bool = False,
) -> tuple[Report, list[Drift]]:
    """Return what is wrong, twice: if ``tell``, to be told; and (or ``every`` row) to be mended.

    ``words``: as for ``compare``.
    """
    with snapshot(connection, span) as seen:
        heads: dict[str, int] = dict(
            seen.rows(
                f"SELECT l.user_id, l.position FROM tasktrail.ledgers l WHERE {span.users('l')}"
            )
        )
        folds = fold_span(seen, heads)
        findings = [fold.fault for fold in folds.values() if fold.fault is not None]
        replays = {u: fold.replay for u, fold in folds.items() if fold.fault is None}
        wrongs: defaultdict[str, list[Wrong]] = defaultdict(list)
        for wrong in compare(seen, replays, folds.keys() - replays.keys(), every, words):
            wrongs[wrong.user_id].append(wrong)
            if tell:
                findings += wrong.findings()
    rows = sum(len(table.of(replay)) for table in READ_TABLES for replay in replays.values())
    events = sum(fold.events for fold in folds.values())
    users = len(heads) if span.first else 0
    drifts = [Drift(user_id, heads.get(user_id, 0), its) for user_id, its in wrongs.items()]
    return Report(users, events, rows, 0, findings), drifts
