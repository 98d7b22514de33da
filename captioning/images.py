"""Open any photograph a user may have: upright, RGB, 8 bit, and never more memory than the picture deserves.

`open_image(source)` turns by EXIF, takes the first frame, lays alpha on white, scales 16-bit, converts CMYK, decodes large files small and refuses
decompression bombs. Whatever is wrong becomes one BadInput that names the file.
"""

import math
import os
import warnings
from collections.abc import Iterator
from io import BytesIO
from pathlib import Path
from typing import BinaryIO

import numpy as np
from PIL import Image

from captioning.bad_input import BadInput

LIMIT_PIXELS = 250_000_000
AT_MOST = 1024
LARGEST = 16_000_000  # pixels of an opened picture whose sides are very unequal
STRIP_PIXELS = 4_000_000  # converted at a time

# Pillow refuses an image above twice this number, so its own limit equals ours, in every thread and for good: nothing is switched around a call.
# Its warnings (at half of the limit, about odd EXIF entries) would reach users as noise about photographs that open.
Image.MAX_IMAGE_PIXELS = LIMIT_PIXELS // 2
warnings.filterwarnings("ignore", category=Image.DecompressionBombWarning)
warnings.filterwarnings("ignore", category=UserWarning, module=r"PIL\.")

# Not all that Pillow knows: EPS would start Ghostscript on a stranger's file, TGA and a few others take noise for a picture.
FORMATS = ("JPEG", "PNG", "GIF", "WEBP", "BMP", "TIFF", "PPM", "MPO", "AVIF", "JPEG2000", "ICO", "DIB", "PCX", "SGI", "QOI", "ICNS", "HEIF")
HEIC_BRANDS = (b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"mif1", b"msf1")
ORIENTATION = 0x0112
TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}


def open_image(source: str | Path | bytes | BinaryIO, *, at_most: int = AT_MOST, name: str | None = None) -> Image.Image:
    """The picture in `source` (a path, the file's bytes or an open binary file) as an upright RGB image, loaded.

    A picture whose longer side is at least twice `at_most` pixels comes back smaller, its longer side still at least `at_most` (a panorama less so:
    its shorter side counts too); a smaller picture comes back as it is. `name` is what messages call the source. Raises BadInput for a source that is
    missing, a folder, empty, cut short, no image, or larger than LIMIT_PIXELS.
    """
    if isinstance(source, str | Path):
        name = name or str(source)
        with _open_file(Path(source), name) as file:
            return _decode(file, at_most, name)
    if isinstance(source, bytes):
        return _decode(BytesIO(source), at_most, name or "image")
    return _decode(source, at_most, name or str(getattr(source, "name", "image")))


def to_upright_rgb(image: Image.Image, *, at_most: int = AT_MOST) -> Image.Image:
    """An image that Pillow has opened already, by the same rules as a file: turned by EXIF, alpha on white, 16 bits scaled."""
    turn = TURNS.get(_orientation(image))
    small = _to_small_rgb(image, at_most)
    return small if turn is None else small.transpose(turn)


def _open_file(path: Path, name: str) -> BinaryIO:
    try:
        if path.is_dir():
            raise BadInput(f"{name}: is a folder; give the image files in it")
        return open(path, "rb")
    except FileNotFoundError as error:
        raise BadInput(f"{name}: no such image file; check the path") from error
    except (OSError, ValueError) as error:
        raise BadInput(f"{name}: cannot be read ({error}); check the path and its permissions") from error


