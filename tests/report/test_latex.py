"""Tables as LaTeX."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

from kdrun.report.latex import Number, TableRow, escaped, figure, latex

ROWS = [
    TableRow("resnet32x4 -> resnet8x4"),
    TableRow("kd", [Number(73.171, 0.21), Number(0.7, 0.2, gain=True), "73.33 +- 0.25 (5)"]),
    TableRow("crd+kd", [Number(75.33, 0.2, "best"), Number(2.84, None, gain=True), None]),
    TableRow("vgg13_cifar -> vgg8"),
    TableRow("at_kd", [Number(75.1, 0.3, "tie"), "-0.40", ""]),
]

EXPECTED = r"""% needs \usepackage{booktabs}
\begin{table}
\centering
\caption{Top-1, \%: 2 seeds \& more}
\label{tab:x}
\begin{tabular}{lrrr}
\toprule
method & student & gain & published \\
\midrule
\multicolumn{4}{l}{\emph{resnet32x4 $\to$ resnet8x4}} \\
kd & $73.17_{\pm 0.21}$ & $+0.70_{\pm 0.20}$ & 73.33 $\pm$ 0.25 (5) \\
crd+kd & $\mathbf{75.33}_{\pm 0.20}$ & $+2.84$ & -- \\
\midrule
\multicolumn{4}{l}{\emph{vgg13\_cifar $\to$ vgg8}} \\
at\_kd & $\underline{75.10}_{\pm 0.30}$ & $-0.40$ &  \\
\bottomrule
\end{tabular}
\end{table}
"""


def rendered() -> str:
    columns = ["student", "gain", "published"]
    return latex(columns, ROWS, caption="Top-1, %: 2 seeds & more", label="tab:x", corner="method")


def test_a_whole_table() -> None:
    assert rendered() == EXPECTED


@pytest.mark.parametrize(
    ("value", "digits", "text"),
    [
        (Number(75.0), 2, "$75.00$"),
        (Number(75.04, 0.06), 1, r"$75.0_{\pm 0.1}$"),
        (Number(-0.001, 0.2, gain=True), 2, r"$0.00_{\pm 0.20}$"),
        (Number(1.5, 0.5, "best", True), 1, r"$\mathbf{+1.5}_{\pm 0.5}$"),
        (Number(-0.1, gain=True, star=True), 1, "$-0.1^{*}$"),
    ],
)
def test_a_figure(value: Number, digits: int, text: str) -> None:
    assert figure(value, digits) == text


def test_latexs_own_characters() -> None:
    assert escaped(r"a_b {5%} #1 \x ~ ^ $ &") == (
        r"a\_b \{5\%\} \#1 \textbackslash{}x \textasciitilde{} \textasciicircum{} \$ \&"
    )
    assert escaped("p < 0.05, 3 +- 1") == r"p $<$ 0.05, 3 $\pm$ 1"


def test_without_caption_and_label() -> None:
    text = latex(["a"], [TableRow("x", [Number(1.0)])])
    assert "caption" not in text and "label" not in text and " & a \\\\" in text


def has_booktabs() -> bool:
    """Whether there is a LaTeX that has the package the table needs."""
    if shutil.which("pdflatex") is None or shutil.which("kpsewhich") is None:
        return False
    return subprocess.run(["kpsewhich", "booktabs.sty"], capture_output=True).returncode == 0


@pytest.mark.skipif(not has_booktabs(), reason="no LaTeX with booktabs here")
def test_it_compiles(tmp_path: Path) -> None:
    page = (
        "\\documentclass{article}\\usepackage{booktabs}\\begin{document}\n" + rendered() + "\\end{document}\n"
    )
    (tmp_path / "page.tex").write_text(page)
    subprocess.run(["pdflatex", "-halt-on-error", "page"], cwd=tmp_path, check=True, capture_output=True)
