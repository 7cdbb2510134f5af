"""Student and control in 8 bits: the table, and the sentence that says whether the gain survives."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from kdrun.config.choices import PLAIN
from kdrun.figures import ABSENT, count, file_size, interval, p_value, percent, plural, signed
from kdrun.report.blocks import Block, Table
from kdrun.report.schema import Against, Int8, Int8Model, Report
from kdrun.report.tables import aligned
from kdrun.terminal import widest

FP32, AFTER = "fp32", "ptq"

ROLES = ("student", PLAIN)

FORMS = {FP32: "fp32", AFTER: "int8 untrained", "labels": "int8 labels", "teacher": "int8 teacher"}
"""The forms of a model, as a table names them."""

HOW = {
    AFTER: "quantised after training",
    "labels": "trained for int8 with labels",
    "teacher": "trained for int8 with the teacher",
}

HEAD = ("", "student", "change, 95 %", "control", "change, 95 %", "gain", "95 %")
CHANGES = (2, 4)
"""The columns of HEAD that are left out in a narrow terminal."""

FILES = ("file", "size", "layers in integers", "largest difference of logits", "other class")


def lines(report: Report, width: int = 80) -> list[str]:
    """The table for a screen."""
    body = [HEAD, *rows(report["int8"])]
    whole = aligned(body)
    if widest(whole) <= width:
        return whole
    return aligned([[cell for place, cell in enumerate(row) if place not in CHANGES] for row in body])


def rows(content: Int8) -> Iterator[tuple[str, ...]]:
    """A row under HEAD for each form. top-1 in percent; changes from its own fp32 and gains in points."""
    for name, label in FORMS.items():
        student, control = (content["models"][role][name] for role in ROLES)
        gain = content.get("gains", {}).get(name, Against())
        yield (
            label,
            _top1(student),
            _ends(student.get("change_interval")),
            _top1(control),
            _ends(control.get("change_interval")),
            signed(gain["gain_top1"]) if "gain_top1" in gain else ABSENT,
            _ends(gain.get("gain_interval")),
        )


def sentences(report: Report) -> str:
    """Whether the gain of distillation survives 8 bits; empty if it was not measured."""
    content = report.get("int8", Int8())
    if "gain" not in content:
        return ""
    return f"{_claim(content['gains'][FP32], content['gain'])}: {_evidence(content)}; {_changed(content)}."


def _claim(before: Against, gain: Against) -> str:
    if before["verdict"] == "better":
        return {
            "better": "The gain of distillation survives int8",
            "worse": "The gain of distillation does not survive int8: the student is worse",
            "no measurable difference": "The gain of distillation is not measurable any more in int8",
        }[gain["verdict"]]
    loss = "distillation loses" if before["verdict"] == "worse" else "distillation has no measurable gain"
    return {
        "better": f"In fp32 {loss}, in int8 it gains",
        "worse": f"In fp32 {loss}, in int8 it loses",
        "no measurable difference": f"In fp32 {loss}, in int8 there is no measurable difference",
    }[gain["verdict"]]


def _evidence(content: Int8) -> str:
    """`student (...) 90.4 %, control (...) 84.1 %, +6.3 points (95 % interval ..., p < 0.001)`."""
    gain, shown = content["gain"], []
    for role in ROLES:
        form = content["chosen"][role]
        called = "plain control" if role == PLAIN else "student"
        shown.append(f"{called} ({HOW[form]}) {percent(content['models'][role][form]['top1'])} %")
    why = "each at its best on validation" if content["chosen_by"] == "validation" else "without a choice"
    sure = f"95 % interval {interval(gain['gain_interval'])}, p {p_value(gain['mcnemar_p'])}"
    return f"{', '.join(shown)}, {why}: {signed(gain['gain_top1'])} points ({sure})"


def _changed(content: Int8) -> str:
    low, high = content["change_interval"]
    before, change = signed(content["gains"][FP32]["gain_top1"]), signed(content["change"])
    noise = "within the noise" if low <= 0 <= high else "more than noise"
    return f"in fp32 {before}, a change of {change} ({interval((low, high))}), {noise}"


def blocks(report: Report) -> list[Block]:
    """The section of report.md without its title; empty if nothing was measured."""
    content = report.get("int8")
    if content is None:
        return []
    below = "Each file gave these answers; the last two columns compare them with the fake quantisation."
    table, files = Table(HEAD, list(rows(content))), Table(FILES, list(_files(content)))
    return [table, " ".join(_meaning(content)), below, files]


def _meaning(content: Int8) -> Iterator[str]:
    yield (
        "Top-1 on the whole test part in %, of the int8 files in onnxruntime; weights have "
        f"{content['bits']} bits per channel, activations 8. Change: from the same model in fp32; gain: "
        "student minus control; in points, with paired 95 % intervals over the test images (Tango 1998), one "
        "seed."
    )
    yield (
        f"Untrained: quantised as it is, ranges from {plural(content['images'], 'training image')}. Labels, "
        f"teacher: {plural(content['epochs'], 'more epoch')} in fake quantisation from the "
        "fp32 weights, the same steps for student and control."
    )
    if not content.get("own_loss"):
        yield "The teacher gives soft targets there, since the run's loss reads more than logits."
    yield (
        "In the last row the control learns from the teacher as well, for int8 alone: its gain is what "
        "distillation before that adds."
    )


def _files(content: Int8) -> Iterator[Sequence[str]]:
    for form in (form for role in ROLES for form in content["models"][role].values() if "file" in form):
        inside = f"{form['in_integers']} of {form['layers']}"
        apart = f"{form['differ']:.1e}", count(form["other_class"])
        yield form["file"], file_size(form["bytes"]), inside, *apart


def _top1(form: Int8Model) -> str:
    return percent(form["top1"]) if "top1" in form else ABSENT


def _ends(ends: Sequence[float] | None) -> str:
    return ABSENT if ends is None else interval(ends)
