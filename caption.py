"""Caption photos: photo(s) in, caption(s) and attention maps out.

    python caption.py --img photo.jpg
    python caption.py --img holiday/ 'more/*.jpg' --csv > captions.csv
    python caption.py --img val2014/ --format coco --out results.json      # called again, it goes on where it was
    python caption.py --img photo.jpg --attention strip.png

Reads photos and a checkpoint folder (default: the best under checkpoints/ whose encoder is on this machine, else the best under results/ and
trained/; nothing is fetched without --download); writes to stdout or --out (beside COCO results also F.made-by.json, which going on needs), and
strips where --attention and --save-attention say. Exit status 1 when a photo could not be read, 2 for a wrong option.
"""

import argparse
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

from captioning.allocator import keep_freed_memory
from captioning.bad_input import BadInput, run_command
from captioning.caption_output import FORMATS, HASH_DIGITS, beside, check_writable, coco_ids, describe_decode, open_output, strip_name
from captioning.captioner import Caption, Captioner, load_captioner
from captioning.checkpoint_list import ROOT, default_checkpoint
from captioning.config import Decode
from captioning.photo_list import Photo, example, find_photos
from captioning.systems import MAP_KINDS

STRIP_KINDS = {".png": "png", ".jpg": "jpeg", ".jpeg": "jpeg", ".webp": "webp", "": "png"}
AT_ONCE = 16
DRAWING = ("temperature", "top_k", "top_p")  # settings of --sample

EXAMPLES = """examples:
  python caption.py --img photo.jpg                              the caption of one photo
  python caption.py --img photo.jpg --beams                      and those that came next, with their scores
  python caption.py --img photo.jpg --attention strip.png        where the model looked at each word
  python caption.py --img holiday/ --csv --out captions.csv      a table of many; called again, it goes on where it was
  python caption.py --img val2014/ --format coco --out r.json    COCO results, for python -m captioning.score
  curl -s https://example.org/photo.jpg | python caption.py --img -

exit status: 0 every photo has its caption, 1 a photo could not be read, 2 an option cannot be used
"""


def parse_arguments(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="Caption photos.", epilog=EXAMPLES, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--img",
        nargs="+",
        metavar="PHOTO",
        help="files, folders, patterns like 'photos/*.jpg'; - is a photo on stdin, demo some drawn scenes",
    )
    parser.add_argument(
        "--checkpoint", metavar="DIR", help="a folder train.py wrote, or hf:OWNER/NAME[@REVISION] (default: the best one found)"
    )

    out = parser.add_argument_group("output")
    out.add_argument("--format", choices=tuple(FORMATS), help="coco: COCO results (default text, or what --out ends in)")
    out.add_argument("--json", dest="format", action="store_const", const="json", help="the same as --format json")
    out.add_argument("--csv", dest="format", action="store_const", const="csv", help="the same as --format csv")
    out.add_argument("--out", default="", metavar="F", help="write to a file; photos that are in it already are left out")
    out.add_argument("--beams", action="store_true", help="all captions of the search with their scores, best first")
    out.add_argument(
        "--attention", metavar="F.png", help="draw each word's map (one photo): attention, or gradients where a system has none"
    )
    out.add_argument("--save-attention", metavar="DIR", help="the same for each photo, into a folder")

    search = parser.add_argument_group("search")
    search.add_argument("--beam", type=int, help=f"beam width; 1 is greedy (default {Decode.beam})")
    search.add_argument("--max-words", type=int, help=f"longest caption (default {Decode.max_words}, or what the model can say)")
    search.add_argument("--length-penalty", type=float, default=0.0, help="divide scores by length to this power (default 0: not at all)")
    search.add_argument("--no-repeat-ngram", type=int, default=0, metavar="N", help="no n-gram of N words twice (default 0: off)")
    search.add_argument(
        "--allow-unk", action="store_true", help="say <unk> for a word that it does not know, as in the captions that are scored"
    )

    draw = parser.add_argument_group("drawing words in place of a search")
    draw.add_argument("--sample", action="store_true", help="draw each word by its probability")
    draw.add_argument("--temperature", type=float, help="below 1 likelier words, above 1 bolder ones (default 1)")
    draw.add_argument("--top-k", type=int, metavar="K", help="from the K likeliest words only")
    draw.add_argument("--top-p", type=float, metavar="P", help="from the likeliest words that together hold this share")
    draw.add_argument("--seed", type=int, default=0, help="the same seed, the same captions (default 0)")

    model = parser.add_argument_group("model")
    model.add_argument("--device", choices=("auto", "cpu", "cuda"), default="auto")
    model.add_argument(
        "--weights", default="pretrained", metavar="PLACE", help="where a fetched encoder's weights lie: pretrained, a file or a folder"
    )
    model.add_argument("--download", action="store_true", help="fetch the published encoder a checkpoint names, where it is not here yet")
    model.add_argument(
        "--encoder", default="", metavar="FILE.py:FACTORY", help="the checkpoint's own encoder file, where it has one; it is run"
    )
    model.add_argument(
        "--locations",
        choices=("expected", "sample", "argmax"),
        default="",
        help="hard attention only: look at the expected region, a drawn, the likeliest",
    )
    options = parser.parse_args(arguments)
    ending = Path(options.out).suffix.lower().removeprefix(".")
    options.format = options.format or (ending if ending in ("json", "csv") else "text")
    return options


