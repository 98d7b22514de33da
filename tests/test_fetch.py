"""One file from a server that cuts, stalls, lies and changes it: at the end the same bytes, or one line that says what is wrong."""

import contextlib
import os
import signal
import socketserver
import subprocess
import sys
import threading
import time
from io import BytesIO
from pathlib import Path
from urllib.error import HTTPError

import pytest
from file_server import NOISE, Served, make_impatient, serving

from captioning import fetch as fetching
from captioning.bad_input import BadInput
from captioning.fetch import fetch

ROOT = Path(__file__).parents[1]


@pytest.fixture
def server():
    with serving() as server:
        yield server


@pytest.fixture(autouse=True)
def impatient(monkeypatch):
    make_impatient(monkeypatch)


def fetch_noise(server, folder, check=lambda file: None, connections=4):
    fetch(f"{server.url}/noise", folder / "noise", check, connections)
    assert sorted(path.name for path in folder.iterdir()) == ["noise"]
    return (folder / "noise").read_bytes()


def test_parts_are_fetched_at_the_same_time(server, tmp_path):
    server.files["/noise"] = Served(NOISE, pause=0.01)
    assert fetch_noise(server, tmp_path / "to") == NOISE
    assert server.busiest >= 3
    assert len(server.requests) == 1 + 15 and server.sent == 1 + len(NOISE)  # one request for the size, one for each 20,000 bytes


@pytest.mark.parametrize(
    "trouble",
    [
        {"cuts": [5_000, 0, 12_288, 1]},
        {"statuses": [503, 429]},
        {"stalls": [0.6, 0.6]},
        {"ranges": False},
        {"ranges": False, "cuts": [100_000, 299_999]},
        {"ranges": False, "length": False},
        {"etag": ""},
        {"etag": 'W/"weak"', "cuts": [5_000]},
        {"at_once": 1, "pause": 0.02},
    ],
    ids=str,
)
def test_troubles_end_in_the_same_bytes(server, tmp_path, monkeypatch, trouble):
    if "stalls" in trouble:
        monkeypatch.setattr(fetching, "TIMEOUT_SECONDS", 0.3)
    server.files["/noise"] = Served(NOISE, **trouble)
    assert fetch_noise(server, tmp_path / "to") == NOISE


@pytest.mark.parametrize("size", [0, 1, 19_999, 20_000, 20_001])
def test_sizes_around_a_piece(server, tmp_path, size):
    server.files["/noise"] = Served(NOISE[:size], ranges=size > 0)
    assert fetch_noise(server, tmp_path / "to") == NOISE[:size]


def test_a_server_nobody_here_wrote(tmp_path):
    """Starlette answers ranges and If-Range by its own reading of RFC 9110."""
    uvicorn, responses = pytest.importorskip("uvicorn"), pytest.importorskip("starlette.responses")
    (tmp_path / "noise").write_bytes(NOISE)
    their = uvicorn.Server(uvicorn.Config(responses.FileResponse(tmp_path / "noise"), port=0, log_level="error", lifespan="off"))
    threading.Thread(target=their.run, daemon=True).start()
    while not their.started:
        time.sleep(0.01)
    url = f"http://127.0.0.1:{their.servers[0].sockets[0].getsockname()[1]}/noise"
    try:
        assert fetching._ask(url).ranges
        fetch(url, tmp_path / "to" / "noise", lambda file: None)
        assert (tmp_path / "to" / "noise").read_bytes() == NOISE
    finally:
        their.should_exit = True


@pytest.mark.parametrize(
    "later",
    [Served(NOISE[::-1], '"two"'), Served(NOISE[::-1], '"two"', if_range=False), Served(NOISE[:1:-1], if_range=False)],
    ids=["If-Range", "etag", "size"],
)
def test_a_file_that_changes_on_the_way_is_fetched_anew(server, tmp_path, capsys, later):
    server.files["/noise"] = Served(NOISE, swap=later, swap_after=100_000)
    assert fetch_noise(server, tmp_path / "to") == later.content
    assert "starting anew" in capsys.readouterr().err


def bytes_asked(server):
    """How many bytes of the file the server was asked for, each counted once. The question for the size is none of them."""
    ranges = [wanted.removeprefix("bytes=").split("-") for _, wanted in server.requests if wanted != "bytes=0-0"]
    return len(set().union(*(range(int(first), int(last) + 1) for first, last in ranges)))


def held_up_after_100_000_bytes():
    """NOISE for a process that is to be killed on its way: at most 180,000 bytes come, then silence. And the file whose `pause` is that silence."""
    silent = Served(NOISE, pause=30.0)
    return Served(NOISE, pause=0.02, swap=silent, swap_after=100_000), silent


def test_waits_double_unless_the_server_asks_for_longer():
    def seconds(tried, **headers):
        return fetching._wait_seconds("", HTTPError("", 503, "busy", headers, BytesIO()), tried)

    assert [seconds(tried) for tried in (1, 2, 3)] == [0.01, 0.02, 0.04]
    assert seconds(1, **{"Retry-After": "7"}) == 7 and seconds(1, **{"Retry-After": "3600"}) == fetching.LONGEST_WAIT_SECONDS


