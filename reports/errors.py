"""What a report says of the errors in captions: each system's shares, what causes them, what is confused, and how far the analysis itself is right. No torch.

Reads the captions and references beside the records (test split, the page's main beam) and analyses them (captioning/errors.py); the hashes of training
captions, where those lie there too (captioning/training_captions.py); and
<results>/marked/<profile>.json, captions that were marked by reading them, where those are of runs of the page.
"""

import hashlib
import io
import json
from collections import Counter, defaultdict
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from captioning.bad_input import BadInput
from captioning.error_counts import Rate, causes, confusions, coverage, mean_rate, rates, richness, worst_images
from captioning.error_rules import RULES_SINCE
from captioning.errors import (
    COUNTED,
    KINDS,
    LEAST_IMAGES,
    TITLES,
    Error,
    Spoken,
    analyse,
    kinds_of,
    references_of,
    spoken,
    training_of,
    write_rows,
)
from reports.examples import own_file
from reports.profile import Profile
from reports.scores import nearest_beam, with_means, with_warning
from reports.tables import Column, Link, Missing, Table, Value, minus_sign

SPLIT = "test"
CONFUSIONS = 12  # pairs of words in the table
IN_WORDS = {1: "one", 2: "two", 3: "three", 4: "four", 5: "five"}


@dataclass
class Analysis:
    """The errors of the finished runs of a page that have captions: run_id -> what was said, and its errors.

    `beams` says of each run which beam; `training` has the hashes of its training captions, None where they were not saved.
    """

    said: dict[str, Spoken] = field(default_factory=dict)
    errors: dict[str, dict[str, list[Error]]] = field(default_factory=dict)
    beams: dict[str, str] = field(default_factory=dict)
    training: dict[str, frozenset[str] | None] = field(default_factory=dict)
    problems: list[str] = field(default_factory=list)


def analyse_profile(profile: Profile, beam: str) -> Analysis:
    """A run whose files cannot be used is a problem and left out."""
    found, references, training = Analysis(), {}, {}
    for record in profile.finished:
        run_id, width = record["run_id"], nearest_beam(record, SPLIT, "free", beam)
        try:
            paths = [own_file(profile.folder, record, kind) for kind in ("captions", "references")]
            if None in paths:
                raise BadInput(f"{run_id}: the record names no captions or no references; run again to remake them")
            if paths[1] not in references:
                references[paths[1]] = references_of(profile.folder, record, SPLIT)
            said = spoken(profile.folder, record, SPLIT, width, references[paths[1]])
        except BadInput as error:
            found.problems.append(str(error))
            continue
        found.said[run_id], found.errors[run_id], found.beams[run_id] = said, said.errors(), width
        if paths[1] not in training:
            training[paths[1]] = _training(paths[1], found.problems)
        found.training[run_id] = training[paths[1]]
    return found


def _training(references: Path, problems: list[str]) -> frozenset[str] | None:
    try:
        return training_of(references)
    except BadInput as error:
        problems.append(str(error))
        return None


def error_tables(profile: Profile, analysis: Analysis, best: str | None, beam: str) -> dict | None:
    """{"shares", "further": [tables], "n", "beam"} for the page; None where no run has captions. best: the run_id that others are compared with."""
    rows = [record for record in profile.finished if record["run_id"] in analysis.errors]
    if not rows:
        return None
    found = _all_rates(analysis)
    heading = with_warning(profile.heading)
    best = best if best in found else rows[0]["run_id"]
    name = profile.names[best]
    tables = [
        _differences(rows, analysis, found, best, name, heading),
        _causes(analysis, best, name),
        _confusions(analysis, rows),
        _words(rows, analysis, heading),
        marked_table(profile, analysis),
    ]
    return {
        "shares": _shares(rows, analysis, found, beam, heading, best, name),
        "further": [table for table in tables if table is not None],
        "beam": beam,
        "kinds": {TITLES[kind]: sentence for kind, sentence in KINDS.items()},
        "lexicon": _coverage(analysis),
    }


