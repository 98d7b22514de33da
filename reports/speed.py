"""What benchmarks/speed.py measured, as tables: ratios against peers with their targets, growth, and what COCO would cost by those parts. No torch."""

import importlib
import statistics
from pathlib import Path

from benchmarks.experiments.encoders import as_run
from benchmarks.profiles import PROFILES
from captioning.bad_input import BadInput
from captioning.claims import SEEDS_WANTED
from captioning.speed_records import read_speeds
from reports.cost import short_hardware
from reports.tables import Column, Missing, Table, Value

# Multiply-adds of one 224 px forward pass in 1e9, as torch counts them (a test asks): what an encoder costs next to the one that was measured.
GMACS = {
    "convnext_tiny": 4.45, "convnext_small": 8.68, "convnext_base": 15.35, "convnext_large": 34.36, "convnextv2_base": 15.35, "resnet101": 7.8,
    "resnet152": 11.51, "vgg16": 15.35, "resnext101_32x8d": 16.41, "mobilenetv3_large_100": 0.21, "vit_base_patch16_224": 17.56,
    "deit_base_patch16_224": 17.56,
}  # fmt: skip
COCO = {"images": 123_287, "training": 113_287, "val": 5_000, "test": 5_000, "captions": 5}
REGION_BYTES, GB = 2, 1e9
PLANNED = ("encoders", "show_attend_tell", "convnext_versions", "learning_rates", "teacher_forcing", "attention", "loss_parts")
GPU_TFLOPS = 10.0  # float32 products that a GPU is taken to keep up, where none was measured


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
    parts = {name: record["rows"].get(name, {}) for name in ("step-7x7", "step-14x14", "caption", "beam-best")}
    if any("values" not in part for part in parts.values()):
        return None
    steps = {grid: statistics.median(parts[f"step-{grid}x{grid}"]["seconds"]) / 160 for grid in (7, 14)}  # a caption
    encode = 1 / parts["caption"]["images_per_second_peer"] / GMACS[parts["caption"]["encoder"]]  # an image and 1e9 multiply-adds
    search = 1 / parts["beam-best"]["images_per_second"]
    profile, all_epochs = PROFILES["coco"], set()
    rows, trained, encoded, every, seeds, gigabytes = [], set(), set(), [], [], 0.0
    for name in PLANNED:
        runs = [as_run(profile, config) for _, config in importlib.import_module(f"benchmarks.experiments.{name}").runs(profile)]
        new = list({config.name: config for config in runs if config.name not in trained}.values())
        regions = {(config.encoder, config.grid) for config in new if config.frozen} - encoded
        trained |= {config.name for config in new}
        all_epochs |= {config.epochs for config in new}
        encoded |= regions
        # Regions are made once, by the first run that needs them.
        once = {key: COCO["images"] * encode * _gmacs(key[0]) for key in regions}
        hours = []
        for config in new:
            first = once.pop((config.encoder, config.grid), 0) if config.frozen else 0
            hours.append((first + _seconds(config, steps, encode, search)) / 3600)
        disk = sum(COCO["images"] * (grid or 14) ** 2 * _dim(encoder) * REGION_BYTES / GB for encoder, grid in sorted(regions))
        rows.append((name, hours, disk))
        every, gigabytes = every + hours, gigabytes + disk
        seeds += (SEEDS_WANTED - 1) * [_seconds(config, steps, encode, search) / 3600 for config in new]  # on the first seed's regions
    rows += [("all of these", every, gigabytes), (f"all of these, {SEEDS_WANTED} seeds", every + seeds, gigabytes)]
    device = "CPU" if parts["caption"]["where"]["device"].startswith("cpu") else "GPU"
    columns = [Column("Experiment", numeric=False), Column("New runs"), Column(f"Hours, 1 {device}"), Column(f"Hours, 8 {device}s")]
    columns += [Column("New regions on disk, GB")]
    remarks = [
        f"A plan on paper from the measured parts ({hardware(record)}), {_epochs(all_epochs)}, one seed where no more are said; a verdict over seeds takes "
        f"{SEEDS_WANTED}. The photographs take 20 GB more, 27 GB while they are fetched. A frozen encoder reads each image once, for all runs that share its "
        "regions; one that learns takes three passes an epoch; encoders by their multiply-adds next to the measured one's. Every caption of training at "
        "the measured step of its grid (14x14 at 2,048 numbers a region, more than most have), hard attention and own words at the price of soft "
        "and forced; validation as beam 5. Scoring, loading, and the experiments of other systems are left out. Eight: whole runs side by side.",
        "The command: python -m captioning.data download coco --to data/coco, then python benchmarks/run_all.py --profile coco --data data/coco "
        f"--only {' '.join(PLANNED)} (with --seeds {SEEDS_WANTED} for so many).",
    ]
    planned = [[name, len(hours), _rounded(sum(hours)), _rounded(_side_by_side(hours, 8)), _rounded(disk)] for name, hours, disk in rows]
    products = record["rows"].get("products", {}).get("value")
    if device == "CPU" and products:
        columns.append(Column("Hours, 1 GPU (assumed)"))
        faster = 1000 * GPU_TFLOPS / products
        planned = [[*cells, _rounded(sum(hours) / faster)] for cells, (_, hours, _) in zip(planned, rows, strict=True)]
        remarks.append(
            f"Assumed: this record has no GPU. The last column takes one that keeps up {GPU_TFLOPS:g} TFLOP/s of float32 products, {faster:.0f} times the "
            f"{products:.0f} GFLOP/s of this machine, and every part as that much faster; the small products of a beam search will be less so. "
            "python benchmarks/speed.py --device cuda measures one."
        )
    return Table(f"coco-{record['name']}", f"COCO in full, planned: {record['name']}", columns, planned, remarks)


