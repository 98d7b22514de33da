"""Is attention worth having, and does hard attention beat soft?

The paper's claims are against Show, Attend and Tell's soft and hard attention (arXiv:1502.03044: COCO BLEU-4 24.3 soft, 25.0 hard; Flickr8k
19.5 and 21.3), measured by other people with another encoder. Here one encoder and one decoder: the mean region as the control, soft, hard.
Expected: on COCO the control loses about one BLEU-4 point (30.5 against 31.7 in a third-party replication); on the demo scenes, which need
attention, much more. Where soft and hard look is measured on scenes by the pointing game.
Cost, one CPU core a row: 40 seconds to 1 minute on the demo; about 27 on Flickr8k with DeiT-tiny (8 epochs).
"""

from dataclasses import replace

from benchmarks.experiments.encoders import main_row


def runs(profile) -> list:
    """(label, configuration) of each row."""
    return attention_rows(profile, *main_row(profile))


def attention_rows(profile, label: str, soft) -> list:
    """The three rows of one encoder, given the one with soft attention."""
    return [
        (f"{label}, no attention", replace(soft, name=f"{soft.name}-none", attention="none")),
        (f"{label}, soft attention", soft),
        (f"{label}, hard attention", with_hard(profile, soft)),
    ]


def with_hard(profile, soft):
    """A row's configuration with hard attention, under its name and -hard."""
    # arXiv:1502.03044: the expected region half of the time. The demo's few steps are too few for that (reports/LOG.md).
    share = {"expected_share": 0.8} if profile.name == "demo" else {}
    return replace(soft, name=f"{soft.name}-hard", attention="hard", **share)
