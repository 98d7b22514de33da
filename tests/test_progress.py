"""A bar on a terminal while worker processes are forked: what they print must not wait for a lock that stayed behind in the parent."""

import os
import pty
import subprocess
import sys
from pathlib import Path

from captioning.progress import track

ROOT = Path(__file__).resolve().parents[1]

# A thread holds the lock of rich's console at every fork, as the one that draws the bar does now and then.
WORKERS = """
import sys, threading
from captioning.progress import track
from captioning.workers import map_chunks

def shout(shared, chunk):
    print("a worker's warning", file=sys.stderr, flush=True)
    return list(chunk)

bar = iter(track(range(4), "opening"))
next(bar)
console = getattr(sys.stderr, "_FileProxy__console")  # rich's stand-in
held, done = threading.Event(), threading.Event()

def hold():
    with console._lock:
        held.set()
        done.wait()

thread = threading.Thread(target=hold)
thread.start()
held.wait()
found = list(map_chunks(shout, None, [range(2), range(2, 4)], workers=2))
done.set()
thread.join()
list(bar)
assert found == [[0, 1], [2, 3]], found
"""


def on_terminal(code: str, seconds: float) -> tuple[int, str]:
    """Exit status and what stood on the terminal of a Python process there. TimeoutExpired where it hangs."""
    ours, theirs = pty.openpty()
    process = subprocess.Popen([sys.executable, "-c", code], cwd=ROOT, stdin=theirs, stdout=theirs, stderr=theirs, start_new_session=True)
    os.close(theirs)
    try:
        status = process.wait(seconds)  # it writes less than a terminal holds
    finally:
        if process.poll() is None:
            os.killpg(process.pid, 9)
            process.wait()
    text = b""
    try:
        while part := os.read(ours, 4096):
            text += part
    except OSError:  # nobody holds the other end any more
        pass
    os.close(ours)
    return status, text.decode(errors="replace")


def test_workers_forked_under_a_bar_do_not_hang():
    status, shown = on_terminal(WORKERS, 60)
    assert status == 0, shown
    assert shown.count("a worker's warning") == 2 and "opening" in shown


def test_what_is_printed_beside_a_bar_stands_above_it():
    code = "from captioning.progress import track\nfor k in track(range(3), 'going'): print(f'line {k}')"
    status, shown = on_terminal(code, 60)
    assert status == 0 and all(f"line {k}" in shown for k in range(3)) and "going" in shown


def test_a_quiet_bar_and_a_pipe_give_the_items(capsys, monkeypatch):
    assert list(track([3, 1, 2], "x", quiet=True)) == list(track([3, 1, 2], "x")) == [3, 1, 2]
    assert capsys.readouterr().err == ""  # a short loop says nothing in a pipe
    monkeypatch.setattr("captioning.progress.PLAIN_SECONDS", -1.0)
    bar = track([3, 1], "reading", units="files")
    bar.say("now")
    assert list(bar) == [3, 1]
    assert [line.partition(" minutes")[0] for line in capsys.readouterr().err.splitlines()] == [
        "reading: 1/2 files, now, 0.0", "reading: 2/2 files, now, 0.0"
    ]  # fmt: skip
