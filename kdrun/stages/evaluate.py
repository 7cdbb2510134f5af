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
from kdrun.plan.answers import plan
from kdrun.plan.plan import Assembly
from kdrun.plan.training import Training
from kdrun.plan.words import latency_threads
from kdrun.progress.journal import as_lines
from kdrun.progress.screen import Screen
from kdrun.report import gradients, markdown, plots, table
from kdrun.report.read import read
from kdrun.report.schema import Report, build
from kdrun.stages.called import epochs_as
from kdrun.stages.saved import Trained, finished, load_trained

Logits = dict[str, dict[str, dict[str, Tensor]]]
"""By role, weights (`last`, `val_best`) and part (`validation`, `test`): (N, K) float32 on the CPU."""


def is_current(assembly: Assembly) -> bool:
    """Whether the run's report is there, of these very models and with all that is asked for."""
    folder = assembly.student.folder
    if assembly.run.fresh or not (folder / "report.json").exists():
        return False
    if any(finished(t, False) is None for t in assembly.trainings() if _was_trained(assembly, t)):
        return False
    return bool(read(folder)["fingerprint"] == _inputs(assembly))


def evaluate(assembly: Assembly, models: Mapping[str, Trained], command: str, shown: Screen) -> None:
    """Evaluates what is there (a teacher or a control may be missing), writes the report, shows it."""
    folder = assembly.student.folder
    with locked(folder, lambda who: shown.say(f"evaluate waits for {who}")):
        sweep_parts(folder)
        said = {role: _predictions(assembly, trained) for role, trained in models.items()}
        content = _report(assembly, models, said, command)
        _save_student(assembly, models["student"])
        metrics = [row for trained in models.values() for row in _metrics(trained)]
        write_text(folder / "metrics.jsonl", as_lines(metrics))
        write_text(folder / "config.yaml", _config_text(assembly))
        drawn = _draw(assembly, said, metrics) if assembly.run.evaluation.plots else ()
        write_text(folder / "report.md", markdown.markdown(content, drawn))
        write_json(folder / "report.json", content)
    show(assembly, shown)


def show(assembly: Assembly, shown: Screen, note: str = "") -> None:
    """The paths, the table, the verdict: the last thing on the screen."""
    folder = assembly.student.folder
    content = read(folder)
    possible = ("report.md", "report.json", "curves.png", "confusion.png", "student.safetensors")
    names = [name for name in possible if (folder / name).exists()]
    shown.say(f"\n{folder}{f'   {note}' if note else ''}\n  {'  '.join(names)}\n")
    shown.show(table.render(content))


def _draw(assembly: Assembly, said: Logits, metrics: list[dict[str, Any]]) -> tuple[str, ...]:
    """Draws what there are figures for. Returns the names of the pictures."""
    folder, labels = assembly.student.folder, assembly.data.test.labels
    matrices = {
        role: accuracy.confusion_matrix(logits, labels).numpy()
        for role, logits in _test(assembly, said).items()
    }
    plots.confusion(folder / "confusion.png", matrices, assembly.data.classes)
    if not metrics:  # nothing was trained: all models come from files
        return ("confusion.png",)
    plots.curves(folder / "curves.png", metrics)
    return ("curves.png", "confusion.png")


def _metrics(trained: Trained) -> list[dict[str, Any]]:
    return epochs_as(trained.role, trained.metrics) if trained.metrics else []


def _predictions(assembly: Assembly, trained: Trained) -> dict[str, dict[str, Tensor]]:
    """By weights and part. The test part is read here and nowhere else, after all training."""
    data, device = assembly.data, assembly.place.device
    parts = {"validation": data.validation, "test": data.test}
    found: dict[str, dict[str, Tensor]] = {}
    for which in trained.weights or ("last",):
        model = load_trained(assembly, trained, which)
        found[which] = {
            name: accuracy.logits_of(model, plain_batches(part, data, device)())
            for name, part in parts.items()
            if len(part.labels)
        }
    return found


def _report(assembly: Assembly, models: Mapping[str, Trained], said: Logits, command: str) -> Report:
    run, data = assembly.run, assembly.data
    networks = {role: load_trained(assembly, t, assembly.headline) for role, t in models.items()}
    threads = latency_threads(assembly)
    times = _latency(assembly, networks, threads) if run.evaluation.latency else {}
    described = {role: _model(assembly, models[role], networks[role], said[role]) for role in models}
    for role, rows in times.items():
        described[role]["latency"] = rows
    labelled = int((data.train.labels >= 0).sum())
    return build(
        kdrun=__version__,
        label=assembly.student.folder.name.rpartition("-")[0],
        fingerprint=_inputs(assembly),
        created=time.strftime("%Y-%m-%dT%H:%M:%S%z"),
        command=command,
        config=_config(assembly),
        equation=assembly.equation,
        dataset={
            "name": data.name,
            "classes": len(data.classes),
            "train": len(data.train.labels),
            "labelled": labelled if labelled < len(data.train.labels) else None,
            "validation": len(data.validation.labels),
            "test": len(data.test.labels),
            "image_shape": list(assembly.image_shape),
        },
        seeds={
            "run": run.seed,
            "teacher": None if assembly.mutual else assembly.chain[0].teacher.seed,
            "label": run.dataset["label_seed"],
            "split": run.dataset["split"],
        },
        headline=assembly.headline,
        models=described,
        folders={role: trained.metrics.parent.name for role, trained in models.items() if trained.metrics},
        distillation=_distillation(assembly, models["student"]),
        comparison=_comparison(assembly, networks, said, times),
        environment=environment(assembly.place, threads),
    )


