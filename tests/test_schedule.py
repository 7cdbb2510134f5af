from __future__ import annotations

import subprocess
import sys

import pytest

from kdrun.errors import KdrunError
from kdrun.schedule import Schedule

RAMP = {"from": 0.0, "to": 1.0, "epochs": 20, "shape": "linear"}


@pytest.mark.parametrize("value", [0.9, 0, 3])
def test_a_number_stays(value: float) -> None:
    schedule = Schedule.parse(value, "loss.soft.weight")
    assert [schedule.at(epoch) for epoch in (0, 0.5, 1, 1000)] == [value] * 4
    assert schedule.constant
    assert schedule.zero == (value == 0)
    assert str(schedule) == f"{value}"


@pytest.mark.parametrize(
    ("shape", "expected"),
    [("linear", [0, 0.25, 0.5, 1, 1]), ("cosine", [0, 0.1464466, 0.5, 1, 1]), ("step", [0, 0, 0, 1, 1])],
)
def test_shapes(shape: str, expected: list[float]) -> None:
    schedule = Schedule.parse({**RAMP, "shape": shape}, "loss.dkd.weight")
    assert [schedule.at(epoch) for epoch in (0, 5, 10, 20, 99)] == pytest.approx(expected, abs=1e-7)
    assert not schedule.constant
    assert not schedule.zero


def test_ends_are_exact() -> None:
    schedule = Schedule.parse({"from": 0.7, "to": 0.1, "epochs": 3, "shape": "cosine"}, "temperature")
    assert (schedule.at(0), schedule.at(3), schedule.at(7)) == (0.7, 0.1, 0.1)


def test_shape_may_be_left_out_and_is_shown() -> None:
    assert str(Schedule.parse({"from": 0, "to": 1, "epochs": 20}, "k")) == "0 -> 1 in 20 epochs"
    assert str(Schedule.parse({**RAMP, "shape": "cosine"}, "k")) == "0 -> 1 in 20 epochs, cosine"
    assert str(Schedule.parse({**RAMP, "shape": "step", "epochs": 1}, "k")) == "0 -> 1 after 1 epoch"


def test_zero_throughout() -> None:
    assert Schedule.parse({"from": 0, "to": 0, "epochs": 5}, "k").zero


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ("abc", "loss.soft.weight=abc: a number, or a schedule (FROM..TO@EPOCHS, {from, to, epochs, shape}"),
        (True, "loss.soft.weight=True: a number"),
        (None, "loss.soft.weight=null: a number"),
        (float("nan"), "loss.soft.weight=nan: a number"),
        ({**RAMP, "epoch": 3}, "loss.soft.weight.epoch: a schedule has no such key"),
        ({"from": 0, "epochs": 3}, "loss.soft.weight.to: is missing"),
        ({**RAMP, "shape": "linaer"}, "loss.soft.weight.shape=linaer: no such shape. Choices: linear"),
        ({**RAMP, "to": "x"}, "loss.soft.weight.to=x: a number is needed"),
        ({**RAMP, "epochs": 0}, "loss.soft.weight.epochs=0: must be above 0"),
    ],
)
def test_errors_name_the_key(value: object, message: str) -> None:
    with pytest.raises(KdrunError) as error:
        Schedule.parse(value, "loss.soft.weight")
    assert str(error.value).startswith(message)


def test_needs_no_torch() -> None:
    code = "import sys, kdrun.schedule; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
