"""The first difference between what a file states and what was made again, in words: contents of JSON files, texts of tables."""

import csv
import math
from collections.abc import Iterator
from itertools import zip_longest

TOLERANCE = 1e-9  # relative: what another processor's order of adding may change


def first_difference(stated: object, found: object, place: str = "") -> str | None:
    """Where two contents of a JSON file first differ and by what, or None. Numbers may differ by a billionth of their size."""
    if isinstance(stated, dict) and isinstance(found, dict):
        for key in [*found, *(key for key in stated if key not in found)]:
            below = f"{place} {key}".lstrip()
            if key not in stated or key not in found:
                what = (
                    f"not there, recomputed {_short_value(found[key])}"
                    if key in found
                    else f"stated {_short_value(stated[key])}, not known here"
                )
                return f"{below}: {what}"
            difference = first_difference(stated[key], found[key], below)
            if difference:
                return difference
        return None
    if isinstance(stated, list) and isinstance(found, list) and len(stated) == len(found):
        pairs = enumerate(zip(stated, found, strict=True))
        return next((text for k, pair in pairs if (text := first_difference(*pair, f"{place}[{k}]"))), None)
    if _is_number(stated) and _is_number(found):
        equal = math.isclose(stated, found, rel_tol=TOLERANCE, abs_tol=TOLERANCE**2)
    else:
        equal = type(stated) is type(found) and stated == found
    return None if equal else f"{place}: stated {_short_value(stated)}, recomputed {_short_value(found)}"


def _short_value(value: object) -> str:
    return _short(value) if isinstance(value, str) else repr(value)[:200]


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def table_difference(name: str, stated: str | None, found: str | None) -> Iterator[str]:
    """What differs between the texts of a table's file beside the page and built again; None where there is none. Numbers of a CSV may differ as above."""
    if stated is None or found is None:
        yield "not beside the page" if stated is None else "beside the page, but the records do not give it"
        return
    is_csv = name.endswith(".csv")
    for number, (theirs, ours) in enumerate(zip_longest(stated.split("\n"), found.split("\n")), start=1):
        if theirs != ours and not (is_csv and theirs and ours and _same_cells(theirs, ours)):
            yield f"line {number}: {_cell_difference(theirs, ours, found) if is_csv and theirs and ours else _two(theirs, ours)}"
            return


def _same_cells(stated: str, found: str) -> bool:
    """Whether two lines of a CSV file differ by no more than rounding; where quotes or spaces differ they are not the same."""
    theirs, ours = (line.split(",") for line in (stated, found))
    return len(theirs) == len(ours) and all(a == b or _close(a, b) for a, b in zip(theirs, ours, strict=True))


def _close(stated: str, found: str) -> bool:
    try:
        return math.isclose(float(stated), float(found), rel_tol=TOLERANCE, abs_tol=TOLERANCE**2) and "." in stated and "." in found
    except ValueError:
        return False


def _cell_difference(stated: str, found: str, table: str) -> str:
    """The first cell by which two lines of a CSV file differ, with its column's name."""
    try:
        columns, theirs, ours = (next(csv.reader([line])) for line in (table.split("\n")[0], stated, found))
    except csv.Error:  # somebody changed it so that it is none
        return _two(stated, found)
    if not len(columns) == len(theirs) == len(ours):
        return _two(stated, found)
    different = [(column, a, b) for column, a, b in zip(columns, theirs, ours, strict=True) if a != b]
    column, a, b = different[0] if different else ("quotes", stated, found)
    return f"{ours[0]}, {column}: {_two(a, b)}"


def _two(stated: str | None, found: str | None) -> str:
    return f"stated {_short(stated)}, built again {_short(found)}"


def _short(text: str | None) -> str:
    return repr(text) if text is None or len(text) <= 200 else repr(text[:200]) + "..."
