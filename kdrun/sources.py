"""The source files that a run uses from users' packages, with their hashes.

No module is imported: files are found as Python would find them, and imports are read from their syntax.
Modules of the user's packages and modules beside these packages are followed. Data files, and modules whose
names are made at run time, are not seen.
"""

from __future__ import annotations

import ast
import hashlib
import sys
from collections.abc import Iterable, Iterator, Mapping
from importlib.machinery import ModuleSpec
from pathlib import Path
from typing import Any, NamedTuple

from kdrun.lookup import is_listed
from kdrun.users_code import INSTALLED


class SourceFile(NamedTuple):
    """One module. file: `mine/losses.py`. digest: 12 hex digits. imports: modules that it can import."""

    file: str
    digest: str
    imports: tuple[str, ...]


_seen: dict[str, SourceFile] = {}
"""Modules as this process first read them. Python reads a module only once, so later changes do not run."""


def sources(value: Any, packages: Iterable[str]) -> dict[str, str]:
    """The files of the users' modules that `value` names, and of those that they import: path to digest.
    value: plain values of a configuration, with texts such as `mine.losses` or `mine.data:Pictures`.
    """
    known = {package.partition(".")[0] for package in packages}
    if not known:
        return {}
    roots = {_root(spec) for spec in map(_find, known) if spec}
    names = (text.partition(":")[0] for text in _texts(value))
    left = [name for name in names if is_listed(name, known)]
    read: dict[str, SourceFile] = {}
    while left:
        name = left.pop()
        source = None if name in read else _source(name)
        if source is not None:
            read[name] = source
            left += [each for each in source.imports if is_listed(each, known) or _beside(each, roots)]
    return {source.file: source.digest for source in sorted(read.values())}


def _texts(value: Any) -> Iterator[str]:
    """Every text in nested values that can name a module of a user: it has a dot or a colon."""
    if isinstance(value, str) and ("." in value or ":" in value):
        yield value
    parts = value.values() if isinstance(value, Mapping) else value
    for inner in parts if isinstance(value, (Mapping, list, tuple)) else ():
        yield from _texts(inner)


def _beside(name: str, roots: set[Path | None]) -> bool:
    """Whether a module is in the folder that holds a package of the user."""
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


def _source(name: str) -> SourceFile | None:
    """A module as this process runs it, None for a name that is not a module."""
    if name in _seen and name in sys.modules:
        return _seen[name]
    spec = _find(name)
    if spec is None:
        return None
    content = _content(spec)
    packaged = spec.submodule_search_locations is not None
    file = Path(spec.origin).name if spec.origin and spec.has_location else ""
    parts = name.split(".") if packaged else name.split(".")[:-1]
    above = {name.rpartition(".")[0]} - {""}  # runs before the module itself
    imports = above | set(_imports(content, ".".join(parts), name if packaged else "")) - {name}
    digest = hashlib.sha256(content.replace(b"\r\n", b"\n")).hexdigest()[:12]
    _seen[name] = SourceFile("/".join([*parts, file]), digest, tuple(sorted(imports)))
    return _seen[name]


def _find(name: str) -> ModuleSpec | None:
    """The spec of a module as Python would find it, without importing the packages above it."""
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
    """The file of a module; empty for a folder without `__init__.py`."""
    if not spec.has_location or spec.origin is None:
        return b""
    data: bytes = spec.loader.get_data(spec.origin)  # type: ignore[union-attr]  # reads zip files too
    return data


def _imports(content: bytes, package: str, starred: str) -> Iterator[str]:
    """Names that can be modules, from every import of a source, also within functions. package: the start of
    relative imports. starred: the module's own name if it is a package, whose `__all__` can name modules.
    """
    try:
        tree = ast.parse(content)
    except (SyntaxError, ValueError):  # a compiled module, or a mistake that the import will name
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
