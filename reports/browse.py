"""A page to browse a profile's captions image by image: reports/<profile>/browse.html, one self-contained file.

    python -m reports.browse results/evidence/flickr8k --out FILE [--images DIR] [--split val]

Every image of one split with its references, what each finished system says of it, the scores of each caption alone and its errors. The page filters,
sorts and searches by its own script (templates/browse_images.js, browse.js) and fetches nothing. Drawn scenes stand in it; photographs of a data set do
not, unless --images DIR makes a private page that links the files in DIR. Equal results give equal bytes. No torch.
"""

import argparse
import base64
import functools
import gzip
import hashlib
import io
import json
import os
import sys
import zlib
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import NamedTuple
from urllib.parse import quote

import jinja2
import numpy as np
from markupsafe import Markup
from PIL import Image

from captioning.atomic import atomic_write
from captioning.bad_input import BadInput, run_command
from captioning.bleu import nltk_bleu, nltk_rows
from captioning.coco_metrics import cider, rouge_l
from captioning.config import main_beam_of
from captioning.errors import KINDS, analyse
from captioning.ngrams import Corpus, NgramCounts, count_corpus
from captioning.protocols import SPECIALS, words_of
from captioning.scenes import draw_scene, make_scene
from reports.examples import own_file
from reports.profile import Profile, load_profile
from reports.scores import main_beam, warning_of

ROOT = Path(__file__).resolve().parents[1]
TEMPLATES = Path(__file__).with_name("templates")
METRICS = ("BLEU-4", "CIDEr", "ROUGE-L")  # of single captions, without Java; times 100
PHOTOGRAPHS = (".jpg", ".jpeg", ".png", ".webp", ".gif", ".bmp")  # what a browser shows


@dataclass(frozen=True)
class Said:
    """What one system says of the images of a split, in their order: the captions as saved, as words without special ones, whether each ended."""

    texts: Sequence[str]
    words: Sequence[str]
    ended: Sequence[bool]
    beam: str


def write_browse(profile: Profile, target: Path, images: Path | None = None, *, split: str = "test", report: str = "") -> Path:
    """Write the page to the file `target`, whose path comes back.

    images: a folder whose image files the page links; without one, only scenes that the project draws have pictures. split: test or val; both in one page
    would double its size. report: the address of the profile's report as seen from the page, "" for none. BadInput where no system has captions, or
    where `images` has no file of these images.
    """
    data, notes = collect(profile, split)
    if images is not None:
        data["pictures"], missing = linked_pictures(images, data["ids"], target)
        notes += [f"{missing} of these images have no file in the folder that was given."] if missing else []
    page = render(data, home_of(profile.folder), split, notes, report=report, is_private=images is not None)
    with atomic_write(target) as file:
        file.write(page)
    return target


def home_of(folder: Path) -> str:
    """A profile's folder in a command: a page may be passed on, so it names no folder outside the checkout."""
    home = folder.resolve()
    return home.relative_to(ROOT).as_posix() if home.is_relative_to(ROOT) else f"RESULTS/{home.name}"


