"""What a plan will cost: minutes as like runs took here, disk from the sizes of what will be kept."""

import statistics
from collections.abc import Sequence
from pathlib import Path

from benchmarks.plan import Run
from benchmarks.profiles import Profile

# Features of a region, by timm's name: what a frozen encoder's kept regions take on disk. A test asks timm.
DIMS = {
    "convnext_tiny": 768,
    "convnext_small": 768,
    "convnext_base": 1024,
    "convnext_large": 1536,
    "convnextv2_base": 1024,
    "resnet50": 2048,
    "resnet101": 2048,
    "resnet152": 2048,
    "resnext101_32x8d": 2048,
    "vgg16": 512,
    "mobilenetv2_100": 1280,
    "mobilenetv3_large_100": 960,
    "tf_efficientnet_lite0": 1280,
    "vit_base_patch16_224": 768,
    "deit_base_patch16_224": 768,
    "deit_tiny_patch16_224": 192,
}
BYTES = 2  # fp16
CHECKPOINT_GB = {"frozen": 0.05, "tuned": 0.4}  # the decoder (512 wide, 10,000 words), and with it an encoder of 90 million parameters
DEMO_GB = 0.005


def minutes_of(run: Run, records: Sequence[dict], profile: Profile) -> float:
    """As the same row took here with another seed, else as like rows did (encoder frozen or learning), else what the profile says; 0 is not known."""
    measured = [record for record in records if record["status"] == "finished"]
    like = [r for r in measured if r["name"] == run.config.name] or [r for r in measured if r["encoder"]["frozen"] == run.config.frozen]
    seconds = [r["cost"]["train_seconds"] + r["cost"]["eval_seconds"] for r in like]
    return statistics.median(seconds) / 60 if seconds else profile.minutes if run.config.frozen else profile.tuned_minutes


def total_minutes(missing: Sequence[Run], records: Sequence[dict], profile: Profile, workers: int) -> float:
    """Of all that is to do, `workers` at a time; 0 where some run's time is not known."""
    minutes = [minutes_of(run, records, profile) for run in missing if not run.problem]
    return 0.0 if not all(minutes) else sum(minutes) / workers


def disk_gb(missing: Sequence[Run], profile: Profile, images: int) -> float:
    """Checkpoints, and regions and pixels kept under the cache: at most, as if none were there yet."""
    if profile.name == "demo":
        return DEMO_GB * len(missing)
    kept = {}
    for run in missing:
        config = run.config
        if run.problem or not config.frozen or config.encoder_mode == "train" or config.augment != "none":
            continue
        side = config.grid or 14
        dim = DIMS.get(config.encoder.partition(".")[0], max(DIMS.values()))
        kept[(config.encoder, config.grid, config.image_size, config.resize)] = images * side * side * dim * BYTES
    sizes = {run.config.image_size or 224 for run in missing if not run.problem}
    pixels = sum(images * size * size * 3 for size in sizes)
    checkpoints = sum(CHECKPOINT_GB["frozen" if run.config.frozen else "tuned"] for run in missing if not run.problem)
    return (sum(kept.values()) + (pixels if pixels < 10e9 else 0)) / 1e9 + checkpoints


def free_gb(folder: Path) -> float:
    """Free on the disk of a folder that may not exist yet."""
    import shutil

    while not folder.exists():
        folder = folder.parent
    return shutil.disk_usage(folder).free / 1e9
