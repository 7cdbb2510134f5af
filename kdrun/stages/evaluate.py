"""The third stage: every model on validation and test data, cost, latency, comparison; then the report and
its pictures.
"""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Mapping
from typing import Any

from torch import Tensor, nn

from kdrun import __version__
from kdrun.artefacts import fingerprint, locked, sweep_parts, write_json, write_text
from kdrun.data.batches import plain_batches
from kdrun.evaluation import accuracy, compare, cost, latency
from kdrun.machine import environment
from kdrun.models.reused import Reused
from kdrun.models.weights import save_weights
from kdrun.plan.answers import answers_plan
from kdrun.plan.plan import Plan
from kdrun.plan.words import latency_threads
from kdrun.progress.journal import as_lines, named_rows
from kdrun.progress.screen import Screen
from kdrun.report import gradients, markdown, plots, table
from kdrun.report.read import read
from kdrun.report.schema import Report, build
from kdrun.stages.saved import Saved, finished, load_model

Logits = dict[str, dict[str, dict[str, Tensor]]]
"""By role, weights (`last`, `val_best`) and part (`validation`, `test`): (N, K) float32 on the CPU."""


def is_current(plan: Plan) -> bool:
    """Whether the run's report is there, of these very models and with all that is asked for."""
    folder = plan.student.folder
    if plan.run.fresh or not (folder / "report.json").exists():
        return False
    if any(finished(t) is None for t in plan.trainings if not t.loaded):
        return False
    return bool(read(folder)["fingerprint"] == _inputs(plan))


def evaluate(plan: Plan, models: Mapping[str, Saved], command: str, shown: Screen) -> None:
    """Evaluates what is there (a teacher or a control may be missing), writes the report, shows it."""
    folder = plan.student.folder
    with locked(folder, lambda who: shown.say(f"evaluate waits for {who}")):
        sweep_parts(folder)
        said = {role: _predictions(plan, trained) for role, trained in models.items()}
        content = _report(plan, models, said, command)
        _save_student(plan, models["student"])
        metrics = [row for trained in models.values() for row in _metrics(trained)]
        write_text(folder / "metrics.jsonl", as_lines(metrics))
        write_text(folder / "config.yaml", _config_text(plan))
        drawn = _draw(plan, said, metrics) if plan.run.evaluation.plots else ()
        write_text(folder / "report.md", markdown.markdown(content, drawn))
        write_json(folder / "report.json", content)
    show(plan, shown)


def show(plan: Plan, shown: Screen, note: str = "") -> None:
    """The paths, the table, the verdict: the last thing on the screen."""
    folder = plan.student.folder
    content = read(folder)
    possible = ("report.md", "report.json", "curves.png", "confusion.png", "student.safetensors")
    names = [name for name in possible if (folder / name).exists()]
    shown.say(f"\n{folder}{f'   {note}' if note else ''}\n  {'  '.join(names)}\n")
    shown.show(table.render(content))


def _draw(plan: Plan, said: Logits, metrics: list[dict[str, Any]]) -> tuple[str, ...]:
    """Draws what there are figures for. Returns the names of the pictures."""
    folder, labels = plan.student.folder, plan.ground.data.test.labels
    matrices = {
        role: accuracy.confusion_matrix(logits, labels).numpy() for role, logits in _test(plan, said).items()
    }
    plots.confusion(folder / "confusion.png", matrices, plan.ground.data.classes)
    if not metrics:  # nothing was trained: all models come from files
        return ("confusion.png",)
    plots.curves(folder / "curves.png", metrics)
    return ("curves.png", "confusion.png")


def _metrics(trained: Saved) -> list[dict[str, Any]]:
    return named_rows(trained.metrics, trained.training.kind, trained.name) if trained.metrics else []


def _predictions(plan: Plan, trained: Saved) -> dict[str, dict[str, Tensor]]:
    """By weights and part. The test part is read here and nowhere else, after all training."""
    data, device = plan.ground.data, plan.ground.machine.device
    parts = {"validation": data.validation, "test": data.test}
    found: dict[str, dict[str, Tensor]] = {}
    for which in trained.weights or ("last",):
        model = load_model(trained, which)
        found[which] = {
            name: accuracy.logits_of(model, plain_batches(part, data, device)())
            for name, part in parts.items()
            if len(part.labels)
        }
    return found


