"""Does a larger ConvNeXt caption better, and what does it cost?

The paper varies the ConvNeXt version and does not say which won; its code as it lies loads Small, with Tiny, Base and Large commented out. Here Tiny to
Large, and V2 (arXiv:2301.00808), all ImageNet-1k, frozen, 7x7 regions. No number of the paper is known for a version; a third-party replication has Base at
BLEU-4 31.65 (greedy, COCO).
On the demo each version is a small member, Base the main one (85 to 487 thousand parameters).
Cost, one CPU core a row: 40 seconds on the demo. On photographs mostly the encoder's one pass over the pictures: Large needs about four times Small's.
"""

from dataclasses import replace

from benchmarks.experiments.encoders import TAGS, row_named

DEMO = {
    "convnext-tiny": ("ConvNeXt-Tiny (small member)", "demo_convnext_tiny"),
    "convnext-small": ("ConvNeXt-Small (small member)", "demo_convnext_small"),
    "convnext": ("ConvNeXt-Base (small member)", "demo_convnext"),
    "convnext-large": ("ConvNeXt-Large (small member)", "demo_convnext_large"),
    "convnextv2": ("ConvNeXt V2-Base (small member)", "demo_convnextv2"),
}
PHOTOGRAPHS = {
    "convnext-tiny": "ConvNeXt-Tiny",
    "convnext": "ConvNeXt-Small",
    "convnext-base": "ConvNeXt-Base",
    "convnext-large": "ConvNeXt-Large",
    "convnextv2": "ConvNeXt V2-Base",
}


def runs(profile) -> list:
    """(label, configuration) of each row."""
    _, main = row_named(profile, "convnext")
    rows = DEMO if profile.name == "demo" else {name: (label, TAGS[label]) for name, label in PHOTOGRAPHS.items()}
    return [(label, replace(main, name=name, encoder=encoder)) for name, (label, encoder) in rows.items()]
