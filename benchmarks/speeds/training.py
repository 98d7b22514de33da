"""Training as a whole: an epoch on kept regions against the decoder alone, memory at COCO's size, two processes against one."""

import contextlib
import csv
import json
import os
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from benchmarks.speeds.bench import Measured, Size, interleave, ratios, status_mb, waiter
from benchmarks.speeds.growth import fit
from benchmarks.speeds.work import references

ROOT = Path(__file__).resolve().parents[2]
COCO_IMAGES = 123_287
# An encoder of one layer: what it costs is no part of an epoch from the second on.
PATCHES = """
import torch
from torch import nn

class Patches(nn.Module):
    num_features = 768
    preprocessing = dict(size=224, mean=(0.5,) * 3, std=(0.5,) * 3, interpolation="bicubic")
    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.patch = nn.Conv2d(3, 768, 32, stride=32)
    def forward_features(self, images):
        return self.patch(images)

def patches():
    return Patches()
"""


def make_data(folder: Path, images: int, in_training: int) -> None:
    """A data set as people bring it: captions.csv and pictures; real captions, 64 pictures of noise by many names."""
    from PIL import Image

    captions = references()
    random = np.random.default_rng(0)
    (folder / "images").mkdir(parents=True)
    with open(folder / "captions.csv", "w", newline="", encoding="utf-8") as file:
        rows = csv.writer(file)
        rows.writerow(["image", "caption", "split"])
        for i in range(images):
            name = f"{i:06d}.jpg"
            if i < 64:
                Image.fromarray(random.integers(0, 256, (224, 224, 3), dtype=np.uint8)).save(folder / "images" / name, quality=60)
            else:
                os.link(folder / "images" / f"{i % 64:06d}.jpg", folder / "images" / name)
            split = "train" if i < in_training else "val" if i % 2 else "test"
            rows.writerows([name, caption, split] for caption in dict.fromkeys(captions[i % len(captions)]))


def epoch_on_kept_regions(size: Size, device) -> Measured:
    """train.py's loop over an epoch of kept regions, against the same steps on regions in memory with nothing else around them."""
    import torch

    from captioning.batches import epoch_batches
    from captioning.config import RunConfig
    from models import AttendDecoder, CaptionModel
    from train import Training, Where

    images = 64 if size.quick else 480
    with tempfile.TemporaryDirectory() as name:
        home = Path(name)
        make_data(home / "data", images + 8, images)
        (home / "patches.py").write_text(PATCHES)
        encoder = f"{home / 'patches.py'}:patches"
        config = RunConfig(encoder=encoder, grid=7, image_size=224, batch_size=160, clip_value=5.0, epochs=1000)
        where = Where(data=str(home / "data"), out=str(home / "out"), cache=str(home / "cache"), device=device.type)
        training = Training(config, where)
        training.model.train()
        decoder = AttendDecoder(768, len(training.vocabulary), config)
        alone = CaptionModel(torch.nn.Identity(), decoder, config).to(device).train()
        adam = torch.optim.Adam(decoder.parameters(), lr=4e-4, fused=True)
        noise = torch.randn(config.batch_size, 49, 768, device=device)

        def ours() -> None:
            batches = epoch_batches(training.captions, config, training.epoch)
            for chosen in batches:
                training._learn(chosen, len(batches))
            training.epoch, training.batch = training.epoch + 1, 0

        def peer() -> None:
            for chosen in epoch_batches(training.captions, config, 0):
                batch = training.captions.collate(chosen)
                words, lengths, image_of = (torch.from_numpy(a).to(device) for a in (batch.words, batch.lengths, batch.image_of))
                adam.zero_grad(set_to_none=True)
                losses = alone(noise[: len(batch.images)], words, lengths, image_of)
                (losses.cross_entropy / losses.words + losses.penalty / losses.captions).backward()
                torch.nn.utils.clip_grad_value_(decoder.parameters(), config.clip_value)
                adam.step()

        seconds = interleave(ours, peer, min(size.repeats, 3), waiter(device))
        training.leave()
    more = {"images": images, "captions": 5 * images, "vocabulary": len(training.vocabulary)}
    more |= _published_epoch(training, alone.decoder, device, float(np.median(seconds[0])), size.quick)
    what = f"epoch on kept regions, {images} images x 5 captions, 49 regions of 768"
    return Measured(what, "times the decoder alone", ratios(seconds[1], seconds[0]), *seconds, more)


