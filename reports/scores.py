"""The tables of scores: one experiment's, the same models forced and free, and the reader's beside the committed ones. From records; no torch."""

import csv
import io
from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import replace

from captioning.config import main_beam_of
from captioning.weight_tags import pretraining
from reports.beside import Beside
from reports.tables import SPLITS, Column, Link, Missing, Table, Value, minus_sign

BLEU = ("BLEU-1", "BLEU-2", "BLEU-3", "BLEU-4")
METRICS_COCO = ("BLEU-4", "METEOR", "ROUGE-L", "CIDEr", "SPICE")
LOSSES = {"top-5": "Top-5, %", "cross-entropy": "Cross-entropy, nats/word", "penalty": "Penalty", "loss": "Loss"}
ON_TEST = ("BLEU-4", "METEOR", "ROUGE-L", "CIDEr", "SPICE", "top-5")  # of the others, scores.csv has the test split
NATS = ("cross-entropy", "cross-entropy per caption", "penalty", "loss")  # metrics that are not times 100
WITH_PENALTY = ("penalty", "loss")


def has_penalty(record: dict) -> bool:
    """Whether the run's system has an attention penalty at all: the 0 of one that has none is no score."""
    return record["config"].get("system", "attend") == "attend"  # a record from before there were several has none


def score_cell(record: dict, split: str, protocol: str, beam: str | None, metric: str) -> Value | Missing:
    """One score of a record with its interval; `beam` is None for `published`."""
    absent = f"no {protocol} scores at beam {beam} on this split" if beam else f"no {protocol} scores on this split"
    if metric in WITH_PENALTY and not has_penalty(record):
        return Missing("this system learns without an attention penalty")
    return cell_of(scores_of(record, split, protocol, beam), metric, absent)


def cell_of(found: dict | None, metric: str, absent: str) -> Value | Missing:
    """One metric of a scores object with its interval; `absent` is the reason where there is no such object."""
    if found is None:
        return Missing(absent)
    value = found["scores"].get(metric)
    if value is None:
        return Missing(found["not_available"].get(metric, f"{metric} is not in the record"))
    low, high = found["intervals"].get(metric, (None, None))
    digits = 3 if metric in NATS else 1
    return Value(value, f"{value:.{max(2, digits)}f}", low, high, digits)


def scores_of(record: dict, split: str, protocol: str, beam: str | None) -> dict | None:
    found = record["scores"].get(split, {}).get(protocol)
    return found if found is None or protocol == "published" else found.get(beam)


def main_beam(records: list[dict]) -> str:
    """Of all runs together."""
    beams = {beam for record in records for split in record["scores"].values() for beam in split.get("free", {})}
    return main_beam_of(beams or ["5"])


def nearest_beam(record: dict, split: str, protocol: str, beam: str | None) -> str | None:
    """The column's beam, or the row's main one where it was never decoded at that; None for `published`."""
    there = record["scores"].get(split, {}).get(protocol, {})
    return beam if beam is None or beam in there or not there else main_beam_of(there)


def table_cell(record: dict, split: str, protocol: str, beam: str | None, metric: str) -> Value | Missing:
    """`score_cell` at the nearest beam. Beside a number of another beam than the column's stands which, beside one of no search at all that."""
    nearest = nearest_beam(record, split, protocol, beam)
    cell = score_cell(record, split, protocol, nearest, metric)
    note = "" if nearest == beam else f"at beam {nearest}"
    if beam and record["config"].get("sampled"):
        note = "of one drawn caption"
    return replace(cell, text=f"{cell.text} {note}", note=note) if note and isinstance(cell, Value) else cell


def with_warning(heading: Callable[[dict], Link]) -> Callable[[dict], Link]:
    """`heading`, and behind it what makes a row's scores worthless for comparing."""

    def marked(record: dict) -> Link:
        link = heading(record)
        return replace(link, note="; ".join(filter(None, [link.note, warning_of(record)])))

    return marked


def warning_of(record: dict) -> str:
    return "trained on the test images too" if record["config"].get("train_on") == "all" else ""


