"""README.md of exported files: a model card in the form of the Hugging Face hub.

Fields of the front matter: https://github.com/huggingface/hub-docs/blob/main/modelcard.md
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import yaml

from kdrun.config.choices import PLAIN, is_control
from kdrun.export.tables import answers, as_markdown, caption, latencies, verdict
from kdrun.figures import count, percent, plural, signed
from kdrun.report.schema import Report, called, is_bound, roles, strongest, top1
from kdrun.report.verdict import its_control

LICENCES = {
    "digits": "CC BY 4.0, as the UCI Machine Learning Repository states it (E. Alpaydin, C. Kaynak, 1998)"
}
"""The licences of data sets that kdrun knows, by source."""

PLACES = ("data_dir", "outputs_dir")
"""Keys about the run's machine, which a card leaves out."""

UNKNOWN = "unknown to kdrun; look it up before you pass the files on"


def text(report: Report, record: Mapping[str, Any], about: Mapping[str, Any]) -> str:
    """The card for the files in a record (export.json). about: the metadata in the files."""
    front = yaml.safe_dump(dict(_front(report, record, about)), sort_keys=False, allow_unicode=True)
    return f"---\n{front}---\n\n" + "\n".join(_body(report, record, about)) + "\n"


def _front(report: Report, record: Mapping[str, Any], about: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    yield "license", "unknown"
    yield "pipeline_tag", "image-classification"
    yield "tags", ["image-classification", "knowledge-distillation", "kdrun", *_kinds(record)]
    yield "datasets", [report["dataset"]["name"]]
    if known := [name for role in ("student", "teacher") if (name := hub_name(report, role))]:
        yield "base_model", known[0] if len(known) == 1 else known
    yield "metrics", ["accuracy"]
    measured = {"eager": record["eager"]["top1"]} | {n: f["top1"] for n, f in record["files"].items()}
    data = {"name": report["dataset"]["name"], "type": report["dataset"]["name"], "split": "test"}
    metrics = [
        {"type": "accuracy", "value": round(value / 100, 6), "name": f"top-1 ({name})"}
        for name, value in measured.items()
    ]
    task = {"type": "image-classification", "name": "Image Classification"}
    results = [{"task": task, "dataset": data, "metrics": metrics}]
    yield "model-index", [{"name": report["label"], "results": results}]


def _kinds(record: Mapping[str, Any]) -> list[str]:
    """The hub's tags for the libraries of the files."""
    kinds = {"pt2": "pytorch", "onnx": "onnx", "int8": "onnx"}
    return sorted({kinds[name] for name in record["files"]})


def hub_name(report: Report, role: str) -> str:
    """The hub's name for a model's pretrained weights; empty if they are not from the hub."""
    began = report["models"].get(role, {}).get("began_from", "")
    node = report.get("config", {}).get(role) or {}
    return f"timm/{began}" if began and node.get("family") == "timm" and not node.get("checkpoint") else ""


def _body(report: Report, record: Mapping[str, Any], about: Mapping[str, Any]) -> Iterator[str]:
    models, method = report["models"], report.get("distillation", {}).get("method", "")
    student = models["student"]
    yield from (f"# {report['label']}", "")
    yield (
        f"An image classifier, `{student['name']}`, distilled with kdrun {report['kdrun']}"
        + (f" by `{method}`" if method else "")
        + (f" from `{models['teacher']['name']}`." if "teacher" in models else ".")
    )
    yield from ("", "## Use", "", "```", *_uses(record, about), "```", "")
    yield from _inputs(about)
    if "pt2" in record["files"]:
        yield from ("", "`torch.export.load` can execute what is in a .pt2: open only files that you trust.")
    yield from (
        "",
        "## The files, checked by use",
        "",
        caption(record),
        "",
        *as_markdown(answers(record)),
        "",
    )
    if sentence := verdict(record):
        yield from (sentence, "")
    threads = next((rows[0]["threads"] for rows in record["latency"].values() if rows), None)
    if threads:
        yield f"Median and p95 on {record['cpu']}, {plural(threads, 'thread')}, taking turns."
        yield from ("", *as_markdown(latencies(record)), "")
    yield from ("## Beside teacher and control", "", *as_markdown(list(_roles(report))), "")
    yield from _gain(report)
    yield from ("## Data", "", *_data(report), "", "## Licences", "", *_licences(report), "")
    yield from ("## How it was made", "", "```", report.get("command", "not recorded"), "```", "")
    yield from (f"`{report.get('equation', '')}`", "", "Configuration:", "", "```yaml")
    config = {key: value for key, value in report.get("config", {}).items() if key not in PLACES}
    yield yaml.safe_dump(config, sort_keys=False, allow_unicode=True).rstrip()
    yield "```"


def _uses(record: Mapping[str, Any], about: Mapping[str, Any]) -> Iterator[str]:
    for file in record["files"].values():
        if about["image_shape"][0] in (1, 3):
            yield f"python use.py {file['file']} picture.png    # without kdrun"
        yield f"kdrun predict {file['file']} picture.png"


def _inputs(about: Mapping[str, Any]) -> Iterator[str]:
    channels, height, width = about["image_shape"]
    means = about["normalisation"]
    mean, std = (", ".join(f"{value:g}" for value in means[key]) for key in ("mean", "std"))
    yield (
        f"Input `images`: float32 (N, {channels}, {height}, {width}), any N. Pixels from 0 to 1, minus "
        f"mean ({mean}), divided by std ({std}). Output `logits`: (N, {len(about['classes'])}). Classes, "
        "mean, std and size are in each file: the extra file `kdrun.json` of a .pt2, the metadata of that "
        "name of an .onnx."
    )


def _roles(report: Report) -> Iterator[tuple[str, ...]]:
    yield "", "model", "top-1 test %", "parameters"
    for role in roles(report):
        model, value = report["models"][role], top1(report, role, "test")
        params = count(model["params"]) if "params" in model else "-"
        yield (
            called(report, role) if is_control(role) else role,
            model["name"],
            "-" if value is None else percent(value),
            params,
        )


def _gain(report: Report) -> Iterator[str]:
    paired = report.get("comparison", {})
    if "gain_top1" in paired:
        low, high = paired["gain_interval"]
        about = (
            "The control has the same architecture, start, recipe and steps, and no teacher. Gain over it: "
        )
        if strongest(report) != PLAIN or "controls" in paired or is_bound(report):
            about = f"Gain over {its_control(report).rstrip(',')}: "
        yield (
            f"{about}{signed(paired['gain_top1'])} points (95 % interval {signed(low)} to {signed(high)}, "
            "over the test images only: one seed)."
        )
        yield ""


def _data(report: Report) -> Iterator[str]:
    data = report["dataset"]
    labelled = f", {count(data['labelled'])} of them with labels" if "labelled" in data else ""
    yield (
        f"`{data['name']}`: {plural(data['classes'], 'class', 'classes')}, {count(data['train'])} training "
        f"images{labelled}, {count(data.get('validation', 0))} for validation, "
        f"{count(data['test'])} for the test."
    )


def _licences(report: Report) -> Iterator[str]:
    config = report.get("config", {})
    source = str((config.get("dataset") or {}).get("source"))
    yield f"- data: {LICENCES.get(source, UNKNOWN)}"
    for role in ("teacher", "student"):
        if role in report["models"]:
            began = report["models"][role].get("began_from")
            yield f"- {role}: {_of_weights(config, role, began)}"
    yield "- these files: unknown; it depends on the licences of the data and of the weights"


def _of_weights(config: Mapping[str, Any], role: str, began: str | None) -> str:
    """The origin of a model's weights, and their licence."""
    if began is None:
        return "drawn at random and trained on the data above"
    node = config.get(role) or {}
    if node.get("family") == "timm" and not node.get("checkpoint"):
        import timm

        known = timm.get_pretrained_cfg(str(node["name"]).partition("/")[2])
        return f"began from `{began}` of timm, licence: {(known and known.license) or UNKNOWN}"
    return f"began from `{began}`, licence: {UNKNOWN}"
