"""Notes on plans that can run but look wrong: models of very different sizes, missing classes."""

from __future__ import annotations

from collections.abc import Iterator

import torch

from kdrun.data.images import Part
from kdrun.evaluation.cost import params
from kdrun.figures import plural, short
from kdrun.plan.plan import Plan

FAR = 50
"""A chosen teacher may be this many times as large as a student that nobody chose."""

NAMED = 3
"""The most missing classes that are named."""


def mismatched(plan: Plan) -> list[str]:
    """A note for each mismatch."""
    return [*_sizes(plan), *_classes(plan)]


def _sizes(plan: Plan) -> Iterator[str]:
    """A note if one role was chosen, the other has the data set's model, and their sizes do not match."""
    left = plan.run.remarks.by_data_set
    if len(left) != 1 or plan.run.quick:
        return
    teacher, student = plan.chain[0], plan.chain[-1]
    sizes = {"teacher": params(teacher.built.model), "student": params(student.built.model)}
    (role,) = left
    other = "student" if role == "teacher" else "teacher"
    names = {"teacher": teacher.model.name, "student": student.model.name}
    if sizes["student"] < sizes["teacher"] <= FAR * sizes["student"]:
        return
    found = (
        f"the {role} is still {names[role]} ({short(sizes[role])} parameters), beside {names[other]} "
        f"({short(sizes[other])}): choose one"
    )
    if names[role] == names[other]:
        how = "larger" if role == "teacher" else "smaller"
        found = (
            f"teacher and student are both {names[role]} ({short(sizes[role])} parameters), the {role} by "
            f"data set: choose a {how} one"
        )
    yield f"{found} with {role}=NAME (kdrun list models)"


def _classes(plan: Plan) -> Iterator[str]:
    """A note for each part without images of some classes; not in a trial, which has too few images."""
    data = plan.ground.data
    parts = {"validation": data.validation, "test": data.test, "the labelled training images": data.train}
    for name, part in parts.items() if not plan.run.quick else ():
        absent = [data.classes[number] for number in absent_classes(part, len(data.classes))]
        if absent and len(part.labels):
            named = ", ".join(absent[:NAMED]) + (" ..." if len(absent) > NAMED else "")
            verb = "is" if len(absent) == 1 else "are"
            classes = plural(len(absent), "class", "classes")
            yield f"{classes} of {len(data.classes)} {verb} missing in {name}: {named}"


def absent_classes(part: Part, classes: int) -> list[int]:
    """The classes without a labelled image in a part."""
    known = part.labels[part.labels >= 0]
    counts = torch.bincount(known, minlength=classes)
    return torch.nonzero(counts == 0).flatten().tolist()
