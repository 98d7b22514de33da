"""Tables of a report: built from records, written as CSV, Markdown and LaTeX, and handed to the page's template. No torch, no pandas.

A cell is a text, a `Link`, a `Value` (with its interval) or a `Missing` (with its reason, shown as a footnote, never as 0).
"""

import csv
import io
from dataclasses import dataclass, field
from pathlib import Path

from captioning.atomic import atomic_write
from captioning.weight_tags import pretraining

METRICS_COCO = ("BLEU-4", "METEOR", "ROUGE-L", "CIDEr", "SPICE")
SPLITS = {"val": "Validation", "test": "Test"}


@dataclass(frozen=True, slots=True)
class Value:
    value: float | int
    text: str
    low: float | None = None
    high: float | None = None
    digits: int = 1

    @property
    def interval(self) -> str:
        return "" if self.low is None else f"{self.low:.{self.digits}f} to {self.high:.{self.digits}f}"


@dataclass(frozen=True, slots=True)
class Missing:
    reason: str


@dataclass(frozen=True, slots=True)
class Link:
    """A row's heading: a model's label, its record's place in the page ("" for none), and a note such as its seed."""

    label: str
    anchor: str = ""
    note: str = ""
    mean: bool = False

    @property
    def text(self) -> str:
        return f"{self.label}, {self.note}" if self.note else self.label


@dataclass(frozen=True, slots=True)
class Column:
    label: str
    group: str = ""
    numeric: bool = True

    @property
    def name(self) -> str:
        return f"{self.group.split(',')[0]} {self.label}".strip()


