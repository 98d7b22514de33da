"""Training captions as ids, and the order in which an epoch shows them: a function of seed and epoch alone, so a resumed run sees the same."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from captioning.config import RunConfig
from captioning.vocabulary import END, PAD, START


class Batch(NamedTuple):
    """Whole images or single captions. images (U,): examples' indices, each once; image_of (N,): place in `images` of each caption;

    words (N,T+1) from the start token on, PAD behind the end token; lengths (N,): words to predict, end token included.
    """

    images: np.ndarray
    image_of: np.ndarray
    words: np.ndarray
    lengths: np.ndarray

    def part(self, places: np.ndarray) -> "Batch":
        """The images at these places, with all their captions in this batch."""
        rows = np.flatnonzero(np.isin(self.image_of, places))
        renumber = np.full(len(self.images), -1)
        renumber[places] = np.arange(len(places))
        lengths = self.lengths[rows]
        return Batch(self.images[places], renumber[self.image_of[rows]], self.words[rows, : lengths.max(initial=0) + 1], lengths)


class CaptionIds:
    """All captions of some examples as one flat array of ids: COCO's 567,000 training captions take 30 MB."""

    def __init__(self, captions_of: Sequence[Sequence[str]], images: Sequence[int], vocabulary, max_words: int):
        """captions_of[i]: the captions of example images[i], as the vocabulary's `captions_of` gives them. vocabulary: Vocabulary or Subwords.

        Longer ones are cut to max_words of its ids; `cut` counts them.
        """
        ids, lengths, owner = [], [], []
        self.cut = 0
        for image, captions in zip(images, captions_of, strict=True):
            for caption in captions:
                words = vocabulary.encode(caption)
                self.cut += len(words) > max_words
                words = words[:max_words]
                ids.extend((*words, END))
                lengths.append(len(words) + 1)
                owner.append(image)
        self.ids = np.array(ids, dtype=np.int32)
        self.lengths = np.array(lengths, dtype=np.int64)
        self.image = np.array(owner, dtype=np.int64)
        self.first = np.concatenate([[0], np.cumsum(self.lengths)[:-1]]).astype(np.int64)

    def __len__(self) -> int:
        return len(self.lengths)

    def collate(self, chosen: np.ndarray) -> Batch:
        """chosen (N,): captions by index, in this order."""
        images, image_of = np.unique(self.image[chosen], return_inverse=True)
        lengths = self.lengths[chosen]
        words = np.full((len(chosen), int(lengths.max(initial=0)) + 1), PAD, dtype=np.int64)
        words[:, 0] = START
        for row, caption in enumerate(chosen):
            first, n = self.first[caption], self.lengths[caption]
            words[row, 1 : n + 1] = self.ids[first : first + n]
        return Batch(images, image_of, words, lengths)


def pad_with_end(batch: Batch) -> Batch:
    """The batch as the published `prefix` system has it: captions without an end token of their own, the shorter ones filled up with end tokens to
    the longest. All have its length, and the loss counts every fill: the longest alone learns no end."""
    longest = max(batch.lengths.max(initial=0) - 1, 1)  # of captions without any word one end stays, else there would be nothing to learn
    words = np.where(batch.words == PAD, END, batch.words)[:, : longest + 1]
    return batch._replace(words=words, lengths=np.full_like(batch.lengths, longest))


def epoch_batches(captions: CaptionIds, config: RunConfig, epoch: int) -> list[np.ndarray]:
    """The epoch's batches as arrays of caption indices; batch_size counts captions.

    batching "images": as many whole images as fit (at least one). "captions": single shuffled captions, the paper's way.
    "one": every image once, in random order, with one of its captions drawn anew.
    """
    random = np.random.default_rng([config.seed, epoch])
    if config.batching == "captions":
        order = random.permutation(len(captions))
        return [order[i : i + config.batch_size] for i in range(0, len(order), config.batch_size)]
    # Captions of an image lie side by side, so an image is a run of indices.
    firsts = np.flatnonzero(np.diff(captions.image, prepend=-1))
    if config.batching == "one":
        drawn = firsts + random.integers(np.diff(firsts, append=len(captions)))
        order = random.permutation(drawn)
        return [order[i : i + config.batch_size] for i in range(0, len(order), config.batch_size)]
    runs = np.split(np.arange(len(captions)), firsts[1:])
    batches: list[list[np.ndarray]] = [[]]
    count = 0
    for place in random.permutation(len(runs)):
        if count and count + len(runs[place]) > config.batch_size:
            batches.append([])
            count = 0
        batches[-1].append(runs[place])
        count += len(runs[place])
    return [np.concatenate(batch) for batch in batches]