def _report(plan: Plan, models: Mapping[str, Saved], said: Logits, command: str) -> Report:
    run, data = plan.run, plan.ground.data
    networks = {role: load_model(t, plan.ground.headline) for role, t in models.items()}
    threads = latency_threads(plan)
    times = _latency(plan, networks, threads) if run.evaluation.latency else {}
    described = {role: _model(plan, models[role], networks[role], said[role]) for role in models}
    for role, rows in times.items():
        described[role]["latency"] = rows
    labelled = int((data.train.labels >= 0).sum())
    return build(
        kdrun=__version__,
        label=plan.student.folder.name.rpartition("-")[0],
        fingerprint=_inputs(plan),
        created=time.strftime("%Y-%m-%dT%H:%M:%S%z"),
        command=command,
        config=_config(plan),
        equation=plan.equation,
        dataset={
            "name": data.name,
            "classes": len(data.classes),
            "train": len(data.train.labels),
            "labelled": labelled if labelled < len(data.train.labels) else None,
            "validation": len(data.validation.labels),
            "test": len(data.test.labels),
            "image_shape": list(plan.ground.data.image_shape),
        },
        seeds={
            "run": run.seed,
            "teacher": None if plan.student.peer else plan.teacher.seed,
            "label": run.dataset["label_seed"],
            "split": run.dataset["split"],
        },
        headline=plan.ground.headline,
        models=described,
        folders={role: trained.metrics.parent.name for role, trained in models.items() if trained.metrics},
        distillation=_distillation(plan, models["student"]),
        comparison=_comparison(plan, networks, said, times),
        environment=environment(plan.ground.machine, threads),
    )


def _model(
    plan: Plan, trained: Saved, network: nn.Module, said: Mapping[str, Mapping[str, Tensor]]
) -> dict[str, Any]:
    data, record = plan.ground.data, trained.record
    labels = {"validation": data.validation.labels, "test": data.test.labels}
    name = trained.training.model.name
    found: dict[str, Any] = {"name": name, "source": trained.source} | cost.cost(
        network, plan.ground.data.image_shape
    )
    found |= {
        name: record[name]
        for name in ("epochs", "best_epoch", "train_seconds", "waited", "companions")
        if record.get(name) not in (None, [])
    }
    for which, parts in said.items():
        validation = parts.get("validation")
        fitted = (
            accuracy.fit_temperature(validation, labels["validation"]) if validation is not None else None
        )
        found[which] = {  # on validation itself the fitted temperature says nothing
            name: accuracy.scores(logits, labels[name], fitted if name == "test" else None)
            for name, logits in parts.items()
        }
    return found


def _test(plan: Plan, said: Logits) -> dict[str, Tensor]:
    """By role, what the headline's weights say about the test part."""
    return {role: parts.get(plan.ground.headline, parts["last"])["test"] for role, parts in said.items()}


def _comparison(
    plan: Plan,
    networks: Mapping[str, nn.Module],
    said: Logits,
    times: Mapping[str, list[dict[str, Any]]],
) -> dict[str, Any]:
    test = _test(plan, said)
    found = compare.compare(
        test["student"],
        plan.ground.data.test.labels,
        teacher=test.get("teacher"),
        control=test.get("control"),
    )
    told_by = next(iter(plan.student.teachers), plan.teacher)
    if told_by.name not in ("teacher", "peer"):
        found = {key: value for key, value in found.items() if key not in ("agreement", "kl_teacher_student")}
        found |= _likeness(test, told_by.name)
    if plan.student.peer:  # a peer is as good as its student makes it: there is no gap to close
        found = {key: value for key, value in found.items() if key != "gap_closed"} | {"learned_from": "peer"}
    if speeds := latency.speedup(times):
        found["speedup"] = speeds
    if "teacher" in networks:
        found["compression"] = cost.params(networks["teacher"]) / cost.params(networks["student"])
    return found