def interrupted(server, folder):
    """A fetch that gives up after about 100,000 bytes."""
    server.files["/noise"] = Served(NOISE, swap=Served(NOISE, statuses=[503] * 99), swap_after=100_000)
    with pytest.raises(BadInput, match="goes on where it stopped"):
        fetch(f"{server.url}/noise", folder / "noise", lambda file: None)
    assert not (folder / "noise").exists()
    done = fetching.fetched_bytes(folder / "noise")
    assert 100_000 <= done < 200_000
    server.requests.clear()
    return done


def test_the_next_call_asks_for_the_rest_only(server, tmp_path):
    done = interrupted(server, tmp_path / "to")
    server.files["/noise"] = Served(NOISE)
    assert fetch_noise(server, tmp_path / "to") == NOISE
    assert bytes_asked(server) == len(NOISE) - done


@pytest.mark.parametrize(
    "now", [{"etag": '"two"'}, {"etag": ""}, {"ranges": False}, {"content": NOISE[:-1][::-1]}], ids=["etag", "no etag", "no ranges", "size"]
)
def test_the_next_call_starts_anew_where_the_file_is_not_the_same(server, tmp_path, capsys, now):
    interrupted(server, tmp_path / "to")
    served = Served(**{"content": NOISE[::-1], **now})
    server.files["/noise"] = served
    assert fetch_noise(server, tmp_path / "to") == served.content
    assert "starting anew" in capsys.readouterr().err


def test_kill_9_in_the_middle(server, tmp_path):
    server.files["/noise"], silent = held_up_after_100_000_bytes()
    path = tmp_path / "to" / "noise"
    code = f"""
from pathlib import Path
from captioning import fetch
fetch.PIECE, fetch.SAVE_SECONDS, fetch.TICK_SECONDS = 20_000, 0.01, 0.01
fetch.fetch("{server.url}/noise", Path({str(path)!r}), lambda file: None)
"""
    process = subprocess.Popen([sys.executable, "-c", code], cwd=ROOT)
    while fetching.fetched_bytes(path) < 50_000:
        assert process.poll() is None
        time.sleep(0.01)
    process.send_signal(signal.SIGKILL)
    assert process.wait() == -signal.SIGKILL and not path.exists()
    done, silent.pause = fetching.fetched_bytes(path), 0
    # Requests of the killed process may still come out of the queue. They are for pieces it had no byte of: the new ones are for those too.
    server.requests.clear()
    assert fetch_noise(server, path.parent) == NOISE
    assert 50_000 <= done < len(NOISE) and bytes_asked(server) == len(NOISE) - done


def test_ctrl_c_leaves_the_parts(server, tmp_path):
    server.files["/noise"], _ = held_up_after_100_000_bytes()
    path = tmp_path / "to" / "noise"

    def written():  # not what the server sent: the client may be behind
        part = path.with_name("noise.part")
        content = part.read_bytes() if part.exists() else b""
        return len(content) - content.count(0)

    # A shell that starts the tests in the background has them, and all that they start, ignore Ctrl-C.
    code = f"""
import signal
signal.signal(signal.SIGINT, signal.default_int_handler)
from pathlib import Path
from captioning import bad_input, fetch
fetch.PIECE, fetch.SAVE_SECONDS = 20_000, 99.0
bad_input.run_command(lambda: fetch.fetch("{server.url}/noise", Path({str(path)!r}), lambda file: None))
"""
    process = subprocess.Popen([sys.executable, "-c", code], cwd=ROOT, stderr=subprocess.PIPE, text=True)
    while written() < 50_000:
        assert process.poll() is None
        time.sleep(0.01)
    process.send_signal(signal.SIGINT)
    assert process.wait() == 130 and process.stderr.read() == ""
    assert 50_000 <= fetching.fetched_bytes(path) < len(NOISE) and not path.exists()


@pytest.mark.parametrize(
    ("served", "says"),
    [
        (None, "answers 404 (Not Found)"),
        (Served(NOISE, statuses=[403] * 99), "answers 403 (Forbidden)"),
        (Served(NOISE, statuses=[503] * 99), "Service Unavailable, 4 times in a row"),
        (Served(NOISE, pause=9.0), "timed out, 4 times in a row"),
        (Served(NOISE, ranges=False, cuts=[150_000] * 99), "the connection closed 150000 bytes too early, 4 times in a row"),
    ],
    ids=["404", "403", "503", "silence", "cuts without ranges"],
)
def test_what_cannot_be_fetched_is_one_line(server, tmp_path, monkeypatch, served, says):
    if served:
        monkeypatch.setattr(fetching, "TIMEOUT_SECONDS", 0.1 if served.pause else 3.0)
        server.files["/noise"] = served
    with pytest.raises(BadInput) as caught:
        fetch(f"{server.url}/noise", tmp_path / "noise", lambda file: None)
    assert says in str(caught.value) and f"{server.url}/noise: " in str(caught.value) and "\n" not in str(caught.value)
    assert not (tmp_path / "noise").exists()


