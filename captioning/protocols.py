"""The three protocols by which captions are scored: `published`, `free` and `coco`. A score without its protocol is not a score.

| protocol | captions | rule |
|---|---|---|
| published | argmax under teacher forcing, cut to the reference's length | NLTK corpus BLEU, one row per caption, `<unk>` matches `<unk>`, `<end>` kept |
| free | free-running beam, one per image | NLTK corpus BLEU on the dataset's tokens, specials dropped |
| coco | free-running beam, one per image | coco-caption: PTB tokens, BLEU, METEOR, ROUGE-L, CIDEr, SPICE |

Each gives a `Scored`: corpus values with intervals, a signature that says how they were made, and every image's counts for paired tests.
Needs numpy; `coco` also needs pycocoevalcap's jars and a Java, and says what is not available without them.
"""

import gzip
import importlib.metadata
import json
import re
import zlib
from collections.abc import Callable, Collection, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from captioning import bleu, coco_metrics
from captioning.bad_input import BadInput
from captioning.config import main_beam_of
from captioning.java import JavaUnavailable, find_java
from captioning.meteor import meteor_score, shared_meteor
from captioning.ngrams import Corpus, count_corpus
from captioning.ptb import ptb_tokenize
from captioning.spice import spice
from captioning.statistics import DRAWS, SEED, Statistic, interval, mean_of, ratio_of, resample

TOOL = "recap-1"  # raised by hand when code here moves a score
METRICS = ("BLEU", "METEOR", "ROUGE-L", "CIDEr", "SPICE")
SPECIALS = frozenset(("<pad>", "<start>", "<end>", "<unk>"))  # dropped from free captions of our own models, never from a user's file
_WORD = re.compile("[a-z0-9]+")
# How the captions were made: fields of the signature that only whoever made them knows ("?" otherwise).
DECODING = ("split", "beam", "stop", "lenpen", "max", "ngram", "unk", "select", "specials")


@dataclass(frozen=True, slots=True, eq=False)
class Scored:
    """The scores of one system on some images under one protocol. All statistics have the images `ids`, in this order."""

    protocol: str
    signature: str
    ids: tuple[str, ...]
    statistics: tuple[Statistic, ...]
    not_available: Mapping[str, str] = field(default_factory=dict)  # metric -> reason

    def scores(self) -> dict[str, float]:
        """Corpus values, as they are reported (times 100, but for cross-entropy, penalty and loss)."""
        return {name: value for statistic in self.statistics for name, value in statistic.values().items()}

    def per_image(self) -> dict[str, np.ndarray]:
        """(N,) values per metric: the corpus formula on each image alone. Their mean is the corpus value for some metrics only."""
        return {name: values for statistic in self.statistics for name, values in statistic.per_image().items()}

    def resampled(self, draws: int = DRAWS, seed: int = SEED) -> dict[str, np.ndarray]:
        """(draws,) values per metric over images drawn with replacement; the same images for every `Scored` with these ids."""
        return resample(self.statistics, draws, seed)

    def to_json(self, draws: int = DRAWS, seed: int = SEED) -> dict:
        """The object that `python -m captioning.score --json` prints and that records keep; no intervals with draws=0."""
        return {
            "protocol": self.protocol,
            "signature": self.signature,
            "n_images": len(self.ids),
            "scores": self.scores(),
            "intervals": {name: list(interval(values)) for name, values in self.resampled(draws, seed).items()},
            "not_available": dict(self.not_available),
        }


def compare(a: Scored, b: Scored, draws: int = DRAWS, seed: int = SEED) -> dict[str, dict]:
    """a minus b for every metric that both have, by resampling the same images for both: {metric: {"a", "b", "difference", "interval"}}.

    Raises ValueError if they were not scored on the same images under the same protocol.
    """
    if a.protocol != b.protocol or a.ids != b.ids:
        raise ValueError("only scores of the same images, in the same order, under the same protocol can be compared")
    first, second = a.scores(), b.scores()
    first_draws, second_draws = a.resampled(draws, seed), b.resampled(draws, seed)
    result = {}
    for name in first.keys() & second.keys():
        ends = list(interval(first_draws[name] - second_draws[name])) if draws else None
        result[name] = {"a": first[name], "b": second[name], "difference": first[name] - second[name], "interval": ends}
    return {name: result[name] for name in first if name in result}


