"""Turns results/ into tables, figures and pages: reports/<profile>/index.html (one self-contained file) and reports/index.html, the entry.

    python reports/build.py [--results results] [--evidence results/evidence] [--out reports] [--evidence-only]

Reads records, captions, curves and attention strips as results/README.md lays them out; recomputes no score and imports no torch. Beside each page it
writes every table as CSV, Markdown and LaTeX (tables/), every figure as PNG and SVG (figures/), claims.json: what was found of each claim, for a
machine to check, and browse.html: all test captions of all systems. Equal results give equal bytes; findings and figures whose inputs have not
changed since the last build are kept.
--evidence-only builds the committed pages, reports/evidence/<profile>/, from the committed records instead of the reader's own.
"""

import argparse
import functools
import json
import os
import sys
from pathlib import Path
from urllib.parse import quote

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

import jinja2  # noqa: E402
from markupsafe import Markup  # noqa: E402

from captioning.atomic import atomic_write  # noqa: E402
from captioning.bad_input import BadInput, run_command  # noqa: E402
from captioning.claims_file import make_claims, pages_of, read_claims, reports_of, write_claims  # noqa: E402
from captioning.published import load_numbers  # noqa: E402
from reports import cost, loss_parts, questions, sections, unchanged, verdicts  # noqa: E402
from reports.beside import Beside  # noqa: E402
from reports.browse import write_browse  # noqa: E402
from reports.errors import analyse_profile, error_tables, errors_csv  # noqa: E402
from reports.examples import attention_strips, ranked_captions  # noqa: E402
from reports.figures import save  # noqa: E402
from reports.human import human_table  # noqa: E402
from reports.photos import PAGE as PHOTOS_PAGE  # noqa: E402
from reports.photos import photo_table  # noqa: E402
from reports.pointing import pointing_table  # noqa: E402
from reports.profile import Profile, anchor_of, load_profile  # noqa: E402
from reports.protocol_rules import protocols  # noqa: E402
from reports.scores import compare_table, experiment_tables, long_csv, main_beam, with_means  # noqa: E402
from reports.speed import coco_in_words, coco_table, growth_table, load_speeds, speed_table  # noqa: E402
from reports.tables import Link, Missing, Published, Table, Value  # noqa: E402

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
    committed_pages = pages_of(evidence, evidence, out)
    committed = _load_all(evidence)
    mine = {} if evidence_only else _load_all(results, but=evidence)
    if not committed and not mine:
        raise BadInput(f"no records under {evidence if evidence_only else results}: make some with `python benchmarks/run_all.py`")
    env = _environment()
    if evidence_only:
        for name, profile in committed.items():
            _build_profile(env, profile, None, committed_pages / name, [evidence], is_evidence=True)
    for name, profile in mine.items():
        _build_profile(env, profile, committed.get(name), out / name, [evidence, results], is_evidence=False)
    return _build_index(env, _load_all(results, but=evidence) if evidence_only else mine, committed, out)


def _load_all(folder: Path, but: Path | None = None) -> dict[str, Profile]:
    """The profiles under a results folder by name, strongest evidence first."""
    found = {}
    for runs in sorted(folder.glob("*/runs")):
        home = runs.parent
        if but is not None and (home.resolve() == but.resolve() or but.resolve() in home.resolve().parents):
            continue
        profile = load_profile(home)
        if profile is not None:
            found[home.name] = profile
    return dict(sorted(found.items(), key=lambda pair: _strength(pair[0])))


def _strength(name: str) -> tuple[int, str]:
    return (STRENGTH.index(name) if name in STRENGTH else len(STRENGTH) + (name == "demo"), name)


class Page:
    """A profile's page while it is made: what goes into its template, and the files beside it."""

    def __init__(self, profile: Profile, target: Path, is_evidence: bool):
        self.profile, self.target = profile, target
        self.written: list[Path] = []
        self.problems = list(profile.problems)
        self.beam = main_beam(profile.finished)
        self.ranked = [run for run, _ in sections.rank_runs(profile)]
        self.content: dict = {
            "profile": profile,
            "is_evidence": is_evidence,
            "origin": origin_of(profile.folder, target, is_evidence),
            "summary": sections.summary(profile),
            "problems": self.problems,
        }

    def table(self, made: Table | None) -> Table | None:
        if made is not None:
            self.written += made.write(self.target / "tables")
        return made

    def figure(self, drawing: functools.partial | None, slug: str) -> Markup | None:
        if drawing is None:
            return None
        svg, paths = save(drawing, self.target / "figures", slug)
        self.written += paths
        return Markup(svg)  # drawn by matplotlib, which escapes the texts it is given

    def text(self, name: str, text: str) -> None:
        with atomic_write(self.target / "tables" / name) as file:
            file.write(text)
        self.written.append(self.target / "tables" / name)


