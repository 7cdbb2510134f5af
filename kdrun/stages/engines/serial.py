"""Groups of trainings one after the other, in the process that calls."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from kdrun.progress.overall import Estimate, Followed, Overall, Reported
from kdrun.progress.watchers import Observers
from kdrun.stages.engines.engine import Failures, Work, called
from kdrun.stages.groups import Group, seconds


def one_by_one(
    groups: Sequence[Group],
    work: Work,
    observers: Observers,
    stop: bool = False,
    progress: Overall | None = None,
) -> Failures:
    """One group after the other. If a group of several fails, each is tried alone.

    stop: whether the first error is raised. progress: shows them instead of the screen, or estimates for it.
    """
    failures: Failures = {}
    left = list(groups)
    while left:
        group = left.pop(0)
        with _followed(progress, group, observers) as watching:
            try:
                work(group, watching)
            except Exception as error:
                if len(group) > 1:
                    reason = " ".join((str(error) or type(error).__name__).split())
                    observers.screen.say(f"note   {len(group)} trainings are made one by one: {reason}")
                    left = [[training] for training in group] + left
                elif stop:
                    raise
                else:
                    failures[group[0].folder] = error
    return failures


@contextmanager
def _followed(progress: Overall | None, group: Group, observers: Observers) -> Iterator[Observers]:
    """The observers of a group that is trained in this process."""
    if progress is None:
        yield observers
        return

    def tell(kind: str, *what: Any) -> None:
        getattr(progress, kind)(0, *what)

    progress.start(0, called(group), seconds(group))
    screen = observers.screen
    if isinstance(progress, Estimate):
        screen.left = progress.seconds_left
        yield observers._replace(screen=Followed(tell, screen))
    else:
        yield observers._replace(screen=Reported(tell, screen.say))
    progress.end(0, [training.folder for training in group])
