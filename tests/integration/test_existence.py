"""Whether another user has a thing cannot be told: not by what is answered, nor by how soon.

Each call is made with a name of something that a victim has and with one as long that nobody ever
had. The two answers have to be the same bytes but for the name. How long each took is printed, as
medians (`pytest -rP`); a busy machine is no place to assert a time.
"""

import random
import re
from collections.abc import Iterator
from statistics import median
from time import perf_counter
from typing import Any, NamedTuple

import pytest

from tests.conftest import THOROUGH, Database
from tests.integration.strangers import Stranger
from tests.mcp import wire
from tests.mcp.serving import configured, serving
from tests.mcp.wire import LEGACY, MODERN, Wire

REPEATS = 60 if THOROUGH else 3


class Names(NamedTuple):
    """What to ask for. ``word`` is a title, a tag, a key, an external id and a client."""

    task: int
    conversation: int
    message: int
    position: int
    word: str


HIS = Names(task=433, conversation=434, message=435, position=436, word="wordofthevictim")
NOBODYS = Names(
    task=933, conversation=934, message=935, position=936, word="wordofnobodyatall"[:15]
)


async def give_the_victim_things(connection: Wire) -> None:
    """Make somebody whose ledger has what ``HIS`` names."""
    victim = Stranger()

    async def call(tool: str, **arguments: Any) -> Any:
        raw = wire.tool_call(victim.token, MODERN, tool, arguments)
        return (await connection.send(raw)).json()["result"]["structuredContent"]

    word = HIS.word
    for _ in range(9):
        await call("add_task", tasks=[{"title": word, "tags": [word]}] * 48)
    assert await call("add_task", title=word, idempotency_key=word)
    assert (await call("create_conversation", title=word))["position"] == HIS.conversation
    message = {"role": "user", "content": word, "external_id": word}
    assert (await call("add_message", conversation_id=434, **message))["message_id"] == HIS.message
    assert (await call("complete_task", task_id=HIS.task))["position"] == HIS.position


def questions(names: Names) -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield calls of a user whose task is 1, and whose conversation 2 has the message 3."""
    task, conversation, message, position, word = names
    yield "get_task", {"task_id": task}
    yield "get_task", {"task_id": str(task), "as_of": position}
    yield "update_task", {"task_id": task, "title": "x"}
    yield "update_task", {"task_id": task, "title": "x", "expected_version": 1}
    yield "complete_task", {"task_id": task}
    yield "complete_task", {"task_id": [1, task]}
    yield "complete_task", {"task_id": 1, "completed": False, "idempotency_key": word}
    yield "delete_task", {"task_id": task}
    yield "delete_task", {"task_id": [task]}
    yield "list_tasks", {"as_of": position}
    yield "list_tasks", {"query": word}
    yield "list_tasks", {"tag": word}
    yield "add_message", {"role": "user", "content": "x", "conversation_id": conversation}
    said = {"role": "user", "content": word, "external_id": word}
    yield "add_message", {"conversation_id": conversation, **said}
    yield "get_conversation_history", {"conversation_id": conversation}
    yield "get_conversation_history", {"conversation_id": 2, "before": message}
    yield "get_conversation_history", {"conversation_id": 2, "after": message}
    yield "update_message", {"message_id": message, "content": "x"}
    yield "delete_conversation", {"conversation_id": conversation}
    yield "get_history", {"task_id": task}
    yield "get_history", {"conversation_id": conversation}
    yield "get_history", {"since": position}
    yield "get_history", {"until": position}
    yield "get_history", {"client": word}
    yield "undo", {"position": position}
    yield "undo", {"position": position, "dry_run": True}
    yield "undo", {"since": position}
    yield "undo", {"conversation_id": conversation}


def calls(token: str, era: str, names: Names) -> Iterator[tuple[str, bytes]]:
    """Yield what is asked, and the bytes that ask it."""
    for tool, arguments in questions(names):
        asked = f"{tool}({', '.join(arguments)})"
        yield asked, wire.tool_call(token, era, tool, arguments)
    for uri in (f"task://{names.task}", f"conversation://{names.conversation}"):
        yield f"{uri[:-3]} as a resource", wire.request(token, era, "resources/read", {"uri": uri})
    for kind, id_ in (("conversation", names.conversation), ("message", names.message)):
        meta = {f"tasktrail/{kind}_id": id_}
        yield f"_meta {kind}_id", wire.tool_call(token, era, "add_task", {"title": "x"}, meta=meta)
        more = [(f"Tasktrail-{kind}-Id".encode(), str(id_).encode())]
        yield f"header {kind}-Id", wire.tool_call(token, era, "add_task", {"title": "x"}, more=more)


def nameless(body: bytes, names: Names) -> bytes:
    """Return an answer without the names that it was asked for. (A part of a longer number, as of
    a time or of a user's, is no name.)"""
    return re.sub(rb"\b(%s)\b" % "|".join(map(str, names)).encode(), b"<name>", body)


@pytest.mark.parametrize("era", [MODERN, LEGACY])
async def test_what_another_user_has_is_like_what_never_was(database: Database, era: str) -> None:
    mallory = Stranger()
    took: dict[tuple[str, Names], list[float]] = {}
    with serving(configured(database.app)) as address:
        async with Wire(address) as connection:
            await give_the_victim_things(connection)
            for tool in ("add_task", "add_message"):
                own = {"title": "mine"} if tool == "add_task" else {"role": "user", "content": "x"}
                await connection.send(wire.tool_call(mallory.token, era, tool, own))
            pairs = list(
                zip(calls(mallory.token, era, HIS), calls(mallory.token, era, NOBODYS), strict=True)
            )
            for _ in range(REPEATS):
                for (asked, his), (_, nobodys) in pairs:
                    both = [(HIS, his), (NOBODYS, nobodys)]
                    random.shuffle(both)  # so that neither is always the first
                    answers = {}
                    for names, raw in both:
                        begun = perf_counter()
                        answer = await connection.send(raw)
                        took.setdefault((asked, names), []).append(perf_counter() - begun)
                        answers[names] = (answer.status, nameless(answer.body, names))
                    assert answers[HIS] == answers[NOBODYS], asked
    print_medians(took)


def print_medians(took: dict[tuple[str, Names], list[float]]) -> None:
    """Print, for each question, the median of what it took: another's thing, nobody's, in ms."""
    for asked in dict.fromkeys(asked for asked, _ in took):
        his, nobodys = (median(took[asked, names]) * 1000 for names in (HIS, NOBODYS))
        print(f"{asked:60} {his:7.2f} {nobodys:7.2f}")
