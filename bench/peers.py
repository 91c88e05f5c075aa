"""The same task, kept the usual way: SQLAlchemy's ORM on the same server, in the same run.

``orm`` is what most to-do back ends do: add, commit, refresh, in a thread for each caller (as
FastAPI runs a ``def`` endpoint). ``orm_audit`` also writes an audit row in that transaction: the
least that answers "who changed what", without versions, idempotency or any proof. ``add_task`` is
ours, through ``handle``.
"""

import asyncio
import gc
import json
import random
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from typing import Annotated, Any

import psycopg
import typer
from sqlalchemy import JSON, BigInteger, DateTime, Engine, Identity, Index, Text, create_engine
from sqlalchemy.dialects.postgresql import ARRAY
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, mapped_column

from bench import server
from bench.commit import Load, event_loop, rounded
from bench.measure import Round, any_user, median, run
from mcp_server.database import Database

POOL = 10  # as many connections as ours


class Base(DeclarativeBase):
    """The tables of the plain back end."""


class PlainTask(Base):
    """A task with an id of its own and an index to list a user's."""

    __tablename__ = "plain_tasks"
    __table_args__ = (Index("plain_tasks_user", "user_id", "id"),)

    id: Mapped[int] = mapped_column(BigInteger, Identity(), primary_key=True)
    user_id: Mapped[str] = mapped_column(Text)
    title: Mapped[str] = mapped_column(Text)
    description: Mapped[str | None] = mapped_column(Text)
    priority: Mapped[str | None] = mapped_column(Text)
    due: Mapped[str | None] = mapped_column(Text)
    tags: Mapped[list[str]] = mapped_column(ARRAY(Text))
    completed: Mapped[bool] = mapped_column(default=False)
    created_at: Mapped[datetime] = mapped_column(DateTime(timezone=True))
    updated_at: Mapped[datetime] = mapped_column(DateTime(timezone=True))


class PlainAudit(Base):
    """One change: who, when, what to."""

    __tablename__ = "plain_audit"
    __table_args__ = (Index("plain_audit_user", "user_id", "id"),)

    id: Mapped[int] = mapped_column(BigInteger, Identity(), primary_key=True)
    user_id: Mapped[str] = mapped_column(Text)
    task_id: Mapped[int] = mapped_column(BigInteger)
    action: Mapped[str] = mapped_column(Text)
    after: Mapped[dict[str, Any]] = mapped_column(JSON)
    at: Mapped[datetime] = mapped_column(DateTime(timezone=True))


def main(
    clients: Annotated[int, typer.Option(help="Concurrent callers.")] = 16,
    seconds: Annotated[float, typer.Option(help="Length of a round of one load.")] = 5,
    rounds: Annotated[int, typer.Option(help="Rounds; the medians are shown.")] = 3,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
) -> None:
    """Added tasks per second, against the plain CRUD that others write."""
    with server.started() as postgres, asyncio.Runner(loop_factory=event_loop()) as runner:
        loads = runner.run(_measure(postgres, clients, seconds, rounds))
    figures = _figures({name: median(each) for name, each in loads.items()})
    print(
        json.dumps(figures) if as_json else "\n".join(f"{k:28} {v:>10}" for k, v in figures.items())
    )


async def _measure(
    postgres: server.Server, clients: int, seconds: float, rounds: int
) -> dict[str, list[Round]]:
    engine = create_engine(
        "postgresql+psycopg://",
        creator=lambda: psycopg.connect(postgres.superuser),
        pool_size=POOL,
        max_overflow=0,
    )
    Base.metadata.create_all(engine)
    threads = ThreadPoolExecutor(clients)
    in_thread = asyncio.get_running_loop().run_in_executor

    async def orm() -> None:
        await in_thread(threads, _add, engine, False)

    async def orm_audit() -> None:
        await in_thread(threads, _add, engine, True)

    async with Database(postgres.app) as database:
        operations = {"orm": orm, "orm_audit": orm_audit, "add_task": Load(database).add_task}
        for operation in operations.values():
            await run(postgres, clients, 1, operation)
        gc.freeze()
        loads: dict[str, list[Round]] = {name: [] for name in operations}
        for _ in range(rounds):
            for name, operation in operations.items():
                loads[name].append(await run(postgres, clients, seconds, operation))
    threads.shutdown()
    engine.dispose()
    return loads


def _add(engine: Engine, audit: bool) -> None:
    now = datetime.now(UTC)
    user = any_user()
    title = f"Buy groceries at number {random.randrange(1000)}"
    with Session(engine) as session:
        task = PlainTask(
            user_id=user, title=title, priority="high", due="2026-12-01", tags=["home"],
            created_at=now, updated_at=now,
        )  # fmt: skip
        session.add(task)
        if audit:
            session.flush()
            after = {"title": title, "priority": "high", "due": "2026-12-01", "tags": ["home"]}
            session.add(
                PlainAudit(user_id=user, task_id=task.id, action="add_task", after=after, at=now)
            )
        session.commit()
        session.refresh(task)


def _figures(medians: dict[str, Round]) -> dict[str, float]:
    ours = medians["add_task"]
    figures: dict[str, float] = {}
    for name in ("orm", "orm_audit"):
        figures[f"times_{name}"] = round(ours.per_s / medians[name].per_s, 2)
        figures[f"cpu_of_{name}"] = round(ours.cpu_ms / medians[name].cpu_ms, 2)
    for name, each in medians.items():
        figures |= {f"{name}_{key}": value for key, value in rounded(each).items()}
    return figures
