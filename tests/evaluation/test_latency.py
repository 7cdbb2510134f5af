from __future__ import annotations

import time
from collections.abc import Iterator

import pytest
import torch
from torch import nn

from kdrun.evaluation import latency
from kdrun.evaluation.latency import measure, speedup, summary


def student() -> nn.Module:
    return nn.Sequential(nn.Conv2d(1, 4, 3, stride=2), nn.ReLU(), nn.Flatten(), nn.Linear(36, 10))


def teacher() -> nn.Module:
    return nn.Sequential(nn.Conv2d(1, 128, 3), nn.Conv2d(128, 128, 3), nn.Flatten(), nn.Linear(2048, 10))


class Counting(nn.Module):
    """Notes in a shared list (a copy shares it too) whenever it answers."""

    calls: list[str]

    def __init__(self, name: str) -> None:
        super().__init__()
        self.name = name
        self.linear = nn.Linear(1, 1)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        assert not self.training and torch.is_inference_mode_enabled()
        assert images.is_contiguous(memory_format=torch.channels_last)
        type(self).calls.append(self.name)
        return images


@pytest.fixture
def calls() -> Iterator[list[str]]:
    Counting.calls = []
    yield Counting.calls
    Counting.calls = []


def test_rows_have_the_fields_of_the_report() -> None:
    rows, notes = measure(
        {"teacher": teacher(), "student": student()}, (1, 8, 8), (4, 1), samples=4, seconds=5.0
    )
    assert notes == [] and set(rows) == {"teacher", "student"}
    for row, batch in zip(rows["student"], (1, 4), strict=True):
        assert list(row) == ["device", "mode", "threads", "batch", "p50_ms", "p95_ms", "images_per_s", "n"]
        assert (row["device"], row["mode"], row["threads"], row["batch"]) == ("cpu", "eager", 1, batch)
        assert row["n"] == 4 and 0 < row["p50_ms"] <= row["p95_ms"]


def test_models_take_turns_in_changing_order(calls: list[str]) -> None:
    measure({"a": Counting("a"), "b": Counting("b")}, (1, 2, 2), (1,), samples=4, seconds=60.0)
    warm_up = 2 * latency.WARM_UP_ROUNDS
    assert calls[:warm_up] == ["a", "b"] * latency.WARM_UP_ROUNDS
    assert calls[warm_up:] == ["a", "b", "b", "a"] * 2


def test_time_is_bounded_but_something_is_measured(calls: list[str]) -> None:
    rows, _ = measure({"a": Counting("a")}, (1, 2, 2), (1,), samples=10**9, seconds=0.0)
    assert rows["a"][0]["n"] == latency.FEWEST_ROUNDS
    assert len(calls) == latency.FEWEST_ROUNDS + 1
    start = time.perf_counter()
    rows, _ = measure({"a": Counting("a")}, (1, 2, 2), (1,), samples=10**9, seconds=0.05)
    assert rows["a"][0]["n"] > latency.FEWEST_ROUNDS
    assert time.perf_counter() - start < 5


