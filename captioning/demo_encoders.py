"""Small members of the encoder families for the demo: timm's own architecture code at small width and depth for 64 pixels, eight by eight regions.

    from captioning import demo_encoders
    encoder = demo_encoders.create("demo_convnext")       # a timm model with random weights
    demo_encoders.weights_path("demo_convnext")           # what benchmarks/pretrain_demo.py trained on single drawn objects

Weights and cards lie in checkpoints/demo-encoders/; captioning/trunks.py loads them. A member is named as what it is: it stands for its family on the demo
scenes, never for the full model.
"""

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from captioning.bad_input import BadInput

FOLDER = Path(__file__).resolve().parent.parent / "checkpoints" / "demo-encoders"
IMAGE_SIZE = 64
GRID = (8, 8)


@dataclass(frozen=True, slots=True)
class Member:
    """`family` is the full model it is a small member of; `build` makes the timm model (imports inside); `steps` is how long the script pretrains it,
    `crop_share` the part of them on small pictures (0 for nets that know one size only); `erasing` the chance that a part of a picture is overwritten with
    noise (Random Erasing, arXiv:1708.04896), and labels are smoothed by 0.1: from DeiT's recipe, which is all that tells it from a ViT.
    `stochastic_depth`: what a ConvNeXt of that size draws with in train mode (captioning/trunks.py), not used in this pretraining."""

    family: str
    build: Callable
    steps: int
    crop_share: float
    learning_rate: float
    erasing: float = 0.0
    stochastic_depth: float = 0.0


def _convnext(depths: tuple[int, ...], dims: tuple[int, ...], **changes):
    from timm.models.convnext import ConvNeXt

    # Four stages of stride 1, 2, 2, 2 on single pixels give the 8x8 grid without dilation: timm's dilated downsampling leaves out the region itself, and
    # attention then learns to look beside the thing. No layer scale (from 1e-6 a short training never gets away), small depthwise kernels (7 spans the grid).
    settings = {"patch_size": 1, "kernel_sizes": (3, 3, 5, 3), "ls_init_value": None, "conv_mlp": True} | changes
    encoder = ConvNeXt(depths=depths, dims=dims, num_classes=0, **settings)
    for module in encoder.modules():
        # torch's own start instead of a deviation of 0.02, at which small depthwise kernels let hardly anything through.
        if type(module).__name__ in ("Conv2d", "Linear"):
            module.reset_parameters()
    return encoder


def _resnet(layers: tuple[int, ...], channels: tuple[int, ...], bottleneck: bool = False, **changes):
    from timm.models.resnet import BasicBlock, Bottleneck, ResNet

    settings = {"block": Bottleneck if bottleneck else BasicBlock, "stem_type": "deep", "stem_width": 16, "output_stride": 8} | changes
    return ResNet(layers=layers, channels=channels, num_classes=0, **settings)


def _vgg(plan: tuple):
    from timm.models.vgg import VGG
    from torch import nn

    encoder = VGG(cfg=list(plan), num_classes=0, norm_layer=nn.BatchNorm2d)
    encoder.pre_logits = nn.Identity()  # the classifier's 7x7 layer, which no region goes through
    return encoder


def _mobilenetv3(blocks: list[list[str]]):
    from timm.layers import get_act_layer
    from timm.models._efficientnet_builder import decode_arch_def
    from timm.models.mobilenetv3 import MobileNetV3
    from torch import nn

    encoder = MobileNetV3(decode_arch_def(blocks), num_classes=0, stem_size=16, act_layer=get_act_layer("hard_swish"))
    encoder.conv_head = nn.Identity()  # the classifier's own layer, behind the regions
    return encoder


def _vit(stem: tuple[int, ...], width: int, depth: int, heads: int):
    from timm.models.vision_transformer import VisionTransformer
    from timm.models.vision_transformer_hybrid import ConvStem, HybridEmbed

    # The hybrid form of arXiv:2010.11929, tokens from a small convolutional stem: from plain patches a ViT of this size does not learn shapes in thousands of steps.
    def embed(strict_img_size=True, dynamic_img_pad=False, **settings):
        return HybridEmbed(backbone=ConvStem(channels=(*stem, width), stride=(2,) * (len(stem) + 1)), **settings)

    return VisionTransformer(IMAGE_SIZE, patch_size=1, embed_layer=embed, embed_dim=width, depth=depth, num_heads=heads, num_classes=0)


