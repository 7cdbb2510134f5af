"""`kdrun report --html` and `--serve`: files, pages, and who is refused."""

from __future__ import annotations

import http.client
import threading
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import quote

import pytest

pytest.importorskip("bokeh")
pytest.importorskip("jinja2")

from kdrun.commands import browser
from kdrun.errors import KdrunError
from tests.commands.short import Here


@pytest.fixture(scope="module")
def address(trained: Path) -> Iterator[tuple[str, int]]:
    with browser.new_server(trained, 0) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield str(server.server_address[0]), server.server_address[1]
        server.shutdown()
        thread.join()


def asked(address: tuple[str, int], path: str, host: str = "", method: str = "GET") -> tuple[int, str]:
    connection = http.client.HTTPConnection(*address, timeout=30)
    connection.putrequest(method, path, skip_host=True)
    connection.putheader("Host", host or f"{address[0]}:{address[1]}")
    connection.endheaders()
    answer = connection.getresponse()
    text = answer.read().decode()
    connection.close()
    return answer.status, text


def test_the_list_leads_to_pages_and_two_are_compared(address: tuple[str, int], trained: Path) -> None:
    assert address[0] == "127.0.0.1"
    (run,) = (trained / "runs").iterdir()
    status, text = asked(address, "/")
    link = f"/run/runs/{quote(run.name)}"
    assert status == 200 and f'href="{link}"' in text and f'value="runs/{run.name}"' in text
    status, text = asked(address, link)
    assert status == 200 and "all runs" in text and "Every epoch" in text
    status, text = asked(address, f"/compare?run=runs/{run.name}&run=runs/{run.name}")
    assert status == 200 and "No keys differ" in text
    assert asked(address, f"/compare?run=runs/{run.name}")[0] == 422


@pytest.mark.parametrize(
    "path", ["/run/../../etc", "/run/..%2f..%2fetc%2fpasswd", "/run/runs", "/sweeps/..", "/report.json"]
)
def test_only_runs_of_the_folder_are_served(address: tuple[str, int], path: str) -> None:
    assert asked(address, path) == (404, "no such page\n")


def test_runs_outside_the_folder_are_not_served(trained: Path, tmp_path: Path) -> None:
    (tmp_path / "runs").mkdir()
    (run,) = (trained / "runs").iterdir()
    (tmp_path / "runs" / "linked").symlink_to(run)
    with pytest.raises(browser.Missing):
        browser.Site(tmp_path).page("/run/runs/linked")
    assert browser.Site(tmp_path).page("/").title == "0 finished runs"


def test_other_hosts_and_methods_are_refused(address: tuple[str, int]) -> None:
    assert asked(address, "/", "evil.example") == (403, "only for this machine\n")
    assert asked(address, "/", f"evil.example:{address[1]}")[0] == 403
    assert asked(address, "/", method="POST")[0] == 501


def test_a_port_in_use_gets_one_line(address: tuple[str, int], trained: Path) -> None:
    with pytest.raises(KdrunError, match=f"--port={address[1]}: cannot be used .*another: --port N"):
        browser.serve(trained, str(address[1]))
    for wrong in ("x", "-1", "65536", "²"):
        with pytest.raises(KdrunError, match="is no port"):
            browser.serve(trained, wrong)


def test_ctrl_c_ends_it(trained: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(self: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(browser.ThreadingHTTPServer, "serve_forever", interrupted)
    lines: list[str] = []
    browser.serve(trained, "0", lines.append)
    assert lines[0].startswith("http://127.0.0.1:")


def test_html_is_written_into_the_folder(here: Here) -> None:
    run = here.run()
    code, out, _ = here("report", "outputs/runs", "--html")
    page = Path("outputs/runs/report.html")
    assert code == 0 and out.startswith(f"{page}  ") and "1 finished run" in page.read_text()
    code, out, _ = here("report", str(run), "--html", "--out", "mine.html")
    assert code == 0 and out.startswith("mine.html  ") and "Every epoch" in Path("mine.html").read_text()


@pytest.mark.parametrize(
    ("words", "line"),
    [
        (("--html", "--format", "csv"), "--format=csv: is not for --html"),
        (("--serve", "--html"), "--html: is not for --serve"),
        (("--out", "x.html"), "--out=x.html: is for --html"),
        (("--port", "80"), "--port=80: is for --serve"),
        (("--html", "--out", "outputs"), "--out=outputs: is a folder"),
    ],
)
def test_mistakes_get_one_line(here: Here, words: tuple[str, ...], line: str) -> None:
    here.run()
    code, _, err = here("report", *words)
    assert code == 2 and line in err and err.count("\n") == 1
