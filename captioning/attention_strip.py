"""The word-by-word attention strip: the photo with its caption, then for each word the photo lit where the model looked. NumPy and Pillow only.

`draw_strip` makes the picture that `caption.py --attention F.png` writes; `draw_tiles` the words' photos alone. `save_strips` and `load_strips` hold the layout
of results/<profile>/attention/<run_id>.npz: arrays image_<k> (H, W, 3) uint8, attention_<k> (T, h, w) float16, and `meta`, a JSON list with one object
per image: id, words (T of them), references, and whatever else the writer knows.

Each word is scaled to its own strongest region, so an even attention shows an evenly lit photo. The figure under a word keeps what that scaling hides:
how many times an even share the strongest region holds.
"""

import functools
import importlib.util
import json
import zipfile
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from captioning.atomic import atomic_write
from captioning.bad_input import BadInput

TILE = 168  # longer side of a word's tile in pixels
GAP = 14
COLUMNS = 6
PAPER, INK, QUIET = (255, 255, 255), (31, 35, 40), (89, 96, 105)


def draw_strip(image: Image.Image, words: list[str], attention: np.ndarray | None = None, title: str = "") -> Image.Image:
    """The whole strip on white: left the photo with its caption (and `title`, small, above it), right one tile per word in rows of six.

    image: what the encoder saw, in its own aspect (cropped if the encoder's input was). attention: (T, h, w), at least 0, one map per word; further maps
    (the end token's) are passed over. None, for a model without attention, draws the photo and the caption alone. ValueError when maps are missing.
    """
    check_attention(words, attention)
    if attention is None:
        return arrange_strip(image, words, [], [], title)
    attention = attention[: len(words)]
    return arrange_strip(image, words, draw_tiles(image, attention), [concentration(each) for each in attention], title)


def draw_tiles(image: Image.Image, attention: np.ndarray, side: int = TILE) -> list[Image.Image]:
    """For each map (h, w) of attention (T, h, w): `image` at `side` pixels on its longer side, dim and cold where the map is low, warm and lit where high."""
    photo = _fit(image, side)
    pixels = np.asarray(photo, dtype=np.float32)  # (H, W, 3)
    grey = pixels @ np.float32([0.299, 0.587, 0.114])
    dim = 0.30 * grey[..., None] + np.float32([8, 14, 38])
    warm = np.float32([255, 150, 30]) - pixels
    tiles = []
    for weights in np.asarray(attention, dtype=np.float32):
        weights = weights / max(float(weights.max()), 1e-12)
        lit = np.asarray(Image.fromarray(weights).resize(photo.size, Image.Resampling.BICUBIC)).clip(0, 1)[..., None]  # (H, W, 1)
        mixed = dim + lit * (pixels - dim + 0.14 * lit * warm)
        tiles.append(Image.fromarray(mixed.clip(0, 255).astype(np.uint8)))
    return tiles


