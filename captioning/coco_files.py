"""COCO's own captions files: {"images": [{"id", "file_name"}], "annotations": [{"image_id", "id", "caption"}]}.

`load_coco(paths, root)` reads captions_train*.json and captions_val*.json together, or any one file alone; images lie in train2014/ and val2014/ (the
captions files' own names say which), in other folders, or in tars.

COCO has no public captions for its test images. So the val file is cut into two halves, val and test, and one file alone into train, val and test, both
by `captioning.made_splits`; a third file captions_test*.json makes all splits given. Published numbers use Karpathy's split instead: with dataset_coco.json in
the folder, `load_data` takes that one. Tokens are made by `captioning.tokens`; raw captions stay as written.
"""

import re
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path

from captioning.bad_input import BadInput
from captioning.data import SPLITS, CaptionData, Example
from captioning.fingerprint import fingerprint
from captioning.image_files import find_images
from captioning.karpathy import check_examples, check_places, read_json
from captioning.made_splits import SEED, describe_rule, make_splits
from captioning.tokens import tokenize

LAYOUT = 'a captions file of COCO: {"images": [{"id", "file_name"}], "annotations": [{"image_id", "id", "caption"}]}'
NAME = re.compile(r"captions_(train|val|test)(.*)\.json")
HALVES = {"val": 0.5, "test": 0.5}


def coco_files(folder: Path) -> list[Path]:
    """The captions files to read together from `folder` or its annotations/: one, or those of train, val (and test) with the same ending. [] for none.
    Raises BadInput where there are several choices.
    """
    found = sorted(file for place in (folder, folder / "annotations") for file in place.glob("captions*.json") if file.is_file())
    if len(found) < 2:
        return found
    matches = [NAME.fullmatch(file.name) for file in found]
    one_set = None not in matches and len({(file.parent, match[2]) for file, match in zip(found, matches, strict=True)}) == 1
    if not one_set:
        names = ", ".join(str(file.relative_to(folder)) for file in found)
        raise BadInput(
            f"{folder}: the captions files of more than one data set lie here ({names}); keep the train and val file of one year, "
            f"or give the path of one file, like {found[0]}"
        )
    by_split = {match[1]: file for file, match in zip(found, matches, strict=True)}
    if not {"train", "val"} <= by_split.keys():
        raise BadInput(
            f"{folder}: {' and '.join(file.name for file in found)} without a captions file of train and one of val; "
            "put the missing file beside them, or give the path of one file"
        )
    return [by_split[split] for split in SPLITS if split in by_split]


def image_root(path: Path) -> Path:
    """Where the images of the captions file `path` are looked for: its folder, or the folder above where that is called annotations."""
    folder = path.absolute().parent
    return folder.parent if folder.name == "annotations" else path.parent


def load_coco(paths: Sequence[Path], root: Path) -> CaptionData:
    """The data set in one captions file, or in those of train, val (and test), its images under `root`. Raises BadInput."""
    read = [(path, _examples(path)) for path in paths]
    if len(paths) == 1:
        (path, examples), name = read[0], paths[0].stem
        splits, rule = make_splits(path, _names(path, examples)), describe_rule()
    else:
        ending = NAME.fullmatch(paths[0].name)[2]
        path, name = paths[0].with_name(f"captions_*{ending}.json"), f"coco{ending}" if ending else root.resolve().name
        examples = [example for _, part in read for example in part]
        splits = ["train"] * len(read[0][1])
        if len(paths) == len(SPLITS):
            splits, rule = splits + ["val"] * len(read[1][1]) + ["test"] * len(read[2][1]), "given"
        else:
            splits += make_splits(paths[1], _names(*read[1]), HALVES)
            rule = f"{paths[0].name} is train, {paths[1].name} is val and test in halves {describe_rule(HALVES, SEED)}"
    if rule != "given":
        print(
            f"{path}: no test split in it; {rule}. To compare with papers put dataset_coco.json (Karpathy's split) into {root}",
            file=sys.stderr,
        )
    examples = [Example(e.image_id, e.file, split, e.captions, e.raw) for e, split in zip(examples, splits, strict=True)]
    check_examples(path, examples)
    images = find_images(root, [example.file for example in examples])
    check_places(path, examples, images)
    return CaptionData(name, root, examples, fingerprint(examples, images), images, rule)


def _names(path: Path, examples: Iterable[Example]) -> list[str]:
    """The images' names as the captions file gives them."""
    return [example.file.removeprefix(_folder(path)) for example in examples]


def _folder(path: Path) -> str:
    """Where COCO keeps the images of this captions file: "train2014/" for captions_train2014.json, "" for a name of another kind."""
    match = NAME.fullmatch(path.name)
    return f"{match[1]}{match[2]}/" if match else ""


def _examples(path: Path) -> list[Example]:
    """In the order of images[], all of them in "train" for the time being."""
    content = read_json(path)
    if not isinstance(content, dict) or not all(isinstance(content.get(part), list) for part in ("images", "annotations")):
        raise BadInput(f"{path}: not {LAYOUT}; give one, or name a file of Karpathy's layout dataset_*.json")
    folder = _folder(path)
    files: dict[object, str] = {}
    for number, row in enumerate(content["images"]):
        if (
            not isinstance(row, dict)
            or not _is_id(row.get("id"))
            or not isinstance(row.get("file_name"), str)
            or not row["file_name"].strip()
        ):
            raise BadInput(f"{path}: images[{number}] has no id or no file_name; it must be {LAYOUT}")
        if row["id"] in files:
            raise BadInput(f"{path}: images[{number}] ({row['file_name']}) has the duplicate id {row['id']}; give each image one row")
        files[row["id"]] = row["file_name"] if "/" in row["file_name"] else folder + row["file_name"]
    captions = _captions(path, content["annotations"], files)
    return [
        Example(str(key), file, "train", tuple(tokens for tokens, _ in captions[key]), tuple(raw for _, raw in captions[key]))
        for key, file in files.items()
    ]


def _captions(path: Path, annotations: Sequence[object], files: dict[object, str]) -> dict[object, list[tuple[str, str]]]:
    """Per image its captions as (tokens, raw), in the file's order."""
    captions: dict[object, list[tuple[str, str]]] = {key: [] for key in files}
    seen: set[object] = set()
    for number, row in enumerate(annotations):
        if not isinstance(row, dict) or not _is_id(row.get("image_id")) or not isinstance(row.get("caption"), str):
            raise BadInput(f"{path}: annotations[{number}] has no image_id or no caption; it must be {LAYOUT}")
        if row["image_id"] not in files:
            raise BadInput(
                f"{path}: annotations[{number}] belongs to image {row['image_id']}, which is not in images[]; add that image or take the row out"
            )
        if _is_id(row.get("id")):
            if row["id"] in seen:
                raise BadInput(f"{path}: annotations[{number}] has the duplicate id {row['id']}; keep one of the two rows")
            seen.add(row["id"])
        raw = row["caption"]
        tokens = tokenize(raw)
        if not tokens:
            raise BadInput(
                f"{path}: annotations[{number}] (image {files[row['image_id']]}) has an empty caption or one without a word; write it or take the row out"
            )
        captions[row["image_id"]].append((tokens, raw if raw != tokens else tokens))
    return captions


def _is_id(value: object) -> bool:
    return isinstance(value, (str, int)) and not isinstance(value, bool)
