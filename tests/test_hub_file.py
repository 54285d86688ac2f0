"""Fetching one checkpoint of the Hub, against a small server on this machine."""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from robustbench_snn.errors import UsageError
from robustbench_snn.hub_file import hub_file
from robustbench_snn.weights import locate

DATA = bytes(range(256)) * 400
REPOSITORY, FILE = "owner/name", "weights.pth"
ADDRESS = f"hub:{REPOSITORY}/{FILE}"


class Server(ThreadingHTTPServer):
    """Serves DATA as FILE of REPOSITORY; remembers ranges and tokens it was sent."""

    mode = "whole"
    asked: list[str | None]
    tokens: list[tuple[str, str | None]]
    go: threading.Event
    begun: threading.Event


class Handler(BaseHTTPRequestHandler):
    server: Server

    def log_message(self, format: str, *args: object) -> None:
        return None

    def do_HEAD(self) -> None:
        known = self.path == f"/{REPOSITORY}/resolve/main/{FILE}"
        self.send_response(200 if known else 404)
        self.send_header("Content-Length", str(len(DATA)))
        self.send_header("ETag", f'"{hashlib.sha256(DATA).hexdigest()}"')
        self.send_header("X-Repo-Commit", "c" * 40)
        if not known:
            self.send_header("X-Error-Code", "EntryNotFound")
        self.end_headers()

    def do_GET(self) -> None:
        if FILE not in self.path and self.path != "/storage/blob":
            self.send_error(404)  # the client asks for more than files
            return
        self.server.tokens.append((self.path, self.headers.get("Authorization")))
        if not self.path.startswith("/storage"):
            self.send_response(302)
            self.send_header("Location", "/storage/blob")
            self.send_header("Content-Length", "0")
            self.end_headers()
            return
        asked = self.headers.get("Range")
        self.server.asked.append(asked)
        start = int(asked[len("bytes=") : -1]) if asked else 0
        self.send_response(206 if start else 200)
        self.send_header("Content-Length", str(len(DATA) - start))
        if start:
            self.send_header("Content-Range", f"bytes {start}-{len(DATA) - 1}/{len(DATA)}")
        self.end_headers()
        body = DATA[start:] if self.server.mode != "wrong" else bytes(len(DATA) - start)
        self.wfile.write(body[:50_000])
        self.server.begun.set()
        if self.server.mode != "cut":
            assert self.server.go.wait(60)
            self.wfile.write(body[50_000:])


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Server]:
    import huggingface_hub.constants

    running = Server(("127.0.0.1", 0), Handler)
    running.asked, running.tokens = [], []
    running.go, running.begun = threading.Event(), threading.Event()
    running.go.set()
    address = f"http://127.0.0.1:{running.server_port}"
    template = address + "/{repo_id}/resolve/{revision}/{filename}"
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(huggingface_hub.constants, "ENDPOINT", address)
    monkeypatch.setattr(huggingface_hub.constants, "HUGGINGFACE_CO_URL_TEMPLATE", template)
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    monkeypatch.setenv("HF_ENDPOINT", address)
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path / "hub"))
    threading.Thread(target=running.serve_forever, daemon=True).start()
    yield running
    running.shutdown()
    running.server_close()


def test_a_file_is_fetched_once_and_then_read_from_the_cache(server: Server) -> None:
    path = locate(ADDRESS)
    assert path.read_bytes() == DATA
    assert locate(ADDRESS) == path
    assert server.asked == [None]
    server.shutdown()
    assert hub_file(REPOSITORY, FILE) == path


def test_an_interrupted_download_goes_on_where_it_stopped(server: Server) -> None:
    server.mode = "cut"
    with pytest.raises(UsageError, match=rf"{FILE} stopped at 50000 of {len(DATA)} bytes"):
        locate(ADDRESS)
    server.mode = "whole"
    assert locate(ADDRESS).read_bytes() == DATA
    assert server.asked == [None, "bytes=50000-"]


def test_a_second_process_waits_instead_of_fetching_again(server: Server) -> None:
    server.go.clear()
    first = threading.Thread(target=locate, args=(ADDRESS,))
    first.start()
    assert server.begun.wait(60)
    code = f"from robustbench_snn.hub_file import hub_file; print(hub_file{REPOSITORY, FILE})"
    second = subprocess.Popen(
        [sys.executable, "-c", code], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    assert second.stderr is not None
    said = next(line for line in second.stderr if "waiting" in line)
    assert said.strip() == f"waiting for another process that fetches {FILE}"
    server.go.set()
    found, _ = second.communicate(timeout=60)
    first.join()
    assert Path(found.strip()).read_bytes() == DATA
    assert server.asked == [None]


def test_damaged_content_is_deleted_and_fetched_anew(server: Server, tmp_path: Path) -> None:
    server.mode = "wrong"
    with pytest.raises(UsageError, match="arrived damaged"):
        locate(ADDRESS)
    assert not list((tmp_path / "hub").rglob("*.incomplete"))
    server.mode = "whole"
    assert locate(ADDRESS).read_bytes() == DATA


def test_a_token_goes_to_the_hub_alone(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_TOKEN", "secret")
    locate(ADDRESS)
    assert server.tokens == [
        (f"/{REPOSITORY}/resolve/main/{FILE}", "Bearer secret"),
        ("/storage/blob", None),
    ]


def test_without_network_one_sentence_says_what_to_do(
    server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    server.shutdown()
    server.server_close()
    with pytest.raises(UsageError) as caught:
        locate(ADDRESS)
    for part in (FILE, REPOSITORY, "--weights"):
        assert part in str(caught.value)
    assert "\n" not in str(caught.value)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    with pytest.raises(UsageError, match=f"{FILE} of {REPOSITORY} elsewhere"):
        locate(ADDRESS)


def test_a_file_that_is_not_there(server: Server) -> None:
    with pytest.raises(UsageError, match=r"absent\.pth.*EntryNotFound.*check the network"):
        locate(f"hub:{REPOSITORY}/absent.pth")
    assert server.asked == []


def test_the_module_loads_nothing_heavy() -> None:
    code = "import sys, robustbench_snn.hub_file; print('torch' in sys.modules)"
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, env=dict(os.environ)
    )
    assert done.stdout.strip() == "False"
