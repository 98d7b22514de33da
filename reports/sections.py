"""What stands in the sections of a profile's page, computed from its records. No torch, no HTML: reports/templates/profile.html.j2 lays it out.

Each public function makes one section's content; verdicts.py, protocol_rules.py, cost.py, loss_parts.py, pointing.py and examples.py make the others.
"""

import ast
import json
from functools import partial
from pathlib import Path

from captioning.bad_input import BadInput
from captioning.systems import SYSTEMS
from reports.beside import Beside
from reports.figures import Point, curves, dots
from reports.profile import Profile, label_of, slug_of, title_of
from reports.scores import experiment_tables, forcing_table, main_beam, score_cell
from reports.tables import SPLITS, Value

PANELS = {
    "bleu4": ("BLEU-4", "BLEU-4, free, greedy, validation", "val_bleu4_free", None),
    "cross-entropy": ("cross-entropy", "nats a word", "val_cross_entropy", "train_cross_entropy"),
}
ONLY_IN_FILE = ("val_top5", "train_top5", "val_penalty", "train_penalty")  # columns of curves.csv that no figure draws
ELSEWHERE = ("protocols", "loss_parts")  # experiments that have a section of their own


def question_of(experiment: str, root: Path) -> str:
    """The first paragraph of benchmarks/experiments/<experiment>.py's docstring, which is its question; "" where there is no such file."""
    path = root / "benchmarks" / "experiments" / f"{slug_of(experiment)}.py"
    if not path.exists():
        return ""
    docstring = ast.get_docstring(ast.parse(path.read_text(encoding="utf-8"))) or ""
    return " ".join(docstring.split("\n\n")[0].split())


def stated(profile: Profile, topic: str) -> str:
    """What whoever made a profile's records wrote of one topic in <topic>.txt beside them; "" where nobody did."""
    path = profile.folder / f"{topic}.txt"
    return " ".join(path.read_text(encoding="utf-8", errors="replace").split()) if path.is_file() else ""


def rank_runs(profile: Profile) -> list[tuple[dict, Value]]:
    """Of each model the first seed's finished run, with its validation BLEU-4, best first: free decoding at the main beam, as in the page's first table.

    The first seed alone, so that a model with more seeds has no more chances to be the best.
    """
    beam, first = main_beam(profile.finished), {run["name"]: run for run in reversed(profile.finished)}
    scored = [(run, score_cell(run, "val", "free", beam, "BLEU-4")) for run in first.values()]
    there = [(run, cell) for run, cell in scored if isinstance(cell, Value)]
    return sorted(there, key=lambda pair: (-pair[1].value, pair[0]["run_id"]))


def runs_to_show(profile: Profile) -> list[dict]:
    """Runs, one per model, in the order in which their attention is worth looking at: those that the attention experiment compares, then of every other
    system the best that the experiment `systems` compares, then the best."""
    ranked = [run for run, _ in rank_runs(profile)]
    compared = [run for run in ranked if "attention" in run["experiments"] and run["config"].get("attention") != "none"]
    compared.sort(key=lambda run: run["config"].get("attention") != "soft")
    shown = {system_of(run) for run in compared}
    best = {system_of(run): run for run in reversed(ranked) if "systems" in run["experiments"] and system_of(run) not in shown}
    compared += [best[system] for system in SYSTEMS if system in best]
    return compared + [run for run in ranked if run not in compared]


def system_of(run: dict) -> str:
    return run["config"].get("system", "attend")  # a record from before there were several has none


def _vocabulary(run: dict) -> str:
    """How large it is, and of what: a language model's own tokenizer has subwords."""
    subwords = "tokenizer" in run.get("language_model", {}).get("identity", {})
    return f"{run['data']['vocabulary']:,} {'tokens' if subwords else 'words'}"


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
        "Vocabulary": _agreed(_vocabulary(run) for run in runs if run["data"].get("vocabulary")),
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


def experiments(profile: Profile, root: Path, beside: Beside) -> list[dict]:
    """Per experiment: its title, its question, its tables (first those that answer it, then `further` ones), the figure of BLEU-4 and what it says."""
    beam, made = main_beam(profile.finished), []
    for name in profile.experiments:
        if name in ELSEWHERE:
            continue
        rows, slug = profile.of(name), slug_of(name)
        heading = partial(profile.heading, experiment=name)
        tables = experiment_tables(slug, rows, beam, heading, beside)
        if name == "teacher_forcing" and (both := forcing_table(slug, rows, heading)):
            tables.insert(0, both)
        answers = 2 if name == "encoders" else 1  # the paper has two tables of encoders: BLEU, and top-5 with the losses
        about = {"slug": slug, "title": title_of(name), "question": question_of(name, root)}
        about |= {"tables": tables[:answers], "further": tables[answers:]}
        made.append(about | _bleu4_figure(profile, name, rows, beam))
    return made


