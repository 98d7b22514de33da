"""Which of the five captioners says it best, on the same data?

`attend` (the paper's) beside its four neighbours (captioning/systems.py): T5 with the image as one token, GPT-2 after a prefix of one vector, GPT-2
over regions and [SEP], a plain Transformer decoder with cross-attention. Protocols `free` and `coco`, which every system has. The only number in
the neighbours' documents: BLEU-1 0.66 for ViT + DistilGPT2 on a subset of COCO.
On the demo all four are small and random (width 96, two layers), over the members of the encoder families that their documents name, frozen, with
the words of the scenes; all see every caption of an image, as often as `attend` does. On photographs each is what its document says, with its encoder
and its language model: t5 trains its encoder along, prefix takes 3 epochs in batches of 96, sep one caption of an image an epoch. Where a document is
silent, grid, batch size and number of captions seen are those of the main row; sep, with one caption of five an epoch, has five times the epochs.
Learning rates, warm-up and dropout are each system's own: those of an LSTM from scratch would undo a pretrained language model.
Flickr8k has besides, for machines without a GPU, a small Transformer over the main encoder with the main row's epochs, and t5, prefix and sep with
small random language models, two epochs each: those three tell what they cost, not what pretraining would give.
Cost, one CPU core a row: a minute on the demo; on Flickr8k, frozen DeiT-tiny, 50 minutes for the Transformer, about 10 for each of the other three
and 2 to 7 for its captions.
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
CAPTIONS = 5  # of an image
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
        rows.append((row, replace(system_config(system), **_shared(system, main))))
    if profile.name == "flickr8k":
        name = f"{main.name}-transformer"
        rows.append((f"{label} + Transformer (3 layers of 256)", replace(main, **SMALL, name=name, system="transformer")))
        for system, own in (("t5", {"features": "vector"}), ("prefix", {"features": "vector"}), ("sep", {"projection_dim": 512})):
            random = replace(main, **RANDOM | own, name=f"{main.name}-{system}-random", system=system)
            rows.append((f"{label} + {_kind(system)} of 4 layers of 256, random, 2 epochs", random))
    return rows


def _shared(system: str, main) -> dict:
    """The main row's budget, as far as the system's document does not say another."""
    said = SYSTEMS[system].said
    epochs = main.epochs * (CAPTIONS if said.get("batching") == "one" else 1)
    budget = {"grid": main.grid, "batch_size": main.batch_size, "epochs": epochs}
    return {field: value for field, value in budget.items() if field not in said}


def _kind(system: str) -> str:
    return {"t5": "T5 decoder", "prefix": "GPT-2 prefix", "sep": "GPT-2 with [SEP]"}[system]


def row_of(profile, system: str) -> tuple:
    """(label, configuration) of the row that a system's ablations vary."""
    rows = [(label, config) for label, config in runs(profile) if config.system == system]
    # On Flickr8k the small ones, which every machine can train.
    return rows[-1]
