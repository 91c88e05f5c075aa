"""Finding tasks: filters, orders, pages and time travel, all equal to a naive model of them."""

import base64
import json
import re
from datetime import UTC, date, datetime, timedelta, timezone
from itertools import count
from typing import Any, NamedTuple

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from events.ledger import Json
from tests.mcp.agent import MODERN, Agent
from tests.mcp.serving import token

TITLES = (
    *("Buy milk", "Buy oat milk", "Call Zoë", "milk the cow", "Ärger mit Über-Öl", "買い物リスト"),
    *("Купить молоко", "اشتري الحليب", "E-mail bob@example.org", "release v2.0-rc1", "don't panic"),
)
TAGS = ("home", "work", "Büro", "milk")
DUES = ("2026-12-01", "2026-12-02", "2026-12-01T09:00:00Z", "2026-12-01T23:30:00-02:00")
URGENCY = {"high": 3, "medium": 2, "low": 1, None: 0}


def ids(agent: Agent, **arguments: Any) -> list[int]:
    """Return the ids of one page."""
    return [task["id"] for task in agent("list_tasks", **arguments)["tasks"]]


def all_ids(agent: Agent, **arguments: Any) -> list[int]:
    """Walk through all pages."""
    found: list[int] = []
    while True:
        page = agent("list_tasks", **arguments)
        found += [task["id"] for task in page["tasks"]]
        assert page["truncated"] is ("next_cursor" in page)
        if "next_cursor" not in page:
            return found
        arguments["cursor"] = page["next_cursor"]


# A naive model


class Known(NamedTuple):
    """A task as the model knows it; ``position`` is that of its last event."""

    task: Json
    deleted: bool
    position: int


def moment(due: str | None) -> datetime | None:
    if due is None:
        return None
    at = datetime.fromisoformat(due)
    return at if at.tzinfo else at.replace(tzinfo=UTC)


def words(text: str) -> list[str]:
    return re.findall(r"\w+", text.lower())


def all_begin(query: str, text: str) -> bool:
    return all(any(word.startswith(part) for word in words(text)) for part in words(query))


def expected(known: list[Known], question: Json) -> list[int]:
    """Answer ``question`` the slow way: the ids of all pages."""
    chosen = [one for one in known if wanted(one, question)]
    query = question.get("query") or ""
    sort = question.get("sort") or ("relevance" if query else "created")

    def key(one: Known) -> Any:
        task = one.task
        at = moment(task.get("due"))
        far = datetime.max.replace(tzinfo=UTC)
        match sort:
            case "created":
                return -task["id"]
            case "updated":
                return -one.position
            case "due":
                return (at is None, at or far, task["id"])
            case "priority":
                return (-URGENCY[task.get("priority")], -task["id"])
            case _:
                return (not all_begin(query, task["title"]), -task["id"])

    return [one.task["id"] for one in sorted(chosen, key=key)]


def wanted(one: Known, question: Json) -> bool:
    task = one.task
    at = moment(task.get("due"))
    text = " ".join((task["title"], *task["tags"], task.get("description") or ""))
    status = question.get("status", "all")
    after = question.get("due_after")
    conditions = [
        one.deleted is question.get("deleted", False),
        status == "all" or task["completed"] is (status == "completed"),
        question.get("priority") in (None, task.get("priority")),
        question.get("tag") is None or question["tag"] in task["tags"],
        "due_before" not in question or bool(at and at < moment(question["due_before"])),  # type: ignore[operator]
        after is None or bool(at and later(at, after)),
        all_begin(question.get("query") or "", text),
    ]
    return all(conditions)


def later(at: datetime, after: str) -> bool:
    """After a date is when that day is over."""
    if len(after) == 10:
        return at.date() > date.fromisoformat(after)
    return at > datetime.fromisoformat(after)


