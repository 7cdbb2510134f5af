"""Names that a configuration may choose from, for the check and for the code that acts on them. No torch."""

from __future__ import annotations

from collections.abc import Iterable

ROLES = ("teacher", "student")

DATASET_KEYS = (
    *("name", "source", "train", "validation", "test", "split", "labelled", "label_seed"),
    *("views", "mean", "std", "white", "resize", "headline", "recipe"),
)
"""The keys that every data set has; all others are arguments of its source's `read`."""

DATASET_OPTIONS = ("unlabelled", "unlabelled_confidence", "unlabelled_top_k")
"""Keys that a data set may have for images without labels beside the training part."""

DATASET_HINTS = ("temperature", "methods", "pair")
"""Keys that a data set may have for methods and models; they do not concern its images."""

COMBINED_BY = ("mean_probabilities", "mean_logits")
"""How the answers of several teachers become one."""
COMBINED_WEIGHTS = ("auto", "fixed", "confidence", "most_confident", "entropy", "energy", "known")
"""What each of several teachers counts on an image."""
CONTROLS = ("plain", "smoothed", "teacher_free", "self", "longer")
"""What a student is compared with, in the order of the columns."""
PLAIN = "control"
"""The role of the plain control; the others are `control_smoothed` and so on."""
HEADS = ("auto", "none")
"""none: a teacher without a classifier."""
DEVICES = ("auto", "cpu", "cuda", "cuda:0", "mps")
DIAGNOSTICS = ("gradients",)
EVALUATORS = ("accuracy", "calibration", "blocks", "agreement", "gap", "cost")
"""What evaluation.figures is if it is not given."""
UNSAID = ("accuracy", "calibration", "agreement", "gap", "cost")
"""The evaluators of reports that name none: those of versions before there was a choice. It never changes,
since fingerprints of reports depend on it.
"""
HEADLINES = ("auto", "last", "val_best")
"""Weights that a report is about; auto decides by the data."""
LOGGERS = ("tensorboard", "wandb", "mlflow")
OPTIMISERS = ("sgd", "adam", "adamw")
PRECISIONS = ("auto", "fp32", "tf32", "bf16")
REPEATS = ("seed", "teacher.seed", "student.seed", "dataset.label_seed", "dataset.split")
"""Keys that make another sample of the same setting, not another setting."""
APART = ("fresh", "device", "threads", "outputs_dir", "data_dir", "name", "note", "tags", "engine")
"""Keys (engine with all below it) that change no result, and so neither the name of a sweep's folder nor that
of a job.
"""
QUANTISED = ("int8",)
"""The number formats in which student and control can be measured as well."""
RESIZES = ("auto", "none")
"""auto: images are enlarged inside a model if it takes no smaller ones."""
SCHEDULES = ("constant", "step", "cosine", "onecycle")
"""Of the learning rate."""
STAGES = ("teacher", "student", "evaluate")
STEMS = ("auto", "cifar", "imagenet")
SWITCHES = ("auto", "off")
TABLE_DTYPES = ("fp32", "fp16")
"""How the answers of a teacher are kept."""
TRANSFERS = ("all", "labelled", "unlabelled")
"""The images that a student is taught on."""

VIEWS = ("none", "crop_flip", "affine", "resized_crop")

KEY_CHOICES = {
    "stages": STAGES,
    "transfer": TRANSFERS,
    "control": ("true", "false", *CONTROLS),
    "quantise": QUANTISED,
    "combine.by": COMBINED_BY,
    "combine.weights": COMBINED_WEIGHTS,
    "device": DEVICES,
    "precision": PRECISIONS,
    "logger": LOGGERS,
    "diagnostics": DIAGNOSTICS,
    "dataset.headline": HEADLINES,
    "dataset.resize": RESIZES,
    "dataset.views.name": VIEWS,
    "ROLE.stem": STEMS,
    "teacher.head": HEADS,
    "recipe.ROLE.optimiser": OPTIMISERS,
    "recipe.ROLE.schedule": SCHEDULES,
    "runtime.table": SWITCHES,
    "runtime.graph": SWITCHES,
    "runtime.table_dtype": TABLE_DTYPES,
    "evaluation.figures": EVALUATORS,
}
"""The words that a key takes. ROLE: teacher or student."""


def shown_role(role: str) -> str:
    """A role on the screen and in pictures: a control as it is asked for, the plain one as `control`."""
    return role.removeprefix(f"{PLAIN}_")


def shown_beside(role: str, roles: Iterable[str]) -> str:
    """A role in a picture of several: beside other controls the plain one is `plain`."""
    others = any(is_control(other) and other != PLAIN for other in roles)
    return "plain" if role == PLAIN and others else shown_role(role)


def is_control(role: str) -> bool:
    """Whether a model of this role is one that the student is compared with."""
    return role == PLAIN or role.startswith(f"{PLAIN}_")
