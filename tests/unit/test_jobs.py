"""Which span of a rebuild or a verification goes to which process."""

from mcp_server.commands.jobs import _Waiting
from projections.spans import Span

ANN, BOB, OTHERS = Span(1, user_id="ann"), Span(1, user_id="bob"), Span(1, start="c")


def test_spans_are_handed_out_in_their_order() -> None:
    waiting = _Waiting([ANN, ANN, OTHERS])
    assert [waiting.next([]) for _ in range(4)] == [ANN, ANN, OTHERS, None]


def test_a_user_is_left_to_the_process_that_has_him_in_hand_as_long_as_there_are_others() -> None:
    waiting = _Waiting([ANN, ANN, OTHERS, BOB, ANN])
    assert waiting.next([]) == ANN
    assert [waiting.next([[ANN]]) for _ in range(4)] == [OTHERS, BOB, ANN, ANN]