new_tasks = st.fixed_dictionaries(
    {"title": st.sampled_from(TITLES)},
    optional={
        "description": st.sampled_from(TITLES),
        "priority": st.sampled_from(("low", "medium", "high")),
        "due": st.sampled_from(DUES),
        "tags": st.lists(st.sampled_from(TAGS), max_size=2, unique=True),
    },
)
questions = st.fixed_dictionaries(
    {},
    optional={
        "status": st.sampled_from(("all", "pending", "completed")),
        "query": st.sampled_from(
            ("milk", "MIL", "buy milk", "über", "мол", "買い", "حليب", "2", "v2 0", "zoë")
        ),
        "priority": st.sampled_from(("low", "medium", "high")),
        "tag": st.sampled_from(TAGS),
        "due_before": st.sampled_from((*DUES, "2026-12-03")),
        "due_after": st.sampled_from((*DUES, "2026-11-30")),
        "sort": st.sampled_from(("created", "updated", "due", "priority")),
        "deleted": st.booleans(),
        "limit": st.integers(1, 4),
    },
)
changes = st.lists(
    st.tuples(st.integers(0, 9), st.sampled_from(("complete_task", "delete_task", "update_task"))),
    max_size=6,
)
users = count()


@pytest.mark.parametrize("era", [MODERN])
@given(
    new=st.lists(new_tasks, min_size=1, max_size=10),
    changes=changes,
    asked=st.lists(questions, min_size=3, max_size=6),
)
@settings(max_examples=25, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_every_filter_order_and_page_equals_the_model(
    alice: Agent,
    user: str,
    new: list[Json],
    changes: list[tuple[int, str]],
    asked: list[Json],
) -> None:
    agent = alice.as_user(token(f"{user}-{next(users)}"))
    agent("add_task", tasks=new)
    earlier = remember(agent)
    recorded = [(question, all_ids(agent, **question)) for question in asked]
    for number, tool in changes:
        arguments = {"title": "milk and more"} if tool == "update_task" else {}
        agent.ask(tool, task_id=number % len(new) + 1, **arguments)
    now = remember(agent)
    for question in asked:
        assert all_ids(agent, **question) == expected(now, question), question
        assert all_ids(agent, **question, as_of=now_position(now)) == expected(now, question)
    for question, answer in recorded:
        assert answer == expected(earlier, question), question
        assert all_ids(agent, **question, as_of=len(new)) == answer, question


def now_position(known: list[Known]) -> int:
    return max(one.position for one in known)


def remember(agent: Agent) -> list[Known]:
    """Read every task one by one."""
    listed = ids(agent, limit=100) + ids(agent, limit=100, deleted=True)
    whole = [agent("get_task", task_id=id_) for id_ in listed]
    return [Known(task, task["deleted"], task["position"]) for task in whole]


# Full text

FINDS = [
    ("Buy milk", ["buy", "MILK", "mi", "milk buy", "  milk  ", "milk!"]),
    ("Ärger mit Über-Öl", ["ärger", "ÜBER", "öl", "über öl"]),
    ("Купить молоко", ["молоко", "МОЛ", "купить мол"]),
    ("اشتري الحليب", ["الحليب", "اشتري"]),
    ("לקנות חלב", ["חלב"]),
    ("हिन्दी सीखना", ["हिन्दी", "सीख", "हिन्दी सीखना"]),
    ("买牛奶", ["买牛奶", "牛奶", "奶"]),
    ("買い物リスト", ["買い物", "リスト"]),
    ("우유 사기", ["우유", "사기"]),
    ("ซื้อนมสด", ["ซื้อ", "นม"]),
    ("ΑΓΟΡΑ ΓΑΛΑΚΤΟΣ", ["ΓΑΛΑΚΤΟΣ", "γαλακτ", "αγορα"]),  # noqa: RUF001 - it is Greek
    ("E-mail bob@example.org", ["mail", "bob", "example", "bob@example.org", "e-mail"]),
    ("release v2.0-rc1", ["v2.0", "rc1", "v2.0-rc1"]),
    ("don't panic", ["don't", "don", "panic"]),
    ("fix <b>bold</b> & a<b", ["bold", "b", "a<b", "fix"]),
    ("see https://example.org/path/to?x=1", ["path", "https://example.org", "to", "example.org"]),
    ("pay 1,250.00 EUR", ["1,250.00", "250", "eur"]),
    ("snake_case and CamelCase", ["case", "snake_case", "camel"]),
    ("-7 degrees, +3 tomorrow", ["7", "-7", "3"]),
    ("日本語 and English", ["english", "日本"]),
]


@pytest.mark.parametrize("era", [MODERN])
@pytest.mark.parametrize(("title", "queries"), FINDS, ids=[title for title, _ in FINDS])
def test_a_task_is_found_by_the_beginnings_of_its_words(
    alice: Agent, title: str, queries: list[str]
) -> None:
    for field in ("title", "description", "tags"):
        value: Any = [title] if field == "tags" else title
        alice("add_task", **{"title": "unlike", field: value})
    for number in range(3):
        alice("add_task", title=f"other {number}")
    for query in queries:
        assert ids(alice, query=query) == [1, 3, 2], query
        assert ids(alice, query=query, as_of=6) == [1, 3, 2], query


def test_the_inside_of_a_word_finds_nothing(alice: Agent) -> None:
    alice("add_task", title="Buy milk, 1250 litres")
    for query in ("ilk", "250", "buymilk", "milk bread"):
        assert ids(alice, query=query) == ids(alice, query=query, as_of=1) == []


def test_matches_in_the_title_come_first(alice: Agent) -> None:
    alice("add_task", title="milk")
    alice("add_task", title="groceries", description="milk")
    alice("add_task", title="groceries", tags=["milk"])
    alice("add_task", title="oat milk")
    assert ids(alice, query="milk") == [4, 1, 3, 2]
    assert ids(alice, query="milk", as_of=4) == [4, 1, 3, 2]
    assert all_ids(alice, query="milk", limit=1) == [4, 1, 3, 2]
    assert ids(alice, query="milk", sort="created") == [4, 3, 2, 1]


@pytest.mark.parametrize("era", [MODERN])
@pytest.mark.parametrize(
    "query", ["'", "&", "| !", "milk & | ! ( ) : * <->", "\\", "a:*", "':*'", "a\\'b", "%", "!!!"]
)
def test_no_query_is_a_program(alice: Agent, query: str) -> None:
    alice("add_task", title="milk a")
    assert ids(alice, query=query) == ids(alice, query=query, as_of=1)


def test_a_blank_query_asks_for_nothing_in_particular(alice: Agent) -> None:
    alice("add_task", title="x")
    assert ids(alice, query="") == ids(alice, query="  ") == [1]


# Pages


@pytest.mark.parametrize("sort", ["created", "updated", "due", "priority"])
def test_a_page_goes_on_where_the_last_one_ended_though_tasks_come_and_go(
    alice: Agent, sort: str
) -> None:
    alice("add_task", tasks=[{"title": f"t{number}"} for number in range(9)])
    first = alice("list_tasks", sort=sort, limit=4)
    seen = [task["id"] for task in first["tasks"]]
    alice("delete_task", task_id=seen[1])
    alice("add_task", title="new")
    rest = all_ids(alice, sort=sort, limit=2, cursor=first["next_cursor"])
    assert not set(seen) & set(rest)
    assert set(range(1, 10)) <= set(seen) | set(rest)


def test_a_page_ends_once_its_text_is_long(alice: Agent) -> None:
    tags = ["x" * 49 + f"{number}" for number in range(10)]
    for _ in range(2):
        alice("add_task", tasks=[{"title": "t" * 200, "tags": tags}] * 25)
    page = alice("list_tasks", limit=100)
    assert page["truncated"] is True
    assert 24_000 < len(alice.said.encode()) < 25_200
    assert f"cursor={page['next_cursor']}" in alice.said
    assert all_ids(alice, limit=100) == list(range(50, 0, -1))


@pytest.mark.parametrize("era", [MODERN])
@pytest.mark.parametrize("limit", [0, 101, -1, "20", 1.5, True, None])
def test_a_limit_is_a_number_from_1_to_100(alice: Agent, limit: Any) -> None:
    problem = alice.refused("list_tasks", limit=limit)
    assert (problem["code"], problem["argument"]) == ("invalid_argument", "limit")


def cursor(*key: Any) -> str:
    """Forge a cursor."""
    return base64.urlsafe_b64encode(json.dumps(key).encode()).decode().rstrip("=")


@pytest.mark.parametrize("era", [MODERN])
@pytest.mark.parametrize(
    ("sort", "forged"),
    [
        ("created", "nonsense"),
        ("created", "=" * 499),
        ("created", "x" * 501),
        ("created", cursor()),
        ("created", cursor("tasks/created")),
        ("created", cursor("tasks/updated", 1)),
        ("created", cursor("tasks/created", "1")),
        ("created", cursor("tasks/created", True)),
        ("created", cursor("tasks/created", 2**63)),
        ("created", cursor("tasks/created", 10**40)),
        ("created", cursor("tasks/created", -(2**63) - 1)),
        ("due", cursor("tasks/due", "soon", 1)),
        ("due", cursor("tasks/due", "2026-12-01", 2**64)),
        ("due", cursor("tasks/due", "99999-12-01", 1)),
        ("priority", cursor("tasks/priority", 2**40, 1)),
        ("updated", cursor("conversations", 1)),
    ],
)
def test_a_cursor_that_was_made_up_is_refused(alice: Agent, sort: str, forged: str) -> None:
    alice("add_task", title="x", due="2026-12-01")
    for more in ({}, {"as_of": 1}):
        problem = alice.refused("list_tasks", sort=sort, cursor=forged, **more)
        assert (problem["code"], problem["argument"]) == ("invalid_argument", "cursor")


# Moments


def test_as_of_shows_tasks_as_they_were_deleted_ones_too(alice: Agent) -> None:
    alice("add_task", title="one", priority="low")
    alice("add_task", title="two")
    alice("update_task", task_id=1, title="uno", clear=["priority"])
    alice("complete_task", task_id=2)
    alice("delete_task", task_id=1)
    assert alice("list_tasks", as_of=2)["tasks"] == [
        {"id": 2, "title": "two", "completed": False, "tags": []},
        {"id": 1, "title": "one", "completed": False, "priority": "low", "tags": []},
    ]
    assert ids(alice, as_of=3, status="completed") == []
    assert ids(alice, as_of=4, status="completed") == [2]
    assert ids(alice, as_of=4) == [2, 1]
    assert ids(alice, as_of=5) == [2]
    assert ids(alice, as_of=5, deleted=True) == [1]
    assert ids(alice, as_of="99999") == [2]
    assert ids(alice, as_of=0) == []


def test_a_time_counts_inclusively_in_any_zone(alice: Agent) -> None:
    alice("add_task", title="one")
    at = datetime.fromisoformat(alice("get_task", task_id=1)["created_at"])
    alice("add_task", title="two")
    just_before = (at - timedelta(microseconds=1)).isoformat()
    elsewhere = at.astimezone(timezone(timedelta(hours=-7))).isoformat()
    assert ids(alice, as_of=at.isoformat()) == ids(alice, as_of=elsewhere) == [1]
    assert ids(alice, as_of=just_before) == []
    assert ids(alice, as_of="9999-12-31T23:59:59Z") == [2, 1]


@pytest.mark.parametrize("era", [MODERN])
@pytest.mark.parametrize(
    "moment",
    [
        "yesterday",
        "2026-12-01T09:00:00",
        "2026-12-01",
        -1,
        1.5,
        "",
        True,
        "9" * 17,
        2**53,
        "\u0661",
    ],
)
def test_a_moment_is_a_position_or_a_time_with_an_offset(alice: Agent, moment: Any) -> None:
    for tool, argument, more in (
        ("list_tasks", "as_of", {}),
        ("get_task", "as_of", {"task_id": 1}),
        ("get_history", "since", {}),
        ("get_history", "until", {}),
        ("undo", "since", {}),
    ):
        problem = alice.refused(tool, **{argument: moment}, **more)
        assert (problem["code"], problem["argument"]) == ("invalid_argument", argument)
