"""Which image encoder gives the better captions, all else equal?

The paper's table: ConvNeXt against ResNet-101, ResNet-152, VGG-16, ResNeXt-101, MobileNetV3, ViT and DeiT; frozen encoder, regions pooled to
7x7, LSTM with soft attention. Published on COCO: BLEU-4 34.76 for ConvNeXt, 20.10 for ResNet-101 (two different protocols: the table mixes
them), top-5 77.80 % against 73.09 %. On photographs ViT and DeiT stand there once more with the 14x14 regions that are theirs; Flickr8k has four small
nets besides, for machines without a GPU. On the demo scenes each family has a small member that knows single drawn objects (the column says how well)
and 8x8 regions; what differs is what those hold of a scene.
Cost, one CPU core a row: 40 seconds on the demo; on Flickr8k, 8 epochs, 27 minutes for DeiT-tiny, 50 for ResNet-50.
"""

from dataclasses import replace

from captioning.weight_tags import WEIGHTS

TAGS = {weights.label: weights.tag for weights in WEIGHTS}
# What claims (benchmarks/published/claims.json) call a row, the paper's name of its encoder, and the demo's member of that family.
ROWS = {
    "convnext": ("ConvNeXt-Small", "ConvNeXt", "demo_convnext"),
    "resnet101": ("ResNet-101", "ResNet-101", "demo_resnet"),
    "resnet152": ("ResNet-152", "ResNet-152", "demo_resnet_deep"),
    "vgg16": ("VGG-16", "VGG-16", "demo_vgg"),
    "resnext101": ("ResNeXt-101", "ResNeXt-101", "demo_resnext"),
    "mobilenetv3": ("MobileNetV3-Large", "MobileNetV3", "demo_mobilenetv3"),
    "vit": ("ViT-B/16", "ViT", "demo_vit"),
    "deit": ("DeiT-B/16", "DeiT", "demo_deit"),
}
OWN_GRID = {"vit": 14, "deit": 14}
SMALL = {
    "deit-tiny": ("DeiT-tiny", "deit_tiny_patch16_224.fb_in1k"),
    "resnet50": ("ResNet-50", "resnet50.tv_in1k"),
    "mobilenetv2": ("MobileNetV2", "mobilenetv2_100.ra_in1k"),
    "efficientnet-lite0": ("EfficientNet-Lite0", "tf_efficientnet_lite0.in1k"),
}


def runs(profile) -> list:
    """(label, configuration) of each row."""
    base = encoder_base(profile)
    if profile.name == "demo":
        return [(f"{family} (small member)", replace(base, name=name, encoder=member)) for name, (_, family, member) in ROWS.items()]
    # The exact weight tag is the row: timm's bare names would mix ImageNet-1k with larger sets.
    rows = [(label, replace(base, name=name, encoder=TAGS[label])) for name, (label, _, _) in ROWS.items()]
    for name, grid in OWN_GRID.items():
        label = ROWS[name][0]
        rows.append((f"{label}, {grid}x{grid}", replace(base, name=f"{name}-grid{grid}", encoder=TAGS[label], grid=grid)))
    if profile.name == "flickr8k":
        rows += [(label, replace(base, name=name, encoder=encoder)) for name, (label, encoder) in SMALL.items()]
    return rows


def encoder_base(profile):
    """The settings that all rows of this experiment share."""
    return replace(profile.base, beams=profile.encoder_beams or profile.base.beams)


def as_run(profile, config, own=()):
    """A row of any experiment as it is run: only the rows here (own: names of further ones) are decoded at the widest beam, which rows that vary one of
    them would take over with the rest."""
    if config.beams == profile.encoder_beams and config.name not in {*own, *(row.name for _, row in runs(profile))}:
        return replace(config, beams=profile.base.beams)
    return config


def main_row(profile) -> tuple:
    """(label, configuration) of the row that the other experiments vary: the profile's main encoder, soft attention, teacher forcing."""
    return row_named(profile, profile.main)


def row_named(profile, name: str) -> tuple:
    """(label, configuration) of a row of this experiment."""
    return next((label, config) for label, config in runs(profile) if config.name == name)
