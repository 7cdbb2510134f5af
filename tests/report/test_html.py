"""The HTML page: it says what report.md says, fetches nothing, and no name of a user becomes a script."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("bokeh")
pytest.importorskip("jinja2")

from kdrun.report import answers, sweep_files, thumbnails
from kdrun.report.blocks import Bullets, Table
from kdrun.report.html import document, pages
from kdrun.report.markdown import sections
from kdrun.report.mistakes import facts
from kdrun.report.read import read
from tests.report.example import example, job

BAD = "</script><script>document.title='bad'</script><img src=//x onerror=alert(1)>"
CLASSES = ["cat", f"dog{BAD}", "$$x^2$$"]
BROWSER = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")


def row(stage: str, epoch: int, top1: float) -> dict[str, Any]:
    measured = {"validation": {"top1": top1, "nll": 0.5}, "seconds": 0.1}
    return {"stage": stage, "epoch": epoch, "epochs": 9, "lr": 0.01, "loss": 1 / epoch, **measured}


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished run with names that would be markup."""
    folder = tmp_path_factory.mktemp("outputs") / "runs" / "first-0123456789ab"
    folder.mkdir(parents=True)
    labels = np.array([0, 0, 1, 1, 2, 2])
    kept = {"classes": np.array(CLASSES), "test/labels": labels}
    kept |= {f"test/{role}": (labels + shift) % 3 for role, shift in (("teacher", 0), ("student", 1))}
    kept |= {"test/control": np.zeros(6, int)}
    answers.write(folder, kept)
    report = example()
    report.update(facts(kept))  # type: ignore[typeddict-item]
    report["label"], report["notes"] = f"first{BAD}", [f"`{BAD}` and **{BAD}**"]
    (folder / "report.json").write_text(json.dumps(report))
    rows = [row(stage, epoch, 80 + epoch) for stage in ("teacher", "student") for epoch in range(1, 10)]
    (folder / "metrics.jsonl").write_text("".join(json.dumps(each) + "\n" for each in rows))
    (folder / "about.json").write_text(json.dumps({"name": "first", "note": BAD}))
    logits = np.array([[3.0, 1.0, 0.0], [0.0, 2.0, 1.0]])
    images = np.zeros((2, 1, 8, 8), np.uint8)
    shown = {"errors/rows": np.array([0, 1]), "errors/images": images, "knowledge/rows": np.array([0, 2])}
    shown |= {"knowledge/images": images, "knowledge/logits": logits, "taught_by": np.array("teacher")}
    shown |= {"temperature": np.array(4.0), "entropy": thumbnails.entropies(logits)}
    shown |= {"parted/rows": np.array([1]), "parted/images": images[:1], "parted/count": np.array(6)}
    thumbnails.write(folder, {**shown, "parted/shares": np.array([[0.9, 0.8]])})
    return folder


@pytest.fixture(scope="module")
def text(run: Path) -> str:
    return document.document(pages.of_run(run))


