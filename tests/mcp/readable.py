"""Everything that was written can be read by everything that reads: a row that cannot is poison."""

import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from itertools import product
from pathlib import Path
from typing import Any

from events.ledger import Json
from tests.conftest import Database

Ask = Callable[..., Json]
"""Calls a tool that has to succeed, and returns its structured answer."""


def pages(ask: Ask, tool: str, items: str, **arguments: Any) -> Iterator[Json]:
    """Yield all items of a list, page by page."""
    cursor: Json = {}
    while True:
        answer = ask(tool, **arguments, **cursor)
        yield from answer[items]
        if "next_cursor" not in answer:
            return
        cursor = {"cursor": answer["next_cursor"]}


def read_all_tools(ask: Ask) -> int:
    """Ask every tool that reads for everything there is; return how many events there are."""
    events = list(pages(ask, "get_history", "events", limit=200))
    moments = [event["position"] for event in events[:: max(1, len(events) // 5)]]
    moments += [event["at"] for event in events[:1]]
    tasks = set()
    for sort, deleted in product(("created", "updated", "due", "priority"), (False, True)):
        for moment in ({}, *({"as_of": moment} for moment in moments)):
            filters = {"sort": sort, "deleted": deleted, "limit": 100, **moment}
            tasks |= {task["id"] for task in pages(ask, "list_tasks", "tasks", **filters)}
    for word in ("a", "x", "good", "é", "drop", "'"):
        list(pages(ask, "list_tasks", "tasks", query=word))
    for task_id in tasks:
        ask("get_task", task_id=task_id)
        ask("get_history", task_id=task_id)
    _read_conversations(ask)
    return len(events)


def _read_conversations(ask: Ask) -> None:
    for deleted in (False, True):
        for found in pages(ask, "list_conversations", "conversations", deleted=deleted, limit=100):
            ask("get_history", conversation_id=found["id"])
            before: Json = {}
            while not deleted:
                page = ask("get_conversation_history", conversation_id=found["id"], **before)
                if not (page["truncated"] and page["messages"]):
                    break
                before = {"before": page["messages"][0]["id"]}


def read_all_commands(database: Database, user: str, folder: Path) -> None:
    """Replay, compare, export, verify offline, and draw up every other account of a ledger."""
    bundle = folder / "bundle.zip"
    for command in (
        ("rebuild-projections", "--check"),
        ("rebuild-projections",),
        ("verify",),
        ("verify", user),
        ("export", user, "-o", bundle),
        ("verify", "--bundle", bundle),
        ("export", user, "-o", folder / "events.csv", "--format", "csv"),
        ("export", user, "-o", folder / "events.json", "--format", "cloudevents"),
        ("report", user, "-o", folder / "report.html"),
        ("history", user),
        ("replay", user, "--as-of", "2999-01-01T00:00:00Z"),
        ("diff", user, "--from", "0", "--to", "2999-01-01T00:00:00Z"),
    ):
        ended = subprocess.run(
            [sys.executable, "-c", "from mcp_server.cli import main; main()", *map(str, command)],
            env={**os.environ, "DATABASE_URL": database.admin},
            capture_output=True,
            check=False,
        )
        said = ended.stdout[-2000:] + ended.stderr[-2000:]
        assert ended.returncode == 0, f"{command}: {said.decode(errors='replace')}"
