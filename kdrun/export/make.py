"""Exports a finished student: writes each file, checks it on the test part, and keeps it if it is good."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypedDict, cast

import torch
from torch import Tensor, nn

from kdrun import __version__
from kdrun.artefacts import aside, file_hash, read_json, sweep_parts, write_json, write_text, write_whole
from kdrun.data.batches import calibration
from kdrun.data.images import ImageSet
from kdrun.errors import KdrunError
from kdrun.evaluation import latency
from kdrun.evaluation.accuracy import logits_of
from kdrun.export import card
from kdrun.export.check import BATCHES, Checked, checked, problem, top1_of
from kdrun.export.program import program
from kdrun.fields import wrong_fields
from kdrun.figures import plural
from kdrun.machine import Machine, environment, torch_threads
from kdrun.models.described import read_about
from kdrun.models.exported import opened
from kdrun.models.formats import FORMATS, Format, Student, format_named
from kdrun.models.weights import OWN
from kdrun.predictor import FILE, load
from kdrun.report.read import NAME, read
from kdrun.report.schema import Report, top1
from kdrun.run_data import CPU, batches, data_of

RECORD, USE, CARD = "export.json", "use.py", "README.md"

FOLDER = "export"
"""The folder in the run's folder, if no other is named."""

FAR_OFF = 0.01
"""The largest allowed difference from the report's top-1, as a share of the test images. Another device can
change a few answers; a larger difference means another data set.
"""


class Exports(TypedDict):
    """The content of export.json. student: its identity. eager: the student's top-1 with its interval, on
    `images` test images. files: the checked figures by format. latency: rows by `eager` and format, measured
    in turns on this `cpu`.
    """

    kdrun: str
    torch: str
    cpu: str
    student: str
    images: int
    eager: dict[str, Any]
    files: dict[str, dict[str, Any]]
    latency: dict[str, list[dict[str, Any]]]


@dataclass(frozen=True)
class ExportedRun:
    """A finished run, ready to be exported: its student on the CPU, its data, its logits on the test part.

    identity: the SHA-256 of the student's file.
    """

    report: Report
    identity: str
    student: Student
    data: ImageSet
    logits: Tensor
    threads: int


def export(
    run: Path,
    names: Sequence[str],
    out: Path | None = None,
    packages: Sequence[str] = (),
    data_dir: str | None = None,
    say: Callable[[str], None] = lambda line: None,
) -> Path:
    """Exports the student of a finished run to formats (`FORMATS`). Returns the folder with the files.

    Earlier good files of the same student stay, and are timed again beside the new ones. say: gets a line for
    each step. Raises KdrunError; a file that fails its check is not kept.
    """
    formats = {name: format_named(name) for name in names}
    source = _source(run, tuple(packages), data_dir)
    folder = out or run / FOLDER
    if folder.exists() and not folder.is_dir():
        raise KdrunError("--out", str(folder), "is a file")
    folder.mkdir(parents=True, exist_ok=True)
    sweep_parts(folder)
    record = _record(folder, source, ours=out is None)
    with torch_threads(source.threads):
        for name, kind in formats.items():
            say(f"{kind.file}: written, then used on {plural(record['images'], 'test image')}")
            figures = _made(kind, source, folder)
            size = (folder / kind.file).stat().st_size
            record["files"][name] = {"file": kind.file, "bytes": size, **figures}
            write_json(folder / RECORD, record)
        say("latency: all of them, taking turns")
        record["latency"] = _latency(source, folder, record["files"])
    write_json(folder / RECORD, record)
    if use := program([file["file"] for file in record["files"].values()], source.student.about):
        write_text(folder / USE, use)
    write_text(folder / CARD, card.text(source.report, record, source.student.about))
    return folder


