"""Which checkpoints are at hand, and which one is used when nobody names one."""

import json
from pathlib import Path

from captioning.bad_input import BadInput

ROOT = Path(__file__).resolve().parents[1]


def find_checkpoints(weights: str = "pretrained") -> list[Path]:
    """Folders that hold a checkpoint, the one to use first.

    Those that ship come before the reader's own under results/ and trained/, the better before the worse: by the largest data set, then validation BLEU-4
    (free, greedy); ties go to the newest. Last come those that only name an encoder which is not on this machine. weights: where else it may lie.
    """
    return sorted(by_worth(), key=lambda folder: lacks_encoder(folder, weights))  # a stable sort


def by_worth() -> list[Path]:
    """The same wherever their encoders are: nothing is imported for it."""
    shipped = [p.parent for p in ROOT.glob("checkpoints/*/config.json")]
    own = [p.parent for pattern in ("results/*/checkpoints/*", "trained/*") for p in ROOT.glob(f"{pattern}/config.json")]
    return [*sorted(shipped, key=_worth, reverse=True), *sorted(own, key=_worth, reverse=True)]


def default_checkpoint(weights: str = "pretrained", download: bool = False) -> tuple[Path, Path | None]:
    """(the checkpoint to use, a better one whose encoder would have to be fetched). download: that one is used. Raises BadInput."""
    folders = find_checkpoints(weights)
    if not folders:
        raise BadInput(
            "no checkpoint yet; make one with: python benchmarks/run_all.py, or python train.py --data DIR, or name one: --checkpoint DIR"
        )
    shipped = [folder for folder in folders if folder.parent == ROOT / "checkpoints"]
    best = max(shipped or folders, key=_worth)
    if download or lacks_encoder(folders[0], weights):
        return best, None
    return folders[0], best if lacks_encoder(best, weights) and _worth(best) > _worth(folders[0]) else None


def lacks_encoder(folder: Path, weights: str = "pretrained") -> bool:
    """Whether a checkpoint only names its encoder and that is not on this machine. False for what cannot be read: using it says what is wrong."""
    try:
        description = json.loads((folder / "config.json").read_text(encoding="utf-8"))
        encoder, pretrained = description["encoder"], description["config"].get("pretrained", True)
        if encoder["stored"] or encoder["kind"] == "file":
            return False
        tag = encoder["tag"]
        if not isinstance(tag, str) or not tag:
            return False
    except (OSError, ValueError, LookupError, TypeError, AttributeError, RecursionError):
        return False
    from captioning.trunks import weights_are_here

    return pretrained and not weights_are_here(tag, weights)


def _worth(folder: Path) -> tuple:
    try:
        description = json.loads((folder / "config.json").read_text(encoding="utf-8"))
        data = description["data"]["name"]
        order = ("demo", "flickr8k", "flickr30k", "coco")
        rank = order.index(data) if data in order else 0.5
        score = float(description["scores"]["val_bleu4_free"])
        return rank, max(-1.0, score), (folder / "config.json").stat().st_mtime  # max: NaN has no order
    except (OSError, ValueError, LookupError, TypeError, OverflowError, RecursionError):
        return -1, 0.0, 0.0  # a folder half written is never the default while a whole one is there