def _published_epoch(training, decoder, device, ours: float, quick: bool) -> dict:
    """What the published loop takes for an epoch of the same captions with ConvNeXt-S frozen: it encodes an image for each of its captions, every epoch.

    Its decoder's steps are timed on the epoch's batches, the encoder on a few images.
    """
    import torch

    from benchmarks import baseline
    from captioning.batches import epoch_batches
    from captioning.config import RunConfig
    from captioning.trunks import locate
    from models import build_encoder

    published = baseline.PublishedDecoder.from_ours(decoder, training.config.dropout).to(device).train()
    adam, wait = torch.optim.Adam(published.parameters(), lr=4e-4), waiter(device)
    noise = torch.randn(training.config.batch_size, 49, 768, device=device)
    begun, captions = time.perf_counter(), 0
    for chosen in epoch_batches(training.captions, training.config, 0):
        batch = training.captions.collate(chosen)
        words, lengths, image_of = (torch.from_numpy(a).to(device) for a in (batch.words, batch.lengths, batch.image_of))
        baseline.training_step(published, adam, noise[image_of], words, lengths)
        captions += len(lengths)
    wait()
    steps = time.perf_counter() - begun
    name, at_once = ("convnext_atto", 2) if quick else ("convnext_small", 32)
    encoder = build_encoder(RunConfig(encoder=name, pretrained=False, grid=7), source=locate(name, False, "none")).to(device).eval()
    pictures = torch.zeros(at_once, 224, 224, 3, dtype=torch.uint8, device=device)
    with torch.inference_mode():
        forward, _ = interleave(lambda: encoder(encoder.scale(pictures)), lambda: None, 3, wait)
    theirs = steps + captions * float(np.median(forward)) / at_once
    return {"seconds_of_published_steps": steps, "seconds_of_published_epoch": theirs, "times_the_published_loop": round(theirs / ours, 1)}


def two_processes(size: Size, device) -> Measured:
    """torchrun with two processes of one thread against one process of two threads: the demo's scenes, seconds an epoch, the first left out."""
    (two, _), (one, _) = demo_epochs(2, 1, size), demo_epochs(1, 2, size)
    return Measured("demo epoch, two processes of one thread", "times the speed of one process of two threads", ratios(two, one), two, one)


def more_processes(size: Size, device) -> Measured:
    """The same work by more and more processes of one thread: the demo's scenes, the best epoch but the first, and anonymous memory of them all."""
    sizes = [1, 2] if size.quick else [1, 2, 3, 4]
    measured = [demo_epochs(n, 1, size) for n in sizes]
    best, peaks = [min(seconds) for seconds, _ in measured], [peak for _, peak in measured]
    line = fit(sizes, best)
    more = {"sizes": sizes, "best_seconds": best, "peak_mb": peaks, **line._asdict()}
    return Measured("a demo epoch against processes of one thread", "worst distance from a straight line", [line.residual], [], [], more)


def demo_epochs(processes: int, threads: int, size: Size) -> tuple[list[float], int]:
    """(seconds of each epoch of a training but the first, the most anonymous memory of all its processes at once in MB)."""
    start = [sys.executable] + (
        ["-m", "torch.distributed.run", "--standalone", "--nproc_per_node", str(processes)] if processes > 1 else []
    )
    line = ["train.py", "--data", "demo", "--encoder", "demo_convnext", "--epochs", "3", "--device", "cpu", "--threads", str(threads)]
    line += ["--embed-dim", "128", "--hidden-dim", "128", "--attention-dim", "128"] if size.quick else []
    with tempfile.TemporaryDirectory() as folder:
        peak = _anonymous_peak([*start, *line, "--out", f"{folder}/out"], os.environ | {"OMP_NUM_THREADS": str(threads)})
        at = [json.loads(row)["seconds"] for row in Path(folder, "out", "metrics.jsonl").read_text().splitlines()]
    return [b - a for a, b in zip(at, at[1:], strict=False)], peak