@dataclass
class Table:
    """`rows` hold one cell per column; a row with fewer is one that failed: its last cell, the reason, runs across what is left."""

    slug: str
    title: str
    columns: list[Column]
    rows: list[list] = field(default_factory=list)
    remarks: list[str] = field(default_factory=list)

    def __post_init__(self):
        reasons = [cell.reason for row in self.rows for cell in row if isinstance(cell, Missing)]
        self.notes = list(dict.fromkeys(reasons))

    @property
    def groups(self) -> list[tuple[str, int]]:
        """Neighbouring columns of one group as (group, how many)."""
        spans: list[tuple[str, int]] = []
        for column in self.columns:
            if spans and spans[-1][0] == column.group and column.group:
                spans[-1] = (column.group, spans[-1][1] + 1)
            else:
                spans.append((column.group, 1))
        return spans

    def mark(self, cell: Missing) -> str:
        return self.mark_of(cell.reason)

    def mark_of(self, note: str) -> str:
        """The footnote's letter: a, b, ..., z, aa."""
        number, letters = self.notes.index(note), ""
        while True:
            letters = chr(97 + number % 26) + letters
            number = number // 26 - 1
            if number < 0:
                return letters

    def write(self, folder: Path) -> list[Path]:
        written = []
        for ending, text in {"csv": self.as_csv(), "md": self.as_markdown(), "tex": self.as_latex()}.items():
            path = folder / f"{self.slug}.{ending}"
            with atomic_write(path) as file:
                file.write(text)
            written.append(path)
        return written

    def as_csv(self) -> str:
        """Full precision; an interval's ends are columns of their own; what is missing is empty and its reason stands in the column `missing`."""
        with_interval = [any(_has_interval(row, k) for row in self.rows) for k in range(len(self.columns))]
        head = []
        for column, wide in zip(self.columns, with_interval, strict=True):
            head += [column.name] + ([f"{column.name} low", f"{column.name} high"] if wide else [])
        text = io.StringIO()
        writer = csv.writer(text, lineterminator="\n")
        writer.writerow([*head, "missing"])
        for row in self.rows:
            line, missing = [], [] if len(row) == len(self.columns) else [str(row[-1])]
            for k, wide in enumerate(with_interval):
                cell = row[k] if k < len(row) and not (missing and k == len(row) - 1) else ""
                if isinstance(cell, Missing):
                    missing.append(f"{self.columns[k].name}: {cell.reason}")
                line += [cell.value if isinstance(cell, Value) else "" if isinstance(cell, Missing) else getattr(cell, "text", cell)]
                line += [getattr(cell, "low", None), getattr(cell, "high", None)] if wide else []
            writer.writerow([*line, "; ".join(missing)])
        return text.getvalue()

    def as_markdown(self) -> str:
        lines = [f"**{_plain_markdown(self.title)}**", ""]
        lines += ["| " + " | ".join(_plain_markdown(column.name) for column in self.columns) + " |"]
        lines += ["|" + "|".join("---:" if column.numeric else "---" for column in self.columns) + "|"]
        for row in self.rows:
            cells = [_plain_markdown(self._shown(cell)) for cell in row]
            lines.append("| " + " | ".join(cells + [""] * (len(self.columns) - len(cells))) + " |")
        return "\n".join([*lines, "", *(_plain_markdown(f"{mark}) {note}") + "  " for mark, note in self._all_notes()), ""])

    def as_latex(self) -> str:
        """A booktabs table; needs \\usepackage{booktabs}."""
        groups = [f"\\multicolumn{{{span}}}{{c}}{{{_plain_latex(group)}}}" if group else "" for group, span in self.groups]
        lines = ["\\begin{table}", f"\\caption{{{_plain_latex(self.title)}}}", "\\centering\\small"]
        lines += [f"\\begin{{tabular}}{{{''.join('r' if column.numeric else 'l' for column in self.columns)}}}", "\\toprule"]
        if any(groups):
            lines.append(" & ".join(groups) + r" \\")
        lines += [" & ".join(_plain_latex(column.label) for column in self.columns) + r" \\", "\\midrule"]
        for row in self.rows:
            cells = [_plain_latex(self._shown(cell)) for cell in row]
            if len(row) < len(self.columns):
                cells[-1] = f"\\multicolumn{{{len(self.columns) - len(row) + 1}}}{{l}}{{{cells[-1]}}}"
            lines.append(" & ".join(cells) + r" \\")
        notes = [f"\\par\\footnotesize {_plain_latex(f'{mark}) {note}')}" for mark, note in self._all_notes()]
        return "\n".join([*lines, "\\bottomrule", "\\end{tabular}", *notes, "\\end{table}", ""])

    def _shown(self, cell) -> str:
        if isinstance(cell, Value):
            return f"{cell.text} ({cell.interval})" if cell.interval else cell.text
        if isinstance(cell, Missing):
            return f"n/a {self.mark(cell)})"
        return str(getattr(cell, "text", cell))

    def _all_notes(self) -> list[tuple[str, str]]:
        return [(self.mark_of(note), note) for note in self.notes] + [("*", remark) for remark in self.remarks]


def score_cell(record: dict, split: str, protocol: str, beam: str | None, metric: str) -> Value | Missing:
    """One score of a record with its interval; `beam` is None for `published`."""
    found = scores_of(record, split, protocol, beam)
    if found is None:
        return Missing(f"no {protocol} scores at beam {beam} on this split" if beam else f"no {protocol} scores on this split")
    value = found["scores"].get(metric)
    if value is None:
        return Missing(found["not_available"].get(metric, f"{metric} is not in the record"))
    low, high = found["intervals"].get(metric, (None, None))
    digits = 3 if metric in ("cross-entropy", "penalty", "loss") else 1
    return Value(value, f"{value:.{max(2, digits)}f}", low, high, digits)


def scores_of(record: dict, split: str, protocol: str, beam: str | None) -> dict | None:
    found = record["scores"].get(split, {}).get(protocol)
    return found if found is None or protocol == "published" else found.get(beam)


def main_beam(records: list[dict]) -> str:
    """5, the paper's neighbourhood's habit, where any run has it; else the widest there is."""
    beams = {beam for record in records for split in record["scores"].values() for beam in split.get("free", {})}
    return "5" if "5" in beams or not beams else max(beams, key=lambda beam: (len(beam), beam))


