"""What benchmarks/speed.py measured, as tables: ratios against peers with their targets, growth, and what COCO would cost by those parts. No torch."""

import importlib
from pathlib import Path

from benchmarks.profiles import PROFILES
from captioning.bad_input import BadInput
from captioning.speed_records import read_speeds
from reports.cost import short_hardware
from reports.tables import Column, Missing, Table, Value

# Multiply-adds of one 224 px forward pass in 1e9, as torch counts them (a test asks): what an encoder costs next to the one that was measured.
GMACS = {
    "convnext_tiny": 4.5, "convnext_small": 8.7, "convnext_base": 15.4, "convnext_large": 34.4, "convnextv2_base": 15.4, "resnet101": 7.8,
    "resnet152": 11.5, "vgg16": 15.4, "resnext101_32x8d": 16.4, "mobilenetv3_large_100": 0.2, "vit_base_patch16_224": 17.6,
    "deit_base_patch16_224": 17.6,
}  # fmt: skip
COCO = {"images": 123_287, "training": 113_287, "val": 5_000, "test": 5_000, "captions": 5}
REGION_BYTES, REGIONS, GB = 2, 49, 1e9


def load_speeds(folders: list[Path]) -> tuple[list[dict], list[str]]:
    """Records of speeds, {"name", "rows" by name}, and what could not be read."""
    found, problems = [], []
    for path in [path for folder in folders for path in sorted(folder.glob("*.json"))]:
        try:
            rows = read_speeds(path)
        except BadInput as error:
            problems.append(str(error))
        else:
            found.append({"name": path.stem, "rows": {name: row for name, row in rows.items() if not row.get("quick")}})
    return [record for record in found if record["rows"]], problems


def speed_table(record: dict) -> Table:
    """A row per measurement but growth."""
    columns = [
        Column("Work", numeric=False),
        Column("Measured"),
        Column("Unit", numeric=False),
        Column("Target"),
        Column("Met", numeric=False),
    ]
    rows = []
    for name, row in record["rows"].items():
        if name.startswith("growth"):
            continue
        if "not_measured" in row:
            rows.append([name, Missing(row["not_measured"])])
            continue
        met = {None: "", True: "yes", False: "no"}[row["met"]]
        rows.append([row["what"], _value(row), row["unit"], row["target"] or "none", met])
    turns = sorted({len(row["values"]) for row in record["rows"].values() if "values" in row and len(row["values"]) > 1})
    remarks = [f"{hardware(record)}. The median of {' or '.join(map(str, turns))} turns, under it the lowest and the highest: no interval."]
    return Table(f"speed-{record['name']}", f"Speed: {record['name']}", columns, rows, remarks)


def _value(row: dict) -> Value:
    low, high = min(row["values"]), max(row["values"])
    digits = 2 if abs(row["value"]) < 100 else 0
    ends = (None, None) if low == high else (low, high)
    return Value(row["value"], f"{row['value']:.{digits}f}", *ends, digits=digits)


def hardware(record: dict) -> str:
    """Of its rows, in words."""
    places = [row["where"] for row in record["rows"].values() if "where" in row]
    said = {f"{short_hardware(where)} of {where['cores']} cores, torch {where['torch']}" for where in places}
    return "; ".join(sorted(said))