def origin_of(home: Path, target: Path, is_evidence: bool) -> dict:
    """Where a page's records lie and how it is built again: {"href" (from the page), "text", "command"}. A page may be sent by mail: it names no folder of
    the machine that it was made on but those between itself and its records."""
    href = Path(os.path.relpath(home.resolve(), target.resolve())).as_posix()
    checkout = home.resolve().is_relative_to(ROOT) and target.resolve().is_relative_to(ROOT)
    text = home.resolve().relative_to(ROOT).as_posix() if checkout else href
    places = (
        "" if checkout and reports_of(home.parent) == ROOT / "reports" else f" --{'evidence' if is_evidence else 'results'} DIR --out DIR"
    )
    command = f"python reports/build.py{places}{' --evidence-only' if is_evidence else ''}"
    return {"href": quote(f"{href}/"), "text": f"{text}/", "command": command}


def _build_profile(
    env: jinja2.Environment, profile: Profile, committed: Profile | None, target: Path, places: list[Path], *, is_evidence: bool
) -> None:
    """One profile's page with its tables, figures and findings beside it. places: results folders whose records of speeds it shows.

    A reader's page that lies there as it would be made is kept; a committed one is always made.
    """
    inputs = unchanged.inputs_of(
        profile.folder, places, committed.folder if committed else None, origin=origin_of(profile.folder, target, is_evidence)
    )
    if not is_evidence and unchanged.lies_there(target, inputs):
        return
    page = Page(profile, target, is_evidence)
    _add_verdicts(page)
    _add_scores(page, committed)
    _add_curves(page)
    _add_attention(page, photos_allowed=not is_evidence or profile.name in OWN_PICTURES)
    _add_cost_and_loss(page)
    _add_speeds(page, places)
    _add_people(page)
    _add_photos(page)
    _add_errors(page, each_caption=not is_evidence)
    _add_captions(page)
    _add_browse(page)
    page.content["raw"] = {run["run_id"]: _without_scores(run) for run in profile.runs}
    page.text("scores.csv", long_csv(profile.finished))
    with atomic_write(target / "index.html") as file:
        file.write(env.get_template("profile.html.j2").render(page.content))
    _sweep(target, page.written)
    if not is_evidence:
        beside = [target / name for name in ("index.html", "claims.json", page.content["browse"]) if name]
        unchanged.note(target, inputs, [*page.written, *beside])


def _add_verdicts(page: Page) -> None:
    path = page.target / "claims.json"
    content = make_claims(page.profile.folder, page.profile.runs, path if path.exists() else None)
    write_claims(path, content)
    claims, asked = content["claims"], content["questions"]
    page.content |= {
        "cannot_judge": questions.cannot_judge(page.profile, asked),
        "stated": {topic: sections.stated(page.profile, topic) for topic in ("photographs", "weights", "comparison")},
        "training": questions.training_in_words(page.profile),
        "questions": page.table(questions.question_table(asked)),
        "answers": questions.findings_in_words(asked),
        "asked_how": questions.measured_how(asked),
        "both_ways": questions.scored_both_ways(page.profile),
        "same_data": [page.table(table) for table in questions.same_data_tables(page.profile)],
        "lead": verdicts.lead(page.profile.name, claims),
        "verdicts": page.table(verdicts.verdict_table(claims)),
        "unseen": verdicts.unseen(claims),
        "detectable": page.table(verdicts.detectable_table(claims)),
        "claims": verdicts.details_of(page.profile, claims),
    }


