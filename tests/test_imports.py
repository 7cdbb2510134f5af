"""Imports point downwards, and what only answers questions does not import torch."""

from __future__ import annotations

import ast
import functools
import subprocess
import sys
from collections import deque
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parents[1] / "kdrun"

FLOORS = (
    ("config",),
    ("losses", "models", "data", "evaluation"),  # which know nothing of each other
    ("training",),
    ("report",),
    ("plan",),
    ("progress",),
    ("stages",),
    ("check", "search"),
    ("predictor", "run_data"),
    ("looking", "export"),
    ("commands",),
    ("cli",),
    ("__main__",),
)
"""From the first floor up. The ground is every other file directly in kdrun/, and kdrun itself."""

GROUND = {"kdrun.models.names": "names", "kdrun.config.choices": "choices"}
"""Files of higher rooms that hold names only, and that the ground may have."""

ALSO = {
    ("evaluation", "models"): {"kdrun.models.taps"},
}
"""What may be imported beside that."""

APART = {"losses", "models", "data", "evaluation"}
"""Usable alone from Python: these know no configuration either."""

TORCHLESS = {
    *("config", "report", "artefacts", "beats", "figures", "sources", "cli", "commands"),
    *("errors", "lookup", "nested", "quantities", "resources", "schedule", "names", "choices"),
    *("fields", "garbage", "records", "terminal"),
    "users_code",
}


def room(module: str) -> str:
    """The part of the house that a module belongs to."""
    if module in GROUND:
        return GROUND[module]
    return module.split(".")[1] if "." in module else ""


def name_of(path: Path) -> str:
    """`kdrun.losses.kd`, from its file."""
    return ".".join(path.relative_to(PACKAGE.parent).with_suffix("").parts).removesuffix(".__init__")


MODULES = {name_of(path): path for path in sorted(PACKAGE.rglob("*.py"))}


@functools.cache
def tree_of(module: str) -> ast.Module:
    """Parsed when a test asks for it: collecting tests should not read the whole house."""
    return ast.parse(MODULES[module].read_text(encoding="utf-8"))


def imported(tree: ast.AST) -> Iterator[str]:
    """Every module that is imported, at the top or in a function."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, "imports are absolute"
            yield from (
                f"{node.module}.{alias.name}" if node.module == "kdrun" else node.module
                for alias in node.names
            )


def floor(name: str) -> int:
    """0: the ground."""
    for number, rooms in enumerate(FLOORS, 1):
        if name in rooms:
            return number
    assert name in ("", *GROUND.values()) or (PACKAGE / f"{name}.py").is_file(), f"{name} has no floor"
    return 0


def own(tree: ast.AST) -> set[str]:
    return {name for name in imported(tree) if name.split(".")[0] == "kdrun" and name != "kdrun.__version__"}


@pytest.mark.parametrize("module", MODULES)
def test_imports_point_downwards(module: str) -> None:
    here = room(module)
    for name in own(tree_of(module)):
        there = room(name)
        if there == here or name in ALSO.get((here, there), ()):
            continue
        assert floor(there) < floor(here) or floor(here) == 0, f"{module} imports {name}"
        assert not (here in APART and there == "config"), f"{module} imports {name}"


def files_imported(tree: ast.AST) -> set[str]:
    """The modules of kdrun that are imported, wherever that stands; kdrun itself, the version, left out."""
    found = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            inside = {f"{node.module}.{alias.name}" for alias in node.names}
            found |= (inside & MODULES.keys()) or {str(node.module)}
    return found & MODULES.keys() - {"kdrun"}


def circles(imports: Mapping[str, set[str]]) -> list[str]:
    """`a -> b -> a`: for each import that lies on a circle, the shortest circle through it, each one once."""
    found = {}
    edges = [(here, there) for here, several in imports.items() for there in several]
    for here, there in edges:
        paths, seen = deque([[here, there]]), {there}
        while paths and paths[0][-1] != here:
            path = paths.popleft()
            new = [name for name in sorted(imports.get(path[-1], ())) if name == here or name not in seen]
            seen |= set(new)
            paths.extend([*path, name] for name in new)
        if paths:
            circle = paths[0][:-1]
            first = circle.index(min(circle))
            turned = circle[first:] + circle[:first]
            found[" -> ".join([*turned, turned[0]])] = True
    return sorted(found)


def test_circles_are_found() -> None:
    imports = {"a": {"b"}, "b": {"c", "d"}, "c": {"a"}, "d": {"b"}, "e": {"a"}, "f": {"f"}, "g": set[str]()}
    assert circles(imports) == ["a -> b -> c -> a", "b -> d -> b", "f -> f"]


def test_files_do_not_import_each_other_in_circles() -> None:
    """Neither at the top, nor in a function, nor for types alone."""
    found = circles({module: files_imported(tree_of(module)) for module in MODULES})
    assert not found, "\n".join(found)


def top_level(tree: ast.Module) -> Iterator[str]:
    """What importing the module imports."""
    for node in tree.body:
        if isinstance(node, ast.Import | ast.ImportFrom):
            yield from imported(node)


def test_who_must_not_import_torch_does_not() -> None:
    for module in MODULES:
        if room(module) in TORCHLESS:
            heavy = {name.split(".")[0] for name in top_level(tree_of(module))} & {
                "torch",
                "torchvision",
                "matplotlib",
            }
            assert not heavy, f"{module} imports {heavy}"


QUESTIONS = (
    (["--help"], 0),
    (["--version"], 0),
    (["list"], 0),
    (["list", "models", "--format", "json"], 0),
    (["--cfg", "job"], 0),
    (["-sc", "install=bash"], 0),
    (["seed=abc"], 2),
    (["report", "nowhere"], 2),
    (["check", "seed=abc"], 2),
    (["check", "-m", "seed=0,1"], 2),
    (["outputs", "nowhere"], 2),
    (["tune", "--help"], 0),
    (["tune"], 2),
    (["tune", "temperature=interval(5,1)"], 2),
    (["outputs", "."], 2),
    (["predict"], 2),
    (["predict", "--help"], 0),
    (["explain", "lr"], 0),
    (["list", "models", "resnet"], 0),
    (["continue"], 2),
    (["compare", "a"], 2),
    (["export"], 2),
    (["export", "nowhere"], 2),
    (["export", ".", "--to", "zip"], 2),
)


def test_the_package_itself_imports_nothing() -> None:
    program = "import sys, kdrun; assert callable(kdrun.load); print([n for n in sys.modules if '.' in n])"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert "kdrun." not in done.stdout and "torch" not in done.stdout


def test_questions_are_answered_without_torch() -> None:
    program = f"""
import sys
from kdrun.cli import main
for question, code in {QUESTIONS!r}:
    assert main(question) == code, question
    assert not {{"torch", "torchvision", "matplotlib"}} & set(sys.modules), question
"""
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, cwd=PACKAGE.parent, check=False
    )
    assert done.returncode == 0, done.stderr
