"""What a report shows of single images: attention strips word by word, and the best, median and worst captions. No torch.

Reads results/<profile>/attention/<run_id>.npz, captions/<run_id>.jsonl.gz and the references beside it (results/README.md has their layout).
"""

import base64
import gzip
import io
import json
from pathlib import Path

import numpy as np
from PIL import Image

from captioning.atomic import atomic_write
from captioning.attention_strip import arrange_strip, concentration, draw_tiles, load_strips
from captioning.bad_input import BadInput
from captioning.bleu import nltk_bleu, nltk_rows
from captioning.fingerprint import file_sha256
from captioning.ngrams import count_corpus
from captioning.systems import MAP_KINDS

IMAGES = 3  # strips for so many images
RUNS = 6  # of so many runs: more would pass what a reader compares, and the page's 10 MB
EACH = 4  # captions in each group: best, median, worst


def own_file(profile_folder: Path, record: dict, kind: str) -> Path | None:
    """The file of a record (`captions`, `references`, `attention`), or None if it names none. BadInput if it lies outside the profile or its hash differs."""
    about = record["files"].get(kind)
    if not about:
        return None
    path = (profile_folder / about["path"]).resolve()
    if not path.is_relative_to(profile_folder.resolve()):
        raise BadInput(f"{record['run_id']}: its {kind} file {about['path']!r} lies outside {profile_folder.name}/; not read")
    try:
        digest = file_sha256(path)
    except OSError as error:
        raise BadInput(f"{record['run_id']}: its {kind} file {about['path']}: {error.strerror}; run again to remake it") from None
    if about.get("sha256") and digest != about["sha256"]:
        raise BadInput(
            f"{record['run_id']}: its {kind} file {about['path']} is not the one it was scored on (sha256 differs); run again to remake it"
        )
    return path


def attention_strips(
    profile_folder: Path, runs: list[dict], names: dict[str, str], figures: Path
) -> tuple[list[dict], list[Path], list[str]]:
    """Strips of the same images for the first runs that have some, for the page; each also as a PNG of its own in `figures`. Back: images, files written,
    problems.

    An image is {"photo": data URI, "id", "references", "strips": [{"label", "kind", "method" (what drew it, on which grid), "words": [{"word", "tile",
    "times", "alt"}]}]}. Each run's maps have their own grid.
    """
    images: dict[str, dict] = {}
    written, problems, used = [], [], 0
    for record in runs:
        if used == RUNS:
            break
        try:
            path = own_file(profile_folder, record, "attention")
            stored = _load(path)[:IMAGES] if path else []
        except BadInput as error:
            problems.append(str(error))
            continue
        used += bool(stored)
        for k, (photo, attention, about) in enumerate(stored):
            image = images.setdefault(
                about["id"], {"id": about["id"], "references": about["references"], "photo": _as_uri(photo, 320), "strips": []}
            )
            said, attention = about["words"], attention[: len(about["words"])]
            tiles, shares = draw_tiles(photo, attention), [concentration(weights) for weights in attention]
            words = [
                {"word": word, "tile": _as_uri(tile), "times": f"{share:.1f}", "alt": _alt(word, weights, about["kind"])}
                for word, tile, share, weights in zip(said, tiles, shares, attention, strict=True)
            ]
            method = f"{MAP_KINDS[about['kind']]}, {'×'.join(map(str, attention.shape[1:]))}"
            image["strips"].append({"label": names[record["run_id"]], "kind": about["kind"], "method": method, "words": words})
            target = figures / f"attention-{record['run_id']}-{k}.png"
            drawn = io.BytesIO()
            arrange_strip(photo, said, tiles, shares, title=f"{names[record['run_id']]}: {method}").save(
                drawn, format="PNG", compress_level=1
            )
            with atomic_write(target, "wb") as file:
                file.write(drawn.getvalue())
            written.append(target)
    return list(images.values()), written, problems


