"""What is said of a row that is not as its ledger says."""

import pytest

from projections.compare import Wrong
from projections.read_tables import READ_TABLES

TASKS = next(table for table in READ_TABLES if table.name == "tasks")
INFINITY, BEFORE_ALL = 2**63 - 1, -(2**63)
BEYOND = "a time beyond the calendar"
YEAR_12000, LATER = 315_569_520_000_000_000, 315_569_520_000_000_001


@pytest.mark.parametrize(
    ("live", "right", "said"),
    [
        (0, 1, "2000-01-01T00:00:00Z, not 2000-01-01T00:00:00.000001Z"),
        (INFINITY, 0, f"{BEYOND}, not 2000-01-01T00:00:00Z"),
        (
            INFINITY,
            BEFORE_ALL,
            f"{BEYOND} (infinity), not {BEYOND} (-infinity)",
        ),
        (
            YEAR_12000,
            LATER,
            f"{BEYOND} (+{YEAR_12000} µs from 2000), not {BEYOND} (+{LATER} µs from 2000)",
        ),
        (None, INFINITY, f"None, not {BEYOND}"),
    ],
)
def test_two_times_that_differ_are_never_told_in_the_same_words(
    live: int | None, right: int | None, said: str
) -> None:
    row = TASKS.row(*[None] * len(TASKS.fields))
    wrong = Wrong(
        "ann", TASKS, 1, row._replace(completed_at=live), row._replace(completed_at=right)
    )
    (finding,) = wrong.findings()
    assert finding.what == f"is not as in the ledger: {said}"