def _decode(file: BinaryIO, at_most: int, name: str) -> Image.Image:
    head = file.read(16)
    if not head:
        raise BadInput(f"{name}: the file is empty; copy or download it again")
    file.seek(0)
    try:
        # Some plugins register only on demand, and HEIF only where the user has one.
        if not Image.OPEN.keys() >= {"SGI", "QOI"}:
            Image.init()
        with Image.open(file, formats=[f for f in FORMATS if f in Image.OPEN]) as image:
            if image.width * image.height > LIMIT_PIXELS:
                raise _bomb(name)
            # libjpeg decodes at 1/2, 1/4 or 1/8 at a fraction of time and memory; a no-op for other formats and smaller pictures.
            factor = _shrink_factor(image.size, at_most)
            image.draft(None, tuple(-(-side // factor) for side in image.size))
            image.load()
            return to_upright_rgb(image, at_most=at_most)
    except BadInput:
        raise
    except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
        raise _bomb(name) from error
    except Image.UnidentifiedImageError as error:
        raise BadInput(_not_an_image(name, head)) from error
    except Exception as error:
        # For a damaged file Pillow's decoders raise nearly anything (OSError, SyntaxError, struct.error, zlib.error, IndexError, ...).
        reason = " ".join(str(error).split()) or type(error).__name__
        raise BadInput(
            f"{name}: broken or cut short, it cannot be decoded ({reason}); copy or download it again, or leave it out"
        ) from error


def _bomb(name: str) -> BadInput:
    return BadInput(f"{name}: more than {LIMIT_PIXELS // 10**6} million pixels, refused as a decompression bomb; scale it down first")


def _not_an_image(name: str, head: bytes) -> str:
    if head[4:8] == b"ftyp" and head[8:12] in HEIC_BRANDS:
        return (
            f"{name}: HEIC is not supported; convert it first, for instance with `heif-convert photo.heic photo.jpg`, or export it as JPEG"
        )
    if head.startswith((b"%!PS", b"\xc5\xd0\xd3\xc6", b"%PDF")):
        return f"{name}: PostScript and PDF are not opened; export it as JPEG or PNG"
    return f"{name}: not an image that can be read; give a JPEG, PNG, GIF, WebP, TIFF, BMP or AVIF file"


def _orientation(image: Image.Image) -> int:
    try:
        return image.getexif().get(ORIENTATION, 1)
    except Exception:
        # A damaged EXIF block is common in old photographs and no reason to refuse the picture; it is taken as upright.
        return 1


def _shrink_factor(size: tuple[int, int], at_most: int) -> int:
    """The whole number to divide both sides by. The longer side keeps `at_most`; a panorama's shorter one a quarter of it, as long as LARGEST permits."""
    most = max(1, max(size) // at_most)
    gentle = max(1, min(size) * 4 // at_most)
    bounded = math.ceil(math.sqrt(size[0] * size[1] / LARGEST))
    return min(most, max(gentle, bounded))


def _to_small_rgb(image: Image.Image, at_most: int) -> Image.Image:
    """RGB at 1/factor of the size, the longer side still `at_most`; strip by strip, so that only the decoded picture itself is ever held whole."""
    factor = _shrink_factor(image.size, at_most)
    low, high = _sample_range(image)
    small = Image.new("RGB", tuple(-(-side // factor) for side in image.size))
    for top, strip in _strips(image, factor):
        rgb = _to_rgb(strip, low, high)
        small.paste(rgb.reduce(factor) if factor > 1 else rgb, (0, top // factor))
    return small


def _strips(image: Image.Image, factor: int) -> Iterator[tuple[int, Image.Image]]:
    rows = max(1, STRIP_PIXELS // (image.width * factor)) * factor
    if rows >= image.height:
        yield 0, image
        return
    for top in range(0, image.height, rows):
        yield top, image.crop((0, top, image.width, min(top + rows, image.height)))


def _sample_range(image: Image.Image) -> tuple[float, float]:
    """The values that become black and white in a picture of more than 8 bits a sample."""
    if image.mode.startswith("I;16"):
        return 0, 65535
    if image.mode not in ("I", "F"):
        return 0, 255
    # Wide integers and floats do not say their range: the smallest usual one that holds all values, else the values' own.
    low, high = image.getextrema()
    usual = (1.0, 255, 65535) if image.mode == "F" else (255, 65535)
    return next(((0, top) for top in usual if low >= 0 and high <= top), (low, high))


def _to_rgb(image: Image.Image, low: float, high: float) -> Image.Image:
    if image.mode.startswith("I;16") or image.mode in ("I", "F"):
        values = np.nan_to_num(np.asarray(image, dtype=np.float32))
        scaled = (values - low) * (255 / (high - low) if high > low else 0)
        return Image.fromarray(np.rint(np.clip(scaled, 0, 255)).astype(np.uint8)).convert("RGB")
    image = image.convert({"La": "LA", "RGBa": "RGBA"}.get(image.mode, image.mode))  # un-multiplied: all that Pillow converts them to
    if image.has_transparency_data:
        rgba = image.convert("RGBA")
        white = Image.new("RGBA", image.size, "white")
        return Image.alpha_composite(white, rgba).convert("RGB")
    return image if image.mode == "RGB" else image.convert("RGB")


def read_range(descriptor: int, offset: int, size: int, name: str) -> bytes:
    """`size` bytes from `offset` of an open file, without moving its position: safe in threads and after a fork. Raises BadInput when it ends before."""
    parts, done = [], 0
    while done < size:
        part = os.pread(descriptor, size - done, offset + done)
        if not part:
            raise BadInput(f"{name}: the file ends {size - done} bytes too early; copy or download it again")
        parts.append(part)
        done += len(part)
    return b"".join(parts)
