"""Made-up results for tests of the report: `make_results(folder, profile, ...)` writes records, curves, captions, references and attention strips.

`make_study` makes every run of the demo's experiments, with captions that claims can be judged on. Nothing in them was measured.
`python tests/made_up_records.py FOLDER` makes a folder to look at: `python reports/build.py --results FOLDER --out ...`.
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
from captioning.systems import map_kind

COLORS = {"red": (210, 60, 50), "blue": (50, 90, 210), "green": (60, 150, 70), "yellow": (225, 190, 60)}
SHAPES = ("circle", "square", "triangle", "star")
METRICS = {"free": ("BLEU-1", "BLEU-2", "BLEU-3", "BLEU-4"), "coco": ("BLEU-1", "BLEU-2", "BLEU-3", "BLEU-4", "METEOR", "ROUGE-L", "CIDEr")}
LABELS = {"convnext": "ConvNeXt (small member)", "resnet": "ResNet (small member)", "vit": "ViT (small member)"}
# The demo's experiments: run name -> its label there, and the share of wrong words in its made-up captions.
STUDY = {
    "encoders": {
        "convnext": ("ConvNeXt (small member)", 0.10),
        "resnet101": ("ResNet (small member)", 0.16),
        "resnet152": ("Deeper ResNet (small member)", 0.15),
        "vgg16": ("VGG (small member)", 0.26),
        "resnext101": ("ResNeXt (small member)", 0.15),
        "mobilenetv3": ("MobileNetV3 (small member)", 0.20),
        "vit": ("ViT (small member)", 0.11),
        "deit": ("DeiT (small member)", 0.06),
    },
    "show_attend_tell": {
        "convnext": ("ConvNeXt, soft attention", 0.10),
        "vgg16": ("VGG, soft attention", 0.26),
        "vgg16-hard": ("VGG, hard attention", 0.24),
    },
    "convnext_versions": {
        "convnext-tiny": ("ConvNeXt, tiny", 0.14),
        "convnext": ("ConvNeXt, small", 0.10),
        "convnext-large": ("ConvNeXt, large", 0.09),
        "convnextv2": ("ConvNeXt V2", 0.10),
    },
    "learning_rates": {
        "convnext": ("ConvNeXt, frozen", 0.10),
        "convnext-lr1e-4": ("ConvNeXt, tuned at 1e-4", 0.30),
        "convnext-lr1e-5": ("ConvNeXt, tuned at 1e-5", 0.12),
        "convnext-lr1e-6": ("ConvNeXt, tuned at 1e-6", 0.11),
        "convnext-scratch": ("ConvNeXt, no pretraining", 0.45),
    },
    "teacher_forcing": {
        "convnext": ("ConvNeXt, always forced", 0.10),
        "convnext-never": ("ConvNeXt, never forced", 0.35),
        "convnext-scheduled": ("ConvNeXt, scheduled", 0.13),
    },
    "attention": {
        "convnext-none": ("ConvNeXt, no attention", 0.33),
        "convnext": ("ConvNeXt, soft attention", 0.10),
        "convnext-hard": ("ConvNeXt, hard attention", 0.12),
    },
    "protocols": {"convnext": ("ConvNeXt (small member)", 0.10)},
    "loss_parts": {"convnext": ("ConvNeXt, 8x8 regions", 0.10), "convnext-grid4": ("ConvNeXt, 4x4 regions", 0.13)},
    "systems": {
        "convnext": ("ConvNeXt + LSTM with attention", 0.10),
        "t5": ("ConvNeXt V2 + T5, one token", 0.20),
        "prefix": ("ViT + GPT-2 prefix", 0.22),
        "sep": ("ViT + GPT-2 with [SEP]", 0.15),
        "transformer": ("ConvNeXt + Transformer", 0.12),
    },
}
SYSTEMS = {
    "t5": "vector",
    "prefix": "vector",
    "sep": "regions",
    "transformer": "regions",
}  # runs of another system than attend -> what they see
SEP_ENCODER = "vit_base_patch16_224.augreg_in1k"


def make_results(
    folder: Path, profile: str = "demo", names=tuple(LABELS), seeds: int = 1, images: int = 30, day: int = 21, photos: bool = True, shift: float = 0.0,
    evil: str = "", experiments=("encoders",), wrong: dict[str, float] | None = None,
) -> list[dict]:  # fmt: skip
    """Records of `names` x `seeds` under `folder`/`profile`; `evil` is text put where a stranger's text may stand: labels, captions, ids.

    wrong: run name -> share of wrong words in its captions, else 0.2; the scores in the records are made up apart from them.
    """
    home = folder / profile
    rng = np.random.default_rng(day)
    scenes = [(f"scene-{k:06d}{evil}", "val" if k % 2 else "test", *_scene(rng)) for k in range(images)]
    lines = [{"id": i, "split": s, "tokens": [c, c.replace("a ", "one ")], "raw": [c + ".", c]} for i, s, c, _ in scenes]
    references = _write_lines(home / "captions/references-0123456789abcdef.jsonl.gz", lines)
    records = []
    for k, name in enumerate(names):
        for seed in range(seeds):
            run_id = f"{name}-{seed}-{hashlib.sha256(f'{profile}{name}{seed}{shift}'.encode()).hexdigest()[:10]}"
            level = 30 + 1.5 * (k % 8) + seed + shift
            record = _record(run_id, name, LABELS.get(name, name) + evil, profile, seed, level, day, images, evil)
            record["experiments"] = list(experiments)
            record["files"]["references"] = references
            share = (wrong or {}).get(name, 0.2)
            record["files"]["captions"] = _captions(home, run_id, scenes, rng, evil, share, Path(references["path"]).name)
            if photos and seed == 0 and not name.endswith("-none"):
                record["files"]["attention"] = _strips(home, run_id, scenes, rng, map_kind(record["config"]))
            if profile == "demo" and photos and not name.endswith("-none"):
                record["pointing"] = _pointing(level, images // 4 if map_kind(record["config"]) == "gradient" else images // 2)
            _curve(home / "runs" / record["training"]["curve"], level, rng)
            write_record(home / "runs", record)
            records.append(record)
    return records


def make_study(folder: Path, profile: str = "demo", seeds: int = 1, images: int = 120, photos: bool = True, day: int = 21) -> list[dict]:
    """Records of all runs of `STUDY`, each in the tables that share it, with a plan and one model's scores under further rules."""
    labels: dict[str, dict[str, str]] = {}
    wrong = {}
    for experiment, rows in STUDY.items():
        for name, (label, share) in rows.items():
            labels.setdefault(name, {})[experiment] = label
            wrong[name] = share
    records = make_results(folder, profile, tuple(wrong), seeds, images, day, photos, wrong=wrong)
    for record in records:
        theirs = labels[record["name"]]
        record |= {"label": next(iter(theirs.values())), "labels": theirs, "experiments": list(theirs)}
        write_record(folder / profile / "runs", record)
    write_plan(folder / profile, [{k: r[k] for k in ("run_id", "name", "label", "experiments", "labels")} for r in records])
    _write_rules(folder / profile, records[0])
    return records


