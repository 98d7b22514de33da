"""People scored as captioners are: each reference against the image's others, and the runs rescored on the same ones (captioning/human.py).

    python benchmarks/human.py results/flickr8k
    python benchmarks/human.py results/evidence/flickr8k --only deit-tiny resnet50-v1

Reads a profile's records, captions and references; writes <profile>/human.json after each run, which the report shows. Half a minute a run on
one core, METEOR most of it. Test split, the main beam, runs of seed 0; what is there already from the same captions stays.
"""

import argparse
import json
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))
if sys.path[1:2] == [str(Path(__file__).resolve().parent)]:
    del sys.path[1]  # benchmarks/ itself is not a place to import from

from captioning.bad_input import BadInput, run_command  # noqa: E402


def parse_arguments(line: list[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("profile", metavar="DIR", type=Path, help="a profile's results, as results/flickr8k")
    parser.add_argument("--only", nargs="+", metavar="NAME", default=[], help="runs by name (default: all of seed 0)")
    return parser.parse_args(line)


def main() -> int:
    options = parse_arguments()
    from captioning.human import FILE, read_human, score_people, score_run
    from captioning.records import list_records

    home = options.profile
    records = [r for r in list_records(home / "runs")[0] if r["status"] == "finished" and r["config"]["seed"] == 0]
    if not records:
        raise BadInput(f"{home}: no finished runs of seed 0; give a profile's results folder, as results/flickr8k")
    unknown = set(options.only) - {record["name"] for record in records}
    if unknown:
        raise BadInput(f"--only {min(unknown)}: no such run; there are {', '.join(record['name'] for record in records)}")
    kept, found = read_human(home), score_people(home, records[0])
    about = ("references_sha256", "tool")
    rows = {row["captions_sha256"]: row for row in kept["runs"] if all(kept[name] == found[name] for name in about)}
    wanted = [r for r in records if not options.only or r["name"] in options.only or r["files"]["captions"]["sha256"] in rows]
    for record in wanted:
        captions = record["files"]["captions"]["sha256"]
        if captions not in rows:
            rows[captions] = score_run(home, record)
        # Also those still to come that were there before: a kill loses none.
        found["runs"] = [rows[sha256] for sha256 in (r["files"]["captions"]["sha256"] for r in wanted) if sha256 in rows]
        _write(home / FILE, found)
        coco = rows[captions]["scores"]["coco"]["scores"]
        print(f"{record['run_id']}: " + ", ".join(f"{metric} {value:.2f}" for metric, value in coco.items()), flush=True)
    coco = found["people"]["coco"]["scores"]
    print("people: " + ", ".join(f"{metric} {value:.2f}" for metric, value in coco.items()))
    print(f"record: {home / FILE}")
    return 0


def _write(path: Path, content: dict) -> None:
    from captioning.atomic import atomic_write

    with atomic_write(path) as file:
        file.write(json.dumps(content, indent=1, ensure_ascii=False) + "\n")


if __name__ == "__main__":
    run_command(main)