def experiment_tables(slug: str, rows: list[dict], beam: str, heading, beside: Beside) -> list[Table]:
    """The tables of one experiment, published numbers beside ours. rows: records, failed ones included, in the order shown; `heading(record)` makes a
    row's first cell."""
    if not any(record["status"] == "finished" for record in rows):
        return []
    heading = with_warning(heading)

    def table(ending: str, title: str, protocol: str, metrics: dict[str, str], lead: Sequence = (), remarks: Sequence[str] = ()) -> Table:
        columns, cells = _score_columns(rows, protocol, None if protocol == "published" else beam, metrics, beside)
        columns = [Column("Model", numeric=False), *(column for column, _ in lead), *columns]
        makers = [make for _, make in lead] + cells
        body = [[heading(r), *([make(r) for make in makers] if r["status"] == "finished" else [r["reason"]])] for r in rows if cells]
        return with_means(Table(f"{slug}-{ending}", title, columns, body, list(remarks)), rows) if body else Table("", "", [])

    grid = "Loss is cross-entropy plus attention penalty. The penalty falls with the number of regions, so losses compare only on one grid."
    made = [
        table(
            "free",
            f"Free decoding, beam {beam} (protocol free)",
            "free",
            dict(zip(BLEU, BLEU, strict=True)),
            _ended(rows, beam),
            _spread(rows, beam, heading),
        ),
        table("losses", "Top-5 accuracy and losses, teacher-forced (protocol published)", "published", LOSSES, _lead(rows), [grid]),
        table(
            "published", "Teacher-forced, as the paper's code scores (protocol published)", "published", dict(zip(BLEU, BLEU, strict=True))
        ),
        table("coco", f"The field's metrics, beam {beam} (protocol coco)", "coco", dict(zip(METRICS_COCO, METRICS_COCO, strict=True))),
    ]
    return [one for one in made if one.rows]


def _score_columns(
    rows: list[dict], protocol: str, beam: str | None, metrics: dict[str, str], beside: Beside
) -> tuple[list[Column], list[Callable]]:
    """Columns of a table, each with the function that makes its cell: per split and metric the measured value, then what was published of it."""
    finished = [record for record in rows if record["status"] == "finished"]
    runs = list(dict.fromkeys(record["name"] for record in finished))
    columns, cells = [], []
    for split, title in SPLITS.items():
        ours = [scores_of(record, split, protocol, nearest_beam(record, split, protocol, beam)) for record in finished]
        n = {found["n_images"] for found in ours if found}
        if not n:
            continue
        group = f"{title}, n = {n.pop():,} images" if len(n) == 1 else f"{title}, number of images differs by row"
        for metric, label in metrics.items():
            if split == "test" and metric not in ON_TEST:
                continue
            columns.append(Column(label, group))
            cells.append(lambda record, split=split, metric=metric: table_cell(record, split, protocol, beam, metric))
            for data_set in beside.data_sets_of(runs, metric, protocol, split):
                columns.append(Column(f"{label}, {beside.heading(data_set)}", group))
                cells.append(lambda record, place=(metric, protocol, split, data_set): beside.cell(record["name"], *place))
    return columns, cells


def _lead(rows: list[dict]) -> list[tuple[Column, Callable]]:
    """What an encoder is, before its losses: columns with the functions that make their cells."""
    lead: list[tuple[Column, Callable]] = [
        (Column("Pretraining", numeric=False), lambda record: pretraining_of(record["encoder"])),
        (Column("Parameters, encoder"), lambda record: millions(record["encoder"].get("parameters"))),
    ]
    if any(record["status"] == "finished" and record["encoder"].get("accuracy") for record in rows):
        lead.insert(1, (Column("Single objects right, %"), _accuracy))
    return lead


