from __future__ import annotations

from kdrun.evaluation.figure import Figure
from kdrun.report.placing import placed


def test_figures_stand_where_reports_have_them() -> None:
    figures = [
        Figure("top1", 90.0, "%", "student", "test", "last"),
        Figure("entropy", 0.2, "nats", "student", "test", "last"),
        Figure("params", 994, "", "student"),
        Figure("depth", 3, "layers", "teacher"),
        Figure("agreement", 93.1, "%", "student"),
    ]
    assert placed(figures) == {
        "models": {
            "student": {"last": {"test": {"top1": 90.0, "entropy": 0.2}}, "params": 994},
            "teacher": {"figures": {"depth": 3}},
        },
        "comparison": {"agreement": 93.1},
        "units": {"top1": "%", "entropy": "nats", "params": "", "depth": "layers", "agreement": "%"},
    }
