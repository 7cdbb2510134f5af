"""Random numbers by purpose: restored afterwards, and without starting GPUs that nobody uses."""

from __future__ import annotations

import warnings

import pytest
import torch

from kdrun.training.seeds import Draws, generators, global_seed, kept_generators, set_generators


def test_gpus_that_are_not_used_are_not_started(monkeypatch: pytest.MonkeyPatch) -> None:
    def started(*given: object) -> None:
        raise AssertionError("a GPU is started")

    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 3)
    monkeypatch.setattr(torch.cuda, "get_rng_state_all", started)
    monkeypatch.setattr(torch.cuda, "get_rng_state", started)
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # torch warns of many devices
        with global_seed(0, "dropout"), kept_generators():
            states = generators()
        set_generators(states)
        with Draws(0, "dropout"):
            torch.rand(1)
    assert states["cuda"] == []


def test_only_the_gpu_that_is_used_is_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    states, read = {1: torch.zeros(4)}, list[int]()

    def state(number: int) -> torch.Tensor:
        read.append(number)
        return states[number]

    monkeypatch.setattr(torch.cuda, "is_initialized", lambda: True)
    monkeypatch.setattr(torch.cuda, "current_device", lambda: 1)
    monkeypatch.setattr(torch.cuda, "get_rng_state", state)
    monkeypatch.setattr(torch.cuda, "set_rng_state", lambda value, number: states.update({number: value}))
    kept = generators()
    set_generators({"cpu": kept["cpu"], "cuda": [torch.ones(4)]})
    assert read == [1] and torch.equal(states[1], torch.ones(4))
