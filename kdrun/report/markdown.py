"""report.md: the whole report on one page, and what its figures mean."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from kdrun.config.choices import PLAIN
from kdrun.figures import (
    ABSENT,
    as_typed,
    count,
    file_size,
    interval,
    minute,
    p_value,
    percent,
    plural,
    points,
    signed,
    times,
)
from kdrun.report import int8, mistakes_page
from kdrun.report.blocks import Block, Bullets, Code, Section, Table, as_markdown, picture
from kdrun.report.caption import caption
from kdrun.report.earlier import kept_from
from kdrun.report.gradients import sentence
from kdrun.report.origin import TRAININGS, origin, trainings
from kdrun.report.rows import rows
from kdrun.report.schema import (
    Against,
    Look,
    ModelReport,
    PoolUse,
    Report,
    Speedup,
    called,
    gap_closed,
    is_bound,
    named_control,
    roles,
    strongest,
    top1,
)
from kdrun.report.verdict import JOINT, TAUGHT, at_chance, gain, its_control, verdict

PLOTS = ("curves.png", "confusion.png", "errors.png", "knowledge.png")
CAPTIONS = {
    "errors.png": "The images that the student has wrong with the highest probability.",
    "knowledge.png": "Dark knowledge: the teacher's soft targets. `kdrun look` shows them for any image.",
}


AGAINST = (
    "control",
    "what it is",
    "validation %",
    "test %",
    "gain, points",
    "95 % interval",
    "p",
    "verdict",
)


def markdown(report: Report, plots: Sequence[str] = PLOTS) -> str:
    """The page. plots: file names in the same folder, shown at the end; pass only those that were made."""
    return "\n".join(_lines(report, plots)) + "\n"


def _lines(report: Report, plots: Sequence[str]) -> Iterator[str]:
    yield f"# {report['label']}"
    yield ""
    yield verdict(report)
    for section in sections(report):
        yield from ("", f"## {section.title}", "", *as_markdown(section.blocks))
    for plot in plots:
        yield from (["", CAPTIONS[plot]] if plot in CAPTIONS else [])
        yield from ("", picture(plot))


def sections(report: Report) -> list[Section]:
    """What follows the verdict, without the pictures; no section is empty."""
    body = [(row.label, row.unit, *row.cells) for row in rows(report, full=True)]
    figures = Table(("", "unit", *(called(report, role) for role in roles(report))), body, left=2)
    every = [
        Section("What was run", list(_what(report))),
        Section("Figures", ["; ".join(caption(report)) + ".", figures]),
        Section("Against each control", controls_of(report)),
        Section("In 8 bits", int8.blocks(report)),
        Section("Where it errs", mistakes_page.blocks(report)),
        Section("What this means", [Bullets(list(_meaning(report)))]),
        Section("Environment", _environment(report)),
    ]
    return [section for section in every if section.blocks]


def _what(report: Report) -> Iterator[Block]:
    if "command" in report:
        yield Code([report["command"]])
    if "equation" in report:
        yield f"Loss of the student: `{report['equation']}`"
    yield Table(("", ""), list(_facts(report)), left=2)
    if trained := list(trainings(report)):
        yield Table(TRAININGS, trained, left=len(TRAININGS))


def _facts(report: Report) -> Iterator[tuple[str, str]]:
    yield "data set", _dataset(report)
    for role in roles(report):
        model = report["models"][role]
        yield called(report, role), f"{model.get('name', '')} ({origin(model)})"
    distillation = report.get("distillation", {})
    if "method" in distillation:
        yield "method", distillation["method"]
    if "terms" in distillation:
        yield "terms", ", ".join(f"{_value(weight)} {name}" for name, weight in distillation["terms"].items())
    for key in ("temperature", "alpha"):
        if key in distillation:
            yield key, _value(distillation[key])
    if "teacher" in distillation:
        yield "teacher asked", ", ".join(_asked(distillation["teacher"]))
    yield "seeds", ", ".join(f"{name} {seed}" for name, seed in report["seeds"].items())
    if "fingerprint" in report:
        yield "fingerprint", f"`{report['fingerprint']}`"
    if "created" in report:
        yield "created", report["created"]
    yield "kdrun", report["kdrun"]


def _dataset(report: Report) -> str:
    dataset = report["dataset"]
    parts = [dataset.get("name", "")]
    if "classes" in dataset:
        parts.append(f"{count(dataset['classes'])} classes")
    if "train" in dataset:
        labelled = f" ({count(dataset['labelled'])} labelled)" if "labelled" in dataset else ""
        parts.append(f"train {count(dataset['train'])}{labelled}")
    parts += [f"{part} {count(dataset[part])}" for part in ("validation", "test") if part in dataset]
    if "test_of" in dataset:
        parts[-1] += f" of {count(dataset['test_of'])} (reduced)"
    if "image_shape" in dataset:
        parts.append("images " + " x ".join(map(str, dataset["image_shape"])))
    return ", ".join(parts)


def _asked(teacher: Mapping[str, object]) -> Iterator[str]:
    if "plan" in teacher:
        yield str(teacher["plan"]) + (f" in {teacher['answers']}" if "answers" in teacher else "")
    for key, words in (("forwards", "images answered"), ("forwards_saved", "saved")):
        if isinstance(number := teacher.get(key), int) and number:
            yield f"{count(number)} {words}"


def controls_of(report: Report) -> list[Block]:
    """What each of several controls is, and the student against each; empty for a run with one control."""
    comparison = report.get("comparison", {})
    every = comparison.get("controls", {})
    if not every:
        return []
    body = [_control_row(report, role, against) for role, against in every.items()]
    chosen = named_control(strongest(report))
    why = f"`{chosen}` is the strongest on validation; no test image chose it."
    if comparison.get("chosen_by") != "validation":
        why = f"Without validation images none can be called the strongest; `{chosen}` is the first of them."
    return [
        Table(AGAINST, body, left=2),
        f"{why} Gain and verdict of the run are against this one, a single comparison. In the table, p is "
        f"McNemar's mid-p with Holm's correction over {plural(len(every), 'control')}; each interval holds "
        "for its row alone.",
    ]


def _words_of_a_control(role: str, model: ModelReport, settings: Mapping[str, Any]) -> str:
    """A control in words. settings: the keys of `controls`."""
    if role == PLAIN:
        return "the same student, start, steps and recipe, no teacher"
    return {
        "smoothed": f"plain, with label smoothing {as_typed(settings.get('smoothing'))}",
        "teacher_free": (
            f"plain, with a virtual teacher (weight {as_typed(settings.get('virtual_weight'))}, "
            f"T={as_typed(settings.get('virtual_temperature'))}, "
            f"{as_typed(settings.get('virtual_true_class'))} for the true class)"
        ),
        "self": "taught by the plain control, as the student is by its teacher",
        "longer": f"plain, for {plural(model.get('epochs', 0), 'epoch')}",
    }.get(named_control(role), "")


def _control_row(report: Report, role: str, against: Against) -> list[str]:
    model, settings = report["models"].get(role, ModelReport()), report.get("config", {}).get("controls", {})
    scores = [top1(report, role, "validation"), top1(report, role, "test")]
    return [
        named_control(role),
        _words_of_a_control(role, model, settings),
        *(ABSENT if score is None else percent(score) for score in scores),
        signed(against["gain_top1"]),
        interval(against["gain_interval"]),
        p_value(against["mcnemar_p"]).removeprefix("= "),
        against["verdict"],
    ]


def _meaning(report: Report) -> Iterator[str]:
    comparison = report.get("comparison", {})
    if "gain_top1" in comparison:
        yield from _about_the_gain(report)
    else:
        yield "Without a control (`control=true`) nobody can tell whether the teacher helped."
    if report["headline"] == "val_best":
        yield "The weights are those of the epoch best on validation; the test part chose nothing."
    if (share := gap_closed(report)) is not None and not at_chance(report):
        yield f"The student closes {percent(share, 0)} % of the gap between control and teacher on test."
    yield from _about_gradients(report)
    yield from _about_calibration(report)
    if "reference" in comparison:
        yield from _about_the_reference(report)
    if "speedup" in comparison:
        yield from _about_speed(comparison["speedup"])
    yield from (_about_earlier(report, look) for look in report.get("earlier", []))
    yield from report.get("notes", [])


def _about_the_gain(report: Report) -> Iterator[str]:
    comparison = report["comparison"]
    p = f"; McNemar's mid-p {p_value(comparison['mcnemar_p'])}" if "mcnemar_p" in comparison else ""
    whom = "the control, the same student trained without the teacher,"
    if strongest(report) != PLAIN or "controls" in comparison:
        whom = its_control(report).replace("its control", "the control")
    elif is_bound(report):
        whom = f"{JOINT}, the same student trained on the labels of all classes at once,"
    yield f"The gain over {whom} is {gain(report)}{p}."
    yield (
        "The interval (Tango 1998) is paired: student and control answer the same test images. It covers the "
        "choice of these images alone. This is one seed: **it does not cover the spread between seeds**, nor "
        "that between label subsets, splits and teachers, which may be larger; `kdrun -m seed=0,1,2` shows "
        "the spread between seeds."
    )
    yield "A difference is claimed only where the interval leaves out 0 and p is below 0.05."
    if "unlabelled" in report.get("distillation", {}) and strongest(report) != TAUGHT:
        word = "gain" if comparison["gain_top1"] > 0 else "difference"
        yield (
            "Through the teacher's answers the student also learned from images without labels, which the "
            f"control cannot use. The {word} is due to the teacher and these images together."
        )
    if pool := report.get("distillation", {}).get("pool"):
        yield _about_the_pool(pool)


def _about_the_pool(pool: PoolUse) -> str:
    """How many images the student alone saw, their source, and which images were left out."""
    chosen = f" of {count(pool['images'])}" if pool["used"] < pool["images"] else ""
    text = (
        f"{count(pool['used'])}{chosen} images of {pool['source']} without labels were for the student alone."
    )
    left_out = pool.get("left_out", [])
    if left_out:
        near = plural(len(left_out), "near-duplicate")
        text += f" Left out: {near} of validation or test images ({', '.join(left_out)})."
    else:
        text += " None of its images is a near-duplicate of a validation or test image."
    if pool.get("repeated"):
        text += f" {plural(pool['repeated'], 'image')} more left out, because they are there already."
    return text


def _about_the_reference(report: Report) -> Iterator[str]:
    against = report["comparison"]["reference"]
    yield (
        f"The reference is the model that the student is to replace. As good means: the difference to it is "
        f"above -{points(against['margin'])} with 95 % (one-sided bound, Tango 1998, of answers to the same "
        "test images). Worse means that it is below that with 95 %; between these, too few images tell. "
        "This is one seed, and the margin is a choice (`reference.margin`), not a result."
    )
    if speeds := against.get("speedup"):
        yield "Speed-up over the reference: " + ", ".join(map(_speedup, speeds)) + "."


def _about_gradients(report: Report) -> Iterator[str]:
    asked = "gradients" in report.get("config", {}).get("diagnostics", [])
    if "gradients" in report.get("distillation", {}):
        yield sentence(report["distillation"]["gradients"])
    elif asked:
        yield (
            "`diagnostics=gradients` was asked for, but the student had been trained before, without it; "
            "`fresh=true` trains it anew."
        )


def _about_calibration(report: Report) -> Iterator[str]:
    labels = {row.label for row in rows(report, full=True)}
    if "NLL test" in labels:
        yield "NLL is the mean negative log-likelihood of the labels."
    if "ECE test" in labels:
        yield (
            "ECE is the expected calibration error (15 bins, Guo et al. 2017): the mean difference between "
            "confidence and accuracy, in points."
        )
    if "ECE test at that temperature" in labels:
        yield "The second ECE is after temperature scaling, with the temperature fitted on validation."


def _about_speed(speeds: Sequence[Speedup]) -> Iterator[str]:
    yield (
        "Latencies are medians; the models took turns, on the same threads. A speed-up counts only if it is "
        "above 1.1 and above the square of the ratio between student and control: these have the same "
        "architecture, so any difference between their latencies is noise."
    )
    yield "Speed-up over the teacher: " + ", ".join(map(_speedup, speeds)) + "."


def _about_earlier(report: Report, look: Look) -> str:
    """What an earlier evaluation measured, and how its machine differed."""
    here, there = report.get("environment", {}), look.get("environment", {})
    others = {**there, "kdrun": look.get("kdrun", report["kdrun"]), "peak_memory": None}.items()
    now = {**here, "kdrun": report["kdrun"], "peak_memory": None}
    differs = ", ".join(f"{name} {value}" for name, value in others if now.get(name) != value)
    figures = ", ".join(kept_from(report, look))
    when = minute(look.get("created", ""))
    return f"Measured by an earlier evaluation, on {when}{f' ({differs})' if differs else ''}: {figures}."


def _speedup(row: Speedup) -> str:
    noise = "" if row["significant"] else " (within the noise)"
    where = row["device"] if row["mode"] == "eager" else f"{row['device']} ({row['mode']})"
    return f"{times(row['ratio'])} at batch {row['batch']} on {where}{noise}"


def _environment(report: Report) -> list[Block]:
    machine = {name: str(value) for name, value in report.get("environment", {}).items()}
    if "peak_memory" in machine:
        machine["peak_memory"] = f"{file_size(int(machine['peak_memory']))}, of the process"
    rows = [(name.replace("_", " "), text) for name, text in machine.items()]
    return [Table(("", ""), rows, left=2)] if rows else []


def _value(value: float | str) -> str:
    return f"{value:g}" if isinstance(value, (int, float)) else str(value)
