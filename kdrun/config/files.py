"""The configuration files: where they are, what the header of each says, names that are taken."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import yaml

from kdrun.errors import KdrunError, plain
from kdrun.paths import no_folder

GROUPS = ("model", "method", "loss", "dataset", "recipe", "engine", "experiment", "sweep")
LISTED = {group: f"{group}s" for group in GROUPS} | {
    "loss": "losses",
    "teacher": "models",
    "student": "models",
}
"""What `kdrun list` calls the choices of a group, or of a key."""

CHOSEN = ("dataset", "teacher", "student", "method", "recipe", "engine", "experiment", "sweep")
"""Keys under which a run has one file of a group."""

NEEDS = ("labels", "logits", "embedding", "feature maps", "classifier", "indices")
"""What a loss may need of the labels, the teacher and the data, in the order in which it is listed."""

PAIR = ("resnet56", "resnet20")
"""Teacher and student, with 100 classes, for which headers give parameters and the cost of a step."""

NEEDED = re.compile(r"^# needs ([^;\n]*)(?:; adds ([\d,]+) parameter)?", re.MULTILINE)
COSTED = re.compile(r"^# step cost ([\d.]+) \(", re.MULTILINE)
TERM = re.compile(r"^\s*- /loss@((?:phase_one\.)?loss)\.(\w+): *([\w/]+)", re.MULTILINE)

Read = Callable[[str, str], Mapping[str, Any]]
"""Reads a file of a group by its name. Raises KdrunError for an unknown one, below the key that is given."""


class Entry(NamedTuple):
    """A configuration file. extra: what follows the bar in its first comment line, such as a paper.

    needs: of a loss, what its line `# needs ...` names; of a method, what its terms need, but for the hard
    labels. adds: parameters that are learned beside the student. step: of a method, the number in its line
    `# step cost ...`. None: the file has no such line.
    """

    group: str
    name: str
    description: str
    extra: str
    path: Path
    needs: tuple[str, ...] = ()
    adds: int | None = None
    step: float | None = None


class FileTerm(NamedTuple):
    """A term of a method. key: below which it is, `loss` or `phase_one.loss`. loss: the name of its loss."""

    key: str
    name: str
    loss: str


def shipped() -> Path:
    """The folder `conf`: inside the installed package, beside it in a checkout."""
    package = Path(__file__).resolve().parents[1]
    inside = package / "conf"
    return inside if inside.is_dir() else package.parent / "conf"


def entries(folder: Path, group: str) -> Iterator[Entry]:
    """The files of a group, by name."""
    root = folder / group
    for path in sorted(filter(Path.is_file, root.rglob("*.yaml"))):  # a pipe would be waited for
        description, extra = heading(path)
        entry = Entry(group, path.relative_to(root).with_suffix("").as_posix(), description, extra, path)
        if group in ("method", "loss"):
            losses = [path] if group == "loss" else list(losses_of(path))
            entry = entry._replace(needs=needs_of(losses), adds=parameters_of(losses))
        yield entry._replace(step=step_cost(path)) if group == "method" else entry


def heading(path: Path) -> tuple[str, str]:
    """The first comment line that is not Hydra's (`# @package ...`), as description and extra."""
    with path.open(encoding="utf-8", errors="replace") as file:
        for line in file:
            if not line.startswith("#"):
                break
            text = line.lstrip("#").strip()
            if text and not text.startswith("@"):
                description, _, extra = text.partition(" | ")
                return plain(description.strip()), plain(extra.strip())
    return "", ""


def losses_of(method: Path) -> Iterator[Path]:
    """The files of a method's losses, without that of the hard labels, each once. A user's method may use the
    user's losses and the shipped ones.
    """
    for name in sorted({term.loss for term in terms_of(method)} - {"cross_entropy"}):
        files = (root / "loss" / f"{name}.yaml" for root in (method.parents[1], shipped()))
        yield from [file for file in files if file.is_file()][:1]


def terms_of(method: Path) -> list[FileTerm]:
    """The terms that a method's file lists in its defaults, in order."""
    return [FileTerm(*groups) for groups in TERM.findall(_text(method))]


def needs_of(losses: Sequence[Path]) -> tuple[str, ...]:
    """What losses need, from a line of their files: `# needs labels, logits; adds 0 parameters`."""
    lines = [line for line in map(NEEDED.search, map(_text, losses)) if line]
    needs = {word.strip() for line in lines for word in line[1].split(",") if word.strip()}
    return tuple(sorted(needs, key=lambda word: NEEDS.index(word) if word in NEEDS else len(NEEDS)))


def parameters_of(losses: Sequence[Path]) -> int | None:
    """How many parameters losses add together, from the same line; None if one has no such line."""
    numbers = [line and line[2] for line in map(NEEDED.search, map(_text, losses))]
    return sum(int(number.replace(",", "")) for number in numbers if number) if all(numbers) else None


def step_cost(method: Path) -> float | None:
    """The time of a method's step over that of kd, from its file; None if the file does not give it."""
    line = COSTED.search(_text(method))
    return float(line[1]) if line else None


def _text(path: Path) -> str:
    return path.read_text(encoding="utf-8", errors="replace")


