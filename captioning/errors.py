"""Which errors captions have, judged by the references alone: things made up or left out, wrong colours, counts and relations, repetition, and what is broken off.

    python -m captioning.errors results/demo/runs/RUN.json
    python -m captioning.errors captions.json --references captions_val2014.json
    python -m captioning.errors mine.json --references refs.json --compare theirs.json --csv errors.csv

Deterministic: a lexicon (captioning/lexicon/) and rules, no judge model. Reads a record, whose captions and references lie beside it, or files in the
layouts of captioning/caption_files.py. Prints shares of captions with 95 % intervals, what causes them, the worst images, and how rich the captions are.
Ends with 0; with 2 if a file or an option cannot be used.
"""

import argparse
import csv
import json
import sys
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from captioning.atomic import atomic_write
from captioning.bad_input import BadInput, run_command
from captioning.caption_files import References, check_lines, read_candidates, read_references
from captioning.config import main_beam_of
from captioning.error_counts import causes, confusions, coverage, rates, richness, worst_images
from captioning.error_rules import RULES, Error, find_errors
from captioning.training_captions import caption_hash, normal_form, read_training, training_beside

__all__ = ["KINDS", "Error", "analyse", "spoken"]

KINDS = {
    "invented-object": "It names an object that no reference names.",
    "missed-object": "It does not name an object that all references name.",
    "wrong-colour": "It gives an object a colour that no reference gives it, though some give it one.",
    "wrong-count": "It gives an object a count that no reference agrees with, though some state one.",
    "wrong-relation": "It places two objects in a relation that no reference agrees with, though some state one.",
    "repetition": "It says a word twice in a row, a phrase of three words or more twice, or joins a thing to itself.",
    "unended": "It was cut at the longest length, or ends in a word that no caption can end with.",
    "unknown-word": "It holds <unk>.",
    "too-general": "The very same caption is given to more than 1 % of the images.",
}
TITLES = {
    "invented-object": "Invented object",
    "missed-object": "Missed object",
    "wrong-colour": "Wrong colour",
    "wrong-count": "Wrong count",
    "wrong-relation": "Wrong relation",
    "repetition": "Repetition",
    "unended": "Unended",
    "unknown-word": "Unknown word",
    "too-general": "Too general",
}
LEAST_IMAGES = 100  # of a set in which a caption can be called too general
TOO_GENERAL = 0.01  # of the images
COUNTED = tuple(kind for kind in KINDS if kind not in ("unended", "unknown-word", "too-general"))  # a caption can have several of the kind

WORST = 3  # images of a kind that are printed

_EXAMPLES = """
a record                python -m captioning.errors results/demo/runs/RUN.json --split test --beam 5
files of captions       python -m captioning.errors captions.json --references captions_val2014.json
two systems             python -m captioning.errors mine.json --references refs.json --compare theirs.json

exit status             0 analysed, 2 a file or an option cannot be used
"""


def analyse(
    captions: Mapping[str, str], references: Mapping[str, Sequence[str]], *, ended: Mapping[str, bool] | None = None
) -> dict[str, list[Error]]:
    """The errors of each caption, in the order of `KINDS`. Ids are the images'; `ended[id]` is False for a caption cut at the longest length.

    KeyError for a caption whose image has no references.
    """
    general = _too_general(captions)
    found = {}
    for image, caption in captions.items():
        errors = find_errors(caption, references[image], ended is None or ended.get(image, True))
        found[image] = errors + [Error("too-general", normal_form(caption), "")] * (normal_form(caption) in general)
    return found


def _too_general(captions: Mapping[str, str]) -> frozenset[str]:
    if len(captions) < LEAST_IMAGES:
        return frozenset()
    counts = Counter(map(normal_form, captions.values()))
    return frozenset(caption for caption, count in counts.items() if count > TOO_GENERAL * len(captions))


@dataclass(frozen=True, slots=True)
class Spoken:
    """What one system said of some images: captions, whether each ended by itself, references, and the words it can say (None: not known, or subwords)."""

    captions: dict[str, str]
    references: dict[str, list[str]]
    ended: dict[str, bool]
    vocabulary: tuple[str, ...] | None = None

    def errors(self) -> dict[str, list[Error]]:
        return analyse(self.captions, self.references, ended=self.ended)


