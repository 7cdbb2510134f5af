"""`kdrun --help`: commands to copy, flags, and the choices of each key."""

from __future__ import annotations

import textwrap
from importlib import import_module

from kdrun.config.files import GROUPS, entries, shipped
from kdrun.models.names import torchvision_names

WIDTH = 80
INDENT = 14

TEXT = """\
kdrun distils image classifiers: it trains a teacher, a student that learns from
it and a control that does not, and reports how much the teacher helped.

  kdrun                                              handwritten digits, seconds
  kdrun teacher=resnet50 student=resnet18 dataset=cifar100
  kdrun method=dkd loss.dkd.beta=2 seed=1
  kdrun -m temperature=1,2,4,8 alpha=0.1,0.5,0.9     all combinations, one table
  kdrun check method=dkd                             look first; nothing is kept
  kdrun --cfg job                                    every key and its value

Commands
  [run]       train, distil, evaluate: any keys as key=value, in any order
  check       dry run: models, terms, memory, time; nothing is trained or kept
  list        what there is to choose from: kdrun list models --format json
  table       a published table beside ours: kdrun table crd1 --list
  tune        searches the best values of keys on validation: kdrun tune --help
  report      the table of finished runs: kdrun report outputs/runs --format md
  predict     classify pictures: kdrun predict RUN cat.png --teacher
  outputs     what is kept, and used by whom; --prune removes what is not

Flags
  -m, --multirun      run all combinations: method=kd,dkd 'seed=range(0,5)'
  --max-jobs N        allow more than 1,000 combinations
  --config-dir DIR    your own files, in folders named as the choices below
  --cfg job           show the configuration instead of running it
  --version, --help   in bash: eval "$(kdrun -sc install=bash)" for completion

Choices
"""


OWN = ("tune",)
"""Commands with a page of their own."""


def text(command: str = "") -> str:
    """The help, at most 80 columns wide: of a command that has a page of its own, or of all."""
    if command in OWN:
        page: str = import_module(f"kdrun.commands.{command}").HELP
        return page
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
    return TEXT + "\n".join(_row(key, choices) for key, choices in rows.items())


def _row(key: str, choices: str) -> str:
    first = f"  {key}".ljust(INDENT) + ("" if len(key) + 2 < INDENT else " ")
    return textwrap.fill(
        choices, WIDTH, initial_indent=first, subsequent_indent=" " * INDENT, break_on_hyphens=False
    )
