"""Score a file of captions against references: BLEU, METEOR, ROUGE-L, CIDEr and SPICE with 95 % intervals.

    python -m captioning.score captions.json captions_val2014.json
    python -m captioning.score mine.jsonl dataset_flickr8k.json --split test --protocol free --json
    python -m captioning.score mine.json refs.json --compare theirs.json --per-image images.csv

Reads files in the layouts of captioning/caption_files.py. Writes the scores to stdout (with --json one object and nothing else), notes to
stderr, and a row per image to the file that --per-image names. Ends with 0; with 2 if a file or an option cannot be used; with 3 if
nothing could be scored because Java cannot start (the reason is printed, and stands in the JSON under not_available).
"""

import argparse
import csv
import json
import sys
from pathlib import Path

from captioning.atomic import atomic_write
from captioning.bad_input import BadInput, run_command
from captioning.caption_files import Candidates, References, check_lines, read_candidates, read_references

PROTOCOLS = ("coco", "free")
METRICS = ("BLEU", "METEOR", "ROUGE-L", "CIDEr", "SPICE")
NOTHING_SCORED = 3

_EXAMPLES = """
files of captions       [{"image_id": 42, "caption": "a dog"}] (COCO results), {"42": "a dog"}, lines of {"id": "42", "caption": "a dog"},
                        or plain text with a caption per line
files of references     COCO captions, Karpathy's dataset_*.json, {"42": ["a dog", "the dog"]}, lines of {"id", "references"},
                        or plain text: a line per image, tabs between its captions; line i belongs to line i

example                 python -m captioning.score captions.json captions_val2014.json
on Flickr8k's test set  python -m captioning.score mine.jsonl dataset_flickr8k.json --split test
two systems             python -m captioning.score mine.json refs.json --compare theirs.json

exit status             0 scored, 2 a file or an option cannot be used, 3 nothing scored because Java cannot start
"""


