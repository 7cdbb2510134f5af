from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from kdrun.evaluation.accuracy import logits_of, top_k
from kdrun.evaluation.calibration import nll
from kdrun.evaluation.validation import Validation
from kdrun.graphs import CudaGraphs
from tests.recorded import Recorded

IMAGES = torch.randn(11, 2, 4, 4, generator=torch.Generator().manual_seed(0))
LABELS = torch.arange(11) % 3


class Changing(nn.Module):
    """A model with batch norm and dropout that a training step changes."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.layers = nn.Sequential(nn.Conv2d(2, 3, 3), nn.BatchNorm2d(3), nn.Dropout(0.5), nn.Flatten())
        self.head, self.waits, self.calls = nn.Linear(12, 3), False, 0

    def forward(self, images: Tensor) -> Tensor:
        self.calls += 1
        logits: Tensor = self.head(self.layers(images))
        return logits * logits.abs().max().item() if self.waits else logits

    def learn(self) -> None:
        """Moves statistics and weights in place."""
        self.train()(IMAGES)
        with torch.no_grad():
            for weight in self.parameters():
                weight.mul_(1.5)


def replays(validation: Validation, model: Changing) -> bool:
    """Whether a pass is a graph, which does not call Python."""
    calls = model.calls
    validation()
    return model.calls == calls


def expected(model: nn.Module, labels: Tensor) -> dict[str, float]:
    logits, known = logits_of(model, IMAGES.split(4)), labels >= 0
    return {"top1": top_k(logits[known], labels[known]), "nll": nll(logits[known], labels[known])}


@pytest.mark.parametrize("graph", [False, True])
def test_scores_are_those_of_the_model_as_it_is_now(graph: bool) -> None:
    model, lines = Changing(), list[str]()
    validation = Validation(
        model, lambda: IMAGES.split(4), LABELS, graphs=Recorded() if graph else None, say=lines.append
    )
    seen = []
    for _ in range(4):
        model.learn()
        seen.append(validation())
        assert seen[-1] == expected(model, LABELS)
        assert model.training
    assert len({scores["nll"] for scores in seen}) == 4
    assert lines == [] and replays(validation, model) is graph


def test_a_pass_that_cannot_be_recorded_is_launched_piece_by_piece() -> None:
    model, lines = Changing(), list[str]()
    model.waits = True
    validation = Validation(model, lambda: IMAGES.split(4), LABELS, graphs=Recorded(), say=lines.append)
    assert [validation() for _ in range(3)] == [expected(model, LABELS)] * 3
    assert lines == [
        "graph   none, validation is launched piece by piece: "
        "operation not permitted when stream is capturing: item"
    ]


def test_unlabelled_images_do_not_count() -> None:
    model, some = Changing(), torch.where(torch.arange(11) < 7, LABELS, -1)
    assert Validation(model, lambda: IMAGES.split(4), some)() == pytest.approx(
        expected(model, some), rel=1e-12
    )
    assert Validation(model, lambda: IMAGES.split(4), torch.full((11,), -1))() == {}


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_a_graph_on_a_gpu() -> None:
    device = torch.device("cuda")
    model, images, labels = Changing().to(device), IMAGES.to(device), LABELS.to(device)
    validation = Validation(model, lambda: images.split(4), labels, graphs=CudaGraphs(device))
    for _ in range(4):
        model.train()(images)  # moves statistics in place
        logits = logits_of(model, images.split(4))
        assert validation() == pytest.approx(
            {"top1": top_k(logits, LABELS), "nll": nll(logits, LABELS)}, rel=1e-6
        )
    assert replays(validation, model)