def _add_scores(page: Page, committed: Profile | None) -> None:
    """One model under every rule, the experiments' tables, and the reader's scores beside the committed ones."""
    profile = page.profile
    rules, problems = protocols(profile, page.ranked)
    page.problems += problems
    if rules is not None:
        page.table(rules["table"])
        rules["svg"] = page.figure(rules["figure"], "protocols")
    experiments = sections.experiments(profile, ROOT, Beside(profile.name))
    for experiment in experiments:
        for each in [*experiment["tables"], *experiment["further"]]:
            page.table(each)
        experiment["svg"] = page.figure(experiment["figure"], f"{experiment['slug']}-bleu4")
    compared = compare_table(profile.finished, committed.finished, profile.heading) if committed is not None else None
    page.content |= {"protocols": rules, "experiments": experiments, "compare": page.table(compared)}


def _add_curves(page: Page) -> None:
    lines, long, problems = sections.learning_curves(page.profile)
    page.problems += problems
    for each in lines:
        each["svg"] = page.figure(each["figure"], each["slug"])
    page.content["curves"] = lines
    rows = [["run_id", "quantity", "epoch", "value"], *long]
    page.text("curves.csv", "".join(",".join(map(str, row)) + "\n" for row in rows))


def _add_attention(page: Page, photos_allowed: bool) -> None:
    profile = page.profile
    pointed = [run for run in profile.finished if run.get("pointing")]
    made = [table for captions in ("forced", "free") if (table := pointing_table(pointed, captions, profile.heading))]
    page.content |= {
        "photos_allowed": photos_allowed,
        "pointing": [page.table(with_means(table, pointed)) for table in made],
        "strips": [],
        "by_gradients": False,
    }
    if photos_allowed:
        runs = sections.runs_to_show(profile)
        names = {run["run_id"]: profile.heading(run, "attention").text for run in runs}
        page.content["strips"], paths, problems = attention_strips(profile.folder, runs, names, page.target / "figures")
        page.content["by_gradients"] = any(strip["kind"] == "gradient" for image in page.content["strips"] for strip in image["strips"])
        page.written += paths
        page.problems += problems


def _add_cost_and_loss(page: Page) -> None:
    profile, found, losses = page.profile, cost.cost_figure(page.profile, page.beam), None
    drawing, alt = found or (None, "")
    costs = {"table": page.table(cost.cost_table(profile, page.beam)), "knowledge": page.table(cost.knowledge_table(profile))}
    rows = loss_parts.rows_of(profile)
    if rows:
        numbers = {number.id: number for number in load_numbers()}
        bars, said = loss_parts.parts_figure(profile, rows)
        losses = {"table": page.table(loss_parts.parts_table(profile, rows)), "svg": page.figure(bars, "loss-parts"), "alt": said}
        losses |= {"arithmetic": page.table(loss_parts.arithmetic_table(profile, rows, numbers))}
        losses |= {"question": sections.question_of("loss_parts", ROOT)}
    page.content |= {"cost": costs | {"svg": page.figure(drawing, "cost"), "alt": alt}, "losses": losses}


def _add_speeds(page: Page, places: list[Path]) -> None:
    """What benchmarks/speed.py measured, machine by machine; it hangs on no profile."""
    records, problems = load_speeds([place / "speed" for place in places])
    page.problems += problems
    made = [(page.table(speed_table(r)), page.table(growth_table(r)), page.table(coco_table(r))) for r in records]
    page.content["coco_cost"] = coco_in_words(records)
    page.content["speeds"] = [table for tables in made for table in tables if table is not None]


def _add_people(page: Page) -> None:
    made, problems = human_table(page.profile)
    page.problems += problems
    page.content["people"] = page.table(made)


def _add_photos(page: Page) -> None:
    made, text, problems = photo_table(page.profile)
    page.problems += problems
    page.content |= {"photos": page.table(made), "photos_page": PHOTOS_PAGE if made else ""}
    path = page.target / PHOTOS_PAGE
    if made is None:
        path.unlink(missing_ok=True)
        return
    with atomic_write(path) as file:
        file.write(text)


def _add_errors(page: Page, each_caption: bool) -> None:
    """each_caption: with a file that has a row for every caption, which is megabytes."""
    analysis = analyse_profile(page.profile, page.beam)
    made = error_tables(page.profile, analysis, page.ranked[0]["run_id"] if page.ranked else None, page.beam)
    page.problems += [problem for problem in analysis.problems if problem not in page.problems]
    if made is not None:
        for table in (made["shares"], *made["further"]):
            page.table(table)
        if each_caption:
            page.text("errors.csv", errors_csv(analysis))
    page.content |= {"errors": made, "each_caption": each_caption}


