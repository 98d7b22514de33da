"""What the loss is made of: cross-entropy, the attention penalty, and the part of the penalty that arithmetic alone gives (its floor). No torch.

The paper's code adds to the cross-entropy the mean over P regions of (1 - sum of the attention over T words)^2. Attention sums to 1 at each word, so the
mean over regions of that sum is T / P, and by Jensen's inequality a caption's penalty is at least (1 - T / P)^2: a coarser grid lowers the loss by itself.
The floor of many captions is the mean of theirs, which even attention reaches; at their mean length it would be lower than any attention can be.
"""

from collections.abc import Mapping, Sequence
from functools import cache, partial
from pathlib import Path

from captioning.bad_input import BadInput
from captioning.caption_files import read_references
from captioning.config import RunConfig
from captioning.published import Number
from reports.beside import about
from reports.examples import own_file
from reports.figures import stacked
from reports.profile import Profile
from reports.scores import has_penalty
from reports.tables import Column, Missing, Published, Table, Value, minus_sign

PARTS = ("cross-entropy", "penalty, floor", "penalty, above the floor")
IDS = {
    "floor, coarse": "penalty-floor-7x7",
    "floor, fine": "penalty-floor-14x14",
    "by the grid": "penalty-grid-effect",
    "reduction": "paper-loss-reduction",
}


def floor_of(words: Sequence[float], regions: int) -> float:
    """The least that the mean penalty of captions of so many words each (end token included) over so many regions can be."""
    return sum((1 - count / regions) ** 2 for count in words) / len(words)


def parts_of(record: dict, folder: Path, split: str = "val") -> dict | None:
    """{"words", "regions", "cross-entropy", "penalty", "floor", "above", "loss", "interval", "n"} of a finished run; None where its record lacks one,
    or its references are not those beside it. folder: results/<profile>.
    """
    scores = record["scores"].get(split, {}).get("published", {})
    values, grid = scores.get("scores", {}), record["encoder"].get("grid")
    if not grid or not {"cross-entropy", "cross-entropy per caption", "penalty", "loss"} <= values.keys() or not values["cross-entropy"]:
        return None
    if not has_penalty(record):
        return None
    try:
        path = own_file(folder, record, "references")
        counts = path and _words_of(path, split, record["config"].get("max_words", RunConfig.max_words))
    except BadInput:  # the page's other sections say which file it is
        counts = ()
    if not counts:
        return None
    regions = grid[0] * grid[1]
    words, floor = sum(counts) / len(counts), floor_of(counts, regions)
    parts = {name: values[name] for name in ("cross-entropy", "penalty", "loss")}
    return parts | {"words": words, "regions": regions, "floor": floor, "above": values["penalty"] - floor} | {
        "interval": scores["intervals"].get("loss"), "n": scores["n_images"],
    }  # fmt: skip


@cache
def _words_of(references: Path, split: str, most: int) -> tuple[int, ...]:
    """Words of each of a split's captions as they are learnt: the end token counts, and longer ones than `most` are cut before it."""
    found = read_references(references, split)
    return tuple(min(len(caption.split()), most) + 1 for captions in (found.tokens or {}).values() for caption in captions)


def rows_of(profile: Profile) -> list[tuple[dict, dict]]:
    """(record, parts) of the runs that the experiment compares, coarse grid first; without them, of the page's first experiment."""
    named = [run for run in profile.finished if "loss_parts" in run["experiments"]]
    grids = {tuple(run["encoder"].get("grid") or ()) for run in named}
    runs = named if len(grids) > 1 else [r for r in profile.finished if profile.experiments[0] in r["experiments"]]
    found = [(run, parts) for run in runs if (parts := parts_of(run, profile.folder))]
    return sorted(found, key=lambda pair: pair[1]["regions"]) if runs is named else found