def arguments(line: list[str] | None = None) -> argparse.Namespace:
    """The command line, checked."""
    parser = argparse.ArgumentParser(
        prog="python -m captioning.score",
        description="Score captions against references: BLEU, METEOR, ROUGE-L, CIDEr, SPICE, times 100, with 95 % intervals.",
        epilog=_EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("candidates", metavar="CANDIDATES", type=Path, help="the captions to score, one per image")
    parser.add_argument("references", metavar="REFERENCES", type=Path, help="what people wrote, one or more captions per image")
    parser.add_argument("--protocol", choices=PROTOCOLS, default="coco", help="coco: as coco-caption; free: NLTK's BLEU (default: coco)")
    parser.add_argument("--metrics", type=_metrics, metavar="M,M", help=f"of coco: {','.join(METRICS)} (default: all)")
    parser.add_argument("--split", default="test", choices=("train", "val", "test"), help="of references that have splits (default: test)")
    parser.add_argument("--subset", action="store_true", help="score the images that both files have, if they differ")
    parser.add_argument("--compare", metavar="OTHER", type=Path, help="other captions of the same images: differences, paired intervals")
    parser.add_argument("--per-image", metavar="F.csv", type=Path, help="write each image's scores")
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    parser.add_argument("--draws", type=int, default=10_000, metavar="N", help="bootstrap resamples; 0: no intervals (default: 10000)")
    parser.add_argument("--spice-models", metavar="DIR", type=Path, help="folder of Stanford CoreNLP's two jars, for SPICE")
    options = parser.parse_args(line)
    if not 0 <= options.draws <= 1_000_000:
        raise BadInput(f"--draws {options.draws}: expected 0 to 1000000")
    if options.protocol == "free" and (options.metrics is not None or options.spice_models):
        raise BadInput("--metrics and --spice-models are settings of --protocol coco; free has BLEU alone: leave them out")
    options.metrics = options.metrics or METRICS
    return options


def _metrics(text: str) -> tuple[str, ...]:
    chosen = text.split(",")
    unknown = [metric for metric in chosen if metric not in METRICS]
    if unknown:
        raise BadInput(f"--metrics {unknown[0]!r}: choose from {', '.join(METRICS)}, with commas between them")
    return tuple(metric for metric in METRICS if metric in chosen)


def main(line: list[str] | None = None) -> int:
    """Returns the exit status."""
    options = arguments(line)
    references = read_references(options.references, options.split)
    candidates, references = _match(read_candidates(options.candidates), references, options, options.candidates)
    other = None
    if options.compare:
        other, kept = _match(read_candidates(options.compare), references, options, options.compare)
        references = kept
        candidates = {image: candidates[image] for image in references.raw}
    _note_empty(options.candidates, candidates)
    scored = _score(candidates, references, options)
    result = scored.to_json(options.draws)
    if other is not None:
        from captioning.protocols import compare

        _note_empty(options.compare, other)
        scored_other = _score(other, references, options)
        result |= {"other": scored_other.to_json(options.draws), "differences": compare(scored, scored_other, options.draws)}
    if options.json:
        print(json.dumps(result))
    else:
        _print_table(result)
    if options.per_image:
        _write_per_image(options.per_image, scored, candidates)
    if scored.statistics:
        return 0
    print(f"nothing scored: {next(iter(scored.not_available.values()))}", file=sys.stderr)
    return NOTHING_SCORED


def _match(candidates: Candidates, references: References, options: argparse.Namespace, path: Path) -> tuple[dict[str, str], References]:
    """Candidates under the references' ids, and the references of the images that are scored, in the references' order."""
    check_lines(candidates, references, path, options.references)
    captions: dict[str, str] = {}
    for image, caption in candidates.captions.items():
        known = image if image in references.raw else references.names.get(image, image)
        if known in captions:
            raise BadInput(f"{path}: image {known} is there twice, once by its file's name")
        captions[known] = caption
    without = [image for image in references.raw if image not in captions]
    unknown = [image for image in captions if image not in references.raw]
    if (without or unknown) and not options.subset:
        raise BadInput(_difference(path, options.references, without, unknown))
    kept = [image for image in references.raw if image in captions]
    if not kept:
        raise BadInput(
            f"{path} and {options.references} have no image in common (ids like {next(iter(captions))!r} and {next(iter(references.raw))!r})"
        )
    if without or unknown:
        print(
            f"{path}: {len(kept)} images scored; {len(without)} without a caption and {len(unknown)} without references left out",
            file=sys.stderr,
        )
    tokens = {image: references.tokens[image] for image in kept} if references.tokens else None
    subset = References({image: references.raw[image] for image in kept}, tokens, references.split, references.names, references.by_line)
    return {image: captions[image] for image in kept}, subset


def _difference(path: Path, references: Path, without: list[str], unknown: list[str]) -> str:
    parts = []
    if without:
        parts.append(f"{len(without)} images of {references} have no caption in {path} (first: {', '.join(without[:3])})")
    if unknown:
        parts.append(f"{len(unknown)} captions of {path} have no image in {references} (first: {', '.join(unknown[:3])})")
    return f"{'; '.join(parts)}; --subset scores the images that both have"


def _note_empty(path: Path, candidates: dict[str, str]) -> None:
    empty = [image for image, caption in candidates.items() if not caption.strip()]
    if empty:
        print(f"{path}: {len(empty)} empty captions are scored as they are (first: {', '.join(empty[:3])})", file=sys.stderr)


def _score(candidates: dict[str, str], references: References, options: argparse.Namespace):
    from captioning import protocols

    if options.protocol == "coco":
        return protocols.score_coco(candidates, references.raw, options.metrics, options.spice_models, split=references.split)
    # A file of captions has text, not tokens: it is cut by one rule, and so are references that come without tokens of their own.
    words = {image: protocols.words_of(caption) for image, caption in candidates.items()}
    if references.tokens:
        return protocols.score_free(words, references.tokens, tokens="a-z0-9,refs-dataset", split=references.split)
    cut = {image: [protocols.words_of(caption) for caption in captions] for image, captions in references.raw.items()}
    return protocols.score_free(words, cut, tokens="a-z0-9", split=references.split)


def _write_per_image(path: Path, scored, candidates: dict[str, str]) -> None:
    values = scored.per_image()
    with atomic_write(path) as file:
        table = csv.writer(file)
        table.writerow(["id", "caption", *values])
        for number, image in enumerate(scored.ids):
            caption = candidates[image].encode("utf-8", "replace").decode("utf-8")
            table.writerow([image, caption, *(f"{column[number]:.6f}" for column in values.values())])


def _print_table(result: dict) -> None:
    from rich.console import Console
    from rich.table import Table

    table = Table(title=f"{result['n_images']} images, protocol {result['protocol']}", title_justify="left")
    table.add_column("metric")
    names = ["score"] if "other" not in result else ["score", "other", "difference"]
    for name in names:
        table.add_column(name, justify="right")
    table.add_column("95 % interval" + (" of the difference" if "other" in result else ""), justify="right")
    for metric, value in result["scores"].items():
        cells, ends = [f"{value:.2f}"], result["intervals"].get(metric)
        if "other" in result and metric in result["differences"]:
            pair = result["differences"][metric]
            cells, ends = [f"{value:.2f}", f"{pair['b']:.2f}", f"{pair['difference']:+.2f}"], pair["interval"]
        table.add_row(metric, *cells, f"{ends[0]:.2f} to {ends[1]:.2f}" if ends else "")
    for metric in result["not_available"]:
        table.add_row(metric, *["not available"] + [""] * len(names))
    console = Console(soft_wrap=not sys.stdout.isatty(), highlight=False)
    console.print(table)
    for reason in dict.fromkeys(result["not_available"].values()):
        metrics = ", ".join(metric for metric, why in result["not_available"].items() if why == reason)
        console.print(f"{metrics} not available: {reason}", markup=False, soft_wrap=True)
    console.print(result["signature"], markup=False, soft_wrap=True)


if __name__ == "__main__":
    run_command(main)
