"""A finished run with one damaged file: commands say so in a line, or mend it; none uses it in silence."""

from __future__ import annotations

import json
import random
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

from kdrun.artefacts import file_hash
from tests.attack.judged import Ended, command

RUN = (
    *("teacher=cnn_digits_small", "recipe.teacher.epochs=1", "recipe.student.epochs=1", "threads=1"),
    *("evaluation.latency=false", "evaluation.plots=false", "dataset.views.name=crop_flip"),
)

ANOTHER = ("temperature=3",)
"""Another student of the same teacher, with the same control."""

OTHER: tuple[Any, ...] = (None, True, 5, -1, 1e300, "", "text", "\x1b[31m", [], {}, [None], {"a": {"b": []}})
"""Content of another type."""


class Store:
    """A folder of one finished run, copied for each attack."""

    def __init__(self, home: Path) -> None:
        self.home, self.original = home, home / "original"
        made = command(self.words(self.original))
        assert made.status == 0, made.err
        self.hashes = weights(self.original)

    def words(self, folder: Path) -> list[str]:
        return [*RUN, f"outputs_dir={folder}", f"data_dir={self.home / 'data'}"]

    def attacked(
        self, draw: random.Random, name: str = "", damage: str = ""
    ) -> tuple[str, list[Ended], list[str]]:
        """What was damaged, how the commands ended, and what is wrong with what they left.

        name, damage: a pattern of the file and a key of DAMAGES; by default drawn.
        """
        folder = self.home / "attacked"
        shutil.rmtree(folder, ignore_errors=True)
        shutil.copytree(self.original, folder)
        victim = draw.choice([path for path in sorted(folder.glob(name or "**/*")) if path.is_file()])
        kind = damage or draw.choice(list(DAMAGES))
        DAMAGES[kind](victim, draw)
        what = f"{kind} of {victim.relative_to(folder)}"
        (run,) = (folder / "runs").iterdir()
        looks = [["report", str(run)], ["report", str(folder / "runs")], ["outputs", str(folder)]]
        again = self.words(folder)
        ends = [command(words) for words in (*looks, again, [*again, *ANOTHER])]
        left = [f"a run does not continue: {end.err.strip()}" for end in ends[-2:] if end.status]
        if not left and not self.hashes.items() <= weights(folder).items():
            left.append("a run ends with other weights")
        return what, ends, left


def weights(folder: Path) -> dict[str, str]:
    """Digests of all weights below a folder, by path."""
    paths = sorted(folder.glob("*/*/*.safetensors"))
    return {path.relative_to(folder).as_posix(): file_hash(path) for path in paths}


def cut(path: Path, draw: random.Random) -> None:
    content = path.read_bytes()
    path.write_bytes(content[: draw.randrange(len(content) + 1)])


def flip(path: Path, draw: random.Random) -> None:
    content = bytearray(path.read_bytes())
    if content:
        content[draw.randrange(len(content))] ^= 1 << draw.randrange(8)
    path.write_bytes(bytes(content))


def garbage(path: Path, draw: random.Random) -> None:
    path.write_bytes(draw.randbytes(draw.randrange(1, 200)))


def retyped(path: Path, draw: random.Random) -> None:
    """Another JSON value, as a whole or somewhere within; other files become text."""
    value = draw.choice(OTHER)
    if path.suffix not in (".json", ".jsonl"):
        path.write_text(str(value))
        return
    lines = path.read_text().splitlines() if path.suffix == ".jsonl" else [path.read_text()]
    place = draw.randrange(len(lines))
    content = json.loads(lines[place])
    lines[place] = json.dumps(value if draw.random() < 0.3 else _mutated(content, value, draw))
    path.write_text("\n".join(lines) + "\n")


def _mutated(content: Any, value: Any, draw: random.Random) -> Any:
    """The content with one drawn part replaced by the value, or left out."""
    if isinstance(content, dict) and content and draw.random() < 0.9:
        key = draw.choice(sorted(content))
        if draw.random() < 0.2:
            return {name: inner for name, inner in content.items() if name != key}
        return content | {key: _mutated(content[key], value, draw)}
    if isinstance(content, list) and content and draw.random() < 0.9:
        place = draw.randrange(len(content))
        return [*content[:place], _mutated(content[place], value, draw), *content[place + 1 :]]
    return value


DAMAGES: dict[str, Callable[[Path, random.Random], None]] = {
    "a part": cut,
    "one bit": flip,
    "garbage instead": garbage,
    "another value": retyped,
}
