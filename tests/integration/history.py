"""Random histories, lived through the public write path's own commit."""

import asyncio
from typing import Any

import psycopg

from events import store
from events.conversation import AddMessage, CreateConversation, DeleteConversation, EditMessage
from events.draft import Draft
from events.erasure import erase
from events.task import CompleteTask, CreateTask, DeleteTask, UpdateTask
from mcp_server.commands.export_formats import ACTOR
from projections import current
from projections.current import Wanted

NOBODY = dict.fromkeys(ACTOR)


class User:
    """One user who changes things through ``commit``, as the server does."""

    def __init__(
        self,
        connection: store.Connection,
        user_id: str,
        operator: store.Connection | None = None,
    ) -> None:
        """``operator`` is needed to erase."""
        self.connection = connection
        self.user_id = user_id
        self._operator = operator

    async def add_task(self, title: str = "Buy milk", **fields: Any) -> int:
        draft = Draft()
        draft.change_task(None, CreateTask(title=title, **fields))
        return (await self._commit(draft)).base + 1

    async def change_task(self, id_: int, command: Any) -> None:
        found = await current.read(self.connection, self.user_id, Wanted(task_ids=(id_,)))
        draft = Draft(found.tasks)
        draft.change_task(id_, command)
        await self._commit(draft)

    async def complete_task(self, id_: int) -> None:
        await self.change_task(id_, CompleteTask())

    async def update_task(self, id_: int, **changes: Any) -> None:
        await self.change_task(id_, UpdateTask(changes=changes))  # type: ignore[arg-type] # a part

    async def delete_task(self, id_: int) -> None:
        await self.change_task(id_, DeleteTask())

    async def create_conversation(self, title: str | None = None) -> int:
        draft = Draft()
        draft.change_conversation(None, CreateConversation(title=title))
        return (await self._commit(draft)).base + 1

    async def add_message(self, conversation_id: int, content: str = "Hello", **more: Any) -> int:
        wanted = Wanted(conversation_ids=(conversation_id,))
        found = await current.read(self.connection, self.user_id, wanted)
        draft = Draft(None, found.conversations)
        draft.change_conversation(conversation_id, AddMessage(role="user", content=content, **more))
        return (await self._commit(draft)).base + 1

    async def change_message(self, id_: int, command: Any) -> None:
        found = await current.read(self.connection, self.user_id, Wanted(message_ids=(id_,)))
        draft = Draft(None, found.conversations, found.messages)
        draft.change_message(id_, command)
        await self._commit(draft)

    async def edit_message(self, id_: int, content: str) -> None:
        await self.change_message(id_, EditMessage(content=content))

    async def change_conversation(self, id_: int, command: Any) -> None:
        found = await current.read(self.connection, self.user_id, Wanted(conversation_ids=(id_,)))
        draft = Draft(None, found.conversations)
        draft.change_conversation(id_, command)
        await self._commit(draft)

    async def delete_conversation(self, id_: int) -> None:
        await self.change_conversation(id_, DeleteConversation())

    async def erase(self) -> None:
        assert self._operator is not None
        await erase(self._operator, self.user_id, NOBODY, None)

    async def _commit(self, draft: Draft) -> store.Outcome:
        command = store.pack(store.seal(self.user_id, draft, NOBODY))
        while True:
            (outcome,) = await store.commit(store.asking(self.connection), [command])
            if outcome.status != "locked":
                assert outcome.status == "committed"
                return outcome
            await asyncio.sleep(0.01)


async def connect(conninfo: str) -> store.Connection:
    return await psycopg.AsyncConnection.connect(conninfo, autocommit=True)
