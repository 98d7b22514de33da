"""Make a small encoder from larger ones, on photographs without labels: its regions learn to foretell theirs.

    python benchmarks/distill.py --data DIR --weights DIR --out trained/femto.safetensors
    python benchmarks/distill.py --data DIR --weights DIR --student convnext_atto --teachers deit_tiny_patch16_224.fb_in1k --out F.safetensors

The student is a timm ConvNeXt at random weights. Each training photo is cut into a few fixed views (the whole, then random crops, some mirrored); every teacher's
regions of every view, pooled to 7x7 and standardised channel by channel (of more than --channels the first principal ones), are computed once and kept in
the cache. The student sees a view with other colours and, through a linear layer for each teacher that is thrown away afterwards, says those regions
(mean squared error). Small pictures first, the last share of the steps at the full 224 px. --init goes on from an earlier student, with other teachers or views.
Beside it F.json, the card: teachers with hashes, the share of the teachers' variance foretold on validation photos, settings, minutes. Killed, the same
command goes on at its last epoch.

The weights are then an encoder like any other: train.py --encoder convnext_femto.own --weights F.safetensors --tune-from 0
"""

import argparse
import hashlib
import json
import pickle
import platform
import sys
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))
if sys.path[1:2] == [str(Path(__file__).resolve().parent)]:
    del sys.path[1]  # benchmarks/ itself is not a place to import from

import numpy as np  # noqa: E402

from captioning.atomic import atomic_write  # noqa: E402
from captioning.bad_input import BadInput, at_least, run_command  # noqa: E402
from captioning.fingerprint import file_sha256  # noqa: E402

TEACHERS = ("deit_tiny_patch16_224.fb_in1k", "mobilenetv2_100.ra_in1k")
SIDE, GRID = 224, 7
CROP_AREA, CROP_RATIO = (0.35, 1.0), (3 / 4, 4 / 3)
SAMPLE = 500  # photos that means, deviations and directions are measured on
COLOUR = 0.3  # brightness, contrast and saturation between 1 - and 1 + this


