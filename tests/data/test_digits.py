"""The shipped digits: complete, in proportion, read without sklearn or torchvision, refused when damaged."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from kdrun.data import digits
from kdrun.errors import KdrunError

NOWHERE = Path("nowhere")


def test_all_digits_are_there():
    raw = digits.read(NOWHERE)
    assert raw.train.images.shape == (1797, 1, 8, 8)
    assert (int(raw.train.images.min()), int(raw.train.images.max())) == (0, 16)
    assert raw.train.labels.bincount().tolist() == [178, 182, 177, 183, 181, 182, 181, 179, 174, 180]
    assert raw.test is None
    assert raw.classes == tuple("0123456789")


def test_file_is_small_and_states_its_licence():
    assert digits.FILE.stat().st_size < 100_000
    text = digits.FILE.with_name("DIGITS.md").read_text()
    assert "CC BY 4.0" in text
    assert digits.SHA256 in text


@pytest.mark.parametrize("change", [lambda b: b[:-100], lambda b: b[:50] + b"x" + b[51:], lambda b: b""])
def test_a_damaged_file_is_one_error(tmp_path, monkeypatch, change):
    copy = tmp_path / "digits.npz"
    copy.write_bytes(change(digits.FILE.read_bytes()))
    monkeypatch.setattr(digits, "FILE", copy)
    with pytest.raises(KdrunError, match=r"^dataset=digits: .*digits\.npz is damaged; install kdrun again$"):
        digits.read(NOWHERE)


def test_a_missing_file_is_one_error(tmp_path, monkeypatch):
    monkeypatch.setattr(digits, "FILE", tmp_path / "digits.npz")
    with pytest.raises(KdrunError, match="cannot be read"):
        digits.read(NOWHERE)


def test_what_importing_costs():
    """The package imports no torch; digits and their augmentation import no torchvision, scipy or sklearn."""
    code = """if True:
        import sys, pathlib
        import kdrun.data
        assert "torch" not in sys.modules and "numpy" not in sys.modules
        import kdrun.data.load, kdrun.data.resident, kdrun.data.digits
        kdrun.data.digits.read(pathlib.Path("x"))
        print([m for m in ("torchvision", "scipy", "sklearn", "PIL", "torch._dynamo") if m in sys.modules])
    """
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
