"""Over a set of captions: how many have each kind of error, what causes them, how rich the words are, what is copied, what the lexicon knows.

A share is of captions, in percent, with a 95 % bootstrap interval over images; two systems are compared on the same images (paired). Ties in any ranking go
by the alphabet, so equal inputs give equal lists.
"""

from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from captioning.error_rules import Error
from captioning.noun_phrases import STOPS, UNKNOWN, read_caption
from captioning.object_words import load_lexicon
from captioning.statistics import DRAWS, Statistic, interval, resample
from captioning.training_captions import caption_hash, normal_form

LONGEST_GROUP = 5  # words between an article and what must be its noun


Errors = Mapping[str, Sequence[Error]]  # of each image's caption


@dataclass(frozen=True, slots=True, eq=False)
class Rate:
    """Percent of the captions that have a kind of error: the value, and (draws,) values over resampled images."""

    value: float
    drawn: np.ndarray

    def ends(self) -> tuple[float, float]:
        """The 95 % interval."""
        return interval(self.drawn)

    def minus(self, other: "Rate") -> "Rate":
        """The paired difference in points: both resampled with the same images."""
        return Rate(self.value - other.value, self.drawn - other.drawn)


def mean_rate(several: Sequence[Rate]) -> Rate:
    """The mean of shares that were resampled with the same images."""
    return Rate(sum(rate.value for rate in several) / len(several), sum(rate.drawn for rate in several) / len(several))


def rates(systems: Sequence[Errors], kinds: Sequence[str], draws: int = DRAWS) -> list[dict[str, Rate]]:
    """Per system kind -> Rate, all resampled together. ValueError unless all have the same images, one at least."""
    images = list(systems[0])
    if not images or any(errors.keys() != systems[0].keys() for errors in systems):
        raise ValueError("only captions of the same images can be compared, of one image at least")
    has = [[any(error.kind == kind for error in errors[image]) for image in images] for errors in systems for kind in kinds]
    # One statistic of all: its rows are 0 or 1 per system and kind, its values their means.
    rows = np.array(has, dtype=float).reshape(len(systems) * len(kinds), len(images)).T
    names = tuple(map(str, range(rows.shape[1])))
    statistic = Statistic(names, rows, lambda sums: 100 * sums / len(images))
    values, drawn = statistic.values(), resample([statistic], draws)
    made = [Rate(values[name], drawn[name]) for name in names]
    return [dict(zip(kinds, made[k * len(kinds) :], strict=False)) for k in range(len(systems))]


def causes(errors: Errors, kind: str, most: int = 5) -> list[tuple[str, int]]:
    """The words that most captions have this error by, with how many captions."""
    counts = Counter(word for found in errors.values() for word in {error.word for error in found if error.kind == kind})
    return sorted(counts.items(), key=lambda pair: (-pair[1], pair[0]))[:most]


def confusions(errors: Errors, most: int = 10) -> list[tuple[str, str, int]]:
    """(said, in the references, captions): objects named in place of others of their sort."""
    pairs = Counter(
        pair for found in errors.values() for pair in {(e.word, e.instead) for e in found if e.kind == "invented-object" and e.instead}
    )
    return [(*pair, count) for pair, count in sorted(pairs.items(), key=lambda entry: (-entry[1], entry[0]))[:most]]


def worst_images(errors: Errors, kind: str, most: int = 5) -> list[tuple[str, int]]:
    """The images whose captions have most errors of a kind, with how many; only images that have one."""
    counts = {image: sum(error.kind == kind for error in found) for image, found in errors.items()}
    return sorted(((image, count) for image, count in counts.items() if count), key=lambda pair: (-pair[1], pair[0]))[:most]


def richness(
    captions: Iterable[str], vocabulary: Sequence[str] | None = None, training: Collection[str] | None = None
) -> dict[str, int | None]:
    """{"captions", "distinct", "words_used", "words_known", "copied"}.

    vocabulary: all words that the system can say (special ones in angle brackets do not count), None where it says subwords; training:
    hashes of the training captions (captioning/training_captions.py). What cannot be known is None.
    """
    captions = list(captions)
    said = [normal_form(caption) for caption in captions]
    used = {word for caption in said for word in caption.split() if word != UNKNOWN}
    known = {word for word in vocabulary if not word.startswith("<")} if vocabulary else None
    return {
        "captions": len(said),
        "distinct": len(set(said)),
        "words_used": len(used & known) if known else len(used),
        "words_known": len(known) if known else None,
        "copied": sum(caption_hash(caption) in training for caption in captions) if training is not None else None,
    }


def coverage(references: Mapping[str, Sequence[str]]) -> dict:
    """What the lexicon knows of the nouns of references: {"places", "objects", "not_objects", "unknown", "captions"}.

    A place of a noun is where one must stand by its neighbours: the end of what follows an article, a number or a possessive, up to the next preposition,
    conjunction, verb of being or word in -ing. objects, not_objects: percent of the places with a word of the lexicon, and with one that it lists as no
    object ("trick"); unknown: [(word, how often)], most first; captions: percent of the captions in which no noun is unknown.
    """
    lexicon, known, listed, unknown, whole, total = load_lexicon(), 0, 0, Counter(), 0, 0
    for captions in references.values():
        for caption in captions:
            reading = read_caption(caption)
            missing = []
            for group in _noun_groups(reading.tokens, lexicon):
                words = [reading.tokens[k] for k in group]
                if any(k in reading.nouns for k in group):
                    known += 1
                elif any(word in lexicon.not_objects or word in lexicon.forms for word in words) or any(
                    " ".join(words[-length:]) in lexicon.not_objects for length in (2, 3)
                ):
                    listed += 1
                else:
                    missing.append(words[-1])
            unknown.update(missing)
            whole += not missing
            total += 1
    places = known + listed + sum(unknown.values())
    percent = 100 / max(1, places)
    ranked = sorted(unknown.items(), key=lambda pair: (-pair[1], pair[0]))
    return {
        "places": places,
        "objects": percent * known,
        "not_objects": percent * listed,
        "unknown": ranked,
        "captions": 100 * whole / max(1, total),
    }


def _noun_groups(tokens: Sequence[str], lexicon) -> Iterable[range]:
    """Places of the words from an article, a number or a possessive to the end of its noun phrase."""
    k = 0
    while k < len(tokens):
        if tokens[k] not in lexicon.determiners and tokens[k] not in lexicon.counts:
            k += 1
            continue
        start = end = k + 1
        while end < len(tokens) and end - start < LONGEST_GROUP and not _ends_group(tokens, end, start, lexicon):
            end += 1
        group = range(start, end)
        if len(group) and not all(tokens[i] in lexicon.adjectives or tokens[i] in lexicon.colours for i in group):
            yield group
        k = max(end, k + 1)


def _ends_group(tokens: Sequence[str], place: int, start: int, lexicon) -> bool:
    word = tokens[place]
    if word in STOPS or word in lexicon.determiners or word in lexicon.counts or word == "of":
        return True
    # "a boy climbing": a verb; "a climbing boy", "a swimming pool": none.
    return word.endswith(("ing", "ed")) and place > start and word not in lexicon.forms
