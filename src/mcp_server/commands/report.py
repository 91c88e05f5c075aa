"""``tasktrail report``: one user's ledger as one page that checks itself in the reader's browser.

The page is put together from the files in ``report/``. It loads nothing: its policy (CSP) allows
its own style and script by their hashes, and no network at all. What people stored is embedded as
JSON that cannot end a script element, and shown as text only.
"""

import asyncio
import re
import sys
from base64 import b64encode
from datetime import UTC, datetime
from hashlib import sha256
from pathlib import Path
from typing import Annotated, BinaryIO

import orjson
import typer

from events.ledger import Head, Json
from mcp_server import settings, target
from mcp_server.commands import recording
from mcp_server.commands.arguments import UserId
from mcp_server.commands.chain_watch import ChainWatch
from mcp_server.commands.export import attestation_of, replaced
from mcp_server.commands.printing import counted
from mcp_server.commands.progress import WorkProgress
from mcp_server.commands.recording import Access
from mcp_server.evidence.checkpoint import Attestation
from mcp_server.evidence.event_line import to_line, to_time
from mcp_server.target import Target

MANY = 50_000
_FOLDER = Path(__file__).parent / "report_page"
_SCRIPTS = ("chain.js", "checkpoint.js", "fold.js", "list.js", "page.js")
_ESCAPES = {b"<": rb"\u003c", b">": rb"\u003e", b"&": rb"\u0026"}


def report(
    user: UserId,
    output: Annotated[Path, typer.Option("--output", "-o", help="The HTML file to write.")],
    json: Annotated[bool, typer.Option("--json", help="Say what was written as JSON.")] = False,
) -> None:
    with target.opened(settings.read()) as database, replaced(output) as file:
        summary = asyncio.run(_report(database, user, file))
    if json:
        print(orjson.dumps({**summary, "file": str(output)}).decode())  # noqa: T201 - a command
        return
    print(f"{counted(summary['events'], 'events')} of {user!r} -> {output}")  # noqa: T201
    print(f"open it in a browser: {output.resolve().as_uri()}")  # noqa: T201


async def _report(database: Target, user: str, file: BinaryIO) -> Json:
    """Write the page and return a summary of it."""
    looked = Access("report", {}, 1)
    async with recording.opened(database, user, looked) as ledger:
        await recording.record(database, user, looked._replace(last=ledger.head.position))
        if ledger.head.position > MANY:
            note = (
                f"tasktrail: {ledger.head.position} events make a page that browsers open slowly."
            )
            print(note, file=sys.stderr)  # noqa: T201 - this is the command line
        attestation = await attestation_of(ledger)
        before, after = frame(user, ledger.head, datetime.now(UTC), attestation)
        file.write(before)
        watch = ChainWatch(ledger)
        with WorkProgress("writing", ledger.head.position) as progress:
            async for page in watch.pages():
                file.write(b"".join(embedded(to_line(user, record)) + b"\n" for record in page))
                progress.advance(len(page))
        file.write(after)
        return {
            "user": user,
            "events": watch.events,
            "head_hash": ledger.head.hash.hex(),
            "broken_at": await watch.told(),
        }


def frame(
    user_id: str, head: Head, created_at: datetime, attestation: Attestation | None = None
) -> tuple[bytes, bytes]:
    """Return the page before and after its lines of events."""
    style = (_FOLDER / "page.css").read_bytes()
    scripts = b"\n".join((_FOLDER / name).read_bytes() for name in _SCRIPTS)
    script = b'"use strict";\n{\n' + scripts + b"}\n"
    about: Json = {
        "user": user_id,
        "head": {"position": head.position, "hash": head.hash.hex()},
        "created_at": to_time(created_at),
        "checkpoint": None if attestation is None else _checkpoint(attestation),
    }
    parts = {
        b"{{policy}}": _policy(style, script).encode(),
        b"{{style}}": style,
        b"{{about}}": embedded(orjson.dumps(about)),
        b"{{script}}": script,
    }
    before, after = (_FOLDER / "page.html").read_bytes().split(b"{{events}}")
    return _filled(before, parts), _filled(after, parts)


def _checkpoint(attestation: Attestation) -> Json:
    proof = orjson.loads(attestation.proof.write())
    return {"note": attestation.note, "key": str(attestation.key), "proof": proof}


def _filled(template: bytes, parts: dict[bytes, bytes]) -> bytes:
    """Put the parts in, in one pass: no part is searched for another's mark."""
    return re.sub(b"|".join(map(re.escape, parts)), lambda mark: parts[mark[0]], template)


def embedded(json: bytes) -> bytes:
    """Return JSON that means the same, and can neither end a script element nor begin anything.

    U+2028 and U+2029 are line ends to some readers, so they are escaped too.
    """
    for mark, escape in _ESCAPES.items():
        json = json.replace(mark, escape)
    return json.replace("\u2028".encode(), rb"\u2028").replace("\u2029".encode(), rb"\u2029")


def _policy(style: bytes, script: bytes) -> str:
    return (
        "default-src 'none'; base-uri 'none'; form-action 'none'; "
        f"style-src 'sha256-{_hash(style)}'; script-src 'sha256-{_hash(script)}'; "
        "require-trusted-types-for 'script'; trusted-types 'none'"
    )


def _hash(content: bytes) -> str:
    return b64encode(sha256(content).digest()).decode()