def arrange_strip(image: Image.Image, words: list[str], tiles: list[Image.Image], shares: list[float], title: str = "") -> Image.Image:
    """Photo, caption and the words' tiles (all of one size; none for a model without attention) on one sheet; `shares` are their `concentration`s."""
    photo = _fit(image, 2 * TILE + GAP)
    room = max(photo.width, TILE)  # a caption needs some, however narrow the photo
    name, text, small = _font(17), _font(15), _font(12)
    caption = _wrap(" ".join(words) or "(no words)", text, room)
    heading = _wrap(title, small, room) if title else []

    label = 44  # a word and its figure
    width, height = (max(tiles[0].width, TILE // 2), tiles[0].height) if tiles else (0, 0)
    columns = min(COLUMNS, len(tiles))
    rows = -(-len(tiles) // COLUMNS)
    left = 18 * len(heading) + (6 if heading else 0) + photo.height + 12 + 22 * len(caption)
    right = rows * (height + label) + (rows - 1) * GAP if tiles else 0
    sheet = (room + 2 * GAP + (columns * (width + GAP) + GAP if tiles else 0), max(left, right) + 2 * GAP)
    strip = Image.new("RGB", sheet, PAPER)
    pen = ImageDraw.Draw(strip)

    y = GAP
    for line in heading:
        pen.text((GAP, y), line, font=small, fill=QUIET)
        y += 18
    y += 6 if heading else 0
    strip.paste(photo, (GAP, y))
    y += photo.height + 12
    for line in caption:
        pen.text((GAP, y), line, font=text, fill=INK)
        y += 22

    for index, tile in enumerate(tiles):
        row, column = divmod(index, COLUMNS)
        x, y = room + 3 * GAP + column * (width + GAP), GAP + row * (height + label + GAP)
        strip.paste(tile, (x, y))
        pen.text((x, y + height + 5), _shorten(words[index], name, width), font=name, fill=INK)
        pen.text((x, y + height + 27), f"{index + 1} · {shares[index]:.1f}× even", font=small, fill=QUIET)
    return strip


def concentration(attention: np.ndarray) -> float:
    """How many times an even share the strongest region of one map (h, w) holds: 1 is even, h*w is all on one region."""
    weights = np.asarray(attention, dtype=np.float64)
    return float(weights.max() * weights.size / max(weights.sum(), 1e-12))


def check_attention(words: list[str], attention: np.ndarray | None) -> None:
    if attention is None:
        return
    if attention.ndim != 3 or len(attention) < len(words) or not np.isfinite(attention).all() or (attention < 0).any():
        raise ValueError(
            f"attention of shape {attention.shape} for {len(words)} words: one finite map (h, w), at least 0, per word is needed"
        )


def save_strips(path: str | Path, images: list[np.ndarray], attention: list[np.ndarray], meta: list[dict]) -> None:
    """Write the images (H, W, 3) uint8, their words' attention (T, h, w) and what is known of them, by rename; equal input gives equal bytes."""
    arrays = {"meta": np.array(json.dumps(meta, ensure_ascii=False))}
    for k, (image, maps, about) in enumerate(zip(images, attention, meta, strict=True)):
        check_attention(about["words"], maps)
        arrays[f"image_{k}"] = np.asarray(image, dtype=np.uint8)
        arrays[f"attention_{k}"] = np.asarray(maps, dtype=np.float16)
    with atomic_write(path, "wb") as file:
        np.savez_compressed(file, **arrays)


def load_strips(path: str | Path) -> list[tuple[Image.Image, np.ndarray, dict]]:
    """The stored (photo, attention (T, h, w) float32, meta) of a run. BadInput for a file that is damaged or laid out otherwise."""
    path = Path(path)
    try:
        with np.load(path, allow_pickle=False) as stored:
            meta = json.loads(str(stored["meta"]))
            strips = [(Image.fromarray(stored[f"image_{k}"]), stored[f"attention_{k}"].astype(np.float32), m) for k, m in enumerate(meta)]
        for _, maps, about in strips:
            check_attention(about["words"], maps)
            if not all(isinstance(word, str) for word in [about["id"], *about["words"], *about["references"]]):
                raise ValueError("id, words and references are texts")
    except FileNotFoundError:
        raise BadInput(f"attention strips {path}: no such file") from None
    except (OSError, ValueError, KeyError, TypeError, EOFError, zipfile.BadZipFile) as error:
        raise BadInput(f"attention strips {path}: damaged or of another layout ({error}); run again to remake them") from None
    return strips


def _fit(image: Image.Image, side: int) -> Image.Image:
    """RGB at `side` pixels on the longer side, scaled up too: a demo scene is smaller than a tile."""
    scale = side / max(image.size)
    size = tuple(max(1, round(length * scale)) for length in image.size)
    return image.convert("RGB").resize(size, Image.Resampling.LANCZOS)


@functools.lru_cache
def _font(size: int) -> ImageFont.ImageFont | ImageFont.FreeTypeFont:
    """DejaVu Sans as matplotlib brings it (Latin, Greek, Cyrillic), found without importing matplotlib; else Pillow's own Latin font."""
    spec = importlib.util.find_spec("matplotlib")
    file = Path(spec.origin).parent / "mpl-data/fonts/ttf/DejaVuSans.ttf" if spec and spec.origin else None
    return ImageFont.truetype(str(file), size) if file and file.exists() else ImageFont.load_default(size)


def _wrap(text: str, font, width: int) -> list[str]:
    """Lines of at most `width` pixels; a word that is wider alone is cut."""
    lines = [""]
    for word in text.split():
        longer = f"{lines[-1]} {word}".strip()
        if font.getlength(longer) <= width:
            lines[-1] = longer
        elif lines[-1]:
            lines.append(_shorten(word, font, width))
        else:
            lines[-1] = _shorten(word, font, width)
    return lines


def _shorten(word: str, font, width: int) -> str:
    word = " ".join(word.split())[:200]
    if font.getlength(word) <= width:
        return word
    while word and font.getlength(word + "…") > width:
        word = word[:-1]
    return word + "…"
