"""A model's words and losses on a split: free captions for each image, teacher-forced ones for each reference. No Java, no pycocoevalcap.

Training selects checkpoints with it; the predictions that a finished run saves come from the same two functions.
"""

from collections.abc import Iterable, Sequence
from typing import NamedTuple

import numpy as np
import torch

from captioning.bad_input import BadInput
from captioning.batches import CaptionIds
from captioning.bleu import nltk_bleu, nltk_rows
from captioning.config import Decode, main_beam_of
from captioning.decoding import Hypothesis, search, seeded
from captioning.ngrams import count_corpus
from captioning.vocabulary import END, Vocabulary

IMAGES_AT_ONCE = 50


class ForcedCaption(NamedTuple):
    """One reference under teacher forcing: the likeliest word at each of its n places (end token included), and sums over its places.

    top5: how many targets were among the five likeliest. cross_entropy in nats. penalty: the attention penalty, unweighted. Under teacher forcing
    subwords are no words: words and top5 are None.
    """

    words: list[str] | None
    n: int
    top5: int | None
    cross_entropy: float
    penalty: float


class Predicted(NamedTuple):
    """One image: its best caption under each way of decoding, from the model's own words; its references under teacher forcing."""

    image: int
    free: list[Hypothesis]
    forced: list[ForcedCaption]


def predict(
    model, captions: CaptionIds, inputs, images: Sequence[int], decodes: Sequence[Decode], vocabulary, device, attend: bool = False
) -> Iterable[Predicted]:
    """For each image, in order, what the model says of it; it is read and encoded once for all. Only in eval mode.

    vocabulary: Vocabulary or Subwords. attend: the captions of the main beam come with their attention.
    """
    rows_of: dict[int, list[int]] = {}
    for row, image in enumerate(captions.image.tolist()):
        rows_of.setdefault(image, []).append(row)
    for first in range(0, len(images), IMAGES_AT_ONCE):
        yield from _predict(model, captions, inputs, images[first : first + IMAGES_AT_ONCE], decodes, vocabulary, device, attend, rows_of)


@torch.inference_mode()
def _predict(model, captions, inputs, images, decodes, vocabulary, device, attend, rows_of) -> list[Predicted]:
    """In halves where memory runs out."""
    try:
        with seeded(images[0], device):  # a killed run goes on at any group of images
            regions = model.encode(inputs.get(np.asarray(images)).to(device))
            main = int(main_beam_of(decode.beam for decode in decodes))
            free = [search(model.decoder, regions, decode, attend=attend and decode.beam == main) for decode in decodes]
            batch = captions.collate(np.concatenate([rows_of[i] for i in images]))
            # The batch holds its images in ascending order.
            places = torch.from_numpy(np.argsort(np.asarray(images), kind="stable")).to(device)
            words, lengths, image_of = (torch.from_numpy(a).to(device) for a in (batch.words, batch.lengths, batch.image_of))
            scored = model.score_captions(regions, words, lengths, places[image_of])
    except torch.OutOfMemoryError:
        if len(images) == 1:
            raise BadInput("out of memory with one image; choose a smaller --image-size, model or beam") from None
    else:
        fields = (
            scored.predicted.tolist(),
            batch.lengths.tolist(),
            scored.top5.tolist(),
            scored.cross_entropy.tolist(),
            scored.penalty.tolist(),
        )
        worded = vocabulary.has_words
        rows = iter(
            [
                ForcedCaption(vocabulary.decode(said[:n]) if worded else None, n, t if worded else None, ce, penalty)
                for said, n, t, ce, penalty in zip(*fields, strict=True)
            ]
        )
        best = [[found[0] for found in way] for way in free]
        return [Predicted(i, [way[k] for way in best], [next(rows) for _ in rows_of[i]]) for k, i in enumerate(images)]
    torch.cuda.empty_cache()
    middle = len(images) // 2
    halves = (images[:middle], images[middle:])
    return [one for half in halves for one in _predict(model, captions, inputs, half, decodes, vocabulary, device, attend, rows_of)]


def known_words(caption: str, vocabulary: Vocabulary, max_words: int) -> list[str]:
    """A reference as the published protocol sees it: cut, unknown words as <unk>, the end token kept."""
    return [vocabulary.words[i] for i in vocabulary.encode(caption)[:max_words]] + [vocabulary.words[END]]


def validate(model, data, captions: CaptionIds, inputs, vocabulary, max_words: int, device, accelerator) -> dict:
    """One line of the curve: losses and top-5 under teacher forcing, BLEU-4 (times 100) of greedy captions and of the forced words.

    Subwords have no top-5 and no forced words: those keys are left out.
    """
    indices = data.split("val")
    mine = indices[accelerator.process_index :: accelerator.num_processes]
    training = model.training
    model.eval()
    rows = []
    for image, (free,), forced in predict(model, captions, inputs, mine, [Decode(beam=1, max_words=max_words)], vocabulary, device):
        rows.append((image, vocabulary.tokens(free.words), [tuple(f) for f in forced]))
    model.train(training)
    if accelerator.num_processes > 1:
        from accelerate.utils import gather_object

        rows = sorted(gather_object(rows))
    references = [[c.split() for c in data.examples[i].captions] for i, _, _ in rows]
    forced = [(row, ForcedCaption(*f)) for row, (_, _, fs) in enumerate(rows) for f in fs]
    places = sum(f.n for _, f in forced)
    losses = {
        "val_cross_entropy": sum(f.cross_entropy for _, f in forced) / places,
        "val_penalty": sum(f.penalty for _, f in forced) / len(forced),
    }
    free = {"val_bleu4_free": bleu4([said for _, said, _ in rows], references)}
    if not vocabulary.has_words:
        return losses | free
    known = [[known_words(c, vocabulary, max_words) for c in data.examples[i].captions] for i, _, _ in rows]
    published = bleu4([f.words for _, f in forced], known, [row for row, _ in forced])
    return losses | {"val_top5": 100 * sum(f.top5 for _, f in forced) / places} | free | {"val_bleu4_published": published}


def bleu4(candidates: list[list[str]], references: list[list[list[str]]], image_of: Sequence[int] | None = None) -> float:
    """NLTK's corpus BLEU-4, times 100. image_of: the row of references of each candidate (default: in order)."""
    return 100 * float(nltk_bleu(nltk_rows(count_corpus(candidates, references, image_of)).sum(axis=0))[3])