def _ended(rows: list[dict], beam: str) -> list[tuple[Column, Callable]]:
    """How many captions ended by themselves, where systems are compared: one that did not learn to stop is cut, and scored as cut."""
    if len({record["config"].get("system", "attend") for record in rows}) < 2 or not any("ended" in record for record in rows):
        return []

    def cell(record: dict) -> Value | Missing:
        share = record.get("ended", {}).get("val", {}).get(nearest_beam(record, "val", "free", beam))
        return Missing("not in the record") if share is None else Value(share, f"{share:.1f}")

    return [(Column("Ended by themselves, validation, %"), cell)]


def _spread(rows: list[dict], beam: str, heading) -> list[str]:
    """A remark where some rows have one seed and another has several: how far those lie apart, which no interval over images knows."""
    found: dict[str, list[float]] = defaultdict(list)
    for record in rows:
        cell = score_cell(record, "val", "free", beam, "BLEU-4") if record["status"] == "finished" else None
        if isinstance(cell, Value):
            found[heading(record).label].append(cell.value)
    most = max(found, key=lambda label: len(found[label]), default="")
    if not most or len(found[most]) < 2 or min(map(len, found.values())) > 1:
        return []
    low, high = min(found[most]), max(found[most])
    return [
        f"Seeds: the {len(found[most])} of {most} here have validation BLEU-4 from {low:.1f} to {high:.1f}; between rows of one seed a difference of that "
        "size says little."
    ]


def _accuracy(record: dict) -> Value | Missing:
    shares = record["encoder"].get("accuracy")
    if not shares:
        return Missing("the encoder's card does not say")
    mean = 100 * sum(shares.values()) / len(shares)
    return Value(mean, f"{mean:.1f}")


def pretraining_of(encoder: dict) -> str:
    return pretraining(encoder.get("tag") or "", encoder.get("source") or "", encoder.get("sha256") or "")


def forcing_table(slug: str, rows: list[dict], heading) -> Table | None:
    """Each model's validation BLEU-4 scored on the reference's words and on its own, all from one checkpoint; None where no run has both."""
    heading, finished = with_warning(heading), [record for record in rows if record["status"] == "finished"]
    beams = sorted({beam for record in finished for beam in record["scores"].get("val", {}).get("free", {})}, key=int)
    if not finished or not beams:
        return None
    main = main_beam_of(beams)
    n = {found["n_images"] for record in finished if (found := scores_of(record, "val", "published", None))}
    size = f"Validation, n = {n.pop():,} images" if len(n) == 1 else "Validation, number of images differs by row"
    columns = [Column("Model", numeric=False), Column("BLEU-4, forced (published)", size)]
    columns += [Column(f"BLEU-4, free, beam {beam}", size) for beam in beams]
    columns += [
        Column(f"Free, beam {main}, minus forced", size),
        Column("Top-5, %, forced", size),
        Column("Cross-entropy, nats/word, forced", size),
    ]
    body = []
    for record in rows:
        if record["status"] != "finished":
            body.append([heading(record), record["reason"]])
            continue
        forced = score_cell(record, "val", "published", None, "BLEU-4")
        free = [score_cell(record, "val", "free", beam, "BLEU-4") for beam in beams]
        difference, own = Missing("one of the two has no value"), free[beams.index(main)]
        if isinstance(forced, Value) and isinstance(own, Value):
            difference = Value(own.value - forced.value, minus_sign(f"{own.value - forced.value:+.2f}"))
        last = [score_cell(record, "val", "published", None, metric) for metric in ("top-5", "cross-entropy")]
        body.append([heading(record), forced, *free, difference, *last])
    remark = "One checkpoint a row: the same model gets another BLEU-4 by whose words it is fed while it is scored."
    return with_means(Table(f"{slug}-forced-and-free", "The same models scored forced and free", columns, body, [remark]), rows)


