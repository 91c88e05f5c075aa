"""Several users at once, each of whom tries everything that the others have.

They call every tool, resource and list at random, with ids, positions, cursors, keys, external ids,
causes and names that they saw in *anybody's* answers. Two things show what crosses:

- each user's texts, name and client carry a canary: it may be in nobody else's answer, in no byte;
- each user's calls are then made again, byte for byte, in a database that is empty otherwise. Every
  answer has to be the same, but for times: what others have and do changes nothing at all.
"""

import asyncio
import json
import random
import re
from collections import Counter, deque
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, NamedTuple
from uuid import uuid4

from tests.mcp import wire
from tests.mcp.serving import token
from tests.mcp.wire import LEGACY, MODERN, Answer, Wire

USERS = 8
WIRES = 6
KEYS = ("k1", "k2", "k3", "key of somebody")
EXTERNAL = ("x1", "x2")
# Times, and the hashes of receipts: each event has a salt of its own.
_CHANGES_EACH_TIME = re.compile(
    rb"\d{4}-\d\d-\d\d[T ]\d\d:\d\d(:\d\d(\.\d+)?)?(Z|\+00:00)|\b[0-9a-f]{64}\b"
)


class Made(NamedTuple):
    """One call: whose, its bytes, and the answer. ``timeless``: it depends on no clock."""

    user: str
    raw: bytes
    timeless: bool
    answer: Answer


CANARY = "the answer has another user's canary"
ANOTHER_ANSWER = "without the other users the answer is another one"


class Violation(NamedTuple):
    """What crossed from one user to another, and in which call."""

    what: str
    made: Made
    alone: Answer | None = None


@dataclass
class Stranger:
    """One user and the canary that is in everything theirs."""

    canary: str = field(default_factory=lambda: f"canary{uuid4().hex[:12]}")

    @property
    def user(self) -> str:
        return f"user-{self.canary}"

    @property
    def token(self) -> str:
        return token(self.user, client_id=f"client-{self.canary}")


class Seen:
    """What was in anybody's answers: the newest of each kind."""

    def __init__(self) -> None:
        self.tasks, self.conversations, self.messages, self.positions = (
            deque([1, 2, 3], maxlen=150) for _ in range(4)
        )
        self.cursors: deque[str] = deque(["eyJ4IjoxfQ"], maxlen=60)

    def look(self, answer: Answer) -> None:
        """Keep the ids, positions and cursors of an answer."""
        result = answer.json().get("result", {}) if answer.body else {}
        self._walk(result.get("structuredContent") or {})

    def _walk(self, found: Any) -> None:
        for name, value in _pairs(found):
            match name:
                case "task_id" if isinstance(value, int):
                    self.tasks.append(value)
                case "conversation_id" if isinstance(value, int):
                    self.conversations.append(value)
                case "message_id" if isinstance(value, int):
                    self.messages.append(value)
                case "position" if isinstance(value, int):
                    self.positions.append(value)
                case "next_cursor":
                    self.cursors.append(value)


def _pairs(found: Any) -> Iterator[tuple[str, Any]]:
    if isinstance(found, dict):
        for name, value in found.items():
            yield name, value
            yield from _pairs(value)
    elif isinstance(found, list):
        for value in found:
            yield from _pairs(value)