def ranked_captions(profile_folder: Path, record: dict, beam: str) -> dict:
    """The validation captions of one run ranked by smoothed sentence BLEU-4.

    {"n": how many, "groups": [{"title", "examples": [{"id", "caption", "score", "references"}]}]}; BadInput when its files cannot be used.
    """
    captions, references = own_file(profile_folder, record, "captions"), own_file(profile_folder, record, "references")
    if captions is None or references is None:
        raise BadInput(f"{record['run_id']}: the record names no captions or no references; run again to remake them")
    tokens = {line["id"]: line["tokens"] for line in _read_lines(references) if line.get("split") == "val"}
    ranked = []
    for line in _read_lines(captions)[1:]:
        if line.get("split") == "val" and beam in line["free"] and line["id"] in tokens:
            ranked.append({"id": line["id"], "caption": line["free"][beam]["text"], "references": tokens[line["id"]]})
    if ranked:
        split = [[text.split() for text in example["references"]] for example in ranked]
        for example, score in zip(ranked, sentence_bleu4([example["caption"].split() for example in ranked], split), strict=True):
            example["score"] = float(score)
    ranked.sort(key=lambda example: (-example["score"], example["id"]))
    each = min(EACH, len(ranked) // 3)
    middle = (len(ranked) - each) // 2
    groups = [("Best", ranked[:each]), ("In the middle", ranked[middle : middle + each]), ("Worst", ranked[len(ranked) - each :])]
    return {"n": len(ranked), "groups": [{"title": title, "examples": examples} for title, examples in groups if examples]}


def sentence_bleu4(candidates: list[list[str]], references: list[list[list[str]]]) -> np.ndarray:
    """(C,) BLEU-4 of each caption alone, times 100; for ranking only.

    NLTK's counts with one added to hits and n-grams from bigrams on (Lin and Och 2004, doi 10.3115/1220355.1220427): most captions have no 4-gram right.
    """
    rows = nltk_rows(count_corpus(candidates, references))  # (C, 10)
    rows[:, [1, 2, 3, 5, 6, 7]] += 1
    return 100 * nltk_bleu(rows)[:, 3]


def _read_lines(path: Path) -> list[dict]:
    try:
        with gzip.open(path, "rt", encoding="utf-8", newline="\n") as file:
            return [json.loads(line) for line in file]
    except (OSError, EOFError, ValueError) as error:
        raise BadInput(f"{path.name}: damaged ({error}); run again to remake it") from None


def _as_uri(image: Image.Image, side: int = 0) -> str:
    """A picture as a data URI, JPEG; with `side`, its longer side is made so many pixels (a scene is 64 pixels wide)."""
    if side:
        scale = side / max(image.size)
        image = image.resize(tuple(max(1, round(length * scale)) for length in image.size), Image.Resampling.LANCZOS)
    drawn = io.BytesIO()
    image.convert("RGB").save(drawn, format="JPEG", quality=80)
    return "data:image/jpeg;base64," + base64.b64encode(drawn.getvalue()).decode()


def _load(path: Path) -> list:
    """As `load_strips`, each with its `kind`; a file from before there were several has attention. BadInput for a kind that is not known."""
    stored = load_strips(path)
    for _, _, about in stored:
        about["kind"] = about.get("kind", "attention")
        if about["kind"] not in MAP_KINDS:
            raise BadInput(
                f"attention strips {path.name}: of kind {about['kind']!r}, known are {', '.join(MAP_KINDS)}; run again to remake them"
            )
    return stored


def _alt(word: str, weights, kind: str) -> str:
    """A tile's alternative text."""
    return f"at “{word}”: every region alike" if kind == "even" else f"{MAP_KINDS[kind]} at “{word}”: strongest {_where(weights)}"


def _where(weights) -> str:
    """The strongest region in words."""
    h, w = weights.shape
    row, column = divmod(int(weights.argmax()), w)
    vertical, horizontal = ("upper", "middle", "lower")[3 * row // h], ("left", "centre", "right")[3 * column // w]
    return "centre" if (vertical, horizontal) == ("middle", "centre") else f"{vertical} {horizontal}"
