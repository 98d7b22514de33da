"""Pretrain the demo's small encoders on single groups of drawn objects: the demo world's ImageNet.

    python benchmarks/pretrain_demo.py [--only NAME ...] [--steps N] [--out FOLDER]

Each picture shows one group of the scenes (captioning/scenes.py: one to three equal things, same shapes, colours, sizes, backgrounds) at a random place; the net
says shape, colour, size, count and place from the mean of the regions that the group covers, and the heads are thrown away. The first steps see small pictures
cut about the group, the last whole ones. All pairs of shape and colour are seen here, also those that no training caption names.
Reads nothing; writes <out>/NAME.safetensors (fp16) and NAME.json, the card: held-out accuracy of each attribute, steps, seeds, sha256, minutes, parameters.
Steps, seed and threads (one) are fixed, so the same processor and torch build give the same bytes; elsewhere rounding differs and the hash with it.
"""

import argparse
import hashlib
import json
import platform
import random
import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))  # `python benchmarks/...` has benchmarks/ on the path, not the root

import numpy as np
import torch
from timm.data.random_erasing import RandomErasing
from torch import nn
from torch.nn import functional as F

from captioning import demo_encoders
from captioning.atomic import atomic_write
from captioning.bad_input import BadInput, run_command
from captioning.scenes import COLOURS, RADII, SHAPES, SIDE, Stream, draw_background, paint, place_groups, thing_mask

SEED = 1  # scenes have streams of three and more numbers, single objects of two: they never meet
BATCH = 32
CROP = 40  # pixels of the pictures of the first steps: less work, and the group fills more of them
HELD_OUT = 2000
PLACES = 4  # the picture cut into 4 x 4: a place tells nothing of what the thing is
ATTRIBUTES = {"shape": len(SHAPES), "colour": len(COLOURS), "size": len(RADII), "count": 3, "place": PLACES**2}


def draw_single(stream: Stream, side: int) -> tuple[np.ndarray, np.ndarray, tuple[int, ...]]:
    """One group on a background, cut to side x side pixels so that it is inside: (side, side, 3) uint8, its mask (side, side), its attributes as numbers."""
    shape, colour, size, count = (stream.below(choices) for choices in tuple(ATTRIBUTES.values())[:4])
    kind = (SHAPES[shape], tuple(COLOURS)[colour], tuple(RADII)[size], count + 1)
    (group,) = place_groups(stream, [kind])
    painted = [(thing_mask(group.shape, thing.x, thing.y, thing.radius), thing.rgb) for thing in group.things]
    picture = paint(draw_background(stream), painted, stream)
    left, x = _cut(stream, [thing.x for thing in group.things], group.things[0].radius, side)
    top, y = _cut(stream, [thing.y for thing in group.things], group.things[0].radius, side)
    window = (slice(top, top + side), slice(left, left + side))
    place = y * PLACES // side * PLACES + x * PLACES // side
    return picture[window], np.any([mask[window] for mask, _ in painted], 0), (shape, colour, size, count, place)


def _cut(stream: Stream, middles: list[int], radius: int, side: int) -> tuple[int, int]:
    """Where a window of `side` pixels starts, on one axis, and the middle of the group in it."""
    low, high = min(middles) - radius, max(middles) + radius
    start = stream.between(max(0, high + 1 - side), min(low, SIDE - side))
    return start, (low + high) // 2 - start


def draw_singles(part: int, count: int, side: int = SIDE) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """pixels (count, 3, side, side) in 0..255, masks (count, side, side) in 0..1, attributes (count, 5); `part` names the random stream."""
    stream = Stream(SEED, part)
    pictures, masks, attributes = zip(*(draw_single(stream, side) for _ in range(count)), strict=True)
    pixels = torch.from_numpy(np.stack(pictures)).permute(0, 3, 1, 2).float()  # (count, 3, side, side)
    return pixels, torch.from_numpy(np.stack(masks)).float(), torch.tensor(attributes)


class Classifier(nn.Module):
    """The encoder, the mean of the regions that the group covers, one linear head an attribute.

    The mean over all regions drowns a small group in background, and with their maximum a ConvNeXt says it in regions far from the group: attention then
    learns to look there.
    """

    def __init__(self, name: str):
        super().__init__()
        self.encoder = demo_encoders.create(name)
        preprocessing = demo_encoders.preprocessing(name)
        self.mean, self.std = (255 * torch.tensor(preprocessing[key]).view(1, 3, 1, 1) for key in ("mean", "std"))
        with torch.no_grad():
            dim = self._map(torch.zeros(2, 3, SIDE, SIDE)).shape[1]
        self.heads = nn.Linear(dim, sum(ATTRIBUTES.values()))

    def _map(self, images: torch.Tensor) -> torch.Tensor:
        features = self.encoder.forward_features(images)
        if features.dim() == 3:
            features = features[:, self.encoder.num_prefix_tokens :].transpose(1, 2).unflatten(2, demo_encoders.GRID)
        return features  # (B, D, h, w)

    def forward(self, pixels: torch.Tensor, masks: torch.Tensor, change=lambda pictures: pictures) -> tuple[torch.Tensor, ...]:
        """Logits of each attribute. change: what is done to the normalised pictures before."""
        features = self._map(change((pixels - self.mean) / self.std))
        shares = F.adaptive_avg_pool2d(masks.unsqueeze(1), features.shape[-2:])  # (B, 1, h, w)
        pooled = (features * shares).sum((2, 3)) / shares.sum((2, 3))  # (B, D)
        return self.heads(pooled).split(tuple(ATTRIBUTES.values()), 1)


