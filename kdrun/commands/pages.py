"""The page of each command: `kdrun COMMAND --help`. A command exists if it has an entry here."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple


class CommandPage(NamedTuple):
    """use: what can follow the command. short: its line in `kdrun --help`; empty: it is not listed there.
    text: what it does. examples: commands, each with a remark. flags: each with its meaning.
    """

    use: str
    short: str
    text: str
    examples: tuple[tuple[str, str], ...]
    flags: tuple[tuple[str, str], ...]


OWN_FILES = "--config-dir DIR | your own files, in folders named dataset, model, method ..."

TEXT = f"""
run [KEY=VALUE ...]
train, distil, evaluate: any keys as key=value, in any order
Trains the teacher, distils the student, trains a control without a teacher, and evaluates all three. The word
run can be left out. The same command again shows the result, or continues an interrupted run. With -m and
several values a,b for a key it runs all combinations.
$ kdrun dataset=cifar100 method=dkd epochs=30 | another data set, method, length
$ kdrun -m temperature=1,2,4 seed=0,1 | six runs, one table
$ kdrun quick=true method=crd | does it run at all? two batches of everything
-m, --multirun | run all combinations of the values a,b,c and range(0,5)
--max-jobs N | allow more than 1,000 combinations
{OWN_FILES}
--cfg job | show the configuration instead of running it
-sc install=SHELL | print the script for completion: bash, zsh or fish

check [KEY=VALUE ...]
dry run: models, terms, memory, time; nothing is trained or kept
Makes the plan of a run, measures its first steps on temporary models, and estimates time, memory and disk
space.
$ kdrun check method=dkd | before a run
$ kdrun check dataset=cifar100 epochs=30 | how long would it take here?
$ kdrun check -m teacher=resnet56,resnet110 | which teacher? on validation
-m | rank the teachers of teacher=a,b,c on validation, as far as they are trained
{OWN_FILES}

list [LIST] [WORD ...]
the choices for each key: kdrun list models resnet
Lists the choices, each with its description. LIST is models, methods, losses, datasets, recipes, engines,
experiments, sweeps or keys; without LIST, all but the keys. With WORDs only the entries with these words in
their name or description.
$ kdrun list models resnet | models with resnet in their names
$ kdrun list methods --format json | with the needs and costs of each
--format text|json | json names all models of timm, too
{OWN_FILES}

explain KEY
what a key sets, its default and choices: kdrun explain lr
Says what a key sets, its default, its choices, and which files set it. KEY is a full key, its last part, the
argument of a loss or of an augmentation, or its name in other tools.
$ kdrun explain recipe.student.lr | one key
$ kdrun explain beta | the argument of every loss that has it
--format text|json | json: the same as data

table [NAME] [pair=... method=... seed=...] [KEY=VALUE ...]
a published table beside ours: kdrun table crd1 --list
Runs the cells of a published table and shows our figures beside the published ones. Without a name it lists
the tables. Further keys are set in all cells, which makes it a reduced table.
$ kdrun table crd1 --list | its trainings, and how long they take here
$ kdrun table crd1 pair=vgg13_cifar-vgg8 method=kd seed=0 epochs=24 | one cell, a tenth of its epochs
-l, --list | list the cells, train nothing
--format text|md|csv|json|tex |
{OWN_FILES}

tune KEY=SPACE ... [KEY=VALUE ...]
searches the best values of keys on validation, with Optuna
Searches the values of keys that give the best student on validation images, with Optuna (pip install -e
'.[tune]'). Test is read once, at the end. The first trial has the values without a search, so what is chosen
is never worse on validation. A search that was killed continues with the same command; more --trials extend
it. Trials are ordinary trainings.
$ kdrun tune temperature='interval(1,16)' alpha='interval(0,1)' | two numbers, 20 trials
$ kdrun tune method=kd,dkd lr='tag(log, interval(1e-4,1e-1))' seed=0,1,2 | a choice, and a rate on a log
  scale; a trial is the mean over three seeds
interval(1,16) | any number between; int(interval(1,16)): a whole one
tag(log, interval(..)) | a logarithmic scale: for rates and the like
a,b  range(0,10,2) | one of these; glob(*): of the files of a group
seed=0,1,2 | not searched, but repeated; so are other seeds and dataset.split
--trials N | the total, with those of earlier calls (default 20)
--minutes M, --hours H | no trial begins after this time
--name NAME | the folder outputs/searches/NAME (default: by the keys)
--pruner none | train every trial to its end (default median)
--sampler-seed N | the seed of the sampler (default 0)
{OWN_FILES}

report [DIR ...]
the table of finished runs: kdrun report --format md
Shows the finished runs in these folders as a table, or a sweep's end screen again. The default folder is
outputs/runs.
$ kdrun report --format csv > runs.csv | all runs, for a spreadsheet
$ kdrun report outputs/sweeps/SWEEP | the end screen of a sweep
$ kdrun report 1a34f --html | a run, a sweep or a list as one file for a browser
$ kdrun report outputs --serve | all runs in a browser; compare two
--format text|md|csv|json|tex |
--rows, --cols, --value NAME | a cross table; usually method, pair and gain
--sort NAME, --last N | the list of runs by a figure or a word; the latest N only
--seeds mean | mean +- std (n) in place of a line for each seed, split or subset of labels
--html | write report.html into the folder (extra html)
--out FILE.html | with --html: another file
--serve | answer a browser of this machine, at 127.0.0.1, until Ctrl-C (extra html)
--port N | with --serve: another port (default 8642; 0: a free one)