def _write_rules(home: Path, record: dict) -> None:
    """One model's scores under rules that its record does not hold."""
    splits = {}
    for split, protocols in record["scores"].items():
        rules = [("<end> dropped", protocols["published"], -1.4), ("<unk> matches nothing", protocols["published"], -0.5)]
        splits[split] = [{"rule": rule, "protocol": "published", "beam": None, "scores": _shifted(s, by, rule)} for rule, s, by in rules]
    content = {"schema": 1, "run_id": record["run_id"], "captions_sha256": record["files"]["captions"]["sha256"], "splits": splits}
    path = home / "protocols" / f"{record['run_id']}.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(content), encoding="utf-8")


def _shifted(scores: dict, by: float, rule: str) -> dict:
    values = {metric: value + by for metric, value in scores["scores"].items()}
    ends = {metric: [low + by, high + by] for metric, (low, high) in scores["intervals"].items()}
    return scores | {"scores": values, "intervals": ends, "signature": f"{scores['signature']}|{rule}"}


def make_sep(folder: Path, wrong: float, seeds: int = 1, images: int = 80) -> list[dict]:
    """A coco profile whose only model is `sep` with its own encoder, its captions' words wrong with that chance."""
    records = make_results(folder, "coco", ("sep",), seeds, images, photos=False, wrong={"sep": wrong}, experiments=("systems",))
    for record in records:
        record["encoder"] |= {"name": SEP_ENCODER, "tag": SEP_ENCODER}
        write_record(folder / "coco/runs", record)
    return records


def _pointing(level: float, n: int) -> dict:
    def scores(captions: str, split: str) -> dict:
        values = {"pointing": 20 + level, "mass": 14.0, "chance": 5.0, "ratio": (20 + level) / 5}
        return {
            "protocol": f"pointing-{captions}", "signature": f"pointing-{captions}|split:{split}|made-up", "n_images": n, "scores": values,
            "intervals": {m: [v * 0.96, v * 1.04] for m, v in values.items()}, "not_available": {}, "n_nouns": 300, "n_absent": 4,
        }  # fmt: skip

    return {split: {captions: scores(captions, split) for captions in ("forced", "free")} for split in ("val", "test")}


