"""A value made of what has been validated is as one that was validated in the making."""

from typing import Any

import pytest
from pydantic import ValidationError

from events.task import CreateTask, TaskCreated

FIELDS: dict[str, Any] = {
    "title": "A",
    "description": None,
    "priority": "high",
    "due": None,
    "tags": ["b"],
}


@pytest.mark.parametrize("cls", [CreateTask, TaskCreated])
def test_it_is_as_one_that_was_validated(cls: type[CreateTask | TaskCreated]) -> None:
    validated = cls(**FIELDS)
    made = cls.of_valid(**vars(validated))
    assert made == validated
    assert repr(made) == repr(validated)
    assert made.model_dump_json() == validated.model_dump_json()
    assert made.model_copy() == validated
    with pytest.raises(ValidationError, match="frozen"):
        made.title = "B"  # type: ignore[misc] # it is read-only


def test_a_task_that_is_created_has_all_that_was_asked_for() -> None:
    assert set(TaskCreated.model_fields) == {"type", *CreateTask.model_fields}
