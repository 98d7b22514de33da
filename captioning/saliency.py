"""Where a word came from in a picture whose tokens have no place: gradient times input, one map a word.

For `prefix` and for `t5` with one token attention over the image says nothing about places. In its place: the derivative of a word's
log-probability by the (scaled) pixels, times the pixels, summed over the colours, without sign, averaged over the cells of a grid. It is a
first-order answer to "which pixels carried this word", noisier than attention, and figures say which of the two they show.
"""

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

GRID = 14  # cells a side
AT_ONCE = 32  # pictures in one backward pass


def gradient_maps(
    model, pixels: Tensor, captions: Sequence[tuple[int, Sequence[int], Sequence[int]]], grid: int = GRID
) -> list[np.ndarray]:
    """pixels uint8 (B,S,S,3); captions: (image, ids, positions), ids without start and end, positions of those words that are asked for.

    -> for each caption the maps (len(positions),grid,grid), each summing to 1. The model is in eval mode; its parameters' gradients are left alone.
    """
    from captioning.vocabulary import PAD, START

    asked = [(row, place) for row, (_, _, positions) in enumerate(captions) for place in positions]
    found = np.zeros((len(asked), grid, grid), dtype=np.float32)
    learning = [p for p in model.parameters() if p.requires_grad]
    for parameter in learning:
        parameter.requires_grad_(False)
    try:
        for first in range(0, len(asked), AT_ONCE):
            part = asked[first : first + AT_ONCE]
            rows = [captions[row] for row, _ in part]
            places = torch.tensor([place for _, place in part], device=pixels.device)
            images = model.encoder.scale(pixels[[image for image, _, _ in rows]])  # (n, 3, S, S): each word has its own copy
            images.requires_grad_()
            longest = max(place for _, place in part) + 1
            words = torch.full((len(part), longest + 1), PAD, dtype=torch.long, device=pixels.device)
            words[:, 0] = START
            for i, ((_, ids, _), (_, place)) in enumerate(zip(rows, part, strict=True)):
                words[i, 1 : place + 2] = torch.as_tensor(ids[: place + 1], device=pixels.device)
            with torch.enable_grad():
                forced = model.decoder.forced(
                    model.encoder.regions(images), words, places + 1, torch.arange(len(part), device=pixels.device)
                )
                last = forced.position == places[forced.caption]
                target = words[forced.caption[last], forced.position[last] + 1]
                score = forced.logits[last].log_softmax(-1).gather(1, target.unsqueeze(1)).sum()
                (gradient,) = torch.autograd.grad(score, images)
            cells = F.adaptive_avg_pool2d((gradient * images.detach()).sum(1, keepdim=True).abs(), grid).squeeze(1)
            cells = cells / cells.sum((1, 2), keepdim=True).clamp_min(1e-30)
            found[first : first + len(part)] = cells.float().cpu().numpy()
    finally:
        for parameter in learning:
            parameter.requires_grad_(True)
    ends = np.cumsum([len(positions) for _, _, positions in captions])
    return [found[end - len(positions) : end] for end, (_, _, positions) in zip(ends, captions, strict=True)]
