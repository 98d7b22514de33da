"""A photo as someone uploads it: how large it may be, and what is kept of it.

`Upload` holds the file's bytes and the name it came with, `open_upload` makes the upright picture of it. Size and format are read from the file's header,
so a file that claims too many pixels is refused before one is decoded. What comes out is pixels only: no location, no camera, no comment.
"""

import hashlib
from dataclasses import dataclass, field
from io import BytesIO

from PIL import Image

from captioning.bad_input import BadInput
from captioning.images import FORMATS, open_image

LIMIT_MB = 20  # .streamlit/config.toml has it too: there the upload itself ends
LIMIT_MEGAPIXELS = 50
MOST_FILES = 100  # at once
MOST_MB = 200  # at once


@dataclass(frozen=True)
class Upload:
    """name: as it came, for people to read, never a path to open. data: the file's bytes. digest: their SHA-256 in hex."""

    name: str
    data: bytes = field(repr=False)
    digest: str = ""

    def __post_init__(self):
        object.__setattr__(self, "digest", hashlib.sha256(self.data).hexdigest())


def open_upload(upload: Upload, at_most: int = 1024) -> Image.Image:
    """The picture, upright RGB, as `captioning.images.open_image` gives it. Raises BadInput for what is too large, broken or no picture."""
    megabytes = len(upload.data) / 2**20
    if megabytes > LIMIT_MB:
        raise BadInput(f"{upload.name}: {megabytes:.0f} MB, at most {LIMIT_MB} MB are taken; save it smaller")
    width, height = _stated_size(upload.data)
    if width * height > LIMIT_MEGAPIXELS * 10**6:
        raise BadInput(
            f"{upload.name}: {width} x {height} are {width * height / 10**6:.0f} megapixels, at most {LIMIT_MEGAPIXELS} are taken; scale it down first"
        )
    return open_image(upload.data, at_most=at_most, name=upload.name)


def check_together(sizes: list[int]) -> None:
    """sizes: bytes of each file of one upload. Raises BadInput for more than one page keeps in memory."""
    if len(sizes) > MOST_FILES:
        raise BadInput(
            f"{len(sizes)} photos: at most {MOST_FILES} are taken at once; give fewer, or caption a folder with: python caption.py --img FOLDER"
        )
    if sum(sizes) > MOST_MB * 2**20:
        raise BadInput(
            f"{sum(sizes) / 2**20:.0f} MB of photos: at most {MOST_MB} MB are taken at once; give fewer, or caption a folder with: "
            "python caption.py --img FOLDER"
        )


def _stated_size(data: bytes) -> tuple[int, int]:
    """(width, height) that the header claims; (0, 0) where there is none to read, which `open_image` then puts into words."""
    if not Image.OPEN.keys() >= {"SGI", "QOI"}:  # as in captioning.images: some plugins register on demand
        Image.init()
    try:
        with Image.open(BytesIO(data), formats=[f for f in FORMATS if f in Image.OPEN]) as image:
            return image.size
    except Exception:  # Pillow's plugins raise nearly anything for a damaged header
        return 0, 0