class Caller:
    """Makes one user's random calls."""

    def __init__(
        self, chance: random.Random, me: Stranger, all_: list[Stranger], seen: Seen
    ) -> None:
        self._chance = chance
        self._me = me
        self._all = all_
        self._seen = seen
        self._token = me.token

    def call(self) -> tuple[bytes, bool]:
        """Return the bytes of a call, and whether its answer depends on no clock."""
        era = self._chance.choice((MODERN, LEGACY))
        meta, more = self._provenance(era)
        if self._chance.random() < 0.06:
            kind, ids = self._chance.choice(
                (("task", self._seen.tasks), ("conversation", self._seen.conversations))
            )
            params = {"uri": f"{kind}://{self._chance.choice(ids)}"}
            return wire.request(self._token, era, "resources/read", params, meta, more), True
        if self._chance.random() < 0.02:
            method = self._chance.choice(("tools/list", "prompts/list", "resources/templates/list"))
            return wire.request(self._token, era, method, {}, meta, more), True
        tool = self._chance.choice(tuple(_TOOLS))
        arguments = _TOOLS[tool](self)
        if self._chance.random() < 0.05:
            arguments["user_id"] = self._chance.choice(self._all).user
        raw = wire.tool_call(self._token, era, tool, arguments, meta=meta, more=more)
        times = [arguments.get(name) for name in ("as_of", "since", "until")]
        return raw, not any(isinstance(time, str) and "T" in time for time in times)

    def _provenance(self, era: str) -> tuple[dict[str, Any], list[tuple[bytes, bytes]]]:
        """Name a conversation or a message, of whomever it is, as what caused the call."""
        more = [(b"User-Agent", f"agent-{self._me.canary}/1.0".encode())]
        meta: dict[str, Any] = {}
        if era == MODERN and self._chance.random() < 0.5:
            info = {"name": f"agent-{self._me.canary}", "version": "2"}
            meta["io.modelcontextprotocol/clientInfo"] = info
        for kind, ids in (
            ("conversation", self._seen.conversations),
            ("message", self._seen.messages),
        ):
            draw = self._chance.random()
            if draw < 0.06:
                more.append(
                    (f"Tasktrail-{kind}-Id".encode(), str(self._chance.choice(ids)).encode())
                )
            elif draw < 0.12:
                meta[f"tasktrail/{kind}_id"] = self._chance.choice(ids)
        return meta, more

    # --- arguments ---

    def _text(self, words: str) -> str:
        return f"{words} {self._me.canary} {self._chance.randrange(50)}"

    def _of(self, ids: deque[int]) -> int | str:
        id_ = self._chance.choice(ids)
        return str(id_) if self._chance.random() < 0.1 else id_

    def _perhaps(self, likely: float = 0.25, **values: Any) -> dict[str, Any]:
        return {name: value() for name, value in values.items() if self._chance.random() < likely}

    def _change(self) -> dict[str, Any]:
        return self._perhaps(
            reason=lambda: self._text("because"),
            idempotency_key=lambda: self._chance.choice(KEYS) + str(self._chance.randrange(6)),
        )

    def _version(self) -> dict[str, Any]:
        return self._perhaps(0.1, expected_version=lambda: self._chance.randrange(1, 4))

    def _moment(self) -> int | str:
        if self._chance.random() < 0.2:
            return self._chance.choice(("2000-01-01T00:00:00Z", "2999-01-01T00:00:00+01:00"))
        return self._of(self._seen.positions)

    def _cursor(self) -> dict[str, Any]:
        return self._perhaps(0.3, cursor=lambda: self._chance.choice(self._seen.cursors))

    def _someone(self) -> Stranger:
        return self._chance.choice(self._all)

    def task(self) -> dict[str, Any]:
        """Fields of a task."""
        return {
            "title": self._chance.choice(("Buy milk", self._text("Call"))),
            **self._perhaps(
                description=lambda: self._text("About"),
                priority=lambda: self._chance.choice(("low", "medium", "high")),
                due=lambda: self._chance.choice(("2031-01-02", "2030-05-06T07:08:09+02:00")),
                tags=lambda: ["home", self._me.canary],
            ),
        }

    def add_task(self) -> dict[str, Any]:
        if self._chance.random() < 0.1:
            return {"tasks": [self.task() for _ in range(3)], **self._change()}
        return {**self.task(), **self._change()}

    def list_tasks(self) -> dict[str, Any]:
        return {
            "limit": self._chance.choice((1, 3, 20, 100)),
            **self._cursor(),
            **self._perhaps(
                0.2,
                status=lambda: self._chance.choice(("all", "pending", "completed")),
                query=lambda: self._chance.choice(("milk", "call", self._someone().canary)),
                priority=lambda: "high",
                tag=lambda: self._chance.choice(("home", self._someone().canary)),
                due_before=lambda: "2030-12-31",
                due_after=lambda: "2030-12-31",
                sort=lambda: self._chance.choice(("created", "updated", "due", "priority")),
                deleted=lambda: True,
                as_of=self._moment,
            ),
        }

    def get_task(self) -> dict[str, Any]:
        return {"task_id": self._of(self._seen.tasks), **self._perhaps(as_of=self._moment)}

    def update_task(self) -> dict[str, Any]:
        id_ = self._of(self._seen.tasks)
        return {"task_id": id_, **self.task(), **self._change(), **self._version()}

    def _ids(self) -> Any:
        if self._chance.random() < 0.2:
            return [self._of(self._seen.tasks) for _ in range(2)]
        return self._of(self._seen.tasks)

    def complete_task(self) -> dict[str, Any]:
        perhaps = self._perhaps(completed=lambda: False)
        return {"task_id": self._ids(), **perhaps, **self._change(), **self._version()}

    def delete_task(self) -> dict[str, Any]:
        return {"task_id": self._ids(), **self._change(), **self._version()}

    def create_conversation(self) -> dict[str, Any]:
        return {**self._perhaps(0.7, title=lambda: self._text("About")), **self._change()}

    def add_message(self) -> dict[str, Any]:
        return {
            "role": self._chance.choice(("user", "assistant", "system", "tool")),
            "content": self._text("I said"),
            **self._perhaps(0.8, conversation_id=lambda: self._of(self._seen.conversations)),
            **self._perhaps(
                0.4,
                metadata=lambda: {"of": self._me.canary, "n": 1.5},
                external_id=lambda: self._chance.choice(EXTERNAL),
            ),
            **self._change(),
        }

    def get_conversation_history(self) -> dict[str, Any]:
        return {
            "conversation_id": self._of(self._seen.conversations),
            "limit": self._chance.choice((1, 5, 200)),
            **self._perhaps(
                before=lambda: self._of(self._seen.messages),
                after=lambda: self._of(self._seen.messages),
            ),
        }

    def list_conversations(self) -> dict[str, Any]:
        if self._chance.random() < 0.3:
            return {"offset": self._chance.randrange(9), "limit": 2}
        limit = self._chance.choice((1, 5, 100))
        return {"limit": limit, **self._cursor(), **self._perhaps(deleted=lambda: True)}

    def update_message(self) -> dict[str, Any]:
        content = self._text("I meant")
        return {"message_id": self._of(self._seen.messages), "content": content, **self._change()}

    def delete_conversation(self) -> dict[str, Any]:
        return {"conversation_id": self._of(self._seen.conversations), **self._change()}

    def get_history(self) -> dict[str, Any]:
        subject: dict[str, Any] = self._chance.choice(
            (
                {},
                {"task_id": self._of(self._seen.tasks)},
                {"conversation_id": self._of(self._seen.conversations)},
            )
        )
        return {
            **subject,
            "limit": self._chance.choice((1, 10, 200)),
            **self._cursor(),
            **self._perhaps(
                0.15,
                since=self._moment,
                until=self._moment,
                event_type=lambda: "TaskUpdated",
                client=lambda: self._chance.choice(("client-", "agent-")) + self._someone().canary,
            ),
        }

    def undo(self) -> dict[str, Any]:
        span: dict[str, Any] = {"position": self._of(self._seen.positions)}
        if self._chance.random() < 0.1:
            span = {"since": max(self._seen.positions) - self._chance.randrange(12)}
        elif self._chance.random() < 0.1:
            span = {"conversation_id": self._of(self._seen.conversations)}
        perhaps = self._perhaps(0.3, dry_run=lambda: True, force=lambda: True)
        return {**span, **perhaps, **self._change()}


