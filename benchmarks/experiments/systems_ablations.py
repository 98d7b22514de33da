"""What is each neighbour's own idea worth?

t5: one token against all regions (its document's "future work"). prefix: 1, 5 or 10 tokens, the refiner, and its published training (on the
test images too, single captions, padding learnt as end tokens, a constant rate, ImageNet's mean and standard deviation, one drawn caption scored)
against the corrected one. sep: its mask against a plain causal one, [SEP] against none, one random caption of an image an epoch against all five
(as many captions in all). transformer: layers and heads. A change that a system's own row has already is no row. No number is published for any.
Cost, one CPU core a row: a minute on the demo, as in `systems`.
"""

from dataclasses import replace

from benchmarks.experiments.systems import CAPTIONS, row_of
from captioning.presets import PREFIX_PUBLISHED


def runs(profile) -> list:
    """(label, configuration) of each row; each system's own first."""
    rows = []
    for system, changes in CHANGES.items():
        label, own = row_of(profile, system)
        rows.append((label, own))
        for name, (what, change) in changes.items():
            changed = replace(own, **(change(own) if callable(change) else change))
            if changed != own:
                rows.append((f"{label}: {what}", replace(changed, name=f"{own.name}-{name}")))
    return rows


def _one_caption(own) -> dict:
    """One random caption of an image an epoch, over so many epochs that they are as many captions."""
    return {} if own.batching == "one" else {"batching": "one", "epochs": CAPTIONS * own.epochs}


def _all_captions(own) -> dict:
    """The other way round, where one caption is the system's own."""
    return {"batching": "images", "epochs": own.epochs // CAPTIONS} if own.batching == "one" else {}


# System -> what its row is called -> (label, changes, or a function from its own configuration to them; none: no row).
CHANGES = {
    "t5": {"regions": ("all regions as tokens", {"features": "regions"})},
    "prefix": {
        "1": ("1 token", {"prefix_length": 1}),
        "10": ("10 tokens", {"prefix_length": 10}),
        "unrefined": ("no refiner", {"refiner_layers": 0}),
        "as-published": ("trained and scored as published", PREFIX_PUBLISHED),
    },
    "sep": {
        "causal": ("plain causal mask", {"mask": "causal"}),
        "unseparated": ("no [SEP]", {"separator": False}),
        "one-caption": ("one random caption an epoch", _one_caption),
        "all-captions": ("all five captions an epoch", _all_captions),
    },
    "transformer": {
        "1-layer": ("1 layer", {"layers": 1}),
        "4-layers": ("4 layers", {"layers": 4}),
        "1-head": ("1 head", {"heads": 1}),
        "8-heads": ("8 heads", {"heads": 8}),
    },
}
