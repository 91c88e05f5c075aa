"""A second fold, naive on purpose: from stored JSON to read rows, with none of the code it checks.

It knows the format of events and the columns of the read tables, and nothing else.
"""

import re
from collections.abc import Iterable
from datetime import datetime
from typing import Any

from events.ledger import Record

Row = dict[str, Any]
Rows = dict[int, Row]

PRIORITIES = [None, "low", "medium", "high"]
FLAGS = {
    "TaskCompleted": {"completed": True},
    "TaskReopened": {"completed": False},
    "TaskDeleted": {"deleted": True},
    "TaskRestored": {"deleted": False},
    "MessageDeleted": {"deleted": True},
    "MessageRestored": {"deleted": False},
    "ConversationDeleted": {"deleted": True},
    "ConversationRestored": {"deleted": False},
}


def fold(records: Iterable[Record]) -> tuple[Rows, Rows, Rows]:
    """Return the rows of tasks, conversations and messages after ``records``, oldest first."""
    tasks: Rows = {}
    conversations: Rows = {}
    messages: Rows = {}
    for record in records:
        if record.body is None:
            continue  # erased
        if record.type == "LedgerErased":
            for rows in (tasks, conversations, messages):
                for erased in [id_ for id_ in rows if id_ <= data_of(record)["through"]]:
                    del rows[erased]
        elif record.stream_type == "task":
            fold_task(tasks, record)
        else:
            fold_conversation(conversations, messages, record)
    for task in tasks.values():
        task |= derived(task)
    return tasks, conversations, messages


def data_of(record: Record) -> Row:
    assert record.body is not None
    data: Row = record.body["data"]
    return data


def stamp(record: Record) -> Row:
    return {"version": record.version, "position": record.position}


def fold_task(tasks: Rows, record: Record) -> None:
    data = data_of(record)
    if record.type == "TaskCreated":
        tasks[record.position] = {
            "id": record.position,
            "description": None,
            "priority": None,
            "due": None,
            "tags": [],
            "completed": False,
            "deleted": False,
            "created_at": record.recorded_at,
            "completed_at": None,
            **data,
        }
    task = tasks[record.stream_id]
    task |= {**stamp(record), "updated_at": record.recorded_at, **data.get("changes", {})}
    task |= FLAGS.get(record.type, {})
    if record.type in ("TaskCompleted", "TaskReopened"):
        task["completed_at"] = record.recorded_at if task["completed"] else None


def derived(task: Row) -> Row:
    """Return the columns that only serve queries."""
    due = task["due"]
    if due is not None and len(due) == 10:
        due = f"{due}T00:00:00Z"
    return {
        "due_at": due and datetime.fromisoformat(due),
        "status": 2 if task["deleted"] else 1 if task["completed"] else 0,
        "urgency": PRIORITIES.index(task["priority"]),
        "title_key": re.sub(" +", " ", task["title"]).lower(),
    }


def fold_conversation(conversations: Rows, messages: Rows, record: Record) -> None:
    data = data_of(record)
    if record.type == "ConversationCreated":
        conversations[record.position] = {
            "id": record.position,
            "title": data.get("title"),
            "deleted": False,
            "created_at": record.recorded_at,
        }
    conversation = conversations[record.stream_id]
    conversation |= {**stamp(record), "updated_at": record.recorded_at}
    if record.type.startswith("Conversation"):
        conversation |= FLAGS.get(record.type, {})
    else:
        fold_message(messages, record)
    theirs = (one for one in messages.values() if one["conversation_id"] == record.stream_id)
    conversation["message_count"] = sum(not message["deleted"] for message in theirs)


def fold_message(messages: Rows, record: Record) -> None:
    data = data_of(record)
    if record.type == "MessageAdded":
        messages[record.position] = {
            "id": record.position,
            "conversation_id": record.stream_id,
            "metadata": None,
            "external_id": None,
            "deleted": False,
            "created_at": record.recorded_at,
            "edited_at": None,
            **data,
        }
    message = messages[data.get("message_id", record.position)]
    message |= stamp(record) | FLAGS.get(record.type, {})
    if record.type == "MessageEdited":
        message |= {"content": data["content"], "edited_at": record.recorded_at}
