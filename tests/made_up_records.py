"""Made-up results for tests of the report: `make_results(folder, profile, ...)` writes records, curves, captions, references and attention strips.

Nothing in them was measured. `python tests/made_up_records.py FOLDER` makes a folder to look at: `python reports/build.py --results FOLDER --out ...`.
"""

import gzip
import hashlib
import json
import sys
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from captioning.attention_strip import save_strips
from captioning.records import write_plan, write_record

COLORS = {"red": (210, 60, 50), "blue": (50, 90, 210), "green": (60, 150, 70), "yellow": (225, 190, 60)}
SHAPES = ("circle", "square", "triangle", "star")
METRICS = {"free": ("BLEU-1", "BLEU-2", "BLEU-3", "BLEU-4"), "coco": ("BLEU-1", "BLEU-2", "BLEU-3", "BLEU-4", "METEOR", "ROUGE-L", "CIDEr")}
LABELS = {"convnext": "ConvNeXt (small member)", "resnet": "ResNet (small member)", "vit": "ViT (small member)"}


def make_results(
    folder: Path, profile: str = "demo", names=tuple(LABELS), seeds: int = 1, images: int = 30, day: int = 21, photos: bool = True, shift: float = 0.0,
    evil: str = "", experiments=("encoders",),
) -> list[dict]:  # fmt: skip
    """Records of `names` x `seeds` under `folder`/`profile`; `evil` is text put where a stranger's text may stand: labels, captions, ids."""
    home = folder / profile
    rng = np.random.default_rng(day)
    scenes = [(f"scene-{k:06d}{evil}", "val" if k % 2 else "test", *_scene(rng)) for k in range(images)]
    lines = [{"id": i, "split": s, "tokens": [c, c.replace("a ", "one ")], "raw": [c + ".", c]} for i, s, c, _ in scenes]
    references = _write_lines(home / "captions/references-0123456789abcdef.jsonl.gz", lines)
    records = []
    for k, name in enumerate(names):
        for seed in range(seeds):
            run_id = f"{name}-{seed}-{hashlib.sha256(f'{profile}{name}{seed}{shift}'.encode()).hexdigest()[:10]}"
            level = 30 + 2.5 * k + seed + shift
            record = _record(run_id, name, LABELS.get(name, name) + evil, profile, seed, level, day, images, evil)
            record["experiments"] = list(experiments)
            record["files"]["references"] = references
            record["files"]["captions"] = _captions(home, run_id, scenes, rng, evil)
            if photos and seed == 0:
                record["files"]["attention"] = _strips(home, run_id, scenes, rng)
            _curve(home / "runs" / record["training"]["curve"], level, rng)
            write_record(home / "runs", record)
            records.append(record)
    return records


