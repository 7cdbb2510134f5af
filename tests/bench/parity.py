"""Whether what is faster also learns as much: a textbook's students and kdrun's, by one recipe."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import torch
from rich.console import Console

from kdrun.models.weights import load_into, read_weights, save_weights
from kdrun.progress.screen import screen
from kdrun.progress.watchers import Observers
from kdrun.stages.make import make_group
from kdrun.stages.saved import weights_file
from tests.bench import record, textbook
from tests.bench.ratios import mean
from tests.bench.rivals import pair, parts, setting
from tests.bench.scene import Scene, of_cifar, plan

DIGITS = ("dataset=digits", "dataset.views.name=crop_flip", "dataset.views.padding=1")


def digits(folder: Path) -> Scene:
    """600 digits of 8x8, shifted by a pixel at most; the student is tested on 1,000 others."""
    return _scene("cnn_digits", "cnn_digits_small", 600, 40, DIGITS, "digits", folder)


def cifar(data_dir: str, folder: Path) -> Scene:
    """2,000 images of CIFAR-100, tested on its 10,000."""
    return _scene("resnet20", "resnet8", 2000, 16, of_cifar(data_dir), "2,000 images of CIFAR-100", folder)


def _scene(
    teacher: str, student: str, images: int, epochs: int, data: tuple[str, ...], about: str, folder: Path
) -> Scene:
    steps = [epochs * 5 // 8, epochs * 6 // 8, epochs * 7 // 8]  # the recipe's own are 150, 180, 210 of 240
    recipe = ["recipe=crd"]
    recipe += [f"recipe.{role}.milestones={_listed(steps)}" for role in ("teacher", "student")]
    recipe += [f"recipe.teacher.epochs={epochs}"]
    return Scene(teacher, student, images, epochs, data, about, folder, recipe=tuple(recipe))


def _listed(numbers: list[int]) -> str:
    return "[" + ",".join(map(str, numbers)) + "]"


def measure(scene: Scene, seeds: int, out: Path, say: Callable[[str], None]) -> None:
    """Trains a teacher, then two students for each seed; prints the paired difference in accuracy."""
    where = record.conditions(scene.device, scene.threads)
    torch.set_num_threads(scene.threads)
    _teach(scene)
    rows = []
    for seed in range(seeds):
        theirs, ours = _textbook(scene, seed), _kdrun(scene, seed)
        rows.append({"seed": seed, "textbook": theirs, "kdrun": ours})
        say(f"{scene.about}: seed {seed}: textbook {theirs:.1f} %, kdrun {ours:.1f} %")
    found = mean([row["kdrun"] - row["textbook"] for row in rows])
    held = "no difference is shown" if found.low <= 0 <= found.high else "they differ"
    say(f"{scene.about}: kdrun minus textbook, in points: {found}: {held}")
    content = {"rows": rows, "difference": found._asdict(), "environment": where, "epochs": scene.epochs}
    record.write(out, "parity", scene.about.replace(" ", "_").replace(",", ""), content)


def _teach(scene: Scene) -> None:
    """Writes the weights of a teacher that is trained on the scene's images."""
    teacher = plan(scene.overrides()).teacher
    make_group([teacher], Observers(screen(Console(quiet=True))))
    save_weights(scene.weights, read_weights(weights_file(teacher, "last")), {})


def _kdrun(scene: Scene, seed: int) -> float:
    built = plan([*scene.taught(), f"seed={seed}"])
    make_group([built.student], Observers(screen(Console(quiet=True))))
    model = built.student.initial().model
    load_into(model, read_weights(built.student.folder / "last.safetensors"), "checkpoint", "")
    rules, part = setting(built), parts(built)["test"]
    test = textbook.loader(textbook.pictures(*part, rules, False), rules, False)
    return textbook.accuracy(model, test, rules.device)


def _textbook(scene: Scene, seed: int) -> float:
    """The same first weights as kdrun's student of that seed; order and crops of its own."""
    built = plan([*scene.taught(), f"seed={seed}"])
    teacher, student = pair(built)
    torch.manual_seed(seed)
    return textbook.train(student, teacher, parts(built), setting(built), scene.epochs)
