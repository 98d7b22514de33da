"""The training captions of a data set as hashes: enough to tell whether a caption was copied from them, without keeping what they say.

captions/training-<data>.txt.gz lies beside the references of a results folder (results/README.md): the first 16 digits of the sha256 of each different
training caption in its normal form, one a line, sorted. Both texts of a caption count, the data set's own tokens and what was written: systems of words
learn the one, systems of subwords the other.
"""

import gzip
import hashlib
import io
import re
import zlib
from collections.abc import Iterable
from pathlib import Path

from captioning.atomic import atomic_write
from captioning.bad_input import BadInput
from captioning.noun_phrases import tokenize

DIGITS = 16  # by chance two of 567,000 captions share them once in a hundred million data sets
_LINES = re.compile(rb"(?:[0-9a-f]{%d}\n)*" % DIGITS)


def normal_form(caption: str) -> str:
    """A caption's words in lower case with a space between: equal for captions that differ in case and punctuation only."""
    return " ".join(tokenize(caption))


def caption_hash(caption: str) -> str:
    """Equal for captions of equal normal form."""
    return hashlib.sha256(normal_form(caption).encode()).hexdigest()[:DIGITS]


def training_beside(references: Path) -> Path:
    """Where the training captions of a references file's data set lie, if they were saved."""
    return references.with_name(references.name.removesuffix(".jsonl.gz").replace("references", "training", 1) + ".txt.gz")


def write_training(path: Path, captions: Iterable[str]) -> None:
    """Equal captions in any order give equal bytes."""
    lines = "".join(f"{digits}\n" for digits in sorted(set(map(caption_hash, captions))))
    buffer = io.BytesIO()
    with gzip.GzipFile(fileobj=buffer, mode="wb", mtime=0, filename="") as packed:
        packed.write(lines.encode())
    with atomic_write(path, "wb") as file:
        file.write(buffer.getbuffer())


def read_training(path: Path) -> frozenset[str]:
    """The hashes. BadInput that names the file."""
    try:
        text = gzip.decompress(path.read_bytes())
    except (OSError, EOFError, zlib.error) as error:  # BadGzipFile is an OSError
        raise BadInput(f"{path}: cannot be read ({error}); delete it, and the next run makes it again") from None
    if not _LINES.fullmatch(text):
        raise BadInput(f"{path}: not a hash of {DIGITS} digits on each line; delete it, and the next run makes it again")
    return frozenset(text.decode().split())
