"""Caption photos: photo(s) in, caption(s) and attention maps out.

    python caption.py --img photo.jpg --beam 5
    python caption.py --img holiday/ 'more/*.jpg' --json > captions.json
    python caption.py --img photo.jpg --attention strip.png

Reads photos and a checkpoint folder (default: one that ships under checkpoints/, else the best under results/ and trained/); writes to
stdout, and the strip where --attention says.
"""

import argparse
import glob
import json
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from captioning.bad_input import BadInput, run_command
from captioning.captioner import Caption, load_captioner
from captioning.checkpoint_list import default_checkpoint
from captioning.config import Decode
from captioning.systems import MAP_KINDS

PICTURES = (".jpg", ".jpeg", ".png", ".gif", ".webp", ".bmp", ".tif", ".tiff", ".ppm", ".avif", ".jp2")
STRIP_KINDS = {".png": "png", ".jpg": "jpeg", ".jpeg": "jpeg", ".webp": "webp", "": "png"}
AT_ONCE = 16


def find_images(names: Sequence[str]) -> list[Path]:
    """Files, folders (their pictures, by name) and patterns -> files in order. A name that matches nothing is kept: opening it says why."""
    found = []
    for name in names:
        path = Path(name)
        if not name:
            raise BadInput("--img '': an empty name; give files, folders or patterns")
        if path.is_dir():
            inside = sorted(p for p in path.iterdir() if p.suffix.lower() in PICTURES)
            if not inside:
                raise BadInput(f"{name}: no pictures in this folder ({', '.join(PICTURES)})")
            found += inside
        elif not path.exists() and glob.has_magic(name):
            matches = sorted(glob.glob(name, recursive=True))
            if not matches:
                raise BadInput(f"{name}: matches no file")
            found += map(Path, matches)
        else:
            found.append(path)
    return found


def parse_arguments(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description="Caption photos.",
        epilog="example: python caption.py --img photo.jpg --beam 5",
    )
    parser.add_argument("--img", nargs="+", metavar="PHOTO", required=True, help="files, folders or patterns like 'photos/*.jpg'")
    parser.add_argument("--beam", type=int, default=5, help="beam width; 1 is greedy (default 5)")
    parser.add_argument("--checkpoint", metavar="DIR", help="a folder train.py wrote (default: the best one found)")
    parser.add_argument(
        "--attention", metavar="F.png", help="draw each word's map (one photo): attention, or gradients where a system has none"
    )
    parser.add_argument("--json", action="store_true", help="print a list of objects: image, caption, score, words, checkpoint")
    parser.add_argument("--max-words", type=int, help=f"longest caption (default {Decode.max_words}, or what the model can say)")
    parser.add_argument("--length-penalty", type=float, default=0.0, help="divide scores by length to this power (default 0: not at all)")
    parser.add_argument("--no-repeat-ngram", type=int, default=0, metavar="N", help="no n-gram of N words twice (default 0: off)")
    parser.add_argument("--ban-unk", action="store_true", help="never say <unk>")
    parser.add_argument(
        "--weights", default="pretrained", metavar="PLACE", help="where a fetched encoder's weights lie: pretrained, a file or a folder"
    )
    parser.add_argument(
        "--encoder", default="", metavar="FILE.py:FACTORY", help="the checkpoint's own encoder file, where it has one; it is run"
    )
    parser.add_argument(
        "--locations",
        choices=("expected", "sample", "argmax"),
        default="",
        help="hard attention only: look at the expected region, a drawn, the likeliest",
    )
    parser.add_argument("--device", choices=("auto", "cpu", "cuda"), default="auto")
    return parser.parse_args(arguments)


def main() -> int:
    options = parse_arguments()
    at_most = Decode.max_words if options.max_words is None else options.max_words
    decode = Decode(options.beam, at_most, options.length_penalty, options.no_repeat_ngram, options.ban_unk)
    files = find_images(options.img)
    if options.attention and len(files) > 1:
        raise BadInput(f"--attention draws one photo's strip, --img names {len(files)}; give one")
    if options.attention and Path(options.attention).suffix.lower() not in STRIP_KINDS:
        raise BadInput(f"--attention {options.attention}: write a {', '.join(k for k in STRIP_KINDS if k)} file")
    folder = Path(options.checkpoint) if options.checkpoint else default_checkpoint()
    captioner = load_captioner(folder, options.device, options.weights, options.encoder, options.locations)
    if options.max_words is None:
        decode = replace(decode, max_words=captioner.most_words())
    if options.attention and captioner.map_kind == "even":
        raise BadInput(f"--attention {options.attention}: {folder} has no attention, every word sees the mean region; leave the option out")
    data = captioner.description["data"]["name"]
    drawn = "; it knows drawn scenes only, not photographs" if data == "demo" else ""
    print(f"checkpoint: {folder} (trained on {data}{drawn})", file=sys.stderr)

    done, broken = [], []
    for first in range(0, len(files), AT_ONCE):
        pictures = []
        for file in files[first : first + AT_ONCE]:
            try:
                pictures.append((file, captioner.prepare(file)))
            except BadInput as error:
                if len(files) == 1:
                    raise
                broken.append(str(error))
        captions = captioner.caption([_picture(p) for _, p in pictures], decode, attend=bool(options.attention))
        for (file, pixels), caption in zip(pictures, captions, strict=True):
            done.append(
                {"image": str(file), "caption": caption.text, "score": caption.score, "words": caption.words, "checkpoint": str(folder)}
            )
            if not options.json:
                print(caption.text if len(files) == 1 else f"{file}: {caption.text}", flush=True)
            if options.attention:
                _draw(options.attention, pixels, caption, captioner.map_kind)
    if options.json:
        print(json.dumps(done, indent=1, ensure_ascii=False))
    for reason in broken:
        print(f"caption.py: error: {reason}", file=sys.stderr)
    return 2 if broken else 0


def _picture(pixels):
    from PIL import Image

    return Image.fromarray(pixels)


def _draw(path: str, pixels, caption: Caption, kind: str) -> None:
    from captioning.atomic import atomic_write
    from captioning.attention_strip import draw_strip

    strip = draw_strip(_picture(pixels), caption.words, caption.attention, title=MAP_KINDS[kind])
    with atomic_write(path, "wb") as file:
        strip.save(file, format=STRIP_KINDS[Path(path).suffix.lower()])


if __name__ == "__main__":
    run_command(main)
