"""What a bundle is made of: one user's ledger in a zip that an auditor takes away.

    events.jsonl    a line for each event (``event_line``), each ended by a line feed
    README.md       what this is, and how to check it
    manifest.json   whose ledger it is, where it begins and ends, the SHA-256 of the other files
    checkpoint.txt, checkpoint-proof.json, checkpoint-key.txt
                    if there is one: the latest checkpoint, the proof that the ledger's head is in
                    it, and the key to check it with (all three, or none)

Every byte is accounted for: the files by the manifest; the manifest by its own ``seal``, which is
the SHA-256 of its other fields; the zip's own structure by the seal in the zip's comment. Seals
find accidents. Against a forger who makes the seals anew there is the hash chain of the events,
and against one who makes the whole chain anew, the signed checkpoint.
"""

from hashlib import sha256
from typing import Literal

import orjson
from pydantic import AwareDatetime, BaseModel, ConfigDict, ValidationError

from events.ledger import Head, jcs
from mcp_server.evidence.event_line import HexHash, Whole, to_time

EVENTS = "events.jsonl"
MANIFEST = "manifest.json"
README = "README.md"
CHECKPOINT = "checkpoint.txt"
PROOF = "checkpoint-proof.json"
KEY = "checkpoint-key.txt"
ATTESTATION = frozenset({CHECKPOINT, PROOF, KEY})
FILES = frozenset({EVENTS, MANIFEST, README}) | ATTESTATION
COMMENT_TAG = b"tasktrail-bundle sha256="
COMMENT_BYTES = len(COMMENT_TAG) + 64

_SEAL_TAG = b"tasktrail/manifest/v1\0"


class BadManifest(Exception):
    """The manifest cannot be read; the text says why."""


class Manifest(BaseModel):
    """``erased_through``: up to this position the words were erased; null when none were."""

    model_config = ConfigDict(
        frozen=True, strict=True, extra="forbid", val_json_bytes="hex", ser_json_bytes="hex"
    )

    format: Literal["tasktrail-bundle/1"] = "tasktrail-bundle/1"
    user: str
    first_position: Whole
    last_position: Whole
    head_hash: HexHash
    erased_through: Whole | None
    files: dict[str, HexHash]
    created_at: AwareDatetime

    @property
    def head(self) -> Head:
        """The ledger's head."""
        return Head(self.last_position, bytes.fromhex(self.head_hash))

    def to_bytes(self) -> bytes:
        """Return the one way in which this manifest is written."""
        fields = {**self.model_dump(), "created_at": to_time(self.created_at)}
        fields["seal"] = sha256(_SEAL_TAG + jcs(fields)).hexdigest()
        return orjson.dumps(fields, option=orjson.OPT_INDENT_2 | orjson.OPT_SORT_KEYS) + b"\n"

    @staticmethod
    def from_bytes(text: bytes) -> "Manifest":
        """Return the manifest that ``text`` says.

        Raises:
            BadManifest: it is not a manifest, or was changed after it was written.
        """
        try:
            sealed = _SealedManifest.model_validate_json(text)
        except (ValidationError, RecursionError):
            raise BadManifest("is not the manifest of a bundle in a format known here") from None
        manifest = Manifest(**sealed.model_dump(exclude={"seal"}))
        if manifest.to_bytes() != text:
            raise BadManifest("was changed after it was written")
        return manifest


class _SealedManifest(Manifest):
    seal: HexHash