MEMBERS = {
    "demo_convnext_tiny": Member(
        "ConvNeXt-Tiny",
        lambda **more: _convnext((0, 1, 1, 1), (8, 16, 40, 80), **more),
        steps=1800,
        crop_share=0.7,
        learning_rate=5e-3,
        stochastic_depth=0.1,
    ),
    "demo_convnext_small": Member(
        "ConvNeXt-Small",
        lambda **more: _convnext((0, 1, 1, 2), (8, 16, 48, 96), **more),
        steps=1800,
        crop_share=0.7,
        learning_rate=5e-3,
        stochastic_depth=0.4,
    ),
    "demo_convnext": Member(
        "ConvNeXt-Base",
        lambda **more: _convnext((0, 1, 1, 2), (12, 24, 64, 128), **more),
        steps=2200,
        crop_share=0.7,
        learning_rate=5e-3,
        stochastic_depth=0.5,
    ),
    "demo_convnext_large": Member(
        "ConvNeXt-Large",
        lambda **more: _convnext((0, 1, 2, 2), (16, 32, 72, 144), **more),
        steps=1800,
        crop_share=0.7,
        learning_rate=5e-3,
        stochastic_depth=0.5,
    ),
    "demo_convnextv2": Member(
        "ConvNeXt V2-Base",
        lambda **more: _convnext((0, 1, 1, 2), (12, 24, 64, 128), use_grn=True, **more),
        steps=1800,
        crop_share=0.7,
        learning_rate=5e-3,
    ),
    "demo_resnet": Member("ResNet-101", lambda: _resnet((1, 1, 1, 1), (32, 48, 64, 128)), steps=1200, crop_share=0.7, learning_rate=3e-3),
    "demo_resnet_deep": Member(
        "ResNet-152", lambda: _resnet((1, 1, 2, 1), (32, 48, 64, 128)), steps=1200, crop_share=0.7, learning_rate=3e-3
    ),
    "demo_vgg": Member(
        "VGG-16", lambda: _vgg((16, 16, "M", 32, 32, "M", 64, 64, "M", 128, 128, 128)), steps=1200, crop_share=0.7, learning_rate=3e-3
    ),
    "demo_resnext": Member(
        "ResNeXt-101",
        lambda: _resnet((1, 1, 1, 1), (32, 48, 64, 64), cardinality=8, base_width=16, bottleneck=True),
        steps=1200,
        crop_share=0.7,
        learning_rate=3e-3,
    ),
    "demo_mobilenetv3": Member(
        "MobileNetV3-Large",
        lambda: _mobilenetv3(
            [
                ["ds_r1_k3_s1_e1_c16_nre"],
                ["ir_r2_k3_s2_e3_c32_nre"],
                ["ir_r2_k5_s2_e3_c64_se0.25_nre"],
                ["ir_r2_k3_s1_e3_c96_se0.25"],
                ["cn_r1_k1_s1_c128"],
            ]
        ),
        steps=1200,
        crop_share=0.7,
        learning_rate=3e-3,
    ),
    "demo_vit": Member("ViT-B/16", lambda: _vit((24, 48), 96, 3, 3), steps=4000, crop_share=0.0, learning_rate=2e-3),
    "demo_deit": Member("DeiT-B/16", lambda: _vit((24, 48), 96, 3, 3), steps=4000, crop_share=0.0, learning_rate=2e-3, erasing=0.25),
}


def names() -> tuple[str, ...]:
    return tuple(MEMBERS)


def create(name: str, stochastic_depth: bool = False):
    """The timm model with random weights, no classifier: `forward_features` maps (B, 3, 64, 64) to 8x8 regions, as that family lays them out in timm.

    stochastic_depth: a ConvNeXt draws in train mode as its full model's recipe does.
    """
    member = _member(name)
    return member.build(drop_path_rate=member.stochastic_depth) if stochastic_depth and member.stochastic_depth else member.build()


def preprocessing(name: str) -> dict:
    """`size` in pixels, `interpolation`, and `mean` and `std` of the channels (of values in 0..1), as timm's data configuration says them."""
    _member(name)
    return {"size": IMAGE_SIZE, "interpolation": "bicubic", "mean": (0.5, 0.5, 0.5), "std": (0.25, 0.25, 0.25)}


def weights_path(name: str) -> Path:
    _member(name)
    return FOLDER / f"{name}.safetensors"


def card(name: str) -> dict:
    """What benchmarks/pretrain_demo.py wrote beside the weights: accuracy of each attribute, seeds, steps, minutes, parameters, command, sha256, versions."""
    path = weights_path(name).with_suffix(".json")
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise BadInput(f"{path}: no card for {name}; `python benchmarks/pretrain_demo.py --only {name}` makes weights and card") from None


def _member(name: str) -> Member:
    if name not in MEMBERS:
        raise BadInput(f"{name}: no demo encoder; there are {', '.join(MEMBERS)}")
    return MEMBERS[name]
