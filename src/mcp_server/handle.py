"""``handle``: the one way in for writes.

    read what the decision needs (one trip) -> decide -> fold -> commit (one trip)

A command that needs no rows to decide, as adding a task, is committed at once.
A version conflict means that another process was quicker: read again and decide again.
"""

import asyncio
import random
from contextvars import ContextVar
from hashlib import sha256
from typing import Literal, NamedTuple, Protocol

import orjson

from events import store
from events.draft import Draft
from events.errors import Code, Refused
from events.ledger import Head, Json
from events.stamp import Settlement, settle
from mcp_server.database import Database
from mcp_server.evidence.receipt import read_head
from projections.current import NOTHING_FOUND, Found, Wanted

written: ContextVar[Head | None] = ContextVar("written", default=None)
"""The ledger's head after the write of the call under way, or after the one that it repeats: what
its receipt is made of."""

TRIES = 20
"""With 3, of two processes that keep changing one task every fifteenth command was refused."""


class Context(NamedTuple):
    """Who calls, through what, and because of what. ``trace_id`` is 32 hex digits."""

    user_id: str
    transport: Literal["http", "stdio", "cli"]
    client_id: str | None = None
    client_name: str | None = None
    client_version: str | None = None
    conversation_id: int | None = None
    message_id: int | None = None
    trace_id: str | None = None


class Command(Protocol):
    """What an agent wants changed: a tool's validated arguments."""

    @property
    def tool(self) -> str:
        """Return the tool's name."""

    @property
    def reason(self) -> str | None:
        """Return why the agent does it."""

    @property
    def idempotency_key(self) -> str | None:
        """Return what makes a repetition known as one."""

    def wanted(self) -> Wanted:
        """Return which rows the decision needs."""

    def decide(self, draft: Draft) -> Json:
        """Add events to ``draft`` and return the answer, provisional where the draft is.

        Raises: Refused.
        """

    def request(self) -> Json:
        """Return the arguments that make two requests the same."""


async def handle(database: Database, command: Command, context: Context) -> Json:
    """Carry out ``command`` for ``context.user_id`` and return its answer.

    Raises:
        Refused: by the decision; or ``idempotency_conflict``; or ``version_conflict`` after TRIES
            tries; or ``unavailable``.
    """
    async with database.turn(context.user_id):
        for lost in range(TRIES):
            if lost:
                await _fall_out_of_step(lost)
            answer = await _attempt(database, command, context)
            if answer is not None:
                return answer
    raise Refused(
        "version_conflict",
        "Others kept changing the same thing at the same time; nothing was written.",
        "Try again.",
    )


async def _fall_out_of_step(lost: int) -> None:
    """Wait at random, longer after each loss, at most 32 ms.

    Two processes that read and commit in step would go on so, and one of them would always lose.
    """
    await asyncio.sleep(random.uniform(0, 0.0005 * 2 ** min(lost, 6)))  # noqa: S311 - no secret


async def _attempt(database: Database, command: Command, context: Context) -> Json | None:
    """Read, decide and commit once; None if somebody else was quicker."""
    key = command.idempotency_key
    wanted = _wanted(command, context)
    found = NOTHING_FOUND
    if not wanted.nothing():
        found = await database.find(context.user_id, wanted)
    request_hash = _request_hash(command) if key else b""
    if found.first is not None:
        if found.first.request_hash != request_hash:
            raise _idempotency_conflict()
        return await _replayed(database, context, found.first.result, found.first.settlement)
    context = _with_cause(found, context)
    draft = Draft(found.tasks, found.conversations, found.messages)
    answer = command.decide(draft)
    if not draft.entries and not key:
        return answer
    outcome = await database.commit(
        store.seal(
            context.user_id,
            draft,
            actor(command.tool, context),
            command.reason,
            store.Key(key, request_hash, answer) if key else None,
        )
    )
    match outcome.status:
        case "committed":
            if draft.entries:
                written.set(Head(outcome.base + len(draft.entries), outcome.hash))
            settled: Json = settle(answer, outcome.settlement)
            return settled
        case "replayed":
            return await _replayed(database, context, outcome.result or {}, outcome.settlement)
        case "idempotency_conflict":
            raise _idempotency_conflict()
        case "version_conflict" | "locked":
            return None


def _wanted(command: Command, context: Context) -> Wanted:
    """Return which rows the decision needs, and what else has to be known before it."""
    wanted, key = command.wanted(), command.idempotency_key
    conversation, message = context.conversation_id, context.message_id
    if key or conversation or message:
        return wanted._replace(key=key, cause_conversation=conversation, cause_message=message)
    return wanted


def actor(tool: str, context: Context) -> Json:
    """Return the header's actor: every field present, null when unknown."""
    return {
        "client_id": context.client_id,
        "client_name": context.client_name,
        "client_version": context.client_version,
        "tool": tool,
        "transport": context.transport,
        "conversation_id": context.conversation_id,
        "message_id": context.message_id,
        "trace_id": context.trace_id,
    }


def _request_hash(command: Command) -> bytes:
    request = {"tool": command.tool, "arguments": command.request()}
    return sha256(orjson.dumps(request, option=orjson.OPT_SORT_KEYS)).digest()


async def _replayed(
    database: Database, context: Context, result: Json, settlement: Settlement
) -> Json:
    """Return the first answer again. Who asks twice may have lost it, and its receipt with it.

    The hash is read apart: so only repetitions pay for it, and it can be had of older schemas too.
    """
    answer: Json = {**settle(result, settlement), "replayed": True}
    if result.get("position", 0) < 0:  # provisional: it wrote something
        head = await database.read(
            lambda connection: read_head(connection, context.user_id, answer["position"])
        )
        written.set(head)
    return answer


def _idempotency_conflict() -> Refused:
    return Refused(
        "idempotency_conflict",
        "This idempotency_key was used before, for another request.",
        "Use a new key for a new wish; repeat a key only with the same tool and arguments.",
    )


async def refuse_unknown_cause(database: Database, context: Context) -> None:
    """Raises: Refused, if what is said to have caused a call is not there. For calls that only
    read; ``handle`` sees to it by itself."""
    wanted = Wanted(cause_conversation=context.conversation_id, cause_message=context.message_id)
    if not wanted.nothing():
        found = await database.find(context.user_id, wanted)
        _with_cause(found, context)


def _no_cause(kind: str, code: Code) -> Refused:
    """The application named a cause that is not there: nothing the model can mend."""
    return Refused(
        code,
        f"What is said to have caused this call is no {kind} of this user.",
        f"The application sends it, as the header Tasktrail-{kind.capitalize()}-Id or in _meta as"
        f" tasktrail/{kind}_id: it has to be an id that add_message returned.",
    )


def _with_cause(found: Found, context: Context) -> Context:
    """Return ``context`` with the conversation of the message that caused the call.

    Raises:
        Refused: ``conversation_not_found`` or ``message_not_found``: there is none, or the message
            is in another conversation.
    """
    match found.missing_cause:
        case "conversation":
            raise _no_cause("conversation", "conversation_not_found")
        case "message":
            raise _no_cause("message", "message_not_found")
    if context.conversation_id or not found.cause_conversation:
        return context
    return context._replace(conversation_id=found.cause_conversation)
