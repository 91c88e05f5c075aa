"""A checkpoint: one signed statement of where every ledger ends.

The chain of a ledger shows that nothing in it was changed; only something that is kept elsewhere
can show that its end was not cut off, or all of it made anew. A checkpoint is that something. Its
text is a C2SP checkpoint (tlog-checkpoint):

    <origin>                 the name of the key
    <number of ledgers>
    <root, base64>           RFC 6962, over one leaf for each ledger, in the order of genesis hashes
    number <n>               1, 2, 3 ... without a gap, in the order of signing
    time <ISO 8601, UTC>
    previous <hex>           SHA-256 of the whole note before it; 64 zeros for the first
    restored <n> <hex>       only where a backup was restored: the number and the hash of the
                             checkpoint that the database went back to; those between are lost
    access <number> <root>   the same over where the records of access end (evidence.access_log)

    leaf = "tasktrail/head/v1\\0" + genesis hash (32) + position (int64, big endian) + hash (32)

Ledgers change under the tree, so the root of one checkpoint does not prove the next. What does is
that every ledger goes on from the head that was signed: the signer checks it, and ``verify`` does.
"""

import re
from base64 import b64decode, b64encode
from collections.abc import Sequence
from datetime import datetime
from hashlib import sha256
from typing import NamedTuple, Self

import orjson
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from events import ledger, merkle
from events.ledger import Head
from mcp_server.evidence.event_line import Hash, Whole, to_time
from mcp_server.evidence.note import BadNote, PublicKey

_LEAF_TAG = b"tasktrail/head/v1\0"
_TEXT = re.compile(
    r"(?P<origin>[^\n]+)\n(?P<size>[1-9]\d{0,17}|0)\n(?P<root>[A-Za-z0-9+/]{43}=)\n"
    r"number (?P<number>[1-9]\d{0,17})\n"
    r"time (?P<time>[^\n]+)\n"
    r"previous (?P<previous>[0-9a-f]{64})\n"
    r"(?:restored (?P<restored>[1-9]\d{0,17}|0) (?P<restored_hash>[0-9a-f]{64})\n)?"
    r"(?:access (?P<accesses>[1-9]\d{0,17}|0) (?P<access_root>[A-Za-z0-9+/]{43}=)\n)?"
)


class BadCheckpoint(ValueError):
    """It is no checkpoint, or does not state what it is said to state."""


class Tree(NamedTuple):
    """How many leaves a tree has, and its root."""

    size: int
    root: bytes


class Link(NamedTuple):
    """A checkpoint that another one follows: its number, 0 for none, and the hash of its note."""

    number: int
    hash: str


NOTHING = Link(0, "0" * 64)
"""What the first checkpoint follows."""


class Statement(NamedTuple):
    """What a checkpoint says. ``previous`` is the hash of the whole note before it, as hex;
    ``access`` is None where it says nothing of the records of access; ``restored`` is the
    checkpoint that the database went back to when a backup was restored."""

    origin: str
    size: int
    root: bytes
    number: int
    at: datetime
    previous: str
    access: Tree | None = None
    restored: Link | None = None

    @property
    def follows(self) -> Link:
        """The checkpoint that is before it in the database."""
        return self.restored or Link(self.number - 1, self.previous)

    def write(self) -> str:
        """Return the text to sign."""
        root = b64encode(self.root).decode()
        text = (
            f"{self.origin}\n{self.size}\n{root}\n"
            f"number {self.number}\ntime {to_time(self.at)}\nprevious {self.previous}\n"
        )
        if self.restored is not None:
            text += f"restored {self.restored.number} {self.restored.hash}\n"
        if self.access is None:
            return text
        return f"{text}access {self.access.size} {b64encode(self.access.root).decode()}\n"

    @classmethod
    def read(cls, text: str) -> Self:
        """Return what the text of a note says. Raises: BadCheckpoint."""
        match = _TEXT.fullmatch(text)
        if match is None:
            raise BadCheckpoint("it is not the text of a checkpoint")
        try:
            statement = cls(
                match["origin"],
                int(match["size"]),
                b64decode(match["root"]),
                int(match["number"]),
                datetime.fromisoformat(match["time"]),
                match["previous"],
                _access(match),
                _restored(match),
            )
            canonical = statement.write()
        except (ValueError, OverflowError):
            raise BadCheckpoint("its time cannot be read") from None
        if canonical != text:
            raise BadCheckpoint("it is not written as checkpoints are")
        return statement


