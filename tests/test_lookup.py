"""Names become modules and arguments are checked, each mistake in one line and in the same words."""

from __future__ import annotations

import inspect
import re
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from kdrun import lookup
from kdrun.data.load import SOURCES
from kdrun.errors import KdrunError
from kdrun.evaluation.evaluators import EVALUATORS
from kdrun.losses.base import Loss
from kdrun.losses.lookup import LOSSES
from kdrun.models.family import FAMILIES

ROOMS: dict[str, lookup.Room[Any]] = {
    "losses": LOSSES,
    "models": FAMILIES,
    "data": SOURCES,
    "evaluation": EVALUATORS,
}


@pytest.fixture
def mine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A user's package, importable."""
    (tmp_path / "looked_up").mkdir()
    (tmp_path / "looked_up" / "__init__.py").write_text("")
    monkeypatch.syspath_prepend(tmp_path)
    yield tmp_path / "looked_up"  # type: ignore[misc]
    for name in [name for name in sys.modules if name.startswith("looked_up")]:
        del sys.modules[name]


@pytest.mark.parametrize("room", ROOMS.values(), ids=ROOMS)
def test_every_name_is_found(room: lookup.Room[Any]) -> None:
    assert len(room.names()) >= 5
    for name in room.names():
        assert lookup.find(room, name, "key")


@pytest.mark.parametrize("room", ROOMS.values(), ids=ROOMS)
@pytest.mark.parametrize("name", ["nosuch", "no-such", "no such", "1st", "a/b"])
def test_a_name_that_does_not_exist_is_one_line(room: lookup.Room[Any], name: str) -> None:
    with pytest.raises(KdrunError) as caught:
        lookup.find(room, name, "key")
    line = rf"key={name}: no such {room.noun}\. (Nearest|Choices): .*"
    assert re.fullmatch(line, str(caught.value))


@pytest.mark.parametrize("room", ROOMS.values(), ids=ROOMS)
@pytest.mark.parametrize("name", ["no.such", "looked_up.nosuch", ".nosuch", "..", "looked_up.", "os.path.x"])
def test_a_module_of_the_users_that_does_not_exist_is_one_line(
    mine: Path, room: lookup.Room[Any], name: str
) -> None:
    with pytest.raises(KdrunError) as caught:
        lookup.find(room, name, "key")
    assert str(caught.value) == f"key={name}: no such {room.noun}"


@pytest.mark.parametrize("room", ROOMS.values(), ids=ROOMS)
def test_a_module_that_holds_something_else_says_what_it_needs(mine: Path, room: lookup.Room[Any]) -> None:
    (mine / "empty.py").write_text("build = read = figures = 5\n")
    with pytest.raises(KdrunError) as caught:
        lookup.find(room, "looked_up.empty", "key")
    assert str(caught.value) == f"key=looked_up.empty: the module must have {room.needs}; it has none"


@pytest.mark.parametrize("room", ROOMS.values(), ids=ROOMS)
def test_an_import_that_fails_inside_a_module_is_not_hidden(mine: Path, room: lookup.Room[Any]) -> None:
    (mine / "broken.py").write_text("import looked_up.deeper\n")
    with pytest.raises(KdrunError, match=r"key=looked_up\.broken: ModuleNotFoundError: .*looked_up\.deeper"):
        lookup.find(room, "looked_up.broken", "key")


class ListOfInt:
    """What `list[int]` is on Python 3.10: it says that it is a class, and is none."""

    __module__ = "aliases"

    @property
    def __class__(self) -> type:  # type: ignore[override]
        return type

    @__class__.setter
    def __class__(self, value: type) -> None: ...


@pytest.mark.parametrize("alias", [ListOfInt(), list[int], Sequence[float], int | None])
def test_an_alias_of_a_type_in_a_module_is_no_class(alias: Any) -> None:
    module = ModuleType("aliases")
    vars(module)["Widths"] = alias
    assert not lookup.is_class(alias) and lookup.is_class(Loss)
    assert LOSSES.things(module) == []


def call(
    number: float,
    count: int = 1,
    name: str | None = None,
    flag: bool = False,
    widths: list[int] = [],  # noqa: B006
    area: Sequence[float] = (),
    either: int | str = 1,
    anything: Mapping[str, int] | None = None,
    unset: int = None,  # type: ignore[assignment]  # noqa: RUF013
    bare=5,  # type: ignore[no-untyped-def]
) -> None: ...