def errors_csv(analysis: Analysis) -> str:
    """A row per caption of every run."""
    text = io.StringIO()
    write_rows(text, [(run_id, analysis.said[run_id].captions, errors) for run_id, errors in analysis.errors.items()])
    return text.getvalue()


def _all_rates(analysis: Analysis) -> dict[str, dict[str, Rate]]:
    """run_id -> kind -> Rate; runs on the same images are resampled together."""
    groups: dict[frozenset, list[str]] = {}
    for run_id, errors in analysis.errors.items():
        groups.setdefault(frozenset(errors), []).append(run_id)
    found = {}
    for runs in groups.values():
        systems = [analysis.errors[run_id] for run_id in runs]
        found |= dict(zip(runs, rates(systems, kinds_of(systems[0])), strict=True))
    return {run_id: found[run_id] for run_id in analysis.errors}


def _cell(rate: Rate | None, sign: str = "") -> Value | Missing:
    if rate is None:
        return Missing(f"defined over {LEAST_IMAGES} images or more")
    low, high = rate.ends()
    return Value(rate.value, minus_sign(f"{rate.value:{sign}.1f}"), low, high)


def _size(analysis: Analysis) -> str:
    sizes = {len(errors) for errors in analysis.errors.values()}
    return f"Test, n = {sizes.pop():,} images" if len(sizes) == 1 else "Test, number of images differs by row"


def _shares(rows: list[dict], analysis: Analysis, found: dict, beam: str, heading: Callable[[dict], Link], best: str, name: str) -> Table:
    columns = [Column("Model", numeric=False), *(Column(title, _size(analysis)) for title in TITLES.values())]
    columns.append(Column("Any", _size(analysis)))
    body = []
    for record in rows:
        errors = analysis.errors[record["run_id"]]
        cells = [_cell(found[record["run_id"]].get(kind)) for kind in KINDS]
        body.append([_with_beam(heading(record), analysis.beams[record["run_id"]], beam), *cells, _any([errors])])
    remarks = ["Percent of captions with at least one error of the kind: what the references do not bear out. They do not say all."]
    table = with_means(Table("errors-shares", f"Captions with each kind of error, %, beam {beam}", columns, body), rows)
    people, about = _people(analysis.said[best], name)
    return Table(table.slug, table.title, table.columns, [*table.rows, *people], remarks + about)


def _any(turns: list[dict[str, list[Error]]]) -> Value:
    share = 100 * sum(bool(found) for errors in turns for found in errors.values()) / sum(map(len, turns))
    return Value(share, f"{share:.1f}")


def _people(said: Spoken, name: str) -> tuple[list[list], list[str]]:
    """Two rows, and what they are: a person as a captioner, and a system judged by as many references. None of them where images have only one reference.

    Each reference in turn is left out, as a person's caption; both are judged by the others, and the shares are means over the turns.
    """
    several = {image: captions for image, captions in said.references.items() if len(captions) > 1}
    if not several:
        return [], []
    counts = set(map(len, several.values()))
    turns, number = min(counts), IN_WORDS.get(max(counts) - 1, "") if len(counts) == 1 else ""
    captions = {image: said.captions[image] for image in several}
    person, system = [], []
    for j in range(turns):
        left = {image: [*own[:j], *own[j + 1 :]] for image, own in several.items()}
        person.append(analyse({image: own[j] for image, own in several.items()}, left))
        system.append(analyse(captions, left, ended=said.ended))
    kinds = kinds_of(several)
    found = rates([*person, *system], kinds)
    rows = []
    for label, errors, own in (
        (f"A person: each reference in turn, judged by {f'the other {number}' if number else 'the others'}", person, found[:turns]),
        (f"{name}, by the same {number or 'others'}", system, found[turns:]),
    ):
        means = {kind: mean_rate([one[kind] for one in own]) for kind in kinds}
        rows.append([Link(label), *(_cell(means.get(kind)) for kind in KINDS), _any(errors)])
    about = (
        f"The last two rows compare with each other, not with those above: each of {turns} references in turn is a person's caption, the system and the "
        "person are judged by those that are left, and the shares are means over the turns. Fewer references make more errors: less is named by some, more by all."
    )
    return rows, [about]


