"""The pointing game on drawn scenes: when the model says a noun, does its attention lie on a thing of that noun?

    point(scene, words, attention)              # one caption's nouns: hit, mass inside, chance
    pointing_of_split(model, data, ...)         # per image, what a predictions file keeps (field `pointing`)
    score_saved(predictions, "val")             # from that file alone: {"forced": SCORES, "free": SCORES}

Under teacher forcing on the references: the attention with which a noun was *predicted*, not the one after it was read. Hit: its strongest place,
upsampled to the picture, lies on any thing that the noun names (the game of arXiv:1608.00507, but no margin of 15 pixels around a thing, and the mean
is over nouns, not over classes). Mass: how much of the attention lies there. Chance is those things' share of the picture: what even attention gets of
both. It is no ceiling of the blind: things stand nearer the middle, and attention fixed there gets about twice chance (a test measures it). Free captions
are scored apart, for there a model chooses its nouns. Needs numpy; torch only where a model runs.
"""

import functools
import gzip
import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from captioning.bad_input import BadInput
from captioning.config import main_beam_of
from captioning.protocols import Scored
from captioning.scene_grammar import NOUNS
from captioning.scenes import SIDE, Scene, noun_masks
from captioning.statistics import DRAWS, Statistic

TOOL = "pointing-1"  # raised by hand when code here moves a score
CAPTIONS = ("forced", "free")  # the references under teacher forcing; the model's own captions
NAMES = ("pointing", "mass", "chance", "ratio")
BY_GRADIENTS = 50  # images of a split: a map made of gradients costs a pass through the encoder and back for every noun
TIE = 1e-6  # relative; nearer than this two places differ by float32's rounding alone


class Pointing(NamedTuple):
    """One noun of one caption. hit, mass, share: 0 to 1; hit lies between where several places of the attention are strongest alike."""

    noun: str
    hit: float
    mass: float
    share: float


def has_scenes(data) -> bool:
    """Whether the images of a CaptionData come with their truth: the pointing game is played on no other data."""
    return hasattr(data.images, "scenes")


def point(scene: Scene, words: Sequence[str], attention: np.ndarray) -> list[Pointing]:
    """The caption's nouns that stand in the scene, in the order said. attention (T,h,w): for each of T words the map that predicted it, summing to 1."""
    attention = np.asarray(attention, dtype=float)
    if attention.ndim != 3 or len(attention) != len(words) or not (abs(attention.sum((1, 2)) - 1) <= 1e-3).all():
        raise ValueError(f"attention of shape {attention.shape} for {len(words)} words: one map (h, w) that sums to 1 is needed per word")
    found = []
    for word, weights in zip(words, attention, strict=True):
        mask = noun_masks(scene, word) if word in NOUNS else None
        if mask is not None and mask.any():
            found.append(Pointing(word, hit_share(weights, mask), mass_inside(weights, mask), float(mask.mean())))
    return found


def absent_nouns(scene: Scene, words: Sequence[str]) -> list[str]:
    """Nouns said of things that are not in the scene: there is nothing to point at, so they take no part in the game."""
    return [word for word in words if word in NOUNS and not noun_masks(scene, word).any()]


def hit_share(weights: np.ndarray, mask: np.ndarray) -> float:
    """1 where the strongest pixel of weights (h,w), upsampled, lies in mask (64,64), else 0.

    Of several that are strongest alike, the share inside: what choosing one of them by lot would hit, so that even attention gets exactly chance.
    """
    fine = upsample(weights)
    return float(mask[fine >= fine.max() * (1 - TIE)].mean())


def mass_inside(weights: np.ndarray, mask: np.ndarray) -> float:
    """How much of weights (h,w) lies in mask (64,64), each region's weight spread evenly over its cell.

    Not over the bilinear map: upsampling keeps no sums (a region at the edge would count for more than its weight), and a region does not say where
    in its cell it looks. So even perfect attention stays below 1 where a thing does not fill its cells.
    """
    h, w = weights.shape
    inside = _cells(h) @ mask @ _cells(w).T  # (h, w): how much of each cell the mask covers
    return float((weights * inside).sum())


def upsample(weights: np.ndarray) -> np.ndarray:
    """(h,w) -> (64,64), bilinear: a region's weight stands at the middle of its cell and goes on flat from the outermost ones to the edge.

    The rule of torch's `interpolate(mode="bilinear", align_corners=False)`.
    """
    h, w = weights.shape
    return _bilinear(h) @ weights @ _bilinear(w).T


@functools.cache
def _bilinear(cells: int) -> np.ndarray:
    """(64, cells): each pixel's weights on the cells' middles, by the distance of its own middle."""
    place = np.clip((np.arange(SIDE) + 0.5) * cells / SIDE - 0.5, 0, cells - 1)
    return np.maximum(0, 1 - np.abs(place[:, None] - np.arange(cells)))


