"""docs/keys.md is what the files say."""

from __future__ import annotations

from importlib.machinery import SourceFileLoader
from importlib.util import module_from_spec, spec_from_loader
from pathlib import Path

ROOT = Path(__file__).parents[1]


def test_the_page_is_up_to_date() -> None:
    loader = SourceFileLoader("keys_doc", str(ROOT / "scripts" / "keys_doc"))
    spec = spec_from_loader("keys_doc", loader)
    assert spec is not None
    script = module_from_spec(spec)
    loader.exec_module(script)
    page = script.page()
    assert (ROOT / "docs" / "keys.md").read_text(encoding="utf-8") == page, "run scripts/keys_doc"
    assert "| `recipe.student.lr` |" in page and "| `loss.TERM.beta` |" in page
