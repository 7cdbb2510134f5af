"""Names that a configuration may choose from, for the check and for the code that acts on them. No torch."""

from __future__ import annotations

DATASET_KEYS = (
    *("name", "source", "train", "validation", "test", "split", "labelled", "label_seed"),
    *("views", "mean", "std", "white", "resize", "headline", "recipe"),
)
"""The keys that every data set has; all others are arguments of its source's `read`."""

DATASET_HINTS = ("temperature", "methods")
"""Keys that a data set may have for methods; they do not concern its images."""

COMBINED_BY = ("mean_probabilities", "mean_logits")
"""How the answers of several teachers become one."""
COMBINED_WEIGHTS = ("auto", "fixed", "confidence", "most_confident", "entropy", "energy", "known")
"""What each of several teachers counts on an image."""
DEVICES = ("auto", "cpu", "cuda", "cuda:0", "mps")
DIAGNOSTICS = ("gradients",)
EVALUATORS = ("accuracy", "calibration", "blocks", "agreement", "gap", "cost")
"""Figures of a report that says nothing else."""
HEADLINES = ("auto", "last", "val_best")
"""Weights that a report is about; auto decides by the data."""
LOGGERS = ("tensorboard", "wandb", "mlflow")
OPTIMISERS = ("sgd", "adam", "adamw")
PRECISIONS = ("auto", "fp32", "tf32", "bf16")
RESIZES = ("auto", "none")
"""auto: images are enlarged inside a model if it takes no smaller ones."""
SCHEDULES = ("constant", "step", "cosine", "onecycle")
"""Of the learning rate."""
STAGES = ("teacher", "student", "evaluate")
STEMS = ("auto", "cifar", "imagenet")
SWITCHES = ("auto", "off")
TABLE_DTYPES = ("fp32", "fp16")
"""How the answers of a teacher are kept."""
TRANSFERS = ("all", "labelled")
"""The images that a student is taught on."""
