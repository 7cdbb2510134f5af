"""Where the configuration files lie, what each says of itself, and names that hide one another."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from kdrun.errors import KdrunError

GROUPS = ("dataset", "model", "method", "loss", "recipe", "experiment", "sweep")


NEEDS = ("labels", "logits", "embedding", "feature maps", "classifier", "indices")
"""What a loss may need of the labels, the teacher and the data, in the order in which it is told."""


class Entry(NamedTuple):
    """A configuration file. extra: what follows the bar in its first comment line, such as a paper.

    needs: of a loss, what its line `# needs ...` names; of a method, what its terms need, but for the hard
    labels.
    """

    group: str
    name: str
    description: str
    extra: str
    path: Path
    needs: tuple[str, ...] = ()


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
        needs = told_needs(path) if group == "loss" else needs_of_terms(path) if group == "method" else ()
        yield Entry(group, path.relative_to(root).with_suffix("").as_posix(), description, extra, path, needs)


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


def told_needs(path: Path) -> tuple[str, ...]:
    """What a loss's file says it needs: `# needs labels, logits; adds 0 parameters`."""
    line = re.search(r"^# needs ([^;\n]*)", path.read_text(encoding="utf-8", errors="replace"), re.MULTILINE)
    return tuple(word.strip() for word in line[1].split(",") if word.strip()) if line else ()


def needs_of_terms(path: Path) -> tuple[str, ...]:
    """What the losses of a method need together; a user's method may use his losses and the shipped ones."""
    text = path.read_text(encoding="utf-8", errors="replace")
    names = set(re.findall(r"^\s*- /loss@loss\.\w+: *([\w/]+)", text, re.MULTILINE)) - {"cross_entropy"}
    files = [root / "loss" / f"{name}.yaml" for name in names for root in (path.parents[1], shipped())]
    found = {word for file in files if file.is_file() for word in told_needs(file)}
    return tuple(sorted(found, key=lambda word: NEEDS.index(word) if word in NEEDS else len(NEEDS)))


def refuse_clashes(own: Path, names: tuple[str, ...]) -> None:
    """Raises KdrunError where a user's file has the name of a shipped one, which would silently win.

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
    """The values that a file sweeps over (its `hydra.sweeper.params`), by key; empty where there are none."""
    import yaml

    paths = [folder / group / f"{name}.yaml" for folder in folders]
    found = [path for path in paths if path.is_file()]
    if not found:
        return {}
    try:
        content = yaml.safe_load(found[0].read_text(encoding="utf-8"))
    except (yaml.YAMLError, UnicodeDecodeError):
        return {}  # composing says what is wrong with it
    for key in ("hydra", "sweeper", "params"):
        content = content.get(key) if isinstance(content, dict) else None
    return {str(key): str(values) for key, values in (content or {}).items()}
