"""The words of an answer: what many a model sees of it, as short as it can be.

Titles and messages are in here as data; nothing else of a user's is.
"""

from collections.abc import Callable

from events.ledger import Json
from mcp_server.tools import conversations, history, tasks
from mcp_server.tools.quoting import quoted

_AGAIN = "(Done before with this idempotency_key.)"


def each(one: Callable[[Json], str]) -> Callable[[Json], str]:
    """Make the text of a bulk: a line for each."""

    def text(answer: Json) -> str:
        lines = [one(result) for result in answer.get("tasks", [answer])]
        if answer.get("replayed"):
            lines.append(_AGAIN)
        return "\n".join(lines)

    return text


def task_changed(answer: Json) -> str:
    """Say what was done to a task."""
    if answer.get("unchanged"):
        return f"Task {answer['task_id']} “{answer['title']}” was already so; nothing changed."
    verb = {"pending": "Reopened"}.get(answer["status"], answer["status"].capitalize())
    text = f"{verb} task {answer['task_id']} “{answer['title']}”, version {answer['version']}."
    if answer.get("changed"):
        text += f" Changed: {', '.join(answer['changed'])}."
    if answer.get("similar"):
        text += f" Open tasks with the same title: {', '.join(map(str, answer['similar']))}."
    if "hint" in answer:
        text += f" undo(position={answer['position']}) restores it."
    return text


def _more(answer: Json, lines: list[str], none: str) -> str:
    if not lines:
        return none
    if "next_cursor" in answer:
        lines.append(f"More: repeat with cursor={answer['next_cursor']}")
    return "\n".join(lines)


def of_tasks(answer: Json) -> str:
    """A page of tasks: a line for each."""
    return _more(answer, [tasks.line(task) for task in answer["tasks"]], "No tasks.")


def of_task(answer: Json) -> str:
    """A task, and its latest changes."""
    lines = [tasks.line(answer) + ("  (deleted)" if answer["deleted"] else "")]
    if answer["description"]:
        lines.append(f"> {quoted(answer['description'])}")
    lines.append(f"version {answer['version']}, created {answer['created_at'][:16]}Z")
    lines += [history.line(event) for event in answer["history"]]
    return "\n".join(lines)


def done(what: Callable[[Json], str]) -> Callable[[Json], str]:
    """Make the text of one change of a conversation or message."""

    def text(answer: Json) -> str:
        already = " It was already so; nothing changed." if answer.get("unchanged") else ""
        again = f" {_AGAIN}" if answer.get("replayed") else ""
        return what(answer) + already + again

    return text


def of_conversation(answer: Json) -> str:
    """The messages of a conversation."""
    info = answer["conversation_info"]
    lines = [f"Conversation {info['id']} {info['title'] or '(untitled)'}"]
    lines += [conversations.line(message) for message in answer["messages"]]
    if answer["truncated"] and answer["messages"]:
        lines.insert(1, "(not all: continue with before= the first id, or after= the last)")
    return "\n".join(lines)


def of_conversations(answer: Json) -> str:
    """A page of conversations: a line for each."""
    lines = [conversations.conversation_line(one) for one in answer["conversations"]]
    return _more(answer, lines, "No conversations.")


def of_history(answer: Json) -> str:
    """A page of the history: a line for each event."""
    return _more(answer, [history.line(event) for event in answer["events"]], "No changes.")


def of_undo(answer: Json) -> str:
    """What was undone, or would be."""
    rehearsed = answer.get("dry_run")
    verb = "Would undo" if rehearsed else "Undone"
    lines = [f"{verb} {one['position']}: {one['what']}" for one in answer["undone"]]
    lines += [
        f"Conflict at {one['position']}: {one['field']} was changed again at {one['later']};"
        " only force=true undoes it."
        if rehearsed
        else f"Overwritten: {one['field']}, changed again at {one['later']}"
        for one in answer["conflicts"]
    ]
    if answer.get("unchanged"):
        lines = ["Nothing to undo: it is undone already."]
    if answer.get("replayed"):
        lines.append(_AGAIN)
    return "\n".join(lines)
