"""Fetch one file over HTTP: parallel pieces, resumed after any cut, the same bytes as one unbroken answer.

`fetch(url, path, check)` writes path.part and, beside it, path.part.json: how much of each piece is safely on disk. Both survive Ctrl-C, a kill and a power
cut, and the next call goes on from them where the server still has the same file (its size, and its ETag or date); else it starts anew. Servers without
ranges give the file in one stream. Proxies come from the environment (http_proxy, https_proxy, no_proxy), as urllib reads them.
"""

import contextlib
import http.client
import json
import os
import shutil
import ssl
import sys
import threading
import time
import urllib.error
import urllib.request
from collections import deque
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path

from captioning.atomic import atomic_write
from captioning.bad_input import BadInput
from captioning.byte_bar import ByteBar, size_text

PIECE = (
    32 * 2**20
)  # bytes a request asks for: long enough that connecting costs little, short enough that no connection is left alone at the end
BLOCK = 2**18  # bytes
TIMEOUT_SECONDS = 30.0  # of silence
TRIES = 6  # in a row without a byte
FIRST_WAIT_SECONDS = 1.0  # doubled after each
LONGEST_WAIT_SECONDS = 60.0
SAVE_SECONDS = 2.0
TICK_SECONDS = 0.1
PASSING = {408, 425, 429, 500, 502, 503, 504}  # HTTP answers that may be others in a minute


@dataclass(frozen=True)
class Remote:
    """What the server says of the file. `size` in bytes, None where it does not say; `validator`: a strong ETag or the date, "" for neither."""

    url: str
    size: int | None
    validator: str
    ranges: bool


class _Changed(Exception):
    """The server has another file under the URL than when this download began."""


class _Disk(Exception):
    """The file cannot be written: no fault of the network, and no reason to try again."""


class _Silent(Exception):
    """One connection gave up. Its message is the reason."""


def fetch(url: str, path: Path, check: Callable[[Path], None], connections: int = 4) -> None:
    """Leave the file of `url` at `path`: complete, and passed by check(file), which raises BadInput for wrong bytes. Those are removed.

    Raises BadInput for a file that is not there, a server that stays silent and a disk that is full; what was fetched stays for the next call.
    """
    part = path.with_name(f"{path.name}.part")
    path.parent.mkdir(parents=True, exist_ok=True)
    for attempt in range(3):
        remote = _ask(url)
        if attempt == 2:
            # Something on the way answers ranges with the whole file, or differently each time: take it in one stream.
            remote = Remote(url, remote.size, "", False)
        if remote.size is not None:
            refuse_full_disk(path.parent, remote.size - fetched_bytes(path), path.name)
        try:
            _Download(remote, part).run(connections)
            break
        except _Changed:
            print(f"{path.name}: the file at {url} is not the one begun earlier; starting anew", file=sys.stderr, flush=True)
            _forget(part)
        except _Disk as error:
            raise BadInput(
                f"{part}: cannot be written ({error}); free some space and run the same command again, it goes on where it stopped"
            ) from error
    else:
        raise BadInput(f"{url}: the file changes while it is fetched; run the same command again later")
    try:
        check(part)
    except BadInput:
        _forget(part)
        raise
    os.replace(part, path)
    _state_file(part).unlink(missing_ok=True)


def fetched_bytes(path: Path) -> int:
    """Bytes of `path` that an earlier `fetch` left for the next one."""
    state = _read_state(path.with_name(f"{path.name}.part"))
    return sum(state["done"]) if state else 0


def refuse_full_disk(folder: Path, needed: int, what: str) -> None:
    """Raise BadInput unless the disk of `folder` (it need not exist yet) has `needed` bytes left."""
    place = folder.absolute()
    while not place.exists():
        place = place.parent
    free = shutil.disk_usage(place).free
    if needed > free:
        raise BadInput(
            f"{folder}: {what} needs {size_text(needed)} more, {size_text(free)} are free; free some space or choose a folder on another disk"
        )


def _forget(part: Path) -> None:
    _state_file(part).unlink(missing_ok=True)
    part.unlink(missing_ok=True)


def _state_file(part: Path) -> Path:
    return part.with_name(f"{part.name}.json")


def _read_state(part: Path) -> dict | None:
    try:
        part.stat()
        return json.loads(_state_file(part).read_bytes())
    except (OSError, ValueError):
        return None


def _ask(url: str) -> Remote:
    """Ask for the first byte: unlike HEAD, that works with signed addresses, and shows whether ranges do."""
    for tried in range(1, TRIES + 1):
        try:
            with _open(url, {"Range": "bytes=0-0"}) as answer:
                if answer.status == 206:
                    return Remote(url, _total(answer), _validator(answer), True)
                length = answer.headers.get("Content-Length", "")
                return Remote(url, int(length) if length.isdecimal() else None, _validator(answer), False)
        except (OSError, http.client.HTTPException) as error:
            if isinstance(error, urllib.error.HTTPError) and error.code == 416:  # an empty file has no first byte
                return Remote(url, None, "", False)
            seconds = _wait_seconds(url, error, tried)
            if tried == TRIES:
                raise _no_answer(url, error) from error
            _say_again(url, error, seconds)
            time.sleep(seconds)
    raise AssertionError("unreachable")