def wanted_decode(options: argparse.Namespace) -> Decode:
    drawing = {name: value for name in DRAWING if (value := getattr(options, name)) is not None}
    if options.sample and (options.beam is not None or options.beams):
        raise BadInput(
            f"{'--beams' if options.beams else '--beam'}: --sample draws one caption and searches none; leave one of the two out"
        )
    if drawing and not options.sample:
        raise BadInput(f"--{next(iter(drawing)).replace('_', '-')}: of drawn captions only; add --sample")
    return Decode(
        beam=Decode.beam if options.beam is None else options.beam,
        max_words=Decode.max_words if options.max_words is None else options.max_words,
        length_penalty=options.length_penalty,
        no_repeat_ngram=options.no_repeat_ngram,
        ban_unk=not options.allow_unk,
        sample=options.sample,
        seed=options.seed,
        **drawing,
    )


def check_options(options: argparse.Namespace, photos: Sequence[Photo]) -> None:
    """What can be refused before anything is loaded."""
    if options.attention and len(photos) > 1:
        raise BadInput(f"--attention draws one photo's strip, --img names {len(photos)}; give one, or a folder: --save-attention DIR")
    if options.attention and Path(options.attention).suffix.lower() not in STRIP_KINDS:
        raise BadInput(f"--attention {options.attention}: write a {', '.join(k for k in STRIP_KINDS if k)} file")
    if options.format == "coco" and options.beams:
        raise BadInput("--beams: COCO results hold one caption an image; choose --format json or csv")
    if options.attention and any(isinstance(p.source, Path) and _is_same_file(p.source, Path(options.attention)) for p in photos):
        raise BadInput(f"--attention {options.attention}: is the photo itself; write the strip to another file")
    for option, path in _targets(options):
        check_writable(option, path)


def choose_checkpoint(options: argparse.Namespace) -> Path:
    """The default one; says so where a better one is a download away."""
    folder, better = default_checkpoint(options.weights, options.download)
    if better is not None:
        print(f"a better captioner is a download away, {better.name}: --download fetches the encoder it needs, once", file=sys.stderr)
    return folder


def _targets(options: argparse.Namespace) -> Iterator[tuple[str, Path]]:
    """(option, a file that it will write)."""
    if options.out not in ("", "-"):
        yield "--out", Path(options.out)
        if options.format == "coco":
            yield "--out", beside(Path(options.out))
    if options.attention:
        yield "--attention", Path(options.attention)
    if options.save_attention:
        yield "--save-attention", Path(options.save_attention) / "strip.png"


def main() -> int:
    options = parse_arguments()
    if options.img is None:
        raise BadInput(
            f"which photo? For instance: python caption.py --img {example(ROOT)} (or a file, a folder, a pattern; --help says more)"
        )
    decode = wanted_decode(options)
    photos = find_photos(options.img)
    check_options(options, photos)
    from captioning.checkpoint import read_description
    from captioning.hub import resolve

    folder = resolve(options.checkpoint) if options.checkpoint else choose_checkpoint(options)
    made_by = {
        "checkpoint": str(folder),
        "model": read_description(folder)["model_sha256"][:HASH_DIGITS],
        "decode": describe_decode(decode, options.locations) + (", alternatives" if options.beams else ""),
    }
    ids = coco_ids(photo.name for photo in photos) if options.format == "coco" else {}
    output = open_output(options.out, options.format, made_by, {ids[photo.name]: photo.place for photo in photos} if ids else {})
    with output:
        return _caption_all(options, photos, ids, output, folder, made_by, decode)


