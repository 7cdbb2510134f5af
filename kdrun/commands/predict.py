"""`kdrun predict RUN IMAGE...`: classifies pictures with a finished run's student, and its teacher."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from kdrun.config.options import Options, read_names, read_temperatures, read_whole
from kdrun.errors import KdrunError, visible
from kdrun.figures import plural
from kdrun.garbage import uncollected
from kdrun.paths import expanded
from kdrun.records import PLAN
from kdrun.report import soft
from kdrun.report.naming import run_named
from kdrun.report.read import NAME
from kdrun.terminal import beside, note, padded, shortened, widest, width

if TYPE_CHECKING:
    from kdrun.predictor import Preprocess

USE = (
    "kdrun predict RUN IMAGE..., RUN being a folder in outputs/runs or an exported file, IMAGE a picture or "
    "a folder of pictures"
)

VALUES = ("--packages", "--top", "--temperature")


class PredictOptions(NamedTuple):
    """The answers for each picture. teacher: also the teacher's. top: number of classes. temperatures: soft
    targets at each; empty: the model's own probabilities."""

    teacher: bool = False
    top: int = 1
    temperatures: Sequence[float] = ()

    @property
    def plain(self) -> bool:
        """Whether one class and its probability are the whole answer."""
        return self.top == 1 and not self.temperatures


def main(arguments: Sequence[str]) -> int:
    """Prints a line for each picture. Raises KdrunError for a wrong run or picture."""
    values = {"--format": ("text", "json", "csv"), **dict.fromkeys(VALUES, ())}
    words, options = Options(values=values, switches=("--teacher",)).parse(arguments)
    if len(words) < 2:
        problem = "which pictures?" if words else "which run, and which pictures?"
        raise KdrunError("kdrun predict", None, f"{problem} {USE}")
    asked = PredictOptions(
        "--teacher" in options, read_whole(options, "--top", 1), read_temperatures(options)
    )
    rows = predicted(str(run_named(words[0])), words[1:], asked, read_names(options, "--packages"))
    print(_written(rows, asked, options.get("--format", "text")))
    return 0


def _written(rows: Sequence[dict[str, Any]], asked: PredictOptions, format: str) -> str:
    if format == "json":
        return json.dumps(rows, indent=2)
    rows = visible(list(rows))
    if format == "csv":
        return as_csv(rows, asked).rstrip("\n")
    return as_text(rows, width()) if asked.plain else "\n".join(in_blocks(rows, width()))


def predicted(
    run: str, files: Sequence[str], asked: PredictOptions, packages: Sequence[str] = ()
) -> list[dict[str, Any]]:
    """A row for each file: `{file, class, probability, changed, teacher: {class, probability}}`.

    If several classes are wanted, each model's answer also has `top`; with temperatures `soft_targets`, by
    temperature: `[{class, probability}, ...]`. packages: the user's own, which may define the models.
    """
    with uncollected():
        from kdrun.predictor import load

    models = {"student": load(run, packages=packages)}
    if asked.teacher:
        models["teacher"] = load(run, teacher=True, packages=packages)
    looked = read_pictures(files, models["student"].preprocess)
    images = [image for image, _ in looked.values()]
    answers = {
        role: [_answers(logits, model.classes, asked) for logits in model.logits(images).numpy()]
        for role, model in models.items()
    }
    rows = []
    for position, (file, (_, changed)) in enumerate(looked.items()):
        row: dict[str, Any] = {"file": file} | answers["student"][position]
        row |= {"changed": changed} if changed else {}
        rows.append(row | ({"teacher": answers["teacher"][position]} if asked.teacher else {}))
    return rows


def read_pictures(words: Sequence[str], preprocess: Preprocess) -> dict[str, tuple[Any, str]]:
    """The tensor of each picture, and how it was changed, by its file. A folder stands for all files in it.

    Other files in a folder are left out, with one note. Raises KdrunError for a named file that is not a
    picture, for a folder without pictures, and for the folder of a run.
    """
    pictures: dict[str, tuple[Any, str]] = {}
    left_out: list[str] = []
    for word in words:
        path = expanded(word)
        if not path.is_dir():
            pictures[word] = preprocess.looked_at(word)
            continue
        before = len(pictures)
        for file in _files(path):
            try:
                pictures[file] = preprocess.looked_at(file)
            except KdrunError:
                left_out.append(file)
        if len(pictures) == before:
            raise KdrunError(word, None, "no pictures in it")
    if left_out:
        note(f"{plural(len(left_out), 'file')} left out, not pictures: {_first(left_out)}")
    changed = {file: how for file, (_, how) in pictures.items() if how}
    if len(changed) == 1:
        note(*(f"{file}: {how}, as the training images are" for file, how in changed.items()))
    elif changed:
        note(
            f"{len(changed)} of {plural(len(pictures), 'picture')} changed, as the training images are: "
            f"{_first([f'{file} ({how})' for file, how in changed.items()])}"
        )
    return pictures