def _open(url: str, headers: dict[str, str]) -> http.client.HTTPResponse:
    # A new opener each time: it reads the proxies from the environment, and threads share none of its state.
    request = urllib.request.Request(url, headers={"User-Agent": "recap", "Accept-Encoding": "identity", **headers})
    try:
        return urllib.request.build_opener().open(request, timeout=TIMEOUT_SECONDS)
    except (ValueError, http.client.InvalidURL) as error:  # of a proxy's address or a redirect's
        raise BadInput(
            f"{url}: no address to ask ({_reason(error)}); look at http_proxy and https_proxy in the environment, and where the server redirects to"
        ) from error


def _total(answer: http.client.HTTPResponse) -> int:
    """Of "Content-Range: bytes 0-0/1234" the 1234."""
    total = answer.headers.get("Content-Range", "").rpartition("/")[2]
    if not total.isdigit():
        raise http.client.HTTPException(f"Content-Range {answer.headers.get('Content-Range')!r} without the file's size")
    return int(total)


def _validator(answer: http.client.HTTPResponse) -> str:
    etag = answer.headers.get("ETag", "")
    # If-Range takes no weak ETag (RFC 9110, 13.1.5).
    return etag if etag and not etag.startswith("W/") else answer.headers.get("Last-Modified", "")


def _wait_seconds(url: str, error: Exception, tried: int) -> float:
    """Seconds until the next try. Raises BadInput for answers that will not change."""
    wait = FIRST_WAIT_SECONDS * 2 ** (tried - 1)
    if isinstance(error, urllib.error.HTTPError):
        error.close()
        if error.code not in PASSING:
            way_out = "put the proxy's user and password into http_proxy" if error.code == 407 else "see whether the file has moved"
            raise BadInput(f"{url}: the server answers {error.code} ({_reason(error)}); {way_out}") from error
        asked = error.headers.get("Retry-After", "")
        wait = max(wait, float(asked)) if asked.isdigit() else wait
    if isinstance(getattr(error, "reason", None), ssl.SSLCertVerificationError):
        raise BadInput(f"{url}: {_reason(error)}; mend the machine's clock or its list of certificates") from error
    return min(wait, LONGEST_WAIT_SECONDS)


def _reason(error: Exception) -> str:
    error = getattr(error, "reason", None) or error
    return " ".join(str(error).split()) or type(error).__name__


def _no_answer(url: str, error: Exception) -> BadInput:
    return BadInput(f"{url}: {_reason(error)}, {TRIES} times in a row; run the same command again later, it goes on where it stopped")


def _say_again(url: str, error: Exception, seconds: float) -> None:
    print(f"{url}: {_reason(error)}; trying again in {seconds:.0f} s", file=sys.stderr, flush=True)