def collect(profile: Profile, split: str) -> tuple[dict, list[str]]:
    """What the page shows, as its script reads it, and a sentence for each run that is left out.

    {"systems": [{"id", "name", "note"}] S, "beam", "kinds": error classes' ids, "metrics" M, "ids" N, "references": N lists, "pictures": N addresses
    ("" for none), "texts": distinct captions, "captions": (S, N) places in texts, "scores": (M, S, N) in tenths, "strings": distinct words of errors,
    "errors": (S, N) of 0 or a list of kind, word and instead, three numbers an error}. BadInput where there is nothing to show.
    """
    beam = main_beam(profile.finished)
    files, notes = _files_of(profile)
    if not files:
        raise BadInput(f"{profile.name}: no finished run has captions to browse; run `python benchmarks/run_all.py --profile NAME` first")
    shared = Counter(references for _, _, references in files).most_common(1)[0][0]
    lines = _read_lines(shared, split)
    if not lines:
        raise BadInput(f"{shared.name}: no image of split {split!r}; choose another split")
    runs, stamps, new = [], [], {}
    for run, captions, references in files:
        name = profile.names[run["run_id"]]
        if references != shared:
            notes.append(f"{name} is left out: it was scored on other references ({references.name}).")
            continue
        stamp = _stamp(captions, shared, split, beam)
        try:
            if stamp not in _JUDGED:
                new[stamp] = _read_said(captions, split, beam, [line["id"] for line in lines])
            runs.append(run)
            stamps.append(stamp)
        except BadInput as error:
            notes.append(f"{name} is left out: {error}.")
    _judge(new, lines)
    columns = [_JUDGED[stamp] for stamp in stamps]
    texts, strings = {}, {}
    data = {
        "systems": [
            {"id": run["run_id"], "name": profile.names[run["run_id"]], "note": _note_of(run, column.said.beam, beam)}
            for run, column in zip(runs, columns, strict=True)
        ],
        "beam": beam,
        "kinds": list(KINDS),
        "metrics": list(METRICS),
        "ids": [line["id"] for line in lines],
        "references": [line["raw"] for line in lines],
        "pictures": drawn_pictures(split, lines) if profile.name == "demo" else [""] * len(lines),
        "captions": [[texts.setdefault(text, len(texts)) for text in column.said.texts] for column in columns],
        "scores": [[column.tenths[m] for column in columns] for m in range(len(METRICS))],
        "errors": [[_numbered(found, strings) for found in column.errors] for column in columns],
    }
    return data | {"texts": list(texts), "strings": list(strings)}, notes


def _files_of(profile: Profile) -> tuple[list[tuple[dict, Path, Path]], list[str]]:
    """(run, captions, references) of every finished run whose files are those it was scored on, and a sentence for each of the others."""
    files, notes = [], []
    for run in profile.finished:
        try:
            captions, references = (own_file(profile.folder, run, kind) for kind in ("captions", "references"))
        except BadInput as error:
            notes.append(f"{profile.names[run['run_id']]} is left out: {error}.")
            continue
        if captions and references:
            files.append((run, captions, references))
        else:
            notes.append(f"{profile.names[run['run_id']]} is left out: its record names no captions.")
    return files, notes


def _note_of(run: dict, beam: str, main: str) -> str:
    """What a reader must know of a system's captions besides its name."""
    drawn = "one drawn caption" if run["config"].get("sampled") else "" if beam == main else f"beam {beam}"
    return "; ".join(filter(None, [drawn, warning_of(run)]))


def _read_said(path: Path, split: str, beam: str, ids: Sequence[str]) -> Said:
    """One run's captions of the images `ids`, at its main beam where it was never decoded at `beam`."""
    try:
        lines = {line["id"]: line["free"] for line in _read_lines(path, split)}
        if lines.keys() != set(ids):
            raise BadInput(
                f"{path.name} has {len(lines)} images of split {split!r}, its references have {len(ids)}; run again to remake both"
            )
        there = lines[ids[0]]
        beam = beam if beam in there else main_beam_of(there)
        free = [lines[i][beam] for i in ids]
        texts = [entry["text"] for entry in free]
        bare = [" ".join(word for word in text.split() if word not in SPECIALS) for text in texts]
        is_words = _read_header(path)["vocabulary"] is not None
        return Said(texts, bare if is_words else [words_of(text) for text in bare], [entry["ended"] for entry in free], beam)
    except (KeyError, TypeError, AttributeError) as error:
        raise BadInput(f"{path.name}: damaged, no {error} in an entry; run again to remake it") from None


def _read_header(path: Path) -> dict:
    with gzip.open(path, "rt", encoding="utf-8", newline="\n") as file:
        return json.loads(file.readline())


def _read_lines(path: Path, split: str) -> list[dict]:
    """The lines of one split of captions or references. BadInput for a damaged file."""
    try:
        with gzip.open(path, "rt", encoding="utf-8", newline="\n") as file:
            lines = [json.loads(line) for line in file if f'"{split}"' in line]  # parsing the other splits would take as long again
    except (OSError, EOFError, ValueError, zlib.error) as error:
        raise BadInput(f"{path.name}: damaged ({error}); run again to remake it") from None
    return [line for line in lines if line.get("split") == split]


