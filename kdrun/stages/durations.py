"""Estimates of the time of an evaluation, for what a screen says is left."""

from __future__ import annotations

from kdrun.plan.plan import Plan

EVALUATION = 0.5
"""Seconds of a job's evaluation without latencies, for small models."""


def evaluation_seconds(plan: Plan) -> float:
    """Estimated seconds of a job's evaluation."""
    return EVALUATION + latency_seconds(plan) if "evaluate" in plan.run.stages else 0.0


def latency_seconds(plan: Plan) -> float:
    """Seconds of its latencies: up to `evaluation.seconds` for each batch size and device, of all models
    together.
    """
    evaluation = plan.run.evaluation
    devices = 1 if plan.ground.machine.device.type == "cpu" else 2
    return len(evaluation.batches) * devices * evaluation.seconds if evaluation.latency else 0.0