def score_free(candidates: Mapping[str, str], references: Mapping[str, Sequence[str]], tokens: str = "dataset", **decoding) -> Scored:
    """NLTK corpus BLEU of one caption per image. Captions are tokens joined by spaces; `tokens` names whose tokens in the signature."""
    ids = _same_images(candidates, references)
    corpus = count_corpus([candidates[i].split() for i in ids], [[caption.split() for caption in references[i]] for i in ids])
    signature = _signature("free", decoding, tok=tokens, refs=_how_many(corpus), v=f"nltk-rule,{TOOL}")
    return Scored("free", signature, ids, (_times_100(bleu.NAMES, bleu.nltk_rows(corpus), bleu.nltk_bleu),))


def score_coco(
    candidates: Mapping[str, str],
    references: Mapping[str, Sequence[str]],
    metrics: Collection[str] = METRICS,
    spice_models: str | Path | None = None,
    **decoding,
) -> Scored:
    """coco-caption's metrics of one caption per image. Captions are text as written; both sides go through the PTB tokenizer.

    Never raises for a Java that is missing or fails: what it was needed for is in `not_available` with the reason.
    """
    ids = _same_images(candidates, references)
    counts = np.array([len(references[i]) for i in ids])
    signature = _signature("coco", decoding, tok="ptb", refs=_range(counts), v=f"{_coco_version()},{TOOL}")
    try:
        if "METEOR" in metrics:
            shared_meteor().start()  # loads its table while the tokenizer runs
        own, theirs = _once_more(lambda: _ptb_tokens([candidates[i] for i in ids], [list(references[i]) for i in ids]))
    except JavaUnavailable as error:
        names = [name for metric in metrics for name in (bleu.NAMES if metric == "BLEU" else (metric,))]
        return Scored("coco", signature, ids, (), dict.fromkeys(names, f"the PTB tokenizer needs Java: {error}"))
    statistics, not_available = _coco_statistics(own, theirs, metrics, spice_models)
    return Scored("coco", signature, ids, statistics, not_available)


def _once_more(work: Callable):
    """What `work` gives; where Java failed in the midst (killed, out of memory), from a fresh one. Raises JavaUnavailable where that fails too."""
    try:
        return work()
    except JavaUnavailable:
        find_java()
        return work()


_TOKENS: dict[tuple, list[list[str]]] = {}  # references -> their tokens: a process that scores many systems tokenizes them once
_KEPT = 4  # splits


def _ptb_tokens(candidates: list[str], references: list[list[str]]) -> tuple[list[str], list[list[str]]]:
    """PTB tokens of N candidates and of N lists of references, by one call of the tokenizer. Raises JavaUnavailable."""
    key = tuple(tuple(captions) for captions in references)
    if key in _TOKENS:
        return ptb_tokenize(candidates), _TOKENS[key]
    lines = iter(ptb_tokenize([caption for captions in references for caption in captions] + candidates))
    theirs = [[next(lines) for _ in captions] for captions in references]
    while len(_TOKENS) >= _KEPT:
        del _TOKENS[next(iter(_TOKENS))]
    _TOKENS[key] = theirs
    return list(lines), theirs