def _epochs(numbers: set[int]) -> str:
    low, high = min(numbers), max(numbers)
    return f"{low} epochs a run" if low == high else f"{low} to {high} epochs a run"


def coco_in_words(records: list[dict]) -> str:
    """The last row of the first `coco_table` that there is; "" without one."""
    table = next(filter(None, map(coco_table, records)), None)
    if table is None:
        return ""
    (_, runs, *numbers), columns = table.rows[-1], [column.name for column in table.columns[2:]]
    cost = "; ".join(f"{name}: {number.text}" for name, number in zip(columns, numbers, strict=True))
    return f"What the paper's experiments would take on COCO, with {SEEDS_WANTED} seeds: {runs} runs. {cost}."


def _rounded(number: float) -> Value:
    return Value(number, f"{number:,.0f}" if number >= 10 or number == 0 else f"{number:.1f}")


def _side_by_side(hours: list[float], machines: int) -> float:
    """Until the last run ends, each started, the longest first, on the machine that is free first."""
    busy = [0.0] * machines
    for one in sorted(hours, reverse=True):
        busy[busy.index(min(busy))] += one
    return max(busy)


def _seconds(config, steps: dict[int, float], encode: float, search: float) -> float:
    """Of a run, a frozen encoder's own passes left out."""
    step = steps[14 if config.grid in (0, 14) else 7]
    decoder = config.epochs * (COCO["training"] * COCO["captions"] * step + COCO["val"] * search)
    passes = 0 if config.frozen else config.epochs * (3 * COCO["training"] + COCO["val"])
    return decoder + passes * encode * _gmacs(config.encoder) + (COCO["val"] + COCO["test"]) * len(config.beams) * search


def _gmacs(encoder: str) -> float:
    known = GMACS.get(encoder.partition(".")[0])
    if known is None:
        raise BadInput(f"{encoder}: its multiply-adds are not in reports/speed.py; add them to GMACS")
    return known


def _dim(encoder: str) -> int:
    from benchmarks.estimates import DIMS

    return DIMS.get(encoder.partition(".")[0], max(DIMS.values()))
