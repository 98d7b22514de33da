"""torchvision's ConvNeXt weights under names in timm's manner: `convnext_small.tv_in1k` is what the paper's code loads.

timm builds the architecture, so that layer groups, stochastic depth and the head's norm are found as in every other ConvNeXt; `to_timm`
renames the tensors. Addresses, hashes and preprocessing are read from torchvision itself.
"""

import socket
import sys
from pathlib import Path
from urllib.parse import urlsplit

from captioning.bad_input import BadInput
from captioning.cache import building

# Tag -> torchvision's enumeration of weights; all were trained on ImageNet-1k only.
ENUMERATIONS = {
    "convnext_tiny.tv_in1k": "ConvNeXt_Tiny_Weights",
    "convnext_small.tv_in1k": "ConvNeXt_Small_Weights",
    "convnext_base.tv_in1k": "ConvNeXt_Base_Weights",
    "convnext_large.tv_in1k": "ConvNeXt_Large_Weights",
}
STALLED_AFTER_SECONDS = 30.0
# timm's names of what lies in a torchvision block's Sequential; the places left out hold no tensors.
BLOCK = {"0": "conv_dw", "2": "norm", "3": "mlp.fc1", "5": "mlp.fc2"}


def _published(tag: str):
    import torchvision.models

    return getattr(torchvision.models, ENUMERATIONS[tag]).IMAGENET1K_V1


def url(tag: str) -> str:
    """torchvision's address of the weights; the file's name ends in the first digits of its SHA-256."""
    return _published(tag).url


def file_name(tag: str) -> str:
    return Path(urlsplit(url(tag)).path).name


def preprocessing(tag: str) -> dict:
    """size in pixels, mean, std, interpolation: torchvision's for these weights, but for the border it crops away (we squash, or crop less)."""
    stated = _published(tag).transforms()
    return {"size": stated.crop_size[0], "mean": stated.mean, "std": stated.std, "interpolation": stated.interpolation.value}


def find(tag: str, fetch: bool) -> Path:
    """The weight file in torch.hub's cache, downloaded into it when it is not there. Raises BadInput with the three ways out."""
    import torch

    path = Path(torch.hub.get_dir()) / "checkpoints" / file_name(tag)
    if path.is_file():
        return path
    if not fetch:
        raise BadInput(f"weights of {tag} are not here yet; running fetches them")
    try:
        with building(path):
            if not path.is_file():  # another process may have fetched it meanwhile
                _download(url(tag), path)
    except (OSError, RuntimeError) as error:  # RuntimeError: torch.hub's for a wrong hash; the file is gone by then
        raise BadInput(
            f"weights of {tag} are neither in {path.parent} nor to be fetched from {url(tag)} ({type(error).__name__}: {error}); three ways "
            f"out: go online and run again, --weights DIR with {tag}.safetensors or {path.name} in it, or --weights none for random weights"
        ) from error
    return path


def _download(address: str, path: Path) -> None:
    """Whole and with the hash that its name promises, or not at all."""
    import torch

    before = socket.getdefaulttimeout()
    socket.setdefaulttimeout(STALLED_AFTER_SECONDS)  # torch.hub waits forever for a server that has stopped sending
    try:
        torch.hub.download_url_to_file(address, str(path), promised_hash(path.name), progress=sys.stderr.isatty())
    finally:
        socket.setdefaulttimeout(before)


def promised_hash(name: str) -> str:
    """The first digits of the SHA-256 that torchvision writes into a file's name: convnext_small-0c510722.pth."""
    return Path(name).stem.rpartition("-")[2]


def check_hash(tag: str, path: Path, sha256: str) -> None:
    """Raise BadInput where a file with torchvision's own name is not the one that name promises. Files named otherwise are the user's."""
    if path.name == file_name(tag) and not sha256.startswith(promised_hash(path.name)):
        raise BadInput(f"{path}: its SHA-256 starts with {sha256[:8]}, not as its name says: cut or changed; delete it and fetch it again")


def to_timm(state: dict) -> dict:
    """torchvision's ConvNeXt tensors under timm's names. What has timm's names already stays as it is."""
    if not any(name.startswith("features.") for name in state):
        return state
    renamed = {}
    for name, tensor in state.items():
        if name.endswith(".layer_scale"):
            tensor = tensor.flatten()  # (C, 1, 1) -> (C,)
        renamed[_timm_name(name)] = tensor
    return renamed


def _timm_name(name: str) -> str:
    """torchvision: features = stem, stage, (downsampling, stage) x 3; classifier = norm, flatten, linear."""
    match name.split("."):
        case ["classifier", "0", kind]:
            return f"head.norm.{kind}"
        case ["classifier", "2", kind]:
            return f"head.fc.{kind}"
        case ["features", "0", part, kind]:
            return f"stem.{part}.{kind}"
        case ["features", place, part, kind] if kind != "layer_scale":
            return f"stages.{int(place) // 2}.downsample.{part}.{kind}"
        case ["features", place, block, "layer_scale"]:
            return f"stages.{int(place) // 2}.blocks.{block}.gamma"
        case ["features", place, block, "block", part, kind] if part in BLOCK:
            return f"stages.{int(place) // 2}.blocks.{block}.{BLOCK[part]}.{kind}"
    return name  # unknown to timm as well, which is then said with the file's name
