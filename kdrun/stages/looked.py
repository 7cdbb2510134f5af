"""Chooses the test images for the pictures of a report, from the models' answers."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from kdrun.data.images import ImageSet, small
from kdrun.evaluation.subject import Subject
from kdrun.plan.plan import Plan
from kdrun.report import mistakes, soft, thumbnails
from kdrun.report.answers import Answers
from kdrun.report.thumbnails import Thumbnails
from kdrun.stages.facts import config_of


def shown_of(plan: Plan, subject: Subject, answers: Answers) -> Thumbnails:
    """The student's surest errors, images with the teacher's soft targets, and disagreements of the two."""
    data, student = plan.ground.data, subject.on_test("student")
    images: Thumbnails = {}
    if student is None:
        return images
    images |= _images(data, "errors", mistakes.surest(answers)[: thumbnails.ERRORS])
    teacher = subject.on_test(subject.taught_by)
    if teacher is None or not teacher.logits.isfinite().all(1).any():
        return images
    temperature = soft.temperature_of(config_of(plan))
    logits = teacher.logits.numpy()
    rows = soft.most_uncertain(logits, teacher.labels, temperature or soft.WITHOUT)
    images |= _images(data, "knowledge", soft.spaced(rows, thumbnails.KNOWLEDGE))
    images["knowledge/logits"] = logits[images["knowledge/rows"]]
    images |= {
        "entropy": thumbnails.entropies(logits),
        "temperature": np.array(np.nan if temperature is None else temperature),
        "taught_by": np.array(subject.taught_by),
    }
    return images | _parted(data, teacher.logits, student.logits)


def _parted(data: ImageSet, teacher: Tensor, student: Tensor) -> Thumbnails:
    """Images on which the two disagree: those on which their probabilities have the largest sum."""
    given, own = ((logits.float().softmax(1).max(1)) for logits in (teacher, student))
    apart = (given.indices != own.indices) & teacher.isfinite().all(1) & student.isfinite().all(1)
    both = torch.where(apart, given.values + own.values, -1.0)
    rows = both.argsort(descending=True, stable=True)[: min(thumbnails.PARTED, int(apart.sum()))]
    shares = torch.stack([given.values[rows], own.values[rows]], 1)
    return {
        **_images(data, "parted", rows.tolist()),
        "parted/shares": shares.numpy(),
        "parted/count": np.array(int(apart.sum())),
    }


def _images(data: ImageSet, purpose: str, rows: Sequence[int]) -> Thumbnails:
    """The images at these rows of the test part, made small."""
    chosen = torch.tensor(rows, dtype=torch.int64)
    pixels = data.test.images[chosen] if len(rows) else torch.zeros(0, *data.image_shape)
    return {
        f"{purpose}/rows": chosen.numpy(),
        f"{purpose}/images": small(pixels, data.white, thumbnails.SIDE).numpy(),
    }