class Judged(NamedTuple):
    """One system's captions with what was found of each: (M, N) scores in tenths, N lists of errors."""

    said: Said
    tenths: list[list[int]]
    errors: list[list]


# run_all.py builds the report again after every run: what was judged of the others is kept for as long as the process lives.
_JUDGED: dict[tuple, Judged] = {}


def _stamp(captions: Path, references: Path, split: str, beam: str) -> tuple:
    return split, beam, *((str(path), path.stat().st_mtime_ns, path.stat().st_size) for path in (captions, references))


def _judge(new: dict[tuple, Said], lines: Sequence[dict]) -> None:
    """Put the systems that are not yet in `_JUDGED` there."""
    if not new:
        return
    scores = caption_scores([said.words for said in new.values()], [line["tokens"] for line in lines])
    tenths = np.rint(scores * 10).astype(int)  # (M, S, N)
    # The data set's own words, as `python -m captioning.errors` judges by; the page shows the captions as written.
    ids, references = [line["id"] for line in lines], {line["id"]: line["tokens"] for line in lines}
    for number, (stamp, said) in enumerate(new.items()):
        found = analyse(dict(zip(ids, said.texts, strict=True)), references, ended=dict(zip(ids, said.ended, strict=True)))
        _JUDGED[stamp] = Judged(said, tenths[:, number].tolist(), [found[i] for i in ids])


def caption_scores(said: Sequence[Sequence[str]], references: Sequence[Sequence[str]]) -> np.ndarray:
    """(M, S, N) scores of each caption alone, times 100, in the order of METRICS. said: per system N captions, words joined by spaces.

    BLEU-4 with one added to hits and n-grams from bigrams on (Lin and Och 2004, doi 10.3115/1220355.1220427), CIDEr with the document frequencies of
    all N images' references, ROUGE-L. They rank captions; a system's score is no mean of its captions' BLEU.
    """
    S, N = len(said), len(references)
    cut = [[caption.split() for caption in captions] for captions in references]
    corpus = count_corpus([caption.split() for captions in said for caption in captions], cut, np.tile(np.arange(N), S))
    rows = nltk_rows(corpus)  # (S * N, 10)
    rows[:, [1, 2, 3, 5, 6, 7]] += 1
    bleu = nltk_bleu(rows)[:, 3].reshape(S, N)
    consensus = np.stack([cider(_only(corpus, system)) for system in range(S)])  # (S, N)
    rouge = np.stack([rouge_l(captions, references) for captions in said])  # (S, N)
    return 100 * np.stack([bleu, consensus, rouge])


def _only(corpus: Corpus, system: int) -> Corpus:
    """The corpus with the captions of one system: CIDEr takes one candidate per image."""
    N = corpus.n_images
    first, end = system * N, (system + 1) * N

    def part(table: NgramCounts) -> NgramCounts:
        low, high = np.searchsorted(table.caption, [first, end])
        return NgramCounts(table.caption[low:high] - first, table.gram[low:high], table.count[low:high], table.kinds)

    length = corpus.candidate_length[first:end]
    return replace(corpus, candidate_image=np.arange(N), candidate_length=length, candidates=[part(table) for table in corpus.candidates])


def _numbered(errors: Sequence, strings: dict[str, int]) -> list[int] | int:
    """Errors of one caption as numbers, three each: places in KINDS and in `strings`. 0 for none: most of a good system's captions have none."""
    kinds = list(KINDS)
    return [
        number
        for error in errors
        for number in (kinds.index(error.kind), *(strings.setdefault(text, len(strings)) for text in (error.word, error.instead)))
    ] or 0


def drawn_pictures(split: str, lines: Sequence[dict]) -> list[str]:
    """The scenes as data URIs, drawn again: scene i of a split hangs on nothing else. "" where its captions are not these references."""
    return [_draw(split, number, tuple(line["tokens"])) for number, line in enumerate(lines)]


@functools.cache
def _draw(split: str, number: int, captions: tuple[str, ...]) -> str:
    scene = make_scene(0, split, number)
    if scene.captions != captions:
        return ""
    drawn = io.BytesIO()
    Image.fromarray(draw_scene(scene)[0]).save(drawn, format="PNG", optimize=True)
    return "data:image/png;base64," + base64.b64encode(drawn.getvalue()).decode()


