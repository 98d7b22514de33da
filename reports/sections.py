"""What stands in the sections of a profile's page, computed from its records. No torch, no HTML: reports/templates/profile.html.j2 lays it out.

`load_profile` reads one results/<profile>/; each other public function makes one section's content.
"""

import ast
import functools
import json
import re
from dataclasses import dataclass
from pathlib import Path

from captioning.bad_input import BadInput
from captioning.records import list_records, read_plan
from reports.figures import Curve, Point, curves, dots
from reports.tables import SPLITS, Column, Link, Missing, Table, Value, experiment_tables, forcing_table, main_beam, score_cell, scores_of

PANELS = {
    "bleu4": ("BLEU-4 while training", "BLEU-4, free, greedy, validation", "val_bleu4_free", None),
    "cross-entropy": ("Cross-entropy while training", "nats a word", "val_cross_entropy", "train_cross_entropy"),
    "top5": ("Top-5 accuracy while training", "% of words, teacher-forced", "val_top5", "train_top5"),
}
SHARED = ("label", "labels", "experiments")  # what a plan says of a run


@dataclass
class Profile:
    """One results/<profile>/: `runs` are what the tables show, one per name and seed; `older` were left out for them; `waiting` are planned, not run."""

    name: str
    folder: Path
    runs: list[dict]
    older: list[dict]
    waiting: list[dict]
    problems: list[str]

    def __post_init__(self):
        seeds: dict[str, set] = {}
        for run in self.runs:
            seeds.setdefault(run["name"], set()).add(run["config"].get("seed"))
        self.looks = {name: k for k, name in enumerate(seeds)}
        self.seeds = {run["run_id"]: f"seed {run['config'].get('seed')}" if len(seeds[run["name"]]) > 1 else "" for run in self.runs}
        self.names = {run["run_id"]: self.heading(run).text for run in self.runs}

    @property
    def finished(self) -> list[dict]:
        return [run for run in self.runs if run["status"] == "finished"]

    @property
    def failed(self) -> list[dict]:
        return [run for run in self.runs if run["status"] == "failed"]

    @property
    def experiments(self) -> list[str]:
        return list(dict.fromkeys(name for run in [*self.runs, *self.waiting] for name in run["experiments"]))

    def heading(self, record: dict, experiment: str = "") -> Link:
        """A row's name; in the table of an experiment that has a name of its own for it, that."""
        return Link(label_of(record, experiment), anchor_of(record), self.seeds[record["run_id"]])

    def of(self, experiment: str) -> list[dict]:
        return [run for run in self.runs if experiment in run["experiments"]]


def load_profile(folder: Path) -> Profile | None:
    """All records of a profile, in the plan's order where there is a plan; None where there is nothing to show."""
    records, problems = list_records(folder / "runs")
    try:
        plan = read_plan(folder)
    except BadInput as error:
        plan, problems = [], [*problems, str(error)]
    planned = {run["run_id"]: k for k, run in enumerate(plan)}
    for record in records:  # an experiment that came after the record shares it: the plan knows
        said = plan[planned[record["run_id"]]] if record["run_id"] in planned else {}
        record |= {field: said[field] for field in SHARED if field in said}
    best: dict[tuple, dict] = {}
    for record in records:
        key = (record["name"], record["config"].get("seed"))
        if key not in best or _rank(record, planned) > _rank(best[key], planned):
            best[key] = record
    order = {name: k for k, name in enumerate(dict.fromkeys([run["name"] for run in plan] + [record["name"] for record in records]))}
    runs = sorted(best.values(), key=lambda run: (order[run["name"]], str(run["config"].get("seed")).zfill(9)))
    shown = {run["run_id"] for run in runs}
    older = [record for record in records if record["run_id"] not in shown]
    waiting = [run for run in plan if run["run_id"] not in shown]
    return Profile(folder.name, folder, runs, older, waiting, problems) if runs or problems else None


