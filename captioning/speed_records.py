"""Records of benchmarks/speed.py: {"schema", "rows": [...]}, a row per measurement (results/README.md lays it out). No torch."""

import json
import math
import statistics
from collections.abc import Iterator
from pathlib import Path

from captioning.bad_input import BadInput

SCHEMA = 1


def read_speeds(path: Path) -> dict[str, dict]:
    """The rows of a record by name, none where there is no file. Raises BadInput for a file that is no record."""
    try:
        record = json.loads(path.read_text(encoding="utf-8"))
        return {row["name"]: row for row in record["rows"]}
    except FileNotFoundError:
        return {}
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise BadInput(f"{path}: no record of speeds ({error}); remove it, or name another file by --json") from None


def check_speeds(rows: dict[str, dict]) -> Iterator[str]:
    """What does not follow from a row's own turns: its value is their median, each turn the ratio of two times, lines fit their points, both sides said
    the same captions, and the target is the bench's own, judged on the value."""
    from benchmarks.speed import ROWS, target_of
    from benchmarks.speeds.growth import fit

    for name, row in rows.items():
        if name not in ROWS:
            yield f"speed {name}: no row of benchmarks/speed.py"
        elif "not_measured" not in row:
            value, target = statistics.median(row["values"]), None if row["quick"] else target_of(name, row["where"]["device"])
            stated = {"value": row["value"], "target": row["target"], "met": row["met"]}
            found = {"value": value, "target": str(target) if target else None, "met": target.met(value) if target else None}
            if "slope" in row:
                line = fit(row["sizes"], row["best_seconds"])
                stated |= {"slope": row["slope"], "start": row["start"], "values": row["values"]}
                found |= {"slope": line.slope, "start": line.start, "values": [line.residual]}
            if "same_captions" in row:
                stated, found = stated | {"same_captions": row["same_captions"]}, found | {"same_captions": 1}
            yield from (
                f"speed {name}: {what}: stated {stated[what]}, found {found[what]}"
                for what in stated
                if not _same(stated[what], found[what])
            )
            yield from _check_turns(name, row)


def _check_turns(name: str, row: dict) -> Iterator[str]:
    ours, peer = row["seconds"], row["seconds_of_peer"]
    if "over ours" in row["unit"] and not peer:
        yield f"speed {name}: seconds_of_peer: none, yet it is a ratio"
    if peer:
        # Which of the two is above, and the work that each did, are the same in all turns.
        above = [v * a / b for v, a, b in zip(row["values"], ours, peer, strict=True)]
        below = [v * b / a for v, a, b in zip(row["values"], ours, peer, strict=True)]
        if not any(max(turns) <= min(turns) * (1 + 1e-9) for turns in (above, below)):
            yield f"speed {name}: values: stated {row['values']}, which are no ratios of its seconds"


def _same(a, b) -> bool:
    if isinstance(a, list):
        return len(a) == len(b) and all(map(_same, a, b))
    if isinstance(a, float) and isinstance(b, (float, int)):
        return math.isclose(a, b, rel_tol=1e-6, abs_tol=1e-9)
    return a == b