def with_means(table: Table, rows: list[dict]) -> Table:
    """After the rows of a name with several finished seeds, their mean as one row more. It bears no interval: resampled images say nothing of seeds."""
    body = []
    for k, (record, row) in enumerate(zip(rows, table.rows, strict=True)):
        body.append(row)
        last = k + 1 == len(rows) or rows[k + 1]["name"] != record["name"]
        group = [r for other, r in zip(rows, table.rows, strict=True) if other["name"] == record["name"] and other["status"] == "finished"]
        if last and len(group) > 1:
            note = "; ".join(filter(None, [f"mean of {len(group)} seeds", warning_of(record)]))
            mean: list = [Link(row[0].label, note=note, mean=True)]
            for cells in list(zip(*group, strict=True))[1:]:
                values = all(isinstance(cell, Value) for cell in cells)
                mean.append(_mean(cells) if values else Missing("not every seed has it") if len(set(cells)) > 1 else cells[0])
            body.append(mean)
    return Table(table.slug, table.title, table.columns, body, table.remarks)


def compare_table(mine: list[dict], evidence: list[dict], heading) -> Table | None:
    """The reader's scores beside the committed ones of the same name and seed; None where there is no such pair."""
    heading = with_warning(heading)
    committed = {(record["name"], record["config"].get("seed")): record for record in evidence}
    columns = [Column("Model", numeric=False), Column("Score", numeric=False), Column("Yours"), Column("Evidence"), Column("Difference")]
    columns += [Column("Evidence within your interval", numeric=False), Column("Same data", numeric=False)]
    rows = []
    for record in mine:
        other = committed.get((record["name"], record["config"].get("seed")))
        if other is None:
            continue
        beam = main_beam([record])
        same = record["data"].get("fingerprint") == other["data"].get("fingerprint")
        for protocol, b, metric in (("free", beam, "BLEU-4"), ("coco", beam, "CIDEr"), ("published", None, "BLEU-4")):
            a, c = score_cell(record, "val", protocol, b, metric), score_cell(other, "val", protocol, b, metric)
            if isinstance(a, Missing) or isinstance(c, Missing):
                continue
            inside = "no interval" if a.low is None else "yes" if a.low <= c.value <= a.high else "no"
            difference = Value(a.value - c.value, minus_sign(f"{a.value - c.value:+.2f}"))
            name = f"{metric}, {protocol}{f', beam {b}' if b else ''}, validation"
            rows.append([heading(record), name, a, c, difference, inside, "yes" if same else "no"])
    return Table("yours-and-evidence", "Your scores beside the committed ones", columns, rows) if rows else None


def long_csv(records: list[dict]) -> str:
    """Every score of every record, one line each, with its protocol, interval, n and signature."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(
        ["run_id", "name", "seed", "split", "protocol", "beam", "metric", "value", "low", "high", "n_images", "signature", "missing"]
    )
    for record in records:
        for split, protocols in record["scores"].items():
            for protocol, content in protocols.items():
                for beam, found in {"": content}.items() if protocol == "published" else content.items():
                    first = [record["run_id"], record["name"], record["config"].get("seed"), split, protocol, beam]
                    last = [found["n_images"], found["signature"]]
                    for metric, value in found["scores"].items():
                        writer.writerow([*first, metric, value, *found["intervals"].get(metric, ("", "")), *last, ""])
                    for metric, reason in found["not_available"].items():
                        writer.writerow([*first, metric, "", "", "", *last, reason])
    return text.getvalue()


def _mean(cells: tuple[Value, ...]) -> Value:
    note = cells[0].note
    if len({cell.value for cell in cells}) == 1:
        return Value(cells[0].value, cells[0].text, note=note)
    mean = sum(cell.value for cell in cells) / len(cells)
    first = cells[0].text.removesuffix(f" {note}")
    decimals = len(first.partition(".")[2])
    text = minus_sign(f"{mean:+.{decimals}f}" if first[0] in "+−" else f"{mean:,.{decimals}f}")
    return Value(mean, f"{text} {note}".rstrip(), note=note)


def number(value: float | int | None) -> Value | Missing:
    if value is None:
        return Missing("not in the record")
    return Value(value, f"{value:,.0f}" if abs(value) >= 10 or isinstance(value, int) else f"{value:.1f}")


def millions(parameters: int | None) -> Value | Missing:
    if parameters is None:
        return Missing("not in the record")
    return Value(parameters, f"{parameters / 1e6:.{1 if parameters >= 1e7 else 2}f} M")
