"""A server on this machine that cuts, stalls, lies and changes its files."""

import contextlib
import random
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from captioning import fetch as fetching

NOISE = random.Random(1).randbytes(300_000)


@dataclass
class Served:
    """One file of the server and what goes wrong with it."""

    content: bytes
    etag: str = '"one"'
    ranges: bool = True
    if_range: bool = True
    length: bool = True
    cuts: list[int] = field(default_factory=list)  # for the next answers: bytes after which the connection closes
    statuses: list[int] = field(default_factory=list)  # for the next requests
    stalls: list[float] = field(default_factory=list)  # for the next answers: seconds of silence after the first 4 KB
    swap: "Served | None" = None  # takes this one's place once `swap_after` bytes have been sent
    swap_after: int = 0
    pause: float = 0.0  # seconds before each block of 4 KB
    at_once: int = 99  # requests beyond that many get a 503


class Server(ThreadingHTTPServer):
    daemon_threads = True

    def __init__(self):
        super().__init__(("127.0.0.1", 0), Handler)
        self.files: dict[str, Served] = {}
        self.requests: list[tuple[str, str]] = []  # path, Range
        self.sent = 0
        self.busy = self.busiest = 0
        self.lock = threading.Lock()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"

    def handle_error(self, request, client_address):
        pass  # a client that hung up


class Handler(BaseHTTPRequestHandler):
    def log_message(self, *_):
        pass

    def do_GET(self):
        with self.server.lock:
            self.server.requests.append((self.path, self.headers.get("Range", "")))
            self.server.busy += 1
            self.server.busiest = max(self.server.busiest, self.server.busy)
        try:
            self.answer(self.server.files.get(self.path))
        finally:
            with self.server.lock:
                self.server.busy -= 1

    def answer(self, served: Served | None):
        if served is None or served.statuses or self.server.busy > served.at_once:
            self.send_response(404 if served is None else served.statuses.pop(0) if served.statuses else 503)
            self.send_header("Content-Length", "0")
            return self.end_headers()
        content, start, end = served.content, 0, len(served.content)
        wanted = self.headers.get("Range") if served.ranges else None
        if wanted and (not served.if_range or self.headers.get("If-Range", served.etag) == served.etag):
            first, _, last = wanted.removeprefix("bytes=").partition("-")
            start, end = int(first), min(end, int(last) + 1)
            self.send_response(206)
            self.send_header("Content-Range", f"bytes {start}-{end - 1}/{len(content)}")
        else:
            self.send_response(200)
        if served.etag:
            self.send_header("ETag", served.etag)
        if served.length:
            self.send_header("Content-Length", str(end - start))
        self.end_headers()
        asked_for_size = end - start == 1
        stop = end if asked_for_size or not served.cuts else min(end, start + served.cuts.pop(0))
        stall = 0 if asked_for_size or not served.stalls else served.stalls.pop(0)
        for position in range(start, stop, 4096):
            time.sleep(served.pause + (stall if position > start else 0))
            stall = stall if position == start else 0
            block = content[position : min(stop, position + 4096)]
            with self.server.lock:
                self.server.sent += len(block)
                if served.swap and self.server.sent > served.swap_after:
                    self.server.files[self.path] = served.swap
            self.wfile.write(block)
            self.wfile.flush()


@contextlib.contextmanager
def serving() -> Iterator[Server]:
    server = Server()
    threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
    yield server
    server.shutdown()
    server.server_close()


def make_impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Small pieces, short waits, no proxy."""
    monkeypatch.setattr(fetching, "PIECE", 20_000)
    monkeypatch.setattr(fetching, "FIRST_WAIT_SECONDS", 0.01)
    monkeypatch.setattr(fetching, "TIMEOUT_SECONDS", 3.0)
    monkeypatch.setattr(fetching, "TRIES", 4)
    monkeypatch.setattr(fetching, "TICK_SECONDS", 0.01)
    for name in ("http_proxy", "https_proxy", "all_proxy", "HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY"):
        monkeypatch.delenv(name, raising=False)