def test_of_a_slow_model_one_round_must_do_and_no_larger_batch(
    calls: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(latency, "PATIENCE", 0.0)
    rows, notes = measure({"a": Counting("a")}, (1, 2, 2), (32, 1), samples=10**9, seconds=0.0)
    (row,) = rows["a"]
    assert (row["batch"], row["n"]) == (1, 1)
    assert len(calls) == 2
    assert notes == ["latency at batch 32 on cpu is left out for a: batch 1 took 0 s"]


class Looking(nn.Module):
    """Notes in a shared list which images it is given."""

    seen: list[torch.Tensor]

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        type(self).seen.append(images.clone())
        return images


def test_images_are_noise_and_the_same_for_each_model(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Looking, "seen", [], raising=False)
    state = torch.get_rng_state()
    measure({"a": Looking(), "b": Looking()}, (3, 8, 8), (1, 2), samples=2)
    assert {len(images) for images in Looking.seen} == {1, 2}
    first = Looking.seen[0][0]
    assert 0.5 < first.std() < 1.5 and all(torch.equal(images[-1], first) for images in Looking.seen)
    assert torch.equal(torch.get_rng_state(), state)


class Narrow(nn.Module):
    """Fails from the given forward on, or for batches that it cannot take."""

    def __init__(self, most: int = 8, forwards: int = 10**9) -> None:
        super().__init__()
        self.most, self.left = most, forwards
        self.linear = nn.Linear(64, 3)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        self.left -= 1
        if len(images) > self.most:
            raise torch.OutOfMemoryError("no room\nfor that")
        if self.left < 0:
            raise ValueError("tired")
        out: torch.Tensor = self.linear(images.flatten(1))
        return out


def test_a_model_that_fails_at_a_batch_size_is_left_out_there_alone() -> None:
    models = {"teacher": Narrow(), "student": student()}
    rows, notes = measure(models, (1, 8, 8), (1, 32), samples=3)
    assert [row["batch"] for row in rows["teacher"]] == [1]
    assert [row["batch"] for row in rows["student"]] == [1, 32]
    assert notes == ["latency at batch 32 on cpu is left out for teacher: OutOfMemoryError: no room"]


def test_a_model_that_fails_while_it_is_measured_has_no_row() -> None:
    models = {"teacher": Narrow(forwards=latency.WARM_UP_ROUNDS + 2), "student": student()}
    rows, notes = measure(models, (1, 8, 8), (1,), samples=5)
    assert rows["teacher"] == [] and rows["student"][0]["n"] == 5
    assert notes == ["latency at batch 1 on cpu is left out for teacher: ValueError: tired"]


def test_a_batch_that_does_not_fit_into_memory_is_not_tried() -> None:
    models = {"teacher": teacher(), "student": student(), "control": student()}
    rows, notes = measure(models, (1, 8, 8), (1, 65536), samples=1, room=10**7)
    assert [[row["batch"] for row in own] for own in rows.values()] == [[1], [1], [1]]
    assert len(notes) == 2, "student and control share a note"
    assert notes[1].startswith(
        "latency at batch 65536 on cpu is left out for student, control: it would take "
    )
    assert notes[1].endswith(" and 10.0 MB are free")


def test_models_and_threads_stay_as_they_are() -> None:
    model, threads = student(), torch.get_num_threads()
    measure({"student": model}, (1, 8, 8), (1,), samples=2, threads=threads + 1, seconds=1.0)
    assert torch.get_num_threads() == threads
    assert all(module.training for module in model.modules())
    assert not any(parameter.is_inference() for parameter in model.parameters())


def test_a_graph_needs_a_gpu() -> None:
    with pytest.raises(ValueError, match="cuda"):
        measure({}, (1, 8, 8), modes=("graph",))


def test_compiled_models_have_rows_of_their_own(monkeypatch: pytest.MonkeyPatch) -> None:
    compiled = []
    monkeypatch.setattr(nn.Module, "compile", lambda model, **how: compiled.append((type(model), how)))
    rows = measure({"a": student()}, (1, 8, 8), (1, 2), samples=2, modes=("eager", "compiled")).rows["a"]
    assert [(row["mode"], row["batch"]) for row in rows] == [
        (mode, batch) for mode in ("eager", "compiled") for batch in (1, 2)
    ]
    assert compiled == [(nn.Sequential, {"dynamic": False})]


def test_summary_by_hand() -> None:
    times = [float(i) for i in range(20, 0, -1)]
    assert summary(times, 5) == {"p50_ms": 10.0, "p95_ms": 19.0, "images_per_s": 500.0, "n": 20}
    assert summary([2.0, 1.0, 4.0], 1) == {"p50_ms": 2.0, "p95_ms": 4.0, "images_per_s": 500.0, "n": 3}


def row(p50: float, p95: float | None = None, batch: int = 1, device: str = "cpu") -> dict[str, object]:
    return {
        "device": device,
        "mode": "eager",
        "threads": 1,
        "batch": batch,
        "p50_ms": p50,
        "p95_ms": p95 or p50,
    }


@pytest.mark.parametrize(
    ("teacher_ms", "student_ms", "control_ms", "significant"),
    [
        (4.0, 1.0, 1.1, True),
        (1.0, 4.0, 4.1, True),  # significantly slower
        (1.05, 1.0, 1.0, False),  # within the margin, however quiet
        (1.2, 1.0, 1.15, False),  # student and control, one architecture, differ by 1.15; 1.15 ** 2 > 1.2
        (1.4, 1.0, 1.15, True),
    ],
)
def test_significance_is_measured_against_the_control(
    teacher_ms: float, student_ms: float, control_ms: float, significant: bool
) -> None:
    rows = {"teacher": [row(teacher_ms)], "student": [row(student_ms)], "control": [row(control_ms)]}
    (found,) = speedup(rows)
    assert found["ratio"] == pytest.approx(teacher_ms / student_ms)
    assert (found["device"], found["mode"], found["batch"]) == ("cpu", "eager", 1)
    assert found["significant"] is significant


def test_without_a_control_the_spread_of_the_student_counts() -> None:
    assert not speedup({"teacher": [row(1.4)], "student": [row(1.0, p95=1.5)]})[0]["significant"]
    assert speedup({"teacher": [row(1.6)], "student": [row(1.0, p95=1.5)]})[0]["significant"]


def test_speedup_compares_like_with_like() -> None:
    rows = {"teacher": [row(9.0, batch=32), row(3.0)], "student": [row(1.0), row(1.0, device="cuda")]}
    (found,) = speedup(rows)
    assert found["ratio"] == 3.0
    assert speedup({"student": [row(1.0)]}) == []


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_on_a_gpu() -> None:
    rows, _ = measure(
        {"student": student()}, (1, 8, 8), (1, 32), device="cuda", samples=20, modes=("eager", "graph")
    )
    assert [row["mode"] for row in rows["student"]] == ["eager", "eager", "graph", "graph"]
    assert all(row["p50_ms"] > 0 for row in rows["student"])


class Square(nn.Module):
    """Takes images of one size only."""

    def __init__(self, side: int) -> None:
        super().__init__()
        self.side, self.head = side, nn.Linear(side * side, 2)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        assert images.shape[1:] == (1, self.side, self.side)
        out: torch.Tensor = self.head(images.flatten(1))
        return out


def test_a_model_of_other_images_takes_turns_with_the_others() -> None:
    models = {"student": Square(8), "reference": Square(16)}
    found = measure(
        models, (1, 8, 8), (1, 2), samples=3, seconds=5.0, room=10**9, shapes={"reference": (1, 16, 16)}
    )
    assert not found.notes
    assert {name: [row["batch"] for row in rows] for name, rows in found.rows.items()} == {
        "student": [1, 2],
        "reference": [1, 2],
    }
    over = speedup(found.rows, "reference")
    assert [row["batch"] for row in over] == [1, 2] and speedup(found.rows) == []
    first = found.rows["reference"][0]["p50_ms"] / found.rows["student"][0]["p50_ms"]
    assert over[0]["ratio"] == pytest.approx(first)
