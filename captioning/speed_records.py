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
    """What does not follow from a row's own turns: its value is their median, each turn the ratio of two times, its target judged on the value."""
    for name, row in rows.items():
        if "not_measured" in row:
            continue
        value = statistics.median(row["values"])
        if not math.isclose(value, row["value"], rel_tol=1e-9):
            yield f"speed {name}: value: stated {row['value']}, found {value}"
        ours, peer = row["seconds"], row["seconds_of_peer"]
        if peer:
            # Which of the two is above, and the work that each did, are the same in all turns.
            above = [v * a / b for v, a, b in zip(row["values"], ours, peer, strict=True)]
            below = [v * b / a for v, a, b in zip(row["values"], ours, peer, strict=True)]
            if not any(max(turns) <= min(turns) * (1 + 1e-9) for turns in (above, below)):
                yield f"speed {name}: values: stated {row['values']}, which are no ratios of its seconds"
        if row["target"] is not None:
            kind, bound = row["target"].rsplit(" ", 1)
            met = value >= float(bound) if kind == "at least" else value <= float(bound)
            if met != row["met"]:
                yield f"speed {name}: met: stated {row['met']}, found {met}"
