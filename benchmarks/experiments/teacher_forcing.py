"""What does teacher forcing do to a captioner, and what does it do to its score?

The paper reports BLEU-4 34.76 "without teacher forcing" and 24.63 with it; its code always trains with it. A third-party replication has
BLEU-4 24.71 for a model trained and scored with it, 31.65 for the same model scored freely, 15.46 for one trained without. So: trained
always, never, and with a share of own words that grows to a half (linear scheduled sampling, arXiv:1506.03099); each scored forced (protocol
published) and free (beams 1, 3, 5), all from one checkpoint.
Cost, one CPU core a row: 2 minutes on the demo; 39 to 51 on Flickr8k with DeiT-tiny (8 epochs, a shared core).
"""

from dataclasses import replace

from benchmarks.experiments.encoders import main_row


def runs(profile) -> list:
    """(label, configuration) of each row."""
    label, always = main_row(profile)
    return [
        (f"{label}, always forced", always),
        (f"{label}, never forced", replace(always, name=f"{always.name}-never", teacher_forcing="never")),
        (f"{label}, scheduled", replace(always, name=f"{always.name}-scheduled", teacher_forcing="linear")),
    ]