def experiment_tables(slug: str, rows: list[dict], beam: str, heading) -> list[Table]:
    """The four tables of one experiment. rows: records, failed ones included, in the order shown; `heading(record)` makes a row's first cell."""
    finished = [record for record in rows if record["status"] == "finished"]
    if not finished:
        return []

    def score_table(ending: str, title: str, wanted: list[tuple[str, str, str | None, str]], remarks: list[str]) -> Table:
        columns = [Column("Model", numeric=False)]
        picks = []
        for split in SPLITS:
            these = [(split, protocol, b, metric, label) for protocol, b, metric, label, splits in wanted if split in splits]
            n = {found["n_images"] for r in finished for s, p, b, _, _ in these if (found := scores_of(r, s, p, b))}
            if not n:
                continue
            size = f"n = {n.pop():,} images" if len(n) == 1 else "number of images differs by row"
            columns += [Column(label, f"{SPLITS[split]}, {size}") for *_, label in these]
            picks += these
        body = []
        for record in rows:
            done = record["status"] == "finished"
            body.append([heading(record), *([score_cell(record, *pick[:4]) for pick in picks] if done else [record["reason"]])])
        return Table(f"{slug}-{ending}", title, columns, body, remarks)

    beams = sorted({b for r in finished for s in r["scores"].values() for b in s.get("free", {})} - {beam}, key=int, reverse=True)
    free = [("free", beam, f"BLEU-{n}", f"BLEU-{n}", ("val", "test")) for n in (1, 2, 3, 4)]
    free += [("free", b, "BLEU-4", f"BLEU-4, beam {b}", ("val",)) for b in beams]
    coco = [("coco", beam, metric, metric, ("val", "test")) for metric in METRICS_COCO]
    labels = {"BLEU-4": "BLEU-4", "top-5": "Top-5, %", "cross-entropy": "Cross-entropy, nats/word", "penalty": "Penalty", "loss": "Loss"}
    forced = [("published", None, metric, label, ("val", "test")) for metric, label in labels.items()]
    tables = [
        score_table("free", f"Free decoding, beam {beam} (protocol free)", free, []),
        score_table("coco", f"The field's metrics, beam {beam} (protocol coco)", coco, []),
        score_table(
            "published",
            "Teacher-forced, as the paper's code scores (protocol published)",
            forced,
            [
                "Loss is cross-entropy plus attention penalty. The penalty falls with the number of regions, so losses compare only on one grid."
            ],
        ),
    ]
    return [table for table in tables if len(table.columns) > 1] + [_cost_table(slug, rows, heading)]


