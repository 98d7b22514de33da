"""Scoring against pycocoevalcap as shipped: all metrics but SPICE, 5,000 images x 5 references."""

import contextlib
import gzip
import io
import json
import os

from benchmarks.speeds.bench import Measured, Size, interleave, ratios
from benchmarks.speeds.work import EVIDENCE

IMAGES = 5000


def saved_captions(n: int) -> tuple[dict[str, str], dict[str, list[str]]]:
    """A real captioner's captions (beam 5) and their references, images repeated up to n."""
    (references,) = EVIDENCE.glob("references-*.jsonl.gz")
    (captions,) = EVIDENCE.glob("deit-tiny-0-*.jsonl.gz")
    with gzip.open(references, "rt", encoding="utf-8") as file:
        raw = {line["id"]: line["raw"] for line in map(json.loads, file)}
    with gzip.open(captions, "rt", encoding="utf-8") as file:
        said = {line["id"]: line["free"]["5"]["text"] for line in map(json.loads, list(file)[1:])}
    ids = list(said)
    chosen = [(f"{i}", ids[i % len(ids)]) for i in range(n)]
    return {name: said[image] for name, image in chosen}, {name: raw[image] for name, image in chosen}


def coco(size: Size, device, kept: bool) -> Measured:
    """BLEU, METEOR, ROUGE-L and CIDEr with the PTB tokenizer. kept: METEOR's process and the references' tokens are there from a system scored
    before, as in a suite; pycocoevalcap starts anew each time."""
    from captioning import protocols
    from captioning.meteor import shared_meteor

    n = 40 if size.quick else IMAGES
    candidates, references = saved_captions(n)
    metrics = ("BLEU", "METEOR", "ROUGE-L", "CIDEr")
    found = {}

    def ours() -> None:
        if not kept:
            protocols._TOKENS.clear()
            shared_meteor().close()
        found["ours"] = protocols.score_coco(candidates, references, metrics).scores()

    def peer() -> None:
        found["peer"] = as_shipped(candidates, references)

    seconds = interleave(ours, peer, min(size.repeats, 3))
    shared_meteor().close()
    apart = max(abs(found["ours"][name] - value) for name, value in found["peer"].items())
    more = {"images": n, "references": 5, "largest_difference": apart}
    what = f"scoring {n:,} images x 5 references, all metrics but SPICE"
    what += ", from the second system on" if kept else ""
    return Measured(what, "pycocoevalcap's time over ours", ratios(*seconds), *seconds, more)


def as_shipped(candidates: dict[str, str], references: dict[str, list[str]]) -> dict[str, float]:
    """What pycocoevalcap's own COCOEvalCap.evaluate does, without SPICE; its METEOR ends with the call, as its users' does."""
    from pycocoevalcap.bleu.bleu import Bleu
    from pycocoevalcap.cider.cider import Cider
    from pycocoevalcap.meteor.meteor import Meteor
    from pycocoevalcap.rouge.rouge import Rouge
    from pycocoevalcap.tokenizer.ptbtokenizer import PTBTokenizer

    from captioning.java import find_java

    os.environ["PATH"] = f"{find_java().parent}{os.pathsep}{os.environ['PATH']}"  # it calls `java`
    with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
        tokenizer = PTBTokenizer()
        theirs = tokenizer.tokenize({i: [{"caption": c} for c in captions] for i, captions in references.items()})
        own = tokenizer.tokenize({i: [{"caption": caption}] for i, caption in candidates.items()})
        bleu, _ = Bleu(4).compute_score(theirs, own, verbose=0)
        meteor_scorer = Meteor()
        meteor, _ = meteor_scorer.compute_score(theirs, own)
        meteor_scorer.meteor_p.kill()
        rouge, _ = Rouge().compute_score(theirs, own)
        cider, _ = Cider().compute_score(theirs, own)
    names = ("BLEU-1", "BLEU-2", "BLEU-3", "BLEU-4", "METEOR", "ROUGE-L", "CIDEr")
    return {name: 100 * float(value) for name, value in zip(names, (*bleu, meteor, rouge, cider), strict=True)}
