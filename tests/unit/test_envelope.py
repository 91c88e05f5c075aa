"""One request at a time, well-formed, in both eras alike: everything else is refused shortly."""

from typing import Any

import orjson
import pytest

from mcp_server.middleware.envelope import (
    HEADER_MISMATCH,
    INVALID_REQUEST,
    MAX_DEPTH,
    PARSE_ERROR,
    NotARequest,
    check,
    check_revision,
)

CALL = {"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": {"name": "list_tasks"}}


def code(body: bytes) -> int:
    with pytest.raises(NotARequest) as refusal:
        check(body)
    return refusal.value.code


def without(name: str) -> dict[str, Any]:
    return {key: value for key, value in CALL.items() if key != name}


def nested(depth: int) -> bytes:
    """A request that is ``depth`` deep."""
    inner = b"[" * (depth - 2) + b"]" * (depth - 2)
    return orjson.dumps({**CALL, "params": {"x": 0}}).replace(b"0}", inner + b"}")


@pytest.mark.parametrize(
    "request_",
    [
        pytest.param(CALL, id="a call"),
        pytest.param({**CALL, "id": "a"}, id="an id may be text"),
        pytest.param({**CALL, "id": 0}, id="or nought"),
        pytest.param(without("id"), id="a notification has none"),
        pytest.param(without("params"), id="params may be absent"),
        pytest.param({**CALL, "more": [1]}, id="what is not known is left to the SDK"),
    ],
)
def test_let_through(request_: dict[str, Any]) -> None:
    check(orjson.dumps(request_))


@pytest.mark.parametrize(
    "request_",
    [
        pytest.param([CALL], id="a batch"),
        pytest.param([], id="an empty batch"),
        pytest.param(None, id="null"),
        pytest.param(5, id="a number"),
        pytest.param("tools/call", id="text"),
        pytest.param({}, id="an empty object"),
        pytest.param(without("jsonrpc"), id="no version"),
        pytest.param({**CALL, "jsonrpc": "1.0"}, id="another version"),
        pytest.param({**CALL, "jsonrpc": 2.0}, id="a number as the version"),
        pytest.param(without("method"), id="no method"),
        pytest.param({**CALL, "method": None}, id="null as the method"),
        pytest.param({**CALL, "method": 5}, id="a number as the method"),
        pytest.param({**CALL, "id": None}, id="null as the id"),
        pytest.param({**CALL, "id": True}, id="true as the id"),
        pytest.param({**CALL, "id": 1.0}, id="a float as the id"),
        pytest.param({**CALL, "id": {}}, id="an object as the id"),
        pytest.param({**CALL, "params": None}, id="null as the params"),
        pytest.param({**CALL, "params": [1]}, id="a list as the params"),
        pytest.param({"jsonrpc": "2.0", "id": 1, "result": {}}, id="an answer"),
        pytest.param({"jsonrpc": "2.0", "id": 1, "error": {"code": 1}}, id="an error"),
    ],
)
def test_no_request(request_: Any) -> None:
    assert code(orjson.dumps(request_)) == INVALID_REQUEST


@pytest.mark.parametrize(
    "body",
    [
        pytest.param(b"", id="nothing"),
        pytest.param(b" ", id="a space"),
        pytest.param(b"{", id="cut off"),
        pytest.param(orjson.dumps(CALL) + b"x", id="more behind"),
        pytest.param(orjson.dumps(CALL) * 2, id="twice"),
        pytest.param(b"\xef\xbb\xbf" + orjson.dumps(CALL), id="a byte order mark"),
        pytest.param(orjson.dumps(CALL).decode().encode("utf-16"), id="UTF-16"),
        pytest.param(b'{"a":"\xff"}', id="no UTF-8"),
        pytest.param(b'{"a":"\xed\xa0\x80"}', id="a surrogate in UTF-8"),
        pytest.param(rb'{"a":"\ud800"}', id="a lone surrogate"),
        pytest.param(b'{"a":"\x00"}', id="a bare NUL"),
        pytest.param(b'{"a":"\n"}', id="a bare line feed"),
        pytest.param(b'{"a":NaN}', id="NaN"),
        pytest.param(b'{"a":-Infinity}', id="infinity"),
        pytest.param(b'{"a":1e999}', id="a number beyond all"),
        pytest.param(b'{"a":' + b"9" * 5000 + b"}", id="5,000 digits"),
        pytest.param(b'{"a":01}', id="a leading nought"),
        pytest.param(b"{'a':1}", id="single quotes"),
        pytest.param(b'{"a":1,}', id="a comma too many"),
        pytest.param(b'{"a":1}//x', id="a comment"),
        pytest.param(b"[" * 100_000, id="100,000 brackets"),
        pytest.param(b'{"a":' * 100_000, id="100,000 braces"),
    ],
)
def test_no_json(body: bytes) -> None:
    assert code(body) == PARSE_ERROR


def test_how_deep_a_body_may_be() -> None:
    check(nested(MAX_DEPTH))
    assert code(nested(MAX_DEPTH + 1)) == INVALID_REQUEST
    assert code(nested(900)) == INVALID_REQUEST


def test_many_that_are_not_deep_are_no_problem() -> None:
    check(orjson.dumps({**CALL, "params": {"x": [{"a": []}] * 5000}}))
    check(orjson.dumps({**CALL, "params": {"x": "[{" * 5000}}))


REVISION = {"_meta": {"io.modelcontextprotocol/protocolVersion": "2026-07-28"}}
OLD, NEW = b"2025-11-25", b"2026-07-28"


@pytest.mark.parametrize(
    ("params", "headers"), [({}, []), ({}, [OLD]), (REVISION, [NEW]), (REVISION, [NEW, b" " + NEW])]
)
def test_one_revision(params: dict[str, Any], headers: list[bytes]) -> None:
    check_revision({**CALL, "params": params}, headers)


@pytest.mark.parametrize(
    ("params", "headers"),
    [
        (REVISION, []),
        (REVISION, [OLD]),
        # One reader takes the first, another the last: so which of them is meant is not said.
        (REVISION, [OLD, NEW]),
        (REVISION, [NEW, OLD]),
        ({}, [OLD, NEW]),
    ],
)
def test_two_revisions(params: dict[str, Any], headers: list[bytes]) -> None:
    with pytest.raises(NotARequest) as refusal:
        check_revision({**CALL, "params": params}, headers)
    assert refusal.value.code == HEADER_MISMATCH
