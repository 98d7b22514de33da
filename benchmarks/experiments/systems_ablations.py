"""What is each neighbour's own idea worth?

t5: one token against all regions (its document's "future work"). prefix: 1, 5 or 10 tokens, the refiner, and its published training (on the
test images too, padding learnt as end tokens, ImageNet's mean and standard deviation, one drawn caption scored) against the corrected one.
sep: its mask against a plain causal one, [SEP] against none, one random caption of an image an epoch (as many captions in all) against all
five. transformer: layers and heads. No number is published for any of them.
Cost, one CPU core a row: a minute on the demo, as in `systems`.
"""

from dataclasses import replace

from benchmarks.experiments.systems import row_of


def runs(profile) -> list:
    """(label, configuration) of each row; each system's own first."""
    rows = []
    for system, changes in CHANGES.items():
        label, own = row_of(profile, system)
        rows.append((label, own))
        for name, (what, change) in changes.items():
            change = change(own) if callable(change) else change
            rows.append((f"{label}: {what}", replace(own, **change, name=f"{own.name}-{name}")))
    return rows


# System -> what its row is called -> (label, changes, or a function from its own configuration to them).
CHANGES = {
    "t5": {"regions": ("all regions as tokens", {"features": "regions"})},
    "prefix": {
        "1": ("1 token", {"prefix_length": 1}),
        "10": ("10 tokens", {"prefix_length": 10}),
        "unrefined": ("no refiner", {"refiner_layers": 0}),
        "as-published": (
            "trained and scored as published",
            {"normalise": "imagenet", "train_on": "all", "padding": "end", "sampled": True, "beams": (1,)},
        ),
    },
    "sep": {
        "causal": ("plain causal mask", {"mask": "causal"}),
        "unseparated": ("no [SEP]", {"separator": False}),
        # Five captions an image: five times the epochs see as many.
        "one-caption": ("one random caption an epoch", lambda own: {"batching": "one", "epochs": 5 * own.epochs}),
    },
    "transformer": {
        "1-layer": ("1 layer", {"layers": 1}),
        "4-layers": ("4 layers", {"layers": 4}),
        "1-head": ("1 head", {"heads": 1}),
        "8-heads": ("8 heads", {"heads": 8}),
    },
}
