"""docs/keys.md is what the files say."""

from __future__ import annotations

from pathlib import Path

from tests.scripts import loaded

ROOT = Path(__file__).parents[1]


def test_the_page_is_up_to_date() -> None:
    page = loaded("keys_doc").page()
    assert (ROOT / "docs" / "keys.md").read_text(encoding="utf-8") == page, "run scripts/keys_doc"
    assert "| `recipe.student.lr` |" in page and "| `loss.TERM.beta` |" in page
