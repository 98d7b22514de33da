"""The work that is timed: real captions (the committed references of Flickr8k's val and test images) at the size of COCO's vocabulary."""

import functools
import gzip
import json
from pathlib import Path

from captioning.vocabulary import Vocabulary

V = 9_490  # words of COCO as the published code counts them, with the four special ones
MAX_WORDS = 50
EVIDENCE = Path(__file__).resolve().parents[2] / "results/evidence/flickr8k/captions"


@functools.cache
def references() -> list[list[str]]:
    """Five captions of each of 2,000 images."""
    (path,) = EVIDENCE.glob("references-*.jsonl.gz")
    with gzip.open(path, "rt", encoding="utf-8") as file:
        return [json.loads(line)["tokens"] for line in file]


@functools.cache
def vocabulary() -> Vocabulary:
    """V words: those of the references, the most frequent first, and as many that are never said as are missing."""
    found = Vocabulary.build((caption for several in references() for caption in several), 1).words[:V]
    return Vocabulary((*found, *(f"unused-{i}" for i in range(V - len(found)))))
