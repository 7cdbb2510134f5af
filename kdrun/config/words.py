"""The words that people type for keys: by the last part of any key, and by what other tools call it."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from typing import Any

from kdrun.config.choices import KEY_CHOICES
from kdrun.config.keys import keys, known
from kdrun.errors import KdrunError, nearest

SYNONYMS: dict[str, tuple[str, ...]] = {
    "epochs": ("num_epochs", "n_epochs", "max_epochs", "total_epochs", "epoch"),
    "batch": ("batch_size", "batchsize", "bs", "train_batch_size", "batches_per_step"),
    "lr": ("learning_rate", "lr0", "base_lr", "max_lr", "rate"),
    "optimiser": ("optimizer", "optim", "opt"),
    "temperature": ("t", "tau", "temp", "kd_t", "kd_temperature"),
    "alpha": ("lambda", "kd_weight", "distill_weight", "distillation_weight", "lambda_kd"),
    "weight_decay": ("wd", "decay", "l2", "weightdecay"),
    "schedule": ("scheduler", "lr_scheduler", "lr_schedule", "sched"),
    "milestones": ("steps", "lr_decay_epochs", "step_size"),
    "warmup": ("warmup_epochs", "warmup_steps", "warmup_ratio", "pct_start"),
    "stop_at": ("patience", "early_stopping", "early_stop"),
    "label_smoothing": ("smoothing", "label_smooth"),
    "clip": ("grad_clip", "clip_grad", "max_norm", "max_grad_norm", "gradient_clip_val"),
    "workers": ("num_workers", "n_workers", "dataloader_workers"),
    "device": ("gpu", "gpus", "cuda", "cpu", "accelerator", "gpu_id"),
    "precision": ("amp", "fp16", "bf16", "half", "mixed_precision", "dtype"),
    "pretrained": ("weights", "pretrain"),
    "checkpoint": ("ckpt", "load_from", "resume_from", "teacher_path", "path_t"),
    "dataset.views.name": ("augmentation", "augment", "augmentations", "aug", "transforms", "transform"),
    "dataset": ("data", "dataset_name"),
    "data_dir": ("data_path", "data_root", "root", "datadir"),
    "outputs_dir": ("output", "outputs", "output_dir", "out_dir", "out", "save_dir", "project", "log_dir"),
    "method": ("distill", "distiller", "distillation", "kd", "algorithm"),
    "teacher": ("model_t", "teacher_model", "teacher_name", "model_name_t"),
    "student": ("model_s", "student_model", "student_name", "model_name_s"),
    "seed": ("random_seed", "random_state", "manual_seed", "trial"),
    "fresh": ("overwrite", "force", "exist_ok", "restart", "no_cache"),
    "logger": ("wandb", "tensorboard", "mlflow", "log", "tracker", "report_to"),
    "dataset.train": ("subset", "fraction", "limit", "train_size", "max_samples", "limit_train_batches"),
    "dataset.validation": ("val", "val_split", "val_size", "validation_split", "valid"),
    "dataset.test": ("test_size", "test_split"),
    "dataset.size": ("imgsz", "img_size", "image_size", "input_size", "crop"),
    "dataset.labelled": ("labeled", "labels", "num_labels", "labels_per_class"),
    "quick": ("fast_dev_run", "debug", "dry_run", "smoke", "smoke_test"),
    "evaluation.batches": ("eval_batch_size", "test_batch_size"),
    "runtime.compile": ("torch_compile", "jit"),
    "quantise": ("quantize", "quantization", "quantisation", "quant", "qat", "ptq"),
    "int8.weight_bits": ("bits", "n_bits", "num_bits", "bitwidth", "bit_width"),
    "engine": ("launcher", "cluster"),
    "student.reuse_classifier": ("share_classifier",),
}
"""Other words for a key, or for the last part of several."""

ADVICE = {
    "resume": "not needed: the same command continues. By a run's id: kdrun continue RUN",
    "resume_training": "not needed: the same command continues. By a run's id: kdrun continue RUN",
    "verbose": "there is no such setting: in a file or a pipe each epoch is a line",
    "num_classes": "not needed: the data set says how many classes there are",
    "n_classes": "not needed: the data set says how many classes there are",
}
"""Answers to words that need no key."""

NEAR = 0.6
"""How alike two words must be (difflib) for one to be meant."""

FEW = 6
"""So many keys are all named if none is like the one that was typed."""

SHOWN = 5
"""So many keys are named that may be meant."""


def no_such_key(key: str, value: Any, choices: Sequence[str], every: Sequence[str] = ()) -> KdrunError:
    """A key that does not exist, with those that may be meant, or else that are spelled most like it.

    choices: the keys beside it. every: all keys of this run.
    """
    typed = key if value is None else f"{key}={value}"
    if problem := advice(key):
        return KdrunError(typed, None, f"no such key, and {problem}")
    if files := files_with(key):
        return KdrunError(typed, None, f"no such key here, only with {any_of(files, most=len(files))}")
    if own := meant(key, every):
        values = KEY_CHOICES.get(own[0], ()) if len(own) == 1 else ()
        which = f" ({' | '.join(values)})" if values else ""
        return KdrunError(typed, None, f"no such key. Is it {any_of(own)}{which}?")
    others = [name for name in (*known(), *every) if name != key]  # it can be one of another data set
    close = alike(key, choices) or alike(key, others)
    if close or len(choices) <= FEW:
        label = f". Nearest: {', '.join(close[:3])}" if close else ""
        return KdrunError(typed, None, f"no such key{label}", () if close else choices)
    return KdrunError(typed, None, "no such key", more="kdrun list keys")


def any_of(names: Sequence[str], most: int = SHOWN) -> str:
    """`a, b or c`, at most `most` of them."""
    *first, last = names[:most]
    more = (
        f" ({len(names) - most} more: kdrun explain {names[0].rpartition('.')[2]})"
        if len(names) > most
        else ""
    )
    return (f"{', '.join(first)} or {last}" if first else last) + more


def meant(key: str, among: Sequence[str] = ()) -> list[str]:
    """The keys that a typed key may mean, the nearest below the same keys; none if nothing is alike.

    among: further keys that exist in this run, such as those of its terms.
    """
    *above, word = key.lstrip("+~-").replace("-", "_").split(".")
    word = word.lower()
    names = [next((name for name, words in SYNONYMS.items() if word in words), word)]
    every = list(dict.fromkeys([*known(), *among]))
    fitting = [own for name in names for own in every if own == name or own.endswith(f".{name}")]
    inside = [own for own in fitting if set(above) & set(own.split(".")[:-1])]
    near = [own for own in inside if set(above) <= set(own.split(".")[:-1])] or inside or fitting
    return near if near != [key] else []


def advice(key: str) -> str:
    """What to say of a word that needs no key; empty if it has none."""
    return ADVICE.get(key.lstrip("+~-").replace("-", "_").lower(), "")


def files_with(key: str) -> list[str]:
    """The choices that alone have this key: `engine=slurm` for `engine.partition`, or none."""
    every = (each for each in keys() if each.name == key.lstrip("+~"))
    return [of.replace(" ", "=") for each in every for of in each.of]


def alike(key: str, choices: Iterable[str]) -> list[str]:
    """The choices that are spelled much like a key."""
    from difflib import SequenceMatcher

    last = key.rpartition(".")[2]
    return [
        choice
        for choice in nearest(key, choices, most=0)
        if SequenceMatcher(None, last.lower(), choice.rpartition(".")[2].lower()).ratio() >= NEAR
    ]


def flag_hint(flag: str, value: str) -> str:
    """`temperature=3` for the flag `--temperature 3`, if there is such a key."""
    own = meant(flag)
    if not own or not re.fullmatch(r"--?\w[\w.-]*", flag):
        return ""
    return " or ".join(f"{key}={value or '...'}" for key in own[:2])