def _likeness(test: Mapping[str, Tensor], told_by: str) -> dict[str, Any]:
    """How alike the student's answers are to those of the one in between that it learned from."""
    if told_by not in test:
        return {}
    pair = test["student"], test[told_by]
    return {
        "learned_from": told_by,
        "agreement": compare.agreement(*pair),
        "kl_teacher_student": compare.kl_teacher_student(*pair),
    }


def _distillation(plan: Plan, student: Saved) -> dict[str, Any]:
    run = plan.run
    terms = {name: term.get("weight", 1.0) for name, term in run.loss.items()}
    found: dict[str, Any] = {"method": run.method, "terms": terms}
    found |= {name: value for name in ("temperature", "alpha") if (value := getattr(run, name)) is not None}
    found["gradients"] = gradients.summary(_metrics(student))
    found["unlabelled"] = int((plan.ground.data.train.labels[plan.student.rows] < 0).sum()) or None
    if plan.student.teacher_needs:
        kind = answers_plan(plan.student).kind
        found["teacher"] = {"plan": kind} | student.record.get("teacher", {})
    return found


def _latency(plan: Plan, networks: Mapping[str, nn.Module], threads: int) -> dict[str, list[dict[str, Any]]]:
    settings, kind = plan.run.evaluation, plan.ground.machine.device.type
    found: dict[str, list[dict[str, Any]]] = {role: [] for role in networks}
    for device in dict.fromkeys(("cpu", kind)):
        compiled = ("compiled",) if plan.run.runtime.compile else ()
        measured = latency.measure(
            networks,
            plan.ground.data.image_shape,
            settings.batches,
            device=device,
            threads=threads,
            samples=settings.samples,
            seconds=settings.seconds,
            modes=("eager", "graph", *compiled) if device == "cuda" else ("eager",),
        )
        for role, rows in measured.items():
            found[role] += rows
    return found


def _save_student(plan: Plan, student: Saved) -> None:
    """The headline's weights under the model's own names, with all that is needed to use them in the file's
    metadata.
    """
    data, run = plan.ground.data, plan.run
    model = load_model(student, plan.ground.headline)
    metadata = {
        "kdrun": __version__,
        "model": {"name": run.student.name, "family": run.student.family, "args": dict(run.student.args)},
        "stem": run.student.stem,
        "reused": list(model.teacher) if isinstance(model, Reused) else None,
        "pretrained": run.student.pretrained,
        "classes": list(data.classes),
        "image_shape": list(plan.ground.data.image_shape),
        "resize_to": _resized_to(plan),
        "input_size": plan.student.built.image_size,
        "normalisation": {"white": data.white, "mean": list(data.mean), "std": list(data.std)},
        "preprocessing": "float(pixel) / white, minus mean, divided by std, per channel",
        "weights": plan.ground.headline,
        "run": plan.student.fingerprint,
    }
    save_weights(plan.student.folder / "student.safetensors", model.state_dict(), metadata)


def _resized_to(plan: Plan) -> int:
    """What the shorter side of a picture becomes before the centre is cut out that a model sees."""
    seen = min(plan.ground.data.image_shape[1:])
    stored = min(plan.ground.data.train.images.shape[2:])
    return max(seen, stored, plan.run.dataset.get("resize_to") or 0)


def _inputs(plan: Plan) -> str:
    """What a report depends on besides the code: the models, what is measured, on which kind of device."""
    diagnostics = {"diagnostics": list(plan.run.diagnostics)} if plan.run.diagnostics else {}
    return fingerprint(
        {
            "models": {t.name: t.fingerprint for t in plan.trainings},
            "headline": plan.ground.headline,
            "evaluation": dataclasses.asdict(plan.run.evaluation),
            "device": plan.ground.machine.device.type,
        }
        | diagnostics
    )


def _config(plan: Plan) -> dict[str, Any]:
    return dataclasses.asdict(plan.run)


def _config_text(plan: Plan) -> str:
    from omegaconf import OmegaConf

    return OmegaConf.to_yaml(OmegaConf.create(_config(plan)))