def _caption_all(options, photos: Sequence[Photo], ids: dict, output, folder, made_by: dict[str, str], decode: Decode) -> int:
    """Caption those that `output` lacks; the exit status."""
    entries = {photo.name: {"image": photo.name, "image_id": ids.get(photo.name), "place": photo.place} for photo in photos}
    if any(isinstance(photo.source, bytes) and output.has(entries[photo.name]) for photo in photos):
        raise BadInput(f"--out {options.out}: holds a photo from stdin, perhaps another one; choose another name")
    todo = [photo for photo in photos if not output.has(entries[photo.name]) or _lacks_strip(options, photo)]
    if len(todo) < len(photos):
        print(f"{options.out}: {len(photos) - len(todo)} of {len(photos)} photos are in it already", file=sys.stderr)
    if not todo:
        return 0

    keep_freed_memory()
    captioner = load_captioner(folder, options.device, options.weights, options.encoder, options.locations, options.download)
    if options.max_words is None:
        decode = replace(decode, max_words=captioner.most_words())
    wants_maps = options.attention or options.save_attention
    if wants_maps and captioner.map_kind == "even":
        option = "--attention" if options.attention else "--save-attention"
        raise BadInput(f"{option} {wants_maps}: {folder} has no attention, every word sees the mean region; leave the option out")
    data = captioner.description["data"]["name"]
    drawn = "; it knows drawn scenes only, not photographs" if data == "demo" else ""
    print(f"checkpoint: {folder} (trained on {data}{drawn})", file=sys.stderr)

    broken: list[str] = []
    for photo, pixels, captions in _captioned(captioner, todo, decode, options, broken):
        for path in filter(None, (options.attention, _strip_path(options.save_attention, photo))):
            _draw(path, pixels, captions[0], captioner.map_kind)
        entry = entries[photo.name] | _said(captions, made_by, options.beams)
        output.add(entry | {"image": ""} if options.format == "text" and len(photos) == 1 else entry)
    for reason in broken:
        print(f"caption.py: error: {reason}", file=sys.stderr)
    if broken and len(todo) > 1:
        print(f"{len(broken)} of {len(todo)} photos could not be read, the others are captioned", file=sys.stderr)
    return 1 if broken else 0


def _captioned(
    captioner: Captioner, photos: Sequence[Photo], decode: Decode, options: argparse.Namespace, broken: list[str]
) -> Iterator[tuple]:
    """(photo, what the encoder sees of it, its captions, best first), in order; why a photo cannot be read goes to `broken`."""
    from captioning.progress import track

    maps, most = bool(options.attention or options.save_attention), None if options.beams else 1
    batches = [photos[first : first + AT_ONCE] for first in range(0, len(photos), AT_ONCE)]
    # On a terminal the captions themselves show how far it is.
    quiet = len(batches) == 1 or (options.out in ("", "-") and sys.stdout.isatty())
    bar = track(batches, "captioning", quiet, units=f"batches of {AT_ONCE}")
    started, done = time.monotonic(), 0
    for batch in bar:
        readable = []
        for photo in batch:
            try:
                readable.append((photo, captioner.prepare(photo.open())))
            except BadInput as error:
                broken.append(str(error))
        found = captioner.alternatives_of([_picture(pixels) for _, pixels in readable], decode, maps, most)
        for (photo, pixels), captions in zip(readable, found, strict=True):
            yield photo, pixels, captions
        done += len(readable)
        bar.say(f"{done / (time.monotonic() - started):.1f} images/s")
    if len(batches) > 1:
        seconds = time.monotonic() - started
        print(f"{done} photos captioned in {seconds:.1f} s, {done / seconds:.1f} images/s", file=sys.stderr)


def _said(captions: Sequence[Caption], made_by: dict[str, str], beams: bool) -> dict:
    """What an entry says besides the photo's name."""
    best = captions[0]
    said = {"caption": best.text, "score": best.score, "ended": best.ended, "words": best.words, **made_by}
    return said | {"alternatives": [{"caption": c.text, "score": c.score, "ended": c.ended} for c in captions]} if beams else said


def _strip_path(folder: str | None, photo: Photo) -> Path | None:
    return Path(folder) / strip_name(photo.name) if folder else None


def _lacks_strip(options: argparse.Namespace, photo: Photo) -> bool:
    """--attention draws its one strip at every call; of --save-attention those are made that are not there."""
    path = _strip_path(options.save_attention, photo)
    return bool(options.attention) or (path is not None and not path.exists())


def _is_same_file(one: Path, other: Path) -> bool:
    return one.exists() and other.exists() and one.samefile(other)


def _picture(pixels):
    from PIL import Image

    return Image.fromarray(pixels)


def _draw(path: str | Path, pixels, caption: Caption, kind: str) -> None:
    from captioning.atomic import atomic_write
    from captioning.attention_strip import draw_strip

    strip = draw_strip(_picture(pixels), caption.words, caption.attention, title=MAP_KINDS[kind])
    with atomic_write(path, "wb") as file:
        strip.save(file, format=STRIP_KINDS[Path(path).suffix.lower()])


if __name__ == "__main__":
    run_command(main)
