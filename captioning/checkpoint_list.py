"""Which checkpoints are at hand, and which one is used when nobody names one."""

import json
from pathlib import Path

from captioning.bad_input import BadInput

ROOT = Path(__file__).resolve().parents[1]


def find_checkpoints() -> list[Path]:
    """Folders that hold a checkpoint, the best first: those that ship, then the reader's own under results/ and trained/."""
    shipped = [p.parent for p in ROOT.glob("checkpoints/*/config.json")]
    own = [p.parent for pattern in ("results/*/checkpoints/*", "trained/*") for p in ROOT.glob(f"{pattern}/config.json")]
    return [*sorted(shipped, key=_worth, reverse=True), *sorted(own, key=_worth, reverse=True)]


def default_checkpoint() -> Path:
    """A checkpoint that ships, else the one with the best validation BLEU-4 (free, greedy) on the largest data set; ties go to the newest."""
    folders = find_checkpoints()
    if not folders:
        raise BadInput(
            "no checkpoint yet; make one with: python benchmarks/run_all.py, or python train.py --data DIR, or name one: --checkpoint DIR"
        )
    return folders[0]


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