def _coco_statistics(own: list[str], theirs: list[list[str]], metrics: Collection[str], spice_models: str | Path | None):
    """own: N tokenized candidates; theirs: N lists of tokenized references."""
    found: dict[str, Statistic] = {}
    not_available: dict[str, str] = {}
    with ThreadPoolExecutor(max_workers=1) as java:  # METEOR's and SPICE's work is in their own processes
        pending = {}
        if "METEOR" in metrics:
            pending["METEOR"] = java.submit(
                lambda: _times_100(("METEOR",), _once_more(lambda: shared_meteor().counts(own, theirs)), _meteor_column)
            )
        if "SPICE" in metrics:
            pending["SPICE"] = java.submit(lambda: mean_of("SPICE", spice(own, theirs, spice_models), 100))
        if "BLEU" in metrics or "CIDEr" in metrics:
            corpus = count_corpus([caption.split() for caption in own], [[caption.split() for caption in captions] for captions in theirs])
        if "BLEU" in metrics:
            found["BLEU"] = _times_100(bleu.NAMES, bleu.coco_rows(corpus), bleu.coco_bleu)
        if "ROUGE-L" in metrics:
            found["ROUGE-L"] = mean_of("ROUGE-L", coco_metrics.rouge_l(own, theirs), 100)
        if "CIDEr" in metrics:
            found["CIDEr"] = mean_of("CIDEr", coco_metrics.cider(corpus), 100)
        for metric, result in pending.items():
            try:
                found[metric] = result.result()
            except JavaUnavailable as error:
                not_available[metric] = str(error)
    return tuple(found[metric] for metric in METRICS if metric in found), not_available


def _meteor_column(sums: np.ndarray) -> np.ndarray:
    return meteor_score(sums)[..., None]


def score_published(
    forced: Mapping[str, Sequence[Mapping]],
    references: Mapping[str, Sequence[str]],
    vocabulary: Collection[str] | None,
    max_words: int | None = None,
    keep_end: bool = True,
    match_unk: bool = True,
    **decoding,
) -> Scored:
    """What the paper's code computes, from teacher-forced words: a row per caption, each against all references of its image.

    forced: per image one entry per reference, {"words", "n", "top5", "cross_entropy", "penalty"}: the argmax words joined by spaces and cut
    to the reference's length with `<end>`, the number of those words, top-5 hits, summed cross-entropy in nats, attention penalty.
    references: the dataset's tokens; cut to `max_words` as in training, words outside `vocabulary` become `<unk>`, and `<end>` is appended.
    keep_end=False drops `<end>` from both sides, match_unk=False lets `<unk>` match nothing: what these two accidents of the code are worth.
    A system with subwords has words and top5 None: its BLEU and top-5 are not available, cross-entropy per caption is.
    """
    ids = _same_images(forced, references)
    for i in ids:
        if len(forced[i]) != len(references[i]):
            raise ValueError(f"image {i}: {len(forced[i])} teacher-forced captions for {len(references[i])} references")
    statistics, not_available = [_losses([forced[i] for i in ids])], {}
    if any(entry["words"] is None for i in ids for entry in forced[i]):
        not_available = dict.fromkeys((*bleu.NAMES, "top-5"), "a system with subwords has no words under teacher forcing")
    else:
        known = frozenset(vocabulary)
        end, unknown = ["<end>"] if keep_end else [], "<unk>" if match_unk else "<unk> of a reference"
        mapped = [[[w if w in known else unknown for w in caption.split()[:max_words]] + end for caption in references[i]] for i in ids]
        image = [number for number, i in enumerate(ids) for _ in forced[i]]
        said = [entry["words"].split() for i in ids for entry in forced[i]]
        if not keep_end:
            said = [[word for word in words if word != "<end>"] for words in said]
        corpus = count_corpus(said, mapped, image)
        rows = _sum_by_image(bleu.nltk_rows(corpus), corpus)
        hits = [sum(entry["top5"] for entry in forced[i]) for i in ids]
        words = [sum(entry["n"] for entry in forced[i]) for i in ids]
        statistics = [_times_100(bleu.NAMES, rows, bleu.nltk_bleu), ratio_of("top-5", np.array(hits), np.array(words), 100), *statistics]
    refs = _range(np.array([len(references[i]) for i in ids]))
    specials = f"end-{'kept' if keep_end else 'dropped'},unk-{'matches' if match_unk else 'never'}"
    decoding = {"beam": "teacher-forced", "max": max_words or "none", "specials": specials, **decoding}
    rule = {"tok": "dataset", "refs": refs, "rows": "caption", "v": f"nltk-rule,{TOOL}"}
    return Scored("published", _signature("published", decoding, **rule), ids, tuple(statistics), not_available)


