"""What captioners say of photographs that are not a data set's, for people to judge one by one: right, partly right or wrong.

    python benchmarks/photos.py --captioner checkpoints/flickr8k-convnext --photos free=DIR coco_mini=DIR --references coco_mini=captions.json
    python benchmarks/photos.py --captioner ... --photos ... --open          # lists what nobody has judged yet

Captions every photo as caption.py does (beam 5, no <unk>) and keeps captions and judgements in --to (default results/evidence/flickr8k/photos.json), never
a photo. To judge, write "right", "partly" or "wrong" as a caption's "judged" there, looking at the photo, and in "why" what is wrong; called again, a judgement
stays as long as the caption does, and captioners that are not named stay as they are. A set with references is scored too (protocol coco). reports/build.py
makes photos.md of it.

What right, partly and wrong mean: captioning/judged_photos.py.
"""

import argparse
import json
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))
if sys.path[1:2] == [str(Path(__file__).resolve().parent)]:
    del sys.path[1]  # benchmarks/ itself is not a place to import from

from captioning.atomic import atomic_write  # noqa: E402
from captioning.bad_input import BadInput, run_command  # noqa: E402
from captioning.judged_photos import SCHEMA, keep_judgements, keep_others, read_photos  # noqa: E402

BEAM, AT_ONCE = 5, 16


def parse_arguments(line: list[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--captioner", nargs="+", required=True, metavar="CHECKPOINT")
    parser.add_argument(
        "--photos", nargs="+", required=True, metavar="SET=DIR", help="a folder of photos under the name it is given in the page"
    )
    parser.add_argument(
        "--references", nargs="+", default=[], metavar="SET=FILE", help="captions of a set's photos by people, to score against"
    )
    parser.add_argument("--weights", default="pretrained", metavar="PLACE", help="where an encoder's weights lie, as in caption.py")
    parser.add_argument("--to", type=Path, default=ROOT / "results/evidence/flickr8k/photos.json", metavar="F.json")
    parser.add_argument("--open", action="store_true", help="list the captions that nobody has judged")
    return parser.parse_args(line)


def main() -> int:
    options = parse_arguments()
    places, references = _pairs("--photos", options.photos), _pairs("--references", options.references)
    for name in references.keys() - places.keys():
        raise BadInput(f"--references {name}=...: --photos names no set {name}")
    before = read_photos(options.to) if options.to.exists() else {"captioners": [], "photos": [], "scores": []}
    found = {"schema": SCHEMA, "captioners": [], "photos": [], "scores": []}
    for folder in map(Path, options.captioner):
        about, said, fields = caption_all(folder, places, options.weights)
        found["captioners"].append(about)
        found["photos"] += said
        found["scores"] += [score(about["name"], name, said, Path(file), fields) for name, file in references.items()]
    keep_judgements(found, before)
    keep_others(found, before)
    with atomic_write(options.to) as file:
        file.write(json.dumps(found, indent=1, ensure_ascii=False) + "\n")
    unjudged = [one for one in found["photos"] if one["judged"] is None]
    for one in unjudged if options.open else ():
        print(f"{one['captioner']}  {one['set']}/{one['photo']}: {one['caption']}")
    print(f"{options.to}: {len(found['photos'])} captions, {len(unjudged)} not judged yet")
    return 0


def _pairs(option: str, texts: list[str]) -> dict[str, str]:
    pairs = {}
    for text in texts:
        name, _, place = text.partition("=")
        if not name or not place or name in pairs:
            raise BadInput(f"{option} {text}: give NAME=PLACE, each name once")
        if not Path(place).exists():
            raise BadInput(f"{option} {text}: there is no {place}")
        pairs[name] = place
    return pairs


def caption_all(folder: Path, places: dict[str, str], weights: str) -> tuple[dict, list[dict], dict]:
    """(what the captioner is, its captions, how they were decoded as fields of a signature)."""
    from benchmarks.one_run import decoding_fields
    from captioning import load_captioner
    from captioning.caption_output import HASH_DIGITS, describe_decode
    from captioning.config import Decode, RunConfig
    from captioning.fingerprint import file_sha256
    from captioning.photo_list import find_photos

    captioner, decode = load_captioner(folder, "cpu", weights), Decode(BEAM, ban_unk=True)
    stated = captioner.description
    about = {
        "name": folder.name, "run_id": stated["run_id"], "model": stated["model_sha256"][:HASH_DIGITS], "trained_on": stated["data"]["name"],
        "decode": describe_decode(decode),
    }  # fmt: skip
    said = []
    for name, place in places.items():
        photos = sorted((Path(photo.source) for photo in find_photos([place])), key=lambda path: path.name)
        if not photos:
            raise BadInput(f"--photos {name}={place}: no photos in it")
        for first in range(0, len(photos), AT_ONCE):
            part = photos[first : first + AT_ONCE]
            for path, caption in zip(part, captioner.caption(part, decode), strict=True):
                facts = {"captioner": folder.name, "set": name, "photo": path.name, "sha256": file_sha256(path)}
                said.append(facts | {"caption": caption.text, "judged": None, "why": ""})
    config = RunConfig(**stated["config"] | {"beams": tuple(stated["config"]["beams"])})
    return about, said, decoding_fields(config, decode) | {"max": decode.max_words, "specials": "dropped", "beam": str(BEAM)}


def score(captioner: str, name: str, said: list[dict], file: Path, fields: dict) -> dict:
    """A SCORES object (results/README.md) of one captioner on one set, with `captioner` and `set`."""
    from captioning.caption_files import read_references
    from captioning.protocols import score_coco

    references = read_references(file)
    captions = {references.names.get(one["photo"], Path(one["photo"]).stem): one["caption"] for one in said if one["set"] == name}
    missing = [image for image in captions if image not in references.raw]
    if missing:
        raise BadInput(f"--references {name}={file}: says nothing of {missing[0]}")
    raw = {image: references.raw[image] for image in captions}
    scored = score_coco(captions, raw, ("BLEU", "METEOR", "ROUGE-L", "CIDEr"), split=name, **fields)
    return {"captioner": captioner, "set": name, **scored.to_json()}


if __name__ == "__main__":
    run_command(main)
