"""A recording that fails leaves no work behind that writes later, and the stream that was set before."""

from __future__ import annotations

from collections.abc import Iterator
from types import SimpleNamespace

import pytest
import torch
from torch import Tensor

from kdrun import graphs as module
from kdrun.graphs import CudaGraphs, cuda_graphs
from tests.late_device import Late


@pytest.fixture
def cuda(monkeypatch: pytest.MonkeyPatch) -> Iterator[Late]:
    late = Late()
    monkeypatch.setattr(module, "torch", SimpleNamespace(cuda=late, device=torch.device))
    monkeypatch.setattr(CudaGraphs, "refused", "")
    cuda_graphs.cache_clear()
    yield late
    cuda_graphs.cache_clear()


def put_back(cuda: Late, weights: Tensor, kept: Tensor) -> Tensor:
    """The weights after they were put back, when the device has done everything that it was given."""
    cuda.launch(lambda: weights.copy_(kept))
    cuda.current.drain()
    cuda.synchronize()
    return weights


def test_work_of_a_rehearsal_that_fails_does_not_write_after_it(cuda: Late) -> None:
    weights, graphs, calls = torch.zeros(3), CudaGraphs(torch.device("cuda")), list[int]()

    def act() -> None:
        cuda.launch(lambda: weights.add_(1))
        calls.append(1)
        if len(calls) == 3:
            raise RuntimeError("called a synchronizing operation")

    with pytest.raises(RuntimeError, match="synchronizing"):
        graphs.rehearse(act)
    assert torch.equal(put_back(cuda, weights, torch.zeros(3)), torch.zeros(3))
    assert cuda.current is cuda.default


def test_lanes_are_waited_for_if_one_fails(cuda: Late) -> None:
    weights, graphs = torch.zeros(3), CudaGraphs(torch.device("cuda"))
    with pytest.raises(ValueError, match="broken"), graphs.lanes() as lane:
        with lane(0):
            cuda.launch(lambda: weights.add_(1))
        with lane(1):
            raise ValueError("broken")
    assert torch.equal(put_back(cuda, weights, torch.zeros(3)), torch.zeros(3))


def test_after_a_recording_that_fails_the_stream_is_as_before_and_none_is_begun(cuda: Late) -> None:
    graphs = CudaGraphs(torch.device("cuda"))
    cuda.ending.append(RuntimeError("operation failed due to a previous error during capture"))
    with pytest.raises(RuntimeError, match="previous error"):
        graphs.record(lambda: None)
    assert cuda.current is cuda.default
    cuda.ending.clear()
    for other in (graphs, CudaGraphs(torch.device("cuda"))):
        for begin in (other.record, other.rehearse):
            with pytest.raises(RuntimeError, match=r"an earlier recording failed .*previous error"):
                begin(lambda: None)
    assert cuda.recorded == 1


def test_a_rehearsal_that_fails_does_not_end_recording(cuda: Late) -> None:
    graphs = CudaGraphs(torch.device("cuda"))
    with pytest.raises(ZeroDivisionError):
        graphs.rehearse(lambda: 1 / 0)  # type: ignore[arg-type, return-value]
    graphs.rehearse(lambda: None)
    graphs.record(lambda: None)


def test_one_pool_for_a_process(cuda: Late) -> None:
    device = torch.device("cuda", 1)
    assert cuda_graphs(device) is cuda_graphs(torch.device("cuda:1"))
    assert cuda_graphs(device) is not cuda_graphs(torch.device("cuda:0"))
