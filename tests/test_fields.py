"""Plain values against TypedDicts, and the small files that are read with them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, Literal, TypedDict

import pytest

from kdrun.fields import wrong_fields
from kdrun.records import Damaged, read_mark, read_planned, read_rows


class Inner(TypedDict):
    number: float


class Must(TypedDict):
    name: str


class Outer(Must, total=False):
    count: int
    flag: bool
    either: float | str
    maybe: int | None
    kind: Literal["a", "b"]
    words: list[str]
    by_name: dict[str, Inner]
    free: Any
    bag: dict[str, Any]


@pytest.mark.parametrize(
    ("value", "wrong"),
    [
        ({"name": "x", "more": object()}, []),
        ({"name": "x", "count": 1, "flag": True, "maybe": None, "kind": "b", "either": "1", "free": []}, []),
        ({"name": "x", "by_name": {"a": {"number": 1}}, "words": ["w"], "either": 2}, []),
        ({}, ["lacks name"]),
        ({"name": None}, ["name is None"]),
        ({"name": "x", "count": 1.5}, ["count is 1.5"]),
        ({"name": "x", "count": True, "flag": 1}, ["count is True", "flag is 1"]),
        ({"name": "x", "kind": "c", "maybe": "1"}, ["maybe is '1'", "kind is 'c'"]),
        ({"name": "x", "words": ["w", 3], "bag": []}, ["words[1] is 3", "bag is a list"]),
        ({"name": "x", "by_name": {"a": {}, "b": 4}}, ["lacks by_name.a.number", "by_name.b is 4"]),
        ({"name": "x", "words": "w" * 99, "either": {}}, ["either is an object", f"words is '{'w' * 26}..."]),
        ([], ["the content is a list"]),
        (None, ["the content is None"]),
    ],
)
def test_what_is_wrong_is_named(value: Any, wrong: list[str]) -> None:
    assert list(wrong_fields(value, Outer)) == wrong


MARK = {"role": "teacher", "fingerprint": "0", "weights": ["last"], "finished": 1.0, "key": {}}


@pytest.mark.parametrize("read", [read_mark, read_planned])
@pytest.mark.parametrize("text", ["", "{", "[]", "5", "null", "{}", "[" * 100_000, '{"a": 1} x', "\x00"])
def test_a_damaged_file_is_one_error_that_names_it(tmp_path: Path, read: Any, text: str) -> None:
    path = tmp_path / "file.json"
    assert read(path) is None
    path.write_text(text)
    with pytest.raises(Damaged, match=r"file\.json: is damaged: ") as caught:
        read(path)
    assert "\n" not in str(caught.value)


def test_a_mark_is_read_with_or_without_later_fields(tmp_path: Path) -> None:
    path = tmp_path / "model.json"
    for more in ({}, {"sha256": {"last": "0"}, "peers": []}, {"of a later version": 1}):
        path.write_text(json.dumps(MARK | more))
        assert read_mark(path) == MARK | more
    path.write_text(json.dumps(MARK | {"sha256": ["last"]}))
    with pytest.raises(Damaged, match="sha256 is a list"):
        read_mark(path)


def test_links_and_folders_are_no_records(tmp_path: Path) -> None:
    (tmp_path / "there.json").write_text(json.dumps(MARK))
    (tmp_path / "link.json").symlink_to("there.json")
    (tmp_path / "folder.json").mkdir()
    for name, problem in (("link", "is a link"), ("folder", "is a folder")):
        with pytest.raises(Damaged, match=problem):
            read_mark(tmp_path / f"{name}.json")


def test_rows_that_are_none_are_left_out_and_later_ones_count(tmp_path: Path) -> None:
    path = tmp_path / "metrics.jsonl"
    assert read_rows(path) == []
    row = {"epochs": 3, "lr": 0.1, "loss": 1.0}
    rows = [{"epoch": 1, **row}, {"epoch": 2, **row}, {"epoch": 2, **row, "loss": 0.5}]
    rows += [{"epoch": 2, "stage": "student", **row}]
    bad = ["{}", "1", "null", '{"epoch": "1"}', json.dumps({"epoch": 3, **row})[:-9], "\xff"]
    bad += [json.dumps({"epoch": 3, **row, "terms": [1]}), json.dumps({"epoch": 3, **row, "loss": None})]
    path.write_text("\n".join([*bad[:4], *map(json.dumps, rows), *bad[4:]]))
    assert read_rows(path) == [rows[0], rows[2], rows[3]]
