"""What the documents point at is there: tests that show something, and other documents."""

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
DOCUMENTS = [*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md"), *ROOT.glob("examples/*.md")]
TESTS = {path.name: path.read_text(encoding="utf-8") for path in ROOT.glob("tests/**/test_*.py")}


@pytest.fixture(params=DOCUMENTS, ids=lambda path: str(path.relative_to(ROOT)))
def document(request: pytest.FixtureRequest) -> Path:
    path: Path = request.param
    return path


def test_every_test_that_it_names_exists(document: Path) -> None:
    text = document.read_text(encoding="utf-8")
    for file, test in re.findall(r"\b(test_\w+\.py)(?:::(test_\w+))?", text):
        assert f"def {test}" in TESTS[file]


def test_every_link_leads_somewhere(document: Path) -> None:
    text = document.read_text(encoding="utf-8")
    for target in re.findall(r"\]\(([^)#]+)[^)]*\)", text):
        assert "://" in target or (document.parent / target).exists(), target
