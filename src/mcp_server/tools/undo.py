"""The tool that undoes: it appends what takes changes back, and rewrites nothing."""

import asyncio
from collections.abc import Sequence
from typing import Annotated, ClassVar, NamedTuple, Self

from pydantic import Field, model_validator
from pydantic_core import PydanticCustomError

from events import audit
from events import conversation as conversations
from events import task as tasks
from events import undo as planning
from events.audit import Entry
from events.conversation import conversation_not_found
from events.draft import Draft
from events.draft import Entry as DraftEntry
from events.errors import Refused
from events.ledger import Json
from events.stamp import NOT_YET, Stamp
from events.store import Connection
from mcp_server.database import Database
from mcp_server.handle import TRIES, Context, handle
from mcp_server.tools.arguments import Change, Id, Moment, Position, says
from projections import history
from projections.current import Wanted
from projections.history import Filter, Stream, Thing
from projections.story import thing_of


class Undo(Change):
    tool: ClassVar = "undo"

    position: Annotated[
        Annotated[Position, Field(ge=1)] | None, says("one change, from get_history")
    ] = None
    since: Annotated[Moment | None, says("position or time: all changes from then on")] = None
    conversation_id: Annotated[Id | None, says("all changes it caused")] = None
    dry_run: Annotated[bool, says("only show what would happen")] = False
    force: Annotated[bool, says("overwrite later changes")] = False

    @model_validator(mode="after")
    def _one_span(self) -> Self:
        spans = [self.position, self.since, self.conversation_id]
        if not any(span is not None for span in spans):
            raise PydanticCustomError("position", "give position, since or conversation_id")
        if self.position is not None and (spans[1], spans[2]) != (None, None):
            raise PydanticCustomError("position", "position goes alone")
        return self

    async def answer(self, database: Database, context: Context) -> Json:
        """Plan on what is read, then write if that is still so; else plan again."""
        for _ in range(TRIES):
            plan = await self._plan(database, context)
            try:
                if self.dry_run:
                    return _rehearse(plan)
                return await handle(database, _Compensation(self, plan), context)
            except _Stale:
                continue
        raise Refused(
            "version_conflict",
            "Others kept changing the same things at the same time; nothing was undone.",
            "Try again.",
        )

    async def _plan(self, database: Database, context: Context) -> "_Plan":
        """Read the versions first: what is appended after that makes the plan stale."""
        narrator = audit.Narrator()
        async with database.connection() as reader:
            try:
                targets = await self._targets(reader, context.user_id)
                streams = {(thing.stream_type, thing.stream_id) for thing in targets.values()}
                versions = await history.versions(reader, context.user_id, streams)
                story = await _story(reader, context.user_id, targets, narrator)
            except Refused as refusal:
                return _Plan(_NOTHING, narrator, {}, refusal)
        try:
            undo = await _planned(story, set(targets))
        except Refused as refusal:
            return _Plan(_NOTHING, narrator, versions, refusal)
        return _Plan(undo, narrator, versions, None)

    async def _targets(self, reader: Connection, user_id: str) -> dict[int, Thing]:
        """Return the positions to undo, each with what it is about.

        Raises: Refused, if there are none or too many.
        """
        if self.position is not None:
            span = Filter(since=self.position, until=self.position + 1)
            found = await history.page(reader, user_id, span, 1)
            if not found:
                raise Refused(
                    "not_found",
                    f"There is no change at position {self.position}.",
                    "get_history shows the positions that exist.",
                )
            return {self.position: thing_of(found[0])}
        if self.conversation_id is not None:
            await _refuse_unknown_conversation(reader, user_id, self.conversation_id)
        targets = await _span(
            reader, user_id, Filter(caused_in=self.conversation_id, since=self.since)
        )
        own = ("conversation", self.conversation_id)
        return {
            position: thing
            for position, thing in targets.items()
            if (thing.stream_type, thing.stream_id) != own
        }


async def _span(reader: Connection, user_id: str, span: Filter) -> dict[int, Thing]:
    """Return the positions of the events in a span, and what they are about. Raises: Refused."""
    most = 4 * planning.MOST_UNDONE
    found: dict[int, Thing] = {}
    below = history.END
    while True:
        page = await history.page(reader, user_id, span, history.PAGE, below)
        found |= {record.position: thing_of(record) for record in page}
        if len(found) > most:
            raise Refused(
                "limit_exceeded",
                f"That is more than {most} events; one undo takes at most {planning.MOST_UNDONE}.",
                "Undo a shorter span first: begin with the newest changes.",
            )
        if len(page) < history.PAGE:
            return found
        below = page[-1].position


async def _story(
    reader: Connection, user_id: str, targets: dict[int, Thing], narrator: audit.Narrator
) -> list[Entry]:
    """Return what ``plan_undo`` needs to know, in as little memory as that takes."""
    about = set(targets.values())
    about |= {thing._replace(message_id=None) for thing in about}
    story = []
    async for page in history.changes(reader, user_id, dict.fromkeys(about, 0)):
        for record in page:
            entry = narrator.tell(record)
            story.append(planning.outline(entry, target=entry.position in targets))
    return story


async def _refuse_unknown_conversation(
    reader: Connection, user_id: str, conversation_id: int
) -> None:
    if not await history.page(reader, user_id, Filter(("conversation", conversation_id)), 1):
        raise conversation_not_found(conversation_id)


