"""The report without a browser: what is embedded cannot break out, and nothing is loaded.

What the page then does is tested in a real one (tests/browser).
"""

import re
from base64 import b64encode
from hashlib import sha256
from html.parser import HTMLParser

import orjson
import pytest

from mcp_server.commands.report import embedded
from tests.browser.pages import page_of
from tests.ledgers import Ledger, a_day_with_an_agent

HOSTILE = ["</script>", "<!--", "<script>", "]]>", "&lt;", "\u2028\u2029", "{{script}}", "\\u003c"]


class Elements(HTMLParser):
    """The elements of a page, and what its scripts and its style hold."""

    def __init__(self, page: bytes) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.inside: dict[str, str] = {}
        self.feed(page.decode())

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_data(self, data: str) -> None:
        tag, attributes = self.tags[-1] if self.tags else ("", {})
        if self.cdata_elem:
            name = attributes.get("id") or tag
            self.inside[name] = self.inside.get(name, "") + data


@pytest.mark.parametrize("text", HOSTILE)
def test_embedded_json_means_the_same_and_cannot_end_a_script(text: str) -> None:
    value = {"title": text, text: [text]}
    written = embedded(orjson.dumps(value))
    assert orjson.loads(written) == value
    assert not re.search("[<>&\u2028\u2029]", written.decode())


def test_what_people_stored_is_in_the_page_as_data_only() -> None:
    ledger = Ledger("</title><script>alert(1)</script>")
    for text in HOSTILE:
        ledger.add_task(f"t{text}".replace("\u2028", "").replace("\u2029", ""), description=text)
    page = Elements(page_of(ledger))
    plain = Elements(page_of(a_day_with_an_agent()))
    assert [tag for tag, _ in page.tags] == [tag for tag, _ in plain.tags]
    lines = page.inside["events"].strip().split("\n")
    assert [orjson.loads(line)["body"]["data"]["description"] for line in lines] == HOSTILE
    assert orjson.loads(page.inside["about"])["user"] == ledger.user_id


def test_the_policy_allows_this_style_and_this_script_and_nothing_else() -> None:
    page = Elements(page_of(a_day_with_an_agent()))
    policy = next(
        attributes["content"]
        for tag, attributes in page.tags
        if attributes.get("http-equiv") == "Content-Security-Policy"
    )
    allowed = {
        name: b64encode(sha256(page.inside[name].encode()).digest()).decode()
        for name in ("style", "script")
    }
    assert policy == (
        "default-src 'none'; base-uri 'none'; form-action 'none'; "
        f"style-src 'sha256-{allowed['style']}'; script-src 'sha256-{allowed['script']}'; "
        "require-trusted-types-for 'script'; trusted-types 'none'"
    )


def test_the_page_refers_to_nothing_outside_itself() -> None:
    page = Elements(page_of(a_day_with_an_agent()))
    for tag, attributes in page.tags:
        assert tag not in {"link", "img", "iframe", "object", "embed", "base"}
        for name in ("src", "href", "action", "style"):
            assert (attributes.get(name) or "#").startswith("#")
        assert not [name for name in attributes if name.startswith("on")]
    assert not re.search(r"url\(|@import", page.inside["style"])
    assert not re.search(
        r"innerHTML|outerHTML|insertAdjacent|document\.write|\beval\b|fetch\(|XMLHttp|https?:",
        page.inside["script"],
    )


def test_the_page_is_whole() -> None:
    assert not re.search(rb"\{\{\w+\}\}", page_of(a_day_with_an_agent()))
