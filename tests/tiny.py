"""A data set of a few coloured squares in Karpathy's layout, and settings with which a run on it takes a second."""

import json
from pathlib import Path

from PIL import Image

COLOURS = {"red": (220, 40, 40), "green": (40, 180, 60), "blue": (40, 60, 220), "white": (240, 240, 240)}
PLACES = ("left", "right")
SETTINGS = {
    "name": "tiny", "encoder": "resnet10t", "pretrained": False, "image_size": 64, "embed_dim": 16, "attention_dim": 16, "hidden_dim": 32,
    "minimum_count": 1, "batch_size": 10, "epochs": 3, "decoder_lr": 5e-3, "max_words": 12,
}  # fmt: skip


def make_data(folder: Path, train: int = 8, val: int = 3, test: int = 3, captions: int = 2) -> Path:
    """Squares of four colours, left or right, `captions` different captions each (uneven: every third image has one more)."""
    (folder / "images").mkdir(parents=True, exist_ok=True)
    images = []
    splits = ["train"] * train + ["val"] * val + ["test"] * test
    for number, split in enumerate(splits):
        colour, place = list(COLOURS)[number % 4], PLACES[number // 4 % 2]
        picture = Image.new("RGB", (64, 48), (20 + 3 * number, 20, 20))
        picture.paste(COLOURS[colour], (4 if place == "left" else 36, 12, 28 if place == "left" else 60, 36))
        name = f"{split}{number:03d}.png"
        picture.save(folder / "images" / name)
        texts = [f"a {colour} square on the {place}", f"there is one {colour} square", f"{colour} thing at the {place} side"]
        sentences = [{"raw": t.capitalize() + ".", "tokens": t.split()} for t in texts[: captions + (number % 3 == 0)]]
        images.append({"filename": name, "imgid": number, "split": split, "sentences": sentences})
    (folder / "dataset_tiny.json").write_text(json.dumps({"dataset": "tiny", "images": images}))
    return folder


def flags(**changes) -> list[str]:
    """SETTINGS with changes as train.py's options."""
    line = []
    for name, value in {**SETTINGS, **changes}.items():
        option = name.replace("_", "-")
        if isinstance(value, bool):
            line.append(f"--{option}" if value else f"--no-{option}")
        else:
            line += [f"--{option}", *(map(str, value) if isinstance(value, tuple) else [str(value)])]
    return line
