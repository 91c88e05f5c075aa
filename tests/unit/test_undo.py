"""Planning an undo: what is taken back, in which order, and what is left alone."""

from datetime import UTC, datetime
from typing import Any
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from events import audit, catalog, undo
from events.conversation import (
    AddMessage,
    CreateConversation,
    DeleteConversation,
    DeleteMessage,
    EditMessage,
    RestoreMessage,
)
from events.draft import Draft
from events.errors import Refused
from events.ledger import Record
from events.task import (
    CompleteTask,
    CreateTask,
    DeleteTask,
    ReopenTask,
    UpdateTask,
)
from tests.ledgers import tell_all
from tests.naive_fold import fold

AT = datetime(2026, 11, 20, 12, tzinfo=UTC)
TITLE = st.sampled_from(["A", "B", "C"])


class Book:
    """A ledger without a database, and without hashes."""

    def __init__(self) -> None:
        self.records: list[Record] = []

    def draft(self) -> Draft:
        """Return a draft on the state that there is."""
        narrator = audit.Narrator()
        for record in self.records:
            narrator.tell(record)
        return Draft(narrator.tasks, narrator.conversations, narrator.messages)

    def append(self, draft: Draft) -> None:
        """Append what a draft has decided."""
        base = len(self.records)
        for entry in draft.entries:
            id_ = base - entry.stream_id if entry.stream_id < 0 else entry.stream_id
            body = {"data": catalog.encode(entry.event), "reason": None}
            self.records.append(
                Record(
                    position=len(self.records) + 1,
                    stream_type=entry.stream_type,
                    stream_id=id_,
                    version=entry.version,
                    type=entry.event.type,
                    schema_version=1,
                    event_id=UUID(int=0),
                    command_id=UUID(int=0),
                    actor={},
                    commitment=b"",
                    body=body,
                    salt=b"",
                    content_hash=b"",
                    hash=b"",
                    recorded_at=AT,
                )
            )

    def do(self, kind: str, id_: int | None, command: Any) -> None:
        """Append what one command adds; nothing if it is refused."""
        draft = self.draft()
        try:
            getattr(draft, f"change_{kind}")(id_, command)
        except Refused:
            return
        self.append(draft)

    def plan(self, *targets: int) -> undo.Undo:
        """Plan to undo the events at ``targets``, given no more than is asked for."""
        streams = {(r.stream_type, r.stream_id) for r in self.records if r.position in targets}
        told = tell_all(self.records)
        about = {entry.subject for entry in told if entry.position in targets}
        whole = [e for e in told if (e.record.stream_type, e.record.stream_id) in streams]
        story = [
            undo.outline(entry, target=entry.position in targets)
            for entry in whole
            if entry.subject in about or entry.subject[0] == "conversation"
        ]
        plan = undo.plan_undo(story, set(targets))
        knowing_all = undo.plan_undo(whole, set(targets))
        assert (plan.steps, plan.conflicts) == (knowing_all.steps, knowing_all.conflicts)
        return plan

    def undo(self, *targets: int) -> list[int]:
        """Undo by force; return the positions of what was undone."""
        plan = self.plan(*targets)
        draft = self.draft()
        for (kind, id_), command in plan.steps:
            getattr(draft, f"change_{kind}")(id_, command)
        self.append(draft)
        return [entry.position for entry in plan.entries]

    def visible(self, until: int | None = None) -> list[Any]:
        """Return what an agent sees after the event at ``until``, without times and versions."""
        tasks, conversations, messages = fold(self.records[:until])
        names = ("id", "title", "completed", "tags")
        shown: list[Any] = [
            [row[name] for name in names] for row in tasks.values() if not row["deleted"]
        ]
        shown += [row["id"] for row in conversations.values() if not row["deleted"]]
        shown += [
            (row["id"], row["content"])
            for row in messages.values()
            if not row["deleted"] and not conversations[row["conversation_id"]]["deleted"]
        ]
        return shown


COMMANDS: st.SearchStrategy[Any] = st.one_of(
    st.tuples(st.just("task"), st.builds(CreateTask, title=TITLE)),
    st.tuples(
        st.just("task"),
        st.builds(
            UpdateTask,
            changes=st.fixed_dictionaries(
                {}, optional={"title": TITLE, "tags": st.sampled_from([[], ["x"]])}
            ),
        ),
    ),
    st.tuples(st.just("task"), st.sampled_from([CompleteTask(), ReopenTask(), DeleteTask()])),
    st.tuples(
        st.just("conversation"),
        st.sampled_from(
            [CreateConversation(), DeleteConversation(), AddMessage(role="user", content="A")]
        ),
    ),
    st.tuples(
        st.just("message"),
        st.sampled_from(
            [EditMessage(content="A"), EditMessage(content="B"), DeleteMessage(), RestoreMessage()]
        ),
    ),
)
STEP = st.tuples(st.sampled_from(["do", "do", "undo", "undo since"]), st.integers(0, 9), COMMANDS)


@given(steps=st.lists(STEP, max_size=30), data=st.data())
def test_undoing_all_since_leads_back_there(steps: list[Any], data: st.DataObject) -> None:
    book = Book()
    for what, pick, (kind, command) in steps:
        count = len(book.records)
        if what == "do":
            new = isinstance(command, CreateTask | CreateConversation)
            draft = book.draft()
            ids = [*getattr(draft, f"{kind}s"), 99]
            book.do(kind, None if new else ids[pick % len(ids)], command)
        elif count and what == "undo":
            try:
                book.undo(pick % count + 1)
            except Refused as refusal:
                assert refusal.code in {"not_found", "message_not_found"}  # noqa: PT017
        elif count:
            book.undo(*range(pick % count + 1, count + 1))
    if not book.records:
        return
    position = data.draw(st.integers(1, len(book.records)))
    book.undo(*range(position, len(book.records) + 1))
    assert book.visible() == book.visible(position - 1)
    book.undo(*range(position, len(book.records) + 1))
    assert book.visible() == book.visible(position - 1)