class Tags(HTMLParser):
    """All tags with their attributes, all texts, and the contents of scripts."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.texts: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_data(self, data: str) -> None:
        self.texts.append(data.strip())


def cells(blocks: Any) -> Iterator[str]:
    for block in blocks:
        if isinstance(block, Table):
            yield from (cell for line in (block.head, *block.body) for cell in line)


def test_the_page_has_every_cell_of_report_md(run: Path, text: str) -> None:
    texts = {re.sub(r"\s+", " ", each) for each in Tags(text).texts}
    wanted = {cell.strip("`") for section in sections(read(run)) for cell in cells(section.blocks)}
    assert len(wanted) > 60
    assert {cell for cell in wanted if cell and BAD not in cell} <= texts
    assert f"first{BAD}" in texts and any(text.startswith("The distilled student beats") for text in texts)


def test_no_name_becomes_markup_and_nothing_is_fetched(text: str) -> None:
    tags = Tags(text).tags
    assert [tag for tag, _ in tags].count("script") == 3, "data, Bokeh, kdrun"
    for tag, attributes in tags:
        assert not any(name.startswith("on") for name in attributes), (tag, attributes)
        for name in ("src", "href", "action", "data"):
            assert re.match("data:|#|$", attributes.get(name) or ""), (tag, attributes)
    policy = next(each["content"] for _, each in tags if each.get("http-equiv")) or ""
    assert policy.startswith("default-src 'none'; script-src 'sha256-")
    assert "unsafe" not in policy.replace("style-src 'unsafe-inline'", "") and "http" not in policy


def test_a_sweep_over_students_shows_the_front(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    jobs = []
    for name, size, gain in (("small", 100, 1.0), ("large", 900, 3.0)):
        jobs.append(job({"student": name}, gain))
        jobs[-1]["report"]["models"]["student"].update(name=name, params=size)
    monkeypatch.setattr(pages, "collected", lambda folder: jobs)
    (tmp_path / "jobs").mkdir()
    page = pages.of_sweep(tmp_path)
    assert page is not None and page.title == "Sweep over student"
    assert [part.title for part in page.parts] == ["Settings", "Pareto front", "Runs"]
    assert list(page.parts[1].charts) == ["pareto-latency", "pareto-size"]
    written = {each for each in Tags(document.document(page)).texts}
    blocks = sweep_files.blocks(jobs)
    assert {cell for cell in cells(blocks) if cell} <= written
    assert any(isinstance(block, Bullets) for block in blocks)


PROBE = """
setTimeout(() => {
  const table = document.querySelector("#figures table");
  const heading = [...table.tHead.rows[0].cells].find((cell) => cell.textContent === "student");
  heading.firstChild.click();
  const rows = () => [...table.tBodies[0].rows];
  const values = () => rows().map((row) => row.cells[3].textContent);
  const up = values();
  heading.firstChild.click();
  const down = values();
  const field = document.querySelector("#figures input");
  field.value = "latency p95";
  field.dispatchEvent(new Event("input"));
  document.querySelector(".legend button").click();
  const drawn = Bokeh.documents[0].roots().flatMap((root) => root.renderers);
  const hidden = drawn.filter((each) => !each.visible).length;
  const shown = rows().filter((row) => !row.hidden).map((row) => row.cells[0].textContent);
  const widest = document.documentElement.scrollWidth - document.documentElement.clientWidth;
  document.body.dataset.probe = JSON.stringify({up, down, shown, hidden, widest, title: document.title});
}, 1500);
"""


@pytest.mark.skipif(BROWSER is None, reason="no Chromium")
def test_in_a_browser_charts_are_drawn_and_tables_sort_and_filter(text: str, tmp_path: Path) -> None:
    """In a window as narrow as a phone, with the policy of the page and one more allowed script."""
    scripts = re.findall(r"<script>(.*?)</script>", text, re.DOTALL)
    policies = [document.policy(each).replace("'", "&#39;") for each in (scripts, [*scripts, PROBE])]
    assert policies[0] in text
    changed = text.replace(*policies).replace("</body>", f"<script>{PROBE}</script></body>")
    (tmp_path / "page.html").write_text(changed)
    command = [
        str(BROWSER),
        "--headless",
        "--no-sandbox",
        "--disable-gpu",
        "--disable-quic",
        "--no-first-run",
    ]
    command += ["--disable-background-networking", "--disable-component-update", "--disable-sync"]
    command += [f"--user-data-dir={tmp_path / 'profile'}", "--window-size=390,844"]
    command += ["--virtual-time-budget=6000", "--dump-dom", (tmp_path / "page.html").as_uri()]
    dom = subprocess.run(command, capture_output=True, text=True, check=True, timeout=120).stdout
    tags = Tags(dom).tags
    drawn = next(attributes for tag, attributes in tags if tag == "html")["data-charts"]
    assert drawn == str(text.count('class="drawn"')) and int(drawn) >= 7
    seen = json.loads(next(each["data-probe"] for tag, each in tags if tag == "body") or "")
    known = [value for value in seen["up"] if value != "-"]
    assert known.index("994") < known.index("3.78 k") < known.index("40,650"), "sizes, not words"
    assert [value for value in seen["down"] if value != "-"] == known[::-1]
    assert seen["up"][-1] == seen["down"][-1] == "-" or "-" not in seen["up"]
    assert seen["shown"] and all("latency" in name and "p95" in name for name in seen["shown"])
    assert seen["hidden"] > 0 and seen["widest"] == 0 and seen["title"] != "bad"