def growth_table(record: dict) -> Table | None:
    """How time grows: the line's slope and the worst distance from it, memory at the smallest and the largest size."""
    rows = []
    for name, row in record["rows"].items():
        if not name.startswith("growth") or "not_measured" in row:
            continue
        sizes, peaks = row["sizes"], row["peak_mb"]
        seconds = row["best_seconds"]
        rows.append([
            row["what"], f"{sizes[0]:,} to {sizes[-1]:,}", Value(seconds[0], f"{seconds[0]:.3f}"), Value(seconds[-1], f"{seconds[-1]:.3f}"),
            Value(row["slope"], f"{1e3 * row['slope']:.3g}"), Value(row["residual"], f"{100 * row['residual']:.0f}"),
            Missing("this system does not say") if None in peaks else f"{peaks[0]:,} to {peaks[-1]:,}",
        ])  # fmt: skip
    if not rows:
        return None
    columns = [Column("Work", numeric=False), Column("Sizes", numeric=False), Column("Seconds, smallest"), Column("Seconds, largest")]
    columns += [Column("Slope, ms for one more"), Column("Worst distance from the line, %"), Column("Memory, MB", numeric=False)]
    remarks = ["Seconds: the best turn. The line is fitted by least squares on relative errors; its worst distance is relative too."]
    return Table(f"growth-{record['name']}", f"Growth: {record['name']}", columns, rows, remarks)


def coco_table(record: dict) -> Table | None:
    """Hours and disk of each experiment at COCO's size, from the measured parts; None where a part was not measured."""
    parts = {name: record["rows"].get(name, {}) for name in ("step-7x7", "caption", "beam-best")}
    if any("values" not in part for part in parts.values()):
        return None
    step = sorted(parts["step-7x7"]["seconds"])[len(parts["step-7x7"]["seconds"]) // 2] / 160  # a caption
    encode = 1 / parts["caption"]["images_per_second_peer"] / GMACS[parts["caption"]["encoder"]]  # an image and 1e9 multiply-adds
    search = 1 / parts["beam-best"]["images_per_second"]
    profile, rows, trained = PROFILES["coco"], [], set()
    for name in ("encoders", "show_attend_tell", "convnext_versions", "learning_rates", "teacher_forcing", "attention", "loss_parts"):
        runs = [config for _, config in importlib.import_module(f"benchmarks.experiments.{name}").runs(profile)]
        new = [config for config in runs if config.name not in trained]
        trained |= {config.name for config in new}
        hours = sum(_seconds(config, step, encode, search) for config in new) / 3600
        kept = {(c.encoder, c.grid): COCO["images"] * (c.grid or 14) ** 2 * _dim(c.encoder) * REGION_BYTES / GB for c in new if c.frozen}
        disk = sum(kept.values())
        rows.append([name, len(new), *(Value(h, f"{h:,.0f}") for h in (hours, hours / 8)), Value(disk, f"{disk:,.0f}")])
    device = "GPU" if "cuda" in next(iter(record["rows"].values()))["where"]["device"] else "CPU"
    columns = [
        Column("Experiment", numeric=False),
        Column("New runs"),
        Column(f"Hours, 1 {device}"),
        Column(f"Hours, 8 {device}s"),
        Column("Regions on disk, GB"),
    ]
    remarks = [
        f"A plan on paper from the measured parts ({hardware(record)}): a frozen encoder reads each image once, a tuned one three passes an "
        "epoch; other encoders by their multiply-adds next to the measured one's; every word of training at the measured step; validation greedy "
        "after each epoch counted as beam 5; scoring and loading left out. Eight: runs side by side, nothing shared but the regions."
    ]
    return Table(f"coco-{record['name']}", f"COCO in full, planned: {record['name']}", columns, rows, remarks)


def _seconds(config, step: float, encode: float, search: float) -> float:
    epochs = config.epochs
    decoder = epochs * (COCO["training"] * COCO["captions"] * step + COCO["val"] * search)
    passes = COCO["images"] if config.frozen else epochs * (3 * COCO["training"] + COCO["val"])
    return decoder + passes * encode * _gmacs(config.encoder) + (COCO["val"] + COCO["test"]) * len(config.beams) * search


def _gmacs(encoder: str) -> float:
    known = GMACS.get(encoder.partition(".")[0])
    if known is None:
        raise BadInput(f"{encoder}: its multiply-adds are not in reports/speed.py; add them to GMACS")
    return known


def _dim(encoder: str) -> int:
    from benchmarks.estimates import DIMS

    return DIMS.get(encoder.partition(".")[0], max(DIMS.values()))
