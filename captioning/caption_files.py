"""Read files of candidate captions and of references, in the layouts that the field writes.

Candidates: COCO results `[{"image_id", "caption"}]`, `{id: caption}`, JSON Lines `{"id", "caption"}`, or a caption per line.
References: COCO captions `{"images", "annotations"}`, Karpathy's JSON, `{id: [captions]}`, JSON Lines `{"id", "references"}` (also this
project's own references files), or a line per image with tabs between its captions. Files may be gzipped.
What lies there is found out from the content. What cannot be used is BadInput, naming the file and the image or the line.
"""

import gzip
import json
import zlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

from captioning.bad_input import BadInput


@dataclass(frozen=True, slots=True)
class References:
    """Per image the captions as written, and the dataset's own tokens where the file has them."""

    raw: dict[str, list[str]]
    tokens: dict[str, list[str]] | None = None  # tokens joined by one space
    split: str = "?"
    names: dict[str, str] = field(default_factory=dict)  # other names that an image goes by (its file's) -> id
    by_line: bool = False  # line i belongs to line i of the candidates


@dataclass(frozen=True, slots=True)
class Candidates:
    """Per image its caption."""

    captions: dict[str, str]
    by_line: bool = False


def read_candidates(path: str | Path) -> Candidates:
    """Raises BadInput."""
    kind, content = _read(Path(path))
    if kind == "text":
        return Candidates({str(number): line for number, line in content}, by_line=True)
    if kind == "json" and isinstance(content, dict):
        entries: Iterable = ((f'entry "{image}"', image, caption) for image, caption in content.items())
    elif kind == "json" and isinstance(content, list):
        entries = (_entry(path, f"entry {number}", entry) for number, entry in enumerate(content))
    elif kind == "lines":
        entries = (_entry(path, f"line {number}", entry) for number, entry in content)
    else:
        raise BadInput(f'{path}: expected a list of {{"image_id", "caption"}} or one object {{id: caption}}')
    captions: dict[str, str] = {}
    for where, image, caption in entries:
        if not isinstance(caption, str):
            raise BadInput(f"{path}, {where}: the caption of image {image} is {type(caption).__name__}, not text")
        _add(captions, image, caption, path, where)
    if not captions:
        raise BadInput(f"{path}: no captions in it")
    return Candidates(captions)


def _entry(path: str | Path, where: str, entry: object) -> tuple[str, object, object]:
    if not isinstance(entry, dict) or "caption" not in entry or not entry.keys() & {"image_id", "id"}:
        raise BadInput(f'{path}, {where}: expected {{"image_id", "caption"}} or {{"id", "caption"}}')
    # COCO results may carry an annotation's "id" beside the image's.
    return where, entry["image_id"] if "image_id" in entry else entry["id"], entry["caption"]


def read_references(path: str | Path, split: str = "test") -> References:
    """`split` chooses the images of files that have splits. Raises BadInput."""
    kind, content = _read(Path(path))
    if kind == "text":
        captions = {str(number): [part for part in line.split("\t") if part.strip()] for number, line in content}
        references = References(captions, by_line=True)
    elif kind == "lines":
        references = _from_lines(path, content, split)
    elif isinstance(content, dict) and "annotations" in content:
        references = _from_coco(path, content)
    elif isinstance(content, dict) and isinstance(content.get("images"), list):
        references = _from_karpathy(path, content["images"], split)
    elif isinstance(content, dict):
        references = References({image: _captions(path, image, captions) for image, captions in content.items()})
    else:
        raise BadInput(f"{path}: expected COCO captions, Karpathy's JSON or one object {{id: [captions]}}")
    if not references.raw:
        raise BadInput(f"{path}: no references in it")
    for image, captions in references.raw.items():
        if not captions:
            where = f"line {image}" if references.by_line else f"image {image}"
            raise BadInput(f"{path}: {where} has no caption; every image needs at least one reference")
    return references


def _from_coco(path: str | Path, content: dict) -> References:
    raw: dict[str, list[str]] = {}
    names: dict[str, str] = {}
    try:
        for image in content.get("images", []):
            _add(raw, image["id"], [], path, "images")
            if "file_name" in image:
                names |= _file_names(image["file_name"], str(image["id"]))
        for number, annotation in enumerate(content["annotations"]):
            image, caption = str(annotation["image_id"]), annotation["caption"]
            if not isinstance(caption, str):
                raise BadInput(f"{path}: annotation {number} (image {image}): the caption is {type(caption).__name__}, not text")
            if "images" in content and image not in raw:
                raise BadInput(f"{path}: annotation {number} names image {image}, which is not among its images")
            raw.setdefault(image, []).append(caption)
    except (KeyError, TypeError) as error:
        raise BadInput(
            f"{path}: looks like COCO captions, but an entry has no {error} (images: id; annotations: image_id, caption)"
        ) from error
    return References(raw, names=names)


def _from_karpathy(path: str | Path, images: list, split: str) -> References:
    raw: dict[str, list[str]] = {}
    tokens: dict[str, list[str]] = {}
    names: dict[str, str] = {}
    splits = set()
    try:
        for image in images:
            own = "train" if image["split"] == "restval" else image["split"]
            splits.add(own)
            if own != split:
                continue
            file = image["filename"]
            identity = str(image.get("cocoid", Path(file).stem))
            _add(raw, identity, [sentence["raw"] for sentence in image["sentences"]], path, file)
            tokens[identity] = [" ".join(sentence["tokens"]) for sentence in image["sentences"]]
            names |= _file_names(file, identity)
    except (KeyError, TypeError) as error:
        raise BadInput(
            f"{path}: looks like Karpathy's JSON, but an image has no {error} (split, filename, sentences with tokens, raw)"
        ) from error
    if not raw:
        raise BadInput(f"{path}: no image of split {split!r}; it has {', '.join(sorted(splits))} (--split)")
    return References(raw, tokens, split, names)


