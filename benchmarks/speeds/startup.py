"""What a person waits for before anything happens: help, lists, one photo, a finished profile. Whole processes, started anew each time."""

import re
import subprocess
import sys
import tempfile
from pathlib import Path

from benchmarks.speeds.bench import Measured, Size, interleave, ratios
from captioning.bad_input import BadInput

ROOT = Path(__file__).resolve().parents[2]
IMPORTS = "import torch, timm"


def _python(*line: str, **more) -> subprocess.CompletedProcess:
    done = subprocess.run([sys.executable, *line], cwd=ROOT, capture_output=True, text=True, **more)
    if done.returncode:
        raise RuntimeError(f"{' '.join(line)}: {done.stderr.strip().splitlines()[-1:]}")
    return done


def seconds_of(size: Size, line: list[str], what: str) -> Measured:
    """A command without a peer: its seconds are what counts."""
    taken, _ = interleave(lambda: _python(*line), lambda: None, size.repeats)
    return Measured(what, "seconds", taken, taken)


def help_of_caption(size: Size, device) -> Measured:
    return seconds_of(size, ["caption.py", "--help"], "python caption.py --help")


def list_of_runs(size: Size, device) -> Measured:
    return seconds_of(size, ["benchmarks/run_all.py", "--list"], "python benchmarks/run_all.py --list")


def one_photo(size: Size, device) -> Measured:
    """From process start to the caption, against importing torch and timm in the same way. A captioner of the demo, a photo of 12 megapixels."""
    import numpy as np
    from PIL import Image

    with tempfile.TemporaryDirectory() as folder:
        checkpoint, photo = Path(folder) / "checkpoint", Path(folder) / "photo.jpg"
        save_captioner(checkpoint)
        small = np.random.default_rng(0).integers(0, 256, (30, 40, 3), dtype=np.uint8)
        Image.fromarray(small).resize((400, 300) if size.quick else (4000, 3000)).save(photo)
        line = ["caption.py", "--img", str(photo), "--beam", "5", "--checkpoint", str(checkpoint), "--device", device.type]
        seconds = interleave(lambda: _python(*line), lambda: _python("-c", IMPORTS), size.repeats)
    return Measured(
        "caption.py on one photo, process start to caption", "times importing torch and timm", ratios(seconds[1], seconds[0]), *seconds
    )


def save_captioner(folder: Path) -> None:
    """An untrained captioner of the demo's kind."""
    import torch

    from captioning.checkpoint import save_checkpoint
    from captioning.config import RunConfig
    from captioning.vocabulary import Vocabulary
    from models import build_model

    torch.manual_seed(0)
    vocabulary = Vocabulary.build(["a red square left of a blue circle", "two green triangles"], 1)
    config = RunConfig(encoder="demo_convnext", embed_dim=128, hidden_dim=128, attention_dim=128)
    facts = {"run_id": "speed", "data": {"name": "demo", "fingerprint": ""}, "epoch": 0, "scores": {"val_bleu4_free": 0.0}}
    folder.mkdir()
    save_checkpoint(folder, build_model(config, len(vocabulary)), config, vocabulary, facts)


def finished_profile(size: Size, device) -> Measured:
    """run_all.py where nothing is left to do. Raises BadInput where the demo has not been run here."""
    said = _python("benchmarks/run_all.py", "--dry-run").stdout
    runs, done = map(int, re.search(r"(\d+) runs, (\d+) done", said).groups())
    if done < runs:
        raise BadInput(f"{done} of the demo's {runs} runs are done here; python benchmarks/run_all.py makes the others")
    return seconds_of(size, ["benchmarks/run_all.py"], f"second python benchmarks/run_all.py, {runs} runs done")
