"""Does training the encoder along with the decoder help, at what learning rate, and what is its pretraining worth?

The paper varies the learning rate; its published code cannot have varied the encoder's, for its fine-tuning unfreezes nothing (`children()[5:]` of a
module with one child). So this is the study that the code could not do: frozen, or the whole encoder learning at 1e-4 (the code's setting), 1e-5, 1e-6.
A second-hand source says that the paper's best model is frozen; a third-party replication gains with its last stages at 1e-6.
One more row has an encoder without any pretraining, learning at the decoder's rate. On Flickr8k the same again for a small ViT and a small CNN, and
each of them frozen at random weights: how much of a caption needs no sight.
Cost, one CPU core a row: 2 to 3 minutes on the demo, as no regions can be kept. On photographs it wants a GPU: every step is a pass through the encoder and back.
"""

from dataclasses import replace

from benchmarks.experiments.encoders import row_named

RATES = ("1e-4", "1e-5", "1e-6")
SMALL = ("deit-tiny", "mobilenetv2")  # one ViT, one CNN


def runs(profile) -> list:
    """(label, configuration) of each row."""
    label, frozen = row_named(profile, "convnext")
    rows = [(f"{label}, frozen", frozen), *_tuned(label, frozen)]
    if profile.name == "demo":
        rows.append(_scratch(label, frozen))
    if profile.name == "flickr8k":
        for name in SMALL:
            label, frozen = row_named(profile, name)
            blind = replace(frozen, name=f"{name}-random", pretrained=False)
            rows += [
                (f"{label}, frozen", frozen),
                *_tuned(label, frozen),
                _scratch(label, frozen),
                (f"{label}, frozen at random weights", blind),
            ]
    return rows


def _tuned(label: str, frozen) -> list:
    return [
        (f"{label}, all tuned at {rate}", replace(frozen, name=f"{frozen.name}-lr{rate}", tune_from=0, encoder_lr=float(rate)))
        for rate in RATES
    ]


def _scratch(label: str, frozen) -> tuple:
    changes = {"pretrained": False, "tune_from": 0, "encoder_lr": frozen.decoder_lr}
    return f"{label}, no pretraining", replace(frozen, name=f"{frozen.name}-scratch", **changes)
