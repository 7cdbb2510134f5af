"""The folders of configuration files, what the head of each file says, and names that clash."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

from kdrun.errors import KdrunError

GROUPS = ("dataset", "model", "method", "loss", "recipe", "experiment", "sweep")


NEEDS = ("labels", "logits", "embedding", "feature maps", "classifier", "indices")
"""What a loss may need of the labels, the teacher and the data, in the order of lists."""


PAIR = ("resnet56", "resnet20")
"""The teacher and student, with 100 classes, of the parameters and step costs in file headers."""

NEEDED = re.compile(r"^# needs ([^;\n]*)(?:; adds ([\d,]+) parameter)?", re.MULTILINE)
COSTED = re.compile(r"^# step cost ([\d.]+) \(", re.MULTILINE)
TERM = re.compile(r"^\s*- /loss@(?:phase_one\.)?loss\.\w+: *([\w/]+)", re.MULTILINE)


class Entry(NamedTuple):
    """A configuration file. extra: what follows the bar in its first comment line, such as a paper.

    needs: of a loss, what its line `# needs ...` names; of a method, what its terms need, without the hard
    labels. adds: parameters that are learned besides the student. step: of a method, the number in its line
    `# step cost ...`. None if the file does not say it.
    """

    group: str
    name: str
    description: str
    extra: str
    path: Path
    needs: tuple[str, ...] = ()
    adds: int | None = None
    step: float | None = None


def shipped() -> Path:
    """The folder `conf`: inside the installed package, beside it in a checkout."""
    package = Path(__file__).resolve().parents[1]
    inside = package / "conf"
    return inside if inside.is_dir() else package.parent / "conf"


def entries(folder: Path, group: str) -> Iterator[Entry]:
    """The files of a group, by name."""
    root = folder / group
    for path in sorted(root.rglob("*.yaml")):
        description, extra = heading(path)
        entry = Entry(group, path.relative_to(root).with_suffix("").as_posix(), description, extra, path)
        if group in ("method", "loss"):
            losses = [path] if group == "loss" else list(losses_of(path))
            entry = entry._replace(needs=needs_of(losses), adds=parameters_of(losses))
        yield entry._replace(step=cost_of(path)) if group == "method" else entry


def heading(path: Path) -> tuple[str, str]:
    """The first comment line that is not Hydra's (`# @package ...`), as description and extra."""
    with path.open(encoding="utf-8", errors="replace") as file:
        for line in file:
            if not line.startswith("#"):
                break
            text = line.lstrip("#").strip()
            if text and not text.startswith("@"):
                description, _, extra = text.partition(" | ")
                return description.strip(), extra.strip()
    return "", ""


def losses_of(method: Path) -> Iterator[Path]:
    """The files of a method's losses without that of the hard labels, each once. A user's method may use the
    user's own and the shipped ones.
    """
    for name in sorted(set(TERM.findall(_text(method))) - {"cross_entropy"}):
        files = (root / "loss" / f"{name}.yaml" for root in (method.parents[1], shipped()))
        yield from [file for file in files if file.is_file()][:1]


def needs_of(losses: Sequence[Path]) -> tuple[str, ...]:
    """What some losses need, as their files say: `# needs labels, logits; adds 0 parameters`."""
    lines = [line for line in map(NEEDED.search, map(_text, losses)) if line]
    needs = {word.strip() for line in lines for word in line[1].split(",") if word.strip()}
    return tuple(sorted(needs, key=lambda word: NEEDS.index(word) if word in NEEDS else len(NEEDS)))


def parameters_of(losses: Sequence[Path]) -> int | None:
    """How many parameters the losses add together, None if the file of one does not say it."""
    counts = [line and line[2] for line in map(NEEDED.search, map(_text, losses))]
    return sum(int(count.replace(",", "")) for count in counts if count) if all(counts) else None


def cost_of(method: Path) -> float | None:
    """The time of a step relative to that of kd, as a method's file says."""
    line = COSTED.search(_text(method))
    return float(line[1]) if line else None


def _text(path: Path) -> str:
    return path.read_text(encoding="utf-8", errors="replace")


def refuse_clashes(own: Path, names: tuple[str, ...]) -> None:
    """Raises KdrunError if a user's file has the name of a shipped one, which Hydra would take silently.

    names: models that need no file (torchvision's).
    """
    if not own.is_dir():
        raise KdrunError("--config-dir", own, "no such folder")
    for group in GROUPS:
        taken = {entry.name for entry in entries(shipped(), group)} | set(names if group == "model" else ())
        for entry in entries(own, group):
            if entry.name in taken:
                raise KdrunError(
                    str(entry.path), None, f"kdrun has a {group} of this name; give yours another"
                )


def swept(folders: tuple[Path, ...], group: str, name: str) -> dict[str, str]:
    """The values that a file sweeps over (its `hydra.sweeper.params`), by key; empty if there are none."""
    import yaml

    paths = [folder / group / f"{name}.yaml" for folder in folders]
    existing = [path for path in paths if path.is_file()]
    if not existing:
        return {}
    try:
        content = yaml.safe_load(existing[0].read_text(encoding="utf-8"))
    except (yaml.YAMLError, UnicodeDecodeError):
        return {}  # composing says what is wrong with it
    for key in ("hydra", "sweeper", "params"):
        content = content.get(key) if isinstance(content, dict) else None
    return {str(key): str(values) for key, values in (content or {}).items()}
