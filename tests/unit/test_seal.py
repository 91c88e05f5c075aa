"""What is sent to be committed: random ids, and hashes of the very events that go with them."""

import re
from itertools import chain
from uuid import RFC_4122, UUID

from events import ledger, store
from events.draft import Draft
from events.ledger import Json
from events.task import CompleteTask, CreateTask
from tests.ledgers import ACTOR

LOWER_CASE = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")


def sealed() -> Json:
    draft = Draft()
    task = draft.change_task(None, CreateTask(title="Buy milk", due="2026-12-01", tags=["home"]))
    draft.change_task(task.id, CompleteTask())
    return store.seal("ann", draft, ACTOR, "she said so")


def ids(command: Json) -> list[str]:
    return [command["command_id"], *(event["event_id"] for event in command["events"])]


def test_ids_are_uuids_of_version_4_as_the_library_writes_them() -> None:
    for text in chain.from_iterable(ids(sealed()) for _ in range(200)):
        id_ = UUID(text)
        assert (id_.version, id_.variant) == (4, RFC_4122)
        assert str(id_) == text
        assert LOWER_CASE.fullmatch(text)


def test_every_other_bit_of_an_id_is_drawn() -> None:
    numbers = [UUID(store.new_id()).int for _ in range(200)]
    ones, zeros = 0, 0
    for number in numbers:
        ones |= number
        zeros |= ~number
    version_and_variant = UUID("00000000-0000-f000-c000-000000000000").int
    assert f"{ones & zeros & 2**128 - 1:x}" == f"{2**128 - 1 & ~version_and_variant:x}"


def test_no_two_ids_are_the_same() -> None:
    drawn = [*chain.from_iterable(ids(sealed()) for _ in range(200))]
    assert len(set(drawn)) == len(drawn)


def test_the_hashes_are_of_what_is_sent() -> None:
    command = sealed()
    for event in command["events"]:
        salt, commitment = bytes.fromhex(event["salt"]), bytes.fromhex(event["commitment"])
        assert ledger.commit_to(event["body"], salt) == commitment
        content_hash = ledger.hash_content(
            event["event_id"],
            command["command_id"],
            event["type"],
            event["schema_version"],
            event["stream_type"],
            command["actor"],
            commitment,
        )
        assert content_hash.hex() == event["content_hash"]