def _rank(record: dict, planned: dict) -> tuple:
    """Of two records with one name and seed the planned one stands in the tables, then the one that finished, then the newer."""
    return record["run_id"] in planned, record["status"] == "finished", record["finished"], record["run_id"]


def label_of(record: dict, experiment: str) -> str:
    return record.get("labels", {}).get(experiment, record["label"])


def anchor_of(record: dict) -> str:
    return "record-" + slug_of(record["run_id"])


def slug_of(text: str) -> str:
    """`text` as a file name and an identifier: everything but letters, digits, '_' and '-' becomes '-'."""
    return re.sub(r"[^A-Za-z0-9_-]+", "-", text).strip("-") or "unnamed"


def title_of(experiment: str) -> str:
    return experiment.replace("_", " ").replace("-", " ").capitalize()


def question_of(experiment: str, root: Path) -> str:
    """The first paragraph of benchmarks/experiments/<experiment>.py's docstring, which is its question; "" where there is no such file."""
    path = root / "benchmarks" / "experiments" / f"{slug_of(experiment)}.py"
    if not path.exists():
        return ""
    docstring = ast.get_docstring(ast.parse(path.read_text(encoding="utf-8"))) or ""
    return " ".join(docstring.split("\n\n")[0].split())


def rank_runs(profile: Profile) -> list[tuple[dict, Value]]:
    """Finished runs with their validation BLEU-4, best first: free decoding at the main beam, as in the page's first table."""
    beam = main_beam(profile.finished)
    scored = [(run, score_cell(run, "val", "free", beam, "BLEU-4")) for run in profile.finished]
    there = [(run, cell) for run, cell in scored if isinstance(cell, Value)]
    return sorted(there, key=lambda pair: (-pair[1].value, pair[0]["run_id"]))


def runs_to_show(profile: Profile) -> list[dict]:
    """Runs in the order in which their attention is worth looking at: those that the attention experiment compares, then the best."""
    ranked = [run for run, _ in rank_runs(profile)]
    compared = [run for run in ranked if "attention" in run["experiments"] and run["config"].get("attention") != "none"]
    return compared + [run for run in ranked if run not in compared]


def summary(profile: Profile) -> dict:
    """The lead: what was run on what, the facts beside it, and the highest and the lowest score."""
    runs, ranked = profile.finished, rank_runs(profile)
    data = _agreed(run["data"].get("name") for run in runs)
    images = _agreed(_counts(run["data"].get("images", {})) for run in runs)
    dirty = any(run["provenance"].get("dirty") for run in runs)
    facts = {
        "Profile": profile.name,
        "Data": data,
        "Images": images,
        "Vocabulary": _agreed(f"{run['data']['vocabulary']:,} words" for run in runs if run["data"].get("vocabulary")),
        "Runs": ", ".join(
            f"{len(these)} {state}"
            for these, state in ((runs, "finished"), (profile.failed, "failed"), (profile.waiting, "not run"))
            if these
        ),
        "Hardware": _agreed(run["cost"].get("device") for run in runs),
        "Newest record": max((run["finished"] for run in profile.runs), default="").replace("T", " ").replace("Z", " UTC"),
        "Code": _agreed((run["provenance"].get("commit") or "no checkout")[:12] for run in runs)
        + (", with changes not committed" if dirty else ""),
    }
    return {
        "facts": {name: text for name, text in facts.items() if text},
        "best": ranked[0] if ranked else None,
        "worst": ranked[-1] if len(ranked) > 1 else None,
        "overlap": len(ranked) > 1 and _overlap(ranked[0][1], ranked[-1][1]),
        "beam": main_beam(runs),
        "models": len({run["name"] for run in runs}),
        "several_data": len({run["data"].get("fingerprint") for run in runs}) > 1,
    }


