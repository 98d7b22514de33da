"""What a plan will cost: minutes as like runs took here, disk from the sizes of what will be kept."""

import statistics
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

from benchmarks.plan import Run
from benchmarks.profiles import Profile
from captioning.cache import existing

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
REGIONS = ("system", "encoder", "grid", "image_size", "encoder_mode", "augment")  # what says what a decoder reads, and whether it is kept
CHECKPOINT_GB = {"frozen": 0.05, "tuned": 0.4}  # the decoder (512 wide, 10,000 words), and with it an encoder of 90 million parameters
DEMO_GB = 0.005
DEMO_GRID, DEMO_DIM, DEMO_PIXELS = 8, 256, 64  # regions a side, the widest member's features of one, pixels a side


def minutes_of(run: Run, records: Sequence[dict], profile: Profile) -> float:
    """As the same row took here with another seed, else as like rows did for as many epochs, else what the profile says; 0 is not known."""
    epochs = run.config.epochs
    seconds = [r["cost"]["train_seconds"] * epochs / r["config"]["epochs"] + r["cost"]["eval_seconds"] for r in like(run, records)]
    return statistics.median(seconds) / 60 if seconds else profile.minutes if run.config.frozen else profile.tuned_minutes


def longest_first(missing: Sequence[Run], records: Sequence[dict], profile: Profile) -> list[Run]:
    """So that no long run is left alone at the end; runs that take the same keep their order."""
    return sorted(missing, key=lambda run: -minutes_of(run, records, profile))


def like(run: Run, records: Sequence[dict]) -> list[dict]:
    """Finished records that tell what a run will take: of the same row, else of one on the same regions, else with the encoder frozen or learning as its."""
    measured = [record for record in records if record["status"] == "finished"]
    config = asdict(run.config)
    frozen = [r for r in measured if r["encoder"]["frozen"] == run.config.frozen]
    same = [r for r in frozen if all(r["config"].get(field) == config[field] for field in REGIONS)]
    return [r for r in measured if r["name"] == config["name"]] or same or frozen


def basis_of(missing: Sequence[Run], records: Sequence[dict]) -> str:
    """Where the minutes of a plan come from, in words. records: those that were made here."""
    runs = [run for run in missing if not run.problem]
    here = sum(bool(like(run, records)) for run in runs)
    if here == len(runs):
        return "as measured here"
    elsewhere = "as measured on CPU cores of 2.5 GHz"
    return f"{here} of them as measured here, the others {elsewhere}" if here else f"{elsewhere}; measured here after the first"


def total_minutes(missing: Sequence[Run], records: Sequence[dict], profile: Profile, workers: int) -> float:
    """Of all that is to do, `workers` at a time; 0 where some run's time is not known."""
    minutes = [minutes_of(run, records, profile) for run in missing if not run.problem]
    return 0.0 if not all(minutes) else sum(minutes) / workers


def disk_gb(missing: Sequence[Run], profile: Profile, images: int) -> tuple[float, float]:
    """Of checkpoints under the results, and of regions and pixels kept under the cache: at most, as if none were there yet."""
    demo, able = profile.name == "demo", [run for run in missing if not run.problem]
    kept = {}
    for config in [run.config for run in able]:
        if not config.frozen or config.encoder_mode == "train" or config.augment != "none":
            continue
        side = config.grid or (DEMO_GRID if demo else 14)
        dim = DEMO_DIM if demo else DIMS.get(config.encoder.partition(".")[0], max(DIMS.values()))
        seed = None if config.pretrained else config.seed
        key = (config.encoder, seed, side, config.image_size, config.resize, config.normalise, config.final_norm, config.features)
        kept[key] = images * side * side * dim * BYTES
    sizes = {run.config.image_size or (DEMO_PIXELS if demo else 224) for run in able}
    pixels = sum(images * size * size * 3 for size in sizes)
    checkpoints = sum(DEMO_GB if demo else CHECKPOINT_GB["frozen" if run.config.frozen else "tuned"] for run in able)
    return checkpoints, (sum(kept.values()) + (pixels if pixels < 10e9 else 0)) / 1e9


def say_disk(needed: tuple[float, float], results: Path, cache: Path) -> str:
    """What is needed under both folders and what is free there, with a warning where that is too little; they may be on one disk."""
    if disk_of(results) == disk_of(cache):
        places = [(sum(needed), results, "")]
    else:
        places = [(needed[0], results, " for results"), (needed[1], cache, " for the cache")]
    said = [f"up to {gb:.1f} GB{what}, {free_gb(folder):.0f} GB free" for gb, folder, what in places]
    too_little = any(gb > free_gb(folder) for gb, folder, _ in places)
    return f"disk: {'; '.join(said)}" + ("; THIS IS TOO LITTLE" if too_little else "")


def free_gb(folder: Path) -> float:
    """Free on the disk of a folder that may not exist yet."""
    import shutil

    return shutil.disk_usage(existing(folder)).free / 1e9


def disk_of(folder: Path) -> int:
    """Which disk a folder, which may not exist yet, is on."""
    return existing(folder).stat().st_dev