def parse_arguments(line: list[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", required=True, metavar="DIR", help="a data set as train.py takes it; only its photos are used")
    parser.add_argument("--out", required=True, type=Path, metavar="F.safetensors")
    parser.add_argument("--student", default="convnext_femto", help="a timm ConvNeXt (default convnext_femto)")
    parser.add_argument("--teachers", nargs="+", default=list(TEACHERS), metavar="NAME", help=f"encoders (default {' '.join(TEACHERS)})")
    parser.add_argument("--weights", default="pretrained", metavar="PLACE", help="where the teachers' weights lie, as in train.py")
    parser.add_argument("--views", type=int, default=8, help="of each photo, the whole one included (default 8)")
    parser.add_argument("--channels", type=int, default=256, help="most channels of a teacher that are foretold (default 256)")
    parser.add_argument("--epochs", type=int, default=60)
    parser.add_argument("--small", type=int, default=160, help="pixels of the first epochs' pictures (default 160)")
    parser.add_argument("--full-share", type=float, default=0.2, help="share of the epochs at 224 px, the last ones (default 0.2)")
    parser.add_argument("--batch-size", type=int, default=64)
    parser.add_argument("--lr", type=float, default=2e-3)
    parser.add_argument(
        "--mixup",
        type=float,
        default=0.0,
        help="pictures and regions mixed in pairs by Beta(A, A) (arXiv:1710.09412); 0: none",
        metavar="A",
    )
    parser.add_argument(
        "--init", type=Path, metavar="F.safetensors", help="the student begins as this one, made by this program, in place of at random"
    )
    parser.add_argument("--precision", choices=("fp32", "bf16"), default="bf16")
    parser.add_argument("--threads", type=int, default=0, help="0: as many as there are cores")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--device", choices=("auto", "cpu", "cuda"), default="auto")
    return parser.parse_args(line)


def main() -> int:
    options = parse_arguments()
    at_least(options, views=1, epochs=1, batch_size=1, channels=1, small=32, mixup=0.0, seed=0, threads=0)
    if options.out.suffix != ".safetensors":
        raise BadInput(f"--out {options.out}: give a .safetensors file")
    if options.out.exists():
        raise BadInput(f"--out {options.out}: is there already; remove it, or choose another")
    earlier = _card_of(options.init) if options.init else None
    if not 0 < options.lr < 1 or not 0 <= options.full_share <= 1:
        raise BadInput("--lr and --full-share: give a rate above 0 and below 1, a share from 0 to 1")
    import torch

    from captioning.allocator import keep_freed_memory
    from captioning.data import load_data

    keep_freed_memory()
    if options.threads:
        torch.set_num_threads(options.threads)
    if options.device == "cuda" and not torch.cuda.is_available():
        raise BadInput("--device cuda: torch sees no CUDA device; use --device cpu")
    device = torch.device("cuda" if options.device != "cpu" and torch.cuda.is_available() else "cpu")
    data = load_data(options.data)
    training = [i for i, example in enumerate(data.examples) if example.split == "train"]
    held_out = [i for i, example in enumerate(data.examples) if example.split == "val"]
    if not training or not held_out:
        raise BadInput(f"{options.data}: {len(training)} training and {len(held_out)} validation photos; both are needed")
    pixels = _pixels(data)
    if options.init:  # what is wrong with it is said before the teachers' hours
        _begin_as(build_student(options.student, [])[0], options.init)
    teachers = [Teacher(name, options, data, pixels, training, held_out, device) for name in options.teachers]
    train(options, earlier, data, pixels, training, held_out, teachers, device)
    return 0


def _pixels(data):
    from captioning.pixels import open_pixels

    return open_pixels(data, SIDE)


# ---- Views ----


def view_of(picture: np.ndarray, seed: int, index: int, view: int, side: int) -> np.ndarray:
    """uint8 (S,S,3) -> (side,side,3): view 0 is the whole picture, others a random crop, mirrored half of the time; the same for the same numbers."""
    from PIL import Image

    if view == 0:
        return np.asarray(Image.fromarray(picture).resize((side, side), Image.Resampling.BICUBIC)) if side != len(picture) else picture
    random = np.random.default_rng((seed, index, view))
    S = len(picture)
    area, ratio = random.uniform(*CROP_AREA) * S * S, np.exp(random.uniform(*np.log(CROP_RATIO)))
    width, height = (min(S, round(float(length))) for length in (np.sqrt(area * ratio), np.sqrt(area / ratio)))
    left, top = (int(random.integers(0, S - length + 1)) for length in (width, height))
    box = (left, top, left + width, top + height)
    cut = np.asarray(Image.fromarray(picture).resize((side, side), Image.Resampling.BICUBIC, box=box))
    return cut[:, ::-1] if random.random() < 0.5 else cut


def _views(pixels, seed: int, indices, views, side: int) -> np.ndarray:
    return np.stack([view_of(p, seed, i, v, side) for p, i, v in zip(pixels.get_batch(list(indices)), indices, views, strict=True)])


# ---- Teachers ----


class Teacher:
    """What one pretrained encoder says: `targets` fp16 (photos, views, 49, C) and `held_out` (photos, 49, C), memory maps; their variance is about 1."""

    def __init__(self, name: str, options, data, pixels, training: list[int], held_out: list[int], device):
        import torch

        from captioning.cache import default_cache
        from captioning.config import RunConfig
        from captioning.progress import track
        from captioning.regions import cached_regions
        from captioning.trunks import locate
        from models import build_encoder

        self.source = locate(name, True, options.weights)
        encoder = build_encoder(RunConfig(encoder=name, grid=GRID), source=self.source).to(device, memory_format=torch.channels_last).eval()

        @torch.inference_mode()
        def say(pictures: np.ndarray) -> torch.Tensor:
            x = encoder.scale(torch.from_numpy(pictures).to(device))
            with torch.autocast(device.type, torch.bfloat16, enabled=options.precision == "bf16"):
                return encoder(x).float().cpu()  # (n, 49, D)

        chosen = np.random.default_rng(options.seed).permutation(training)[:SAMPLE].tolist()
        sample = torch.cat([say(_views(pixels, options.seed, part, [0] * len(part), SIDE)) for part in _parts(chosen)])
        mean, self.directions = directions(sample.flatten(0, 1), options.channels)
        self.channels = self.directions.shape[1]
        plan = [(i, v) for i in training for v in range(options.views)] + [(i, 0) for i in held_out]
        facts = [
            self.source.weights_sha256,
            name,
            data.fingerprint,
            options.views,
            self.channels,
            options.seed,
            CROP_AREA,
            CROP_RATIO,
            SAMPLE,
            options.precision,
        ]
        key = hashlib.sha256(json.dumps(facts).encode()).hexdigest()[:24]

        def encode(begin: int):
            for part in track(_parts(plan[begin:]), f"regions of {name}", units="batches"):
                yield ((say(_views(pixels, options.seed, *zip(*part, strict=True), SIDE)) - mean) @ self.directions).half().numpy()

        found = cached_regions(default_cache() / f"distill-{key}.npy", (len(plan), GRID * GRID, self.channels), encode)
        whole = len(training) * options.views
        self.targets = found[:whole].reshape(len(training), options.views, GRID * GRID, self.channels)
        self.held_out = found[whole:]


def directions(regions, most: int):
    """regions (n,D) -> their mean (D,) and (D,C), C at most `most`: (regions - mean) @ it are standardised channels, turned to their first principal ones where
    D is more than C, and scaled to a mean variance of 1."""
    import torch

    mean, deviation = regions.mean(0), regions.std(0).clamp(min=1e-6)
    if regions.shape[1] <= most:
        return mean, torch.diag(1 / deviation)
    variances, axes = torch.linalg.eigh(torch.corrcoef(regions.T).nan_to_num())  # rising
    return mean, axes[:, -most:] / deviation.unsqueeze(1) / variances[-most:].mean().sqrt()


def _parts(plan: list, size: int = 64) -> list[list]:
    return [plan[k : k + size] for k in range(0, len(plan), size)]


# ---- The student ----


def build_student(name: str, teachers: list[Teacher]):
    """(trunk, a linear layer for each teacher behind one norm)."""
    import timm
    from torch import nn

    if not name.startswith("convnext") or not timm.is_model(name):
        raise BadInput(f"--student {name}: give a ConvNeXt of timm, as convnext_femto")
    # timm's layer scale starts at 1e-6, which few steps never leave.
    trunk = timm.create_model(name, pretrained=False, num_classes=0, ls_init_value=0.1, drop_path_rate=0.05)
    D = trunk.num_features
    return trunk, nn.ModuleDict({f"teacher{k}": nn.Sequential(nn.LayerNorm(D), nn.Linear(D, t.channels)) for k, t in enumerate(teachers)})


def train(options, earlier: dict | None, data, pixels, training: list[int], held_out: list[int], teachers: list[Teacher], device) -> None:
    import torch

    from captioning.trunks import IMAGENET_MEAN, IMAGENET_STD

    torch.manual_seed(options.seed)
    trunk, heads = build_student(options.student, teachers)
    if options.init:
        _begin_as(trunk, options.init)
    trunk, heads = trunk.to(device, memory_format=torch.channels_last), heads.to(device)
    mean, std = (torch.tensor(v, device=device).view(1, 3, 1, 1) for v in (IMAGENET_MEAN, IMAGENET_STD))
    parameters = [*trunk.named_parameters(), *heads.named_parameters()]
    decayed, bare = [p for _, p in parameters if p.ndim > 1], [p for _, p in parameters if p.ndim <= 1]
    adam = torch.optim.AdamW([{"params": decayed, "weight_decay": 0.05}, {"params": bare, "weight_decay": 0.0}], lr=options.lr)
    steps = len(training) // options.batch_size
    if not steps:
        raise BadInput(f"--batch-size {options.batch_size}: more than the {len(training)} training photos")
    identity = _identity(options, data, teachers)
    first, curve, spent = _resume(options, identity, trunk, heads, adam)

    def say(pictures: np.ndarray, colours=None, mixed=lambda x: x):
        """uint8 (n,S,S,3) -> a teacher's regions each, (n,R,C)."""
        x = torch.from_numpy(np.ascontiguousarray(pictures)).to(device).permute(0, 3, 1, 2).float() / 255
        x = mixed(x if colours is None else recolour(x, colours))
        with torch.autocast(device.type, torch.bfloat16, enabled=options.precision == "bf16"):
            regions = trunk.forward_features((x - mean) / std).permute(0, 2, 3, 1)  # (n, h, w, D)
            return [head(regions).float().flatten(1, 2) for head in heads.values()]

    for epoch in range(first, options.epochs):
        begun, random = time.monotonic(), np.random.default_rng((options.seed, epoch))
        torch.manual_seed(int(random.integers(2**62)))  # blocks that are dropped: the same after a kill
        side = SIDE if epoch >= options.epochs * (1 - options.full_share) else options.small
        order, views = random.permutation(len(training)), random.integers(options.views, size=len(training))
        lost = torch.zeros(len(teachers), device=device)
        trunk.train()
        for step in range(steps):
            rows = order[step * options.batch_size : (step + 1) * options.batch_size]
            rate = _rate(options.lr, epoch * steps + step, steps, options.epochs)
            for group in adam.param_groups:
                group["lr"] = rate
            pictures = _views(pixels, options.seed, [training[r] for r in rows], views[rows], side)
            colours = random.uniform(1 - COLOUR, 1 + COLOUR, (len(rows), 3))
            mixed = mixing(random, len(rows), options.mixup)
            said = say(pictures, colours, mixed)
            wanted = [torch.from_numpy(t.targets[rows, views[rows]]).to(device).float() for t in teachers]
            losses = torch.stack([((s - pool(mixed(w), s.shape[1])) ** 2).mean() for s, w in zip(said, wanted, strict=True)])
            adam.zero_grad(set_to_none=True)
            losses.sum().backward()
            torch.nn.utils.clip_grad_norm_([p for _, p in parameters], 1.0)
            adam.step()
            lost += losses.detach()
        spent += time.monotonic() - begun
        foretold = _foretold(say, trunk, pixels, held_out, teachers, side)
        curve.append(
            {"epoch": epoch + 1, "side": side, "loss": (lost / steps).tolist(), "foretold": foretold, "minutes": round(spent / 60, 1)}
        )
        print(json.dumps(curve[-1]), flush=True)
        _save_state(options, identity, trunk, heads, adam, epoch + 1, curve, spent)
    _write(options, earlier, data, trunk, teachers, curve, spent)


def recolour(x, factors):
    """x (n,3,h,w) in 0..1; factors (n,3): brightness, contrast, saturation."""
    import torch

    b, c, s = torch.from_numpy(factors).to(x).view(-1, 3, 1, 1, 1).unbind(1)
    x = x * b
    x = (x - x.mean((1, 2, 3), keepdim=True)) * c + x.mean((1, 2, 3), keepdim=True)
    grey = x.mean(1, keepdim=True)
    return ((x - grey) * s + grey).clamp(0, 1)


def mixing(random: np.random.Generator, count: int, alpha: float):
    """x (count,...) -> each row mixed with another, the same rows in the same shares whatever x is."""
    import torch

    if not alpha:
        return lambda x: x
    share, other = random.beta(alpha, alpha, count), torch.from_numpy(random.permutation(count))

    def mixed(x):
        own = torch.from_numpy(share).to(x).view(-1, *[1] * (x.ndim - 1))
        return own * x + (1 - own) * x[other.to(x.device)]

    return mixed


def pool(targets, regions: int):
    """(n,49,C) -> (n,regions,C): means over the places that a smaller grid's place covers."""
    from torch.nn import functional as F

    side = round(regions**0.5)
    if side == GRID:
        return targets
    return F.adaptive_avg_pool2d(targets.unflatten(1, (GRID, GRID)).permute(0, 3, 1, 2), side).flatten(2).transpose(1, 2)


def _rate(highest: float, step: int, steps: int, epochs: int) -> float:
    """Linear over the first two epochs, then a cosine to 0."""
    warm = 2 * steps
    if step < warm:
        return highest * (step + 1) / warm
    return highest * 0.5 * (1 + float(np.cos(np.pi * (step - warm) / max(1, epochs * steps - warm))))


def _foretold(say, trunk, pixels, held_out: list[int], teachers: list[Teacher], side: int) -> list[float]:
    """For each teacher the share of its variance on whole validation photos, over regions and channels."""
    import torch

    trunk.eval()
    missed, whole = np.zeros(len(teachers)), np.zeros(len(teachers))
    with torch.inference_mode():
        for first in range(0, len(held_out), 64):
            part = held_out[first : first + 64]
            said = say(_views(pixels, 0, part, [0] * len(part), side))
            for k, (teacher, s) in enumerate(zip(teachers, said, strict=True)):
                wanted = pool(torch.from_numpy(np.array(teacher.held_out[first : first + 64])).to(s).float(), s.shape[1])
                missed[k] += float(((s - wanted) ** 2).sum())
                whole[k] += float((wanted**2).sum())
    return [round(float(1 - m / w), 4) for m, w in zip(missed, whole, strict=True)]


# ---- Files ----


def _identity(options, data, teachers: list[Teacher]) -> str:
    """What a state must have been made with to be gone on from."""
    begun = [file_sha256(options.init)] if options.init else []
    return json.dumps([_settings(options), data.fingerprint, [t.source.weights_sha256 for t in teachers], *begun])


def _settings(options) -> dict:
    places = ("data", "out", "weights", "device", "threads", "init")
    return {name: value for name, value in vars(options).items() if name not in places}


def _begin_as(trunk, path: Path) -> None:
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    try:
        trunk.load_state_dict({name: tensor.float() for name, tensor in load_file(path).items()})
    except (SafetensorError, RuntimeError) as error:
        raise BadInput(f"--init {path}: not weights of this student ({str(error).splitlines()[0]})") from None


def _state_path(options) -> Path:
    return options.out.with_suffix(".state.pt")


def _save_state(options, identity: str, trunk, heads, adam, epoch: int, curve: list[dict], spent: float) -> None:
    from captioning.checkpoint import save_state

    state = {"trunk": trunk.state_dict(), "heads": heads.state_dict(), "adam": adam.state_dict()}
    save_state(_state_path(options), state | {"epoch": epoch, "curve": curve, "spent": spent, "identity": identity})


def _resume(options, identity: str, trunk, heads, adam) -> tuple[int, list[dict], float]:
    """First epoch to do, the curve so far, seconds so far."""
    import torch

    path = _state_path(options)
    if not path.exists():
        return 0, [], 0.0
    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
    except (RuntimeError, pickle.UnpicklingError, EOFError, OSError, ValueError, LookupError) as error:
        raise BadInput(f"{path}: cut, or of another program ({type(error).__name__}); remove it to start anew") from error
    if state.get("identity") != identity:
        raise BadInput(f"{path}: of other settings, data or teachers; remove it, or choose another --out")
    trunk.load_state_dict(state["trunk"]), heads.load_state_dict(state["heads"]), adam.load_state_dict(state["adam"])
    return state["epoch"], state["curve"], state["spent"]


def _card_of(path: Path) -> dict:
    """An earlier student's card, without its curve. Raises BadInput where it is not the card of those weights."""
    try:
        card = json.loads(path.with_suffix(".json").read_text(encoding="utf-8"))
        if card["sha256"] != file_sha256(path):
            raise ValueError("the card beside it is of other weights")
        return {name: value for name, value in card.items() if name != "curve"}
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise BadInput(
            f"--init {path}: not what this program made, weights and their card {path.stem}.json beside them ({error})"
        ) from None


def _write(options, earlier: dict | None, data, trunk, teachers: list[Teacher], curve: list[dict], spent: float) -> None:
    """The weights (fp16) and their card; the state goes, for there is nothing to go on from."""
    import torch
    from safetensors.torch import save

    from benchmarks.one_run import device_name

    tensors = {name: tensor.detach().cpu().contiguous().half() for name, tensor in trunk.state_dict().items()}
    with atomic_write(options.out, "wb") as file:
        file.write(save(tensors))
    card = {
        "schema": 1, "student": options.student, "sha256": file_sha256(options.out), "parameters": sum(t.numel() for t in tensors.values()),
        "teachers": [{"name": t.source.name, "sha256": t.source.weights_sha256, "channels": t.channels} for t in teachers],
        "data": {"name": data.name, "fingerprint": data.fingerprint, "photos": sum(e.split == "train" for e in data.examples)},
        "settings": _settings(options), "init": earlier,
        "foretold": curve[-1]["foretold"], "curve": curve, "minutes": round(spent / 60, 1),
        "device": device_name(next(trunk.parameters()).device), "threads": torch.get_num_threads(), "torch": torch.__version__,
        "python": platform.python_version(),
    }  # fmt: skip
    with atomic_write(options.out.with_suffix(".json")) as file:
        file.write(json.dumps(card, indent=1) + "\n")
    _state_path(options).unlink(missing_ok=True)


if __name__ == "__main__":
    run_command(main)