_TOOLS = {
    "add_task": Caller.add_task,
    "list_tasks": Caller.list_tasks,
    "get_task": Caller.get_task,
    "update_task": Caller.update_task,
    "complete_task": Caller.complete_task,
    "delete_task": Caller.delete_task,
    "create_conversation": Caller.create_conversation,
    "add_message": Caller.add_message,
    "get_conversation_history": Caller.get_conversation_history,
    "list_conversations": Caller.list_conversations,
    "list_user_conversations": Caller.list_conversations,
    "update_message": Caller.update_message,
    "delete_conversation": Caller.delete_conversation,
    "get_history": Caller.get_history,
    "undo": Caller.undo,
}
TOOLS = frozenset(_TOOLS)


async def mingle(address: str, strangers: list[Stranger], calls: int, seed: int) -> list[Made]:
    """Make ``calls`` calls of all users, interleaved on a few connections; in order of each user.

    A user has one call under way at a time: so it is certain what the answer depends on.
    """
    chance = random.Random(seed)
    seen = Seen()
    callers = {
        stranger.user: Caller(random.Random(chance.random()), stranger, strangers, seen)
        for stranger in strangers
    }
    idle: asyncio.Queue[str] = asyncio.Queue()
    for stranger in strangers:
        idle.put_nowait(stranger.user)
    made: list[Made] = []
    left = iter(range(calls))

    async def one_wire() -> None:
        async with Wire(address) as connection:
            for _ in left:
                user = await idle.get()
                raw, timeless = callers[user].call()
                answer = await connection.send(raw)
                made.append(Made(user, raw, timeless, answer))
                seen.look(answer)
                idle.put_nowait(user)

    async with asyncio.TaskGroup() as group:
        for _ in range(WIRES):
            group.create_task(one_wire())
    return made


async def alone(address: str, made: list[Made]) -> list[Answer]:
    """Make one user's calls again, in order."""
    async with Wire(address) as connection:
        return [await connection.send(one.raw) for one in made]


def outcomes(made: list[Made]) -> Counter[str]:
    """Return how often the calls ended how: "ok", a tool's code, or a protocol error's number."""
    return Counter(_outcome(one.answer.json()) for one in made)


def _outcome(answer: Any) -> str:
    if "error" in answer:
        return str(answer["error"]["code"])
    result = answer["result"]
    return str(result["structuredContent"]["code"]) if result.get("isError") else "ok"


def crossed(made: list[Made], strangers: list[Stranger]) -> list[Violation]:
    """Return every answer that has another user's canary in it, anywhere."""
    canaries = {stranger.user: stranger.canary.encode() for stranger in strangers}
    found = []
    for one in made:
        everything = one.answer.body + json.dumps(one.answer.headers).encode()
        if any(canary in everything for user, canary in canaries.items() if user != one.user):
            found.append(Violation(CANARY, one))
    return found


def differing(made: list[Made], again: list[Answer]) -> list[Violation]:
    """Return every answer that was another one without the other users."""
    return [
        Violation(ANOTHER_ANSWER, one, second)
        for one, second in zip(made, again, strict=True)
        if one.timeless and _comparable(one.answer) != _comparable(second)
    ]


def _comparable(answer: Answer) -> tuple[int, frozenset[str], bytes]:
    return answer.status, frozenset(answer.headers), _CHANGES_EACH_TIME.sub(b"...", answer.body)