def spoken(profile_folder: Path, record: dict, split: str, beam: str, references: dict[str, list[str]] | None = None) -> Spoken:
    """The free captions of a record, from the files it names. `references` saves reading them again. BadInput where the files cannot be used."""
    said = _said(profile_folder, record, split, beam)
    references = references or references_of(profile_folder, record, split)
    missing = next((image for image in said.captions if image not in references), None)
    if missing is not None:
        raise BadInput(f"{record['run_id']}: image {missing} has no references; run again to remake them")
    return replace(said, references={image: references[image] for image in said.captions})


def _said(profile_folder: Path, record: dict, split: str, beam: str) -> Spoken:
    """The captions alone."""
    from captioning.record_facts import DAMAGED, read_lines

    path = _file_of(profile_folder, record, "captions")
    try:
        header, *lines = read_lines(path)
        own = [line for line in lines if line["split"] == split]
        beams = sorted({width for line in own for width in line["free"]}, key=int)
        if not own or any(beam not in line["free"] for line in own):
            raise BadInput(
                f"{record['run_id']}: no captions of split {split} at beam {beam}; there are beams {', '.join(beams) or 'none'} (--beam)"
            )
        said = {line["id"]: line["free"][beam] for line in own}
        captions, ended = {image: one["text"] for image, one in said.items()}, {image: bool(one["ended"]) for image, one in said.items()}
        vocabulary = header["vocabulary"]
    except DAMAGED as error:
        raise BadInput(f"{path}: damaged ({type(error).__name__}: {error}); run again to remake it") from None
    return Spoken(captions, {}, ended, tuple(vocabulary) if vocabulary else None)


def training_of(references: Path) -> frozenset[str] | None:
    """Hashes of the training captions that lie beside a references file; None where none do. BadInput where they are damaged."""
    path = training_beside(references)
    return read_training(path) if path.exists() else None


def references_of(profile_folder: Path, record: dict, split: str) -> dict[str, list[str]]:
    """The data set's tokens of a split, per image. BadInput."""
    found = read_references(_file_of(profile_folder, record, "references"), split)
    return found.tokens or found.raw


def _file_of(profile_folder: Path, record: dict, kind: str) -> Path:
    about = record.get("files", {}).get(kind)
    path = profile_folder / about["path"] if about else profile_folder
    if not about or not path.resolve().is_relative_to(profile_folder.resolve()):
        raise BadInput(f"{record['run_id']}: the record names no {kind} file of its own; run again to remake it")
    if not path.exists():
        raise BadInput(f"{path}: no such file; run again to remake it")
    return path


# ---- The command ----


