"""A small server that answers what is asked of the hub: which files a model has, and parts of them, after a redirect.

Names of models say what is wrong with them: "org/gated", "org/private", "org/broken", "org/slow", "org/whole" (no
ranges), "org/short" (less than was asked for).
"""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, cast
from urllib.parse import unquote, urlsplit

_ERRORS = {
    "org/gated": (403, "GatedRepo"),
    "org/private": (401, "RepoNotFound"),
    "org/broken": (500, ""),
    "org/old": (404, "RevisionNotFound"),
}


class Hub(ThreadingHTTPServer):
    """The server, with what it was asked, and the bytes that it sent, by path."""

    daemon_threads = True

    def __init__(self, folder: Path) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.folder = folder
        self.sent: dict[str, list[int]] = {}

    @property
    def url(self) -> str:
        """What HF_ENDPOINT is to be."""
        return f"http://127.0.0.1:{self.server_address[1]}"


@contextmanager
def serving(folder: Path) -> Iterator[Hub]:
    """Serve a folder with a folder ORG/NAME for each model, until it is left."""
    hub = Hub(folder)
    thread = threading.Thread(target=hub.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
    thread.start()
    try:
        yield hub
    finally:
        hub.shutdown()
        hub.server_close()
        thread.join()


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        hub = cast("Hub", self.server)
        path = unquote(urlsplit(self.path).path).strip("/")
        hub.sent.setdefault(path, [])
        if path.startswith("api/models/"):
            self._tell(path.removeprefix("api/models/").partition("/revision/")[0])
        elif path.startswith("cdn/"):
            self._part(hub.folder / path.removeprefix("cdn/"))
        else:
            model, found, rest = path.partition("/resolve/")
            if not found:  # huggingface_hub asks for more than we do
                self._answer(404, b"", {})
                return
            self._answer(302, b"", {"Location": f"/cdn/{model}/{rest.partition('/')[2]}"})

    def _tell(self, model: str) -> None:
        hub = cast("Hub", self.server)
        folder = hub.folder / model
        if model == "org/slow":
            time.sleep(30)
        status, code = _ERRORS.get(model, (200, "") if folder.is_dir() else (404, "RepoNotFound"))
        files = [path for path in sorted(folder.rglob("*")) if path.is_file()]
        siblings = [
            {"rfilename": str(path.relative_to(folder)), "size": path.stat().st_size, "blobId": "0"} for path in files
        ]
        told: dict[str, Any] = {"id": model, "sha": "c0ffee", "siblings": siblings}
        self._answer(status, json.dumps(told).encode(), {"X-Error-Code": code} if code else {})

    def _part(self, path: Path) -> None:
        data, asked = path.read_bytes(), self.headers.get("Range")
        if asked is None or "org/whole" in str(path):
            self._answer(200, data, {})
            return
        start, end = (int(one) for one in asked.removeprefix("bytes=").split("-"))
        part = data[start : end + 1]
        if "org/short" in str(path):
            part = part[: len(part) // 2]
        self._answer(206, part, {"Content-Range": f"bytes {start}-{end}/{len(data)}"})

    def _answer(self, status: int, body: bytes, headers: dict[str, str]) -> None:
        cast("Hub", self.server).sent[unquote(urlsplit(self.path).path).strip("/")].append(len(body))
        self.send_response(status)
        for name, value in {**headers, "Content-Length": str(len(body))}.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: Any) -> None:
        """Print nothing."""
