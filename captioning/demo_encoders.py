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
    `crop_share` the part of them on small pictures (0 for nets that know one size only)."""

    family: str
    build: Callable
    steps: int
    crop_share: float
    learning_rate: float


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


def _resnet(layers: tuple[int, ...], channels: tuple[int, ...], **changes):
    from timm.models.resnet import BasicBlock, ResNet

    settings = {"block": BasicBlock, "stem_type": "deep", "stem_width": 16, "output_stride": 8} | changes
    return ResNet(layers=layers, channels=channels, num_classes=0, **settings)


MEMBERS = {
    "demo_convnext": Member(
        "ConvNeXt-Base", lambda: _convnext((0, 1, 1, 2), (12, 24, 64, 128)), steps=2200, crop_share=0.7, learning_rate=5e-3
    ),
    "demo_resnet": Member("ResNet-101", lambda: _resnet((1, 1, 1, 1), (32, 48, 64, 128)), steps=1200, crop_share=0.7, learning_rate=3e-3),
}


def names() -> tuple[str, ...]:
    return tuple(MEMBERS)


def create(name: str):
    """The timm model with random weights, no classifier: `forward_features` maps (B, 3, 64, 64) to 8x8 regions, as that family lays them out in timm."""
    return _member(name).build()


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
