"""Made-up histories of any length: what people and their agents might have done in a year.

Pure and deterministic: the same seed, user and number of events give the same events, ids and salts
included. Only what a decision would have allowed happens, so a history folds like a real one.
"""

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from random import Random
from typing import Any, NamedTuple

from events import ledger
from events.catalog import STREAM_TYPES, TYPES, VERSIONS
from events.ledger import Json, Record

_START = datetime(2025, 1, 1, tzinfo=UTC)
_YEAR_S = 365 * 24 * 3600

_ACTIONS = ("Buy", "Order", "Return", "Pick up", "Find", "Compare prices of", "Book", "Cancel")
_MORE_ACTIONS = ("Renew", "Repair", "Clean", "Pay for", "Ask about", "Write down", "Plan", "Review")
_VERBS = _ACTIONS + _MORE_ACTIONS
_THINGS = (
    *("groceries", "the train tickets", "a birthday present", "the car insurance", "new shoes"),
    *("the kitchen lamp", "the tax forms", "a dentist appointment", "the library books"),
    *("the garden chairs", "the project report", "the quarterly figures", "a table for four"),
    *("the release notes", "the backup disk", "the heating", "the school trip", "the passport"),
)
_WHENS = ("", "", "", " before the weekend", " for Monday", " with the neighbours", " again")
_TAGS = ("home", "work", "family", "money", "errands", "travel", "health", "someday")
_PRIORITIES = ("low", "medium", "high")
_CLIENTS = (("claude-code", "2.1.0"), ("vscode", "1.105.1"), ("cursor", "2.0.3"), (None, None))
_REASONS = ("The user asked for it.", "It is already done.", "Tidying up.", "It was a duplicate.")
_TOOLS = {
    "TaskCreated": "add_task",
    "TaskUpdated": "update_task",
    "TaskCompleted": "complete_task",
    "TaskReopened": "complete_task",
    "TaskDeleted": "delete_task",
    "TaskRestored": "undo",
    "ConversationCreated": "create_conversation",
    "MessageAdded": "add_message",
    "MessageEdited": "update_message",
    "ConversationDeleted": "delete_conversation",
}