def _model(
    assembly: Assembly, trained: Trained, network: nn.Module, said: Mapping[str, Mapping[str, Tensor]]
) -> dict[str, Any]:
    data, record = assembly.data, trained.record
    labels = {"validation": data.validation.labels, "test": data.test.labels}
    names = {training.role: training.node.name for training in assembly.trainings()}
    name = assembly.teacher.node.name if trained.source == "peer" else names[trained.role]
    found: dict[str, Any] = {"name": name, "source": trained.source} | cost.cost(
        network, assembly.image_shape
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


def _test(assembly: Assembly, said: Logits) -> dict[str, Tensor]:
    """By role, what the headline's weights say about the test part."""
    return {role: parts.get(assembly.headline, parts["last"])["test"] for role, parts in said.items()}


def _comparison(
    assembly: Assembly,
    networks: Mapping[str, nn.Module],
    said: Logits,
    times: Mapping[str, list[dict[str, Any]]],
) -> dict[str, Any]:
    test = _test(assembly, said)
    found = compare.compare(
        test["student"], assembly.data.test.labels, teacher=test.get("teacher"), control=test.get("control")
    )
    if assembly.below:
        found = {key: value for key, value in found.items() if key not in ("agreement", "kl_teacher_student")}
        found |= _likeness(test, assembly.teacher.role)
    if assembly.mutual:  # a peer is as good as its student makes it: there is no gap to close
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


def _distillation(assembly: Assembly, student: Trained) -> dict[str, Any]:
    run = assembly.run
    terms = {name: term.get("weight", 1.0) for name, term in run.loss.items()}
    found: dict[str, Any] = {"method": run.method, "terms": terms}
    found |= {name: value for name in ("temperature", "alpha") if (value := getattr(run, name)) is not None}
    found["gradients"] = gradients.summary(_metrics(student))
    found["unlabelled"] = int((assembly.data.train.labels[assembly.student.rows] < 0).sum()) or None
    if assembly.uses_teacher:
        kind = plan(assembly, assembly.teacher_needs).kind
        found["teacher"] = {"plan": kind} | student.record.get("teacher", {})
    return found


def _latency(
    assembly: Assembly, networks: Mapping[str, nn.Module], threads: int
) -> dict[str, list[dict[str, Any]]]:
    settings, kind = assembly.run.evaluation, assembly.place.device.type
    found: dict[str, list[dict[str, Any]]] = {role: [] for role in networks}
    for device in dict.fromkeys(("cpu", kind)):
        compiled = ("compiled",) if assembly.run.runtime.compile else ()
        measured = latency.measure(
            networks,
            assembly.image_shape,
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


def _save_student(assembly: Assembly, student: Trained) -> None:
    """The headline's weights under the model's own names, with all that is needed to use them in the file's
    metadata.
    """
    data, run = assembly.data, assembly.run
    model = load_trained(assembly, student, assembly.headline)
    metadata = {
        "kdrun": __version__,
        "model": {"name": run.student.name, "family": run.student.family, "args": dict(run.student.args)},
        "stem": run.student.stem,
        "reused": list(model.teacher) if isinstance(model, Reused) else None,
        "pretrained": run.student.pretrained,
        "classes": list(data.classes),
        "image_shape": list(assembly.image_shape),
        "resize_to": _resized_to(assembly),
        "input_size": assembly.built["student"].image_size,
        "normalisation": {"white": data.white, "mean": list(data.mean), "std": list(data.std)},
        "preprocessing": "float(pixel) / white, minus mean, divided by std, per channel",
        "weights": assembly.headline,
        "run": assembly.student.fingerprint,
    }
    save_weights(assembly.student.folder / "student.safetensors", model.state_dict(), metadata)


def _resized_to(assembly: Assembly) -> int:
    """What the shorter side of a picture becomes before the centre is cut out that a model sees."""
    seen = min(assembly.image_shape[1:])
    stored = min(assembly.data.train.images.shape[2:])
    return max(seen, stored, assembly.run.dataset.get("resize_to") or 0)


def _inputs(assembly: Assembly) -> str:
    """What a report depends on besides the code: the models, what is measured, on which kind of device."""
    diagnostics = {"diagnostics": list(assembly.run.diagnostics)} if assembly.run.diagnostics else {}
    return fingerprint(
        {
            "models": {t.role: t.fingerprint for t in assembly.trainings()},
            "headline": assembly.headline,
            "evaluation": dataclasses.asdict(assembly.run.evaluation),
            "device": assembly.place.device.type,
        }
        | diagnostics
    )


def _config(assembly: Assembly) -> dict[str, Any]:
    return dataclasses.asdict(assembly.run)


def _config_text(assembly: Assembly) -> str:
    from omegaconf import OmegaConf

    return OmegaConf.to_yaml(OmegaConf.create(_config(assembly)))


def _was_trained(assembly: Assembly, training: Training) -> bool:
    if training.role == "student":
        return "student" in assembly.run.stages or not assembly.run.student.checkpoint
    return not training.loaded