def forcing_table(slug: str, rows: list[dict], heading) -> Table | None:
    """Each model's validation BLEU-4 scored on the reference's words and on its own, all from one checkpoint; None where no run has both."""
    finished = [record for record in rows if record["status"] == "finished"]
    beams = sorted({beam for record in finished for beam in record["scores"].get("val", {}).get("free", {})}, key=int)
    if not finished or not beams:
        return None
    n = {found["n_images"] for record in finished if (found := scores_of(record, "val", "published", None))}
    size = f"Validation, n = {n.pop():,} images" if len(n) == 1 else "Validation, number of images differs by row"
    columns = [Column("Model", numeric=False), Column("BLEU-4, forced (published)", size)]
    columns += [Column(f"BLEU-4, free, beam {beam}", size) for beam in beams]
    columns += [
        Column(f"Free, beam {beams[-1]}, minus forced", size),
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
        difference = Missing("one of the two has no value")
        if isinstance(forced, Value) and isinstance(free[-1], Value):
            difference = Value(free[-1].value - forced.value, f"{free[-1].value - forced.value:+.2f}".replace("-", "−"))
        last = [score_cell(record, "val", "published", None, metric) for metric in ("top-5", "cross-entropy")]
        body.append([heading(record), forced, *free, difference, *last])
    remark = "One checkpoint a row: the same model gets another BLEU-4 by whose words it is fed while it is scored."
    return Table(f"{slug}-forced-and-free", "The same models scored forced and free", columns, body, [remark])


def _cost_table(slug: str, rows: list[dict], heading) -> Table:
    """Size, cost, and how well the encoder knew what it was trained on where the record says so (`accuracy`: {what: share})."""
    finished = [record for record in rows if record["status"] == "finished"]
    known = list(dict.fromkeys(what for record in finished for what in record["encoder"].get("accuracy") or {}))
    columns = [Column("Model", numeric=False), Column("Encoder", numeric=False), Column("Pretraining", numeric=False)]
    columns += [Column("Grid", numeric=False)]
    columns += [Column("Parameters, encoder"), Column("Parameters, trained")] + [Column(f"Encoder: {what} right, %") for what in known]
    columns += [Column("Epochs"), Column("Best epoch"), Column("Training, s"), Column("Images/s"), Column("Peak memory, MB")]
    machines = {record["run_id"]: _machine(record["cost"]) for record in finished}
    one_machine = len(set(machines.values())) == 1
    columns += [] if one_machine else [Column("Hardware", numeric=False)]
    body = []
    for record in rows:
        if record["status"] != "finished":
            body.append([heading(record), record["reason"]])
            continue
        encoder, cost, training = record["encoder"], record["cost"], record["training"]
        grid = encoder.get("grid")
        row = [heading(record), f"{encoder.get('tag') or encoder.get('name')}, {'frozen' if encoder.get('frozen') else 'tuned'}"]
        row += [pretraining(encoder.get("tag") or "", encoder.get("source") or "", encoder.get("sha256") or "")]
        row += ["×".join(map(str, grid)) if grid else Missing("no grid in the record")]
        row += [_millions(encoder.get("parameters")), _millions(record["model"].get("trained_parameters"))]
        for what in known:
            share = (encoder.get("accuracy") or {}).get(what)
            row.append(Missing("the encoder's card does not say") if share is None else Value(100 * share, f"{100 * share:.1f}"))
        row += [_number(training.get("epochs")), _number(training.get("best_epoch")), _number(cost.get("train_seconds"))]
        row += [_number(cost.get("images_per_second")), _number(cost.get("peak_memory_mb"))]
        body.append(row if one_machine else [*row, machines[record["run_id"]]])
    remarks = ["Images/s: from pixels to captions, beam 5." + (f" All on {machines[finished[0]['run_id']]}." if one_machine else "")]
    remarks += ["What the encoder has right: on the single drawn objects it was trained on before it was frozen."] if known else []
    return Table(f"{slug}-cost", "Cost and size", columns, body, remarks)


def compare_table(mine: list[dict], evidence: list[dict], heading) -> Table | None:
    """The reader's scores beside the committed ones of the same name and seed; None where there is no such pair."""
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
            difference = Value(a.value - c.value, f"{a.value - c.value:+.2f}".replace("-", "−"))
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


def _machine(cost: dict) -> str:
    device, threads = cost.get("device") or "not in the record", cost.get("threads")
    return device + (f", {threads} thread{'s' if threads != 1 else ''}" if threads and device.startswith("cpu") else "")


def _number(value: float | int | None) -> Value | Missing:
    if value is None:
        return Missing("not in the record")
    return Value(value, f"{value:,.0f}" if abs(value) >= 10 or isinstance(value, int) else f"{value:.1f}")


def _millions(parameters: int | None) -> Value | Missing:
    if parameters is None:
        return Missing("not in the record")
    return Value(parameters, f"{parameters / 1e6:.{1 if parameters >= 1e7 else 2}f} M")


def _has_interval(row: list, k: int) -> bool:
    return k < len(row) and isinstance(row[k], Value) and row[k].low is not None


def _plain_markdown(text: str) -> str:
    text = " ".join(str(text).split())
    for character in "\\`*_[]<>|":
        text = text.replace(character, {"<": "&lt;", ">": "&gt;"}.get(character, "\\" + character))
    return text


def _plain_latex(text: str) -> str:
    special = {
        "\\": r"\textbackslash{}",
        "~": r"\textasciitilde{}",
        "^": r"\textasciicircum{}",
        "×": r"$\times$",
        "<": r"\textless{}",
        ">": r"\textgreater{}",
    }
    return "".join(special.get(c, f"\\{c}" if c in "&%$#_{}" else c) for c in " ".join(str(text).split()))
