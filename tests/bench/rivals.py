"""The loops that kdrun is compared with: a textbook's, and that of the toolkit torchdistill."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn
from torch.utils.data import RandomSampler, SequentialSampler

from kdrun.plan.plan import Plan
from kdrun.stages.saved import load_model, saved
from tests.bench import textbook
from tests.bench.arm import Arm
from tests.bench.scene import Scene, plan


def setting(built: Plan, workers: int = 0) -> textbook.Setting:
    """The same training as the plan's student's, for a textbook."""
    recipe, data, soft = built.student.recipe, built.ground.data, built.run.loss["soft"]
    return textbook.Setting(
        batch=recipe.batch,
        views=dict(built.run.dataset["views"]),
        mean=data.mean,
        std=data.std,
        white=data.white,
        optimiser=_optimiser(recipe),
        milestones=tuple(recipe.milestones),
        alpha=float(soft["weight"]),
        temperature=float(soft["temperature"]),
        device=str(built.ground.machine.device),
        workers=workers,
    )


def _optimiser(recipe: Any) -> dict[str, Any]:
    common = {"lr": recipe.lr, "weight_decay": recipe.weight_decay}
    if recipe.optimiser == "sgd":
        return {"name": "SGD", "momentum": recipe.momentum, "nesterov": recipe.nesterov, **common}
    return {
        "name": {"adam": "Adam", "adamw": "AdamW"}[recipe.optimiser],
        "betas": tuple(recipe.betas),
        **common,
    }


def pair(built: Plan) -> tuple[nn.Module, nn.Module]:
    """Teacher and student, with the weights that kdrun's begin with, as any model is laid out in memory."""
    weights = saved(built.teacher)
    assert weights is not None
    teacher, student = load_model(weights, "last"), built.student.initial().model
    for model in (teacher, student):
        model.to(built.ground.machine.device).to(memory_format=torch.contiguous_format)
    return teacher.eval(), student


def parts(built: Plan) -> dict[str, tuple[Any, Any]]:
    """Images and labels by part, as arrays; only parts that hold images."""
    data = built.ground.data
    named = {"train": data.train, "validation": data.validation, "test": data.test}
    return {n: (p.images.numpy(), p.labels.numpy()) for n, p in named.items() if len(p.labels)}


class Textbook(Arm):
    """Epoch by epoch, as in `tests.bench.textbook`."""

    def __init__(self, scene: Scene) -> None:
        built = plan(scene.taught())
        self.setting = setting(built, scene.workers)
        self.teacher, self.student = pair(built)
        self.updates = textbook.optimiser(self.student, self.setting.optimiser)
        self.loaders = {
            name: textbook.loader(
                textbook.pictures(*part, self.setting, name == "train"), self.setting, name == "train"
            )
            for name, part in parts(built).items()
        }

    def epoch(self) -> float:
        loss = textbook.train_epoch(
            self.loaders["train"], self.student, self.teacher, self.updates, self.setting
        )
        if "validation" in self.loaders:
            textbook.accuracy(self.student, self.loaders["validation"], self.setting.device)
        return loss


class Tensors(Arm):
    """The textbook's loop on normalised tensors in memory: no transforms, no DataLoader."""

    def __init__(self, scene: Scene) -> None:
        built = plan(scene.taught())
        self.setting, device = setting(built), built.ground.machine.device
        self.teacher, self.student = pair(built)
        self.updates = textbook.optimiser(self.student, self.setting.optimiser)
        part, plain = built.ground.data.train, textbook.pictures(*parts(built)["train"], self.setting, False)
        self.images = torch.stack([plain[number][0] for number in range(len(plain))]).to(device)
        self.labels = part.labels.to(device)

    def epoch(self) -> float:
        order = torch.randperm(len(self.labels), device=self.labels.device).split(self.setting.batch)
        batches = ((self.images[rows], self.labels[rows]) for rows in order)
        return textbook.train_epoch(batches, self.student, self.teacher, self.updates, self.setting)


class Torchdistill(Arm):
    """torchdistill's box, data loaders, loss and meters, called as in its example for classification."""

    def __init__(self, scene: Scene) -> None:
        from torchdistill.core.distillation import get_distillation_box

        built = plan(scene.taught())
        self.setting = setting(built, scene.workers)
        self.device = built.ground.machine.device
        teacher, student = pair(built)
        data = {
            name: textbook.pictures(*part, self.setting, name == "train")
            for name, part in parts(built).items()
        }
        config = self._config(scene.epochs, "validation" in data)
        self.box = get_distillation_box(teacher, student, data, config, self.device, None, False, 1)
        self.number = 0

    def epoch(self) -> float:
        from torchdistill.misc.log import MetricLogger, SmoothedValue

        meters = MetricLogger(delimiter="  ")
        meters.add_meter("lr", SmoothedValue(window_size=1, fmt="{value}"))
        self.box.pre_epoch_process(epoch=self.number)
        batches = meters.log_every(self.box.train_data_loader, 50, f"Epoch: [{self.number}]")
        for images, labels, more in batches:
            images, labels = images.to(self.device), labels.to(self.device)
            self.box.pre_forward_process()
            loss = self.box.forward_process(images, labels, more)
            self.box.post_forward_process(loss)
            meters.update(loss=loss.item(), lr=self.box.optimizer.param_groups[0]["lr"])
        if self.box.val_data_loader is not None:
            textbook.accuracy(self.box.student_model, self.box.val_data_loader, self.setting.device)
        self.box.post_epoch_process()
        self.number += 1
        return float(meters.loss.global_avg)

    def _config(self, epochs: int, validates: bool) -> dict[str, Any]:
        settings = dict(self.setting.optimiser)
        config = {
            "num_epochs": epochs,
            "train_data_loader": self._loader("train", RandomSampler),
            "teacher": {"forward_proc": "forward_batch_only", "requires_grad": False},
            "student": {"forward_proc": "forward_batch_only"},
            "optimizer": {"key": settings.pop("name"), "kwargs": settings},
            "criterion": {"key": "WeightedSumLoss", "kwargs": {"sub_terms": {"kd": self._loss()}}},
        }
        if validates:
            config["val_data_loader"] = self._loader("validation", SequentialSampler) | {
                "requires_supp": False
            }
        return config

    def _loader(self, part: str, sampler: Any) -> dict[str, Any]:
        settings = {"batch_size": self.setting.batch, "num_workers": self.setting.workers, "drop_last": False}
        return {"dataset_id": part, "sampler": {"class_or_func": sampler}, "kwargs": settings}

    def _loss(self) -> dict[str, Any]:
        logits = {f"{role}_module_path": "." for role in ("student", "teacher")}
        logits |= {f"{role}_module_io": "output" for role in ("student", "teacher")}
        weights = {"alpha": 1 - self.setting.alpha, "beta": self.setting.alpha}
        more = {"temperature": self.setting.temperature, "reduction": "batchmean"}
        return {"criterion": {"key": "KDLoss", "kwargs": {**logits, **weights, **more}}, "weight": 1.0}
