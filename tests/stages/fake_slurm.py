"""Commands with the names of SLURM's, for one machine: jobs are processes that start at once.

The state is a folder, FAKE_SLURM, with a file for each job: its process and its script.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

COMMANDS = ("sbatch", "srun", "squeue", "scancel", "scontrol", "sacct")


def install(folder: Path) -> None:
    """Writes the commands into a folder, for PATH."""
    folder.mkdir()
    for name in COMMANDS:
        command = folder / name
        command.write_text(f'#!/bin/sh\nexec "{sys.executable}" -S "{__file__}" {name} "$@"\n')
        command.chmod(0o755)


def state() -> Path:
    return Path(os.environ["FAKE_SLURM"])


def sbatch(script: str) -> None:
    number = str(1 + len(list(state().iterdir())))
    kept = state() / f"{number}.sh"
    kept.write_text(Path(script).read_text())
    run(number, kept)
    print(f"Submitted batch job {number}")


def run(number: str, script: Path) -> None:
    environment = {**os.environ, "SLURM_JOB_ID": number, "SLURM_PROCID": "0", "SLURM_LOCALID": "0"}
    quiet = subprocess.DEVNULL  # who reads what sbatch prints does not wait for the job
    process = subprocess.Popen(
        ["bash", str(script)], env=environment, start_new_session=True, stdout=quiet, stderr=quiet
    )
    with script.open("a") as file:
        file.write(f"\n# process {process.pid}\n")


def srun(*words: str) -> None:
    output = words[words.index("--output") + 1]
    command = words[words.index("--output") + 2 :]
    path = output.replace("%j", os.environ["SLURM_JOB_ID"]).replace("%t", "0")
    file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    for stream in (1, 2):
        os.dup2(file, stream)
    os.execvp(command[0], command)


def process_of(script: Path) -> int:
    return int(script.read_text().rpartition("# process ")[2])


def alive(process: int) -> bool:
    try:
        return Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def squeue(*words: str) -> None:
    for script in state().glob("*.sh"):
        if alive(process_of(script)):
            print(script.stem, "RUNNING")


def scancel(number: str) -> None:
    os.killpg(process_of(state() / f"{number}.sh"), signal.SIGTERM)


def scontrol(requeue: str, number: str) -> None:
    assert requeue == "requeue"
    run(number, state() / f"{number}.sh")


def sacct(*words: str) -> None:
    sys.exit("accounting is disabled")


if __name__ == "__main__":
    name, *arguments = sys.argv[1:]
    assert name in COMMANDS
    globals()[name](*arguments)