def _from_lines(path: str | Path, lines: Iterable[tuple[int, object]], split: str) -> References:
    raw: dict[str, list[str]] = {}
    tokens: dict[str, list[str]] = {}
    has_splits = False
    for number, entry in lines:
        if not isinstance(entry, dict) or "id" not in entry or not entry.keys() & {"references", "raw"}:
            raise BadInput(f'{path}, line {number}: expected {{"id", "references": [captions]}}')
        if "split" in entry:
            has_splits = True
            if entry["split"] != split:
                continue
        captions = _captions(path, entry["id"], entry["references"] if "references" in entry else entry["raw"])
        _add(raw, entry["id"], captions, path, f"line {number}")
        if "tokens" in entry:
            tokens[str(entry["id"])] = _captions(path, entry["id"], entry["tokens"])
    if has_splits and not raw:
        raise BadInput(f"{path}: no image of split {split!r} (--split)")
    return References(raw, tokens if len(tokens) == len(raw) else None, split if has_splits else "?")


def _captions(path: str | Path, image: object, captions: object) -> list[str]:
    if isinstance(captions, str):
        captions = [captions]
    if not isinstance(captions, list) or not all(isinstance(caption, str) for caption in captions):
        raise BadInput(f"{path}: image {image}: expected a list of captions")
    return captions


def _file_names(file: str, identity: str) -> dict[str, str]:
    return {file: identity, Path(file).stem: identity}


def _add(found: dict, image: object, value: object, path: str | Path, where: str) -> None:
    if isinstance(image, (bool, float)) or not isinstance(image, (str, int)):
        raise BadInput(f"{path}, {where}: an image's id is text or a whole number, not {image!r}")
    if str(image) in found:
        raise BadInput(f"{path}, {where}: image {image} is there twice; each image has one entry")
    found[str(image)] = value


def _read(path: Path) -> tuple[str, object]:
    """("json", value), ("lines", [(line number, value)]) or ("text", [(line number, line)])."""
    text = _text(path)
    name = path.name.lower().removesuffix(".gz")
    first = text.lstrip()[:1]
    if name.endswith((".txt", ".tsv")) or (first not in ("{", "[") and not name.endswith((".json", ".jsonl", ".ndjson"))):
        # Only "\n" ends a line: str.splitlines would also cut a caption at U+2028 or a form feed.
        lines = text.removesuffix("\n").split("\n") if text else []
        return "text", [(number, line.removesuffix("\r")) for number, line in enumerate(lines, start=1)]
    if name.endswith((".jsonl", ".ndjson")) or _is_json_lines(text):
        return "lines", list(_json_lines(path, text))
    return "json", _json(path, text, 0)


def _text(path: Path) -> str:
    if path.is_dir():
        raise BadInput(f"{path}: is a folder; name a file of captions")
    try:
        data = path.read_bytes()
        data = gzip.decompress(data) if data[:2] == b"\x1f\x8b" else data
    except FileNotFoundError:
        raise BadInput(f"{path}: no such file") from None
    except (EOFError, zlib.error, gzip.BadGzipFile) as error:
        raise BadInput(f"{path}: a damaged gzip file ({error})") from error
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise BadInput(f"{path}: byte {error.start} is not UTF-8; save the file as UTF-8") from error
    if not text.strip():
        raise BadInput(f"{path}: empty")
    return text


def _is_json_lines(text: str) -> bool:
    """Whether the first of several lines is an object by itself."""
    first, _, rest = text.lstrip().partition("\n")
    if not rest.strip() or not first.startswith("{"):
        return False
    try:
        return isinstance(json.loads(first), dict)
    except ValueError:
        return False


def _json_lines(path: Path, text: str) -> Iterator[tuple[int, object]]:
    for number, line in enumerate(text.split("\n"), start=1):
        if line.strip():
            yield number, _json(path, line, number - 1)


def _json(path: Path, text: str, lines_before: int) -> object:
    try:
        return json.loads(text, object_pairs_hook=_object_of_different_keys)
    except json.JSONDecodeError as error:
        line = lines_before + error.lineno
        raise BadInput(f"{path}, line {line}, column {error.colno}: wrong JSON ({error.msg})") from error
    except _Twice as error:
        raise BadInput(f'{path}: "{error}" is there twice in one object; each image has one entry') from error
    except RecursionError:
        raise BadInput(f"{path}: wrong JSON (nested too deeply)") from None


class _Twice(Exception):
    pass


def _object_of_different_keys(pairs: list[tuple[str, object]]) -> dict:
    result = dict(pairs)
    if len(result) < len(pairs):
        seen: set[str] = set()
        raise _Twice(next(key for key, _ in pairs if key in seen or seen.add(key)))
    return result


def check_lines(candidates: Candidates, references: References, path: Path, references_path: Path) -> None:
    """BadInput where one of them goes by lines and the other by ids, or both by lines and not by as many."""
    if candidates.by_line != references.by_line:
        lines, other = (path, references_path) if candidates.by_line else (references_path, path)
        raise BadInput(f"{lines}: lines have no image ids, and {other} has them; give both as lines, or both with ids")
    if candidates.by_line and len(candidates.captions) != len(references.raw):
        raise BadInput(
            f"{path} has {len(candidates.captions)} lines, {references_path} has {len(references.raw)}; line i belongs to line i"
        )
