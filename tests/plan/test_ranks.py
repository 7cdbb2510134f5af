"""What several processes change in a plan: a key only if batch norms see a part of a batch."""

from __future__ import annotations

from dataclasses import replace
from functools import cache

import pytest
import torch

from kdrun import machine as module
from kdrun.config.schema import Run
from kdrun.errors import KdrunError
from kdrun.machine import machine
from kdrun.models.sync_batchnorm import batch_norms
from kdrun.plan.ground import auto_workers
from kdrun.plan.plan import Plan, make_plan
from kdrun.plan.words import header
from kdrun.ranks import ONE, Ranks, among
from kdrun.stages.engines.auto import Auto
from kdrun.stages.groups import groups
from tests.config.composed import composed
from tests.training.threads import Room, Thread

DATA = "dataset=fake dataset.size=8 dataset.per_class=20 dataset.validation=20 dataset.test=40"


@cache
def run(method: str) -> Run:
    return composed(f"{DATA} teacher=cnn_tutorial_small student=resnet8 method={method}").run


def plan(ranks: Ranks, method: str = "kd", sync_bn: bool = False) -> Plan:
    with among(ranks):
        own = run(method)
        return make_plan(replace(own, runtime=replace(own.runtime, sync_bn=sync_bn)))


def of(count: int) -> Ranks:
    return Thread(0, Room(count))


def test_the_number_of_processes_is_in_the_key_of_a_model_with_a_batch_norm_alone() -> None:
    alone, two, four, synchronised = plan(ONE), plan(of(2)), plan(of(4)), plan(of(4), sync_bn=True)
    assert len({each.student.fingerprint for each in (alone, two, four)}) == 3
    assert two.student.key["batch_norm_ranks"] == 2
    pairs = zip(synchronised.trainings, alone.trainings, strict=True)
    assert all(one.fingerprint == other.fingerprint for one, other in pairs)
    assert plan(ONE, sync_bn=True).student.fingerprint == alone.student.fingerprint
    teachers = {each.teacher.fingerprint for each in (alone, two, four)}
    assert len(teachers) == 1  # it has no batch norm


def test_adapters_with_a_batch_norm_count_too() -> None:
    """A regressor has one; a loss of the batch gives its adapters the whole batch."""
    same = f"{DATA} teacher=cnn_tutorial student=cnn_tutorial_small method="
    with among(of(2)):
        students = [make_plan(composed(same + method).run).student for method in ("fitnet", "ofd", "kd")]
    norms = [any(True for mix in each.mixes for _ in batch_norms(mix)) for each in students]
    assert norms == [True, True, False]
    assert ["batch_norm_ranks" in each.key for each in students] == [True, False, False]


def test_the_plan_says_what_processes_share() -> None:
    assert "ranks" not in header(plan(ONE), 1000)
    local = "batch norm of student, control: each of its own rows (runtime.sync_bn=true: of all)"
    assert f"\nranks  2 processes share each batch; {local}" in header(plan(of(2)), 1000)
    lines = header(plan(of(3), "rkd", sync_bn=True), 1000).splitlines()
    assert "ranks  3 processes share each batch" in lines
    assert "       loss.relations reads the outputs of all processes" in lines


def test_each_training_has_a_loop_of_its_own_in_this_process() -> None:
    both, alone = plan(of(2)), plan(ONE)
    assert [len(group) for group in groups(list(both.trainings))] == [1] * len(both.trainings)
    jobs = replace(run("kd"), runtime=replace(run("kd").runtime, jobs=2))
    with among(of(2)):
        assert Auto(2).count(make_plan(jobs).trainings) == 1
    assert Auto(2).count(make_plan(jobs).trainings) == 2
    assert len(alone.trainings) == len(both.trainings)


def test_processes_share_the_cores(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("kdrun.plan.ground.cores", lambda: 16)
    monkeypatch.setattr(module, "cores", lambda: 16)
    four = of(4)
    four.here = 4
    with among(four):
        assert auto_workers(torch.device("cuda")) == 3
        assert module.threads_for(1e12, four.here) == 4
    assert auto_workers(torch.device("cuda")) == 15


def test_each_process_has_a_gpu_of_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    chosen: list[torch.device] = []
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: (9, 0))
    monkeypatch.setattr(torch.cuda, "set_device", chosen.append)
    two = of(2)
    two.place, two.here = 1, 2
    with among(two):
        assert machine("auto", "auto", "auto").device == torch.device("cuda", 1) == chosen[-1]
        with pytest.raises(KdrunError, match=r"^device=cuda:0: names one GPU, but each process"):
            machine("cuda:0", "auto", "auto")
        two.here = 3
        with pytest.raises(KdrunError, match=r"^device=cuda: 3 processes on this machine need a GPU"):
            machine("cuda", "auto", "auto")
