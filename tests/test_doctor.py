"""python -m captioning.doctor: here, where nothing is installed, and what it says of each lack."""

import ast
import importlib
import os
import subprocess
import sys
import zipfile
from collections import namedtuple
from pathlib import Path

import pytest
from packaging.requirements import Requirement

from captioning import doctor, spice
from tests import browser

ROOT = Path(__file__).resolve().parents[1]
PINS = doctor.read_pins(ROOT / "requirements.txt")
BARE = "import sys, runpy; sys.path.insert(0, '.'); sys.argv[1:] = []; runpy.run_module('captioning.doctor', run_name='__main__')"


def states(findings) -> dict[str, str]:
    return {finding.subject: finding.state for finding in findings}


def test_where_the_tests_run_the_demo_can_run():
    said = subprocess.run([sys.executable, "-m", "captioning.doctor"], cwd=ROOT, capture_output=True, text=True)
    assert said.returncode == 0 and said.stderr == "", said
    lines = said.stdout.splitlines()
    assert lines[-1] == "The demo can run: python benchmarks/run_all.py" and len(lines) <= 40
    subjects = {line.split()[1] for line in lines[:-2] if line[0] != " "}
    assert subjects >= {
        "Python",
        "packages",
        "CPU",
        "GPU",
        "memory",
        "disk",
        "cache",
        "locks",
        "Java",
        "demo",
        "data",
        "weights",
        "captioners",
        "tests",
    }


def test_without_any_package_it_says_so_and_what_to_do():
    said = subprocess.run([sys.executable, "-I", "-S", "-c", BARE], cwd=ROOT, capture_output=True, text=True)
    assert said.returncode == 1 and "Traceback" not in said.stdout + said.stderr
    for name in set(PINS) - set(doctor.OPTIONAL):
        assert f"lack  {name:<11} not installed" in said.stdout and f"-> pip install {name}=={PINS[name]}" in said.stdout
    assert "The demo cannot run yet" in said.stdout


def test_pins_are_those_that_pip_reads():
    lines = [line for line in (ROOT / "requirements.txt").read_text().splitlines() if line and not line.startswith("#")]
    assert {r.name: str(r.specifier).removeprefix("==") for r in map(Requirement, lines)} == PINS
    assert set(doctor.OPTIONAL) <= PINS.keys()


def test_versions_are_compared_with_pins(monkeypatch):
    installed = PINS | {"torch": f"{PINS['torch']}+cpu", "timm": "0.4.12", "rich": None, "streamlit": None}
    monkeypatch.setattr(doctor, "_version", installed.get)
    found = list(doctor.check_packages(PINS))
    assert states(found) == {"packages": "ok", "timm": "note", "rich": "lack", "streamlit": "note"}
    assert found[0].text.startswith(f"{len(PINS) - 3} of {len(PINS)} ")


@pytest.mark.parametrize(
    "script, said", [("import os; os._exit(3)", "status 3: it wrote nothing"), ("raise ImportError('numpy ABI')", "numpy ABI")]
)
def test_packages_that_end_python_are_a_line(script, said):
    child = subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    (found,) = doctor.check_imports(doctor._read_probe(child))
    assert found.state == "lack" and said in found.text


def test_a_package_that_cannot_be_imported_is_named(tmp_path, monkeypatch):
    """A module of that name that stands in its way, as a half-removed package does."""
    monkeypatch.setattr(doctor, "_PROBE", f"import sys; sys.path.insert(0, {str(tmp_path)!r})\n" + doctor._PROBE)
    (tmp_path / "jinja2.py").write_text("from nowhere import Template\n")
    (found,) = doctor.check_imports(doctor._read_probe(doctor._start_probe({"jinja2": "3"})))
    assert (found.state, found.subject) == ("lack", "jinja2") and "ModuleNotFoundError: No module named 'nowhere'" in found.text


def test_lacks_of_the_machine(monkeypatch, tmp_path):
    usage = namedtuple("usage", "total used free")
    monkeypatch.setattr(doctor.shutil, "disk_usage", lambda _: usage(10**12, 10**12 - 10**9, 10**9))
    assert states(doctor.check_disk({}))["disk"] == "lack"
    monkeypatch.setattr(doctor.sys, "version_info", (3, 10, 9))
    assert states(doctor.check_python({})) == {"Python": "lack"}
    monkeypatch.setattr(doctor, "memory_gb", lambda: (8.0, 1.0))
    assert states(doctor.check_memory({})) == {"memory": "note"}
    monkeypatch.setattr(os, "access", lambda *_: False)
    assert states(doctor.check_cache({})) == {"cache": "lack"}
    monkeypatch.setitem(sys.modules, "fcntl", None)
    assert states(doctor.check_locks({})) == {"locks": "lack"}


def test_each_lack_has_its_remedy():
    """Every finding that is not ok is made with a fourth part."""
    made = [
        call
        for call in ast.walk(ast.parse(Path(doctor.__file__).read_text(encoding="utf-8")))
        if isinstance(call, ast.Call) and getattr(call.func, "id", "") == "Finding" and getattr(call.args[0], "value", "") != "ok"
    ]
    assert len(made) > 20 and [call.lineno for call in made if len(call.args) < 4] == []