def linked_pictures(folder: Path, ids: Sequence[str], page: Path) -> tuple[list[str], int]:
    """The address of each image's file in `folder` or a folder of it, as seen from `page` ("" for none), and how many have none.

    A file's name without its ending is the image's id, or ends in it after an underscore and zeros, as COCO's do. BadInput where no image has a file.
    """
    if not folder.is_dir():
        raise BadInput(f"--images {folder}: no such folder; give the folder of the data set's images")
    files: dict[str, Path] = {}  # by whole name, which goes before a number at its end
    numbers: dict[str, Path] = {}
    for home in (folder, *sorted(each for each in folder.iterdir() if each.is_dir())):
        for path in sorted(home.iterdir()):
            if path.suffix.lower() in PHOTOGRAPHS:
                files.setdefault(path.stem, path)
                numbers.setdefault(path.stem.rpartition("_")[2].lstrip("0"), path)
    found = [files.get(image) or numbers.get(image) for image in ids]
    if not any(found):
        tars = ": what lies in a tar cannot be linked, unpack it" if any(folder.glob("*.tar")) else ""
        raise BadInput(
            f"--images {folder}: no file of these images, like {ids[0]}.jpg, in it or in a folder of it{tars or '; give another folder'}"
        )
    return [_address(path, page) if path else "" for path in found], found.count(None)


def _address(path: Path, page: Path) -> str:
    try:
        return quote(Path(os.path.relpath(path.resolve(), page.resolve().parent)).as_posix())
    except ValueError:  # another drive
        return path.resolve().as_uri()


def render(data: dict, home: str, split: str, notes: Sequence[str] = (), *, report: str = "", is_private: bool = False) -> str:
    """The page's HTML. data: as `collect` gives it; home: the profile's folder, as commands in the page call it."""
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(TEMPLATES), autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    script = "".join((TEMPLATES / file).read_text(encoding="utf-8") for file in ("browse_images.js", "browse.js"))
    content = {
        "css": Markup("".join((TEMPLATES / file).read_text(encoding="utf-8") for file in ("style.css", "browse.css"))),
        "script": Markup(script),
        # The page runs this script and no other, whatever a caption holds.
        "script_hash": base64.b64encode(hashlib.sha256(script.encode()).digest()).decode(),
        # Inside <script>, "<" is all that could end the data.
        "json": Markup(json.dumps(data, separators=(",", ":")).replace("<", "\\u003c")),
        "kinds": [(kind, kind.replace("-", " "), sentence) for kind, sentence in KINDS.items()],
    }
    about = {
        "data": data,
        "home": home,
        "name": home.rpartition("/")[2],
        "split": split,
        "notes": notes,
        "report": report,
        "is_private": is_private,
    }
    return environment.get_template("browse.html.j2").render(content | about)


def main() -> None:
    parser = argparse.ArgumentParser(
        prog="python -m reports.browse",
        description="Write a page to browse a profile's captions image by image.",
        epilog="example: python -m reports.browse results/evidence/flickr8k --images flickr8k/images --out browse.html",
    )
    parser.add_argument("profile", metavar="PROFILE_DIR", type=Path, help="a profile's results, like results/evidence/flickr8k")
    parser.add_argument("--out", metavar="FILE", type=Path, required=True, help="the page to write")
    parser.add_argument(
        "--images", metavar="DIR", type=Path, help="link the image files in DIR (loose, not in tars): the page is for this machine alone"
    )
    parser.add_argument("--split", choices=("test", "val"), default="test", help="whose images (default: test)")
    given = parser.parse_args()
    profile = load_profile(given.profile)
    if profile is None:
        raise BadInput(f"{given.profile}: no records in {given.profile / 'runs'}; give a folder like results/demo")
    if given.out.is_dir():
        raise BadInput(f"--out {given.out} is a folder; name the page's file, like {given.out / 'browse.html'}")
    print(write_browse(profile, given.out, given.images, split=given.split))
    for problem in profile.problems:
        print(problem, file=sys.stderr)


if __name__ == "__main__":
    run_command(main)
