"""Which captioner can be given away with the project?

Two that fit into a checkout: the best decoder on a frozen DeiT-tiny, without the encoder's weights, which are not ours to commit, and one that holds all it
needs: a small ConvNeXt whose weights were made here (benchmarks/distill.py), frozen, and tuned with the decoder. The control is as the tuned one, but
from random weights, and its encoder learns at ten times the rate.
Twice the epochs of the tables where frozen, and weights of half precision, as they are shipped. No claim of the paper is judged on these rows.
Cost, one CPU core a row: an hour frozen, an hour and a half tuned; on a GPU minutes. run_all.py --all, or by name.
"""

from dataclasses import replace

from benchmarks.experiments.encoders import row_named

STUDENT = "convnext_femto"
NARROW = {"embed_dim": 384, "attention_dim": 384, "hidden_dim": 384}  # encoder and decoder together stay below 20 MB
# bf16: half the time where a processor multiplies in it. Fewer epochs than frozen: each reads all pictures anew.
LEARNING = {"tune_from": 0, "precision": "bf16", "augment": "crop-colour-flip", "epochs": 10}


def runs(profile) -> list:
    """(label, configuration) of each row."""
    if profile.name != "flickr8k":
        return []
    label, table = row_named(profile, "deit-tiny")
    long = replace(table, epochs=16, half_weights=True)
    own = replace(long, name="convnext-femto", encoder=f"{STUDENT}.own", **NARROW)
    return [
        (f"{label}, decoder to ship", replace(long, name="deit-tiny-ship")),
        ("ConvNeXt-Femto of our own, frozen", own),
        (
            "ConvNeXt-Femto of our own, tuned",
            replace(own, name="convnext-femto-tuned", **LEARNING, encoder_lr=1e-4),
        ),
        (
            "ConvNeXt-Femto, no pretraining",
            replace(own, name="convnext-femto-scratch", encoder=STUDENT, pretrained=False, **LEARNING, encoder_lr=1e-3),
        ),
    ]
