"""What people score, beside the captioners rescored on the same references: the table of results/<profile>/human.json. No torch."""

from captioning.bad_input import BadInput
from captioning.human import read_human
from reports.profile import Profile, anchor_of
from reports.scores import cell_of
from reports.tables import Column, Link, Missing, Table

METRICS = {"coco": ("BLEU-1", "BLEU-4", "METEOR", "ROUGE-L", "CIDEr"), "free": ("BLEU-4",)}


def human_table(profile: Profile) -> tuple[Table | None, list[str]]:
    """People first, then runs by CIDEr; None where nobody made the file. And what could not be used."""
    try:
        found = read_human(profile.folder)
    except BadInput as error:
        return None, [str(error)]
    if "people" not in found:
        return None, []
    finished = {run["run_id"]: run for run in profile.finished}
    problems = []
    rows = []
    for row in found["runs"]:
        run = finished.get(row["run_id"])
        if run is None or run["files"]["captions"]["sha256"] != row["captions_sha256"]:
            problems.append(
                f"human.json: {row['run_id']} was rescored on captions that are no record's here; run benchmarks/human.py again"
            )
            continue
        rows.append((Link(profile.names[row["run_id"]], anchor_of(run)), row["scores"]))
    rows.sort(key=lambda row: -row[1]["coco"]["scores"].get("CIDEr", 0))
    people = found["people"]
    n, left = people["free"]["n_images"], found["left_out"]
    columns = [Column("Who", numeric=False)]
    columns += [Column(metric, f"{protocol}, test, n = {n:,} images") for protocol, metrics in METRICS.items() for metric in metrics]
    table = [["people, one reference against the others", *_cells(people)]] + [[link, *_cells(scores)] for link, scores in rows]
    remarks = [
        f"Each of an image's {left} references in turn is left out; people: it is the caption; captioners: scored against the same {left - 1}. "
        f"Means over the {left} turns, interval over images. Below a person in CIDEr does not mean worse to a reader, nor above it better: "
        "people say different things of one photo, captioners say what most would."
    ]
    return Table("people", "People, scored as captioners are", columns, table, remarks), problems


def _cells(scores: dict) -> list:
    return [
        cell_of(scores.get(protocol), metric, "not scored") if protocol in scores else Missing("not scored")
        for protocol, metrics in METRICS.items()
        for metric in metrics
    ]
