"""What a training step or an evaluation reads for its images: regions kept from a frozen encoder, or pixels (augmented or not)."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch

from captioning.bad_input import BadInput
from captioning.config import RunConfig
from captioning.pixels import augment, mentions_side, open_pixels
from captioning.progress import track
from captioning.regions import cached_regions, regions_key

ENCODED_AT_ONCE = 32


def open_inputs(data, encoder, config: RunConfig, cache: Path, workers: int, regions: str = "auto"):
    """`KeptRegions` where they are faithful, else `Pixels`. regions: "auto", "keep" (BadInput where they are not faithful) or "encode"."""
    if regions == "encode" or (regions == "auto" and why_not_kept(config, encoder)):
        return Pixels(data, _pixels(data, encoder, cache, workers), config)
    return keep_regions(data, encoder, config, cache, workers)


def why_not_kept(config: RunConfig, encoder) -> str:
    """Why an image has no lasting regions under this configuration with this encoder; empty where it has."""
    if not config.frozen:
        return f"the encoder learns (--tune-from {config.tune_from})"
    if config.augment != "none":
        return f"every epoch sees other pictures (--augment {config.augment})"
    if encoder.varies:
        return "an encoder in train mode gives other regions at every step (--encoder-mode train)"
    return ""


def keep_regions(data, encoder, config: RunConfig, cache: Path, workers: int) -> "KeptRegions":
    """The regions of the whole data set, computed now where they are not kept yet. Raises BadInput where they would not be faithful."""
    reason = why_not_kept(config, encoder)
    if reason:
        raise BadInput(f"regions can't be kept: {reason}; use --regions auto, or change that setting")
    key = regions_key(encoder.source, encoder.preprocessing, config.grid, data.fingerprint, config.seed, config.final_norm, encoder.vector)
    shape = (len(data.examples), encoder.grid[0] * encoder.grid[1], encoder.dim)

    def encode(begin: int):
        batches = [range(first, min(first + ENCODED_AT_ONCE, shape[0])) for first in range(begin, shape[0], ENCODED_AT_ONCE)]
        progress = track(batches, f"regions of {encoder.source.name}", units="batches")
        for pictures in _pixels(data, encoder, cache, workers).batches(progress):
            yield _encode(encoder, torch.from_numpy(pictures))

    return KeptRegions(cached_regions(cache / f"regions-{key}.npy", shape, encode), encoder.mean.device)


def _pixels(data, encoder, cache: Path, workers: int):
    pre = encoder.preprocessing
    return open_pixels(data, pre.size, pre.resize, pre.interpolation, cache=cache, workers=workers)


@torch.inference_mode()
def _encode(encoder, pictures: torch.Tensor) -> np.ndarray:
    """uint8 (n,S,S,3) -> fp16 (n,R,D); in halves where memory runs out."""
    try:
        return encoder(encoder.scale(pictures.to(encoder.mean.device))).half().cpu().numpy()
    except torch.OutOfMemoryError:
        if len(pictures) == 1:
            raise BadInput("out of memory with one image; choose a smaller --image-size or encoder") from None
    torch.cuda.empty_cache()
    return np.concatenate([_encode(encoder, half) for half in pictures.chunk(2)])


class KeptRegions:
    """Regions (n,R,D) of examples by index. On a GPU they lie in its memory where they fit in half of what is free."""

    def __init__(self, regions: np.ndarray, device: torch.device):
        self.regions = regions
        self.on_device = None
        if device.type == "cuda" and regions.nbytes < torch.cuda.mem_get_info(device)[0] // 2:
            self.on_device = torch.from_numpy(np.asarray(regions).copy()).to(device)

    def get(self, indices: Sequence[int], epoch: int | None = None) -> torch.Tensor:
        if self.on_device is not None:
            return self.on_device[torch.as_tensor(indices, device=self.on_device.device)]
        return torch.from_numpy(self.regions[np.asarray(indices)])


class Pixels:
    """Pixels uint8 (n,S,S,3) of examples by index; with an epoch given, augmented as the configuration says."""

    def __init__(self, data, pixels, config: RunConfig):
        self.data, self.pixels, self.config = data, pixels, config
        self.kinds = () if config.augment == "none" else tuple(config.augment.split("-"))

    def get(self, indices: Sequence[int], epoch: int | None = None) -> torch.Tensor:
        batch = self.pixels.get_batch(list(map(int, indices)))
        if epoch is not None and self.kinds:
            batch = np.stack([self._augment(p, int(i), epoch) for p, i in zip(batch, indices, strict=True)])
        return torch.from_numpy(batch)

    def _augment(self, picture: np.ndarray, index: int, epoch: int) -> np.ndarray:
        # A mirrored picture under a caption that says "left" would teach the wrong word.
        kinds = tuple(k for k in self.kinds if k != "flip" or not mentions_side(self.data.examples[index].captions))
        return augment(picture, self.config.seed, epoch, index, kinds)