def test_no_such_server(tmp_path):
    with pytest.raises(BadInput, match="Connection refused, 4 times in a row; run the same command again"):
        fetch("http://127.0.0.1:1/noise", tmp_path / "noise", lambda file: None)


def test_proxies_of_the_environment(server, tmp_path, monkeypatch):
    monkeypatch.setenv("http_proxy", server.url)
    monkeypatch.delenv("no_proxy", raising=False)
    server.files["http://photos.invalid/noise"] = Served(NOISE)
    fetch("http://photos.invalid/noise", tmp_path / "noise", lambda file: None)
    assert (tmp_path / "noise").read_bytes() == NOISE


@pytest.mark.parametrize(
    ("proxy", "says"),
    [
        ("http://a..proxy:3128", "label empty or too long"),
        (f"http://{'a' * 64}:3128", "label too long"),
        ("http://proxy:port", "nonnumeric port: 'port'"),
        ("http://a proxy:3128", "control characters"),
    ],
)
@pytest.mark.parametrize("scheme", ["http", "https"])
def test_a_proxy_whose_address_is_none(tmp_path, monkeypatch, scheme, proxy, says):
    monkeypatch.setenv(f"{scheme}_proxy", proxy)
    monkeypatch.delenv("no_proxy", raising=False)
    with pytest.raises(BadInput, match=rf"^{scheme}://photos\.invalid/noise: no address to ask \(.*{says}.*\); look at http_proxy"):
        fetch(f"{scheme}://photos.invalid/noise", tmp_path / "noise", lambda file: None)


@contextlib.contextmanager
def saying(answer):
    """The port of a server that says `answer` and hangs up."""

    class Handler(socketserver.BaseRequestHandler):
        def handle(self):
            self.request.recv(65_536)
            self.request.sendall(answer)

    with socketserver.ThreadingTCPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
        yield server.server_address[1]
        server.shutdown()


@pytest.mark.parametrize(
    ("answer", "says"),
    [
        ("", "Remote end closed connection without response, 4 times in a row"),
        ("hello", "hello, 4 times in a row"),
        ("HTTP/1.1 200 OK\r\nContent-Length: many\r\n\r\n", None),
        ("HTTP/1.1 302 Found\r\nLocation: http://[x/\r\n\r\n", "no address to ask (Invalid IPv6 URL)"),
        ("HTTP/1.1 302 Found\r\nLocation: /noise\r\n\r\n", "answers 302 (The HTTP server returned a redirect error"),
        ("HTTP/1.1 407 Proxy Authentication Required\r\n\r\n", "put the proxy's user and password into http_proxy"),
    ],
)
def test_answers_that_make_no_sense(tmp_path, answer, says):
    with saying(answer.encode()) as port, contextlib.nullcontext() if says is None else pytest.raises(BadInput) as caught:
        fetch(f"http://127.0.0.1:{port}/noise", tmp_path / "noise", lambda file: None)
    assert says is None or (says in str(caught.value) and "\n" not in str(caught.value))


@pytest.mark.parametrize(
    ("answer", "says"),
    [
        ("", "Remote end closed connection without response"),
        ("HTTP/1.1 407 Proxy Authentication Required\r\n\r\n", "Tunnel connection failed: 407 Proxy Authentication Required"),
        ("HTTP/1.1 200 OK\r\nVia: a", "SSL"),
        ("HTTP/1.1 200 OK\r\n\r\n", "SSL"),
    ],
)
def test_a_tunnel_that_breaks(tmp_path, monkeypatch, answer, says):
    monkeypatch.delenv("no_proxy", raising=False)
    with saying(answer.encode()) as port, pytest.raises(BadInput) as caught:
        monkeypatch.setenv("https_proxy", f"http://127.0.0.1:{port}")
        fetch("https://photos.invalid/noise", tmp_path / "noise", lambda file: None)
    assert says in str(caught.value) and "4 times in a row" in str(caught.value) and "\n" not in str(caught.value)


def test_a_disk_that_fills_up_on_the_way(server, tmp_path, monkeypatch):
    server.files["/noise"] = Served(NOISE)
    write, written = os.pwrite, [0]

    def full(file, block, offset):
        written[0] += len(block)
        if written[0] > 150_000:
            raise OSError(28, "No space left on device")
        return write(file, block, offset)

    monkeypatch.setattr(os, "pwrite", full)
    with pytest.raises(BadInput, match="No space left on device.*goes on where it stopped"):
        fetch(f"{server.url}/noise", tmp_path / "to" / "noise", lambda file: None)
    monkeypatch.undo()
    assert 0 < fetching.fetched_bytes(tmp_path / "to" / "noise") <= 150_000
