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

BOTH = (
    *("tools-list", "resources-list", "prompts-list", "dns-rebinding-protection"),
    "server-sse-multiple-streams",
)
SCENARIOS = {
    "2025-11-25": (*BOTH, "server-initialize", "ping"),
    "2026-07-28": (
        *BOTH,
        *("caching", "sep-2164-resource-not-found", "input-required-result-unsupported-methods"),
        *("input-required-result-ignore-extra-params", "input-required-result-validate-input"),
        *("input-required-result-missing-input-response", "server-stateless"),
        *("http-header-validation",),
    ),
}
"""Those that need no tools of the suite's own, by revision."""

OPEN_DOOR = [sys.executable, "-m", "uvicorn", "interop.open_door:app", "--port", "0"]
NOT_WHOLLY = ("server-stateless",)
KNOWN = Path(__file__).with_name("known_failures.yml")
"""Checks that need such tools all the same; docs/interop.md says why."""


class Program(NamedTuple):
    """One run of one foreign program; ``expected`` is the exit code of a success."""

    part: str
    name: str
    command: list[str]
    expected: int = 0


def main(
    only: Annotated[str | None, typer.Option(help="One part: conformance, inspector ...")] = None,
) -> None:
    """Run the foreign clients against a server with a database of its own."""
    commands = packages.install_npm()
    shutil.copytree(CLIENTS, packages.FOLDER / "clients", dirs_exist_ok=True)
    with server.started() as postgres, endpoint.serving(postgres) as locked:
        token = endpoint.token("interop")
        ours = endpoint.environment(postgres)
        env = {**os.environ, **ours, "URL": locked.url, "TOKEN": token}
        env["PATH"] = f"{commands}{os.pathsep}{env['PATH']}"
        env["MCP_INSPECTOR_SECRET_STORE"] = "memory"  # noqa: S105 - where, not what
        with endpoint.announced(OPEN_DOOR, env, r"running on (\S+)") as opened:
            programs = [
                *_conformance(f"{opened.url}/mcp"),
                *_inspector(locked.url, token, ours),
                *_clients(only in (None, "python")),
            ]
            chosen = [program for program in programs if only in (None, program.part)]
            failed = [program.name for program in chosen if not _run(program, env)]
    print(f"\n{len(chosen) - len(failed)} of {len(chosen)} pass" + f": not {failed}" * bool(failed))
    raise typer.Exit(1 if failed else 0)


def _conformance(url: str) -> Iterator[Program]:
    for revision, scenarios in SCENARIOS.items():
        for scenario in scenarios:
            command = ["conformance", "server", "--url", url, "--spec-version", revision]
            known = ["--expected-failures", str(KNOWN)] if scenario in NOT_WHOLLY else []
            command += ["--scenario", scenario, *known]
            yield Program("conformance", f"{revision} {scenario}", command)


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


def _clients(python: bool) -> Iterator[Program]:
    node = packages.FOLDER / "clients"
    yield Program("typescript", "TypeScript SDK v1", ["node", str(node / "typescript_v1.mjs")])
    for mode in ("auto", "legacy"):
        command = ["node", str(node / "typescript_v2.mjs"), mode]
        yield Program("typescript", f"TypeScript SDK v2, {mode}", command)
    for mode in ("auto", "legacy"):
        command = [sys.executable, str(CLIENTS / "python_sdk.py"), mode]
        yield Program("python", f"Python SDK v2, {mode}", command)
    for name in packages.VENVS if python else ():
        script = CLIENTS / f"{name.replace('-', '_')}_client.py"
        yield Program("python", name, [str(packages.install_venv(name)), str(script)])


def _run(program: Program, env: dict[str, str]) -> bool:
    started = time.perf_counter()
    done = subprocess.run(
        program.command, env=env, capture_output=True, text=True, timeout=PATIENCE
    )
    passed = done.returncode == program.expected
    seconds = time.perf_counter() - started
    print(f"{'ok  ' if passed else 'FAIL'} {program.part}: {program.name} ({seconds:.1f} s)")
    if not passed:
        print(done.stdout[-30000:], done.stderr[-3000:], sep="\n")
    return passed


if __name__ == "__main__":
    typer.run(main)
