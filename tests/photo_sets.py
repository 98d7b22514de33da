"""Small photo sets in Karpathy's layout, made in a test's own folder."""

import json
from pathlib import Path

import numpy as np
from PIL import Image

SPLITS = ("train", "restval", "train", "val", "test", "train", "val", "test")


def picture(number: int, size: tuple[int, int] = (40, 30)) -> Image.Image:
    """A smooth picture of its own for each number."""
    coarse = np.random.default_rng(number).integers(0, 256, (4, 5, 3), dtype=np.uint8)
    return Image.fromarray(coarse).resize(size, Image.Resampling.BICUBIC)


def rows(count: int = 8, folder: str | None = None) -> list[dict]:
    """images[] of a Karpathy JSON; with `folder`, as COCO's with filepath and cocoid."""
    made = []
    for i in range(count):
        words = [["a", "dog", "runs"], ["two", "dogs", "run", str(i)]]
        sentences = [{"tokens": w, "raw": " ".join(w).capitalize() + ".", "imgid": i, "sentid": 2 * i + j} for j, w in enumerate(words)]
        row = {"filename": f"photo-{i}.jpg", "imgid": i, "split": SPLITS[i % len(SPLITS)], "sentences": sentences}
        if folder:
            row |= {"filepath": folder, "cocoid": 1000 + i}
        made.append(row)
    return made


def write_json(root: Path, images: list[dict], name: str = "dataset_small.json") -> Path:
    root.mkdir(parents=True, exist_ok=True)
    path = root / name
    path.write_text(json.dumps({"images": images, "dataset": "small"}))
    return path


def make_set(root: Path, count: int = 8, images: str = "images", folder: str | None = None) -> Path:
    """A whole set: the JSON in `root`, JPEGs in root/`images` (and there in `folder`, where given)."""
    write_json(root, rows(count, folder))
    place = root / images / (folder or "")
    place.mkdir(parents=True, exist_ok=True)
    for i in range(count):
        picture(i).save(place / f"photo-{i}.jpg", quality=90)
    return root