class _Stale(Exception):
    """Something has changed since the undo was planned."""


async def _planned(story: list[Entry], targets: set[int]) -> planning.Undo:
    """Plan in a thread: a long story takes a second, and others are served meanwhile.

    Who is cancelled waits for the end all the same: until then the user's place is taken.
    """
    running = asyncio.ensure_future(asyncio.to_thread(planning.plan_undo, story, targets))
    try:
        return await asyncio.shield(running)
    except asyncio.CancelledError:
        await asyncio.wait([running])
        running.exception()  # nobody is there to hear of it
        raise


_NOTHING = planning.Undo([], [], [])


class _Plan(NamedTuple):
    """How to undo, on the state that ``narrator`` knows, at these ``versions``; or why not."""

    undo: planning.Undo
    narrator: audit.Narrator
    versions: dict[Stream, int]
    refusal: Refused | None


class _Compensation:
    """The command that carries out a plan: it appends what compensates, and rewrites nothing."""

    tool = "undo"

    def __init__(self, wish: Undo, plan: _Plan) -> None:
        self.reason = wish.reason
        self.idempotency_key = wish.idempotency_key
        self._wish = wish
        self._plan = plan

    def request(self) -> Json:
        return self._wish.request()

    def _ids(self, kind: str) -> tuple[int, ...]:
        return tuple(dict.fromkeys(id_ for (of, id_), _ in self._plan.undo.steps if of == kind))

    def wanted(self) -> Wanted:
        return Wanted(
            task_ids=self._ids("task"),
            conversation_ids=self._ids("conversation"),
            message_ids=self._ids("message"),
        )

    def decide(self, draft: Draft) -> Json:
        self._refuse_if_stale(draft)
        return _carry_out(draft, self._plan, force=self._wish.force)

    def _refuse_if_stale(self, draft: Draft) -> None:
        known = self._plan.versions
        current = [
            *((task.version, known["task", id_]) for id_, task in draft.tasks.items()),
            *(
                (conversation.version, known["conversation", id_])
                for id_, conversation in draft.conversations.items()
            ),
        ]
        if any(now != then for now, then in current):
            raise _Stale


def _carry_out(draft: Draft, plan: _Plan, *, force: bool) -> Json:
    """Decide the steps of ``plan``. Raises: Refused."""
    if plan.refusal is not None:
        raise plan.refusal
    _take_steps(draft, plan.undo.steps)
    if not draft.entries:
        return {"undone": [], "events": [], "conflicts": [], "unchanged": True}
    conflicts = [conflict._asdict() for conflict in plan.undo.conflicts]
    if conflicts and not force:
        raise Refused(
            "undo_conflict",
            f"{_fields(len(conflicts))} changed again later; nothing was undone.",
            "Undo the later changes too, or repeat with force=true to overwrite them.",
            {"conflicts": conflicts},
        )
    answer: Json = {
        "undone": [{"position": entry.position, "what": entry.what} for entry in plan.undo.entries],
        "events": [-number - 1 for number in range(len(draft.entries))],
        "conflicts": conflicts,
    }
    answer["position"] = -len(draft.entries)
    if len({(entry.stream_type, entry.stream_id) for entry in draft.entries}) == 1:
        answer["version"] = draft.entries[-1].version
    return answer


def _fields(count: int) -> str:
    more = " or more" if count == planning.MOST_CONFLICTS else ""
    return "1 field was" if count == 1 else f"{count}{more} fields were"


def _take_steps(draft: Draft, steps: Sequence[planning.Step]) -> None:
    """Decide what undoes each change, newest first. Raises: Refused."""
    for (kind, id_), command in steps:
        match command:
            case tasks.CreateTask() | conversations.CreateConversation():
                raise AssertionError(f"{kind} {id_}: nothing is undone by creating")
            case conversations.AddMessage():
                raise AssertionError(f"{kind} {id_}: nothing is undone by adding")
            case (
                conversations.EditMessage()
                | conversations.DeleteMessage()
                | conversations.RestoreMessage()
            ):
                draft.change_message(id_, command)
            case conversations.DeleteConversation() | conversations.RestoreConversation():
                draft.change_conversation(id_, command)
            case _:
                draft.change_task(id_, command)


def _rehearse(plan: _Plan) -> Json:
    """Return what would happen, and do nothing. Raises: Refused, as the real thing would."""
    known = plan.narrator
    draft = Draft(dict(known.tasks), dict(known.conversations), dict(known.messages))
    answer = _carry_out(draft, plan, force=True)
    answer.pop("position", None)
    answer.pop("version", None)
    answer["events"] = [_would_be(known, entry) for entry in draft.entries]
    return {**answer, "dry_run": True}


def _would_be(narrator: audit.Narrator, entry: DraftEntry) -> Json:
    """Return an event that a dry run does not append, as the history would tell it."""
    stamp = Stamp(0, entry.version, NOT_YET)
    _, what, changes = narrator.apply(entry.stream_id, entry.event, stamp)
    told = {field: list(pair) for field, pair in changes.items()}
    undoes = getattr(entry.event, "undoes", None)
    return {"type": entry.event.type, "what": what, "changes": told, "undoes": undoes}
