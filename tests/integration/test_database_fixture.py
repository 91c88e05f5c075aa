"""Every test has a database of its own, migrated, with the four kinds of login."""

import psycopg
import pytest

from tests.conftest import Database

SEEN: list[str] = []


@pytest.mark.parametrize("turn", [1, 2])
def test_each_test_has_a_fresh_copy(database: Database, turn: int) -> None:
    with psycopg.connect(database.admin) as connection:
        there = connection.execute("SELECT to_regclass('tasktrail.events'), to_regclass('mine')")
        assert there.fetchone() == ("tasktrail.events", None)
        connection.execute("CREATE TABLE mine ()")
    SEEN.append(database.name)
    assert len(set(SEEN)) == turn


@pytest.mark.parametrize(
    ("kind", "group"),
    [
        ("app", "tasktrail_app"),
        ("operator", "tasktrail_operator"),
        ("auditor", "tasktrail_auditor"),
    ],
)
def test_a_login_has_the_rights_of_its_group_only(
    database: Database, kind: str, group: str
) -> None:
    with psycopg.connect(getattr(database, kind)) as connection:
        roles = connection.execute(
            "SELECT rolname FROM pg_roles WHERE rolname LIKE 'tasktrail%%' AND NOT rolcanlogin"
            " AND pg_has_role(current_user, oid, 'USAGE')"
        )
        assert roles.fetchall() == [(group,)]
