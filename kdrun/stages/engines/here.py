"""`engine=here`: this process, one group of trainings after the other."""

from __future__ import annotations

from collections.abc import Sequence

from kdrun.errors import KdrunError
from kdrun.plan.training import Training
from kdrun.stages.engines.engine import Audience, Engine, Failures, Work, one_by_one
from kdrun.stages.engines.processes import Processes
from kdrun.stages.noted import parts


class Here(Engine):
    """Trains in this process. A group that an earlier call began in a process with threads of its own is
    continued in such a process, since its last bits depend on them.
    """

    def __init__(self, jobs: int | None) -> None:
        if jobs is not None and jobs > 1:
            problem = "engine=here makes one training after the other; several at once: engine=processes"
            raise KdrunError("runtime.jobs", jobs, problem)
        super().__init__(jobs)

    def make(self, ready: Sequence[Training], work: Work, audience: Audience) -> Failures:
        every = parts(ready, list, lambda group: None, audience.several)
        if any(part.threads for part in every):
            return Processes(1).train(every, 1, work, audience)
        progress = audience.progress() if audience.several else audience.estimate()
        groups = [part.group for part in every]
        return one_by_one(groups, work, audience.observers, not audience.several, progress)
