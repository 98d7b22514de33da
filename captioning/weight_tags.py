"""The exact weights of each encoder of the paper, so that every row of a table compares nets that saw the same pictures: ImageNet-1k alone.

A name without its tag is not used: it stands for timm's default weights, which differ in their pictures from net to net (`default` has them).
Pure data: importing it imports neither torch nor timm.
"""

from dataclasses import dataclass
from typing import Literal

IMAGENET_1K = "ImageNet-1k"
# What timm's tags call the sets, and parts of tags that name who trained or how, never another set.
SETS = {"in22k": "ImageNet-22k", "in21k": "ImageNet-21k", "in12k": "ImageNet-12k", "in1k": IMAGENET_1K}
RECIPES = {
    "fb",
    "tv",
    "tv2",
    "ft",
    "fcmae",
    "augreg",
    "augreg2",
    "sw",
    "a1",
    "a1h",
    "a2",
    "a3",
    "ra",
    "ra2",
    "ra3",
    "bt",
    "c3",
    "d1h",
    "d2",
    "nav",
}


@dataclass(frozen=True)
class EncoderWeights:
    """`tag` is what --encoder takes. `row`: main, or as-published where the paper's code loads other weights than the main rows.

    `default`: the tag that timm gives the bare name. `note`: what that would mix in, and where our choice departs from published code.
    """

    label: str
    tag: str
    family: str
    default: str
    note: str
    row: Literal["main", "as-published"] = "main"
    pretraining: str = IMAGENET_1K


TORCHVISION = "torchvision's IMAGENET1K_V1, which timm does not carry; what convnext_*(pretrained=True) of the paper's code loads"
SAME_PICTURES = (
    "the bare name's weights saw ImageNet-1k too, in another recipe; torchvision's first recipe is the baselines' published code's"
)

WEIGHTS = (
    EncoderWeights("ConvNeXt-Tiny", "convnext_tiny.fb_in1k", "ConvNeXt", "in12k_ft_in1k", "bare: first ImageNet-12k, then ImageNet-1k"),
    EncoderWeights("ConvNeXt-Small", "convnext_small.fb_in1k", "ConvNeXt", "in12k_ft_in1k", "bare: first ImageNet-12k, then ImageNet-1k"),
    EncoderWeights("ConvNeXt-Base", "convnext_base.fb_in1k", "ConvNeXt", "fb_in22k_ft_in1k", "bare: first ImageNet-22k, then ImageNet-1k"),
    EncoderWeights(
        "ConvNeXt-Large", "convnext_large.fb_in1k", "ConvNeXt", "fb_in22k_ft_in1k", "bare: first ImageNet-22k, then ImageNet-1k"
    ),
    EncoderWeights("ConvNeXt-Tiny (torchvision)", "convnext_tiny.tv_in1k", "ConvNeXt", "in12k_ft_in1k", TORCHVISION, "as-published"),
    EncoderWeights("ConvNeXt-Small (torchvision)", "convnext_small.tv_in1k", "ConvNeXt", "in12k_ft_in1k", TORCHVISION, "as-published"),
    EncoderWeights("ConvNeXt-Base (torchvision)", "convnext_base.tv_in1k", "ConvNeXt", "fb_in22k_ft_in1k", TORCHVISION, "as-published"),
    EncoderWeights("ConvNeXt-Large (torchvision)", "convnext_large.tv_in1k", "ConvNeXt", "fb_in22k_ft_in1k", TORCHVISION, "as-published"),
    EncoderWeights(
        "ConvNeXt V2-Tiny",
        "convnextv2_tiny.fcmae_ft_in1k",
        "ConvNeXt V2",
        "fcmae_ft_in22k_in1k",
        "bare: ImageNet-22k between its masked pretraining and ImageNet-1k; here both steps are on ImageNet-1k (arXiv:2301.00808)",
    ),
    EncoderWeights(
        "ConvNeXt V2-Base",
        "convnextv2_base.fcmae_ft_in1k",
        "ConvNeXt V2",
        "fcmae_ft_in22k_in1k",
        "bare: ImageNet-22k between its masked pretraining and ImageNet-1k; here both steps are on ImageNet-1k (arXiv:2301.00808)",
    ),
    EncoderWeights("ResNet-101", "resnet101.tv_in1k", "ResNet", "a1h_in1k", SAME_PICTURES),
    EncoderWeights("ResNet-152", "resnet152.tv_in1k", "ResNet", "a1h_in1k", SAME_PICTURES),
    EncoderWeights("VGG-16", "vgg16.tv_in1k", "VGG", "tv_in1k", "bare: the same weights"),
    EncoderWeights(
        "ResNeXt-101",
        "resnext101_32x8d.tv_in1k",
        "ResNeXt",
        "tv_in1k",
        "bare: the same weights; timm's others of this net (fb_wsl, fb_swsl, fb_ssl) saw up to a billion Instagram or Flickr pictures",
    ),
    EncoderWeights(
        "MobileNetV3-Large",
        "mobilenetv3_large_100.ra_in1k",
        "MobileNetV3",
        "ra_in1k",
        "bare: the same weights; timm's own recipe, for it does not carry torchvision's; its miil tags saw ImageNet-21k",
    ),
    EncoderWeights(
        "ViT-B/16",
        "vit_base_patch16_224.augreg_in1k",
        "ViT",
        "augreg2_in21k_ft_in1k",
        "bare: first ImageNet-21k, then ImageNet-1k; trained on ImageNet-1k alone a ViT is weaker (arXiv:2106.10270), and that is what is compared",
    ),
    EncoderWeights("DeiT-B/16", "deit_base_patch16_224.fb_in1k", "DeiT", "fb_in1k", "bare: the same weights"),
)


def pretraining(tag: str, kind: str, weights_sha256: str) -> str:
    """What an encoder's weights were trained on, for a table's column: from its tag; a set whose name no tag knows is given as the tag says it."""
    if weights_sha256 == "none":
        return "none"
    if kind == "demo":
        return "single drawn objects"
    if kind == "file":
        return "as the encoder's file says"
    suffix = tag.partition(".")[2]
    if suffix == "own":
        return "weights of one's own"
    parts = suffix.split("_")
    if all(part in SETS or part in RECIPES for part in parts):
        return ", then ".join(SETS[part] for part in parts if part in SETS) or suffix
    return suffix or "not known"