def _add_browse(page: Page) -> None:
    """The page to browse all test captions, beside this one."""
    page.content["browse"], path = "", page.target / "browse.html"
    if page.profile.finished:
        try:
            page.content["browse"] = write_browse(page.profile, path, report="index.html").name
        except BadInput as error:
            page.problems.append(str(error))
    if not page.content["browse"]:
        path.unlink(missing_ok=True)


def _add_captions(page: Page) -> None:
    page.content["captions"] = None
    if page.ranked:
        try:
            page.content["captions"] = {"run": page.ranked[0], **ranked_captions(page.profile.folder, page.ranked[0], page.beam)}
        except BadInput as error:
            page.problems.append(str(error))


def _without_scores(record: dict) -> str:
    """A record as text, without the scores: they stand in the tables and, each with its signature, in scores.csv."""
    kept = {name: value for name, value in record.items() if name not in ("scores", "pointing")}
    return json.dumps(kept, indent=1, ensure_ascii=False)


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
            page = _page_of(out, name, profile.folder.parent if origin == "evidence" else None)
            href = quote(Path(os.path.relpath(page, out)).as_posix()) if page.exists() else ""
            card = {"profile": profile, "origin": origin, "href": href, "summary": sections.summary(profile)}
            cards.append(card | {"table": _first_table(profile, origin), "findings": _findings_beside(page)})
    path = out / "index.html"
    with atomic_write(path) as file:
        file.write(env.get_template("index.html.j2").render(cards=cards))
    return path


def _page_of(out: Path, name: str, evidence: Path | None) -> Path:
    """A profile's page; that of committed evidence stands where that is kept, if not under `out`."""
    if evidence is None:
        return out / name / "index.html"
    places = [pages_of(evidence, evidence, reports) / name / "index.html" for reports in (out, reports_of(evidence))]
    return next((page for page in places if page.exists()), places[0])


def _first_table(profile: Profile, origin: str) -> Table | None:
    """The first experiment's free scores, as the entry shows them."""
    beam, heading = main_beam(profile.finished), profile.heading
    for experiment in profile.experiments[:1]:
        tables = experiment_tables(f"{origin}-{profile.name}", profile.of(experiment), beam, heading, Beside(profile.name))
        return tables[0] if tables else None
    return None


def _findings_beside(page: Path) -> list[str]:
    """What was found at a profile in few words, from the claims.json beside its page: ["2 reproduced", "1 contradicted", ...]."""
    try:
        claims = read_claims(page.with_name("claims.json"))["claims"]
    except BadInput:
        return []
    return [f"{count} {finding}" for finding, count in verdicts.counts_of(claims).items()]


def _environment() -> jinja2.Environment:
    loader = jinja2.FileSystemLoader(Path(__file__).with_name("templates"))
    env = jinja2.Environment(loader=loader, autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    env.tests |= {kind.__name__.lower(): lambda cell, kind=kind: isinstance(cell, kind) for kind in (Value, Missing, Link, Published)}
    env.globals |= {
        "anchor_of": anchor_of,
        "css": Markup(Path(__file__).with_name("templates").joinpath("style.css").read_text(encoding="utf-8")),
    }
    return env


def main() -> None:
    parser = argparse.ArgumentParser(description="Build the report pages from recorded results.", epilog="example: python reports/build.py")
    parser.add_argument("--results", type=Path, default=ROOT / "results", help="folder of your own records (default: results)")
    parser.add_argument(
        "--evidence", type=Path, default=ROOT / "results/evidence", help="folder of the committed records (default: results/evidence)"
    )
    parser.add_argument("--out", type=Path, help="where the pages go (default: reports, or a folder beside another --results)")
    parser.add_argument(
        "--evidence-only", action="store_true", help="build the committed pages, <out>/evidence/<profile>/, and leave your own alone"
    )
    given = parser.parse_args()
    out = given.out or reports_of(given.evidence if given.evidence_only else given.results)
    print(build_reports(given.results, given.evidence, out, evidence_only=given.evidence_only))


if __name__ == "__main__":
    run_command(main)