class _Download:
    """One attempt: threads that each fetch piece after piece into their places of the part file."""

    def __init__(self, remote: Remote, part: Path):
        self.remote, self.part = remote, part
        if remote.ranges:
            self.sizes: list[int | None] = [min(PIECE, remote.size - start) for start in range(0, remote.size, PIECE)]
        else:
            self.sizes = [remote.size]
        self.identity = {**asdict(remote), "piece": PIECE}
        self.done = self._resume() or [0] * len(self.sizes)  # bytes of each piece on disk
        self.todo = deque(piece for piece, size in enumerate(self.sizes) if size is None or self.done[piece] < size)
        self.left = len(self.todo)
        self.lock = threading.Lock()  # over the counts, and over writing: once `stop` is set under it no thread writes
        self.stop = threading.Event()
        self.failed: Exception | None = None
        self.silent: _Silent | None = None
        self.said = 0

    def _resume(self) -> list[int] | None:
        state = _read_state(self.part)
        if state and self.remote.ranges and self.remote.validator and all(state.get(key) == value for key, value in self.identity.items()):
            return state["done"]
        if state and any(state["done"]):
            reason = (
                "has another file by now, or does not say that it is the same"
                if self.remote.ranges
                else "gives no parts of a file any more"
            )
            print(f"{self.part.stem}: the server {reason}; starting anew", file=sys.stderr, flush=True)
        _forget(self.part)
        return None

    def run(self, connections: int) -> None:
        try:
            self.file = os.open(self.part, os.O_RDWR | os.O_CREAT, 0o644)
            os.ftruncate(self.file, self.remote.size or 0)
        except OSError as error:
            raise _Disk(error.strerror) from error
        # Daemons: a Ctrl-C does not wait for the server's answer.
        threads = [threading.Thread(target=self._work, daemon=True) for _ in range(min(connections, self.left))]
        saved = time.monotonic()
        try:
            with ByteBar(f"fetching {self.part.stem}", self.remote.size, sum(self.done)) as bar:
                for thread in threads:
                    thread.start()
                while any(thread.is_alive() for thread in threads):
                    for thread in threads:
                        thread.join(TICK_SECONDS / len(threads))
                    bar.to(sum(self.done))
                    if time.monotonic() - saved > SAVE_SECONDS:
                        self._save()
                        saved = time.monotonic()
        finally:
            with self.lock:
                self.stop.set()
            with contextlib.suppress(OSError):  # a full disk; the state saved before is true as well
                self._save()
            os.close(self.file)
        if self.failed:
            raise self.failed
        if self.left:
            raise _no_answer(self.remote.url, self.silent)

    def _save(self) -> None:
        """First the bytes reach the disk, then the word that they are there."""
        if not self.remote.ranges:
            return
        with self.lock:
            done = list(self.done)
        os.fsync(self.file)
        with atomic_write(_state_file(self.part)) as file:
            json.dump({**self.identity, "done": done}, file)

    def _work(self) -> None:
        """Piece after piece until none is left. Who gives up leaves the piece to the others: some servers serve few connections at a time."""
        while not self.stop.is_set():
            try:
                piece = self.todo.popleft()
            except IndexError:
                return
            try:
                self._fetch_piece(piece)
            except _Silent as error:
                self.silent = error
                self.todo.append(piece)
                return
            except Exception as error:
                with self.lock:
                    self.failed = self.failed or error
                    self.stop.set()

    def _fetch_piece(self, piece: int) -> None:
        tried = 0
        while not self.stop.is_set():
            before = self.done[piece]
            try:
                return self._stream(piece)
            except (OSError, http.client.HTTPException) as error:
                # Without ranges every try begins at byte 0: bytes alone are no progress.
                tried = 1 if self.remote.ranges and self.done[piece] > before else tried + 1
                if isinstance(error, urllib.error.HTTPError) and error.code in (412, 416):
                    raise _Changed from error
                seconds = _wait_seconds(self.remote.url, error, tried)
                if tried >= TRIES:
                    raise _Silent(_reason(error)) from error
                self._say(error, tried, seconds)
                self.stop.wait(seconds)

    def _stream(self, piece: int) -> None:
        """The rest of a piece in one request. Raises OSError or HTTPException for a cut, _Changed for another file, _Disk."""
        start, size = piece * PIECE, self.sizes[piece]
        if self.remote.ranges:
            headers = {"Range": f"bytes={start + self.done[piece]}-{start + size - 1}"}
            if self.remote.validator:
                headers["If-Range"] = self.remote.validator
        else:
            headers, self.done[piece] = {}, 0
        with _open(self.remote.url, headers) as answer:
            self._refuse_another(answer, start + self.done[piece])
            # Not to the end of the stream but of the piece: what goes wrong after its last byte does not matter.
            while (size is None or self.done[piece] < size) and (block := answer.read1(BLOCK)):
                if not self._write(piece, block if size is None else block[: size - self.done[piece]]):
                    return
        if size is not None and self.done[piece] < size:
            raise ConnectionError(f"the connection closed {size - self.done[piece]} bytes too early")
        with self.lock:
            if not self.stop.is_set():
                if size is None:
                    os.ftruncate(self.file, self.done[piece])  # an earlier try may have brought more
                self.left -= 1

    def _refuse_another(self, answer: http.client.HTTPResponse, start: int) -> None:
        if self.remote.ranges:
            # Status 200 is what If-Range brings for a changed file; servers that ignore If-Range show it by size, date or ETag.
            same = answer.status == 206 and _total(answer) == self.remote.size and _validator(answer) == self.remote.validator
            if not same or not answer.headers["Content-Range"].startswith(f"bytes {start}-"):
                raise _Changed
        elif self.remote.size is not None and answer.headers.get("Content-Length") not in (None, str(self.remote.size)):
            raise _Changed

    def _write(self, piece: int, block: bytes) -> bool:
        """False when the download has been stopped."""
        with self.lock:
            if self.stop.is_set():
                return False
            self.said = 0
            view = memoryview(block)
            while view:
                try:
                    written = os.pwrite(self.file, view, piece * PIECE + self.done[piece])
                except OSError as error:
                    raise _Disk(error.strerror) from error
                self.done[piece] += written
                view = view[written:]
            return True

    def _say(self, error: Exception, tried: int, seconds: float) -> None:
        """One line for all connections that fail together."""
        with self.lock:
            first, self.said = tried > self.said, max(tried, self.said)
        if first:
            _say_again(self.remote.url, error, seconds)
