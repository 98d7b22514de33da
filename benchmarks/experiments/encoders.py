"""Which image encoder gives the better captions, all else equal?

The paper's table: ConvNeXt against ResNet-101, ResNet-152, VGG-16, ResNeXt-101, MobileNetV3, ViT and DeiT; frozen encoder, regions pooled to
7x7, LSTM with soft attention. Published on COCO: BLEU-4 34.76 for ConvNeXt, 20.10 for ResNet-101 (two different protocols: the table mixes
them), top-5 77.80 % against 73.09 %. On the demo scenes the small members all
know single objects (99 % and more), so what differs is what their regions hold of a scene.
Cost, one CPU core a row: 2 minutes on the demo; on Flickr8k, 8 epochs on a core that others share, 51 minutes for DeiT-tiny, 66 for ResNet-50.
"""

from dataclasses import replace

DEMO = {
    "convnext": ("ConvNeXt (small member)", "demo_convnext"),
    "resnet": ("ResNet (small member)", "demo_resnet"),
}
# The exact weight tag is the row: timm's bare names would mix ImageNet-1k with larger sets.
PHOTOGRAPHS = {
    "convnext-small": ("ConvNeXt-Small", "convnext_small.fb_in1k"),
    "resnet101": ("ResNet-101", "resnet101.tv_in1k"),
    "deit-tiny": ("DeiT-tiny", "deit_tiny_patch16_224.fb_in1k"),
}


def runs(profile) -> list:
    """(label, configuration) of each row."""
    rows = DEMO if profile.name == "demo" else PHOTOGRAPHS
    return [(label, replace(profile.base, name=name, encoder=encoder)) for name, (label, encoder) in rows.items()]


def main_row(profile) -> tuple:
    """(label, configuration) of the row that the other experiments vary: the profile's main encoder, soft attention, teacher forcing."""
    return next((label, config) for label, config in runs(profile) if config.name == profile.main)
