"""The checkpoints that the web demo offers: each by a name that a reader knows it by."""

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from captioning.bad_input import BadInput
from captioning.caption_output import HASH_DIGITS
from captioning.checkpoint_list import lacks_encoder
from captioning.config import LANGUAGE


@dataclass(frozen=True)
class Offer:
    """A checkpoint folder and what the demo has to know before it is loaded.

    label: row, data set and `bleu4`, the validation BLEU-4 (free, greedy; 0 where unknown). samples: a language model writes the words, so they can be
    drawn. model: the first digits of its weights' SHA-256. version: changes when the folder's files do.
    """

    path: Path
    label: str
    data: str
    bleu4: float
    samples: bool
    model: str
    version: int


def offers(folders: Sequence[Path]) -> list[Offer]:
    """In the order given; a folder whose config.json cannot be read is left out. Equal labels get their folder's name."""
    found = []
    for folder in folders:
        try:
            file = folder / "config.json"
            description = json.loads(file.read_text(encoding="utf-8"))
            config, data = description["config"], str(description["data"]["name"])
            if description["encoder"]["kind"] == "file":  # its Python file has to be named, and run
                continue
            bleu4 = float((description.get("scores") or {}).get("val_bleu4_free", 0))
            model, version = description["model_sha256"][:HASH_DIGITS], file.stat().st_mtime_ns
            found.append(Offer(folder, _label(config, data, bleu4), data, bleu4, config.get("system") in LANGUAGE, model, version))
        except (OSError, ValueError, KeyError, TypeError, AttributeError):
            continue
    often = Counter(offer.label for offer in found)
    return [offer if often[offer.label] == 1 else replace(offer, label=f"{offer.label} · {offer.path.name}") for offer in found]


def _label(config: Mapping, data: str, bleu4: float) -> str:
    name = str(config["name"]) + (f", seed {config['seed']}" if config.get("seed") else "")
    return " · ".join([name, data] + ([f"BLEU-4 {bleu4:.1f}"] if bleu4 else []))


def offers_in(place: Path) -> list[Offer]:
    """Those of a folder of checkpoints (or of the one that it is), the best on validation first. Raises BadInput."""
    return sorted(offers(_folders_in(place)), key=lambda offer: -offer.bleu4)


def _folders_in(place: Path) -> list[Path]:
    if (place / "config.json").is_file():
        return [place]
    if not place.is_dir():
        raise BadInput(f"--checkpoints {place}: no such folder; give a checkpoint, or a folder of checkpoints")
    return sorted(file.parent for file in place.glob("*/config.json"))


def load_here(folder: Path, weights: str = "pretrained"):
    """The Captioner of a folder, from what lies on this machine: nothing is fetched. Raises BadInput."""
    from captioning.captioner import load_captioner

    if weights == "pretrained" and lacks_encoder(folder):
        raise BadInput(
            f"{folder.name}: its encoder's weights are not on this machine; fetch them once with: python caption.py --checkpoint {folder} "
            "--download --img PHOTO, or start the demo with -- --weights DIR"
        )
    return load_captioner(folder, weights=weights)