def _with_beam(link: Link, own: str, beam: str) -> Link:
    note = "" if own == beam else f"at beam {own}"
    return Link(link.label, link.anchor, "; ".join(filter(None, [link.note, note])), link.mean)


def _differences(rows: list[dict], analysis: Analysis, found: dict, best: str, name: str, heading: Callable[[dict], Link]) -> Table | None:
    """Each system minus the best, paired."""
    others = [
        record for record in rows if record["run_id"] != best and analysis.errors[record["run_id"]].keys() == analysis.errors[best].keys()
    ]
    if not others:
        return None
    columns = [Column("Model", numeric=False), *(Column(title, _size(analysis)) for title in TITLES.values())]
    body = []
    for record in others:
        pairs = [(found[record["run_id"]].get(kind), found[best].get(kind)) for kind in KINDS]
        body.append([heading(record), *(_cell(a.minus(b) if a and b else None, "+") for a, b in pairs)])
    remark = "Points above the share of that run, on the same images; an interval that holds 0 is no difference seen. Intervals are over images, not over seeds."
    return Table("errors-differences", f"Shares of errors minus those of {name}, paired", columns, body, [remark])


def _causes(analysis: Analysis, best: str, name: str) -> Table:
    """The words that cause each kind, over all systems and in the best; its worst images."""
    columns = [Column(label, numeric=False) for label in ("Error", "Most by, all systems", f"Most by, {name}", f"Most errors, {name}")]
    body = []
    for kind in KINDS:
        everywhere = {f"{run_id} {image}": found for run_id, errors in analysis.errors.items() for image, found in errors.items()}
        cells = [_listed(causes(errors, kind)) for errors in (everywhere, analysis.errors[best])]
        images = worst_images(analysis.errors[best], kind, most=3) if kind in COUNTED else []
        body.append([TITLES[kind], *cells, _listed(images)])
    return Table(
        "errors-causes", "What causes the errors most", columns, body, ["Behind each word the captions, behind each image the errors."]
    )


def _listed(counted: list[tuple[str, int]]) -> str:
    return ", ".join(f"{word or '(no word)'} {count}" for word, count in counted) or "none"


def _confusions(analysis: Analysis, rows: list[dict]) -> Table | None:
    """Objects named in place of others of their sort, over all systems."""
    names = {run["run_id"]: run["name"] for run in rows}  # of several seeds one system
    captions, systems = Counter(), defaultdict(set)
    for run_id, errors in analysis.errors.items():
        for said, instead, count in confusions(errors, most=10**6):
            captions[said, instead] += count
            systems[said, instead].add(names[run_id])
    ranked = sorted(captions, key=lambda pair: (-captions[pair], pair))[:CONFUSIONS]
    columns = [Column("Said", numeric=False), Column("In the references", numeric=False), Column("Captions"), Column("Systems")]
    body = [[*pair, *(Value(n, f"{n:,}") for n in (captions[pair], len(systems[pair])))] for pair in ranked]
    remark = "An object that no reference names, beside the one of its sort that most references name and the caption does not."
    return Table("errors-confusions", "Objects taken for others, all systems", columns, body, [remark]) if body else None


