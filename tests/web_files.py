"""Photos, and two checkpoints that nobody has trained, for tests of the web demo."""

import io
import struct
import zlib
from pathlib import Path

import torch
from PIL import Image

from captioning.checkpoint import save_checkpoint
from captioning.config import RunConfig
from captioning.vocabulary import Vocabulary
from models import build_model
from tests.tiny import SETTINGS, make_data


def make_demo(folder: Path) -> Path:
    """folder/data/images: PNG files. folder/checkpoints: `looks` with attention, `draws` with a language model."""
    make_data(folder / "data")
    words = Vocabulary.build(["a red square on the left", "one green thing at the right side", "there is a blue or a white one"], 1)
    language = {"system": "sep", "layers": 1, "heads": 2, "width": 32, "penalty_weight": 0.0, "tokenizer": ""}
    for name, score, changes in (("looks", 40.0, {}), ("draws", 12.5, language)):
        config = RunConfig(**SETTINGS | changes | {"name": name})
        torch.manual_seed(3)
        facts = {"run_id": f"{name}-0-abc", "data": {"name": "tiny", "fingerprint": "f"}, "epoch": 1, "scores": {"val_bleu4_free": score}}
        save_checkpoint(folder / "checkpoints" / name, build_model(config, len(words)), config, words, facts)
    return folder


def file_of(picture: Image.Image, format: str = "PNG", **more) -> bytes:
    file = io.BytesIO()
    picture.save(file, format, **more)
    return file.getvalue()


def claims(width: int, height: int) -> bytes:
    """A PNG that is a header only: it says how large it is and holds nothing."""
    header = b"IHDR" + struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return (
        b"\x89PNG\r\n\x1a\n"
        + struct.pack(">I", 13)
        + header
        + struct.pack(">I", zlib.crc32(header))
        + struct.pack(">I", 0)
        + b"IDAT"
        + b"5\xaf\x06\x1e"
    )
