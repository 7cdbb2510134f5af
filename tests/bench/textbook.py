"""Knowledge distillation as tutorials write it: PIL transforms, a DataLoader, the teacher asked in each step.

As a command, `python -m tests.bench.textbook FILE.json` is a whole script of that kind, see `main`.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor, nn
from torch.nn import functional
from torch.utils.data import DataLoader, Dataset
from torchvision import transforms


class Setting(NamedTuple):
    """What a training needs to know. views: the data set's. alpha: the weight of the teacher's term."""

    batch: int
    views: Mapping[str, Any]
    mean: tuple[float, ...]
    std: tuple[float, ...]
    white: float
    optimiser: Mapping[str, Any]
    milestones: tuple[int, ...]
    alpha: float
    temperature: float
    device: str
    workers: int


class Pictures(Dataset[tuple[Tensor, int]]):
    """Images in memory as (H, W, C) arrays, made a PIL image and transformed each time: torchvision's way."""

    def __init__(self, images: NDArray[np.uint8], labels: NDArray[np.int64], transform: Any) -> None:
        self.images, self.labels, self.transform = images, labels.tolist(), transform

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        return self.transform(Image.fromarray(self.images[index])), self.labels[index]


def pictures(images: NDArray[np.uint8], labels: NDArray[np.int64], setting: Setting, train: bool) -> Pictures:
    """images: (N, C, H, W). train: with random crops and flips, where the setting has them."""
    scale = setting.white / 255  # ToTensor divides by 255, whatever the largest pixel is
    steps: list[Any] = [
        transforms.ToTensor(),
        transforms.Normalize([m * scale for m in setting.mean], [s * scale for s in setting.std]),
    ]
    if train and setting.views["name"] == "crop_flip":
        flip = [transforms.RandomHorizontalFlip()] if setting.views["flip"] else []
        steps = [transforms.RandomCrop(images.shape[2:], padding=setting.views["padding"]), *flip, *steps]
    stored = np.ascontiguousarray(images.transpose(0, 2, 3, 1))
    return Pictures(stored.squeeze(3) if stored.shape[3] == 1 else stored, labels, transforms.Compose(steps))


def loader(data: Pictures, setting: Setting, train: bool) -> DataLoader[tuple[Tensor, int]]:
    return DataLoader(
        data,
        batch_size=setting.batch,
        shuffle=train,
        num_workers=setting.workers,
        pin_memory=setting.device != "cpu",
        persistent_workers=setting.workers > 0,
    )


def optimiser(student: nn.Module, settings: Mapping[str, Any]) -> torch.optim.Optimizer:
    """settings: `name` of a class of torch.optim, and its arguments."""
    arguments = {key: value for key, value in settings.items() if key != "name"}
    made: torch.optim.Optimizer = getattr(torch.optim, settings["name"])(student.parameters(), **arguments)
    return made


def train_epoch(
    batches: Iterable[tuple[Tensor, Tensor]],
    student: nn.Module,
    teacher: nn.Module | None,
    updates: torch.optim.Optimizer,
    setting: Setting,
) -> float:
    """Returns the mean loss of the steps. teacher: None for training on the labels alone."""
    student.train()
    losses = []
    for images, labels in batches:
        images, labels = images.to(setting.device), labels.to(setting.device)
        said = student(images)
        loss = functional.cross_entropy(said, labels)
        if teacher is not None:
            with torch.no_grad():
                told = teacher(images)
            loss = (1 - setting.alpha) * loss + setting.alpha * soft(said, told, setting.temperature)
        updates.zero_grad()
        loss.backward()
        updates.step()
        losses.append(loss.item())
    return sum(losses) / len(losses)


def soft(said: Tensor, told: Tensor, temperature: float) -> Tensor:
    """The divergence from softened teacher to softened student, times T^2 (Hinton et al. 2015)."""
    student = functional.log_softmax(said / temperature, dim=1)
    teacher = functional.softmax(told / temperature, dim=1)
    return functional.kl_div(student, teacher, reduction="batchmean") * temperature**2


@torch.no_grad()
def accuracy(model: nn.Module, batches: Iterable[tuple[Tensor, Tensor]], device: str) -> float:
    """Percent right."""
    model.eval()
    right = count = 0
    for images, labels in batches:
        right += (model(images.to(device)).argmax(1) == labels.to(device)).sum().item()
        count += len(labels)
    return 100 * right / count


def train(
    model: nn.Module,
    teacher: nn.Module | None,
    parts: Mapping[str, tuple[NDArray[np.uint8], NDArray[np.int64]]],
    setting: Setting,
    epochs: int,
) -> float:
    """Trains a model, validates it after each epoch, and returns its accuracy on the test part."""
    loaders = {
        name: loader(pictures(*part, setting, name == "train"), setting, name == "train")
        for name, part in parts.items()
    }
    updates = optimiser(model, setting.optimiser)
    schedule = torch.optim.lr_scheduler.MultiStepLR(updates, list(setting.milestones))
    for epoch in range(epochs):
        loss = train_epoch(loaders["train"], model, teacher, updates, setting)
        schedule.step()
        if "validation" in loaders:
            found = accuracy(model, loaders["validation"], setting.device)
            print(f"epoch {epoch + 1} loss {loss:.3f} validation {found:.1f}")
    return accuracy(model, loaders["test"], setting.device)


def main(path: Path) -> None:
    """A script: builds models, reads the teacher, trains the student, tests both, writes the weights.

    The file says where the images lie (`data`, an .npz), the models (nodes of `kdrun.models.build`), the
    teacher's weights, the setting, the epochs and the seed.
    """
    from safetensors.torch import load_file

    from kdrun.models.build import build

    told = json.loads(path.read_text())
    setting, arrays = Setting(**told["setting"]), np.load(told["data"])
    parts = {name: (arrays[f"{name}_images"], arrays[f"{name}_labels"]) for name in told["parts"]}
    torch.set_num_threads(told["threads"])
    torch.manual_seed(told["seed"])
    shape = parts["train"][0].shape[1:]
    teacher, student = (
        build(told[role], told["classes"], shape, "auto", told["seed"]).model.to(setting.device)
        for role in ("teacher", "student")
    )
    teacher.load_state_dict(load_file(told["weights"]))
    teacher.eval()
    found = train(student, teacher, parts, setting, told["epochs"])
    test = loader(pictures(*parts["test"], setting, False), setting, False)
    print(f"teacher {accuracy(teacher, test, setting.device):.1f} student {found:.1f}")
    torch.save(student.state_dict(), path.with_suffix(".pt"))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