def arguments(line: list[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m captioning.errors",
        description="Which errors captions have, judged by the references alone: shares with 95 % intervals, and what causes them.",
        epilog=_EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("captions", metavar="RECORD_OR_CAPTIONS", type=Path, help="a run's record, or a file of captions")
    parser.add_argument("--references", metavar="R", type=Path, help="what people wrote; a record has its own, which these replace")
    parser.add_argument("--beam", metavar="N", type=int, help="of a record (default: 5, or its widest)")
    parser.add_argument(
        "--split", default="test", choices=("train", "val", "test"), help="of a record or references with splits (default: test)"
    )
    parser.add_argument("--compare", metavar="OTHER", type=Path, help="another record or captions of the same images: paired differences")
    parser.add_argument(
        "--training",
        metavar="DATA",
        type=Path,
        help="the training captions, to count captions copied from them: as R, or training-*.txt.gz; a record has its own",
    )
    parser.add_argument("--csv", metavar="F.csv", type=Path, help="write a row per caption; with --compare of both")
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    parser.add_argument("--draws", type=int, default=10_000, metavar="N", help="bootstrap resamples (default: 10000)")
    options = parser.parse_args(line)
    if not 1 <= options.draws <= 1_000_000:
        raise BadInput(f"--draws {options.draws}: expected 1 to 1000000")
    if options.beam is not None and options.beam < 1:
        raise BadInput(f"--beam {options.beam}: give a beam width of the record, 1 or more")
    return options


def main(line: list[str] | None = None) -> None:
    options = arguments(line)
    system = _load(options.captions, options)
    if options.beam is not None and not any(map(_is_record, filter(None, (options.captions, options.compare)))):
        raise BadInput(f"--beam {options.beam}: only a record has beams, and {options.captions} is none; leave it out")
    systems, rows = [system.errors()], [(str(options.captions), system.captions)]
    if options.compare:
        other = _load(options.compare, options)
        if other.captions.keys() != system.captions.keys():
            raise BadInput(f"{options.compare}: not the same images as {options.captions}; give captions of the same split")
        systems.append(other.errors())
        rows.append((str(options.compare), other.captions))
    training = _training(options)
    errors = systems[0]
    found = rates(systems, kinds_of(errors), options.draws)
    result = {"rules": RULES, "images": len(errors), "kinds": {}}
    for kind, rate in found[0].items():
        about = {"share": rate.value, "interval": list(rate.ends())}
        result["kinds"][kind] = about | {"causes": causes(errors, kind), "worst_images": worst_images(errors, kind)}
    known = coverage(system.references)
    result |= {"words": richness(system.captions.values(), system.vocabulary, training), "confusions": confusions(errors)}
    result["lexicon"] = {**known, "unknown": known["unknown"][:20]}
    if options.compare:
        made = {kind: rate.minus(found[1][kind]) for kind, rate in found[0].items()}
        result["differences"] = {kind: {"difference": rate.value, "interval": list(rate.ends())} for kind, rate in made.items()}
    if options.csv:
        with atomic_write(options.csv) as file:
            named = [(*row, found) for row, found in zip(rows, systems, strict=True)]
            write_rows(file, named if options.compare else [("", system.captions, errors)], "system")
    if options.json:
        print(json.dumps(result))
    else:
        _print(result)


def kinds_of(errors: Mapping[str, Sequence[Error]]) -> tuple[str, ...]:
    """The kinds that are defined over a set of this size."""
    return tuple(kind for kind in KINDS if kind != "too-general" or len(errors) >= LEAST_IMAGES)


def write_rows(file, systems: Sequence[tuple[str, Mapping[str, str], Mapping[str, Sequence[Error]]]], column: str = "run_id") -> None:
    """CSV: a row per caption, a column per kind with its errors, "word (instead)", semicolons between. systems: (name or "", captions, errors).

    column: what the names are called; it is left out where there are none.
    """
    writer = csv.writer(file, lineterminator="\n")
    with_name = any(name for name, _, _ in systems)
    writer.writerow([*([column] * with_name), "id", "caption", "errors", *KINDS])
    for name, captions, errors in systems:
        for image, found in errors.items():
            cells = ["; ".join(_in_words(error) for error in found if error.kind == kind) for kind in KINDS]
            writer.writerow([*map(_writable, [*([name] * with_name), image, captions[image]]), len(found), *cells])


def _writable(text: str) -> str:
    """Without halves of surrogate pairs, which JSON may hold and no file."""
    return text.encode("utf-8", "replace").decode()


def _in_words(error: Error) -> str:
    return f"{error.word} ({error.instead})" if error.instead and error.instead != error.word else error.word


def _load(path: Path, options: argparse.Namespace) -> Spoken:
    if options.references is None or _is_record(path):
        return _load_record(path, options)
    references = read_references(options.references, options.split)
    captions = read_candidates(path)
    check_lines(captions, references, path, options.references)
    return _beside(Spoken(captions.captions, {}, dict.fromkeys(captions.captions, True)), path, references, options)


def _beside(said: Spoken, path: Path, references: References, options: argparse.Namespace) -> Spoken:
    """The captions with these references, by the ids that these have. BadInput where an image is not among them."""
    own = {image: image if image in references.raw else references.names.get(image, image) for image in said.captions}
    unknown = next((image for image in own.values() if image not in references.raw), None)
    if unknown is not None:
        raise BadInput(
            f"{path}: image {unknown} is not among the references of {options.references}; check the split and the ids (--split)"
        )
    if len(set(own.values())) < len(own):
        twice = next(image for image, count in Counter(own.values()).items() if count > 1)
        raise BadInput(f"{path}: image {twice} is there twice, once by its file's name")
    if len(own) < len(references.raw):
        print(f"{path}: {len(own)} of the {len(references.raw)} images of {options.references} have a caption", file=sys.stderr)
    written = references.tokens or references.raw
    captions, ended = ({own[image]: value for image, value in by_image.items()} for by_image in (said.captions, said.ended))
    return Spoken(captions, {image: written[image] for image in captions}, ended, said.vocabulary)


def _is_record(path: Path) -> bool:
    """Whether a file holds a run's record and no captions: both may be one JSON object."""
    try:
        content = json.loads(path.read_text(encoding="utf-8")) if path.suffix == ".json" else None
    except (OSError, ValueError, RecursionError):
        return False  # its reader says what is wrong
    return isinstance(content, dict) and {"schema", "run_id", "status"} <= content.keys()


def _load_record(path: Path, options: argparse.Namespace) -> Spoken:
    from captioning.records import read_record

    if path.parent.name != "runs" and _is_record(path):
        raise BadInput(f"{path}: a record is read where its run wrote it, as results/<profile>/runs/<run_id>.json: captions lie beside it")
    if path.suffix != ".json" or path.parent.name != "runs":
        raise BadInput(f"{path}: captions need --references; only a record (results/<profile>/runs/<run_id>.json) has its own")
    record = read_record(path)
    if record["status"] != "finished":
        raise BadInput(f"{path}: this run failed and has no captions; run it again")
    free = record["scores"].get(options.split, {}).get("free", {})
    beam = str(options.beam) if options.beam is not None else main_beam_of(free or ["5"])
    if options.references is None:
        return spoken(path.parent.parent, record, options.split, beam)
    references = read_references(options.references, options.split)
    if references.by_line:
        raise BadInput(f"{options.references}: lines have no image ids, and {path} has them; give references with ids")
    return _beside(_said(path.parent.parent, record, options.split, beam), path, references, options)


def _training(options: argparse.Namespace) -> frozenset[str] | None:
    """Hashes of the training captions: those given, else those beside a record's references; None where there are none."""
    path = options.training
    if path is None:
        if options.references is not None and not _is_record(options.captions):
            return None
        from captioning.records import read_record

        try:
            references = _file_of(options.captions.parent.parent, read_record(options.captions), "references")
        except BadInput:
            return None  # lost, and replaced by --references
        return training_of(references)
    if path.name.startswith("training-") and path.name.endswith(".txt.gz"):
        return read_training(path)
    known = read_references(path, "train")
    return frozenset(caption_hash(text) for texts in (known.raw, known.tokens or {}) for captions in texts.values() for text in captions)


def _print(result: dict) -> None:
    from rich.console import Console
    from rich.table import Table

    compared = "differences" in result
    table = Table(title=f"{result['images']} captions, % with each error", title_justify="left")
    for name in ("error", "share", "95 % interval", *(["minus other", "95 % interval"] if compared else []), "caused most by"):
        table.add_column(name, justify="right" if name in ("share", "minus other") else "left")
    for kind, found in result["kinds"].items():
        cells = [f"{found['share']:.1f}", "{:.1f} to {:.1f}".format(*found["interval"])]
        if compared:
            pair = result["differences"][kind]
            cells += [f"{pair['difference']:+.1f}", "{:+.1f} to {:+.1f}".format(*pair["interval"])]
        table.add_row(TITLES[kind], *cells, ", ".join(f"{word} {count}" for word, count in found["causes"]))
    console = Console(soft_wrap=not sys.stdout.isatty(), highlight=False, markup=False)
    console.print(table)
    words, known = result["words"], result["lexicon"]
    of = f" of the {words['words_known']} it knows" if words["words_known"] else ""
    copied = (
        f", {words['copied']} copied from training" if words["copied"] is not None else "; copied from training: not known (--training)"
    )
    console.print(f"{words['distinct']} of {words['captions']} captions differ, {words['words_used']} words used{of}{copied}")
    for kind in filter(COUNTED.__contains__, result["kinds"]):
        worst = result["kinds"][kind]["worst_images"][:WORST]
        if worst:
            console.print(f"worst images, {TITLES[kind].lower()}: " + ", ".join(f"{_writable(image)} ({count})" for image, count in worst))
    for said, instead, count in result["confusions"]:
        console.print(f"“{said}” where references say “{instead}”: {count}")
    console.print(
        f"the lexicon knows {known['objects'] + known['not_objects']:.1f} % of the places in the references where a noun must stand "
        f"({known['objects']:.1f} % as objects)"
    )


if __name__ == "__main__":
    run_command(main)