def events_of_users(events: int, users: int) -> list[int]:
    """Return how many events each user has: at least one, the r-th busiest about 1/r of the first.

    One in five has tried it once and never again.
    """
    counts = [1] * users
    busy = max(1, users - users // 5)
    spare = events - users
    harmonic = sum(1 / rank for rank in range(1, busy + 1))
    for rank in range(1, busy + 1):
        counts[rank - 1] += int(spare / harmonic / rank)
    for index in range(events - sum(counts)):
        counts[index % busy] += 1
    return counts


class _Step(NamedTuple):
    """An event to be: ``stream_id`` None begins a stream; ``because`` is its cause."""

    type: str
    stream_id: int | None
    data: Json
    because: tuple[int | None, int | None] = (None, None)


class _Life:
    """What one user has so far: the ids that something can still happen to."""

    def __init__(self, random: Random) -> None:
        self._random = random
        self.open: list[int] = []
        self.completed: list[int] = []
        self.deleted: list[int] = []
        self.conversations: list[int] = []
        self.message: tuple[int, int] | None = None  # the last one, and its conversation

    def steps(self) -> Iterator[_Step]:
        """Yield events without end; each must be told its position by ``happened``."""
        while True:
            chance = self._random.random()
            if chance < 0.3:
                yield from self._talk()
            else:
                yield self._change((None, None))

    def _talk(self) -> Iterator[_Step]:
        """A turn of a conversation: a message, what the agent did about it, its answer."""
        if not self.conversations or self._random.random() < 0.06:
            title = None if self._random.random() < 0.5 else f"About {self._any(_THINGS)}"
            yield _Step("ConversationCreated", None, {"title": title} if title else {})
        conversation = self.conversations[-1]
        asked = f"Please help me: {self._title().lower()}."
        yield _Step("MessageAdded", conversation, {"role": "user", "content": asked})
        because = self.message or (None, None)
        for _ in range(int(self._random.random() * 3)):
            yield self._change((because[1], because[0]))
        answer = {"role": "assistant", "content": f"Done. {asked} Anything else?"}
        if self._random.random() < 0.2:
            tokens = self._random.randrange(2000)
            answer["metadata"] = f'{{"model":"large","tokens":{tokens}}}'
        yield _Step("MessageAdded", conversation, answer)
        if self._random.random() < 0.03 and because[0] is not None:
            edited = {"message_id": because[0], "content": f"{asked} It is urgent!"}
            yield _Step("MessageEdited", conversation, edited)
        if self._random.random() < 0.01:
            self.conversations.remove(conversation)
            yield _Step("ConversationDeleted", conversation, {})

    def _change(self, because: tuple[int | None, int | None]) -> _Step:
        """A change of a task; of a recent one rather than an old one."""
        chance = self._random.random()
        if chance < 0.45 or not self.open:
            return _Step("TaskCreated", None, self._new_task(), because)
        if chance < 0.65:
            return _Step("TaskUpdated", self.open[self._recent(self.open)], self._update(), because)
        if chance < 0.9:
            return _Step("TaskCompleted", self._move(self.open, self.completed), {}, because)
        if chance < 0.93 and self.completed:
            return _Step("TaskReopened", self._move(self.completed, self.open), {}, because)
        if chance < 0.98 or not self.deleted:
            return _Step("TaskDeleted", self._move(self.open, self.deleted), {}, because)
        return _Step("TaskRestored", self._move(self.deleted, self.open), {}, because)

    def happened(self, step: _Step, position: int) -> None:
        """Learn the id that what just began has."""
        if step.type == "TaskCreated":
            self.open.append(position)
        elif step.type == "ConversationCreated":
            self.conversations.append(position)
        elif step.type == "MessageAdded" and step.stream_id is not None:
            self.message = (position, step.stream_id)

    def _any(self, choices: tuple[Any, ...]) -> Any:
        return choices[int(self._random.random() * len(choices))]

    def _recent(self, ids: list[int]) -> int:
        """Return an index, rather near the end."""
        return -1 - int(self._random.random() ** 2 * min(len(ids), 50))

    def _move(self, source: list[int], target: list[int]) -> int:
        id_ = source.pop(self._recent(source))
        target.append(id_)
        return id_

    def _title(self) -> str:
        return f"{self._any(_VERBS)} {self._any(_THINGS)}{self._any(_WHENS)}"

    def _new_task(self) -> Json:
        task: Json = {"title": self._title()}
        if self._random.random() < 0.2:
            task["description"] = f"See also: {self._title().lower()}. {self._title()}."
        return {**task, **self._some_fields(0.3)}

    def _update(self) -> Json:
        changes = self._some_fields(0.5)
        return {"changes": changes or {"title": self._title()}}

    def _some_fields(self, likely: float) -> Json:
        fields: Json = {}
        if self._random.random() < likely:
            fields["priority"] = self._any(_PRIORITIES)
        if self._random.random() < likely:
            day = (_START + timedelta(days=int(self._random.random() * 400))).date().isoformat()
            fields["due"] = day if self._random.random() < 0.8 else f"{day}T09:00:00Z"
        if self._random.random() < likely:
            fields["tags"] = sorted({self._any(_TAGS), self._any(_TAGS)})
        return fields


def history(seed: int, user_id: str, events: int) -> Iterator[Record]:
    """Yield one user's whole ledger, oldest event first."""
    random = Random(f"{seed}/{user_id}")  # noqa: S311 - made-up data must be the same each time
    life = _Life(random)
    client = random.choice(_CLIENTS)
    versions: dict[int, int] = {}
    previous = ledger.genesis(user_id)
    at = _START + timedelta(seconds=int(random.random() * _YEAR_S / 2))
    pause_s = (_YEAR_S / 2) / events * 2
    for position, step in zip(range(1, events + 1), life.steps(), strict=False):
        life.happened(step, position)
        at += timedelta(microseconds=int(random.random() * pause_s * 1e6))
        stream_id = position if step.stream_id is None else step.stream_id
        version = versions[stream_id] = versions.get(stream_id, 0) + 1
        record = _record(random, step, client, (position, stream_id, version), previous, at)
        previous = record.hash
        yield record


def _record(
    random: Random,
    step: _Step,
    client: tuple[str | None, str | None],
    place: tuple[int, int, int],
    previous: bytes,
    at: datetime,
) -> Record:
    noise = random.randbytes(48)
    event_id, command_id, salt = _uuid(noise[:16]), _uuid(noise[16:32]), noise[32:]
    body = {
        "data": step.data,
        "reason": _REASONS[int(random.random() * 4)] if random.random() < 0.3 else None,
    }
    actor = {
        "client_id": None,
        "client_name": client[0],
        "client_version": client[1],
        "tool": _TOOLS[step.type],
        "transport": "http",
        "conversation_id": step.because[0],
        "message_id": step.because[1],
        "trace_id": None,
    }
    commitment = ledger.commit_to(body, salt)
    stream_type = STREAM_TYPES[TYPES[step.type]]
    schema_version = VERSIONS[step.type]
    content_hash = ledger.hash_content(
        event_id,
        command_id,
        step.type,
        schema_version,
        stream_type,
        actor,
        commitment,
    )
    position, stream_id, version = place
    hash_ = ledger.link(previous, content_hash, *place, ledger.microseconds(at))
    return Record(
        position,
        stream_type,
        stream_id,
        version,
        step.type,
        schema_version,
        event_id,
        command_id,
        actor,
        commitment,
        body,
        salt,
        content_hash,
        hash_,
        at,
    )


def _uuid(noise: bytes) -> str:
    """Return 16 random bytes as the text of a UUID (RFC 9562, version 4)."""
    digits = noise.hex()
    return f"{digits[:8]}-{digits[8:12]}-4{digits[13:16]}-a{digits[17:20]}-{digits[20:]}"