def pretrain(name: str, steps: int) -> tuple[Classifier, float]:
    """Train for a fixed number of steps; returns the classifier and the seconds it took."""
    torch.manual_seed(SEED)
    random.seed(SEED)  # what timm's Random Erasing draws with
    classifier = Classifier(name)
    member = demo_encoders.MEMBERS[name]
    erase = RandomErasing(member.erasing, mode="pixel", device="cpu")
    smoothing = 0.1 if member.erasing else 0.0
    rate, crop_steps = member.learning_rate, int(member.crop_share * steps)
    optimizer = torch.optim.AdamW(classifier.parameters(), lr=rate, weight_decay=0.02)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, rate, total_steps=steps, pct_start=0.1)
    started = time.perf_counter()
    for step in range(steps):
        pixels, masks, attributes = draw_singles(2 + step, BATCH, CROP if step < crop_steps else SIDE)
        logits = classifier(pixels, masks, erase)
        loss = sum(F.cross_entropy(one, target, label_smoothing=smoothing) for one, target in zip(logits, attributes.T, strict=True))
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        nn.utils.clip_grad_norm_(classifier.parameters(), 1.0)
        optimizer.step()
        schedule.step()
        if step % 200 == 199:
            right = [float((one.argmax(1) == target).float().mean()) for one, target in zip(logits, attributes.T, strict=True)]
            said = "  ".join(f"{attribute} {100 * share:.0f}%" for attribute, share in zip(ATTRIBUTES, right, strict=True))
            print(f"{name}  step {step + 1}/{steps}  loss {loss.item():.2f}  {said}  {time.perf_counter() - started:.0f} s", flush=True)
    return classifier.eval(), time.perf_counter() - started


@torch.inference_mode()
def measure(classifier: Classifier) -> dict[str, float]:
    """Share of HELD_OUT pictures that no step has seen, by attribute, and of small things the shape alone."""
    pixels, masks, attributes = draw_singles(0, HELD_OUT)
    logits = [
        torch.cat(parts)
        for parts in zip(*(classifier(*batch) for batch in zip(pixels.split(250), masks.split(250), strict=True)), strict=True)
    ]
    right = {name: one.argmax(1) == target for name, one, target in zip(ATTRIBUTES, logits, attributes.T, strict=True)}
    small = attributes[:, 2] == tuple(RADII).index("small")
    return {name: round(float(hit.float().mean()), 4) for name, hit in right.items()} | {
        "shape of small": round(float(right["shape"][small].float().mean()), 4)
    }


def save(name: str, classifier: Classifier, seconds: float, steps: int, folder: Path) -> dict:
    """Write weights (fp16) and card; the accuracy on the card is that of the rounded weights."""
    import safetensors.torch
    import timm

    weights = {key: value.half() if value.is_floating_point() else value for key, value in classifier.encoder.state_dict().items()}
    classifier.encoder.load_state_dict({key: value.float() if value.is_floating_point() else value for key, value in weights.items()})
    content = safetensors.torch.save({key: value.contiguous() for key, value in weights.items()})
    changed = "" if steps == demo_encoders.MEMBERS[name].steps else f" --steps {steps}"
    card = {
        "name": name,
        "family": demo_encoders.MEMBERS[name].family,
        "accuracy": measure(classifier),
        "held_out_pictures": HELD_OUT,
        "steps": steps,
        "crop_share": demo_encoders.MEMBERS[name].crop_share,
        "batch_size": BATCH,
        "seed": SEED,
        "threads": 1,
        "minutes": round(seconds / 60, 1),
        "parameters": sum(parameter.numel() for parameter in classifier.encoder.parameters()),
        "command": f"python benchmarks/pretrain_demo.py --only {name}{changed}",
        "sha256": hashlib.sha256(content).hexdigest(),
        "versions": {"python": platform.python_version(), "torch": torch.__version__, "timm": timm.__version__, "numpy": np.__version__},
        "note": "The same bytes come out on the same processor and torch build; elsewhere rounding differs, and the hash with it.",
    }
    with atomic_write(folder / f"{name}.safetensors", "wb") as file:
        file.write(content)
    with atomic_write(folder / f"{name}.json") as file:
        file.write(json.dumps(card, indent=1) + "\n")
    return card


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__.split("\n")[0], epilog="example: python benchmarks/pretrain_demo.py --only demo_vit --out my-encoders"
    )
    parser.add_argument("--only", nargs="+", metavar="NAME", help=f"encoders to train (all: {', '.join(demo_encoders.names())})")
    parser.add_argument("--steps", type=int, help="steps of training (default: the encoder's own, which remakes what is committed)")
    parser.add_argument("--out", type=Path, default=demo_encoders.FOLDER, help="folder of weights and cards")
    options = parser.parse_args()
    if options.steps is not None and options.steps < 20:
        raise BadInput(f"--steps {options.steps}: give at least 20")
    torch.set_num_threads(1)
    for name in options.only or demo_encoders.names():
        demo_encoders.weights_path(name)  # an unknown name stops here, before any training
    for name in options.only or demo_encoders.names():
        steps = options.steps or demo_encoders.MEMBERS[name].steps
        classifier, seconds = pretrain(name, steps)
        card = save(name, classifier, seconds, steps, options.out)
        print(f"{name}: {card['accuracy']}, {card['minutes']} minutes, {card['parameters']:,} parameters, sha256 {card['sha256'][:12]}")


if __name__ == "__main__":
    run_command(main)
