"""The source code that a run takes from users' packages: which files, and the hash of each.

Nothing is imported: modules are found as Python would find them, and what they import is read from their
syntax. Followed are modules of the user's packages and modules that lie beside these packages. Files of data,
and modules whose names are made while the program runs, are not seen.
"""

from __future__ import annotations

import ast
import hashlib
import sys
from collections.abc import Iterable, Iterator, Mapping
from importlib.machinery import ModuleSpec
from pathlib import Path
from typing import Any, NamedTuple

INSTALLED = {"site-packages", "dist-packages"}
"""Folders of installed packages: what lies side by side there is not one user's work."""


class Source(NamedTuple):
    """One module. file: `mine/losses.py`. digest: 12 hex digits. imports: modules that it may import."""

    file: str
    digest: str
    imports: tuple[str, ...]


_seen: dict[str, Source] = {}
"""Modules as they were when this process first looked. Python does not read a module twice, so what was
changed since is not what runs here."""


def sources(value: Any, packages: Iterable[str]) -> dict[str, str]:
    """The files of the users' modules that `value` names, and of all that these import: path to digest.

    value: plain values of a configuration; a text names a module as `mine.losses` or `mine.data:Pictures`.
    """
    known = tuple(packages)
    if not known:
        return {}
    roots = {_root(spec) for spec in map(_find, {name.partition(".")[0] for name in known}) if spec}
    left = [name for name in map(_module, _texts(value)) if _inside(name, known)]
    found: dict[str, Source] = {}
    while left:
        name = left.pop()
        source = None if name in found else _source(name)
        if source is not None:
            found[name] = source
            left += [each for each in source.imports if _inside(each, known) or _beside(each, roots)]
    return {source.file: source.digest for source in sorted(found.values())}


def _texts(value: Any) -> Iterator[str]:
    """Every text in nested values that may name a module of a user: with a dot or a colon."""
    if isinstance(value, str) and ("." in value or ":" in value):
        yield value
    for inner in value.values() if isinstance(value, Mapping) else value if _is_list(value) else ():
        yield from _texts(inner)


def _is_list(value: Any) -> bool:
    return isinstance(value, (list, tuple))


def _module(text: str) -> str:
    return text.partition(":")[0]


def _inside(name: str, packages: Iterable[str]) -> bool:
    return any(f"{name}.".startswith(f"{package.partition('.')[0]}.") for package in packages)


def _beside(name: str, roots: set[Path | None]) -> bool:
    """Whether a module lies in the folder that holds a package of the user's."""
    top = name.partition(".")[0]
    if top in sys.builtin_module_names or top in sys.stdlib_module_names or top in ("torch", "kdrun"):
        return False
    spec = _find(top)
    root = _root(spec) if spec else None
    return root is not None and root in roots and not INSTALLED & set(root.parts)


def _root(spec: ModuleSpec) -> Path | None:
    """The folder that holds a top-level module or package."""
    places = list(spec.submodule_search_locations or ()) or ([spec.origin] if spec.origin else [])
    return Path(places[0]).parent if places else None


def _source(name: str) -> Source | None:
    """A module as this process has it, None for a name that is no module with a file."""
    if name in _seen and name in sys.modules:
        return _seen[name]
    spec = _find(name)
    if spec is None:
        return None
    content = _content(spec)
    packaged = spec.submodule_search_locations is not None
    file = Path(spec.origin).name if spec.origin and spec.has_location else ""
    parts = name.split(".") if packaged else name.split(".")[:-1]
    above = {name.rpartition(".")[0]} - {""}  # is run before the module itself
    imports = above | set(_imports(content, ".".join(parts), name if packaged else "")) - {name}
    digest = hashlib.sha256(content.replace(b"\r\n", b"\n")).hexdigest()[:12]
    _seen[name] = Source("/".join([*parts, file]), digest, tuple(sorted(imports)))
    return _seen[name]


def _find(name: str) -> ModuleSpec | None:
    """Where Python would find a module, without importing the packages above it."""
    path, spec, done = None, None, ""
    for part in name.split("."):
        if not part.isidentifier():
            return None
        done = f"{done}.{part}" if done else part
        spec = next(filter(None, (finder.find_spec(done, path) for finder in sys.meta_path)), None)
        if spec is None:
            return None
        path = list(spec.submodule_search_locations or ())
    return spec


def _content(spec: ModuleSpec) -> bytes:
    """The file of a module, or nothing for a folder without `__init__.py`."""
    if not spec.has_location or spec.origin is None:
        return b""
    data: bytes = spec.loader.get_data(spec.origin)  # type: ignore[union-attr]  # reads zip files too
    return data


def _imports(content: bytes, package: str, starred: str) -> Iterator[str]:
    """Names that may be modules, from every import of a source, also within functions.

    package: what relative imports start from. starred: the module itself if it is a package, whose
    `__all__` may name modules.
    """
    try:
        tree = ast.parse(content)
    except (SyntaxError, ValueError):  # a compiled module, or a mistake that the import itself will name
        return
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = _absolute(node.module or "", node.level, package)
            yield base
            yield from (f"{base}.{alias.name}" for alias in node.names)
        elif isinstance(node, ast.Call) and _is_import(node.func) and node.args:
            name = getattr(node.args[0], "value", None)
            if isinstance(name, str):
                plain = name.lstrip(".")
                yield _absolute(plain, len(name) - len(plain), package)
        elif starred and isinstance(node, ast.Assign) and _is_all(node):
            names = getattr(node.value, "elts", ())
            yield from (f"{starred}.{getattr(each, 'value', '')}" for each in names)


def _absolute(name: str, level: int, package: str) -> str:
    if not level:
        return name
    above = package.split(".")
    return ".".join([*above[: len(above) - level + 1], *([name] if name else [])])


def _is_import(function: ast.expr) -> bool:
    return getattr(function, "attr", getattr(function, "id", "")) in ("import_module", "__import__")


def _is_all(node: ast.Assign) -> bool:
    return any(getattr(target, "id", "") == "__all__" for target in node.targets)
