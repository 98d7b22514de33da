"""Which of the five captioners says it best, on the same data with the same budget?

`attend` (the paper's) beside its four neighbours (captioning/systems.py): T5 with the image as one token, GPT-2 after a prefix of one vector, GPT-2
over regions and [SEP], a plain Transformer decoder with cross-attention. Protocols `free` and `coco`, which every system has. The only number in
the neighbours' documents: BLEU-1 0.66 for ViT + DistilGPT2 on a subset of COCO.
On the demo all four are small and random (width 96, two layers), over the members of the encoder families that their documents name, frozen, with
the words of the scenes; all see every caption of an image. On photographs the named models with their language models; Flickr8k has besides, for
machines without a GPU, a small Transformer over the main encoder, and t5, prefix and sep with small random language models, two epochs each: those
three tell what they cost, not what pretraining would give.
Cost, one CPU core a row: a minute on the demo; on Flickr8k, frozen DeiT-tiny, half an hour for the Transformer.
"""

from dataclasses import replace

from benchmarks.experiments.encoders import main_row
from captioning.systems import SYSTEMS, system_config

DEMO = {"layers": 2, "heads": 4, "width": 96, "dropout": 0.1, "penalty_weight": 0.0, "decoder_lr": 3e-3}
DEMO_ROWS = {
    "t5": ("ConvNeXt V2 + T5, one token", "demo_convnextv2", {"features": "vector"}),
    "prefix": ("ViT + GPT-2 prefix", "demo_vit", {"features": "vector", "decoder_lr": 1e-3}),  # at 3e-3 it learns less
    "sep": ("ViT + GPT-2 with [SEP]", "demo_vit", {"projection_dim": 192}),
    "transformer": ("ConvNeXt + Transformer", "demo_convnext", {}),
}
LABELS = {
    "t5": "ConvNeXt V2-Base + T5-base, one token",
    "prefix": "ViT-B/16 + GPT-2 prefix",
    "sep": "ViT-B/16 + DistilGPT2 with [SEP]",
    "transformer": "ConvNeXt-Small + Transformer",
}
SMALL = {"layers": 3, "heads": 4, "width": 256, "dropout": 0.2, "penalty_weight": 0.0, "decoder_lr": 5e-4}
RANDOM = SMALL | {"layers": 4, "dropout": 0.1, "epochs": 2}


def runs(profile) -> list:
    """(label, configuration) of each row."""
    label, main = main_row(profile)
    rows = [(f"{label} + LSTM with attention", main)]
    if profile.name == "demo":
        for system, (row, encoder, own) in DEMO_ROWS.items():
            rows.append((row, replace(main, **DEMO | own, name=system, system=system, encoder=encoder)))
        return rows
    for system, row in LABELS.items():
        # What a document does not say of training is the profile's, so that systems compare.
        own = SYSTEMS[system].settings.keys()
        shared = {field: getattr(main, field) for field in ("grid", "epochs") if field not in own and system == "transformer"}
        rows.append((row, replace(system_config(system), **shared)))
    if profile.name == "flickr8k":
        name = f"{main.name}-transformer"
        rows.append((f"{label} + Transformer (3 layers of 256)", replace(main, **SMALL, name=name, system="transformer")))
        for system, own in (("t5", {"features": "vector"}), ("prefix", {"features": "vector"}), ("sep", {"projection_dim": 512})):
            random = replace(main, **RANDOM | own, name=f"{main.name}-{system}-random", system=system)
            rows.append((f"{label} + {_kind(system)} of 4 layers of 256, random, 2 epochs", random))
    return rows


def _kind(system: str) -> str:
    return {"t5": "T5 decoder", "prefix": "GPT-2 prefix", "sep": "GPT-2 with [SEP]"}[system]


def row_of(profile, system: str) -> tuple:
    """(label, configuration) of the row that a system's ablations vary."""
    rows = [(label, config) for label, config in runs(profile) if config.system == system]
    # On Flickr8k the small ones, which every machine can train.
    return rows[-1]
