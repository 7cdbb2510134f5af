"""A complete report and a sweep to test with; the figures are made up."""

from __future__ import annotations

import copy
from typing import Any

from kdrun.evaluation.counts import as_good
from kdrun.report.content import build
from kdrun.report.schema import Report


def scores(n: int, top1: float, nll: float, ece: float) -> dict[str, Any]:
    return {"n": n, "top1": top1, "top5": 99.0, "nll": nll, "ece": ece}


def latency(p50: float) -> list[dict[str, Any]]:
    how = {"device": "cpu", "mode": "eager", "threads": 1}
    return [
        {**how, "batch": batch, "p50_ms": ms, "p95_ms": 1.3 * ms, "images_per_s": 1000 * batch / ms, "n": 200}
        for batch, ms in ((1, p50), (32, 12 * p50))
    ]


FIELDS: dict[str, Any] = {
    "kdrun": "0.1.0",
    "label": "digits_few-cnn_digits-cnn_digits_small-kd",
    "fingerprint": "3f9a1c0d22",
    "created": "2026-01-02T03:04:05+00:00",
    "command": "kdrun",
    "config": {"alpha": 0.9, "temperature": None, "seed": 0, "loss": {"soft": {"weight": 0.9}}},
    "equation": "0.1 CE + 0.9 2^2 KL(teacher || student, T=2)",
    "dataset": {
        "name": "digits_few",
        "classes": 10,
        "train": 600,
        "labelled": 60,
        "validation": 197,
        "test": 1000,
        "image_shape": [1, 8, 8],
    },
    "seeds": {"run": 0, "teacher": 0, "label": 0, "split": 0},
    "headline": "last",
    "models": {
        "teacher": {
            "name": "cnn_digits",
            "params": 121994,
            "macs": 969344,
            "bytes": 487976,
            "source": "cache",
            "epochs": 40,
            "train_seconds": 5.2,
            "last": {
                "validation": scores(197, 92.9, 0.31, 3.1),
                "test": {**scores(1000, 92.4, 0.312, 3.4), "temperature": 1.31, "ece_calibrated": 1.9},
            },
            "latency": latency(0.067),
        },
        "student": {
            "name": "cnn_digits_small",
            "params": 994,
            "macs": 3776,
            "bytes": 3976,
            "source": "trained",
            "epochs": 80,
            "train_seconds": 4.4,
            "last": {
                "validation": scores(197, 91.4, 0.33, 2.9),
                "test": {**scores(1000, 90.6, 0.341, 2.8), "temperature": 1.1, "ece_calibrated": 2.2},
            },
            "latency": latency(0.0246),
        },
        "control": {
            "name": "cnn_digits_small",
            "params": 994,
            "macs": 3776,
            "bytes": 3976,
            "source": "trained",
            "epochs": 80,
            "train_seconds": 2.1,
            "last": {
                "validation": scores(197, 87.3, 0.52, 6.0),
                "test": {**scores(1000, 86.8, 0.554, 6.2), "temperature": 1.6, "ece_calibrated": 2.5},
            },
            "latency": latency(0.025),
        },
    },
    "distillation": {
        "method": "kd",
        "temperature": 2.0,
        "alpha": 0.9,
        "terms": {"hard": 0.1, "soft": 0.9},
        "teacher": {"plan": "live", "forwards": 48000},
        "unlabelled": 540,
    },
    "comparison": {
        "gain_top1": 3.8,
        "gain_interval": [1.9, 5.7],
        "mcnemar_p": 0.0001,
        "verdict": "better",
        "gap_closed": 0.679,
        "agreement": 93.1,
        "kl_teacher_student": 0.112,
        "speedup": [
            {"device": "cpu", "mode": "eager", "batch": 32, "ratio": 4.8, "significant": True},
            {"device": "cpu", "mode": "eager", "batch": 1, "ratio": 2.72, "significant": True},
        ],
        "compression": 122.7,
    },
    "environment": {"python": "3.11.7", "torch": "2.6.0", "device": "cpu", "threads": 1},
}


def example() -> Report:
    """The default run: a student that beats its control."""
    return build(**copy.deepcopy(FIELDS))


def without_control() -> Report:
    """The same run with control=false."""
    fields = copy.deepcopy(FIELDS)
    del fields["models"]["control"]
    for key in ("gain_top1", "gain_interval", "mcnemar_p", "verdict", "gap_closed"):
        del fields["comparison"][key]
    return build(**fields)


def job(overrides: dict[str, Any], gain: float, control: float = 87.0, seed: int = 0) -> dict[str, Any]:
    """A finished job of a sweep: `gain` points over the control on validation, half a point less on test."""
    report = example()
    report["config"] = dict(overrides)
    report["seeds"]["run"] = seed
    for part, less in (("validation", 0.0), ("test", 0.5)):
        report["models"]["control"]["last"][part]["top1"] = control - less
        report["models"]["student"]["last"][part]["top1"] = control - less + gain - less
    report["comparison"]["gain_top1"] = gain - 0.5
    return {"overrides": overrides, "report": report, "error": None, "folder": "outputs/runs/x"}


def failed(overrides: dict[str, Any]) -> dict[str, Any]:
    """A job that died."""
    return {
        "overrides": overrides,
        "report": None,
        "error": "the loss is not finite",
        "folder": "outputs/runs/y",
    }


def grid() -> list[dict[str, Any]]:
    """temperature 1, 2, 4 x alpha 0.5, 0.9 x 3 seeds; temperature 4 failed once at 0.5 and always at 0.9."""
    gains = {(1, 0.5): 3.0, (1, 0.9): 1.0, (2, 0.5): 4.0, (2, 0.9): 4.5, (4, 0.5): 5.0}
    jobs = []
    for temperature in (4, 1, 2):
        for alpha in (0.5, 0.9):
            for seed in (0, 1, 2):
                overrides = {"temperature": temperature, "alpha": alpha, "seed": seed}
                if (temperature, alpha, seed) == (4, 0.5, 1) or (temperature, alpha) == (4, 0.9):
                    jobs.append(failed(overrides))
                else:
                    gain = gains[temperature, alpha] + (-0.2, 0.0, 0.2)[seed]
                    jobs.append(job(overrides, gain, 86.0 + seed, seed))
    return jobs


def replacing(difference: float = -0.3, low: float = -0.8, high: float = 0.2) -> Report:
    """The same run with a model that the student is to replace."""
    fields = copy.deepcopy(FIELDS)
    own = {"name": "resnet50", "source": "run", "began_from": "big/teacher", "latency": latency(0.067)}
    own |= {"params": 121994, "macs": 969344, "bytes": 487976, "fingerprint": "a1"}
    fields["models"]["reference"] = {**own, "last": {"test": scores(1000, 90.9, 0.3, 3.0)}}
    against = {"difference": difference, "at_least": low, "at_most": high, "margin": 1.0}
    against["verdict"] = as_good(low, high, 1.0)
    against["speedup"] = [
        {"device": "cpu", "mode": "eager", "batch": 1, "ratio": 2.72, "significant": True},
        {"device": "cpu", "mode": "eager", "batch": 32, "ratio": 1.05, "significant": False},
    ]
    fields["comparison"]["reference"] = against
    return build(**fields)
