"""Captions of photographs that are no data set's, judged by people: the file that benchmarks/photos.py writes. No torch.

{"schema", "how" (may be missing: who judged, and how, in the judge's words), "captioners": [{"name", "run_id", "model", "trained_on", "decode"}],
 "photos": [{"captioner", "set", "photo" (file name), "sha256", "caption", "judged" (one of JUDGEMENTS, or null), "why"}],
 "scores": [{"captioner", "set", ...a SCORES object of results/README.md}]}
"""

import json
from pathlib import Path

from captioning.bad_input import BadInput

FILE = "photos.json"  # in a profile's results folder
SCHEMA = 1
JUDGEMENTS = {
    "right": "what it says is there, and it is what the photo is about",
    "partly": "the thing that it names first is there, of a person whatever sex or age, and something else that it says is true, but not all",
    "wrong": "that thing is not there, or nothing else that is said of it is true",
}
_TEXTS = ("set", "photo", "sha256", "caption", "why")


def read_photos(path: Path) -> dict:
    """Raises BadInput that names the file and what is wrong."""
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        if content["schema"] != SCHEMA:
            raise ValueError(f"schema {content['schema']!r}, this version reads {SCHEMA}")
        if not isinstance(content.get("how", ""), str):
            raise ValueError("'how' is no text")
        names = {one["name"] for one in content["captioners"]}
        for one in content["photos"]:
            if one["captioner"] not in names or not all(isinstance(one[field], str) for field in _TEXTS):
                raise ValueError(f"the entry of {one['photo']!r} lacks something")
            if one["judged"] is not None and one["judged"] not in JUDGEMENTS:
                raise ValueError(f"{one['photo']} is judged {one['judged']!r}; choose {', '.join(JUDGEMENTS)}")
        for one in content["scores"]:
            if one["captioner"] not in names or not isinstance(one["scores"], dict) or not isinstance(one["n_images"], int):
                raise ValueError("a score of nobody, or of nothing")
        return content
    except OSError as error:
        raise BadInput(f"{path}: {error.strerror}") from error
    except (ValueError, LookupError, TypeError, AttributeError) as error:
        raise BadInput(f"{path}: not a file of judged captions ({error}); make it with benchmarks/photos.py") from error


def keep_judgements(found: dict, before: dict) -> None:
    """Put into `found` the judgements of `before`, of captions that are still said of the same photo by whoever says them."""
    known = {(one["sha256"], one["caption"]): one for one in before["photos"] if one["judged"] is not None}
    for one in found["photos"]:
        if earlier := known.get((one["sha256"], one["caption"])):
            one |= {"judged": earlier["judged"], "why": earlier["why"]}


def keep_others(found: dict, before: dict) -> None:
    """Put into `found` what `before` has and it has not, for a person looked at those photos: how it was done, other captioners, and sets of the same
    ones, and scores of captions that did not change."""
    found |= {"how": before["how"]} if "how" in before else {}
    new = {one["name"]: one for one in found["captioners"]}
    found["captioners"] += [one for one in before["captioners"] if one["name"] not in new]
    valid = {one["name"] for one in before["captioners"] if new.get(one["name"], one) == one}  # its own, or another's with the same name
    made = {(one["captioner"], one["set"]) for one in found["photos"]}
    found["photos"] += [one for one in before["photos"] if one["captioner"] in valid and (one["captioner"], one["set"]) not in made]
    scored = {(one["captioner"], one["set"]) for one in found["scores"]}
    for one in before["scores"]:
        key = one["captioner"], one["set"]
        if one["captioner"] in valid and key not in scored and _captions(found, *key) == _captions(before, *key):
            found["scores"].append(one)


def _captions(content: dict, captioner: str, set_: str) -> dict[str, str]:
    """A photo's sha256 -> its caption."""
    return {one["sha256"]: one["caption"] for one in content["photos"] if (one["captioner"], one["set"]) == (captioner, set_)}


def counts_of(content: dict, captioner: str, set_: str) -> dict[str, int]:
    """Judgement -> how many of a captioner's captions of a set; "not judged" last, where there are such."""
    judged = [one["judged"] for one in content["photos"] if (one["captioner"], one["set"]) == (captioner, set_)]
    counts = {judgement: judged.count(judgement) for judgement in JUDGEMENTS}
    return counts | ({"not judged": judged.count(None)} if None in judged else {})