def score_predictions(
    predictions: str | Path,
    split: str,
    coco_beams: Collection[int] | None = None,
    draws: int = DRAWS,
    **decoding,
) -> dict[str, dict]:
    """All protocols of one run's saved predictions on one split: {"published": SCORES, "free": {beam: SCORES}, "coco": {beam: SCORES}}.

    predictions: captions/<run_id>.jsonl.gz; its first line names the references file beside it (results/README.md). coco_beams: default the
    main one. `decoding`: fields of the signature that the first line's "decoding" does not give. SCORES is `Scored.to_json`. Raises BadInput.
    """
    return {
        protocol: scored.to_json(draws) if isinstance(scored, Scored) else {beam: one.to_json(draws) for beam, one in scored.items()}
        for protocol, scored in measure_predictions(predictions, split, coco_beams, **decoding).items()
    }


def measure_predictions(predictions: str | Path, split: str, coco_beams: Collection[int] | None = None, **decoding) -> dict:
    """As `score_predictions`, with a `Scored` in place of each SCORES object: what paired comparisons of runs need."""
    saved = read_predictions(predictions, split, **decoding)
    wanted = [main_beam_of(saved.said)] if coco_beams is None else [str(beam) for beam in coco_beams]
    return {
        "published": saved.score_published(),
        "free": {beam: saved.score_free(beam) for beam in saved.said},
        "coco": {beam: score_coco(saved.said[beam], saved.raw, **saved.fields | {"specials": "dropped", "beam": beam}) for beam in wanted},
    }


@dataclass(frozen=True)
class Saved:
    """One split of captions/<run_id>.jsonl.gz with its references, by image id. `texts`: beam -> free captions as saved; `said`: without special words."""

    vocabulary: Sequence[str] | None
    max_words: int | None
    forced: Mapping[str, Sequence[Mapping]]
    texts: Mapping[str, Mapping[str, str]]
    said: Mapping[str, Mapping[str, str]]
    tokens: Mapping[str, Sequence[str]]
    raw: Mapping[str, Sequence[str]]
    fields: Mapping[str, object]  # of the signature

    def score_published(self, **rule) -> Scored:
        """`score_published` of the teacher-forced words; rule: keep_end, match_unk."""
        fields = self.fields | {"beam": "teacher-forced"}
        return score_published(self.forced, self.tokens, self.vocabulary, self.max_words, **rule, **fields)

    def score_free(self, beam: str) -> Scored:
        # Subwords make text, not words: it is cut by one rule. A word model's text is its words.
        rule = {"tokens": "dataset"} if self.vocabulary else {"tokens": "a-z0-9,refs-dataset"}
        return score_free(self.words(beam), self.tokens, **rule, **self.fields | {"specials": "dropped", "beam": beam})

    def words(self, beam: str) -> Mapping[str, str]:
        """Free captions as words joined by spaces."""
        return self.said[beam] if self.vocabulary else {i: words_of(text) for i, text in self.said[beam].items()}


def read_predictions(predictions: str | Path, split: str, **decoding) -> Saved:
    """decoding: fields of the signature that the file's own "decoding" does not give. Raises BadInput: missing, damaged, other images than its references."""
    path = Path(predictions)
    header, *entries = _read_lines(path)
    try:
        vocabulary = header["vocabulary"]
        widths = [str(beam) for beam in header["beams"]]
        entries = [entry for entry in entries if entry["split"] == split]
        own = {line["id"]: line for line in _read_lines(path.parent / header["references"]) if line["split"] == split}
        forced = {entry["id"]: entry["forced"] for entry in entries}
        texts = {beam: {entry["id"]: entry["free"][beam]["text"] for entry in entries} for beam in widths}
        said = {beam: {i: _without_specials(text) for i, text in captions.items()} for beam, captions in texts.items()}
        tokens = {image: line["tokens"] for image, line in own.items()}
        raw = {image: line["raw"] for image, line in own.items()}
    except (KeyError, TypeError, AttributeError) as error:
        raise BadInput(f"{path}: damaged predictions: no {error} in an entry; run again to remake them") from error
    if forced.keys() != own.keys() or not own:
        raise BadInput(f"{path}: {len(forced)} images of split {split!r}, its references have {len(own)}; run again to remake both")
    longest = header.get("max_words")
    fields = {"split": split, "max": longest or "?", **header.get("decoding", {}), **decoding}
    return Saved(vocabulary, longest, forced, texts, said, tokens, raw, fields)


