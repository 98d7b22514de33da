"""Which published number stands beside which run and quantity: benchmarks/published/beside.json, looked up for the tables of a profile. No torch."""

import json
from collections.abc import Sequence
from pathlib import Path

from captioning.published import FOLDER, Number, load_numbers, load_scale
from reports.tables import Published

SUBSETS = {"coco": ("mini-coco",)}  # data sets that are parts of another


class Beside:
    """The published numbers that a profile's tables show: those of its own data set, and the paper's and its parts'. `profile` is its name."""

    def __init__(self, profile: str, content: dict[str, dict[str, tuple[Number, ...]]] | None = None):
        self.profile = profile
        self.content = load_beside() if content is None else content
        paper = load_scale()["data"]
        self.data_sets = tuple(dict.fromkeys((profile, paper, *SUBSETS.get(paper, ()))))

    def data_sets_of(self, runs: Sequence[str], quantity: str, protocol: str, split: str) -> list[str]:
        """The data sets, as their authors write them, on which a number of any of these runs was published; the profile's own first."""
        found = [number for run in runs for number in self._numbers(run, quantity, protocol, split)]
        names = dict.fromkeys(number.data_set for number in found)
        return sorted(names, key=lambda name: self.data_sets.index(name.lower()))

    def heading(self, data_set: str) -> str:
        return "published" if data_set.lower() == self.profile else f"published, {data_set}"

    def cell(self, run: str, quantity: str, protocol: str, split: str, data_set: str) -> Published | str:
        """The number that stands beside a run's, or an empty text where nobody published one."""
        found = (number for number in self._numbers(run, quantity, protocol, split) if number.data_set == data_set)
        number = next(found, None)
        return "" if number is None else Published(number.as_scored, f"{number.as_scored:g}", number.mark, about(number))

    def _numbers(self, run: str, quantity: str, protocol: str, split: str) -> list[Number]:
        numbers = self.content.get(run, {}).get(f"{quantity} at {protocol}", ())
        return [n for n in numbers if n.data_set.lower() in self.data_sets and ("test" in n.split) == (split == "test")]


def about(number: Number) -> str:
    """A published number's footnote: whose, on what, how scored, where it was read, and its note."""
    beam = "" if number.beam is None else f", beam {number.beam}"
    split = "split not known" if number.split == "not known" else number.split
    protocol = "protocol not known" if number.protocol == "not known" else f"protocol {number.protocol}"
    written = "" if number.as_scored == number.value else f", written {number.value:g} ({number.unit})"
    first = f"{number.mark.capitalize()}: {number.model}; {number.data_set}, {split}, {protocol}{beam}{written}; {number.source}."
    return f"{first} {number.note}".strip()


def load_beside(path: str | Path = FOLDER / "beside.json") -> dict[str, dict[str, tuple[Number, ...]]]:
    """Run name -> "QUANTITY at PROTOCOL" -> its published numbers. ValueError names the entry that is wrong: an id that is not in numbers.json, or whose
    quantity or protocol is another than the entry says."""
    content = json.loads(Path(path).read_text(encoding="utf-8"))
    if content.get("schema") != 1:
        raise ValueError(f"{Path(path).name}: field 'schema' is not 1")
    numbers = {number.id: number for number in load_numbers()}
    return {
        run: {key: tuple(_check(numbers, one, f"{run}, {key}") for one in ids) for key, ids in entries.items()}
        for run, entries in content["beside"].items()
    }


def _check(numbers: dict[str, Number], wanted: str, where: str) -> Number:
    if wanted not in numbers:
        raise ValueError(f"beside.json, {where}: {wanted!r} is no published number")
    number = numbers[wanted]
    quantity, _, protocol = where.partition(", ")[2].partition(" at ")
    if number.quantity != quantity or number.protocol not in (protocol, "not known"):
        raise ValueError(f"beside.json, {where}: {wanted!r} is {number.quantity} at {number.protocol}")
    return number
