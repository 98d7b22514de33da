"""The tables of the pointing game: does attention lie on the thing that is named? From records' `pointing`; no torch, nothing is computed again."""

from captioning.pointing import BY_GRADIENTS
from captioning.systems import MAP_KINDS, map_kind
from reports.tables import SPLITS, Column, Missing, Table, Value

TITLES = {
    "forced": "Pointing game: where attention lies when a reference's noun is predicted (teacher-forced)",
    "free": "Pointing game: where attention lies when the model itself names a thing (free captions)",
}
SCORES = {"pointing": "Pointing, %", "mass": "Attention mass inside, %", "chance": "Chance, %", "ratio": "Ratio"}
HOW_TO_READ = [
    "Pointing is how often the strongest place of the attention that predicts a noun lies on a thing of that noun, mass how much of the attention lies there; "
    "regions about as large as the things keep both below 100 % even where attention is right.",
    "Chance is the named things' share of the picture, what even attention gets of both, and ratio is pointing divided by chance; "
    "things stand nearer the middle, so blind attention fixed there already has a ratio of about 2.",
]
HOW_TO_READ_FREE = (
    "Only nouns of things that are in the scene can be pointed at: models score on the nouns they chose, and the others are counted apart."
)
BY_GRADIENTS_IN_WORDS = (
    "Gradient times input: the image's tokens of these models have no place, so a map says which pixels the noun's probability hangs on, a first-order answer "
    f"and noisier than attention. It costs a pass through the encoder and back for every noun: these rows are played on the first {BY_GRADIENTS} images of a "
    "split and, where references are read, on one of each image, so their nouns are not all of the other rows'."
)


def pointing_table(records: list[dict], captions: str, heading) -> Table | None:
    """captions: "forced" or "free"; `heading(record)` makes a row's first cell. A row per record that has `pointing`; None where none has.

    Where rows differ in what their maps are made of, a column says it; where they differ in their number of images, each says its own.
    """
    these = [record for record in records if record.get("pointing")]
    splits = {split: title for split, title in SPLITS.items() if any(_scores(record, split, captions) for record in these)}
    if not splits:
        return None
    labels = [*SCORES.values(), "Nouns"] + (["Nouns not there"] if captions == "free" else [])
    kinds = {MAP_KINDS[map_kind(record.get("config", {}))] for record in these}
    columns = [Column("Model", numeric=False)] + [Column("Maps are", numeric=False)] * (len(kinds) > 1)
    sizes = {split: {found["n_images"] for record in these if (found := _scores(record, split, captions))} for split in splits}
    for split, title in splits.items():
        one = len(sizes[split]) == 1
        group = f"{title}, n = {max(sizes[split]):,} images" if one else title
        columns += [Column(label, group) for label in ([] if one else ["Images"]) + labels]
    rows = []
    for record in these:
        kind = MAP_KINDS[map_kind(record.get("config", {}))]
        cells = [cell for split in splits for cell in _cells(record, split, captions, with_n=len(sizes[split]) > 1)]
        rows.append([heading(record), *[kind] * (len(kinds) > 1), *cells])
    remarks = HOW_TO_READ + ([HOW_TO_READ_FREE] if captions == "free" else [])
    remarks += [BY_GRADIENTS_IN_WORDS] * (MAP_KINDS["gradient"] in kinds)
    return Table(f"pointing-{captions}", TITLES[captions], columns, rows, remarks)


def _scores(record: dict, split: str, captions: str) -> dict | None:
    return record["pointing"].get(split, {}).get(captions)


def _cells(record: dict, split: str, captions: str, with_n: bool) -> list[Value | Missing]:
    """with_n: its number of images first."""
    found = _scores(record, split, captions)
    counts = ["n_nouns"] + (["n_absent"] if captions == "free" else [])
    if found is None:
        return [Missing("the pointing game was not played on this split")] * (with_n + len(SCORES) + len(counts))
    cells: list[Value | Missing] = [Value(found["n_images"], f"{found['n_images']:,}")] * with_n
    for name in SCORES:
        if name in found["scores"]:
            value = found["scores"][name]
            cells.append(Value(value, f"{value:.1f}", *found["intervals"].get(name, (None, None))))
        else:
            cells.append(Missing(found["not_available"].get(name, f"{name} is not in the record")))
    return cells + [Value(found[count], f"{found[count]:,}") for count in counts]
