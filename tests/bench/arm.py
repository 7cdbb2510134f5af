"""An arm of a comparison: one way of doing the same epochs of the same training."""

from __future__ import annotations

from abc import ABC, abstractmethod


class Arm(ABC):
    """Made in a process of its kind, then asked for one epoch after the other."""

    @abstractmethod
    def epoch(self) -> float:
        """Does the next epoch, validation included where the scene has it. Returns its mean training loss."""

    def close(self) -> None:  # noqa: B027  (most have nothing to let go of)
        """Called once, at the end."""
