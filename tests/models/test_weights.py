"""Weight files: read from many tools' layouts, nothing executed, one line for what does not fit."""

from __future__ import annotations

import argparse
import json
import os
import random
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors import safe_open
from safetensors.torch import save_file
from torch import nn

from kdrun.errors import KdrunError
from kdrun.models.weights import damage, load_into, read_weights, save_weights
from tests.unreadable import unreadable


def model() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4))


def test_round_trip_with_metadata(tmp_path: Path) -> None:
    save_weights(tmp_path / "w.safetensors", model().state_dict(), {"classes": ["a", "größe"]})
    found = read_weights(tmp_path / "w.safetensors")
    assert all(torch.equal(found[name], tensor) for name, tensor in model().state_dict().items())
    with safe_open(tmp_path / "w.safetensors", framework="pt") as file:
        about = file.metadata()
    assert json.loads(about["classes"]) == ["a", "größe"] and about["format"] == "pt"
    assert len(json.loads(about["kdrun_sha256"])) == 64  # every value but the format is JSON


def test_equal_weights_are_equal_bytes_in_every_process(tmp_path: Path) -> None:
    code = (
        "import sys, torch; from pathlib import Path; from kdrun.models.weights import save_weights\n"
        "save_weights(Path(sys.argv[1]), {'b': torch.ones(3), 'a': torch.zeros(2, dtype=torch.int64)},"
        " {name: 1 for name in 'zyxwvut'})"
    )
    subprocess.run([sys.executable, "-c", code, str(tmp_path / "one")], check=True)
    tensors = {"b": torch.ones(3), "a": torch.zeros(2, dtype=torch.int64)}
    save_weights(tmp_path / "two", tensors, {name: 1 for name in "zyxwvut"})
    assert (tmp_path / "one").read_bytes() == (tmp_path / "two").read_bytes()


def test_modes_are_the_umasks(tmp_path: Path) -> None:
    before = os.umask(0o027)
    try:
        save_weights(tmp_path / "w.safetensors", model().state_dict(), {})
    finally:
        os.umask(before)
    assert (tmp_path / "w.safetensors").stat().st_mode & 0o777 == 0o640


def test_every_bit_counts(tmp_path: Path) -> None:
    path = tmp_path / "w.safetensors"
    digest = save_weights(path, model().state_dict(), {"classes": ["cat", "dog"]})
    whole = path.read_bytes()
    assert damage(path) == damage(path, digest) == ""
    for place in (9, whole.index(b"cat"), whole.index(b"kdrun_sha256") + 20, len(whole) - 40, len(whole) - 1):
        path.write_bytes(whole[:place] + bytes([whole[place] ^ 1]) + whole[place + 1 :])
        with pytest.raises(KdrunError, match=r"^checkpoint=.*w\.safetensors: (is damaged|cannot be read)"):
            read_weights(path, digest)
    path.write_bytes(whole)
    assert read_weights(path, digest)
    other = tmp_path / "other.safetensors"
    save_weights(
        other, {name: t + 1 for name, t in model().state_dict().items()}, {"classes": ["cat", "dog"]}
    )
    assert damage(other) == "" and "is damaged" in damage(other, digest)  # sound, but of another training


def test_files_of_others_and_of_earlier_versions_are_read(tmp_path: Path) -> None:
    save_file(
        model().state_dict(), tmp_path / "w.safetensors", metadata={"sha256": "0" * 64, "classes": "[]"}
    )
    assert damage(tmp_path / "w.safetensors") == "" and read_weights(tmp_path / "w.safetensors")


def test_a_file_that_may_not_be_read_is_said_as_such(tmp_path: Path) -> None:
    save_weights(tmp_path / "w.safetensors", model().state_dict(), {})
    torch.save(model().state_dict(), tmp_path / "w.pt")
    for name in ("w.safetensors", "w.pt"):
        with unreadable(tmp_path / name) as path, pytest.raises(KdrunError) as caught:
            read_weights(path)
        assert str(caught.value) == f"checkpoint={path}: cannot be read (Permission denied)"


@pytest.mark.parametrize(
    "wrap",
    [
        lambda state: state,
        lambda state: {"state_dict": state, "epoch": 3},
        lambda state: {"model": state, "opt": {"lr": 0.1}},
        lambda state: {"state_dict": {f"module.{name}": t for name, t in state.items()}},
    ],
    ids=["plain", "state_dict", "model", "data parallel"],
)
def test_checkpoints_of_other_tools(tmp_path: Path, wrap: Any) -> None:
    torch.save(wrap(model().state_dict()), tmp_path / "w.pt")
    fresh = nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4))
    load_into(fresh, read_weights(tmp_path / "w.pt"), "teacher.checkpoint", "w.pt")
    assert torch.equal(fresh[0].weight, model()[0].weight)  # type: ignore[index]


def test_nothing_is_executed(tmp_path: Path) -> None:
    class Evil:
        def __reduce__(self) -> Any:
            return (Path.touch, (tmp_path / "executed",))

    torch.save({"state_dict": Evil()}, tmp_path / "w.pt")
    with pytest.raises(KdrunError, match=r"holds a (builtins\.)?getattr, with more in it than tensors"):
        read_weights(tmp_path / "w.pt")
    torch.save(nn.Linear(1, 1), tmp_path / "w.pt")
    with pytest.raises(
        KdrunError, match=r"holds a torch\.nn\.modules\.linear\.Linear, .*: save a state_dict"
    ):
        read_weights(tmp_path / "w.pt")
    assert not (tmp_path / "executed").exists()