def _record(run_id: str, name: str, label: str, profile: str, seed: int, level: float, day: int, images: int, evil: str) -> dict:
    def scores(protocol: str, split: str, base: float, beam: str) -> dict:
        values = {metric: base + 18 * (3 - k % 4) for k, metric in enumerate(METRICS.get(protocol, METRICS["free"]))}
        if protocol == "published":
            entropy = 4.2 - base / 30
            values |= {"top-5": 68 + base / 5, "cross-entropy": entropy, "cross-entropy per caption": 8 * entropy}
            values |= {"penalty": penalty, "loss": entropy + penalty}
        return {
            "protocol": protocol,
            "signature": f"{protocol}|split:{split}|beam:{beam or '-'}|made-up",
            "n_images": images // 2,
            "scores": values,
            "intervals": {m: [v * 0.96, v * 1.04] for m, v in values.items()},
            "not_available": {"SPICE": f"CoreNLP's models are not on this machine{evil}"} if protocol == "coco" else {},
        }

    grid = [4, 4] if "grid4" in name else [8, 8]
    attention = next((kind for kind in ("none", "hard") if kind in name), "soft")
    penalty = 0.03 + (1 - 8 / (grid[0] * grid[1])) ** 2
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
        "config": {"name": name, "seed": seed, "encoder": f"{name}_made_up", "attention": attention, "epochs": 10, "decoder_lr": 4e-4, "hidden_dim": 128,
                   "system": name if name in SYSTEMS else "attend", "features": SYSTEMS.get(name, "regions")},
        "data": {"name": profile, "fingerprint": "f" * 64, "images": {"train": 2000, "val": images // 2, "test": images // 2},
                 "captions": {"train": 10000, "val": images, "test": images}, "vocabulary": 90},
        "encoder": {"name": f"{name}_made_up", "tag": f"{name}_made_up.scenes", "source": "demo" if profile == "demo" else "timm", "sha256": "e" * 64,
                    "parameters": 480_000, "grid": grid, "dim": 128, "frozen": "lr1e" not in name,
                    "accuracy": {"shape": 0.93, "colour": 0.99} if profile == "demo" else None},
        "model": {"parameters": 700_000, "trained_parameters": 220_000},
        "scores": by_split,
        "training": {"epochs": 10, "best_epoch": 8, "selection": "BLEU-4, free, greedy, val", "curve": f"{run_id}.metrics.jsonl"},
        "cost": {"train_seconds": 27.3 + 9 * len(name) % 70, "eval_seconds": 6.1, "images_per_second": 812.0 - 31 * len(name), "peak_memory_mb": 911.0,
                 "device": "cpu: Made Up(R) Processor @ 2.50GHz", "threads": 1},
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


def _captions(home: Path, run_id: str, scenes: list, rng: np.random.Generator, evil: str, wrong: float, references: str) -> dict:
    vocabulary = ["<pad>", "<start>", "<end>", "<unk>", *sorted({word for _, _, caption, _ in scenes for word in f"one {caption}".split()})]
    lines: list[dict] = [
        {"schema": 1, "run_id": run_id, "vocabulary": vocabulary, "references": references, "beams": [1, 3, 5, 7], "max_words": 50}
    ]
    for image_id, split, caption, _ in scenes:
        words = [word if rng.random() > wrong else str(rng.choice(list(COLORS))) for word in caption.split()]
        free = {beam: {"text": " ".join(words) + evil, "score": -3.2, "ended": True} for beam in ("1", "3", "5", "7")}
        n, entropy = len(words) + 1, float(len(words) * (1 + 3 * wrong) + rng.normal(0, 0.8))
        top5 = sum(rng.random() > wrong / 2 for _ in range(n))
        forced = {"words": " ".join([*words, "<end>"]), "n": n, "top5": top5, "cross_entropy": entropy, "penalty": 0.79}
        lines.append({"id": image_id, "split": split, "free": free, "forced": [forced, forced]})
    return _write_lines(home / f"captions/{run_id}.jsonl.gz", lines)


def _strips(home: Path, run_id: str, scenes: list, rng: np.random.Generator, kind: str) -> dict:
    pictures, maps, meta = [], [], []
    for image_id, _, caption, picture in scenes[:5]:
        words = caption.split()
        side = 14 if kind == "gradient" else 8
        y, x = np.mgrid[:side, :side]
        weights = [np.exp(-((y - rng.uniform(0, 7)) ** 2 + (x - rng.uniform(0, 7)) ** 2) / rng.uniform(2, 12)) for _ in words]
        pictures.append(picture)
        maps.append(np.array([each / each.sum() for each in weights]))
        about = {"id": image_id, "words": words, "references": [caption, caption.replace("a ", "one ")]}
        # Files from before there were several kinds have none.
        meta.append(about | ({} if kind == "attention" and "hard" in run_id else {"kind": kind}))
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
    demo = make_study(target, seeds=2, images=160)
    failed = add_failed(
        target, "demo", "vit-14", "the weights vit_base_patch16_224.augreg_in1k are not on this machine", "ViT, 14x14 regions"
    )
    missing = {"run_id": "deit-14-0-1111111111", "name": "deit-14", "label": "DeiT, 14x14 regions", "experiments": ["encoders"]}
    shared = ("run_id", "name", "label", "experiments", "labels")
    write_plan(target / "demo", [{k: r[k] for k in shared if k in r} for r in [*demo, failed]] + [missing])
    make_results(target, "flickr8k", names=("resnet", "vit"), photos=False, images=200)
    make_results(target / "evidence", "flickr8k", names=("resnet", "vit"), photos=False, images=200, day=19, shift=0.7)
