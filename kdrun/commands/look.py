"""`kdrun look RUN`: a teacher's soft targets for test images, or for pictures, at several temperatures."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from kdrun.config.options import FORMAT, Options, print_as_asked, read_names, read_temperatures, read_whole
from kdrun.errors import KdrunError
from kdrun.garbage import uncollected
from kdrun.paths import no_folder
from kdrun.report import sheets, soft
from kdrun.report.naming import run_named
from kdrun.report.read import read
from kdrun.terminal import beside, in_lines, shortened, width, wrapped

if TYPE_CHECKING:
    from kdrun.looking import Looked

OF_A_CLASS = 4
"""The default of --count with --class; without --class it is 1 for each class."""

VALUES = ("--class", "--image", "--count", "--temperature", "--top", "--out", "--packages")


def main(arguments: Sequence[str]) -> int:
    """Prints the soft targets, and draws them with --out. Raises KdrunError."""
    known = Options(values={**dict.fromkeys(VALUES, ()), **FORMAT})
    words, options = known.parse(arguments)
    if not words:
        raise KdrunError("kdrun look", None, "which run? kdrun look RUN [PICTURE ...] [--class NAME]")
    run, out = run_named(words[0]), options.get("--out")
    if out is not None:
        _refuse_out(out)
    asked = read_temperatures(options, _of_run(run))
    top = read_whole(options, "--top", 5)
    looked = _looked(run, words[1:], options)
    rows = as_rows(looked, asked, top)
    print_as_asked(options, rows, as_text(rows, looked.rule, width()))
    if out is not None:
        draw(Path(out), looked, asked)
    return 0


def _refuse_out(out: str) -> None:
    """Raises KdrunError for what cannot be the name of a picture."""
    if not out.lower().endswith(".png"):
        raise KdrunError("--out", out, "must be the name of a .png file")
    if Path(out).is_dir():
        raise KdrunError("--out", out, "is a folder; name a file")
    if no_folder(Path(out).parent):
        raise KdrunError("--out", out, f"{Path(out).parent} is no folder")


def _of_run(run: Path) -> list[float]:
    """1 and the temperature of the run's loss."""
    own = soft.temperature_of(read(run).get("config", {}))
    return [1.0, soft.WITHOUT if own is None or own == 1 else own]


def _looked(run: Path, pictures: Sequence[str], options: Mapping[str, str]) -> Looked:
    """The given pictures, test images by number, or those of the highest entropy at the run's temperature."""
    chosen = [flag for flag in ("--class", "--image", "--count") if flag in options]
    if pictures and chosen:
        raise KdrunError(chosen[0], options[chosen[0]], "chooses test images; leave it out with pictures")
    if "--image" in chosen and len(chosen) > 1:
        raise KdrunError("--image", options["--image"], "names the images; leave out --class and --count")
    rows = _numbers("--image", options["--image"]) if "--image" in options else []
    count = read_whole(options, "--count", OF_A_CLASS if "--class" in options else 1)
    packages = read_names(options, "--packages")
    with uncollected():
        from kdrun import looking

    both = looking.models(run, packages)
    if pictures:
        return looking.of_pictures(both, pictures)
    data = looking.test_part(run, packages)
    if rows:
        return looking.of_rows(data, both, rows)
    return looking.of_each_class(data, both, options.get("--class"), count, _of_run(run)[-1])


def _numbers(flag: str, text: str) -> list[int]:
    """`3,17` as whole numbers from 0. Raises KdrunError."""
    parts = text.strip("[]").split(",")
    if not all(part.strip().isdecimal() for part in parts):
        raise KdrunError(flag, text, "must be whole numbers, as 3,17")
    return [int(part) for part in parts]


def as_rows(looked: Looked, asked: Sequence[float], top: int) -> list[dict[str, Any]]:
    """`{image, truth, teacher, student, soft_targets: {T: {class: probability}}, entropy: {T: nats}}` each.

    The classes are the `top` most probable ones.
    """
    rows = []
    for place, logits in enumerate(looked.logits.numpy()):
        shares = {f"{value:g}": soft.softened(logits, value) for value in asked}
        order = soft.largest(logits, top)
        row: dict[str, Any] = {"image": looked.names[place]}
        row |= {"truth": looked.truths[place]} if looked.truths else {}
        row |= {"teacher": looked.classes[order[0]], "student": looked.student[place]}
        row["soft_targets"] = {
            temperature: {looked.classes[number]: float(own[number]) for number in order}
            for temperature, own in shares.items()
        }
        row["entropy"] = {t: float(soft.entropy(own)) for t, own in shares.items()}
        rows.append(row)
    return rows


def as_text(rows: Sequence[Mapping[str, Any]], rule: str, columns: int) -> Iterator[str]:
    """A line for each image, and below it a line for each temperature, broken between classes if needed."""
    yield from wrapped(f"Soft targets of the teacher: {rule}", columns)
    for row in rows:
        answers = [f"{word} {row[word]}" for word in ("truth", "teacher", "student") if word in row]
        yield ""
        yield from in_lines([shortened(row["image"], columns), *answers], columns)
        for temperature, shares in row["soft_targets"].items():
            head = f"  T = {temperature:4} "
            parts = [f"{name}: {soft.share_text(share)}" for name, share in shares.items()]
            yield from beside(head, parts, columns)


def draw(path: Path, looked: Looked, asked: Sequence[float]) -> None:
    """Draws the soft targets as a picture."""
    images = []
    for place, (pixels, logits) in enumerate(zip(looked.pixels.numpy(), looked.logits.numpy(), strict=True)):
        truth = f"   truth {looked.truths[place]}" if looked.truths else ""
        title = f"{shortened(looked.names[place], 40)}:{truth}   student {looked.student[place]}"
        images.append(sheets.Softened(pixels, title, logits))
    path.parent.mkdir(parents=True, exist_ok=True)
    sheets.knowledge(path, sheets.Knowledge(images, looked.classes, asked, "teacher", looked.rule))