def protocols(profile: Profile) -> tuple[Table, object, str, dict] | None:
    """The best run's BLEU-4 under every protocol and beam it was scored at: table, figure, the figure's alternative text, and the run."""
    ranked = rank_runs(profile)
    if not ranked:
        return None
    run = ranked[0][0]
    rows, labels, points = [], [], {title: [] for title in SPLITS.values()}
    for protocol, beam in _conditions(run):
        cells = [score_cell(run, split, protocol, beam, "BLEU-4") for split in SPLITS]
        found = scores_of(run, "val", protocol, beam) or scores_of(run, "test", protocol, beam)
        decoding = {None: "teacher-forced argmax", "1": "its own words, greedy"}.get(beam, f"its own words, beam {beam}")
        rows.append([protocol, decoding, *cells, found["signature"] if found else Missing("not in the record")])
        labels.append(f"{protocol}, beam {beam}" if beam else protocol)
        for title, cell in zip(SPLITS.values(), cells, strict=True):
            points[title].append(_points([cell]))
    columns = [Column("Protocol", numeric=False), Column("Decoding", numeric=False)]
    columns += [Column("BLEU-4", title) for title in SPLITS.values()] + [Column("Signature", numeric=False)]
    table = Table("protocols", f"{profile.names[run['run_id']]}: one checkpoint, {len(rows)} values of BLEU-4", columns, rows)
    values = [point.value for line in points["Validation"] for point in line]
    spread = f"{max(values) - min(values):.1f}" if values else ""
    shown = {title: lines for title, lines in points.items() if any(lines)}
    figure = dots("One checkpoint, its BLEU-4 by protocol", "BLEU-4 with 95 % interval", labels, shown)
    alt = "BLEU-4 on validation by protocol: " + _spoken(labels, points["Validation"])
    return table, figure, alt, {"run": run, "spread": spread, "n": len(rows)}


def experiments(profile: Profile, root: Path) -> list[dict]:
    """Per experiment: its title, its question, its tables, the figure of BLEU-4 and the figure's alternative text."""
    beam = main_beam(profile.finished)
    made = []
    for name in profile.experiments:
        rows, slug = profile.of(name), slug_of(name)
        heading = functools.partial(profile.heading, experiment=name)
        tables = [t if t.slug.endswith("-cost") else with_means(t, rows) for t in experiment_tables(slug, rows, beam, heading)]
        if name == "teacher_forcing" and (both := forcing_table(slug, rows, heading)):
            tables.insert(0, both)
        groups: dict[str, list[dict]] = {}
        for run in rows:
            if run["status"] == "finished":
                groups.setdefault(run["name"], []).append(run)
        labels = [label_of(group[0], name) for group in groups.values()]
        points = {
            title: [_points([score_cell(run, split, "free", beam, "BLEU-4") for run in group]) for group in groups.values()]
            for split, title in SPLITS.items()
        }
        shown = {title: lines for title, lines in points.items() if any(lines)}
        figure = dots(f"BLEU-4, free decoding, beam {beam}", "BLEU-4 with 95 % interval", labels, shown) if shown else None
        alt = "BLEU-4 on validation: " + _spoken(labels, points["Validation"])
        note = "A line is a 95 % interval over images" + ("; each seed has its own." if any(profile.seeds.values()) else ".")
        about = {"slug": slug, "title": title_of(name), "question": question_of(name, root), "tables": tables}
        made.append(about | {"figure": figure, "alt": alt, "note": note})
    return made


def with_means(table: Table, rows: list[dict]) -> Table:
    """After the rows of a name with several finished seeds, their mean as one row more. It bears no interval: resampled images say nothing of seeds."""
    body = []
    for k, (record, row) in enumerate(zip(rows, table.rows, strict=True)):
        body.append(row)
        last = k + 1 == len(rows) or rows[k + 1]["name"] != record["name"]
        group = [r for other, r in zip(rows, table.rows, strict=True) if other["name"] == record["name"] and other["status"] == "finished"]
        if last and len(group) > 1:
            mean: list = [Link(record["label"], note=f"mean of {len(group)} seeds", mean=True)]
            for cells in list(zip(*group, strict=True))[1:]:
                values = all(isinstance(cell, Value) for cell in cells)
                mean.append(_mean(cells) if values else Missing("not every seed has it") if len(set(cells)) > 1 else cells[0])
            body.append(mean)
    return Table(table.slug, table.title, table.columns, body, table.remarks)


