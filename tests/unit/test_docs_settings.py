"""docs/settings.md says what the settings are."""

import re
from pathlib import Path

import pytest

from mcp_server.settings import Settings

PAGE = (Path(__file__).parents[2] / "docs" / "settings.md").read_text(encoding="utf-8")
ROWS = dict(re.findall(r"^\| `([A-Z_]+)` \| (.+?) \|", PAGE, re.MULTILINE))
FIELDS = {str(field.alias): field for field in Settings.model_fields.values()}


def test_every_setting_has_its_row_and_every_row_its_setting() -> None:
    assert set(ROWS) == set(FIELDS)


@pytest.mark.parametrize("name", FIELDS)
def test_the_default_is_the_one_that_is_written(name: str) -> None:
    default = FIELDS[name].default
    if isinstance(default, bool | int | float | str):
        assert ROWS[name] == f"`{str(default).lower()}`"
    else:
        assert not ROWS[name].startswith("`") or name in ("ADMIN_DATABASE_URL", "TASKTRAIL_LOG")
