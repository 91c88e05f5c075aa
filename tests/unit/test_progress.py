"""Progress on a terminal."""

import pytest

from mcp_server.commands.progress import WorkProgress


def test_a_terminal_gets_a_bar_with_rate_and_time_left(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("COLUMNS", "100")
    with WorkProgress("rebuilding", 1000) as work:
        work.advance(250)
        work.advance(250)
    said = capsys.readouterr()
    assert said.out == ""
    assert "rebuilding" in said.err
    assert "50 %" in said.err
    assert "events/s" in said.err