def evaluated(number: float, widths: list[int], area: Sequence[float], name: str | None = None) -> None: ...


evaluated.__annotations__ = {
    "number": float,
    "widths": list[int],
    "area": Sequence[float],
    "name": str | None,
}


def open_ended(first: int, *more: int, **rest: Any) -> None: ...


MISTAKES: list[tuple[Callable[..., Any], dict[str, Any], str]] = [
    (call, {}, "at.number: mine needs it"),
    (call, {"number": 1, "cuont": 2}, "at.cuont: mine has no such argument. Nearest: count, "),
    (call, {"number": "1"}, "at.number=1: a number is needed"),
    (call, {"number": True}, "at.number=True: a number is needed"),
    (call, {"number": None}, "at.number=null: a number is needed"),
    (call, {"number": 1, "count": 1.0}, "at.count=1.0: a whole number is needed"),
    (call, {"number": 1, "count": True}, "at.count=True: a whole number is needed"),
    (call, {"number": 1, "name": 3}, "at.name=3: text is needed (or null)"),
    (call, {"number": 1, "flag": 1}, "at.flag=1: true or false is needed"),
    (call, {"number": 1, "widths": 16}, "at.widths=16: a list of whole numbers is needed"),
    (call, {"number": 1, "widths": [1.5]}, "at.widths=[1.5]: a list of whole numbers is needed"),
    (call, {"number": 1, "area": "ab"}, "at.area=ab: a list of numbers is needed"),
    (call, {"number": 1, "either": 1.5}, "at.either=1.5: a whole number or text is needed"),
    (evaluated, {"number": "a", "widths": [], "area": []}, "at.number=a: a number is needed"),
    (evaluated, {"number": 1, "widths": [""], "area": []}, "at.widths=['']: a list of whole numbers"),
    (evaluated, {"number": 1, "widths": [], "area": 1}, "at.area=1: a list of numbers is needed"),
    (evaluated, {"number": 1, "widths": [], "area": [], "name": 1}, "at.name=1: text is needed (or null)"),
    (open_ended, {"rest": 1}, "at.first: mine needs it"),
]


@pytest.mark.parametrize(("function", "arguments", "line"), MISTAKES)
def test_a_wrong_argument_is_one_line(
    function: Callable[..., Any], arguments: dict[str, Any], line: str
) -> None:
    with pytest.raises(KdrunError) as caught:
        lookup.check_arguments("mine", lookup.parameters(function), arguments, "at")
    assert str(caught.value).startswith(line) and "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("function", "arguments"),
    [
        (call, {"number": 1, "name": None, "unset": None, "anything": None}),
        (call, {"number": 1.5, "name": "a", "widths": [1], "area": (1, 2.5), "either": "x", "bare": None}),
        (call, {"number": 1, "anything": {"a": 1}, "unset": 3, "flag": True}),
        (open_ended, {"first": 1, "whatever": None}),
        (type, {"of which": "Python does not know the parameters"}),
    ],
)
def test_right_arguments_pass(function: Callable[..., Any], arguments: dict[str, Any]) -> None:
    lookup.check_arguments("mine", lookup.parameters(function), arguments, "at")


def test_parameters_that_the_program_gives_are_no_arguments() -> None:
    known = lookup.parameters(call, besides=("number",))
    with pytest.raises(KdrunError, match=r"^at\.number: mine has no such argument\. Nearest: .*other"):
        lookup.check_arguments("mine", known, {"number": 1}, "at", ["numbers of others"])
    assert list(known) == list(inspect.signature(call).parameters)[1:]


def test_code_of_the_users_lies_in_a_listed_package() -> None:
    for path in ("mine", "mine.nets", "mine.nets.small"):
        lookup.refuse_unlisted(path, "key", path, ["other", "mine"])
    for path in ("mines", "mines.nets", "other"):
        with pytest.raises(KdrunError, match=rf"^key={path}: your own code must be in a package that "):
            lookup.refuse_unlisted(path, "key", path, ["mine"])


def test_an_error_is_put_below_a_key() -> None:
    error = KdrunError("temperature", 0, "must be above 0", ["1"], "kdrun list losses")
    assert str(error.below("loss.soft")) == f"loss.soft.{error}"


def test_the_nearest_key_is_that_of_the_last_word() -> None:
    error = KdrunError("loss.temperature.wieght", None, "none", ["temperature", "weight", "a", "b", "c", "d"])
    assert "Nearest: weight" in str(error)