def coco_memory(size: Size, device) -> Measured:
    """Anonymous memory of train.py's process tree on 123,287 images whose regions (49 x 768, fp16) lie in a memory map, above Python with torch."""
    images = 2_000 if size.quick else COCO_IMAGES
    steps = 3 if size.quick else 12
    bare = _anonymous_peak([sys.executable, "-c", "import torch, time; torch.ones(2) @ torch.ones(2); time.sleep(2)"])
    with tempfile.TemporaryDirectory() as folder:
        ours = _anonymous_peak([sys.executable, "-m", "benchmarks.speeds.training", str(images), str(steps), folder])
    more = {"images": images, "steps": steps, "interpreter_with_torch_mb": bare, "process_tree_mb": ours}
    above = (ours - bare) / 1000
    return Measured(f"training on {images:,} images, regions in a memory map", "GB above Python with torch", [above], [], [], more)


def _anonymous_peak(command: list[str], environment: Mapping[str, str] | None = None) -> int:
    """The most anonymous memory in MB that a process and its children had at once, looked at ten times a second. Raises RuntimeError where it fails."""
    process = subprocess.Popen(command, cwd=ROOT, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
    peak, stop = [0], threading.Event()

    def watch() -> None:
        while not stop.wait(0.1):
            peak[0] = max(peak[0], sum(status_mb("RssAnon", p) or 0 for p in tree_of(process.pid)))

    watcher = threading.Thread(target=watch)
    watcher.start()
    _, errors = process.communicate()
    stop.set()
    watcher.join()
    if process.returncode:
        raise RuntimeError((errors.strip().splitlines() or ["it said nothing"])[-1])
    return peak[0]


def tree_of(process: int) -> list[int]:
    """It and all its children that live."""
    found = [process]
    for parent in found:
        for task in Path(f"/proc/{parent}/task").glob("*/children"):
            with contextlib.suppress(OSError):
                found += [int(child) for child in task.read_text().split()]
    return found


def train_at_size(images: int, steps: int, home: Path) -> None:
    """What `coco_memory` watches: train.py's own loop on a data set of so many images, with regions that nobody had to compute (a file of zeros)."""
    import torch

    from captioning.batches import epoch_batches
    from captioning.config import RunConfig
    from captioning.data import CaptionData, Example
    from captioning.inputs import KeptRegions
    from train import Training, Where

    class Zeros(Training):
        def _open_inputs(self):
            regions = np.lib.format.open_memmap(
                home / "regions.npy", mode="w+", dtype=np.float16, shape=(images, 49, 768)
            )  # sparse on disk
            return KeptRegions(regions, torch.device("cpu"))

    captions = references()
    splits = ["val" if i % 100 == 0 else "train" for i in range(images)]
    examples = [Example(f"{i}", f"{i}.jpg", splits[i], *2 * (tuple(captions[i % len(captions)]),)) for i in range(images)]
    data = CaptionData("coco", home, examples, "speed", images=None)
    (home / "patches.py").write_text(PATCHES)
    config = RunConfig(encoder=f"{home / 'patches.py'}:patches", grid=7, image_size=224, batch_size=160, clip_value=5.0, epochs=1)
    where = Where(data=str(home), out=str(home / "out"), cache=str(home / "cache"), device="cpu")
    begun = time.monotonic()
    training = Zeros(config, where, data)
    print(f"{images} images ready after {time.monotonic() - begun:.1f} s", flush=True)
    for chosen in epoch_batches(training.captions, config, 0)[:steps]:
        training._learn(chosen, steps)
    training._save_state()
    training._validate()


if __name__ == "__main__":
    train_at_size(int(sys.argv[1]), int(sys.argv[2]), Path(sys.argv[3]))
