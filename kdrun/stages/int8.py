"""Student and control in 8 bits: each is written as an int8 file, which answers all held-out images."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple, cast

import torch
from torch import Tensor, nn

from kdrun.artefacts import fingerprint, write_whole
from kdrun.config.choices import PLAIN
from kdrun.data.batches import CALIBRATION, plain_batches
from kdrun.data.images import ImageSet, Part
from kdrun.evaluation import compare
from kdrun.evaluation.accuracy import correct, logits_of, top_k
from kdrun.evaluation.counts import share_interval
from kdrun.evaluation.subject import Subject
from kdrun.machine import torch_threads
from kdrun.models.exported import opened
from kdrun.models.int8_file import layers_in_integers, write_trained
from kdrun.models.quantised import quantisation
from kdrun.plan.int8 import LABELS, TEACHER, name_of
from kdrun.plan.plan import Plan
from kdrun.report.int8 import AFTER, FP32, ROLES
from kdrun.report.schema import Int8, Int8Model
from kdrun.stages.run_files import about
from kdrun.stages.saved import Saved, load_model, quantised_model, saved
from kdrun.stages.subject import held_out

FOLDER = "int8"
"""The folder in a run's folder that has the files."""

CPU = torch.device("cpu")

ALLOWED = {"student": (AFTER, LABELS, TEACHER), PLAIN: (AFTER, LABELS)}
"""The forms among which the best on validation is chosen: the teacher makes no control."""

Answers = Mapping[str, Tensor]
"""(N, K) logits by part: validation (if it has images) and test."""


class Form(NamedTuple):
    """A model in one form: its answers, and facts of its file."""

    answers: Answers
    facts: dict[str, Any]


def int8_fingerprint(plan: Plan) -> str:
    """Of all that the figures in 8 bits follow from."""
    trainings = {training.name: training.fingerprint for training in plan.for_int8}
    return fingerprint([trainings, len(plan.ground.data.test.labels)])


def in_int8(plan: Plan, models: Mapping[str, Saved], subject: Subject, say: Callable[[str], None]) -> Int8:
    """All figures in 8 bits. say: gets a line for each file."""
    data, settings = plan.ground.data, plan.run.int8
    forms = {role: _forms(plan, models[role], subject, say) for role in ROLES}
    content: dict[str, Any] = {
        "fingerprint": int8_fingerprint(plan),
        "bits": settings.weight_bits,
        "images": min(CALIBRATION, len(data.train.labels)),
        "epochs": plan.for_int8[0].epochs,
        "own_loss": plan.for_int8[1].loss.keys() == plan.student.loss.keys(),
    }
    models_by_form = {
        role: {name: _model(data, form, own[FP32]) for name, form in own.items()}
        for role, own in forms.items()
    }
    content["models"], labels = models_by_form, data.test.labels
    if bool((labels >= 0).any()):
        pairs = {name: _pair(forms, dict.fromkeys(ROLES, name)) for name in forms[PLAIN]}
        content["gains"] = {name: compare.against_control(*pair, labels) for name, pair in pairs.items()}
        content |= _chosen(forms, data, models_by_form)
    return cast(Int8, content)


def _forms(plan: Plan, began: Saved, subject: Subject, say: Callable[[str], None]) -> dict[str, Form]:
    bits, role, headline = plan.run.int8.weight_bits, began.name, plan.ground.headline
    plain = {part: subject.on_part(role, part) for part in ("validation", "test")}
    forms = {FP32: Form({part: own.logits for part, own in plain.items() if own is not None}, {})}
    forms[AFTER] = _written(plan, role, AFTER, quantised_model(began.training, bits), began, say)
    trained = {training.name: training for training in plan.for_int8}
    for by in (LABELS, TEACHER):
        own = saved(trained[name_of(role, by)])
        assert own is not None, "it was trained before"
        forms[by] = _written(plan, role, by, load_model(own, headline), began, say)
    return forms


def _written(
    plan: Plan, role: str, name: str, model: nn.Module, began: Saved, say: Callable[[str], None]
) -> Form:
    """Writes a quantised model as a file and asks the file about all held-out images."""
    data, threads = plan.ground.data, began.training.threads
    path = plan.student.folder / FOLDER / f"{role}_{name}.onnx"
    say(f"int8     {path.name}: written, then used on {len(data.test.labels):,} test images")
    path.parent.mkdir(parents=True, exist_ok=True)
    facts = about(began.training, model)
    with torch_threads(threads):
        write_whole(path, lambda temporary: write_trained(model, facts, Path(temporary)))
        file = opened(path, threads).model
        answers = {name: _on(file, part, data) for name, part in held_out(data).items()}
        own = _on(model.to(CPU), data.test, data)
    return Form(
        answers,
        {
            "file": f"{FOLDER}/{path.name}",
            "bytes": path.stat().st_size,
            "layers": quantisation(model).layers,
            "in_integers": layers_in_integers(path),
            "differ": (answers["test"] - own).abs().max().item(),
            "other_class": int((answers["test"].argmax(1) != own.argmax(1)).sum()),
        },
    )


def _on(model: nn.Module, part: Part, data: ImageSet) -> Tensor:
    return logits_of(model, plain_batches(part, data, CPU)())


def _model(data: ImageSet, form: Form, plain: Form) -> Int8Model:
    """The figures of a form. plain: the same model in fp32."""
    content, labels = dict(form.facts), data.test.labels
    known = labels >= 0
    if count := int(known.sum()):
        right = int(correct(form.answers["test"][known], labels[known]).sum())
        content |= {"top1": 100 * right / count, "interval": list(share_interval(right, count))}
        if form is not plain:
            counts = compare.pairs(form.answers["test"], plain.answers["test"], labels)
            interval = compare.gain_interval(counts)
            content |= {"change": compare.gain(counts), "change_interval": list(interval)}
            content["verdict"] = compare.verdict(interval, compare.mcnemar_p(counts))
    on_validation = data.validation.labels >= 0
    if bool(on_validation.any()):
        chosen = form.answers["validation"][on_validation], data.validation.labels[on_validation]
        content["validation"] = top_k(*chosen)
    return cast(Int8Model, content)


def _chosen(
    forms: Mapping[str, Mapping[str, Form]],
    data: ImageSet,
    models: Mapping[str, Mapping[str, Int8Model]],
) -> dict[str, Any]:
    """The best form of each on validation, and student against control in these: a single comparison."""
    by_validation = "validation" in models["student"][FP32]
    names = {role: _best(models[role], ALLOWED[role]) for role in ROLES}
    before = _pair(forms, dict.fromkeys(ROLES, FP32))
    changed = compare.gain_change(_pair(forms, names), before, data.test.labels)
    return {
        "chosen": names,
        "chosen_by": "validation" if by_validation else "order",
        "gain": compare.against_control(*_pair(forms, names), data.test.labels),
        "change": changed.change,
        "change_interval": list(changed.interval),
    }


def _best(forms: Mapping[str, Int8Model], allowed: tuple[str, ...]) -> str:
    """The best on validation, of equals the one with less training; without validation images the last."""
    return max(allowed, key=lambda name: forms[name].get("validation", allowed.index(name)))


def _pair(forms: Mapping[str, Mapping[str, Form]], names: Mapping[str, str]) -> tuple[Tensor, Tensor]:
    """The logits on test of student and control, each in the form of that name."""
    student, control = (forms[role][names[role]].answers["test"] for role in ROLES)
    return student, control
