from __future__ import annotations

import re

from kdrun.report.markdown import markdown
from kdrun.report.tables import pipe_table
from tests.report.example import example, without_control


def test_everything_is_on_the_page() -> None:
    page = markdown(example())
    assert page.startswith(
        "# digits_few-cnn_digits-cnn_digits_small-kd\n\nThe distilled student beats its control"
    )
    for part in (
        "`0.1 CE + 0.9 2^2 KL(teacher || student, T=2)`",
        "| data set | digits_few, 10 classes, train 600 (60 labelled), validation 197, test 1,000, images",
        "| terms | 0.1 hard, 0.9 soft |",
        "| seeds | run 0, teacher 0, label 0, split 0 |",
        "| top-1 test | % | 92.4 | 90.6 | 86.8 |",
        "| latency, batch 1, p95 | ms | 0.0871 | 0.0320 | 0.0325 |",
        "| weights |  | 488 kB | 3.98 kB | 3.98 kB |",
        "**it does not cover the spread between seeds**",
        "McNemar's mid-p < 0.001",
        "Speed-up over the teacher: 4.8 x at batch 32 on cpu, 2.7 x at batch 1 on cpu.",
        "| torch | 2.6.0 |",
        "![curves](curves.png)",
        "![confusion](confusion.png)",
    ):
        assert part in page


def test_every_table_is_rectangular() -> None:
    for block in re.findall(r"(?m)(?:^\|.*\n)+", markdown(example())):
        assert len({len(re.findall(r"(?<!\\)\|", line)) for line in block.splitlines()}) == 1


def test_without_a_control_no_gain_is_explained() -> None:
    page = markdown(without_control(), plots=())
    assert "nobody can tell whether the teacher helped" in page
    assert "McNemar" not in page and "control" not in page.partition("## Figures")[2].partition("##")[0]
    assert "![" not in page


def test_what_is_absent_is_not_explained() -> None:
    report = example()
    for model in report["models"].values():
        for scores in model["last"].values():
            del scores["ece"], scores["nll"]  # type: ignore[attr-defined]
            scores.pop("ece_calibrated", None)  # type: ignore[attr-defined]
    del report["comparison"]["speedup"], report["environment"]
    page = markdown(report)
    assert "ECE" not in page and "NLL" not in page and "Latencies" not in page and "Environment" not in page


def test_pipes_in_cells_are_escaped() -> None:
    assert pipe_table(["a"], [["x | y"]])[2] == "| x \\| y |"
