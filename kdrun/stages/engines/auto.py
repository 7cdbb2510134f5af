"""`engine=auto`: this process, or several on this machine if that pays."""

from __future__ import annotations

from collections.abc import Sequence

from kdrun.plan.training import Training
from kdrun.stages.engines.engine import Audience, Engine, Failures, Work
from kdrun.stages.engines.here import Here
from kdrun.stages.engines.processes import Processes, most
from kdrun.stages.groups import seconds

WORTH_PROCESSES = 60.0
"""Below so many estimated seconds of training, starting processes does not pay."""


class Auto(Engine):
    """Chooses anew for the trainings of each round."""

    def count(self, ready: Sequence[Training]) -> int:
        """The number of processes: `runtime.jobs`, else one per CPU core or per GPU if that pays. At most one
        per training. One if several processes share each batch.
        """
        shared = ready[0].ground.machine.ranks.count > 1
        if shared or (self.jobs is None and seconds(ready) <= WORTH_PROCESSES):
            return 1
        return min(self.jobs or most(ready), len(ready))

    def make(self, ready: Sequence[Training], work: Work, audience: Audience) -> Failures:
        count = self.count(ready)
        engine = Processes(count) if count > 1 else Here(1)
        return engine.make(ready, work, audience)