def _source(run: Path, packages: tuple[str, ...], data_dir: str | None) -> ExportedRun:
    """What an export needs. Raises KdrunError for a run that is not finished, or whose data are missing."""
    model = load(run, packages=packages).model
    if not run.is_dir():
        raise KdrunError(
            str(run), None, f"an export is tested on the run's data: name its folder, with {NAME}"
        )
    report = read(run)
    stated = dict(read_about(run / FILE))
    identity = str(stated.pop(OWN, file_hash(run / FILE)))
    data = data_of(report, packages, data_dir)
    if not len(data.test.labels):
        raise KdrunError(data.name, None, "has no test images, and an export is tested")
    threads = int(report.get("environment", {}).get("threads", 1))
    with torch_threads(threads):
        logits = logits_of(model, batches(data, max(BATCHES)))
    _refuse_other_data(report, data, logits)
    return ExportedRun(
        report, identity, Student(model, stated, lambda: calibration(data)), data, logits, threads
    )


def _refuse_other_data(report: Report, data: ImageSet, logits: Tensor) -> None:
    """Raises KdrunError if the student does not answer the test part as its report says."""
    reported, here = top1(report, "student", "test"), top1_of(logits, data.test.labels)[0]
    if reported is not None and abs(reported - here) > 100 * FAR_OFF:
        shown = f"{here:.1f} % here, {reported:.1f} % in {NAME}"
        raise KdrunError(data.name, None, f"not the images that the run was tested on: top-1 is {shown}")


def _record(folder: Path, source: ExportedRun, ours: bool) -> Exports:
    """A new record, with the earlier good files of the same student in the folder.

    ours: whether the folder is in the run's: then files of an earlier student are removed. Raises KdrunError
    for another folder with files of another student.
    """
    value, interval = top1_of(source.logits, source.data.test.labels)
    new = Exports(
        kdrun=__version__,
        torch=str(torch.__version__),
        cpu=environment(Machine(CPU, "fp32", source.threads), source.threads)["cpu"],
        student=source.identity,
        images=len(source.data.test.labels),
        eager={"top1": value, "interval": interval},
        files={},
        latency={},
    )
    old = _earlier(folder)
    files = {name: kind.file for name, kind in FORMATS.items() if (folder / kind.file).is_file()}
    if old and old["student"] == source.identity:
        new["files"] = {name: old["files"][name] for name in files if name in old["files"]}
    elif ours:
        for file in files.values():
            (folder / file).unlink()
    elif held := [name for name in (*files.values(), USE, CARD, RECORD) if (folder / name).exists()]:
        problem = f"holds {held[0]}, which is not of this student; name another folder"
        raise KdrunError("--out", str(folder), problem)
    return new


def _earlier(folder: Path) -> Exports | None:
    """The record of an earlier export; None without one, or if it is damaged."""
    try:
        old = read_json(folder / RECORD)
    except (OSError, ValueError):
        return None
    return None if next(wrong_fields(old, Exports), "") else cast(Exports, old)


def _made(kind: Format, source: ExportedRun, folder: Path) -> Checked:
    """Writes a file, checks it and puts it into the folder. Raises KdrunError if it is not good."""
    with aside(folder) as place:
        path = place / kind.file
        kind.write(source.student, path)
        try:
            figures = checked(opened(path, source.threads).model, source.logits, source.data)
        except KdrunError:
            raise
        except Exception as error:  # a runtime may raise any error for a batch that it cannot take
            raise _failed(kind, f"cannot be used: {type(error).__name__}: {error}") from error
        if wrong := problem(figures, kind.exact):
            raise _failed(kind, wrong)
        write_whole(folder / kind.file, lambda temporary: shutil.copyfile(path, temporary))
        return figures


def _failed(kind: Format, what: str) -> KdrunError:
    error = KdrunError(kind.file, None, f"{what}. It is not kept")
    error.while_running = True
    return error


def _latency(source: ExportedRun, folder: Path, files: Mapping[str, Any]) -> dict[str, list[dict[str, Any]]]:
    """Rows by `eager` and format, as `kdrun.evaluation.latency.measure` gives them, on the CPU."""
    settings = source.report.get("config", {}).get("evaluation", {})
    models: dict[str, nn.Module] = {"eager": source.student.model}
    models |= {
        name: opened(folder / FORMATS[name].file, source.threads).model for name in FORMATS if name in files
    }
    return latency.measure(
        models,
        source.data.image_shape,
        settings.get("batches", (1, 32)),
        threads=source.threads,
        samples=settings.get("samples", 200),
        seconds=settings.get("seconds", 1.0),
    ).rows
