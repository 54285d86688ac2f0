"""A small local server that answers like the Hugging Face Hub for one data set repository."""

from __future__ import annotations

import hashlib
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

COMMIT = "a" * 40


@contextmanager
def serve(repository: str, files: dict[str, bytes], gated: bool = False) -> Iterator[str]:
    """Serve ``files`` (path to content) of ``repository``; yields the address."""

    class Handler(BaseHTTPRequestHandler):
        def log_message(self, *args: object) -> None:
            return

        def do_HEAD(self) -> None:
            self.answer(with_body=False)

        def do_GET(self) -> None:
            self.answer(with_body=True)

        def answer(self, with_body: bool) -> None:
            path = self.path.split("?")[0]
            api, download = f"/api/datasets/{repository}", f"/datasets/{repository}/resolve/"
            if path.startswith(api):
                info = [{"rfilename": name} for name in files]
                tree = [
                    {"type": "file", "path": n, "size": len(c), "oid": hashlib.sha1(c).hexdigest()}
                    for n, c in files.items()
                ]
                listing = {"id": repository, "sha": COMMIT, "siblings": info}
                content = json.dumps(tree if "/tree/" in path else listing).encode()
                self.reply(200, content, with_body)
            elif path.startswith(download) and not gated:
                name = path.removeprefix(download).split("/", 1)[1]
                self.reply(200, files[name], with_body)
            elif path.startswith(download):
                self.reply(403, b"", with_body, {"X-Error-Code": "GatedRepo"})
            else:
                self.reply(200, b"", with_body)

        def reply(
            self, status: int, body: bytes, with_body: bool, extra: dict[str, str] | None = None
        ) -> None:
            self.send_response(status)
            self.send_header("Content-Length", str(len(body)))
            self.send_header("ETag", f'"{hashlib.sha1(body).hexdigest()}"')
            self.send_header("X-Repo-Commit", COMMIT)
            for key, value in (extra or {}).items():
                self.send_header(key, value)
            self.end_headers()
            if with_body:
                self.wfile.write(body)

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        server.server_close()