def _bleu4_figure(profile: Profile, experiment: str, rows: list[dict], beam: str) -> dict:
    """{"figure", "alt", "note"}: a line per model, a dot per seed."""
    groups: dict[str, list[dict]] = {}
    for run in rows:
        if run["status"] == "finished":
            groups.setdefault(run["name"], []).append(run)
    labels = [label_of(group[0], experiment) for group in groups.values()]
    points = {
        title: [_points([score_cell(run, split, "free", beam, "BLEU-4") for run in group]) for group in groups.values()]
        for split, title in SPLITS.items()
    }
    shown = {title: lines for title, lines in points.items() if any(lines)}
    figure = partial(dots, f"BLEU-4, free decoding, beam {beam}", "BLEU-4 with 95 % interval", labels, shown) if shown else None
    note = "A line is a 95 % interval over images" + ("; each seed has its own." if any(profile.seeds.values()) else ".")
    return {"figure": figure, "alt": "BLEU-4 on validation: " + _spoken(labels, points["Validation"]), "note": note}


def learning_curves(profile: Profile) -> tuple[list[dict], list[list], list[str]]:
    """Figures of each experiment's training (slug, figure, alternative text), all curves as rows for a CSV file, and problems."""
    steps, problems = {}, []
    for run in profile.finished:
        try:
            steps[run["run_id"]] = _read_curve(profile, run)
        except BadInput as error:
            problems.append(str(error))
    made = [
        figure
        for experiment in profile.experiments
        if experiment not in ELSEWHERE
        for panel in PANELS
        if (figure := _curve_figure(profile, experiment, panel, steps))
    ]
    columns = [column for *_, solid, dashed in PANELS.values() for column in (solid, dashed) if column]
    long = [
        [run_id, column, step["epoch"], step[column]]
        for run_id, curve in steps.items()
        for column in (*columns, *ONLY_IN_FILE)
        for step in curve
        if step.get(column) is not None
    ]
    return made, long, problems


def _curve_figure(profile: Profile, experiment: str, panel: str, steps: dict[str, list[dict]]) -> dict | None:
    title, unit, solid, dashed = PANELS[panel]
    rows, ends = [], []
    for run in profile.of(experiment):
        look = {"label": label_of(run, experiment), "look": profile.looks[run["name"]]}
        for column in filter(None, (solid, dashed)):
            there = [(step["epoch"], step[column]) for step in steps.get(run["run_id"], []) if step.get(column) is not None]
            rows += [look | {"epoch": epoch, "value": value, "dashed": column == dashed} for epoch, value in there]
            if there and column == solid:
                ends.append(f"{profile.names[run['run_id']]} ends at {there[-1][1]:.2f} after epoch {there[-1][0]}")
    if not any(not row["dashed"] for row in rows):
        return None
    note = "Solid: validation; dashed: training. " if any(row["dashed"] for row in rows) else ""
    note += "A line is the mean over seeds, its band their range." if any(profile.seeds.values()) else ""
    slug = f"{slug_of(experiment)}-curve-{panel}"
    drawing = partial(curves, f"{title_of(experiment)}: {title}", unit, rows)
    return {"slug": slug, "figure": drawing, "alt": f"{title} while training: " + "; ".join(ends), "note": note.strip()}


def _read_curve(profile: Profile, run: dict) -> list[dict]:
    name = run["training"].get("curve")
    path = profile.folder / "runs" / str(name)
    if not name or path.parent != profile.folder / "runs":
        raise BadInput(f"{run['run_id']}: its record names no curve in runs/; delete the record and run again")
    try:
        steps = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
    except OSError as error:
        raise BadInput(f"{run['run_id']}: its curve {name}: {error.strerror}; run again to remake it") from None
    except ValueError:
        raise BadInput(f"{run['run_id']}: its curve {name} is half written; run again to remake it") from None
    return [step for step in steps if isinstance(step, dict) and isinstance(step.get("epoch"), int)]


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
