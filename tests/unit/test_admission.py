"""Which hosts and which pages are answered: the wall against DNS rebinding."""

import pytest

from mcp_server.middleware.admission import Admission, is_loopback
from mcp_server.settings import Settings

ANYWHERE = "0.0.0.0"  # noqa: S104 - nothing is bound to it
AUDIENCE = {"TASKTRAIL_AUDIENCE": "https://t.example/mcp"}
LISTED = {"TASKTRAIL_ALLOWED_HOSTS": "tasks.example, Other.example:8443, third.example:*"}
PAGES = {"TASKTRAIL_ALLOWED_ORIGINS": "https://app.example, http://dev.example:*"}


@pytest.mark.parametrize(
    ("environment", "bound_to", "host", "good"),
    [
        ({}, "127.0.0.1", "localhost:8000", True),
        ({}, "127.0.0.1", "LOCALHOST", True),
        ({}, "127.0.0.1", "127.0.0.1:1", True),
        ({}, "::1", "[::1]:8000", True),
        ({}, "127.0.0.1", "192.0.2.7:8000", False),
        ({}, "127.0.0.1", "tasks.example", False),
        ({}, "127.0.0.1", "localhost.evil.example", False),
        ({}, "127.0.0.1", "evil.example:localhost", False),
        ({}, "127.0.0.1", "localhost@evil.example", False),
        ({}, "127.0.0.1", "", False),
        ({}, ANYWHERE, "192.0.2.7:8000", True),
        ({}, ANYWHERE, "[2001:db8::7]:8000", True),
        ({}, ANYWHERE, "evil.example", False),
        ({}, ANYWHERE, "192.0.2.7.evil.example", False),
        (LISTED, "127.0.0.1", "tasks.example", True),
        (LISTED, "127.0.0.1", "Tasks.Example:443", True),
        (LISTED, "127.0.0.1", "other.example:8443", True),
        (LISTED, "127.0.0.1", "other.example", False),
        (LISTED, "127.0.0.1", "third.example:9", True),
        (LISTED, "127.0.0.1", "sub.tasks.example", False),
        (LISTED, None, "evil.example", False),
        ({}, None, "whatever.example", True),
        (AUDIENCE, "127.0.0.1", "t.example", True),
        ({"TASKTRAIL_ALLOWED_HOSTS": "*"}, ANYWHERE, "any.example", True),
        ({"TASKTRAIL_AUDIENCE": "tasktrail"}, "127.0.0.1", "tasktrail", False),
    ],
)
def test_whose_host_is_answered(
    environment: dict[str, str], bound_to: str | None, host: str, good: bool
) -> None:
    assert Admission(Settings.model_validate(environment), bound_to).host(host) is good


@pytest.mark.parametrize(
    ("environment", "bound_to", "origin", "good"),
    [
        ({}, "127.0.0.1", "http://localhost:3000", True),
        ({}, "127.0.0.1", "https://127.0.0.1", True),
        ({}, "127.0.0.1", "http://[::1]:5173", True),
        ({}, "127.0.0.1", "null", False),
        ({}, "127.0.0.1", "https://evil.example", False),
        ({}, "127.0.0.1", "http://localhost.evil.example", False),
        ({}, "127.0.0.1", "http://localhost:3000@evil.example", False),
        ({}, "127.0.0.1", "chrome-extension://localhost", False),
        ({}, "127.0.0.1", "file://", False),
        ({}, "127.0.0.1", "localhost", False),
        ({}, ANYWHERE, "http://localhost:3000", False),
        ({}, ANYWHERE, "http://here.example", True),
        (PAGES, "127.0.0.1", "https://app.example", True),
        (PAGES, ANYWHERE, "HTTPS://APP.example", True),
        (PAGES, "127.0.0.1", "http://app.example", False),
        (PAGES, "127.0.0.1", "https://app.example:444", False),
        (PAGES, "127.0.0.1", "http://dev.example:5173", True),
        (AUDIENCE, ANYWHERE, "https://t.example", True),
        ({}, None, "http://here.example", False),
        ({}, None, "http://localhost:3000", True),
        ({"TASKTRAIL_ALLOWED_ORIGINS": "*"}, ANYWHERE, "https://any.example", True),
    ],
)
def test_whose_page_is_answered(
    environment: dict[str, str], bound_to: str | None, origin: str, good: bool
) -> None:
    admission = Admission(Settings.model_validate(environment), bound_to)
    assert admission.origin(origin, "here.example") is good


@pytest.mark.parametrize("address", ["localhost", "127.0.0.1", "127.8.9.10", "::1", "[::1]"])
def test_who_listens_there_is_called_by_this_machine_alone(address: str) -> None:
    assert is_loopback(address)


@pytest.mark.parametrize("address", [ANYWHERE, "::", "192.0.2.7", "localhost.evil.example", ""])
def test_who_listens_there_is_called_by_others_too(address: str) -> None:
    assert not is_loopback(address)
