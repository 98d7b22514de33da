"""Splits for captions that come without them: each image's split follows from its own name, so that adding images moves no other.

`make_splits(path, names, shares)`. Rule: an image's number is the first 64 bits of sha256(seed, a zero byte, its name as the captions file gives it) as a
fraction; the shares cut [0, 1) into one stretch for each split, in their order, and the number says which. A split that would stay empty gets one image of
the largest split, the one whose number lies nearest to the middle of its stretch. So a set of three images has all three splits, and only such a stand-in
can move when images are added: back to where its number belongs, as soon as the split has images of its own.
"""

import hashlib
from collections.abc import Mapping, Sequence
from pathlib import Path

from captioning.bad_input import BadInput

SEED = 0
ALL_THREE = {"train": 0.8, "val": 0.1, "test": 0.1}


def make_splits(path: Path, names: Sequence[str], shares: Mapping[str, float] = ALL_THREE, seed: int = SEED) -> list[str]:
    """The split of each of `names`, by the module's rule. Raises BadInput, in the name of the captions file `path`, for fewer images than splits."""
    if len(names) < len(shares):
        raise BadInput(
            f"{path}: too few images ({len(names)}) for the splits {', '.join(shares)}; give at least {len(shares)} with captions"
        )
    numbers = [_number(name, seed) for name in names]
    stretches = _stretches(shares)
    splits = [next(split for split, (_, end) in stretches.items() if number < end) for number in numbers]
    for split, (start, end) in stretches.items():
        if split not in splits:
            largest = max(shares, key=splits.count)
            middle = (start + end) / 2
            stand_in = min((i for i, own in enumerate(splits) if own == largest), key=lambda i: (abs(numbers[i] - middle), names[i]))
            splits[stand_in] = split
    return splits


def describe_rule(shares: Mapping[str, float] = ALL_THREE, seed: int = SEED) -> str:
    """For records: what `make_splits` does with these arguments."""
    return f"made by sha256 of image name, seed {seed}, {'/'.join(f'{100 * share:.0f}' for share in shares.values())}"


def _number(name: str, seed: int) -> float:
    digest = hashlib.sha256(f"{seed}\0{name}".encode(errors="surrogateescape")).digest()
    # 53 of the 64 bits fit a float; dropping the others keeps the number below 1.
    return (int.from_bytes(digest[:8], "big") >> 11) / 2**53


def _stretches(shares: Mapping[str, float]) -> dict[str, tuple[float, float]]:
    stretches, start = {}, 0.0
    for split, share in shares.items():
        stretches[split] = (start, start + share)
        start += share
    stretches[split] = (stretches[split][0], 1.0)  # sums of tenths end a little beside 1
    return stretches