def test_settings_of_tools_are_passed_over_and_not_made(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    beside = {
        "args": argparse.Namespace(lr=0.1, path=Path("/tmp")),
        "best": np.float64(76.0),
        "history": np.ones(3),
        "epoch": np.int64(3),
    }
    torch.save({"state_dict": model().state_dict(), **beside}, tmp_path / "w.pt")
    torch.save(
        {"net": model().state_dict(), **beside}, tmp_path / "old.pt", _use_new_zipfile_serialization=False
    )
    monkeypatch.setattr(argparse.Namespace, "__init__", lambda *_, **__: pytest.fail("called"))
    for name in ("w.pt", "old.pt"):
        assert torch.equal(read_weights(tmp_path / name)["0.weight"], model()[0].weight)  # type: ignore[index]


def test_one_bit_of_a_torch_file_is_seen(tmp_path: Path) -> None:
    path = tmp_path / "w.pt"
    torch.save(model().state_dict(), path)
    whole = path.read_bytes()
    place = whole.index(model().state_dict()["0.weight"].numpy().tobytes()) + 5
    path.write_bytes(whole[:place] + bytes([whole[place] ^ 1]) + whole[place + 1 :])
    with pytest.raises(KdrunError, match="cannot be read: damaged"):
        read_weights(path)
    before = torch.serialization.get_crc32_options()
    torch.serialization.set_crc32_options(False)
    try:
        torch.save(model().state_dict(), path)
    finally:
        torch.serialization.set_crc32_options(before)
    assert read_weights(path)  # was written without checksums


def test_files_that_are_none_are_one_line(tmp_path: Path) -> None:
    draw = random.Random(0)
    torch.save({"state_dict": model().state_dict(), "epoch": 3}, tmp_path / "w.pt")
    torch.save(model().state_dict(), tmp_path / "old.pt", _use_new_zipfile_serialization=False)
    contents = [b"", b"root:x:0:0:root:/root:/bin/bash\n", b"PK\x03\x04", b"\x80\x02", b"\x80\x02."]
    for name in ("w.pt", "old.pt"):
        whole = (tmp_path / name).read_bytes()
        for _ in range(60):
            cut, place = draw.randrange(len(whole)), draw.randrange(len(whole))
            contents += [whole[:cut], whole[:place] + draw.randbytes(4) + whole[place + 4 :]]
    for content in contents:
        (tmp_path / "x.pt").write_bytes(content)
        try:
            read_weights(tmp_path / "x.pt")
        except KdrunError as error:
            assert "\n" not in str(error)


@pytest.mark.parametrize("name", ["w.safetensors", "w.pt"])
def test_truncated_files_are_one_line(tmp_path: Path, name: str) -> None:
    path = tmp_path / name
    if name.endswith("pt"):
        torch.save(model().state_dict(), path)
    else:
        save_weights(path, model().state_dict(), {})
    path.write_bytes(path.read_bytes()[:-40])
    with pytest.raises(KdrunError, match="damaged") as caught:
        read_weights(path)
    assert "\n" not in str(caught.value)


def test_a_large_foreign_file_is_refused_unread(tmp_path: Path) -> None:
    path = tmp_path / "image.safetensors"
    with path.open("wb") as file:
        file.truncate(10**12)
    with pytest.raises(KdrunError, match="no file of weights"):
        read_weights(path)


def test_missing_files_and_files_without_weights(tmp_path: Path) -> None:
    with pytest.raises(KdrunError, match="no such file"):
        read_weights(tmp_path / "none.pt")
    for content, instead in (({"epoch": 3, "optimizer": {}}, "epoch, optimizer"), ([1], "a list"), ({}, "")):
        torch.save(content, tmp_path / "w.pt")
        with pytest.raises(KdrunError, match=rf"holds no state dict \(.*\){instead and f', but {instead}'}$"):
            read_weights(tmp_path / "w.pt")


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        (lambda s: s.pop("0.bias"), r"0\.bias is missing \(1 missing, 0 unknown, 0 of another shape\)"),
        (lambda s: s.update(extra=torch.ones(1)), r"extra is not in the model \(0 missing, 1 unknown"),
        (
            lambda s: s.update({"0.weight": torch.ones(5, 3)}),
            r"0\.weight has shape \[5, 3\], the model's \[4, 3\]",
        ),
    ],
    ids=["missing", "extra", "shape"],
)
def test_another_architecture_is_named_and_nothing_is_loaded(change: Any, problem: str) -> None:
    state = {name: torch.zeros_like(tensor) for name, tensor in model().state_dict().items()}
    change(state)
    whole = model()
    with pytest.raises(
        KdrunError, match=rf"^teacher\.checkpoint=x: weights of another architecture: {problem}"
    ):
        load_into(whole, state, "teacher.checkpoint", "x")
    assert torch.equal(whole[0].weight, model()[0].weight)  # type: ignore[index]


def test_a_file_that_claims_to_span_disks_is_damaged(tmp_path: Path) -> None:
    path = tmp_path / "w.pt"
    torch.save({"weight": torch.zeros(2)}, path)
    content = bytearray(path.read_bytes())
    content[content.rfind(b"PK\x06\x07") + 16] = 2  # how many disks the archive has
    path.write_bytes(content)
    with pytest.raises(KdrunError, match="damaged"):
        read_weights(path)