predict RUN IMAGE ...
classify pictures: kdrun predict RUN cat.png --teacher
Classifies pictures, or all pictures in a folder, with the student of a finished run. RUN is a folder in
outputs/runs, the first digits of its id, or an exported file (.pt2, .onnx). Open only .pt2 files that you
trust: torch can execute code in them.
$ kdrun predict outputs/runs/RUN cat.png dog.jpg | class and probability of each
$ kdrun predict 1a34f photos --top 5 --format csv | a folder; by the run's id
$ kdrun predict 1a34f cat.png --teacher --temperature 1,4,8 | soft targets, the teacher's too
--teacher | also the teacher's answers
--top N | the N most probable classes (default 1)
--temperature 1,4 | soft targets at these temperatures
--format text|json|csv | csv: a line per picture, model and temperature
--packages NAMES | your packages with the models, as packages=[...] in the run

look RUN [PICTURE ...]
a teacher's soft targets, drawn: kdrun look RUN --class 2
Shows the soft targets of a finished run's teacher at several temperatures: for test images, or for your own
pictures. Without --class and --image it takes one image of each class: the one with the highest entropy of
the teacher's soft targets, right or wrong.
$ kdrun look 1a34f --class 2 --temperature 1,4,20 | the twos that look like something else
$ kdrun look 1a34f --image 387,466 --out look.png | test images by number, also drawn
--class NAME | test images of this class
--count N | how many (default 4 of a class, or 1 of each)
--image N,M | test images by number, as in errors.csv
--temperature 1,4 | these temperatures (default 1 and that of the run's loss)
--top N | the N most probable classes (default 5)
--out FILE.png | also draw them
--format text|json |
--packages NAMES | your packages with the models, as packages=[...] in the run

export RUN
the student as torch.export, ONNX or int8 file, checked by use
Writes the student of a finished run as files that need no kdrun, by default into RUN/export. Each is used on
the whole test part at batch 1, 2 and 32, and kept only if it is good: logits of pt2 and onnx within 1e-4 of
the largest; int8 says what it costs. Beside them: use.py, a model card (README.md), figures and latency
(export.json). onnx and int8 need pip install -e '.[onnx]'. Start it in the folder in which the run was made.
$ kdrun export 1a34f | torch.export, by the run's id
$ kdrun export 1a34f --to pt2,onnx,int8 --out shipped | three files, in another folder
$ kdrun predict outputs/runs/RUN/export/student.onnx cat.png | use one
--to pt2,onnx,int8 | one or more (default pt2)
--out DIR | another folder
--data-dir DIR | where the data set is, if it is not where the run found it
--format text|json | json: the same as data
--packages NAMES | your packages with the model or the data set

compare A B
what differs between two runs, in keys and figures
Shows the keys and the figures that differ between two finished runs. If both kept their answers to the same
test images, a paired test says whether one student is better.
$ kdrun compare 1a34f 7290 | by their ids
$ kdrun compare first second --format json | by names given with name=
--format text|json | json: the same as data

continue RUN
the command of a run again: kdrun continue 1a34f
Gives the command of a run, a sweep or a table again. Interrupted runs continue, finished runs are shown.
Start it in the folder in which the command was given.
$ kdrun continue 1a34f | by the first digits of its id
$ kdrun continue outputs/sweeps/SWEEP | all jobs that are left
$ kdrun continue 1a34f packages=mine | your packages are not taken from a folder: type them

outputs [DIR] | rm RUN ...
what is on disk, and which runs use it; --prune removes the rest
Lists what is on disk, with sizes, and removes what no run uses, or what you name.
$ kdrun outputs --prune | remove what no finished run uses; asks first
$ kdrun outputs rm 1a34f | remove one run, by its id
--prune | remove what no run uses
--yes | do not ask
--format text|json | json names all

help [COMMAND]
-
Shows this page, or that of a command.
$ kdrun help report |

version
-
Shows the version.
$ kdrun version |
"""
"""The pages, apart by blank lines: command and use, short or -, text; then `$ example | remark` and `flag |
meaning`. A line that begins with blanks continues the one above.
"""


def _page(block: str) -> tuple[str, CommandPage]:
    """A command's name, and its page."""
    first, short, *lines = block.replace("\n  ", " ").splitlines()
    name, _, use = first.partition(" ")
    examples = [line for line in lines if line.startswith("$ ")]
    begin = lines.index(examples[0])
    flags = lines[begin + len(examples) :]
    text = " ".join(lines[:begin])
    return name, CommandPage(use, "" if short == "-" else short, text, _pairs(examples), _pairs(flags))


def _pairs(lines: Sequence[str]) -> tuple[tuple[str, str], ...]:
    parts = [line.removeprefix("$ ").partition(" |") for line in lines]
    return tuple((head, remark.strip()) for head, _, remark in parts)


PAGES = dict(map(_page, TEXT.strip().split("\n\n")))

OTHER_WORDS = {"train": "run", "distill": "run", "distil": "run", "ls": "list", "info": "explain"}
"""Other words for commands."""