def parts_table(profile: Profile, rows: list[tuple[dict, dict]]) -> Table:
    n = {parts["n"] for _, parts in rows}
    group = f"Validation, n = {n.pop():,} images" if len(n) == 1 else "Validation, number of images differs by row"
    columns = [Column("Model", numeric=False), Column("Regions"), Column("Words a caption")]
    columns += [Column("Cross-entropy, nats/word", group), Column("Penalty", group), Column("Its floor", group)]
    columns += [Column("Penalty above its floor", group), Column("Loss", group)]
    body = []
    for run, parts in rows:
        ends = parts["interval"] or (None, None)
        cells = [Value(parts[name], f"{parts[name]:.3f}") for name in ("cross-entropy", "penalty", "floor", "above")]
        size = [Value(parts["regions"], str(parts["regions"])), Value(parts["words"], f"{parts['words']:.2f}")]
        body.append([profile.heading(run, "loss_parts"), *size, *cells, Value(parts["loss"], f"{parts['loss']:.3f}", *ends, digits=3)])
    remark = (
        "Words a caption: the references' mean, end token included. Floor: the mean over captions of (1 − words / regions)², the least that any "
        "attention can reach."
    )
    return Table("loss-parts", "What the loss is made of", columns, body, [remark])


def arithmetic_table(profile: Profile, rows: list[tuple[dict, dict]], numbers: Mapping[str, Number]) -> Table:
    """How much of a lower loss a coarser grid gives by itself: in the paper's numbers, and measured here between the coarsest and the finest grid."""
    columns = [
        Column("Comparison", numeric=False),
        Column("Floor, coarse grid"),
        Column("Floor, fine grid"),
        Column("Lower by the grid alone"),
    ]
    columns += [Column("Loss lower by"), Column("The grid's share, %"), Column("Cross-entropy lower by"), Column("Validation images")]
    share = 100 * numbers[IDS["by the grid"]].value / numbers[IDS["reduction"]].value
    printed = [Published(numbers[i].value, f"{numbers[i].value:g}", numbers[i].mark, about(numbers[i])) for i in IDS.values()]
    body = [["The paper's best against its baselines, if those had 14×14 regions", *printed, Value(share, f"{share:.0f}")]]
    body[0] += [Missing("only the sum was published"), Missing("it follows from published numbers")]
    by_regions: dict[int, list[tuple[dict, dict]]] = {}
    for run, parts in rows:
        by_regions.setdefault(parts["regions"], []).append((run, parts))
    if len(by_regions) > 1 and all("loss_parts" in run["experiments"] for run, _ in rows):
        body.append(_measured(profile, by_regions[min(by_regions)], by_regions[max(by_regions)]))
    return Table("loss-arithmetic", "How much of a lower loss is arithmetic", columns, body)


def _measured(profile: Profile, coarse: list[tuple[dict, dict]], fine: list[tuple[dict, dict]]) -> list:
    """Each side's mean over its runs: seeds of one model, where the experiment was run."""
    low, high = ({name: _mean(side, name) for name in ("floor", "loss", "cross-entropy")} for side in (coarse, fine))
    lower, by_grid = high["loss"] - low["loss"], high["floor"] - low["floor"]
    cells = [Value(value, minus_sign(f"{value:.3f}")) for value in (low["floor"], high["floor"], by_grid, lower)]
    share = Value(100 * by_grid / lower, f"{100 * by_grid / lower:.0f}") if lower > 0 else Missing("the coarser grid's loss is not lower")
    entropy, n = high["cross-entropy"] - low["cross-entropy"], coarse[0][1]["n"]
    name = " against ".join(profile.heading(side[0][0], "loss_parts").label for side in (coarse, fine))
    return [name, *cells, share, Value(entropy, minus_sign(f"{entropy:.3f}")), Value(n, f"{n:,}")]


def _mean(side: list[tuple[dict, dict]], name: str) -> float:
    return sum(parts[name] for _, parts in side) / len(side)


def parts_figure(profile: Profile, rows: list[tuple[dict, dict]]):
    """Bars of the three parts, and what they say in words."""
    labels = [profile.heading(run, "loss_parts").text for run, _ in rows]
    bars = [[parts["cross-entropy"], parts["floor"], parts["above"]] for _, parts in rows]
    ends = [parts["interval"] for _, parts in rows]
    said = "; ".join(
        f"{label}: cross-entropy {b[0]:.2f}, penalty's floor {b[1]:.2f}, above it {b[2]:.2f}" for label, b in zip(labels, bars, strict=True)
    )
    return partial(stacked, "What the loss is made of", "loss, with 95 % interval", labels, PARTS, bars, ends), said
