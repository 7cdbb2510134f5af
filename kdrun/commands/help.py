"""`kdrun --help`, and `kdrun COMMAND --help`: examples, flags, and the choices of each key."""

from __future__ import annotations

import textwrap
from collections.abc import Iterator, Sequence

from kdrun.commands.pages import OTHER_WORDS, PAGES
from kdrun.config.files import GROUPS, entries, shipped
from kdrun.errors import KdrunError
from kdrun.models.names import torchvision_names
from kdrun.terminal import hung

WIDTH = 80
INDENT = 14

TEXT = """\
kdrun distils image classifiers: it trains a teacher, a student that learns from
it and a control that does not, and reports how much the teacher helped.

  kdrun                                              handwritten digits, seconds
  kdrun dataset=cifar100                             a pair of CIFAR models
  kdrun method=dkd loss.dkd.beta=2 seed=1
  kdrun epochs=3                                     shorter: also batch=, lr=
  kdrun quick=true                                   two batches of everything
  kdrun -m temperature=1,2,4,8 alpha=0.1,0.5,0.9     all combinations, one table
  kdrun --cfg job                                    every key and its value

Commands, each with a page: kdrun predict --help
{commands}

Flags
  -m, --multirun      run all combinations: method=kd,dkd 'seed=range(0,5)'
  --config-dir DIR    your own files, in folders named as the choices below
  --version, --help   in bash: eval "$(kdrun -sc install=bash)" for completion

Choices
"""


def main(arguments: Sequence[str]) -> int:
    """`kdrun help [COMMAND]`. Raises KdrunError for a command that does not exist."""
    name = next(iter(arguments), "")
    name = OTHER_WORDS.get(name, name)
    if name and name not in PAGES:
        raise KdrunError(f"kdrun help {name}", None, "no such command", PAGES, "kdrun --help")
    print(page(name) if name else text())
    return 0


def page(command: str) -> str:
    """The page of a command, at most 80 columns wide."""
    entry = PAGES[command]
    wide = min(max(len(line) for line, _ in entry.examples), 46)
    lines = [f"kdrun {command} {entry.use}".rstrip(), "", textwrap.fill(entry.text, WIDTH), "", "Examples"]
    for line, remark in entry.examples:
        fits = len(line) <= wide and len(remark) + wide + 4 <= WIDTH
        lines += (
            [f"  {line:{wide}}  {remark}".rstrip()] if fits else [f"  {line}", f"      {remark}".rstrip()]
        )
    if entry.flags:
        first = max(len(flag) for flag, _ in entry.flags) + 4
        lines += ["", "Flags", *(_row(flag, what, first) for flag, what in entry.flags)]
    return "\n".join(lines)


def text() -> str:
    """The help, at most 80 columns wide."""
    folder = shipped()
    names = {group: [entry.name for entry in entries(folder, group)] for group in GROUPS}
    some = [name for name in ("cnn_digits", "resnet32x4", "wrn_40_2", "vgg8") if name in names["model"]]
    count = len(names["model"]) + len(torchvision_names())
    rows = {
        "dataset": ", ".join(names["dataset"]),
        "teacher": f"{', '.join([*some, 'resnet50'])} ... {count} models: kdrun list models",
        "student": "the same models",
        "method": ", ".join(names["method"]),
        "recipe": ", ".join(names["recipe"]),
        "experiment": ", ".join(names["experiment"]),
        "sweep": ", ".join(names["sweep"]),
        "+loss@loss.X": f"adds a term X to the method: {', '.join(names['loss'])}",
    }
    head = TEXT.format(commands="\n".join(_commands()))
    return head + "\n".join(_row(key, choices) for key, choices in rows.items())


def _commands() -> Iterator[str]:
    for name, entry in PAGES.items():
        if entry.short:
            yield _row("[run]" if name == "run" else name, entry.short)


def _row(key: str, choices: str, indent: int = INDENT) -> str:
    first = f"  {key}".ljust(indent) + ("" if len(key) + 2 < indent else " ")
    return hung(first, choices, WIDTH) or first.rstrip()