def _words(rows: list[dict], analysis: Analysis, heading: Callable[[dict], Link]) -> Table:
    columns = [
        Column("Model", numeric=False),
        *(Column(label) for label in ("Different captions, %", "Words used", "Words known", "Used of known, %", "Copied from training, %")),
    ]
    body = []
    for record in rows:
        said = analysis.said[record["run_id"]]
        words = richness(said.captions.values(), said.vocabulary, analysis.training[record["run_id"]])
        used, known, distinct = words["words_used"], words["words_known"], 100 * words["distinct"] / words["captions"]
        cells = [Value(distinct, f"{distinct:.1f}"), Value(used, f"{used:,}")]
        if known:
            cells += [Value(known, f"{known:,}"), Value(100 * used / known, f"{100 * used / known:.1f}")]
        else:
            cells += [Missing("it says subwords, which make any word")] * 2
        if words["copied"] is None:
            cells.append(Missing("the training captions were not saved with the references"))
        else:
            copied = 100 * words["copied"] / words["captions"]
            cells.append(Value(copied, f"{copied:.1f}"))
        body.append([heading(record), *cells])
    remark = "Copied: equal to a caption of the training set but for case and punctuation."
    return with_means(Table("errors-words", "How rich the captions are", columns, body, [remark]), rows)


def _coverage(analysis: Analysis) -> str:
    """How much of the references' nouns the lexicon knows, in a sentence."""
    known = coverage(next(iter(analysis.said.values())).references)
    return (
        f"Of {known['places']:,} places in the references where a noun must stand, the lexicon knows {known['objects'] + known['not_objects']:.1f} % "
        f"({known['objects']:.1f} % as objects); in {known['captions']:.1f} % of the references no noun is unknown to it."
    )


def marked_table(profile: Profile, analysis: Analysis) -> Table | None:
    """How the analysis agrees with captions marked by reading them: per kind precision and recall, over captions; None where none of this page's were."""
    path = profile.folder.parent / "marked" / f"{profile.name}.json"
    if not path.exists():
        return None
    try:
        text = path.read_text(encoding="utf-8")
        content = json.loads(text)
        how, marked = content["how"].encode("utf-8", "replace").decode(), content["marked"]
        truth = {(one["run_id"], one["id"]): {kind for kind, _, _ in one["errors"]} for one in marked}
        captions = {(one["run_id"], one["id"]): one["caption"] for one in marked}
    except (ValueError, LookupError, TypeError, AttributeError) as error:
        analysis.problems.append(f"{path.name} of marked captions: damaged ({type(error).__name__}: {error}); restore it")
        return None
    # The captions stand in the file: they may be of runs that have been run again since.
    references = {image: texts for said in analysis.said.values() for image, texts in said.references.items()}
    if any(image not in references for _, image in truth):
        return None  # of other images than this page's
    found = {}
    for run in dict.fromkeys(run for run, _ in truth):
        said = {image: caption for (other, image), caption in captions.items() if other == run}
        errors = analyse(said, {image: references[image] for image in said})
        found |= {(run, image): {error.kind for error in errors[image]} for image in said}
    columns = [Column("Error", numeric=False), *(Column(label) for label in ("Marked", "Found", "Both", "Precision, %", "Recall, %"))]
    body = []
    for kind in KINDS:
        if kind == "too-general":
            continue  # no caption alone is
        by_reader, by_rule = ({key for key, kinds in side.items() if kind in kinds} for side in (truth, found))
        both = len(by_reader & by_rule)
        counts = [Value(n, f"{n:,}") for n in (len(by_reader), len(by_rule), both)]
        body.append([TITLES[kind], *counts, _percent(both, len(by_rule), "none found"), _percent(both, len(by_reader), "none marked")])
    remarks = [
        how,
        RULES_SINCE.get(hashlib.sha256(text.encode()).hexdigest(), ""),
        f"Of {len(truth):,} captions, those with the kind are counted.",
    ]
    return Table("errors-marked", "The analysis beside captions marked by reading them", columns, body, list(filter(None, remarks)))


def _percent(part: int, whole: int, otherwise: str) -> Value | Missing:
    return Value(100 * part / whole, f"{100 * part / whole:.0f}") if whole else Missing(otherwise)