@functools.cache
def _cells(cells: int) -> np.ndarray:
    """(cells, 64): which part of each cell every pixel is. A pixel that two cells share counts in both by its parts."""
    size, pixel = SIDE / cells, np.arange(SIDE)
    first = np.arange(cells)[:, None] * size
    return np.clip(np.minimum(first + size, pixel + 1) - np.maximum(first, pixel), 0, None) / size


def pointing_of_split(model, data, captions, inputs, images: Sequence[int], said: Sequence, vocabulary, device) -> Iterable[dict]:
    """For each image, in order, {"forced": [[noun, hit, mass, share], ...], "free": the same, "absent": [noun, ...]}: plain JSON, six digits.

    said: each image's caption with its attention (captioning.decoding.Hypothesis). forced: the nouns of all its references; free: those of its caption
    that stand in the scene; absent: those that do not. captions: the CaptionIds of these images' references; inputs: as
    `captioning.inputs.open_inputs` gives them. Only in eval mode. Of hard attention it is the distribution over regions that counts, not a location
    drawn from it; torch's random state is left as it was found.
    """
    from captioning.validation import IMAGES_AT_ONCE

    rows_of: dict[int, list[int]] = {}
    for row, image in enumerate(captions.image.tolist()):
        rows_of.setdefault(image, []).append(row)
    for first in range(0, len(images), IMAGES_AT_ONCE):
        group = slice(first, first + IMAGES_AT_ONCE)
        forced = iter(_forced_maps(model, captions, inputs, images[group], rows_of, vocabulary, device))
        for image, caption in zip(images[group], said[group], strict=True):
            scene = data.images.scenes[image]
            of_references = [one for _ in rows_of[image] for one in point(scene, *next(forced))]
            words = vocabulary.decode(caption.words)
            # A caption without a word has no attention.
            maps = _as_maps(caption.attention, model.encoder.grid) if words else np.zeros((0, *model.encoder.grid))
            yield {
                "forced": [_rounded(one) for one in of_references],
                "free": [_rounded(one) for one in point(scene, words, maps)],
                "absent": absent_nouns(scene, words),
            }


def _forced_maps(model, captions, inputs, images, rows_of, vocabulary, device) -> list[tuple[list[str], np.ndarray]]:
    """Of each image's references the words, as the vocabulary knows them and without the end token, and the attention (T,h,w) that predicted them.

    In halves where memory runs out.
    """
    import torch

    from captioning.decoding import seeded

    batch = captions.collate(np.concatenate([rows_of[i] for i in images]))
    # The batch holds its images in ascending order.
    places = torch.from_numpy(np.argsort(np.asarray(images), kind="stable")).to(device)
    words, lengths, image_of = (torch.from_numpy(a).to(device) for a in (batch.words, batch.lengths, batch.image_of))
    try:
        # Hard attention may draw locations; the predictions made besides must not depend on whether this ran, nor on where a killed run went on.
        with torch.inference_mode(), seeded(images[0], torch.device(device)):
            regions = model.encode(inputs.get(np.asarray(images)).to(device))  # (B, R, D)
            forced = model.decoder.forced(regions, words, lengths, places[image_of], attend=True)
    except torch.OutOfMemoryError:
        if len(images) == 1:
            raise BadInput("out of memory with one image; choose a smaller --image-size or model") from None
    else:
        maps = np.zeros((len(words), int(batch.lengths.max()), *model.encoder.grid), dtype=np.float32)  # (N, T, h, w)
        maps[forced.caption.cpu().numpy(), forced.position.cpu().numpy()] = _as_maps(forced.attention, model.encoder.grid)
        known = [vocabulary.decode(ids[1:n]) for ids, n in zip(batch.words, batch.lengths, strict=True)]
        return [(one, maps[row, : len(one)]) for row, one in enumerate(known)]
    torch.cuda.empty_cache()
    middle = len(images) // 2
    halves = (images[:middle], images[middle:])
    return [one for half in halves for one in _forced_maps(model, captions, inputs, half, rows_of, vocabulary, device)]


def _as_maps(attention, grid: Sequence[int]) -> np.ndarray:
    """attention (T,R) -> (T,h,w)."""
    return attention.float().cpu().numpy().reshape(-1, *grid)


