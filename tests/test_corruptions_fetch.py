"""Fetching the official archives, against a small server on this machine."""

from __future__ import annotations

import hashlib
import io
import tarfile
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import numpy as np
import pytest

from robustbench_snn.corruptions import archives
from robustbench_snn.corruptions.archives import Archive
from robustbench_snn.corruptions.download import download
from robustbench_snn.corruptions.fetch import main
from robustbench_snn.errors import UsageError


def packed_set() -> bytes:
    """A tar in the layout of CIFAR-10-C."""
    array = io.BytesIO()
    np.save(array, np.random.RandomState(0).randint(0, 256, (30, 32, 32, 3)).astype(np.uint8))
    stored = io.BytesIO()
    with tarfile.open(fileobj=stored, mode="w") as tar:
        member = tarfile.TarInfo("CIFAR-10-C/fog.npy")
        member.size = len(array.getvalue())
        tar.addfile(member, io.BytesIO(array.getvalue()))
    return stored.getvalue()


DATA = packed_set()
ARCHIVE = Archive(2535967, "CIFAR-10-C.tar", len(DATA), hashlib.md5(DATA).hexdigest())


class Server(ThreadingHTTPServer):
    """Serves DATA in the way ``mode`` says and remembers the ranges it was asked for."""

    mode = "ranges"
    asked: list[str | None]

    @property
    def host(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"


class Handler(BaseHTTPRequestHandler):
    server: Server

    def log_message(self, format: str, *args: object) -> None:
        return None

    def do_GET(self) -> None:
        asked = self.headers.get("Range")
        self.server.asked.append(asked)
        mode = self.server.mode
        if mode == "gone":
            self.send_error(404)
            return
        if mode in ("page", "page in disguise"):
            kind = "text/html" if mode == "page" else "application/octet-stream"
            self.answer(200, b"<!DOCTYPE html><html>maintenance</html>", kind)
            return
        data = DATA[:-5] + b"wrong" if mode == "wrong bytes" else DATA
        start = int(asked[len("bytes=") : -1]) if asked and mode != "no ranges" else 0
        if mode == "cut":
            self.answer(
                206 if start else 200, data[start : start + 20_000], length=len(data) - start
            )
            return
        self.answer(206 if start else 200, data[start:], start=start)

    def answer(
        self,
        status: int,
        body: bytes,
        kind: str = "application/octet-stream",
        start: int = 0,
        length: int | None = None,
    ) -> None:
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(body) if length is None else length))
        if status == 206:
            self.send_header("Content-Range", f"bytes {start}-{len(DATA) - 1}/{len(DATA)}")
        self.end_headers()
        self.wfile.write(body)


@pytest.fixture(autouse=True)
def direct(monkeypatch: pytest.MonkeyPatch) -> None:
    """No proxy between the client and the server here."""
    monkeypatch.setenv("no_proxy", "127.0.0.1")


@pytest.fixture
def server() -> Iterator[Server]:
    running = Server(("127.0.0.1", 0), Handler)
    running.asked = []
    thread = threading.Thread(target=running.serve_forever, daemon=True)
    thread.start()
    yield running
    running.shutdown()
    running.server_close()
    thread.join()


def test_download_checks_and_keeps_a_complete_file(server: Server, tmp_path: Path) -> None:
    seen: list[tuple[int, int]] = []
    path = download(ARCHIVE, tmp_path, server.host, lambda done, total: seen.append((done, total)))
    assert path.read_bytes() == DATA
    assert seen[-1] == (len(DATA), len(DATA))
    assert download(ARCHIVE, tmp_path, server.host) == path
    assert server.asked == [None]
    assert [p.name for p in tmp_path.iterdir()] == ["CIFAR-10-C.tar"]


def test_an_interrupted_download_goes_on_where_it_stopped(server: Server, tmp_path: Path) -> None:
    server.mode = "cut"
    with pytest.raises(UsageError, match=f"stopped at 20000 of {len(DATA)} bytes"):
        download(ARCHIVE, tmp_path, server.host)
    server.mode = "ranges"
    assert download(ARCHIVE, tmp_path, server.host).read_bytes() == DATA
    assert server.asked == [None, "bytes=20000-"]


def test_a_host_without_ranges_starts_again(server: Server, tmp_path: Path) -> None:
    (tmp_path / "CIFAR-10-C.tar.part").write_bytes(b"x" * 1000)
    server.mode = "no ranges"
    assert download(ARCHIVE, tmp_path, server.host).read_bytes() == DATA


@pytest.mark.parametrize(
    ("mode", "said"),
    [
        ("page", "a web page instead of CIFAR-10-C.tar"),
        ("page in disguise", "a web page instead of CIFAR-10-C.tar"),
        ("gone", "answered 404"),
        ("wrong bytes", f"instead of md5 {ARCHIVE.md5} and was deleted"),
    ],
)
def test_nothing_bad_is_saved(server: Server, tmp_path: Path, mode: str, said: str) -> None:
    server.mode = mode
    with pytest.raises(UsageError, match=said):
        download(ARCHIVE, tmp_path, server.host)
    assert list(tmp_path.iterdir()) == []


def test_a_damaged_part_is_found_out_and_deleted(server: Server, tmp_path: Path) -> None:
    (tmp_path / "CIFAR-10-C.tar.part").write_bytes(b"x" * 1000)
    with pytest.raises(UsageError, match="was deleted"):
        download(ARCHIVE, tmp_path, server.host)
    assert list(tmp_path.iterdir()) == []


def test_a_stranger_of_the_same_name_is_not_trusted(server: Server, tmp_path: Path) -> None:
    (tmp_path / "CIFAR-10-C.tar").write_bytes(bytes(len(DATA)))
    with pytest.raises(UsageError, match="is not the published"):
        download(ARCHIVE, tmp_path, server.host)
    assert server.asked == []


def test_offline_is_one_sentence(server: Server, tmp_path: Path) -> None:
    host = server.host
    server.shutdown()
    server.server_close()
    with pytest.raises(UsageError, match=r"cannot reach http://127.*Zenodo record 2535967"):
        download(ARCHIVE, tmp_path, host)


def test_command_downloads_and_unpacks(
    server: Server,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setitem(archives.ARCHIVES, "cifar10-c", ARCHIVE)
    to = ["--to", str(tmp_path), "--host", server.host]
    assert main(["cifar10-c", *to, "--remove-archive"]) == 0
    assert np.load(tmp_path / "CIFAR-10-C" / "fog.npy").shape == (30, 32, 32, 3)
    assert not (tmp_path / "CIFAR-10-C.tar").exists()
    assert "size and md5 as published (Zenodo record 2535967)" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("name", "host", "said"),
    [
        ("cifar10c", "http://127.0.0.1:9", "did you mean 'cifar10-c'"),
        ("cifar10-c", "nowhere", "not the start of a web address"),
    ],
)
def test_command_errors_exit_with_two(
    name: str, host: str, said: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([name, "--to", str(tmp_path), "--host", host]) == 2
    assert said in capsys.readouterr().err


def test_imagenet_c_is_five_archives_in_one_folder() -> None:
    found = archives.find_archives("imagenet-c")
    assert [a.file for a in found] == [
        "noise.tar",
        "blur.tar",
        "weather.tar",
        "digital.tar",
        "extra.tar",
    ]
    assert {a.folder for a in found} == {"ImageNet-C"}
    assert {len(a.md5) for a in archives.ARCHIVES.values()} == {32}
