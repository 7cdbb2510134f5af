from __future__ import annotations

import copy
from io import StringIO

import pytest
from rich.console import Console

from kdrun.report.content import build
from kdrun.report.table import render, text
from tests.report.example import FIELDS, example, without_control

AT_80 = """\
cnn_digits (teacher) -> cnn_digits_small (student, control) on digits_few
1,000 test images, after the last epoch
median latency on cpu, 1 thread

                                    teacher     student     control
top-1 test              %              92.4        90.6        86.8
top-5 test              %              99.0        99.0        99.0
top-1 validation        %              92.9        91.4        87.3
NLL test                nats          0.312       0.341       0.554
ECE test                %               3.4         2.8         6.2
agreement with teacher  %                 -        93.1           -
KL from teacher         nats              -       0.112           -
gap to teacher closed   %                 -          68           -
parameters                          121,994         994         994
MACs                                  969 k      3.78 k      3.78 k
latency, batch 1        ms           0.0670      0.0246      0.0250
latency, batch 32       ms            0.804       0.295       0.300
trained in                    0:05 (cached)        0:04        0:02

The distilled student beats its control by 3.8 points (95 % interval +1.9 to
+5.7, over the test images only: one seed), with the help of 540 unlabelled
images. It has 123 x fewer parameters than the teacher and answers 2.7 x as fast
at batch 1 on cpu.
"""

AT_120_WITHOUT_CONTROL = """\
cnn_digits (teacher) -> cnn_digits_small (student) on digits_few
1,000 test images, after the last epoch
median latency on cpu, 1 thread

                                    teacher     student
top-1 test              %              92.4        90.6
top-5 test              %              99.0        99.0
top-1 validation        %              92.9        91.4
NLL test                nats          0.312       0.341
ECE test                %               3.4         2.8
agreement with teacher  %                 -        93.1
KL from teacher         nats              -       0.112
parameters                          121,994         994
MACs                                  969 k      3.78 k
latency, batch 1        ms           0.0670      0.0246
latency, batch 32       ms            0.804       0.295
trained in                    0:05 (cached)        0:04

There is no control, so nothing is claimed about a gain from distillation: the student scores 90.6 %, the teacher scores
92.4 % on test, one seed. It has 123 x fewer parameters than the teacher and answers 2.7 x as fast at batch 1 on cpu.
"""  # noqa: E501


def test_at_80_columns() -> None:
    assert text(example(), 80) == AT_80


def test_at_120_columns_without_a_control() -> None:
    assert text(without_control(), 120) == AT_120_WITHOUT_CONTROL


@pytest.mark.parametrize("width", [40, 60, 79, 80, 120])
def test_no_line_is_too_long_and_none_ends_in_a_space(width: int) -> None:
    fields = copy.deepcopy(FIELDS)
    for model in fields["models"].values():
        model["name"] = "timm/vit_large_patch14_reg4_dinov2.lvd142m_something_long"
    for line in text(build(**fields), width).splitlines():
        assert len(line) <= width and line == line.rstrip()


def test_plain_text_has_no_control_characters(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("FORCE_COLOR", "CLICOLOR_FORCE"):
        monkeypatch.setenv(name, "1")
    assert all(character.isprintable() or character == "\n" for character in text(example()))


@pytest.mark.parametrize("no_color", [False, True])
def test_no_color_leaves_no_colour_on_a_terminal(monkeypatch: pytest.MonkeyPatch, no_color: bool) -> None:
    monkeypatch.delenv("NO_COLOR", raising=False)
    if no_color:
        monkeypatch.setenv("NO_COLOR", "1")
    sink = StringIO()
    Console(file=sink, width=80, force_terminal=True, color_system="standard").print(render(example()))
    assert ("\x1b[32m" in sink.getvalue()) != no_color  # green: better


def test_figures_that_were_not_measured_have_no_row() -> None:
    fields = copy.deepcopy(FIELDS)
    for model in fields["models"].values():
        del model["last"]["test"]["top5"], model["latency"]
        del model["last"]["validation"]
    del fields["comparison"]["gap_closed"]
    shown = text(build(**fields))
    for label in ("top-5", "latency", "validation", "gap to teacher"):
        assert label not in shown
    assert "0.0" not in shown


def test_the_headline_is_named() -> None:
    report = example()
    report["headline"] = "val_best"
    for model in report["models"].values():
        model["val_best"] = model.pop("last")
    assert "1,000 test images, at the epoch best on validation" in text(report)


def test_each_latency_names_its_device_where_there_are_several() -> None:
    report = example()
    row = {**report["models"]["student"]["latency"][0], "device": "cuda", "mode": "graph", "p50_ms": 0.5}
    report["models"]["student"]["latency"].append(row)  # type: ignore[arg-type]
    shown = " ".join(text(report, 100).split())
    assert "latency, batch 1, cpu, 1 thread ms 0.0670 0.0246 0.0250" in shown
    assert "latency, batch 1, cuda, graph ms - 0.500 -" in shown
    assert "median latency on" not in shown


def test_where_weights_came_from_stands_instead_of_a_time() -> None:
    report = example()
    report["models"]["teacher"] |= {"source": "pretrained"}
    assert "pretrained" in text(report)


def test_brackets_are_no_markup() -> None:
    report = example()
    report["dataset"]["name"] = "[bold]mine[/bold]"
    assert "on [bold]mine[/bold]" in text(report)


def test_of_those_in_between_the_table_has_the_one_that_taught_the_student() -> None:
    fields = copy.deepcopy(FIELDS)
    models = fields["models"]
    fields["models"] = models | {
        name: models["teacher"] | {"name": name} for name in ("assistant1", "assistant2")
    }
    fields["comparison"]["learned_from"] = "assistant2"
    shown = text(build(**fields), 100)
    assert "cnn_digits (teacher) -> assistant1 (assistant1) -> assistant2 (assistant2) -> cnn_dig" in shown
    assert "top-1 test: teacher 92.4, assistant1 92.4, assistant2 92.4, student 90.6" in shown
    assert ["teacher", "assistant2", "student", "control"] in [line.split() for line in shown.splitlines()]
    (row,) = [line.split() for line in shown.splitlines() if line.startswith("agreement with assistant2")]
    assert row[3:] == ["%", "-", "-", "93.1", "-"]
