"""`kdrun version`."""

from __future__ import annotations

from collections.abc import Sequence

from kdrun import __version__


def main(arguments: Sequence[str]) -> int:
    """Prints the version."""
    print(f"kdrun {__version__}")
    return 0
