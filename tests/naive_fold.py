"""A second, deliberately naive fold: what the read tables should hold, worked out from the rows of
``tasktrail.events`` with dicts and ifs, and with nothing of the program's own.

It is slow, knows version 1 of every event only, and shares no thought with ``events.replay``: so a
mistake would have to be made twice.
"""

from datetime import UTC, date, datetime
from typing import Any

Row = dict[str, Any]
Tables = dict[str, dict[int, Row]]


def naive_fold(events: list[Row]) -> Tables:
    """Return tasks, conversations and messages by id; ``events`` are rows in order of positions."""
    tables: Tables = {"tasks": {}, "conversations": {}, "messages": {}}
    for event in events:
        if event["body"] is not None:
            _apply(tables, event, event["body"]["data"])
    return tables


def _apply(tables: Tables, event: Row, data: Row) -> None:
    kind, at = event["type"], event["recorded_at"]
    if kind == "LedgerErased":
        for rows in tables.values():
            for old in [old for old in rows if old <= data["through"]]:
                del rows[old]
        return
    touched = _touched(tables, event, data)
    if kind.startswith("Task"):
        _change_task(kind, data, at, touched[-1])
    else:
        _change_conversation(kind, touched[0])
        _change_message_or_conversation(kind, data, at, touched[-1])
    if kind.endswith("Deleted"):
        touched[-1]["deleted"] = True
    if kind.endswith("Restored"):
        touched[-1]["deleted"] = False
    for row in touched:
        row["version"], row["position"] = event["version"], event["position"]
        if "updated_at" in row:
            row["updated_at"] = at


def _touched(tables: Tables, event: Row, data: Row) -> list[Row]:
    """Return the task; or the conversation and after it the message, if the event is about one."""
    kind, id_, at = event["type"], event["stream_id"], event["recorded_at"]
    if kind == "TaskCreated":
        tables["tasks"][id_] = _new_task(id_, at)
    if kind.startswith("Task"):
        return [tables["tasks"][id_]]
    if kind == "ConversationCreated":
        tables["conversations"][id_] = _new_conversation(id_, at)
    if kind == "MessageAdded":
        tables["messages"][event["position"]] = _new_message(event["position"], id_, at)
    if kind.startswith("Conversation"):
        return [tables["conversations"][id_]]
    message = event["position"] if kind == "MessageAdded" else data["message_id"]
    return [tables["conversations"][id_], tables["messages"][message]]


def _new_task(id_: int, at: datetime) -> Row:
    return {
        "id": id_,
        "title": "",
        "description": None,
        "priority": None,
        "due": None,
        "due_at": None,
        "tags": [],
        "completed": False,
        "deleted": False,
        "created_at": at,
        "updated_at": at,
        "completed_at": None,
    }


def _new_conversation(id_: int, at: datetime) -> Row:
    return {
        "id": id_,
        "title": None,
        "message_count": 0,
        "deleted": False,
        "created_at": at,
        "updated_at": at,
    }


def _new_message(id_: int, conversation_id: int, at: datetime) -> Row:
    return {
        "id": id_,
        "conversation_id": conversation_id,
        "role": "",
        "content": "",
        "metadata": None,
        "external_id": None,
        "deleted": False,
        "created_at": at,
        "edited_at": None,
    }


def _change_task(kind: str, data: Row, at: datetime, task: Row) -> None:
    if kind == "TaskCreated":
        task.update(data)
    if kind == "TaskUpdated":
        task.update(data["changes"])
    task["due_at"] = None if task["due"] is None else _moment(task["due"])
    if kind == "TaskCompleted":
        task["completed"], task["completed_at"] = True, at
    if kind == "TaskReopened":
        task["completed"], task["completed_at"] = False, None


def _change_conversation(kind: str, conversation: Row) -> None:
    if kind in ("MessageAdded", "MessageRestored"):
        conversation["message_count"] += 1
    if kind == "MessageDeleted":
        conversation["message_count"] -= 1


def _change_message_or_conversation(kind: str, data: Row, at: datetime, row: Row) -> None:
    if kind == "ConversationCreated":
        row["title"] = data.get("title")
    if kind == "MessageAdded":
        row.update(data)
    if kind == "MessageEdited":
        row["content"], row["edited_at"] = data["content"], at


def _moment(due: str) -> datetime:
    if len(due) == 10:
        day = date.fromisoformat(due)
        return datetime(day.year, day.month, day.day, tzinfo=UTC)
    return datetime.fromisoformat(due)