def _files(folder: Path) -> Iterator[str]:
    """The files in a folder and in its subfolders, by path, without hidden ones."""
    if (folder / NAME).exists() or (folder / PLAN).exists():
        raise KdrunError(
            str(folder), None, "is the folder of a run, not of pictures; name one run, then pictures"
        )
    from kdrun.data.imagefolder import files_in

    yield from (each.path for each in files_in(folder))


def _first(texts: Sequence[str]) -> str:
    return texts[0] if len(texts) == 1 else f"{texts[0]} and {len(texts) - 1:,} more"


def _answers(logits: Any, classes: Sequence[str], asked: PredictOptions) -> dict[str, Any]:
    def largest(temperature: float) -> list[dict[str, Any]]:
        shares = soft.softened(logits, temperature)
        order = soft.largest(shares, asked.top)
        return [{"class": classes[place], "probability": float(shares[place])} for place in order]

    first = largest(1.0)
    answer = dict(first[0])
    if asked.top > 1:
        answer["top"] = first
    if asked.temperatures:
        answer["soft_targets"] = {f"{value:g}": largest(value) for value in asked.temperatures}
    return answer


def as_csv(rows: Sequence[Mapping[str, Any]], asked: PredictOptions) -> str:
    """A line for each picture, model and temperature: `file,model,temperature,class,probability`, then
    `class_2,probability_2` and so on."""
    sink = io.StringIO()
    writer = csv.writer(sink, lineterminator="\n")
    more = [f"{name}_{place}" for place in range(2, asked.top + 1) for name in ("class", "probability")]
    writer.writerow(["file", "model", "temperature", "class", "probability", *more])
    for row, role, temperature, answers in _each(rows):
        pairs = [text for each in answers for text in (each["class"], f"{each['probability']:.6g}")]
        writer.writerow([row["file"], role, temperature, *pairs])
    return sink.getvalue()


def _each(
    rows: Sequence[Mapping[str, Any]],
) -> Iterator[tuple[Mapping[str, Any], str, str, list[dict[str, Any]]]]:
    """(row, role, temperature, answers) for each picture, model and temperature."""
    for row in rows:
        for role in ("student", "teacher"):
            answer = row if role == "student" else row.get("teacher")
            if answer is not None:
                own = answer.get("top", [answer])
                softer = answer.get("soft_targets", {"1": own})
                yield from ((row, role, t, answers) for t, answers in softer.items())


def in_blocks(rows: Sequence[Mapping[str, Any]], columns: int) -> Iterator[str]:
    """The file, and below it a line for each model and temperature: `teacher T = 4   2: 62 %  3: 13 %`."""
    several = "teacher" in rows[0]
    softer = "soft_targets" in rows[0]
    last = None
    for row, role, temperature, answers in _each(rows):
        if row is not last:
            yield shortened(row["file"], columns)
            last = row
        head = "  " + (f"{role}  " if several else "") + (f"T = {temperature:4} " if softer else "")
        parts = [f"{each['class']}: {soft.share_text(each['probability'])}" for each in answers]
        yield from beside(head, parts, columns)


def as_text(rows: Sequence[dict[str, Any]], columns: int) -> str:
    """A line for each picture: file, class and probability in percent, then the teacher's if it was asked.

    If that is wider than the screen, each model has a line of its own, with long names shortened.
    """
    parts = [("", [row["file"] for row in rows]), ("student", [_answer(row) for row in rows])]
    if "teacher" in rows[0]:
        parts.append(("teacher", [_answer(row["teacher"]) for row in rows]))
    if len(parts) == 2:
        parts[1] = ("", parts[1][1])
    widths = [widest((head, *cells)) for head, cells in parts]
    if sum(widths) + 3 * (len(parts) - 1) > columns:
        return "\n".join(line for row in rows for line in _below(row, columns))
    lines = [[head for head, _ in parts], *zip(*(cells for _, cells in parts), strict=True)]
    text = [
        "   ".join(padded(cell, wide) for cell, wide in zip(line, widths, strict=True)).rstrip()
        for line in lines
    ]
    return "\n".join(filter(None, text))


def _below(row: dict[str, Any], columns: int) -> Iterator[str]:
    """The file, and below it a line for each model."""
    yield shortened(row["file"], columns)
    for who in ("student", "teacher"):
        if who == "student" or who in row:
            head = f"  {who}  " if "teacher" in row else "  "
            yield head + _answer(row if who == "student" else row[who], columns - len(head))


def _answer(answer: dict[str, Any], columns: int | None = None) -> str:
    name, share = answer["class"], f"  {100 * answer['probability']:5.1f} %"
    return (name if columns is None else shortened(name, columns - len(share))) + share