def _without_specials(text: str) -> str:
    return " ".join(word for word in text.split(" ") if word not in SPECIALS)


def words_of(text: str) -> str:
    """Text as words: lower case, cut into runs of a-z and 0-9, joined by one space."""
    return " ".join(_WORD.findall(text.lower()))


def _read_lines(path: Path) -> list[dict]:
    try:
        with gzip.open(path, "rt", encoding="utf-8", newline="\n") as file:
            lines = [json.loads(line) for line in file]
    except FileNotFoundError:
        raise BadInput(f"{path}: no such file; run again to remake it") from None
    except (OSError, EOFError, ValueError, zlib.error) as error:
        raise BadInput(f"{path}: damaged ({error}); run again to remake it") from error
    if not lines:
        raise BadInput(f"{path}: empty; run again to remake it")
    return lines


def _losses(forced: Sequence[Sequence[Mapping]]) -> Statistic:
    """Cross-entropy per word and per caption, attention penalty per caption, and their sum per word and caption as the paper's code logs it."""
    columns = ("cross_entropy", "n", "penalty")
    rows = np.array(
        [[sum(entry[column] or 0 for entry in entries) for column in columns] + [len(entries)] for entries in forced], dtype=float
    )

    def finish(sums: np.ndarray) -> np.ndarray:
        entropy, words, penalty, captions = np.moveaxis(sums, -1, 0)
        per_word, penalty = entropy / np.maximum(words, 1), penalty / captions
        return np.stack([per_word, entropy / captions, penalty, per_word + penalty], axis=-1)

    return Statistic(("cross-entropy", "cross-entropy per caption", "penalty", "loss"), rows, finish)


def _sum_by_image(rows: np.ndarray, corpus: Corpus) -> np.ndarray:
    sums = np.zeros((corpus.n_images, rows.shape[1]))
    np.add.at(sums, corpus.candidate_image, rows)
    return sums


def _times_100(names: Sequence[str], rows: np.ndarray, finish) -> Statistic:
    return Statistic(tuple(names), rows, lambda sums: 100 * finish(sums))


def _same_images(candidates: Mapping, references: Mapping) -> tuple[str, ...]:
    """The images in the references' order, which is the order that intervals are drawn in."""
    if candidates.keys() != references.keys():
        raise ValueError(f"{len(candidates)} images have candidates, {len(references)} references, and they are not the same")
    if not references:
        raise ValueError("no images to score")
    return tuple(references)


def _signature(protocol: str, decoding: Mapping[str, object], **rule: str) -> str:
    unknown = decoding.keys() - set(DECODING)
    if unknown:
        raise TypeError(f"unknown signature field {sorted(unknown)[0]!r}; known: {', '.join(DECODING)}")
    fields = {name: decoding.get(name, "?") for name in DECODING} | rule
    return "|".join([protocol, *(f"{name}:{value}" for name, value in fields.items())])


def _how_many(corpus: Corpus) -> str:
    return _range(np.bincount(corpus.reference_image))


def _range(counts: np.ndarray) -> str:
    low, high = counts.min(), counts.max()
    return str(low) if low == high else f"{low}-{high}"


def _coco_version() -> str:
    try:
        return f"pycocoevalcap-{importlib.metadata.version('pycocoevalcap')}"
    except importlib.metadata.PackageNotFoundError:
        return "pycocoevalcap-?"
