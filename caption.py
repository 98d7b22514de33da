"""Caption photos: photo(s) in, caption(s) and attention maps out. Holds `load_captioner`, the one way to load a model.

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
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from captioning.bad_input import BadInput, run_command
from captioning.config import Decode
from captioning.systems import MAP_KINDS, map_kind

ROOT = Path(__file__).resolve().parent
PICTURES = (".jpg", ".jpeg", ".png", ".gif", ".webp", ".bmp", ".tif", ".tiff", ".ppm", ".avif", ".jp2")
STRIP_KINDS = {".png": "png", ".jpg": "jpeg", ".jpeg": "jpeg", ".webp": "webp", "": "png"}
AT_ONCE = 16


@dataclass(frozen=True)
class Caption:
    """text, its words, its score (log-probability in nats, see captioning.decoding); attention (T,h,w) as NumPy, a map a word, if asked for.

    The map of a word that is made of several pieces is their mean.
    """

    text: str
    score: float
    words: list[str]
    attention: Any = None


class Captioner:
    """A trained model with its vocabulary and preprocessing: pictures in, captions out. Made by `load_captioner`."""

    def __init__(self, model, vocabulary, description: dict, device):
        self.model = model.to(device).eval()
        self.vocabulary = vocabulary
        self.description = description
        self.device = device

    def caption(self, images: Sequence, decode: Decode | None = None, attend: bool = False) -> list[Caption]:
        """One caption for each image, the best of the search. images: PIL images, paths or files' bytes, any size and mode.

        decode: None is `Decode()`, with shorter captions where the decoder has no more positions. attend: with a map a word, of attention or,
        where the system's image tokens have no place, of gradients (`map_kind` says which). Raises BadInput: a picture that is none, a search that
        this model can't do.
        """
        import torch

        pixels = [torch.from_numpy(self.prepare(image)) for image in images]
        if not pixels:
            return []
        pixels, decode = torch.stack(pixels).to(self.device), decode or Decode(max_words=self.most_words())
        with torch.inference_mode():
            regions = self.model.encode(pixels)
        if not attend or self.map_kind != "gradient":
            return [found[0] for found in self.caption_regions(regions, decode, attend)]
        from captioning.saliency import gradient_maps

        best = [found[0] for found in self._search(regions, decode, attend=False)]
        maps = gradient_maps(self.model, pixels, [(i, h.words, range(len(h.words))) for i, h in enumerate(best)])
        return [self._caption(h, of_pieces) for h, of_pieces in zip(best, maps, strict=True)]

    def most_words(self, wanted: int = Decode.max_words) -> int:
        """wanted, or as many words as the decoder has positions for."""
        longest = self.model.decoder.longest
        return wanted if longest is None else min(wanted, longest)

    @property
    def map_kind(self) -> str:
        """What a word's map shows: "attention", "gradient" (gradient times input), or "even" where every word sees the mean region."""
        return map_kind(self.description["config"])

    def caption_regions(self, regions, decode: Decode, attend: bool = False) -> list[list[Caption]]:
        """regions (B,R,D) -> for each image the captions of the search, best first."""
        return [[self._caption(h, h.attention) for h in found] for found in self._search(regions, decode, attend)]

    def _search(self, regions, decode: Decode, attend: bool) -> list[list]:
        from captioning.decoding import search, seeded

        if decode.beam > len(self.vocabulary):
            raise BadInput(f"--beam {decode.beam}: wider than the vocabulary of {len(self.vocabulary)} words; choose a smaller beam")
        if self.most_words(decode.max_words) < decode.max_words:
            raise BadInput(f"--max-words {decode.max_words}: this captioner has positions for {self.most_words(decode.max_words)}")
        with seeded(decode.seed, self.device):
            return search(self.model.decoder, regions.to(self.device), decode, attend)

    def prepare(self, image):
        """Any image -> what the encoder sees, uint8 (S,S,3)."""
        import numpy as np
        from PIL import Image

        from captioning.images import open_image, to_upright_rgb
        from captioning.pixels import resize

        pre = self.model.encoder.preprocessing
        picture = to_upright_rgb(image) if isinstance(image, Image.Image) else open_image(image)
        return np.array(resize(picture, pre.size, pre.resize, pre.interpolation))

    def _caption(self, hypothesis, of_pieces) -> Caption:
        """of_pieces: a map for each piece of the hypothesis, (T,R) or (T,h,w), or None."""
        import numpy as np

        groups = self.vocabulary.groups(hypothesis.words)
        maps = None
        if of_pieces is not None:
            if not isinstance(of_pieces, np.ndarray):
                of_pieces = of_pieces.float().cpu().numpy().reshape(-1, *self.model.encoder.grid)
            maps = np.array([of_pieces[places].mean(axis=0) for _, places in groups]).reshape(-1, *of_pieces.shape[1:])
        return Caption(self.vocabulary.text(hypothesis.words), hypothesis.score, [word for word, _ in groups], maps)


def load_captioner(
    path: str | Path, device: str = "auto", weights: str = "pretrained", encoder: str = "", locations: str = ""
) -> Captioner:
    """Load a checkpoint folder. device: auto, cpu or cuda. weights, encoder: see captioning.checkpoint.load_checkpoint.

    locations: what hard attention looks at, in place of what it was configured for: expected, sample or argmax. Raises BadInput.
    """
    import torch

    from captioning.checkpoint import load_checkpoint
    from models import build_model

    if device == "cuda" and not torch.cuda.is_available():
        raise BadInput("--device cuda: torch sees no CUDA device; use --device cpu")
    if device == "auto":
        device = "cuda" if torch.cuda.is_available() else "cpu"
    model, vocabulary, description = load_checkpoint(path, build_model, weights, encoder)
    if locations:
        if not getattr(model.decoder, "hard", False):
            raise BadInput(f"--locations {locations}: {path} has no hard attention; leave the option out")
        model.decoder.locations = locations
    return Captioner(model, vocabulary, description, torch.device(device))


def default_checkpoint() -> Path:
    """A checkpoint that ships, else the one with the best validation BLEU-4 (free, greedy) on the largest data set; ties go to the newest."""
    folders = [p.parent for p in ROOT.glob("checkpoints/*/config.json")]
    folders = folders or [p.parent for pattern in ("results/*/checkpoints/*", "trained/*") for p in ROOT.glob(f"{pattern}/config.json")]
    if not folders:
        raise BadInput(
            "no checkpoint yet; make one with: python benchmarks/run_all.py, or python train.py --data DIR, or name one: --checkpoint DIR"
        )
    return max(folders, key=_worth)


def _worth(folder: Path) -> tuple:
    try:
        description = json.loads((folder / "config.json").read_text(encoding="utf-8"))
        data = description["data"]["name"]
        order = ("demo", "flickr8k", "flickr30k", "coco")
        rank = order.index(data) if data in order else 0.5
        return rank, description["scores"]["val_bleu4_free"], (folder / "config.json").stat().st_mtime
    except (OSError, ValueError, KeyError, TypeError):
        return -1, 0.0, 0.0  # a folder half written is never the default while a whole one is there


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