@pytest.mark.parametrize(
    "driver, cuda, remedy",
    [
        (None, None, "python benchmarks/run_all.py --profile flickr8k --data DIR --dry-run"),
        ("/usr/bin/nvidia-smi", None, f"--index-url https://pypi.org/simple torch=={PINS['torch']} torchvision=={PINS['torchvision']}"),
        ("/usr/bin/nvidia-smi", "12.8", "update the driver"),
    ],
)
def test_without_a_gpu_it_says_how_to_get_one(monkeypatch, driver, cuda, remedy):
    monkeypatch.setattr(doctor.shutil, "which", lambda _: driver)
    (found,) = (finding for finding in doctor.check_devices({"devices": [], "cuda": cuda}) if finding.subject == "GPU")
    assert found.state == "note" and remedy in found.remedy


def test_the_remedy_of_spice_fetches_models_to_where_they_are_looked_for(monkeypatch, tmp_path):
    """pycocoevalcap's own module, given a zip with the jars in place of a download."""
    monkeypatch.setattr(spice, "coco_folder", lambda part: tmp_path / part)
    monkeypatch.delenv("RECAP_SPICE_MODELS", raising=False)
    found = {finding.subject: finding for finding in doctor.check_java({})}
    if found["Java"].state != "ok":
        pytest.skip("no Java here")
    python, option, name = found["SPICE"].remedy.split()
    assert (python, option) == ("python", "-m")
    fetch = importlib.import_module(name)
    with zipfile.ZipFile(tmp_path / "models.zip", "w") as archive:
        for jar in spice._MODELS:
            archive.writestr(f"{fetch.CORENLP}/{jar}", b"")
    (tmp_path / "spice" / "lib").mkdir(parents=True)
    monkeypatch.setattr(fetch, "SPICEDIR", str(tmp_path / "spice"))
    monkeypatch.setattr(fetch, "urlretrieve", lambda *_, **__: (str(tmp_path / "models.zip"), {}))
    fetch.get_stanford_models()
    assert {finding.subject: finding for finding in doctor.check_java({})}["SPICE"].state == "ok"


def test_memory_is_what_the_kernel_says():
    total, free = doctor.memory_gb()
    lines = dict(line.split(":") for line in Path("/proc/meminfo").read_text().splitlines())
    assert total <= int(lines["MemTotal"].split()[0]) * 1024e-9 * 1.001 and 0 < free < total


def test_java_that_is_not_there(monkeypatch):
    monkeypatch.setenv("RECAP_JAVA", "/nowhere/java")
    (found,) = doctor.check_java({})
    assert found.state == "note" and "RECAP_JAVA=/nowhere/java is not an executable file" in found.text
    monkeypatch.setenv("RECAP_JAVA", sys.executable)  # a program, but no Java
    (found,) = doctor.check_java({})
    assert found.state == "note" and "ends with status" in found.text


def test_data_are_looked_for_where_run_all_looks(monkeypatch, tmp_path):
    from benchmarks import run_all

    (tmp_path / "flickr8k").mkdir()
    (tmp_path / "flickr8k" / "captions.txt").write_text("image,caption\n")
    monkeypatch.setattr(run_all, "ROOT", tmp_path / "nothing" / "here")
    monkeypatch.delenv("RECAP_DATA", raising=False)
    assert states(doctor.check_data({}))["data"] == "note"
    monkeypatch.setenv("RECAP_DATA", str(tmp_path))
    (found,) = (finding for finding in doctor.check_data({}) if finding.subject == "data")
    assert found.state == "ok" and found.text == f"flickr8k in {tmp_path}/flickr8k" and str(tmp_path) in run_all.say_larger_data()


def test_browsers_are_those_of_the_tests(monkeypatch):
    assert doctor.BROWSERS == browser.NAMES
    monkeypatch.delenv("RECAP_BROWSER", raising=False)
    monkeypatch.setattr(doctor.shutil, "which", lambda _: None)
    (found,) = doctor.check_browser({})
    assert found.state == "note" and found.remedy


def test_the_default_captioner_is_named_and_what_it_lacks(monkeypatch):
    here = [ROOT / "trained/a", ROOT / "trained/b"]
    monkeypatch.setattr("captioning.checkpoint_list.by_worth", lambda: here)
    (ready,), (lacks,), (unknown,) = (
        list(doctor.check_checkpoints(answer))
        for answer in ({"captioner": [str(here[0]), False]}, {"captioner": [str(here[0]), True]}, {"failed": "x"})
    )
    assert (ready.state, ready.text) == ("ok", "2 checkpoints; caption.py takes trained/a")
    assert lacks.state == "note" and "whose encoder is not on this machine" in lacks.text and "--download" in lacks.remedy
    assert (unknown.state, unknown.text) == ("ok", "2 checkpoints")
    monkeypatch.setattr("captioning.checkpoint_list.by_worth", list)
    (none,) = doctor.check_checkpoints({})
    assert none.state == "note" and "run_all.py" in none.remedy
