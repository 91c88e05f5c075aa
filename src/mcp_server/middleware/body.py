"""A request's body: read whole, within a limit, and given to the app that is asked next."""

from starlette.types import Message, Receive

from mcp_server.middleware.answers import HttpRefusal

MAX_BODY = 1024 * 1024


def too_long() -> HttpRefusal:
    """Return what to raise when more than a mebibyte comes or is announced."""
    return HttpRefusal(
        413,
        "request_too_large",
        "A request may have at most 1 MiB. Send less at once: shorter texts, or fewer tasks.",
    )


async def read(receive: Receive) -> bytes | None:
    """Return the whole body, None if the client has gone. Raises: HttpRefusal 413."""
    message = await receive()
    if message["type"] != "http.request":
        return None
    body: bytes = message.get("body", b"")
    if not message.get("more_body", False) and len(body) <= MAX_BODY:
        return body
    parts = bytearray(body)
    while message.get("more_body", False) and len(parts) <= MAX_BODY:
        message = await receive()
        if message["type"] != "http.request":
            return None
        parts += message.get("body", b"")
    if len(parts) > MAX_BODY:
        raise too_long()
    return bytes(parts)


def replay(body: bytes, receive: Receive) -> Receive:
    """Return a receive that gives ``body`` once and then what the client does next."""
    given = False

    async def given_once() -> Message:
        nonlocal given
        if given:
            return await receive()
        given = True
        return {"type": "http.request", "body": body, "more_body": False}

    return given_once
