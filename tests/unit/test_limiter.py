"""A runaway loop is stopped, an agent at work never is."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mcp_server import limiter
from mcp_server.limiter import Limiter


class Clock:
    now = 100.0

    def __call__(self) -> float:
        return self.now


@pytest.mark.parametrize(("rate", "at_once"), [(500, 500), (2, 2), (1, 1), (0.5, 1), (1.5, 1)])
def test_a_second_s_worth_of_calls_may_come_at_once(rate: float, at_once: int) -> None:
    limit = Limiter(rate, Clock())
    assert [limit.take("ada") for _ in range(at_once)] == [None] * at_once
    wait = limit.take("ada")
    assert wait is not None
    assert 0 < wait < 1 / rate + 0.001
    assert limit.take("eve") is None


def test_who_waits_as_long_as_told_may_call_again() -> None:
    clock = Clock()
    limit = Limiter(0.5, clock)
    limit.take("ada")
    wait = limit.take("ada")
    assert wait is not None
    assert wait == pytest.approx(2)
    clock.now += wait - 0.01
    assert limit.take("ada") == pytest.approx(0.01)
    clock.now += 0.01
    assert limit.take("ada") is None


def test_refused_calls_cost_nothing() -> None:
    clock = Clock()
    limit = Limiter(1, clock)
    limit.take("ada")
    waits = [limit.take("ada") for _ in range(100)]
    assert waits == [pytest.approx(1)] * 100


def test_zero_is_no_limit() -> None:
    limit = Limiter(0)
    assert not any(limit.take("ada") for _ in range(10_000))


@given(
    st.floats(0.1, 1000),
    st.lists(st.floats(0, 0.5), min_size=1, max_size=200),
)
def test_never_more_than_the_rate_and_a_second_s_worth(rate: float, pauses: list[float]) -> None:
    clock = Clock()
    limit = Limiter(rate, clock)
    allowed = 0
    for pause in pauses:
        clock.now += pause
        allowed += limit.take("ada") is None
        assert allowed <= rate * (clock.now - 100) + max(1, rate) + 1e-3


def test_callers_who_are_gone_are_forgotten() -> None:
    clock = Clock()
    limit = Limiter(10, clock)
    for number in range(5000):
        clock.now += 0.05
        limit.take(str(number))
    assert len(limit._full_at) < 10


def test_a_crowd_cannot_fill_the_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limiter, "MAX_CALLERS", 100)
    limit = Limiter(1, Clock())
    for number in range(1000):
        limit.take(str(number))
    assert len(limit._full_at) <= 100
    assert limit.take("999") is not None
