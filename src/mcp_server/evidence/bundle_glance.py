"""The events of a bundle at a glance: whether all is right, quickly, and no word on what is wrong.

``events.intact`` does most of it. In here a line is taken apart into the columns that it wants. It
is canonical as a whole if its members stand in the order of their names, which the pattern says,
and each is canonical: so no line is parsed and written anew, only its body is, and an actor once.
"""

import re
from binascii import unhexlify
from collections.abc import Iterable, Iterator
from datetime import datetime
from typing import Any

import orjson

from events.intact import Columns, Doubt, follow
from events.ledger import Head, microseconds

_FROM_1970_TO_2000 = 946_684_800_000_000
_ACTOR, _BODY, _REST = b'{"actor":', b',"body":', b',"command_id":"'
_NAME = rb"[A-Za-z]+"
_WHOLE = rb"0|[1-9][0-9]{0,18}"
_UUID = rb".{8}-.{4}-.{4}-.{4}-.{12}"
_SALT = rb".{32}"
_HASH = rb".{64}"
_HEX = b"0123456789abcdef"
"""What ids, salts and hashes are made of: looked at all together, for a pattern would take twice
as long as all the rest of it."""
_TIME = rb"[0-9]{4}-[0-9]{2}-[0-9]{2}T(?:[01][0-9]|2[0-3]):[0-9]{2}:[0-9]{2}\.[0-9]{6}Z"


class Glance:
    """One reading of all lines of ``user_id``'s ledger.

    ``head`` is that of the last one, ``erased_through`` up to where the last erasure says that it
    erased. ``missed`` are those of ``anchors`` that did not come.

    Raises: Doubt, if something may be wrong with a line; and what ``lines`` does.
    """

    def __init__(self, user_id: str, lines: Iterable[bytes], anchors: Iterable[Head]) -> None:
        self.erased_through: int | None = None
        self.missed = set(anchors)
        self._rest = _rest_of(user_id)
        self.head = follow(user_id, self._columns(lines), None, exported=True).head

    def _columns(self, lines: Iterable[bytes]) -> Iterator[Columns]:
        for line in lines:
            after_actor, after_body = line.find(_BODY), line.rfind(_REST)
            rest = self._rest.fullmatch(line, after_body)
            if rest is None or not line.startswith(_ACTOR) or not 0 < after_actor < after_body:
                raise Doubt
            actor = line[len(_ACTOR) : after_actor]
            text = line[after_actor + len(_BODY) : after_body]
            yield self._event(actor, None if text == b"null" else text, *rest.groups())

    def _event(
        self,
        actor: bytes,
        body: bytes | None,
        command_id: bytes,
        commitment: bytes,
        content_hash: bytes,
        event_id: bytes,
        hash_: bytes,
        position: bytes,
        recorded_at: bytes,
        salt: bytes | None,
        schema_version: bytes,
        stream_id: bytes,
        stream_type: bytes,
        type_: bytes,
        version: bytes,
    ) -> Columns:
        hexadecimal = (command_id, commitment, content_hash, event_id, hash_, salt or b"")
        if b"".join(hexadecimal).translate(None, _HEX) != b"--------":
            raise Doubt
        place, hash_ = int(position), unhexlify(hash_)
        if self.missed:
            self.missed.discard(Head(place, hash_))
        if type_ == b"LedgerErased" and body is not None:
            self.erased_through = _through(body) or self.erased_through
        at = microseconds(datetime.fromisoformat(recorded_at.decode())) - _FROM_1970_TO_2000
        return (
            None,
            place,
            b"%b %b %b" % (stream_type, type_, schema_version),
            int(stream_id),
            int(version),
            b'%b","commitment":"%b","event_id":"%b' % (command_id, commitment, event_id),
            actor,
            body,
            None if salt is None else unhexlify(salt),
            unhexlify(content_hash),
            hash_,
            at,
        )


def _rest_of(user_id: str) -> re.Pattern[bytes]:
    """Return what a line of this user looks like after its body."""
    return re.compile(
        rb',"command_id":"(%b)","commitment":"(%b)","content_hash":"(%b)","event_id":"(%b)"'
        rb',"hash":"(%b)","position":(%b),"recorded_at":"(%b)","salt":(?:null|"(%b)")'
        rb',"schema_version":(%b),"stream_id":(%b),"stream_type":"(%b)","type":"(%b)"'
        rb',"user_id":%b,"version":(%b)\}'
        % (
            *(_UUID, _HASH, _HASH, _UUID, _HASH, _WHOLE, _TIME, _SALT, _WHOLE, _WHOLE),
            *(_NAME, _NAME, re.escape(orjson.dumps(user_id)), _WHOLE),
        ),
        re.DOTALL,
    )


def _through(body: bytes) -> int:
    """Return up to where an erasure says that it erased."""
    erased: Any = orjson.loads(body)["data"]["through"]
    return int(erased)
