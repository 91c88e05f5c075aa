"""The yardstick: pgbench, a client in C, with one function call that does the least (floor.sql)."""

import re
import shutil
import subprocess
from pathlib import Path

import psycopg

from bench.measure import USERS, Cpu, Round
from bench.server import Server
from mcp_server.embedded.binaries import folders
from mcp_server.settings import read

_SQL = Path(__file__).with_name("floor.sql")
_CALL = f"""\\set n random(0, {USERS - 1})
SELECT floor.append(
    'user-' || :n, gen_random_uuid(), gen_random_uuid(),
    '{{"tool": "add_task", "client_id": null, "trace_id": null, "transport": "http",
       "message_id": null, "client_name": null, "client_version": null, "conversation_id": null}}',
    '{{"data": {{"title": "Buy groceries at number 42", "priority": "high", "due": "2026-12-01",
       "tags": ["home"]}}, "reason": null}}',
    decode(repeat('ab', 16), 'hex'), decode(repeat('cd', 32), 'hex'),
    'Buy groceries at number ' || :n);
"""


def prepare(server: Server, folder: Path) -> Path:
    """Make the tables, one head a user; write pgbench's script into ``folder`` and return it."""
    with psycopg.connect(server.superuser, autocommit=True) as connection:
        connection.execute(_SQL.read_bytes())
        connection.execute(
            "INSERT INTO floor.heads"
            " SELECT 'user-' || n, 0, '', 'epoch' FROM generate_series(0, %s) AS n",
            (USERS - 1,),
        )
    script = folder / "floor.pgbench"
    script.write_text(_CALL)
    return script


def run(server: Server, script: Path, clients: int, seconds: float) -> Round:
    """Run pgbench with prepared statements, one connection a client."""
    cpu = Cpu(server)
    command = [
        *(_program(), "--no-vacuum", "--protocol=prepared", f"--file={script}"),
        *(f"--client={clients}", "--jobs=2", f"--time={round(seconds)}", server.superuser),
    ]
    output = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True).stdout
    calls = int(_figure(r"transactions actually processed: (\d+)", output))
    per_s = _figure(r"tps = ([\d.]+)", output)
    return Round(per_s, None, None, *cpu.ms_per(calls))


def _figure(pattern: str, output: str) -> float:
    found = re.search(pattern, output)
    if found is None:
        raise RuntimeError(f"pgbench did not say {pattern!r}:\n{output}")
    return float(found[1])


def _program() -> str:
    """Return pgbench of the Postgres that runs, or any: of PG_BIN, the package, PATH, Debian."""
    for folder in folders(read().pg_bin):
        if found := shutil.which("pgbench", path=folder):
            return found
    raise FileNotFoundError("pgbench: point PG_BIN at a folder that has it")
