"""`scripts/gpu` is free of mistakes that need no GPU to be found, and a kill loses nothing of it."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from kdrun.data.resident import Resident
from kdrun.losses.sampling import Sampler
from kdrun.machine import Machine
from kdrun.stages.savings import save
from kdrun.training.savings import SAVINGS
from kdrun.training.tabled import Tabled
from tests.config.composed import composed
from tests.gpu import facts, steps, whole
from tests.gpu.bench import Bench, page, work
from tests.gpu.product import ORDER, TINY, WINDOW, Arm, Product, Steps, run_of


@pytest.fixture
def bench(tmp_path: Path) -> Iterator[Bench]:
    made = Bench(tmp_path / "out", "cpu", tiny=True, losses=["fitnet", "kdsvd"])
    yield made
    made.close()


def test_parts_write_their_rows(bench: Bench) -> None:
    for part in (facts.facts, steps.failing, steps.losses):
        bench.do(part.__name__, part)
    assert bench.failed == []
    lines = [json.loads(line) for line in (bench.out / "gpu.jsonl").read_text().splitlines()]
    assert lines[0]["part"] == "environment" and lines[0]["torch"] == torch.__version__
    row, waits = (line for line in lines if line["part"] == "losses")
    assert row["same"]["equal"] and row["graph"]
    assert not waits["graph"] and "loss.other waits for the device" in waits["said"]
    (row,) = (line for line in lines if line["part"] == "failing")
    assert row["unchanged"] and "none" in row["said"]
    assert "| name | ms |" in (bench.out / "gpu.md").read_text()


def test_parts_that_time_steps(bench: Bench) -> None:
    for part in (steps.exact, steps.ladder, steps.together, steps.fill, steps.kernels):
        bench.do(part.__name__, part)
    assert bench.failed == []
    assert all(row["equal"] for row in bench.rows["exact"])
    assert [row["graph"] for row in bench.rows["ladder"]] == [False, True, True, True, True]
    table = bench.rows["fill"][-1]
    assert min(table[f"asked_{name}"] for name in ("AtOnce", "WriteLater")) > 0 < table["read_whole"]
    assert (bench.out / "kernels.txt").read_text().count("\n") == bench.rows["kernels"][0]["kinds"]


def test_compiled_losses_are_left_out_for_the_second_time(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    def stands_in(function: Callable[..., Any], **how: Any) -> Callable[..., Any]:
        return lambda *given: (calls.append(str(function)), function(*given))[1]

    calls: list[str] = []
    monkeypatch.setattr(torch, "compile", stands_in)
    row = steps.by_the_compiler(bench, Arm("compiled", "fp32", compiled=True))
    assert min(row["ms"], row["ms_losses_plain"]) > 0 and row["graph"]
    mixes = [number for number, name in enumerate(calls) if "Mix" in name]
    assert mixes and max(mixes) < len(calls) - 3  # then models alone


def test_whole_trainings_are_those_of_kdrun(bench: Bench) -> None:
    """Teacher, student, the same with its table full, broken off and continued, evaluated: as a run does."""
    bench.do("product", whole.product)
    assert bench.failed == []
    rows = {row["name"]: row for row in bench.rows["product"]}
    first, again = rows["student, its table empty"]["teacher"], rows["student, its table full"]["teacher"]
    assert first["plan"] == again["plan"] == "tabled"
    assert first["forwards"] > again["forwards"] and again["forwards_saved"] > 0
    assert rows["broken off and continued"]["equal"] and "student cpu eager 1" in rows["evaluation"]


def test_a_row_that_fails_or_has_no_time_does_not_end_the_others(bench: Bench) -> None:
    bench.tiny = False
    bench.do("part", lambda bench: [
        work("broken", 1, lambda: {}["no"]),
        work("too long", 1e6, dict),
        work("good", 1, lambda: {"ms": 1.5}),
    ])  # fmt: skip
    assert [row["name"] for row in bench.rows["part"]] == ["broken", "too long", "good"]
    assert bench.failed == ["part broken: KeyError: 'no'"]
    assert "left out" in bench.rows["part"][1]["said"] and bench.rows["part"][2]["ms"] == 1.5


def test_a_kill_loses_no_row_that_was_there(bench: Bench) -> None:
    def killed() -> dict[str, float]:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        bench.do("part", lambda bench: [work("good", 1, lambda: {"ms": 1.5}), work("last", 1, killed)])
    with (bench.out / "gpu.jsonl").open("a") as file:
        file.write('{"part": "part", "na')
    assert "| good | 1.5 |" in page(bench.out)


def test_the_stand_in_for_graphs_is_taken_away(tmp_path: Path) -> None:
    before = Machine.graphs
    Bench(tmp_path, "cpu", tiny=True).close()
    assert Machine.graphs is before


def test_its_run_is_the_one_that_the_command_line_would_make(tmp_path: Path) -> None:
    by_hand = asdict(run_of(TINY, Arm("arm", "fp32"), tmp_path, "cpu"))
    line = (
        "dataset=fake dataset.views.name=crop_flip dataset.views.padding=2 dataset.classes=4 dataset.size=16 "
        "dataset.per_class=16 dataset.validation=0 dataset.test=20 dataset.headline=last teacher=resnet14 "
        "student=resnet8 recipe=crd recipe.teacher.batch=8 recipe.student.batch=8 control=false device=cpu "
        f"precision=fp32 outputs_dir={tmp_path}/outputs evaluation.plots=false"
    )
    typed = asdict(composed(line).run)
    assert {key: value for key, value in typed.items() if by_hand[key] != value} == {}


def test_seeds_share_a_teacher_and_its_file(tmp_path: Path) -> None:
    product = Product(TINY, tmp_path, "cpu")
    one, other = (product.plan(Arm("arm", "fp32"), seed=seed) for seed in (0, 1))
    assert one.teacher.fingerprint == other.teacher.fingerprint and one.ground.data is other.ground.data


def test_all_other_savings_can_be_left_out(tmp_path: Path) -> None:
    """And then a step leaves the same bits."""
    product, left = Product(TINY, tmp_path, "cpu"), list[list[Tensor]]()
    for off in ((), (WINDOW, ORDER)):
        terms = steps._terms("crd")
        with Steps(product, Arm("crd", "fp32", graph=False, terms=terms, off=frozenset(off))) as world:
            (sampler,) = (m for m in world.loop.step.learners[0].mix.modules() if isinstance(m, Sampler))
            world.steps(13)
            assert (sampler.order is None) is bool(off)
            assert isinstance(world.loop.teacher, Tabled) and world.loop.teacher.window == 0
            left.append(world.state())
    assert all(torch.equal(one, other) for one, other in zip(*left, strict=True))


def test_savings_leave_what_a_plain_step_leaves(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """All that a GPU would have, with a table, over the end of an epoch; in bf16, however slow it is here."""
    monkeypatch.setattr("kdrun.machine._cpu_has_bf16", lambda: True)
    product, left = Product(TINY, tmp_path, "cpu"), list[list[Tensor]]()
    for names in ((), SAVINGS):
        with Steps(product, Arm("savings", "bf16", graph=False)) as world:
            loop, ground = world.loop, world.trainings[0].ground
            save(names, loop.plain.learners, loop.teacher, loop.images, ground)
            assert isinstance(loop.teacher, Tabled) and isinstance(loop.images, Resident)
            assert bool(loop.teacher.derived) is bool(names)
            assert loop.images.normal.ends_in == (torch.bfloat16 if names else torch.float32)
            world.steps(7)
            left.append(world.state())
    assert all(torch.equal(one, other) for one, other in zip(*left, strict=True))
