"""Subjects for evaluators: logits and labels that are made up."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from kdrun.evaluation.subject import Answers, Subject


def drawn(n: int, classes: int, seed: int = 0, sharpness: float = 1.5) -> tuple[torch.Tensor, torch.Tensor]:
    """Logits whose softmax is exactly the chance that the label was drawn with."""
    generator = torch.Generator().manual_seed(seed)
    logits = sharpness * torch.randn(n, classes, generator=generator)
    labels = torch.multinomial(logits.softmax(1), 1, generator=generator)[:, 0]
    return logits, labels


def one_hot(answers: list[int], classes: int = 3) -> Tensor:
    """Logits that are sure of these classes."""
    return 4.0 * torch.eye(classes)[torch.tensor(answers)]


def subject(labels: Tensor, taught_by: str = "teacher", validation: int = 0, **logits: Tensor) -> Subject:
    """A run of models that are one linear layer each. logits: of each model by name, for the test images.

    validation: that many of the images are the validation part instead.
    """
    cuts = {"validation": slice(validation), "test": slice(validation, None)}
    return Subject(
        answers=tuple(
            Answers(name, "last", part, values[cut], labels[cut])
            for name, values in logits.items()
            for part, cut in cuts.items()
            if len(labels[cut])
        ),
        networks={name: nn.Sequential(nn.Flatten(), nn.Linear(4, 3)) for name in logits},
        records={name: {} for name in logits},
        classes=("a", "b", "c"),
        image_shape=(1, 2, 2),
        headline="val_best",
        taught_by=taught_by,
        settings={},
    )