def _record(run_id: str, name: str, label: str, profile: str, seed: int, level: float, day: int, images: int, evil: str) -> dict:
    def scores(protocol: str, split: str, base: float, beam: str) -> dict:
        values = {metric: base + 18 * (3 - k % 4) for k, metric in enumerate(METRICS.get(protocol, METRICS["free"]))}
        if protocol == "published":
            values |= {"top-5": 68 + base / 5, "cross-entropy": 4.2 - base / 30, "penalty": 0.61, "loss": 4.81 - base / 30}
        return {
            "protocol": protocol,
            "signature": f"{protocol}|split:{split}|beam:{beam or '-'}|made-up",
            "n_images": images // 2,
            "scores": values,
            "intervals": {m: [v * 0.96, v * 1.04] for m, v in values.items()},
            "not_available": {"SPICE": f"CoreNLP's models are not on this machine{evil}"} if protocol == "coco" else {},
        }

    by_split = {
        split: {
            "published": scores("published", split, level - 9 - less, ""),
            "free": {beam: scores("free", split, level - less + extra, beam) for beam, extra in (("1", -2.0), ("3", 0.0), ("5", 0.4))},
            "coco": {"5": scores("coco", split, level - less, "5")},
        }
        for split, less in (("val", 0.0), ("test", 1.1))
    }
    return {
        "schema": 1, "run_id": run_id, "name": name, "label": label, "experiments": ["encoders"], "profile": profile,
        "finished": f"2026-11-{day:02d}T08:{len(name):02d}:{seed:02d}Z", "status": "finished", "reason": None,
        "config": {"name": name, "seed": seed, "encoder": f"{name}_made_up", "epochs": 10, "decoder_lr": 4e-4, "hidden_dim": 128},
        "data": {"name": profile, "fingerprint": "f" * 64, "images": {"train": 2000, "val": images // 2, "test": images // 2},
                 "captions": {"train": 10000, "val": images, "test": images}, "vocabulary": 90},
        "encoder": {"name": f"{name}_made_up", "tag": f"{name}_made_up.scenes", "source": "checkpoints/demo-encoders", "sha256": "e" * 64,
                    "parameters": 480_000, "grid": [8, 8], "dim": 128, "frozen": True, "accuracy": {"shape": 0.93, "colour": 0.99} if profile == "demo" else None},
        "model": {"parameters": 700_000, "trained_parameters": 220_000},
        "scores": by_split,
        "training": {"epochs": 10, "best_epoch": 8, "selection": "BLEU-4, free, greedy, val", "curve": f"{run_id}.metrics.jsonl"},
        "cost": {"train_seconds": 27.3, "eval_seconds": 6.1, "images_per_second": 812.0, "peak_memory_mb": 911.0, "device": "cpu: made up", "threads": 1},
        "provenance": {"command": f"python benchmarks/run_all.py --profile {profile} --only encoders", "commit": "c" * 40, "dirty": False,
                       "versions": {"python": "3.11.7", "torch": "2.14.1"}, "numerics": 1},
        "files": {},
    }  # fmt: skip


def _scene(rng: np.random.Generator) -> tuple[str, np.ndarray]:
    one, two = rng.choice(list(COLORS), 2, replace=False)
    shape, other = rng.choice(SHAPES, 2)
    picture = Image.new("RGB", (64, 64), tuple(int(c) for c in rng.integers(150, 235, 3)))
    pen = ImageDraw.Draw(picture)
    pen.ellipse((8, 8, 28, 28), fill=COLORS[one])
    pen.rectangle((36, 36, 56, 56), fill=COLORS[two])
    return f"a {one} {shape} above a {two} {other}", np.asarray(picture)


def _captions(home: Path, run_id: str, scenes: list, rng: np.random.Generator, evil: str) -> dict:
    lines: list[dict] = [
        {"schema": 1, "run_id": run_id, "vocabulary": ["<pad>", "a"], "references": "references.jsonl.gz", "beams": [1, 3, 5]}
    ]
    for image_id, split, caption, _ in scenes:
        words = [word if rng.random() > 0.2 else str(rng.choice(list(COLORS))) for word in caption.split()]
        text = " ".join(words) + evil
        lines.append(
            {"id": image_id, "split": split, "free": {beam: {"text": text, "score": -3.2} for beam in ("1", "3", "5")}, "forced": []}
        )
    return _write_lines(home / f"captions/{run_id}.jsonl.gz", lines)


def _strips(home: Path, run_id: str, scenes: list, rng: np.random.Generator) -> dict:
    pictures, maps, meta = [], [], []
    for image_id, _, caption, picture in scenes[:5]:
        words = caption.split()
        y, x = np.mgrid[:8, :8]
        weights = [np.exp(-((y - rng.uniform(0, 7)) ** 2 + (x - rng.uniform(0, 7)) ** 2) / rng.uniform(2, 12)) for _ in words]
        pictures.append(picture)
        maps.append(np.array([each / each.sum() for each in weights]))
        meta.append({"id": image_id, "words": words, "references": [caption, caption.replace("a ", "one ")]})
    path = home / f"attention/{run_id}.npz"
    save_strips(path, pictures, maps, meta)
    return {"path": f"attention/{path.name}", "sha256": hashlib.sha256(path.read_bytes()).hexdigest()}


def _curve(path: Path, level: float, rng: np.random.Generator) -> None:
    lines = []
    for epoch in range(1, 11):
        done = 1 - 0.6**epoch
        wobble = float(rng.normal(0, 0.3))
        lines.append({
            "epoch": epoch, "step": 60 * epoch, "train_loss": 4.9 - 2.2 * done, "train_cross_entropy": 4.3 - 2.3 * done, "train_penalty": 0.6,
            "train_top5": 60 + 20 * done, "val_cross_entropy": 4.3 - 2.0 * done, "val_penalty": 0.61, "val_top5": 60 + 18 * done,
            "val_bleu4_free": level * done + wobble, "val_bleu4_published": (level - 9) * done + wobble, "seconds": 2.7,
        })  # fmt: skip
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(json.dumps(line) + "\n" for line in lines), encoding="utf-8")


def _write_lines(path: Path, lines: list[dict]) -> dict:
    path.parent.mkdir(parents=True, exist_ok=True)
    content = gzip.compress("".join(json.dumps(line) + "\n" for line in lines).encode(), mtime=0)
    path.write_bytes(content)
    return {"path": f"captions/{path.name}", "sha256": hashlib.sha256(content).hexdigest()}


def add_failed(folder: Path, profile: str, name: str, reason: str, label: str = "") -> dict:
    record = {
        "schema": 1, "run_id": f"{name}-0-0000000000", "name": name, "label": label or name, "experiments": ["encoders"], "profile": profile,
        "finished": "2026-11-20T07:00:00Z", "config": {"name": name, "seed": 0}, "status": "failed", "reason": reason,
    }  # fmt: skip
    write_record(folder / profile / "runs", record)
    return record


if __name__ == "__main__":
    target = Path(sys.argv[1])
    demo = make_results(target, "demo", seeds=2, images=120)
    failed = add_failed(target, "demo", "vgg", "the weights vgg16.tv_in1k are not on this machine and could not be fetched", "VGG-16")
    missing = {"run_id": "mobilenet-0-1111111111", "name": "mobilenet", "label": "MobileNetV3 (small member)", "experiments": ["encoders"]}
    write_plan(target / "demo", [{k: r[k] for k in ("run_id", "name", "label", "experiments")} for r in [*demo, failed]] + [missing])
    make_results(target, "flickr8k", names=("resnet", "vit"), photos=False, images=200)
    make_results(target / "evidence", "flickr8k", names=("resnet", "vit"), photos=False, images=200, day=19, shift=0.7)
