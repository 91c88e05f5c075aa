"""The report in a real browser: it checks the chain, shows every moment, and needs no mouse.

With BROWSER_SHOTS set to a folder, screenshots are left there to be looked at.
"""

import json
import os
import shutil
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest

from events.draft import Draft
from events.ledger import Head
from events.task import CreateTask
from mcp_server.evidence.checkpoint import Attestation
from tests.browser.pages import Change, attested, page_of
from tests.browser.webdriver import Browser, browser, driver, request
from tests.ledgers import Ledger, a_day_with_an_agent, a_long_ledger

pytestmark = pytest.mark.browser

VERDICT = "document.documentElement.dataset.verdict"
Open = Callable[..., Any]


@pytest.fixture(scope="session")
def address(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with driver(tmp_path_factory.mktemp("driver") / "log") as running:
        yield running


@pytest.fixture
def opened(address: str, tmp_path: Path) -> Open:
    """Open a report in a window of its own, and wait for its verdict."""

    @contextmanager
    def open_(
        ledger: Ledger,
        change: Change = list,
        size: tuple[int, int] = (1440, 900),
        dark: bool = False,
        shot: str = "",
        attestation: Attestation | None = None,
    ) -> Iterator[Browser]:
        file = tmp_path / "report.html"
        file.write_bytes(page_of(ledger, change, attestation))
        with browser(address, tmp_path / "profile", *size, dark) as window:
            window.open(file.as_uri())
            window.wait(f"{VERDICT} !== 'checking'", 60)
            yield window
            if shot and (folder := os.environ.get("BROWSER_SHOTS")):
                window.screenshot(Path(folder) / f"{shot}.png")
            assert [entry for entry in log(window, "browser") if entry["level"] == "SEVERE"] == []
        shutil.rmtree(tmp_path / "profile")

    return open_


def log(window: Browser, kind: str) -> list[dict[str, Any]]:
    entries: list[dict[str, Any]] = request("POST", f"{window._session}/se/log", {"type": kind})
    return entries


def verdict(window: Browser) -> str:
    return str(window.run(f"return {VERDICT}"))


@pytest.mark.parametrize("theme", ["light", "dark"])
@pytest.mark.parametrize("width", [1440, 1000, 500])
def test_an_honest_report_is_green(opened: Open, width: int, theme: str) -> None:
    ledger = a_day_with_an_agent()
    size = (width, 900 if width > 500 else 1800)
    with opened(ledger, size=size, dark=theme == "dark", shot=f"{theme}-{width}") as window:
        assert verdict(window) == "intact"
        assert "All 11 events" in window.text("#verdict-text")
        assert window.text("#head-hash") == ledger.head.hash.hex()
        assert window.run("return document.documentElement.scrollWidth <= innerWidth")


def test_an_erased_ledger_is_green_and_says_so(opened: Open) -> None:
    ledger = a_day_with_an_agent()
    ledger.erase()
    ledger.add_task("And life goes on")
    with opened(ledger, shot="erased") as window:
        assert verdict(window) == "intact"
        assert "Words were erased once" in window.text("#verdict-text")
        window.click("#rows [aria-posinset='8']")
        assert "The words of this event were erased" in window.text("#event-body")


def replaced(index: int, **columns: Any) -> Change:
    return lambda records: [
        *records[:index],
        records[index]._replace(**columns),
        *records[index + 1 :],
    ]


OTHER = UUID("00000000-0000-4000-8000-00000000000f")
TAMPERED: dict[str, tuple[Change, int]] = {
    "body": (replaced(3, body={"data": {"changes": {"title": "No van"}}, "reason": None}), 4),
    "words taken away": (replaced(3, body=None, salt=None), 4),
    "salt": (replaced(3, salt=bytes(16)), 4),
    "commitment": (replaced(3, commitment=bytes(32)), 4),
    "type": (replaced(3, type="TaskDeleted"), 4),
    "schema_version": (replaced(3, schema_version=2), 4),
    "event_id": (replaced(3, event_id=OTHER), 4),
    "command_id": (replaced(3, command_id=OTHER), 4),
    "stream_type": (replaced(3, stream_type="conversation"), 4),
    "stream_id": (replaced(3, stream_id=5), 4),
    "version": (replaced(3, version=3), 4),
    "actor": (replaced(3, actor={"client_id": "somebody else"}), 4),
    "content_hash": (replaced(3, content_hash=bytes(32)), 4),
    "hash": (replaced(3, hash=bytes(32)), 4),
    "recorded_at": (lambda r: replaced(3, recorded_at=r[4].recorded_at)(r), 4),
    "left out": (lambda r: [*r[:4], *r[5:]], 6),
    "first left out": (lambda r: r[1:], 2),
    "cut off": (lambda r: r[:-1], 11),
    "swapped": (lambda r: [*r[:3], r[4], r[3], *r[5:]], 4),
    "repeated": (lambda r: [*r[:4], r[3], *r[4:]], 4),
    "another user's": (replaced(4, **a_day_with_an_agent("eve").records[4]._asdict()), 5),
}


def test_a_tampered_report_is_red_and_names_the_first_fault(opened: Open) -> None:
    ledger = a_day_with_an_agent()
    change, position = TAMPERED["body"]
    with opened(ledger, change, shot="tampered") as window:
        assert verdict(window) == "broken"
        assert f"first fault at position {position}" in window.text("#verdict-heading")
        assert window.run("return document.title").startswith("Tampered")
        window.click("#first-fault")
        assert window.text("#rows [aria-selected=true] .position") == "4"
        assert window.text("#rows [aria-selected=true] .flag") == "tampered"


def head_of(ledger: Ledger, position: int) -> Head:
    return Head(position, ledger.records[position - 1].hash)


def test_it_shows_which_checkpoint_covers_it(opened: Open) -> None:
    ledger = a_day_with_an_agent()
    with opened(ledger) as window:
        assert "None covers this ledger" in window.run("return checkpoint.textContent")
    attestation = attested(ledger, head_of(ledger, 9))
    with opened(ledger, attestation=attestation) as window:
        assert verdict(window) == "intact"
        covered = "Checkpoint 7 of example.org/tasktrail covers it up to position 9."
        assert covered in window.text("#verdict-text")
        window.click("#proof summary")
        told = window.text("#checkpoint")
        assert "over 5 ledgers" in told
        assert "The 2 events after it have only the chain." in told
        assert "Its signature holds" in told
        assert str(attestation.key) in told
        if folder := os.environ.get("BROWSER_SHOTS"):
            window.screenshot(Path(folder) / "checkpoint.png")


def spoilt(attestation: Attestation, what: str, ledger: Ledger) -> Attestation:
    """Return an attestation with one thing in it changed."""
    other = attested(ledger, head_of(ledger, 9))
    proof = attestation.proof
    match what:
        case "note":
            note = attestation.note.replace("number 7", "number 8")
            return attestation._replace(note=note)
        case "key":
            return attestation._replace(key=other.key)
        case "path":
            path = [*proof.path[:-1], bytes(32)]
            return attestation._replace(proof=proof.model_copy(update={"path": path}))
        case "shorter path":
            shorter = proof.model_copy(update={"path": proof.path[:-1]})
            return attestation._replace(proof=shorter)
        case "position":
            return attestation._replace(proof=proof.model_copy(update={"position": 8}))
        case "no note":
            return attestation._replace(note="nothing")
    raise ValueError(what)


@pytest.mark.parametrize("size", [1, 2, 3, 4, 7])
def test_trees_of_every_shape_are_proved(opened: Open, size: int) -> None:
    ledger = a_day_with_an_agent()
    with opened(ledger, attestation=attested(ledger, ledger.head, size - 1)) as window:
        assert verdict(window) == "intact"


@pytest.mark.parametrize("what", ["note", "key", "path", "shorter path", "position", "no note"])
def test_a_checkpoint_that_does_not_hold_is_red(opened: Open, what: str) -> None:
    ledger = a_day_with_an_agent()
    attestation = spoilt(attested(ledger, head_of(ledger, 9)), what, ledger)
    with opened(ledger, attestation=attestation) as window:
        assert verdict(window) == "broken"
        assert "checkpoint" in window.text("#verdict-text")


def test_an_end_that_was_cut_off_is_red_against_a_checkpoint(opened: Open) -> None:
    ledger = a_day_with_an_agent()
    shorter = a_day_with_an_agent()
    del shorter.records[-2:]
    shorter.hash = shorter.records[-1].hash  # cut off cleanly
    with opened(shorter, attestation=attested(ledger, ledger.head)) as window:
        assert verdict(window) == "broken"
        assert "signed another event" in window.text("#verdict-text")


def test_every_way_of_tampering_is_red(address: str, tmp_path: Path) -> None:
    ledger = a_day_with_an_agent()
    with browser(address, tmp_path / "profile", 1000, 800, False) as window:
        for number, (what, (change, position)) in enumerate(TAMPERED.items()):
            file = tmp_path / f"{number}.html"
            file.write_bytes(page_of(ledger, change))
            window.open(file.as_uri())
            window.wait(f"{VERDICT} !== 'checking'")
            assert verdict(window) == "broken", what
            assert window.text("#verdict-heading").endswith(f" {position}"), what


ODD: dict[str, dict[str, Any]] = {
    "a title that is a fraction": {"body": {"data": {"title": 1.5}, "reason": None}},
    "a description within a list": {"body": {"data": {"description": [[{}]]}, "reason": None}},
    "tags that are none": {"body": {"data": {"tags": 7}, "reason": None}},
    "changes of everything": {
        "body": {"data": {"changes": {"title": 0.5, "tags": "x", "due": {}}}, "reason": 1.5}
    },
    "a body that is a list": {"body": [1.5]},
    "a body that is a text": {"body": "words"},
    "a body without data": {"body": {"reason": {"x": 1}}},
    "an actor that is none": {"actor": None},
    "an actor that is a number": {"actor": 1.5},
    "an actor of odd parts": {"actor": {"client_id": 1.5, "tool": {}, "message_id": "x"}},
    "a type that there is not": {"type": "TaskPainted"},
    "the first time there is": {"recorded_at": datetime(1, 1, 1, tzinfo=UTC)},
}


@pytest.mark.parametrize("odd", ODD)
def test_a_page_with_what_no_event_can_hold_is_red_and_works(opened: Open, odd: str) -> None:
    index = 3 if "changes" in odd else 0
    with opened(a_day_with_an_agent(), replaced(index, **ODD[odd])) as window:
        assert verdict(window) == "broken"
        assert f"first fault at position {index + 1}" in window.text("#verdict-heading")
        window.click("#first-fault")
        assert window.text("#rows [aria-selected=true] .position") == str(index + 1)
        assert window.text("#event-body")


def test_the_browser_and_python_agree_on_canonical_json(opened: Open) -> None:
    """What RFC 8785 is about: order of keys, escapes, characters outside the basic plane."""
    ledger = Ledger("zoë's/<ledger>&\u2028x")
    for text in (
        '"\\/\n\r\t\u2028\u2029\ufeff',
        "😀 é \U0010ffff",
        "</script><!--",
        "ﬀ",
    ):
        ledger.add_task("t", description=text, tags=["ü", "Z"])
    with opened(ledger) as window:
        assert verdict(window) == "intact"
        assert window.text("#user") == ledger.user_id


HOSTILE = (
    "</script><script>document.title='owned'</script>",
    "<img src=x onerror=\"document.title='owned'\">",
    "--><svg onload=document.title='owned'>",
    "<!--<script>",
    "{{script}}{{events}}",
    "javascript:document.title='owned'",
)


def test_what_people_stored_is_shown_and_never_run(opened: Open) -> None:
    ledger = Ledger("<b>ada</b>")
    for text in HOSTILE:
        ledger.do(partial(_add, text), text, client_name=text[:60])
    with opened(ledger, shot="hostile") as window:
        assert verdict(window) == "intact"
        assert "owned" not in window.run("return document.title")
        assert window.run("return document.querySelectorAll('script').length") == 3
        assert window.run("return document.querySelectorAll('img').length") == 0
        names = window.run(
            "return [...document.querySelectorAll('#state-rows .name')].map(n => n.textContent)"
        )
        assert names == list(reversed(HOSTILE))


def _add(text: str, draft: Draft) -> None:
    draft.change_task(None, CreateTask(title=text, description=text, tags=[text[:50]]))


def test_the_slider_shows_the_tasks_at_any_moment(opened: Open) -> None:
    ledger = a_day_with_an_agent()

    def shown(window: Browser, after: int) -> list[str]:
        window.run(
            "const s = document.getElementById('slider'); s.value = arguments[0];"
            "s.dispatchEvent(new Event('input'))",
            after,
        )
        names: list[str] = window.run(
            "return [...document.querySelectorAll('#state-rows .thing')].map("
            "t => t.querySelector('.box').getAttribute('aria-label') + ' '"
            " + t.querySelector('.name').textContent)"
        )
        return names

    with opened(ledger) as window:
        assert shown(window, 0) == []
        assert shown(window, 3) == ["open Book a van"]
        assert shown(window, 4) == ["open Book a large van"]
        assert shown(window, 5) == ["completed Book a large van"]
        assert shown(window, 8) == ["deleted Buy 40 boxes, größere!", "open Book a large van"]
        assert shown(window, 11) == ["open Buy 40 boxes, größere!", "open Book a large van"]
        window.click("#show-talk")
        assert shown_talk(window, 10) == ["Moving house", "Remind me to book a van."]
        assert shown_talk(window, 2)[1].startswith("Remind me to book a van, <b>before</b>")
        assert shown_talk(window, 11) == []
        if folder := os.environ.get("BROWSER_SHOTS"):
            shown_talk(window, 10)
            window.screenshot(Path(folder) / "conversations.png")


def shown_talk(window: Browser, after: int) -> list[str]:
    window.run(
        "const s = document.getElementById('slider'); s.value = arguments[0];"
        "s.dispatchEvent(new Event('input'))",
        after,
    )
    names: list[str] = window.run(
        "return [...document.querySelectorAll('#state-rows .name')].map(n => n.textContent)"
    )
    return names


def test_an_event_shows_before_and_after_who_and_why(opened: Open) -> None:
    with opened(a_day_with_an_agent()) as window:
        window.click("#rows [aria-posinset='8']")
        text = window.text("#event-body")
        assert window.text("#event-body del") == "before: Book a van"
        assert window.text("#event-body ins") == "after: Book a large van"
        for expected in ("the small one does not take the piano", "message 2", "assistant-web"):
            assert expected in text
        assert "update_task" in text


def test_filters_and_search(opened: Open) -> None:
    def count(window: Browser) -> str:
        time.sleep(0.2)
        return window.text("#count")

    with opened(a_day_with_an_agent()) as window:
        window.click("#search")
        window.press(*"piano")
        assert count(window) == "1 of 11 events"
        window.click("#reset")
        assert count(window) == "11 events"
        window.run(
            "const s = document.getElementById('by-type'); s.value = 'TaskRestored';"
            "s.dispatchEvent(new Event('change'))"
        )
        assert count(window) == "1 of 11 events"
        window.click("#reset")
        window.click("#rows [aria-posinset='8']")
        window.click("#event-body .plain")
        assert count(window) == "4 of 11 events"
        window.click("#only")
        assert count(window) == "11 events"


def test_a_receipt_is_compared(opened: Open) -> None:
    ledger = a_day_with_an_agent()
    with opened(ledger) as window:
        window.click("#proof summary")
        window.click("#receipt")
        window.press(*f"5:{ledger.records[4].hash.hex()}", "Enter")
        assert "Event 5 is the one" in window.text("#receipt-result")
        window.run("document.getElementById('receipt').value = ''")
        window.press(*f"5:{ledger.records[5].hash.hex()}", "Enter")
        assert "another event at position 5" in window.text("#receipt-result")


def test_the_keyboard_is_enough(opened: Open) -> None:
    def focused(window: Browser) -> str:
        return str(window.run("return document.activeElement.id || document.activeElement.tagName"))

    with opened(a_day_with_an_agent()) as window:
        window.press("Tab")
        assert window.run("return document.activeElement.className") == "skip"
        window.press("Enter", "/")
        assert focused(window) == "search"
        for _ in range(20):
            if focused(window) == "rows":
                break
            window.press("Tab")
        assert focused(window) == "rows"
        window.press("ArrowDown", "ArrowDown")
        assert window.text("#rows [aria-selected=true] .position") == "9"
        assert window.run(
            "return document.activeElement.getAttribute('aria-activedescendant')"
        ) == ("event-9")
        window.press("End")
        assert window.text("#rows [aria-selected=true] .position") == "1"
        window.press("Home")
        assert window.text("#rows [aria-selected=true] .position") == "11"


def test_every_control_has_a_name_and_every_region_a_label(opened: Open) -> None:
    with opened(a_day_with_an_agent()) as window:
        nameless = window.run(
            "return [...document.querySelectorAll('button,input,select,progress,[role=listbox],"
            "[role=list],[role=img]')].filter(e => !(e.hidden || e.ariaLabel || e.labels?.length ||"
            " e.textContent.trim() || e.getAttribute('aria-labelledby'))).map(e => e.outerHTML)"
        )
        assert nameless == []
        assert window.run("return document.querySelectorAll('main, header, h1').length") == 3
        unlabelled = window.run(
            "return [...document.querySelectorAll('section')].filter(s => !document.getElementById("
            "s.getAttribute('aria-labelledby'))).length"
        )
        assert unlabelled == 0
        assert window.run("return document.querySelector('[aria-live]') !== null")


def test_text_has_enough_contrast(opened: Open) -> None:
    """WCAG AA, 4.5 to 1, for every text in sight in both themes (disabled controls excepted)."""
    script = (Path(__file__).parent / "contrast.js").read_text()
    for dark in (False, True):
        for change in (list, TAMPERED["body"][0]):
            with opened(a_day_with_an_agent(), change, dark=dark) as window:
                assert window.run(script) == []


def test_ten_thousand_events_work(opened: Open) -> None:
    ledger = a_long_ledger(10_000)
    started = time.monotonic()
    with opened(ledger, shot="long") as window:
        assert verdict(window) == "intact"
        print(f"10,000 events open and verified after {time.monotonic() - started:.1f} s")
        rows = window.run("return document.querySelectorAll('.row').length")
        assert rows < 100
        slowest = window.run(
            "let worst = 0; const s = document.getElementById('slider');"
            "for (let n = 0; n <= 10000; n += 100) { const t = performance.now();"
            " s.value = (n * 7919) % 10001; s.dispatchEvent(new Event('input'));"
            " document.body.offsetHeight; worst = Math.max(worst, performance.now() - t); }"
            "return worst"
        )
        print(f"slowest move of the slider: {slowest:.0f} ms")
        assert slowest < 250
        window.run("document.getElementById('rows').scrollTop = 300000")
        window.wait("document.querySelectorAll('#rows .entry').length > 5")


def test_nothing_is_loaded_from_anywhere(opened: Open) -> None:
    with opened(a_day_with_an_agent()) as window:
        messages = [json.loads(entry["message"])["message"] for entry in log(window, "performance")]
        requests = [message["params"] for message in messages if "request" in message["params"]]
        ours = [each for each in requests if each["documentURL"].startswith("file:")]
        assert {each["request"]["url"][:5] for each in ours} <= {"file:", "data:"}
        assert window.run("return performance.getEntriesByType('resource').length") == 0
