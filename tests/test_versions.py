"""scripts/versions: which environments it makes, what it installs and counts, and how it ends."""

from __future__ import annotations

import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from tests.scripts import loaded

ROOT = Path(__file__).parents[1]
SUITE = '<testsuite tests="{}" failures="{}" errors="{}" skipped="{}"/>'
REPORTS = {  # by pytest's exit status
    0: f"<testsuites>{SUITE.format(9, 0, 0, 2)}{SUITE.format(1, 0, 0, 0)}</testsuites>",
    1: f"<testsuites>{SUITE.format(9, 1, 1, 2)}{SUITE.format(1, 0, 0, 0)}</testsuites>",
}


@pytest.fixture
def script(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    module = loaded("versions")
    monkeypatch.setattr(module, "BUILT", tmp_path / "built")
    return module


class Pretended:
    """Takes the place of `Environment.run`: pip takes torch 2.15.0; statuses: how tests end, by version."""

    def __init__(self, statuses: dict[str, int]) -> None:
        self.statuses = statuses
        self.pytest: list[tuple[str, str]] = []

    def __call__(self, environment: Any, *command: str) -> int:
        torch = "2.15.0" if environment.torch == "pip" else f"{environment.torch}.0"
        site = environment.folder / "lib" / "python3.11" / "site-packages"
        if "install" in command:
            for name, version in (("torch", f"{torch}+cu132"), ("hydra-core", "1.3.8")):
                (site / f"{name}.dist-info").mkdir(parents=True)
                text = f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n"
                (site / f"{name}.dist-info" / "METADATA").write_text(text)
        if "pytest" in command:
            self.pytest.append((torch, command[-1]))
            (report,) = [Path(part.partition("=")[2]) for part in command if part.startswith("--junitxml=")]
            report.write_text(REPORTS[self.statuses[torch]])
            return self.statuses[torch]
        return self.statuses.get("pip", 0) if "install" in command else 0


def test_each_version_once_in_one_table(
    script: ModuleType, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    run = Pretended({"2.6.0": 1, "2.15.0": 0})
    monkeypatch.setattr(script.Environment, "run", lambda self, *command: run(self, *command))
    wanted = ["--python", sys.executable, "--torch", "2.6,pip,2.15", "--", "tests/losses"]
    assert script.main(wanted) == 1
    assert run.pytest == [("2.6.0", "tests/losses"), ("2.15.0", "tests/losses")]
    *_, head, older, newer, problem = capsys.readouterr().out.splitlines()
    assert head.split() == [
        "python", "torch", "torchvision", "hydra-core", "passed", "failed", "skipped", "seconds",
    ]  # fmt: skip
    assert older.split()[1:-1] == ["2.6.0+cu132", "-", "1.3.8", "6", "2", "2"]
    assert newer.split()[1:-1] == ["2.15.0+cu132", "-", "1.3.8", "8", "0", "2"]
    assert "torch 2.6: pytest ends with status 1, see" in problem
    assert not [path for path in script.BUILT.iterdir() if path.is_dir()]


def test_success_and_kept_environments(script: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    run = Pretended({"2.15.0": 0})
    monkeypatch.setattr(script.Environment, "run", lambda self, *command: run(self, *command))
    assert script.main(["--python", sys.executable, "--torch", "pip", "--keep"]) == 0
    assert [path.name.partition("-")[2] for path in script.BUILT.iterdir() if path.is_dir()] == ["torch-pip"]


def test_an_installation_that_fails(
    script: ModuleType, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    run = Pretended({"pip": 1})
    monkeypatch.setattr(script.Environment, "run", lambda self, *command: run(self, *command))
    assert script.main(["--python", sys.executable, "--torch", "2.6"]) == 1
    assert "torch 2.6: the installation fails, see" in capsys.readouterr().out
    assert run.pytest == []


@pytest.mark.parametrize(("torch", "constraint"), [("2.6", "torch==2.6"), ("pip", "the machine's")])
def test_a_version_that_is_asked_for_replaces_the_machines_constraints(
    script: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, torch: str, constraint: str
) -> None:
    machines = tmp_path / "machine.txt"
    machines.write_text("the machine's")
    monkeypatch.setenv("PIP_CONSTRAINT", str(machines))
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    environment = script.Environment(Path(sys.executable), torch, tmp_path / "made")
    code = "import os; print(open(os.environ['PIP_CONSTRAINT']).read(), os.environ.get('PYTHONPATH'))"
    assert environment.run(sys.executable, "-c", code) == 0
    assert environment.log.read_text().split() == [*constraint.split(), "None"]


def test_what_the_project_allows(script: ModuleType) -> None:
    assert f'"torch>={script.oldest()}"' in (ROOT / "pyproject.toml").read_text(encoding="utf-8")
    assert f"3.{sys.version_info.minor}" in script.supported()


def test_a_python_that_is_not_there(script: ModuleType) -> None:
    for name in ("3.99", "/nowhere/python"):
        with pytest.raises(SystemExit, match=f"no Python {name} that can make environments"):
            script.main(["--python", name])
