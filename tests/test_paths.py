"""Paths as a user types them."""

from __future__ import annotations

from pathlib import Path

from kdrun.paths import expanded


def test_the_home_of_a_user_who_is_not_known_stays_as_typed() -> None:
    assert expanded("~nobody-of-this-name/x") == Path("~nobody-of-this-name/x")
    assert expanded("~/x") == Path.home() / "x"
