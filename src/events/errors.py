"""What a caller can act on. Everything else is a bug, and travels up with its traceback."""

from typing import Literal

Code = Literal[
    "not_found",
    "conversation_not_found",
    "message_not_found",
    "user_mismatch",
    "invalid_argument",
    "invalid_role",
    "empty_content",
    "version_conflict",
    "idempotency_conflict",
    "undo_conflict",
    "limit_exceeded",
    "insufficient_scope",
    "rate_limited",
    "unavailable",
]


class Refused(Exception):
    """A command or a question was refused, and nothing was written.

    ``code`` is stable and for programs; ``message`` says what happened; ``hint`` says what to
    do next. ``details`` are further fields of the answer (``current_version``, ``conflicts``).
    None of them may quote what a user stored.
    """

    def __init__(
        self, code: Code, message: str, hint: str = "", details: dict[str, object] | None = None
    ) -> None:
        super().__init__(message)
        self.code: Code = code
        self.message = message
        self.hint = hint
        self.details = details or {}


class NoSuchUser(Exception):
    """Neither a ledger nor a row belongs to the user who was named."""
