"""One model's saved captions under every protocol, beam and token rule: how far its "BLEU-4" can be moved without touching the model.

    token_rules("results/demo/captions/RUN.jsonl.gz", "val")

Each rule is one that published captioners' code was scored by, knowingly or not; the rest of the signature stays.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path

from captioning.config import main_beam_of
from captioning.protocols import Saved, Scored, read_predictions, score_coco, score_free
from captioning.statistics import DRAWS

END, UNKNOWN = "<end>", "<unk>"


def token_rules(predictions: str | Path, split: str, draws: int = DRAWS) -> list[dict]:
    """[{"rule", "protocol", "beam", "scores"}]; `scores` as `Scored.to_json` has them. BadInput as `read_predictions`.

    A system with subwords has no words under teacher forcing and no vocabulary of words: the rules that need them are left out.
    """
    saved = read_predictions(predictions, split)
    rows = [*(_forced(saved) if saved.vocabulary else []), *_free(saved)]
    return [{"rule": rule, "protocol": one.protocol, "beam": beam, "scores": one.to_json(draws)} for rule, beam, one in rows]


def _forced(saved: Saved) -> list[tuple[str, None, Scored]]:
    rules = {
        "teacher-forced, as the published code scores: <end> kept, <unk> matches": {},
        "teacher-forced, <end> dropped": {"keep_end": False},
        "teacher-forced, <unk> matches nothing": {"match_unk": False},
        "teacher-forced, <end> dropped and <unk> matches nothing": {"keep_end": False, "match_unk": False},
    }
    return [(rule, None, saved.score_published(**switches)) for rule, switches in rules.items()]


def _free(saved: Saved) -> list[tuple[str, str, Scored]]:
    beams = sorted(saved.said, key=int)
    main = main_beam_of(beams)
    words, fields = saved.words(main), {**saved.fields, "specials": "dropped", "beam": main}
    if str(fields.get("stop")).startswith("sample"):
        best, rows = "free, drawn", [("free, drawn", main, saved.score_free(main))]
    else:
        best = f"free, beam {main}"
        rows = [(f"free, beam {beam}" if beam != "1" else "free, greedy", beam, saved.score_free(beam)) for beam in beams]
    with_end = {i: f"{text} {END}".lstrip() for i, text in words.items()}
    ended = {i: [f"{caption} {END}" for caption in captions] for i, captions in saved.tokens.items()}
    rows.append((f"{best}, <end> kept on both sides", main, score_free(with_end, ended, **fields | {"specials": "end-kept"})))
    if saved.vocabulary:
        own = _with_unknown(saved)
        rule = f"{best}, <unk> kept and rare words of the references made <unk>"
        rows.append((rule, main, score_free(saved.texts[main], own, **fields | {"specials": "unk-matches"})))
    one = {i: captions[:1] for i, captions in saved.tokens.items()}
    rows.append((f"{best}, the first reference only", main, score_free(words, one, **fields)))
    ptb = score_coco(saved.said[main], saved.raw, metrics=("BLEU",), **fields)
    return [*rows, (f"{best}, PTB tokens (coco-caption)", main, ptb)]


def _with_unknown(saved: Saved) -> Mapping[str, Sequence[str]]:
    known = frozenset(saved.vocabulary)
    return {i: [_outside(caption.split(), known) for caption in captions] for i, captions in saved.tokens.items()}


def _outside(words: list[str], known: frozenset) -> str:
    return " ".join(word if word in known else UNKNOWN for word in words)
