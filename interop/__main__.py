"""``python -m interop``: run every client and every scenario, print a line for each, and end with 1
if one fails. ``--only inspector`` (or conformance, typescript, python) runs a part."""

import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, NamedTuple

import typer
from bench import endpoint, server

from interop import packages

CLIENTS = Path(__file__).parent / "clients"
PATIENCE = 120.0  # seconds for one program

ERAS = {"auto": "2026-07-28", "legacy": "2025-11-25"}
"""How a client is told to connect, and the revision that it then has to agree on."""

KNOWN = Path(__file__).with_name("known_failures.yml")
"""Checks that cannot pass: they call tools of the suite's own. docs/interop.md says more."""

REVISIONS = {"2025-11-25": (), "2026-07-28": ("http-header-validation",)}
"""Of each the scenarios that it requires are run; and others, which nobody scores, but we pass."""

OPEN_DOOR = [sys.executable, "-m", "uvicorn", "interop.open_door:app", "--port", "0"]


class Program(NamedTuple):
    """One run of one foreign program, which needs a package or ``""`` for nothing that is not here;
    ``expected`` is the exit code of a success."""

    part: str
    name: str
    command: list[str]
    expected: int = 0
    needs: str = packages.NPM


def main(
    only: Annotated[str | None, typer.Option(help="One part: conformance, inspector ...")] = None,
) -> None:
    """Run the foreign clients against a server with a database of its own."""
    shutil.copytree(CLIENTS, packages.FOLDER / "clients", dirs_exist_ok=True)
    with server.started() as postgres, endpoint.serving(postgres) as locked:
        token = endpoint.token("interop")
        ours = endpoint.environment(postgres)
        env = {**os.environ, **ours, "URL": locked.url, "TOKEN": token}
        env["PATH"] = f"{packages.COMMANDS}{os.pathsep}{env['PATH']}"
        env["MCP_INSPECTOR_SECRET_STORE"] = "memory"  # noqa: S105 - where, not what
        with endpoint.announced(OPEN_DOOR, env, r"running on (\S+)") as opened:
            programs = [
                *_conformance(f"{opened.url}/mcp"),
                *_inspector(locked.url, token, ours),
                *_clients(),
            ]
            chosen = [program for program in programs if only in (None, program.part)]
            missing = packages.install({program.needs for program in chosen if program.needs})
            failed = [program.name for program in chosen if not _passes(program, env, missing)]
    print(f"\n{len(chosen) - len(failed)} of {len(chosen)} pass" + f": not {failed}" * bool(failed))
    raise typer.Exit(1 if failed or not chosen else 0)


def _conformance(url: str) -> Iterator[Program]:
    run = ["conformance", "server", "--url", url]
    for revision, more in REVISIONS.items():
        required = [*run, "--requirements", revision, "--expected-failures", str(KNOWN)]
        yield Program("conformance", f"{revision}, what it requires", required)
        for scenario in more:
            one = [*run, "--spec-version", revision, "--scenario", scenario]
            yield Program("conformance", f"{revision} {scenario}", one)


def _inspector(url: str, token: str, ours: dict[str, str]) -> Iterator[Program]:
    entry = {"type": "streamable-http", "url": url, "headers": {"Authorization": f"Bearer {token}"}}
    child = {"command": endpoint.TASKTRAIL, "args": ["serve", "--transport", "stdio"], "env": ours}
    servers = {"modern": {**entry, "protocolEra": "modern"}, "legacy": entry, "stdio": child}
    config = packages.FOLDER / "inspector.json"
    config.write_text(json.dumps({"mcpServers": servers}))
    for era in servers:
        inspect = ["mcp-inspector", "--cli", "--config", str(config), "--server", era, "--method"]
        call = [*inspect, "tools/call", "--tool-name"]
        for name, command, expected in (
            ("initialize", [*inspect, "initialize"], 0),
            ("tools/list, strict", [*inspect, "tools/list", "--strict"], 0),
            ("add_task", [*call, "add_task", "--tool-arg", "title=Buy milk"], 0),
            ("an error", [*call, "get_task", "--tool-arg", "task_id=999999"], 5),
            ("prompts/list", [*inspect, "prompts/list"], 0),
        ):
            yield Program("inspector", f"{era} {name}", command, expected)
    nobody = ["mcp-inspector", "--cli", url, "--transport", "http", "--stored-auth-only"]
    yield Program("inspector", "no token", [*nobody, "--method", "tools/list"], 3)


def _clients() -> Iterator[Program]:
    node = packages.FOLDER / "clients"
    yield Program("typescript", "TypeScript SDK v1", ["node", str(node / "typescript_v1.mjs")])
    for mode, revision in ERAS.items():
        command = ["node", str(node / "typescript_v2.mjs"), mode, revision]
        yield Program("typescript", f"TypeScript SDK v2, {revision}", command)
    for mode, revision in ERAS.items():
        command = [sys.executable, str(CLIENTS / "python_sdk.py"), mode, revision]
        yield Program("python", f"Python SDK v2, {revision}", command, needs="")
    for name in packages.VENVS:
        script = CLIENTS / f"{name.replace('-', '_')}_client.py"
        yield Program("python", name, [str(packages.python(name)), str(script)], needs=name)


def _passes(program: Program, env: dict[str, str], missing: dict[str, str]) -> bool:
    if program.needs in missing:
        print(f"FAIL {program.part}: {program.name}: not run, {missing[program.needs]}")
        return False
    started = time.perf_counter()
    done = subprocess.run(
        program.command, env=env, capture_output=True, text=True, timeout=PATIENCE, check=False
    )
    passed = done.returncode == program.expected
    seconds = time.perf_counter() - started
    print(f"{'ok  ' if passed else 'FAIL'} {program.part}: {program.name} ({seconds:.1f} s)")
    if not passed:
        print(done.stdout[-30000:], done.stderr[-3000:], sep="\n")
    return passed


if __name__ == "__main__":
    typer.run(main)
