"""``tasktrail serve``: MCP over HTTP, over stdio, or over both from one process."""

import asyncio
import json
import multiprocessing
import os
import shutil
import signal
import socket
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from enum import StrEnum
from errno import EACCES, EADDRINUSE
from functools import partial
from multiprocessing.process import BaseProcess
from threading import Thread
from typing import Annotated, Any

import structlog
import typer
import uvicorn
from rich.console import Console
from uvicorn.supervisors import Multiprocess

from mcp_server import logs, running, settings, target
from mcp_server.auth.identity import check_user_id
from mcp_server.auth.issue import development_secret, issue
from mcp_server.commands.arguments import one_of, whole_number
from mcp_server.failure import Failure
from mcp_server.middleware.admission import is_loopback
from mcp_server.settings import Settings, SettingsError

DRAIN_SECONDS = 10
TOKEN_DAYS = 30
CORES_PER_WORKER = 2
"""Cores for one worker: the other is Postgres'."""

log = structlog.get_logger()


class PortTaken(Failure):
    """Somebody else listens there, or nobody may."""

    exit_code = 3


class Transport(StrEnum):
    """How clients reach the server."""

    http = "http"
    stdio = "stdio"
    both = "http+stdio"


def serve(
    transport: Annotated[Transport, one_of(Transport, "How clients reach it.")] = Transport.http,
    host: Annotated[str, typer.Option(help="Address to listen on.")] = "127.0.0.1",
    port: Annotated[int, whole_number("Port to listen on.", least=0, most=65535)] = 8000,
    workers: Annotated[
        int | None, whole_number("Processes. Default: one for two cores.", most=64)
    ] = None,
    user: Annotated[str, typer.Option(help="Whose tasks, on stdio.")] = "local",
) -> None:
    configured = settings.read()
    logs.configure(configured.log)
    for problem in settings.mistyped():
        log.warning("unknown_setting", problem=str(problem))
    principal = _principal(user)
    if transport is Transport.stdio:
        _run(_serve_stdio(configured, principal))
        return
    _refuse_open_door(configured, host)
    stdio = Thread(
        target=lambda: _run(_serve_stdio(configured, principal)), name="stdio", daemon=True
    )
    _serve_http(configured, host, port, workers, stdio if transport is Transport.both else None)


def _principal(user: str) -> str:
    try:
        return check_user_id(user)
    except ValueError as error:
        raise typer.BadParameter(str(error), param_hint="'--user'") from None


def _refuse_open_door(configured: Settings, host: str) -> None:
    """Raises: SettingsError: without any auth setting only this machine may call."""
    if configured.authenticates or is_loopback(host):
        return
    raise SettingsError(
        f"Refusing to listen on {host} without authentication. Set BETTER_AUTH_SECRET (at least 32"
        " bytes) or TASKTRAIL_JWKS_URL, or listen on 127.0.0.1."
    )


def _run(serving: Any) -> None:
    if sys.platform == "win32":
        asyncio.run(serving)
    else:
        import uvloop

        uvloop.run(serving)


async def _serve_stdio(configured: Settings, principal: str) -> None:
    async with running.database(configured) as database:
        # Here, as in _app: the SDK takes as long as all the rest, and a refusal should not wait.
        from mcp_server.server import TasktrailServer

        server = TasktrailServer(database, configured, principal)
        log.info("serving", transport="stdio", user=principal)
        await server.run_stdio_async()
    log.info("stopped", transport="stdio", user=principal)