def _access(match: re.Match[str]) -> Tree | None:
    if match["accesses"] is None:
        return None
    return Tree(int(match["accesses"]), b64decode(match["access_root"]))


def _restored(match: re.Match[str]) -> Link | None:
    if match["restored"] is None:
        return None
    return Link(int(match["restored"]), match["restored_hash"])


def checked(note: str, key: PublicKey) -> Statement:
    """Return what a note says, if ``key`` signed it.

    Raises:
        BadCheckpoint: it did not, or the note says nothing that a checkpoint says.
    """
    try:
        return Statement.read(key.check(note))
    except BadNote as fault:
        raise BadCheckpoint(str(fault)) from None


def text_of(note: str) -> str:
    """Return the text of a note, whoever signed it."""
    return note.rpartition("\n\n")[0] + "\n"


def hash_of(note: str) -> str:
    """Return what the next checkpoint calls this one."""
    return sha256(note.encode()).hexdigest()


def leaf(user_id: str, head: Head) -> bytes:
    """Return the leaf hash of a ledger."""
    place = head.position.to_bytes(8, "big", signed=True)
    return merkle.leaf_hash(_LEAF_TAG + ledger.genesis(user_id) + place + head.hash)


class Proof(BaseModel):
    """That a ledger with this head is in the tree of a checkpoint."""

    model_config = ConfigDict(
        frozen=True, strict=True, extra="forbid", val_json_bytes="hex", ser_json_bytes="hex"
    )

    position: Whole
    hash: Hash
    index: Whole
    size: Whole
    path: list[Hash] = Field(max_length=63)

    def write(self) -> bytes:
        """Return it as JSON, in the one way there is."""
        return (
            orjson.dumps(
                {
                    "position": self.position,
                    "hash": self.hash.hex(),
                    "index": self.index,
                    "size": self.size,
                    "path": [sibling.hex() for sibling in self.path],
                },
                option=orjson.OPT_INDENT_2,
            )
            + b"\n"
        )

    @classmethod
    def read(cls, text: bytes) -> Self:
        """Return the proof that ``text`` says. Raises: BadCheckpoint."""
        try:
            return cls.model_validate_json(text)
        except ValidationError:
            raise BadCheckpoint("the proof cannot be read") from None

    @property
    def head(self) -> Head:
        """The head that was signed."""
        return Head(self.position, self.hash)

    def check(self, user_id: str, statement: Statement) -> None:
        """Raises: BadCheckpoint, unless the statement's tree has this head of ``user_id``."""
        try:
            leaf_hash = leaf(user_id, self.head)
            root = merkle.root_from(leaf_hash, self.index, self.size, self.path)
        except merkle.BadProof as fault:
            raise BadCheckpoint(f"the proof is wrong: {fault}") from None
        if (self.size, root) != (statement.size, statement.root):
            raise BadCheckpoint("the proof does not lead to the root that was signed")


class Attestation(NamedTuple):
    """A checkpoint, the key that checks it, and the proof that one ledger is in it."""

    note: str
    key: PublicKey
    proof: Proof

    def check(self, user_id: str) -> None:
        """Raises: BadCheckpoint, unless all three fit each other and the user."""
        self.proof.check(user_id, checked(self.note, self.key))


def prove(user_id: str, head: Head, leaves: Sequence[bytes]) -> Proof:
    """Return the proof that ``head`` is among ``leaves``. Raises: BadCheckpoint, if it is not."""
    wanted = leaf(user_id, head)
    if wanted not in leaves:
        raise BadCheckpoint("the ledger is not in the checkpoint")
    index = list(leaves).index(wanted)
    path = merkle.path(leaves, index)
    return Proof(position=head.position, hash=head.hash, index=index, size=len(leaves), path=path)