def learning_curves(profile: Profile) -> tuple[list[dict], list[list], list[str]]:
    """Figures of each experiment's training (slug, figure, alternative text), the drawn lines as rows for a CSV file, and problems."""
    steps, problems = {}, []
    for run in profile.finished:
        try:
            steps[run["run_id"]] = _read_curve(profile, run)
        except BadInput as error:
            problems.append(str(error))
    made, long = [], []
    for experiment in profile.experiments:
        for panel, (title, unit, solid, dashed) in PANELS.items():
            lines, ends = [], []
            for run in profile.of(experiment):
                for column in (solid, dashed):
                    there = [
                        (step["epoch"], step[column]) for step in steps.get(run["run_id"], []) if column and step.get(column) is not None
                    ]
                    if there:
                        x, y = zip(*there, strict=True)
                        lines.append(Curve(run["label"], profile.looks[run["name"]], list(x), list(y), dashed=column == dashed))
                        ends += [f"{profile.names[run['run_id']]} ends at {y[-1]:.2f} after epoch {x[-1]}"] if column == solid else []
                        long += [[experiment, run["run_id"], column, epoch, value] for epoch, value in there]
            if lines:
                slug = f"{slug_of(experiment)}-curve-{panel}"
                note = "Solid: validation; dashed: training." if any(line.dashed for line in lines) else ""
                note += " A line is the mean over seeds, its band their range." if any(profile.seeds.values()) else ""
                made.append(
                    {"slug": slug, "figure": curves(title, unit, lines), "alt": f"{title}: " + "; ".join(ends), "note": note.strip()}
                )
    return made, long, problems


def _read_curve(profile: Profile, run: dict) -> list[dict]:
    name = run["training"].get("curve")
    path = profile.folder / "runs" / str(name)
    if not name or path.parent != profile.folder / "runs":
        raise BadInput(f"{run['run_id']}: its record names no curve in runs/; run again to remake it")
    try:
        steps = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
    except OSError as error:
        raise BadInput(f"{run['run_id']}: its curve {name}: {error.strerror}; run again to remake it") from None
    except ValueError:
        raise BadInput(f"{run['run_id']}: its curve {name} is half written; run again to remake it") from None
    return [step for step in steps if isinstance(step, dict) and isinstance(step.get("epoch"), int)]


def _conditions(run: dict) -> list[tuple[str, str | None]]:
    """(protocol, beam) pairs a run was scored under: published, free by rising beam, coco, and whatever else a record holds."""
    there: dict[str, set] = {}
    for split in run["scores"].values():
        for protocol, content in split.items():
            there.setdefault(protocol, set()).update([None] if protocol == "published" else content)
    order = {"published": 0, "free": 1, "coco": 2}
    return [
        (p, b) for p in sorted(there, key=lambda p: (order.get(p, 3), p)) for b in sorted(there[p], key=lambda b: (len(b or ""), b or ""))
    ]


def _mean(cells: tuple[Value, ...]) -> Value:
    mean = sum(cell.value for cell in cells) / len(cells)
    return Value(mean, f"{mean:.{len(cells[0].text.partition('.')[2])}f}")


def _points(cells: list) -> list[Point]:
    return [Point(cell.value, cell.low, cell.high) for cell in cells if isinstance(cell, Value)]


def _spoken(labels: list[str], lines: list[list[Point]]) -> str:
    """A figure's content in words, for who does not see it."""
    said = [f"{label} {' and '.join(f'{point.value:.1f}' for point in line)}" for label, line in zip(labels, lines, strict=True) if line]
    return "; ".join(said)


def _overlap(one: Value, other: Value) -> bool:
    if one.low is None or other.low is None:
        return False
    return one.low <= other.high and other.low <= one.high


def _agreed(values) -> str:
    return " / ".join(dict.fromkeys(str(value) for value in values if value))


def _counts(images: dict) -> str:
    return ", ".join(f"{count:,} {split}" for split, count in images.items())
