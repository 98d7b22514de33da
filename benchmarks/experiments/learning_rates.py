"""Does training the encoder along with the decoder help, and at what learning rate?

The paper varies the learning rate; its published code cannot have varied the encoder's, for its fine-tuning unfreezes nothing (`children()[5:]` of a
module with one child). So this is the study that the code could not do: frozen, or the whole encoder learning at 1e-4 (the code's setting), 1e-5, 1e-6.
A second-hand source says that the paper's best model is frozen; a third-party replication gains with its last stages at 1e-6.
On the demo one more row has an encoder without any pretraining, learning at the decoder's rate.
Cost, one CPU core a row: 2 to 3 minutes on the demo, as no regions can be kept. On photographs it wants a GPU: every step is a pass through the encoder and back.
"""

from dataclasses import replace

from benchmarks.experiments.encoders import row_named

RATES = ("1e-4", "1e-5", "1e-6")


def runs(profile) -> list:
    """(label, configuration) of each row."""
    label, frozen = row_named(profile, "convnext")
    rows = [(f"{label}, frozen", frozen)]
    for rate in RATES:
        rows.append((f"{label}, all tuned at {rate}", replace(frozen, name=f"convnext-lr{rate}", tune_from=0, encoder_lr=float(rate))))
    if profile.name == "demo":
        scratch = replace(frozen, name="convnext-scratch", pretrained=False, tune_from=0, encoder_lr=frozen.decoder_lr)
        rows.append((f"{label}, no pretraining", scratch))
    return rows
