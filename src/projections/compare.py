"""The read tables against what the ledger folds to."""

from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

from events.replay import Replay
from projections.finding import Finding, Kind
from projections.read_tables import READ_TABLES, ReadTable, Row
from projections.snapshot import Snapshot, exactly, told


class Wrong(NamedTuple):
    """A row that is not as the ledger says: as it is (``live`` None: it is missing) and as it
    should be (``right`` None: it should not be there). ``stale`` names a derived column."""

    user_id: str
    table: ReadTable
    id: int
    live: Row | None
    right: Row | None
    stale: str | None = None

    def findings(self) -> Iterator[Finding]:
        """Yield what is wrong with it, field by field."""
        if self.live is None:
            yield self._finding("missing", None, "is missing")
        elif self.right is None:
            yield self._finding("extra", None, "is there, but not in the ledger")
        else:
            for field, is_, should in zip(self.table.fields, self.live, self.right, strict=True):
                if is_ != should:
                    show = _time if field in self.table.times else str
                    what = f"is not as in the ledger{_shown(is_, should, show)}"
                    yield self._finding("different", field, what)
            if self.stale is not None:
                what = "is not as the other columns say"
                if self.stale == "search":  # which a mending of rows that differ does not see
                    what += ": rebuild-projections --rewrite derives it anew"
                yield self._finding("different", self.stale, what)

    def _finding(self, kind: Kind, field: str | None, what: str) -> Finding:
        return Finding(self.user_id, self.table.name, self.id, kind, field, what)


def _shown(is_: Any, should: Any, show: Callable[[Any], str]) -> str:
    """Both values, where neither is anybody's text."""
    if isinstance(is_, str | list) or isinstance(should, str | list):
        return ""
    one, other = show(is_), show(should)
    if one == other:  # two times beyond the calendar
        one, other = f"{one} ({exactly(is_)})", f"{other} ({exactly(should)})"
    return f": {one}, not {other}"


def _time(at: int | None) -> str:
    return str(at) if at is None else told(at)


def compare(
    snapshot: Snapshot,
    replays: dict[str, Replay],
    passed_over: set[str],
    every: bool = False,
    words: bool = False,
) -> Iterator[Wrong]:
    """Yield the rows of the span that are wrong, or every row; none of users ``passed_over``.
    ``words``: look at what the full-text search finds them by, too.

    A user who has rows and no replay has no ledger.
    """
    nothing: dict[int, Row] = {}
    for table in READ_TABLES:
        expected = {user_id: dict(table.of(replay)) for user_id, replay in replays.items()}
        last = len(table.fields) + 1
        for row in snapshot.read_table(table, words):
            user_id, id_, live, stale = row[0], row[1], row[1:last], row[last]
            right = expected.get(user_id, nothing).pop(id_, None)
            if (right != live or stale or every) and user_id not in passed_over:
                yield Wrong(user_id, table, id_, table.row(*live), right, stale)
        for user_id, rows in expected.items():
            for id_, missing in rows.items():
                yield Wrong(user_id, table, id_, None, missing)
