"""How far the student agrees with the model that taught it, on the test images. Labels are not needed."""

from __future__ import annotations

from collections.abc import Iterator

from torch import Tensor
from torch.nn import functional as F

from kdrun.evaluation.figure import Figure
from kdrun.evaluation.subject import Subject


def figures(subject: Subject) -> Iterator[Figure]:
    """`agreement` in percent and `kl_teacher_student` in nats."""
    student = subject.on_test("student")
    taught_by = subject.on_test("teacher" if subject.taught_by == "peer" else subject.taught_by)
    if student is None or taught_by is None:
        return
    pair = student.logits, taught_by.logits
    yield Figure("agreement", agreement(*pair), "%", "student")
    yield Figure("kl_teacher_student", kl_teacher_student(*pair), "nats", "student")


def agreement(student: Tensor, teacher: Tensor) -> float:
    """Percent of images to which both give the same class. Logits (N, K) each."""
    return 100.0 * (student.argmax(1) == teacher.argmax(1)).double().mean().item()


def kl_teacher_student(student: Tensor, teacher: Tensor) -> float:
    """KL(teacher || student) at temperature 1, mean over images, in nats. Logits (N, K) each."""
    inputs, target = student.double().log_softmax(1), teacher.double().log_softmax(1)
    return F.kl_div(inputs, target, reduction="batchmean", log_target=True).item()
