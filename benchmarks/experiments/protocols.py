"""How far can one model's "BLEU-4" be moved without training anything?

The paper's table sets teacher-forced scores (its CNN baselines, about 20) beside free ones (ViT, DeiT, ConvNeXt, about 34). A tutorial's one checkpoint has
BLEU-4 24.29 teacher-forced and 33.29 free with beam 5. Here one checkpoint, the profile's main row, under every protocol, beam and token rule
(captioning/token_rules.py): the same captions, scored again.
Cost: no training; some seconds of scoring.
"""

from benchmarks.experiments.encoders import main_row


def runs(profile) -> list:
    """(label, configuration) of each row."""
    return [main_row(profile)]
