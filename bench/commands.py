"""The commands of the load."""

from dataclasses import dataclass

from events.draft import Draft
from events.ledger import Json
from events.task import CompleteTask, CreateTask, UpdateTask
from projections.current import Found, Wanted


@dataclass
class AddTask:
    title: str
    tool: str = "add_task"
    reason: str | None = None
    idempotency_key: str | None = None

    def wanted(self) -> Wanted:
        return Wanted()

    def decide(self, draft: Draft, found: Found) -> Json:
        title = self.title
        draft.similar_to.append(title)
        task = draft.change_task(
            None, CreateTask(title=title, priority="high", due="2026-12-01", tags=["home"])
        )
        return {
            "task_id": task.id,
            "status": "created",
            "title": title,
            "version": task.version,
            "position": task.position,
            "similar": title,
        }

    def request(self) -> Json:
        return {"title": self.title}


@dataclass
class ChangeTask:
    task_id: int
    title: str | None
    tool: str = "update_task"
    reason: str | None = None
    idempotency_key: str | None = None

    def wanted(self) -> Wanted:
        return Wanted(task_ids=(self.task_id,))

    def decide(self, draft: Draft, found: Found) -> Json:
        change = UpdateTask(changes={"title": self.title}) if self.title else CompleteTask()
        task = draft.change_task(self.task_id, change)
        return {"task_id": task.id, "version": task.version, "position": task.position}

    def request(self) -> Json:
        return {"task_id": self.task_id, "title": self.title}
