"""The files of a run that an evaluation writes beside the report: the student, the answers, the images for
pictures.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
from torch import Tensor, nn

from kdrun import __version__
from kdrun.config.schema import recorded
from kdrun.data.images import ImageSet, small
from kdrun.errors import KdrunError
from kdrun.evaluation.subject import Subject
from kdrun.models.described import read_about
from kdrun.models.reused import Reused
from kdrun.models.weights import save_weights
from kdrun.plan.kept import FILE
from kdrun.plan.plan import Plan
from kdrun.plan.training import Training
from kdrun.report import answers, mistakes, soft, thumbnails
from kdrun.report.answers import Answers
from kdrun.report.schema import Report, strongest
from kdrun.report.thumbnails import Thumbnails
from kdrun.stages.saved import Saved, load_model


def is_whole(folder: Path) -> bool:
    """Whether the student's file exists in a run's folder and is undamaged."""
    try:
        read_about(folder / FILE)
    except KdrunError:
        return False
    return True


def save_student(student: Saved) -> None:
    """Writes the headline's weights, with model, classes and preprocessing in the metadata."""
    model = load_model(student, student.training.ground.headline)
    save_weights(student.training.folder / FILE, model.state_dict(), about(student.training, model))


def about(training: Training, model: nn.Module) -> dict[str, Any]:
    """The metadata of a file of a model that this training made."""
    ground, described = training.ground, training.model
    data = ground.data
    return {
        "kdrun": __version__,
        "model": {"name": described.name, "family": described.family, "args": dict(described.args)},
        "stem": described.stem,
        "reused": list(model.teacher) if isinstance(model, Reused) else None,
        "projector_factor": described.projector_factor if isinstance(model, Reused) else None,
        "pretrained": bool(described.pretrained),
        "classes": list(data.classes),
        "image_shape": list(data.image_shape),
        "resize_to": data.resized_to or min(data.image_shape[1:]),  # of the shorter side; then cut
        "input_size": training.built.image_size,
        "normalisation": {"white": data.white, "mean": list(data.mean), "std": list(data.std)},
        "preprocessing": "float(pixel) / white, minus mean, divided by std, per channel",
        "weights": ground.headline,
        "run": training.fingerprint,
    }


def keep_answers(
    folder: Path, plan: Plan, subject: Subject, report: Report, earlier: Collection[str]
) -> None:
    """Writes answers.npz, errors.csv and thumbnails.npz, and adds the errors by class to the report.

    earlier: models whose answers are from an earlier evaluation.
    """
    answers.write(folder, _answers(subject), earlier)
    kept = answers.read(folder)
    report.update(cast(Report, mistakes.facts(kept, strongest(report))))
    mistakes.write(folder, kept, plan.ground.data.test_files)
    thumbnails.write(folder, _shown(plan, subject, kept))


def _answers(subject: Subject) -> Answers:
    """The class that each model predicts for each image under the headline; -1 if a logit is NaN."""
    arrays: Answers = {"classes": np.array(subject.classes)}
    for whose in subject.networks:
        for part in answers.PARTS:
            own = subject.on_part(whose, part)
            if own is not None:
                named = own.logits.argmax(1).masked_fill(own.logits.isnan().any(1), -1)
                arrays |= {f"{part}/labels": own.labels.numpy(), f"{part}/{whose}": named.numpy()}
    return arrays | _probabilities(subject)


def _probabilities(subject: Subject) -> Answers:
    """The student's probabilities for its answer and for the true class, for each test image."""
    own = subject.on_test("student")
    if own is None:
        return {}
    shares = own.logits.softmax(1)
    truth = shares.gather(1, own.labels.clamp(min=0)[:, None])[:, 0].where(own.labels >= 0, torch.nan)
    arrays = {mistakes.SHARE: shares.max(1).values, mistakes.TRUTH: truth}
    return {f"test/student/{name}": values.numpy() for name, values in arrays.items()}


def _shown(plan: Plan, subject: Subject, kept: Answers) -> Thumbnails:
    """The student's surest errors, images with the teacher's soft targets, and disagreements of the two."""
    data, student = plan.ground.data, subject.on_test("student")
    images: Thumbnails = {}
    if student is None:
        return images
    images |= _images(data, "errors", mistakes.surest(kept)[: thumbnails.ERRORS])
    teacher = subject.on_test(subject.taught_by)
    if teacher is None or not teacher.logits.isfinite().all(1).any():
        return images
    temperature = soft.temperature_of(recorded(plan.run))
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