def _serve_http(
    configured: Settings, host: str, port: int, workers: int | None, beside: Thread | None
) -> None:
    """Take the port, then the database: clients are answered only when both are there.

    ``beside``: what serves other clients from then on; it does so quietly.
    """
    with _listening(host, port) as listening, target.opened(configured, create=True) as found:
        _run(running.check(found, configured))
        count = workers or max(1, (os.cpu_count() or 1) // CORES_PER_WORKER)
        config = uvicorn.Config(
            partial(_app, configured, host),
            factory=True,
            host=host,
            port=port,
            workers=count,
            loop="auto",
            http="httptools",
            access_log=False,
            log_config=None,
            server_header=False,
            timeout_graceful_shutdown=DRAIN_SECONDS,
        )
        listening.listen(config.backlog)  # whoever calls from now on waits for the workers
        address = f"http://{_shown(host)}:{listening.getsockname()[1]}/mcp"

        def announce() -> None:
            if beside is None:
                _introduce(configured, address)
            else:
                beside.start()
            log.info("serving", transport="http", url=address, workers=count)

        # Whoever reads the announcement may send a signal at once: it has to be caught by then.
        told: dict[str, Any] = {"transport": "http", "workers": count}
        if count == 1:
            config.load()  # before stdio: two threads cannot import the SDK at once
            server = _Server(config)
            with server.capture_signals():
                announce()
                server.run(sockets=[listening])
            told["under_way"] = server.under_way
        else:
            with _shared_metrics():
                supervisor = Multiprocess(config, sockets=[listening])
                announce()
                supervisor.run()
    log.info("stopped", **told)


def _shown(host: str) -> str:
    name = {"0.0.0.0": "127.0.0.1", "::": "[::1]"}.get(host, host)  # noqa: S104 - compared
    return f"[{name}]" if ":" in name and not name.startswith("[") else name


@contextmanager
def _listening(host: str, port: int) -> Iterator[socket.socket]:
    """Hold a socket on the port; nobody is answered before it listens. Raises: PortTaken."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family) as taken:
        taken.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            taken.bind((host, port))
        except OSError as error:
            other = "--port" if error.errno in (EADDRINUSE, EACCES) else "--host"
            raise PortTaken(
                f"Cannot listen on {host}:{port}: {error.strerror}. Try another {other}."
            ) from None
        taken.set_inheritable(True)
        yield taken


class _Server(uvicorn.Server):
    """Ends with 0 after SIGTERM: uvicorn's own raises the signal again when it has drained.

    ``under_way``: the requests that had not been answered when the signal came.
    """

    under_way = 0

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Let requests finish for DRAIN_SECONDS at most."""
        self.under_way = len(self.server_state.tasks)
        await super().shutdown(sockets)

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        before = {
            number: signal.signal(number, self.handle_exit)
            for number in (signal.SIGINT, signal.SIGTERM)
        }
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)


@contextmanager
def _shared_metrics() -> Iterator[None]:
    """Let the workers' counters be added up: each writes its own file in a folder of this run."""
    with tempfile.TemporaryDirectory(prefix="tasktrail-metrics-") as folder:
        settings.pass_on("PROMETHEUS_MULTIPROC_DIR", folder)
        yield


def _app(configured: Settings, host: str) -> Any:
    """Return the app of one worker."""
    from mcp_server.http import create_app

    logs.configure(configured.log)
    if (parent := multiprocessing.parent_process()) is not None:
        Thread(target=_end_after, args=[parent], name="parent", daemon=True).start()
    return create_app(configured, host)


def _end_after(parent: BaseProcess) -> None:
    """End this worker when its parent was killed, or it would keep the port and the database."""
    parent.join()
    os.kill(os.getpid(), signal.SIGTERM)


def _introduce(configured: Settings, address: str) -> None:
    """Print how to connect, to standard error: with a token where we can make one."""
    console = Console(stderr=True, soft_wrap=True, highlight=False)
    if configured.authenticates:
        token = "<token>"  # noqa: S105 - a placeholder
        note = (
            "Every client needs its user's token."
            f" With the shared secret: {_command()} token --user U --ttl 30d"
        )
    else:
        secret = development_secret(configured.home)
        token = issue(
            secret, "local", None, TOKEN_DAYS * 86_400, configured.issuer, configured.audience
        )
        note = (
            f"The token is for the user 'local', for {TOKEN_DAYS} days."
            f" New ones: {_command()} token --user U"
        )
    console.print(f"\n[bold]Tasktrail[/bold] serves MCP at [bold]{address}[/bold]\n{note}\n")
    console.print("Claude Code:")
    console.print(
        f"  claude mcp add --transport http tasktrail {address}"
        f' --header "Authorization: Bearer {token}"\n',
        markup=False,
    )
    client = {"url": address, "headers": {"Authorization": f"Bearer {token}"}}
    console.print("Cursor and others (mcp.json):")
    console.print(f"  {json.dumps({'mcpServers': {'tasktrail': client}})}\n", markup=False)
    console.print("VS Code (.vscode/mcp.json):")
    client = {"type": "http", **client}
    console.print(f"  {json.dumps({'servers': {'tasktrail': client}})}\n", markup=False)


def _command() -> str:
    """Return how this program is called: from a clone it is not on the PATH."""
    return "tasktrail" if shutil.which("tasktrail") else sys.argv[0]
