"""A run with `quantise=int8` and its files in onnxruntime."""

from __future__ import annotations

from pathlib import Path

import pytest

from kdrun.cli import main
from tests.commands.test_export import needs_onnx
from tests.stages.test_int8 import ARGS, report


@needs_onnx
@pytest.mark.long
def test_with_onnxruntime(tmp_path: Path) -> None:
    assert main([*ARGS, "quantise=int8", f"outputs_dir={tmp_path}"]) == 0
    for own in report(tmp_path)["int8"]["models"].values():
        for name, form in own.items():
            if name != "fp32":
                assert form["in_integers"] == form["layers"] == 3
                assert form["differ"] < 0.5 and form["other_class"] <= 5
                assert (next(tmp_path.glob("runs/*")) / form["file"]).stat().st_size == form["bytes"] < 10_000