def pointing_by_gradients(model, data, captions, pixels, images: Sequence[int], said: Sequence, vocabulary, device) -> Iterable[dict]:
    """As `pointing_of_split` where a system's image tokens have no place, with maps made of gradients (captioning.saliency).

    Of the references only each image's first is played. pixels: as `captioning.inputs.Pixels` gives them.
    """
    from captioning.batches import END
    from captioning.saliency import gradient_maps
    from captioning.validation import IMAGES_AT_ONCE

    first_row: dict[int, int] = {}
    for row, image in enumerate(captions.image.tolist()):
        first_row.setdefault(image, row)
    for first in range(0, len(images), IMAGES_AT_ONCE):
        group = images[first : first + IMAGES_AT_ONCE]
        seen = pixels.get(np.asarray(group)).to(device)
        own = [caption.words for caption in said[first : first + IMAGES_AT_ONCE]]
        asked = []
        for k, image in enumerate(group):
            batch = captions.collate(np.array([first_row[image]]))
            reference = [w for w in batch.words[0, 1 : batch.lengths[0] + 1].tolist() if w != END]
            for ids in (reference, own[k]):
                words = vocabulary.decode(ids)
                asked.append((k, ids, [t for t, word in enumerate(words) if word in NOUNS]))
        maps = iter(gradient_maps(model, seen, asked))
        for k, image in enumerate(group):
            scene = data.images.scenes[image]
            found = []
            for _, ids, places in asked[2 * k : 2 * k + 2]:
                nouns = vocabulary.decode([ids[t] for t in places])
                found.append([_rounded(one) for one in point(scene, nouns, next(maps))])
            yield {"forced": found[0], "free": found[1], "absent": absent_nouns(scene, vocabulary.decode(own[k]))}


def _rounded(one: Pointing) -> list:
    return [one.noun, *(round(value, 6) for value in one[1:])]


def pointing_statistics(nouns: Sequence[Sequence[Sequence]]) -> Statistic:
    """Percent of all nouns: pointing, mass, chance; and ratio, pointing in times chance. nouns: per image its [noun, hit, mass, share] rows.

    Sums over images, so that images are what is resampled: the nouns of one image say much the same.
    """
    rows = np.array([[*(sum(noun[k] for noun in image) for k in (1, 2, 3)), len(image)] for image in nouns], dtype=float)

    def finish(sums: np.ndarray) -> np.ndarray:
        hits, mass, share, count = np.moveaxis(sums, -1, 0)
        n = np.maximum(count, 1)
        return np.stack([100 * hits / n, 100 * mass / n, 100 * share / n, hits / np.where(share == 0, 1, share)], axis=-1)

    return Statistic(NAMES, rows, finish)


def measure_pointing(entries: Mapping[str, Mapping], captions: str = "forced", split: str = "?", beam: int | str = "?") -> Scored:
    """entries: image id -> what `pointing_of_split` gave. Two systems on the same images: `captioning.protocols.compare(a, b)`."""
    if captions not in CAPTIONS:
        raise ValueError(f"captions {captions!r}: choose one of {', '.join(CAPTIONS)}")
    beam = "teacher-forced" if captions == "forced" else beam
    signature = f"pointing-{captions}|split:{split}|beam:{beam}|argmax:bilinear,ties-shared|mass:even-cells|v:{TOOL}"
    nouns = [entry[captions] for entry in entries.values()]
    if not any(nouns):
        reason = "no caption names a thing that is in its scene"
        return Scored(f"pointing-{captions}", signature, tuple(entries), (), dict.fromkeys(NAMES, reason))
    return Scored(f"pointing-{captions}", signature, tuple(entries), (pointing_statistics(nouns),))


def score_pointing(
    entries: Mapping[str, Mapping], captions: str = "forced", split: str = "?", beam: int | str = "?", draws: int = DRAWS
) -> dict:
    """A scores object as records keep them (results/README.md), and `n_nouns`, how many were scored; for free captions also `n_absent`."""
    scores = measure_pointing(entries, captions, split, beam).to_json(draws)
    scores["n_nouns"] = sum(len(entry[captions]) for entry in entries.values())
    if captions == "free":
        scores["n_absent"] = sum(len(entry["absent"]) for entry in entries.values())
    return scores


def score_saved(predictions: str | Path, split: str, draws: int = DRAWS) -> dict[str, dict] | None:
    """{"forced": SCORES, "free": SCORES} of one split from a run's predictions; None where they hold no `pointing` (no scenes, or made before it came).

    Of a system whose maps are made of gradients only the first images of a split (BY_GRADIENTS) have it.
    The free captions are those of the main beam. For a file that `captioning.protocols.score_predictions` has read: that says what is damaged.
    """
    with gzip.open(predictions, "rt", encoding="utf-8", newline="\n") as file:
        header, *lines = [json.loads(line) for line in file]
    lines = [line for line in lines if line["split"] == split]
    entries = {line["id"]: line["pointing"] for line in lines if "pointing" in line}
    if not entries:
        return None
    return {captions: score_pointing(entries, captions, split, int(main_beam_of(header["beams"])), draws) for captions in CAPTIONS}