def a_task(*changes: dict[str, Any]) -> Book:
    """Task 1, called A, and then changed."""
    book, draft = Book(), Draft()
    id_ = draft.change_task(None, CreateTask(title="A")).id
    for change in changes:
        draft.change_task(id_, UpdateTask(changes=change))  # type: ignore[arg-type] # a Changes
    book.append(draft)
    return book


def test_the_latest_is_undone_first() -> None:
    book = a_task({"title": "B"}, {"title": "C"})
    assert book.undo(2, 3) == [3, 2]
    assert book.visible() == [[1, "A", False, []]]


def test_a_pair_that_cancels_is_left_out() -> None:
    book = a_task({"title": "B"})
    book.undo(2)
    assert book.undo(2, 3) == []
    assert book.undo(1, 2, 3) == [1]


def test_of_very_many_conflicts_only_the_first_are_told() -> None:
    """There could be as many as pairs of an undone and a later change, in one answer."""
    book = a_task(*({"title": f"{number}"} for number in range(100)))
    conflicts = book.plan(*range(2, 40)).conflicts
    assert len(conflicts) == undo.MOST_CONFLICTS
    assert conflicts[0] == undo.Conflict(39, "title", 40)


def test_a_pair_with_a_change_in_between_does_not_cancel() -> None:
    """A, B, C, and by force A again: taking all of it back must not stop at B."""
    book = a_task({"title": "B"}, {"title": "C"})
    book.undo(2)
    assert book.undo(2, 3, 4) == [4, 3, 2]
    assert book.visible() == [[1, "A", False, []]]


def test_nor_where_the_undoing_found_a_field_as_it_was() -> None:
    book = a_task({"title": "B", "tags": ["x"]}, {"title": "A"})
    book.undo(2)
    assert book.undo(2, 3, 4) == [4, 3, 2]
    assert book.visible() == [[1, "A", False, []]]


def test_nor_do_pairs_that_overlap() -> None:
    book = a_task({"priority": "low", "tags": ["x"]}, {"tags": []})
    book.undo(2)
    book.undo(3)
    assert book.undo(2, 3, 4, 5) == [4, 2]
    assert book.visible() == [[1, "A", False, []]]


def test_what_stays_gone_is_not_what_comes_back() -> None:
    book = a_task()
    book.undo(1)
    book.undo(2)
    book.do("task", 1, UpdateTask(changes={"title": "B"}))
    book.undo(3)
    assert book.undo(2, 3, 4, 5) == [2, 4]
    assert book.visible() == [[1, "A", False, []]]


def test_changes_of_what_is_gone_are_left_alone() -> None:
    book = a_task({"title": "B"})
    book.undo(1)
    assert book.undo(1, 2, 3) == []
    book.do("conversation", None, CreateConversation())
    book.do("conversation", 4, AddMessage(role="user", content="Hello"))
    book.do("conversation", 4, DeleteConversation())
    assert book.undo(1, 2, 5) == []


def test_what_is_gone_comes_back_first() -> None:
    book = a_task({"title": "B"})
    book.do("task", 1, DeleteTask())
    assert book.undo(2, 3) == [3, 2]
    assert book.visible() == [[1, "A", False, []]]


def test_what_comes_back_may_have_to_go_again() -> None:
    """It began within the span: all of it is undone, its deletion too."""
    book = a_task({"title": "B"})
    book.do("task", 1, DeleteTask())
    assert book.undo(1, 2, 3) == [3, 2, 1]
    assert book.visible() == []


def test_one_change_of_what_is_gone_says_so() -> None:
    book = a_task({"title": "B"})
    book.do("task", 1, DeleteTask())
    with pytest.raises(Refused) as refusal:
        book.undo(2)
    assert refusal.value.code == "not_found"
    assert "undo(position=3)" in refusal.value.hint


def test_a_later_change_of_the_same_field_is_a_conflict() -> None:
    book = a_task({"title": "B", "tags": ["x"]}, {"title": "C"})
    book.do("task", 1, CompleteTask())
    assert book.plan(2).conflicts == [undo.Conflict(2, "title", 3)]
    assert book.plan(3).conflicts == []
    assert book.plan(2, 3).conflicts == []


def test_one_that_was_undone_is_not() -> None:
    book = a_task({"title": "B"}, {"title": "C"})
    book.undo(3)
    assert book.plan(2).conflicts == []


def test_an_undo_can_be_undone() -> None:
    book = a_task({"title": "B"})
    book.undo(2)
    assert book.undo(3) == [3]
    assert book.visible() == [[1, "B", False, []]]
    assert book.undo(2) == [2]
    assert book.visible() == [[1, "A", False, []]]


def test_more_than_500_changes_are_too_many() -> None:
    book = a_task(*({"title": str(n)} for n in range(501)))
    with pytest.raises(Refused) as refusal:
        book.plan(*range(2, 503))
    assert refusal.value.code == "limit_exceeded"
    assert len(book.plan(*range(3, 503)).entries) == 500