def refuse_clashes(own: Path, names: tuple[str, ...]) -> None:
    """Raises KdrunError if a user's file has the name of a shipped one, which Hydra would take instead.

    names: models that need no file (torchvision's).
    """
    if not own.is_dir():
        raise KdrunError("--config-dir", own, no_folder(own) or "no such folder")
    refuse_schema(own)
    for group in GROUPS:
        taken = {entry.name for entry in entries(shipped(), group)} | set(names if group == "model" else ())
        for entry in entries(own, group):
            if entry.name in taken:
                raise KdrunError(
                    str(entry.path), None, f"kdrun has a {group} of this name; give yours another"
                )


def refuse_schema(own: Path) -> None:
    """Raises KdrunError for a user's file that Hydra would take for the types of all keys."""
    if (own / "schema.yaml").exists():
        raise KdrunError(str(own / "schema.yaml"), None, "kdrun has a file of this name; give yours another")


MOST_BYTES = 10**6
"""Of a user's file: reading a larger one would take minutes."""

MOST_VALUES = 100_000
"""Values of a file, with what its aliases stand for: more are a mistake, and would fill the memory."""


def refuse_endless(own: Path, words: Sequence[str]) -> None:
    """Raises KdrunError for a file of the user that is too large or too deep, or whose aliases stand for too
    many values, or for themselves.

    words: as typed, which name the files that are used.
    """
    names = {name for word in words for name in re.split(r"[=,]", word)[1:]}
    for path in (path for path in sorted(own.rglob("*.yaml")) if path.stem in names and path.is_file()):
        if path.stat().st_size > MOST_BYTES:
            raise KdrunError(str(path), None, f"is larger than {MOST_BYTES:,} bytes")
        try:
            node = yaml.compose(path.read_text(encoding="utf-8"), yaml.SafeLoader)
            values = _values(node, {})
        except (yaml.YAMLError, OSError, UnicodeDecodeError):
            continue  # said where the file is used
        except RecursionError:
            raise KdrunError(str(path), None, "its values are nested too deeply") from None
        if values > MOST_VALUES:
            raise KdrunError(str(path), None, f"its aliases stand for more than {MOST_VALUES:,} values")


LONGEST_NAME = 255
"""Letters of a file's name; a longer one cannot be."""


def refuse_impossible_names(words: Sequence[str]) -> None:
    """Raises KdrunError for the name of a file that no system could have, or that leads out of its group."""
    for word in words:
        key, _, value = word.lstrip("+~").partition("=")
        if key not in CHOSEN or value[:1] in ("[", "{"):
            continue
        for name in value.split(","):
            if len(name) > LONGEST_NAME or name.startswith("/") or ".." in name.split("/"):
                raise KdrunError(key, name, f"no such {key}")


def _values(node: Any, known: dict[int, float]) -> float:
    """How many values a node of YAML is; inf if it is within itself. known: of nodes by their ids."""
    if id(node) not in known:
        known[id(node)] = math.inf
        inner = node.value if node is not None and isinstance(node.value, list) else ()
        parts = (part for each in inner for part in (each if isinstance(each, tuple) else (each,)))
        known[id(node)] = 1 + sum(_values(part, known) for part in parts)
    return known[id(node)]


def swept(folders: Sequence[Path], group: str, name: str) -> dict[str, str]:
    """The values that a file sweeps over (its `hydra.sweeper.params`), by key; empty if it has none. Raises
    KdrunError for what is no mapping.
    """
    file, content = _read(folders, group, name)
    for key in ("hydra", "sweeper", "params"):
        content = content.get(key)
        if content is None:
            return {}
        if not isinstance(content, dict):
            problem = f"{key} must be a mapping: hydra: {{sweeper: {{params: {{KEY: 'a,b'}}}}}}"
            raise KdrunError(str(file), None, problem)
    return {str(key): str(values) for key, values in content.items()}


OF = "of_"
"""`of_cifar100`: the model of that data set's pair, which a run takes if it names none."""

OTHERWISE = {"teacher": "cnn_digits", "student": "cnn_digits_small"}
"""The pair of a data set that names none: small models for any image."""


def paired(dataset: str, role: str, folders: Sequence[Path]) -> str:
    """The name of the model in a role, by the data set's file or by the file that it builds on."""
    _, content = _read(folders, "dataset", dataset)
    pair = content.get("pair")
    if isinstance(pair, Mapping) and pair.get(role):
        return str(pair[role])
    bases = [entry for entry in content.get("defaults") or [] if isinstance(entry, str) and entry != "_self_"]
    return paired(bases[0], role, folders) if bases else OTHERWISE[role]


def _read(folders: Sequence[Path], group: str, name: str) -> tuple[Path | None, Any]:
    """A file of a group, with its content; {} without a file, or if it is damaged, which composing says."""
    file = next(filter(Path.is_file, (folder / group / f"{name}.yaml" for folder in folders)), None)
    try:
        content = content_of(file) if file else {}
    except (OSError, ValueError, yaml.YAMLError):  # ValueError: not UTF-8, or a number of thousands of digits
        content = {}
    return file, content if isinstance(content, dict) else {}


def content_of(path: Path) -> Any:
    """The content of a YAML file."""
    return yaml.safe_load(path.read_text(encoding="utf-8"))
