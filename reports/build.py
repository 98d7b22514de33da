"""Turns results/ into tables, figures and pages: reports/<profile>/index.html (one self-contained file) and reports/index.html, the entry.

    python reports/build.py [--results results] [--evidence results/evidence] [--out reports] [--evidence-only]

Reads records, captions, curves and attention strips as results/README.md lays them out; recomputes no score and imports no torch. Beside each page it
writes every table as CSV, Markdown and LaTeX (tables/) and every figure as PNG and SVG (figures/). Equal results give equal bytes.
--evidence-only builds the committed pages, reports/evidence/<profile>/, from the committed records instead of the reader's own.
"""

import argparse
import sys
from pathlib import Path
from urllib.parse import quote

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

import jinja2  # noqa: E402
from markupsafe import Markup  # noqa: E402

from captioning.atomic import atomic_write  # noqa: E402
from captioning.bad_input import BadInput, run_command  # noqa: E402
from reports import sections  # noqa: E402
from reports.examples import attention_strips, ranked_captions  # noqa: E402
from reports.figures import save  # noqa: E402
from reports.pointing import pointing_table  # noqa: E402
from reports.tables import Link, Missing, Table, Value, compare_table, experiment_tables, long_csv, main_beam  # noqa: E402

STRENGTH = ("coco", "flickr30k", "flickr8k")  # strongest evidence first; the demo always last
OWN_PICTURES = ("demo",)  # profiles whose pictures the project drew itself, so that a committed page may hold them


def build_reports(
    results: str | Path = "results", evidence: str | Path = "results/evidence", out: str | Path = "reports", *, evidence_only: bool = False
) -> Path:
    """Build the page of every profile and the entry page, whose path comes back. BadInput where there is no record at all.

    results: the reader's own, <results>/<profile>/runs/*.json; evidence: the committed records, laid out alike. With `evidence_only`, or where both are
    the same folder, the committed pages <out>/evidence/<profile>/ are built from `evidence` instead.
    """
    results, evidence, out = Path(results), Path(evidence), Path(out)
    if results.resolve() == evidence.resolve():
        evidence_only, results = True, evidence.parent
    committed = _load_all(evidence)
    mine = {} if evidence_only else _load_all(results, but=evidence)
    if not committed and not mine:
        raise BadInput(f"no records under {evidence if evidence_only else results}: make some with `python benchmarks/run_all.py`")
    env = _environment()
    if evidence_only:
        for name, profile in committed.items():
            _build_profile(env, profile, None, out / "evidence" / name, is_evidence=True)
    for name, profile in mine.items():
        _build_profile(env, profile, committed.get(name), out / name, is_evidence=False)
    return _build_index(env, _load_all(results, but=evidence) if evidence_only else mine, committed, out)


def _load_all(folder: Path, but: Path | None = None) -> dict[str, sections.Profile]:
    """The profiles under a results folder by name, strongest evidence first."""
    found = {}
    for runs in sorted(folder.glob("*/runs")):
        home = runs.parent
        if but is not None and (home.resolve() == but.resolve() or but.resolve() in home.resolve().parents):
            continue
        profile = sections.load_profile(home)
        if profile is not None:
            found[home.name] = profile
    return dict(sorted(found.items(), key=lambda pair: _strength(pair[0])))


def _strength(name: str) -> tuple[int, str]:
    return (STRENGTH.index(name) if name in STRENGTH else len(STRENGTH) + (name == "demo"), name)


def _build_profile(
    env: jinja2.Environment, profile: sections.Profile, committed: sections.Profile | None, target: Path, *, is_evidence: bool
) -> None:
    """One profile's page with its tables and figures beside it."""
    written: list[Path] = []
    problems = list(profile.problems)

    def table(made: Table) -> Table:
        written.extend(made.write(target / "tables"))
        return made

    def figure(made, slug: str) -> Markup:
        svg, paths = save(made, target / "figures", slug)
        written.extend(paths)
        return Markup(svg)  # drawn by matplotlib, which escapes the texts it is given

    content: dict = {
        "profile": profile,
        "is_evidence": is_evidence,
        "summary": sections.summary(profile),
        "protocols": None,
        "compare": None,
    }
    made = sections.protocols(profile)
    if made is not None:
        content["protocols"] = {"table": table(made[0]), "svg": figure(made[1], "protocols"), "alt": made[2], **made[3]}
    content["experiments"] = sections.experiments(profile, ROOT)
    for experiment in content["experiments"]:
        for each in experiment["tables"]:
            table(each)
        if experiment["figure"] is not None:
            experiment["svg"] = figure(experiment["figure"], f"{experiment['slug']}-bleu4")
    if committed is not None:
        compared = compare_table(profile.finished, committed.finished, profile.heading)
        content["compare"] = table(compared) if compared else None

    lines, long, more = sections.learning_curves(profile)
    problems += more
    content["curves"] = [
        {"slug": each["slug"], "svg": figure(each["figure"], each["slug"]), "alt": each["alt"], "note": each["note"]} for each in lines
    ]

    ranked = [run for run, _ in sections.rank_runs(profile)]
    content["photos_allowed"] = not is_evidence or profile.name in OWN_PICTURES
    content["pointing"] = []
    pointed = [run for run in profile.finished if run.get("pointing")]
    for captions in ("forced", "free"):
        made = pointing_table(pointed, captions, profile.heading)
        if made is not None:
            content["pointing"].append(table(sections.with_means(made, pointed)))
    content["strips"] = []
    if content["photos_allowed"]:
        content["strips"], paths, more = attention_strips(profile.folder, sections.runs_to_show(profile), profile.names, target / "figures")
        written += paths
        problems += more
    content["captions"] = None
    if ranked:
        try:
            content["captions"] = {"run": ranked[0], **ranked_captions(profile.folder, ranked[0], main_beam(profile.finished))}
        except BadInput as error:
            problems.append(str(error))

    runs = profile.folder / "runs"
    content["raw"] = {run["run_id"]: (runs / f"{run['run_id']}.json").read_text(encoding="utf-8") for run in profile.runs}
    content["problems"] = problems
    for name, text in {"scores.csv": long_csv(profile.finished), "curves.csv": _curves_csv(long)}.items():
        with atomic_write(target / "tables" / name) as file:
            file.write(text)
        written.append(target / "tables" / name)
    with atomic_write(target / "index.html") as file:
        file.write(env.get_template("profile.html.j2").render(content))
    _sweep(target, written)


def _curves_csv(rows: list[list]) -> str:
    return "".join(",".join(map(str, row)) + "\n" for row in [["experiment", "run_id", "quantity", "epoch", "value"], *rows])


def _sweep(target: Path, written: list[Path]) -> None:
    """Remove tables and figures of an earlier build that this one no longer has: a stale table beside a new page would be believed."""
    for folder in ("tables", "figures"):
        for path in (target / folder).glob("*.*"):
            if path.suffix in (".csv", ".md", ".tex", ".png", ".svg") and path not in written:
                path.unlink()


def _build_index(env: jinja2.Environment, mine: dict, committed: dict, out: Path) -> Path:
    """The entry: one card per profile and origin, strongest evidence first, committed before the reader's, the demo last."""
    cards = []
    for name in sorted({*mine, *committed}, key=_strength):
        for origin, profile in (("evidence", committed.get(name)), ("yours", mine.get(name))):
            if profile is None:
                continue
            page = f"evidence/{name}/index.html" if origin == "evidence" else f"{name}/index.html"
            beam = main_beam(profile.finished)
            tables = [
                t for e in profile.experiments[:1] for t in experiment_tables(f"{origin}-{name}", profile.of(e), beam, profile.heading)[:1]
            ]
            href = quote(page) if (out / page).exists() else ""
            cards.append(
                {
                    "profile": profile,
                    "origin": origin,
                    "href": href,
                    "summary": sections.summary(profile),
                    "table": tables[0] if tables else None,
                }
            )
    path = out / "index.html"
    with atomic_write(path) as file:
        file.write(env.get_template("index.html.j2").render(cards=cards))
    return path


def _environment() -> jinja2.Environment:
    loader = jinja2.FileSystemLoader(Path(__file__).with_name("templates"))
    env = jinja2.Environment(loader=loader, autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    env.tests |= {kind.__name__.lower(): lambda cell, kind=kind: isinstance(cell, kind) for kind in (Value, Missing, Link)}
    env.globals |= {
        "anchor_of": sections.anchor_of,
        "css": Markup(Path(__file__).with_name("templates").joinpath("style.css").read_text(encoding="utf-8")),
    }
    return env


def main() -> None:
    parser = argparse.ArgumentParser(description="Build the report pages from recorded results.", epilog="example: python reports/build.py")
    parser.add_argument("--results", type=Path, default=ROOT / "results", help="folder of your own records (default: results)")
    parser.add_argument(
        "--evidence", type=Path, default=ROOT / "results/evidence", help="folder of the committed records (default: results/evidence)"
    )
    parser.add_argument("--out", type=Path, default=ROOT / "reports", help="where the pages go (default: reports)")
    parser.add_argument(
        "--evidence-only", action="store_true", help="build the committed pages, <out>/evidence/<profile>/, and leave your own alone"
    )
    given = parser.parse_args()
    print(build_reports(given.results, given.evidence, given.out, evidence_only=given.evidence_only))


if __name__ == "__main__":
    run_command(main)
