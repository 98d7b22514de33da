"""Check a results folder and its report from the saved predictions: a reader trusts a report by running this, not by believing it. No torch, no GPU.

    python -m captioning.verify
    python -m captioning.verify results
    python -m captioning.verify results/evidence --data data/flickr8k

For every profile: records whole and named by what they hold, all files unchanged, every score and interval made again from predictions and references,
every finding made again and compared with claims.json beside the page, every table built again and compared. Reads the results folder, the reports folder
and benchmarks/published/; writes only to a temporary folder. Nothing that a record says decides what is made again. results/README.md says what cannot be seen.
Ends with 0 if everything holds, 1 if anything differs, 2 if there is nothing to check or an option cannot be used.
"""

import argparse
import json
import sys
import tempfile
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import zip_longest
from pathlib import Path

from captioning import human
from captioning.bad_input import BadInput, run_command
from captioning.claims_file import FILES, is_as_written, make_claims, read_claims, reports_of
from captioning.data import CaptionData, load_data
from captioning.difference import first_difference, table_difference
from captioning.fingerprint import file_sha256
from captioning.pointing import score_saved
from captioning.protocols import TOOL, score_predictions
from captioning.published import FOLDER
from captioning.record_facts import DAMAGED, SPLITS, check_encoder, check_facts, check_row, check_run_id, read_lines
from captioning.records import SCHEMA, list_records, read_plan
from captioning.speed_records import check_speeds, read_speeds
from captioning.token_rules import token_rules
from captioning.training_captions import caption_hash, read_training, training_beside

ROOT = Path(__file__).resolve().parents[1]
LARGE = ("checkpoint", "attention")  # files that need not be there
_EXAMPLES = """
example                 python -m captioning.verify results/evidence --data data/flickr8k
your own runs           python -m captioning.verify results

DIR holds <profile>/runs. A folder called evidence is taken as committed evidence: its pages are in reports/evidence, and stand alone.
Numbers agree where they differ by no more than a billionth of their size.

exit status             0 everything holds, 1 something differs, 2 nothing to check, or an option cannot be used
"""


@dataclass
class Tally:
    """What was compared: differences in the order found; checked: kind -> how many; unchecked: what and why -> how often."""

    differences: list[str] = field(default_factory=list)
    checked: Counter = field(default_factory=Counter)
    unchecked: Counter = field(default_factory=Counter)

    def show(self, name: str, differences: Sequence[str], holds: str = "holds") -> None:
        """A line for one thing that was checked, with the difference behind it or, where there are several, below it."""
        one = f": {differences[0]}" if len(differences) == 1 else ""
        print(f"  {'DIFFERS' if differences else holds}  {name}{one}")
        for difference in differences if not one else ():
            print(f"    {difference}")
        self.differences += [f"{name}: {difference}" for difference in differences]


def arguments(line: list[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m captioning.verify",
        description="Make every score, interval, finding and table again from the saved predictions, and compare.",
        epilog=_EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "folder", metavar="DIR", type=Path, nargs="?", default=ROOT / "results/evidence", help="results folder (default: results/evidence)"
    )
    parser.add_argument(
        "--reports",
        metavar="R",
        type=Path,
        help="folder of the profiles' pages (default: reports/evidence for evidence, else where run_all.py puts them)",
    )
    parser.add_argument("--data", metavar="D", help="the data set, to compare references and fingerprint with: a folder, a file, or demo")
    return parser.parse_args(line)


def main(line: list[str] | None = None) -> int:
    """Returns the exit status."""
    options = arguments(line)
    reports = options.reports or (ROOT / "reports/evidence" if _is_evidence(options.folder) else reports_of(options.folder))
    tally = verify(options.folder, reports, options.data)
    for reason, times in tally.unchecked.items():
        print(f"not checked: {reason}{f' ({times} times)' if times > 1 else ''}", file=sys.stderr)
    counts = ", ".join(f"{number:,} {kind}" for kind, number in tally.checked.items())
    not_checked = f"; {sum(tally.unchecked.values())} not checked" if tally.unchecked else ""
    if tally.differences:
        many = len(tally.differences) > 1
        print(
            f"{len(tally.differences)} difference{'s' if many else ''}, the first: {tally.differences[0]} (compared: {counts}{not_checked})"
        )
        return 1
    print(f"everything holds: {counts}{not_checked}")
    return 0


def verify(folder: Path, reports: Path, data: str | None = None, *, published: Path = FOLDER) -> Tally:
    """Check every profile of a results folder and its page <reports>/<profile>/; prints a line per profile, record, claim and table that differs.

    data: what `load_data` takes. published: folder of numbers.json and claims.json. BadInput where there is nothing to check.
    """
    homes = [runs.parent for runs in sorted(folder.glob("*/runs")) if any(runs.glob("*.json"))]
    if not homes:
        raise BadInput(f"{folder}: no records in <profile>/runs; give a results folder, as results/evidence")
    tally = Tally()
    found = {home: list_records(home / "runs") for home in homes}
    planned = {home: _planned(home, tally) for home in homes}
    given = _DataSet(data, [record for records, _ in found.values() for record in records]) if data else None
    for home, (records, problems) in found.items():
        print(f"{home.name}: {len(records) + len(problems)} records")
        for problem in problems:
            tally.show("record", [problem])
        for k, record in enumerate(records, start=1):
            print(f"{home.name}: making the scores of {record['run_id']} again ({k} of {len(records)})", file=sys.stderr)
            tally.checked["records"] += 1
            holds = "holds" if record["status"] == "finished" else "failed, so that there is nothing to make again:"
            tally.show(record["run_id"], list(_check_record(home, record, planned[home].get(record["run_id"], {}), tally)), holds)
        if given:
            tally.show("data", list(given.check(home, records, tally)))
        if (home / human.FILE).exists():
            print(f"{home.name}: scoring people again", file=sys.stderr)
            tally.show(f"{home.name}/{human.FILE}", list(_check_people(home, records, tally)))
        print(f"{home.name}: making the findings again", file=sys.stderr)
        _check_claims(home, records, reports / home.name / "claims.json", published, tally)
    for path in sorted(folder.glob("speed/*.json")):
        tally.show(f"speed/{path.name}", list(_check_speeds(path, tally)))
    print("building the tables again", file=sys.stderr)
    _check_tables(folder, homes, reports, tally)
    return tally


def _check_speeds(path: Path, tally: Tally) -> Iterator[str]:
    try:
        rows = read_speeds(path)
    except BadInput as error:
        yield str(error)
        return
    tally.checked["speeds"] += len(rows)
    yield from check_speeds(rows)


def _is_evidence(folder: Path) -> bool:
    return folder.resolve().name == "evidence"


# ---- One record ----


def _planned(home: Path, tally: Tally) -> dict[str, dict]:
    """Run id -> what the plan calls the run."""
    try:
        return {run["run_id"]: run for run in read_plan(home)}
    except BadInput as error:
        tally.show("plan", [str(error)])
        return {}


def _check_record(home: Path, record: dict, planned: dict, tally: Tally) -> Iterator[str]:
    """planned: what the plan says of the run; the page's tables take its word before the record's."""
    if record["profile"] != home.name:
        yield f"it is of profile {record['profile']!r} and lies in {home.name}/"
    if record["status"] == "failed":
        return
    yield from check_run_id(record)
    try:
        yield from check_encoder(record)
        yield from check_row(record, planned)
    except (BadInput, *DAMAGED) as error:
        yield f"it is not laid out as results/README.md says ({type(error).__name__}: {error})"
    files = list(_check_files(home, record, tally))
    yield from files
    if files:
        return  # what other files give says nothing of this record
    try:
        yield from check_facts(home, record)
        yield from _check_scores(home, record, tally)
    except BadInput as error:
        yield str(error)
    except DAMAGED as error:
        yield f"its files are not laid out as results/README.md says ({type(error).__name__}: {error})"


def _check_files(home: Path, record: dict, tally: Tally) -> Iterator[str]:
    """Every file that the record names is the one that it was made with. A large one that is not there is counted."""
    for kind in (*FILES, *LARGE):
        about = record["files"].get(kind)
        if not isinstance(about, dict) or not isinstance(about.get("path"), str):
            if kind in FILES:
                yield f"{kind}: the record names no such file"
            continue
        path = (home / about["path"]).resolve()
        if not path.is_relative_to(home.resolve()):
            yield f"{kind} {about['path']}: lies outside {home.name}/; not read"
        elif not path.is_file():
            if kind in FILES:
                yield f"{kind} {about['path']}: no such file"
            else:
                tally.unchecked[f"{kind} files that are not here"] += 1
        elif file_sha256(path) != about.get("sha256"):
            yield f"{kind} {about['path']}: sha256 stated {about.get('sha256')}, the file's is {file_sha256(path)}"
        else:
            tally.checked["files"] += 1


def _check_scores(home: Path, record: dict, tally: Tally) -> Iterator[str]:
    """The first score or interval that the predictions do not give. They, and not the record, say what there is."""
    predictions = home / record["files"]["captions"]["path"]
    found = {split: score_predictions(predictions, split) for split in SPLITS}
    pointed = {split: score_saved(predictions, split) for split in SPLITS}
    difference = _scores_difference(_by_place(record["scores"]), _by_place(found), tally)
    if difference is None:
        pointing = {split: {"pointing": one} for split, one in pointed.items()} if all(pointed.values()) else {}
        stated = {split: {"pointing": one} for split, one in record.get("pointing", {}).items()}
        difference = _scores_difference(_by_place(stated), _by_place(pointing), tally)
    if difference is None:
        difference = _token_rules_difference(home / "protocols" / f"{record['run_id']}.json", record, tally)
    if difference:
        yield difference


def _token_rules_difference(path: Path, record: dict, tally: Tally) -> str | None:
    """The first score of protocols/<run_id>.json, where there is one, that the predictions do not give."""
    if not path.exists():
        return None
    stated, captions = json.loads(path.read_text(encoding="utf-8")), record["files"]["captions"]
    found = {split: token_rules(path.parents[1] / captions["path"], split) for split in SPLITS}
    about = {"schema": SCHEMA, "run_id": record["run_id"], "captions_sha256": captions["sha256"], "tool": TOOL, "splits": {}}
    both = [
        {f"{split} {row['rule']}": row["scores"] for split, rows in splits.items() for row in rows} for splits in (stated["splits"], found)
    ]
    rows = [
        [[split, row["rule"], row["protocol"], row["beam"]] for split in SPLITS for row in splits[split]]
        for splits in (stated["splits"], found)
    ]
    difference = first_difference(stated | {"splits": {}}, about) or first_difference(*rows, "rules") or _scores_difference(*both, tally)
    return f"{path.parent.name}/{path.name}: {difference}" if difference else None


def _check_people(home: Path, records: list[dict], tally: Tally) -> Iterator[str]:
    """human.json: people's scores, and every run's on the same references, made again."""
    try:
        stated, own = human.read_human(home), {r["run_id"]: r for r in records if r["status"] == "finished"}
        unknown = [row["run_id"] for row in stated["runs"] if row["run_id"] not in own]
        if unknown or not own:
            yield f"{unknown[0] if unknown else 'people'}: no finished record of it"
            return
        first, known = [r for r in own.values() if r["config"]["seed"] == 0], {row["run_id"] for row in stated["runs"]}
        left_out = [r["run_id"] for r in first if r["run_id"] not in known]
        if left_out:  # which runs stand beside people is not for the file to say
            yield f"{len(left_out)} of {len(first)} finished runs of seed 0 are not in it, the first {left_out[0]}"
        found = human.score_people(home, next(iter(own.values())))
        found["runs"] = [human.score_run(home, own[row["run_id"]]) for row in stated["runs"]]
        bare = [{name: value for name, value in one.items() if name not in ("people", "runs")} for one in (stated, found)]
        rows = [{"people": one["people"]} | {row["run_id"]: row["scores"] for row in one["runs"]} for one in (stated, found)]
        about = [[[row["run_id"], row["captions_sha256"], row["beam"]] for row in one["runs"]] for one in (stated, found)]
        scores = [{f"{who} {protocol}": each for who, both in one.items() for protocol, each in both.items()} for one in rows]
        difference = first_difference(*bare) or first_difference(*about, "runs") or _scores_difference(*scores, tally)
        if difference:
            yield difference
    except BadInput as error:
        yield str(error)
    except DAMAGED as error:
        yield f"not laid out as results/README.md says ({type(error).__name__}: {error})"


def _by_place(splits: Mapping[str, Mapping]) -> dict[str, dict]:
    """ "val free beam 5" -> its scores object."""
    found = {}
    for split, protocols in splits.items():
        for protocol, content in protocols.items():
            if protocol == "published":
                found[f"{split} published"] = content
                continue
            for which, scores in content.items():
                found[f"{split} {protocol} {'' if protocol == 'pointing' else 'beam '}{which}"] = scores
    return found


def _scores_difference(stated: Mapping[str, dict], found: Mapping[str, dict], tally: Tally) -> str | None:
    for place in [*found, *(place for place in stated if place not in found)]:
        if place not in stated or place not in found:
            return f"{place}: {'not in the record' if place in found else 'in the record, but its predictions do not give it'}"
        difference = _object_difference(stated[place], found[place], place, tally)
        if difference:
            return difference
    return None


def _object_difference(stated: dict, found: dict, place: str, tally: Tally) -> str | None:
    """Two scores objects. A metric that needs another program (Java, SPICE's models) may be had on one machine only: then it is not checked."""
    stated, found = ({**one, "scores": dict(one["scores"]), "intervals": dict(one["intervals"])} for one in (stated, found))
    both = stated["scores"].keys() & stated["not_available"].keys()
    if both:
        return f"{place} {min(both)}: stated both as {stated['scores'][min(both)]!r} and as not available"
    extra = stated["not_available"].keys() - found["scores"].keys() - found["not_available"].keys()
    if extra:
        return f"{place} {min(extra)}: stated as not available, but no metric of this protocol"
    needs_program = found["protocol"] == "coco"
    for metric, reason in found.pop("not_available").items():
        if metric in stated["scores"]:
            if not needs_program:
                return f"{place} {metric}: stated {stated['scores'][metric]!r}, not available ({reason})"
            tally.unchecked[f"{metric}, not available here: {reason}"] += 1
            del stated["scores"][metric]
            stated["intervals"].pop(metric, None)
        elif metric not in stated["not_available"]:
            return f"{place} {metric}: not in the record, neither as a score nor as not available"
    for metric in stated.pop("not_available"):
        if metric in found["scores"]:
            if not needs_program:
                return f"{place} {metric}: stated as not available, recomputed {found['scores'][metric]!r}"
            tally.unchecked[f"{metric}, which the record says was not available where it was made"] += 1
            del found["scores"][metric], found["intervals"][metric]
    if not found["scores"]:
        del stated["signature"], found["signature"]  # names the version of a program that is not here
    tally.checked["scores and intervals"] += len(found["scores"]) + len(found["intervals"])
    return first_difference(stated, found, place)


# ---- The page ----


def _check_claims(home: Path, records: list[dict], path: Path, published: Path, tally: Tally) -> None:
    """Every finding, made from scratch, against claims.json beside the page."""
    name = f"{home.name}/claims.json"
    try:
        stated = read_claims(path)
        found = make_claims(home, records, published=published)
    except BadInput as error:
        tally.show(name, [str(error)])
        return
    except DAMAGED as error:
        tally.show(name, [f"the findings cannot be made again ({type(error).__name__}: {error})"])
        return
    lists = {kind: (stated.pop(kind), found.pop(kind)) for kind in ("claims", "questions")}
    about = [first_difference(stated[part], found[part], part) for part in found if part in stated]
    about += [f"field {part!r} is not known" for part in stated if part not in found]
    tally.show(name, [difference for difference in about if difference], "holds, beside its claims and questions:")
    for kind, (theirs, ours) in lists.items():
        _check_findings(kind, theirs, ours, tally)
    if any([one["id"] for one in theirs] != [one["id"] for one in ours] for theirs, ours in lists.values()) or not is_as_written(
        path, read_claims(path)
    ):
        tally.show(name, ["its content is not laid out as it is written (order, spaces or a field twice)"])


def _check_findings(kind: str, stated: list[dict], found: list[dict], tally: Tally) -> None:
    """kind: "claims" or "questions"."""
    theirs, ours = ({one["id"]: one for one in these} for these in (stated, found))
    for one in [*ours, *(one for one in theirs if one not in ours)]:
        tally.checked[kind] += 1
        if one not in ours or one not in theirs:
            asked = "published claims" if kind == "claims" else "questions that are asked"
            tally.show(one, ["not in claims.json" if one in ours else f"in claims.json, but not among the {asked}"])
            continue
        difference = first_difference(theirs[one], ours[one])
        tally.show(f"{one}: {ours[one]['finding']}", [difference] if difference else [], "holds as reported")


def _check_tables(folder: Path, homes: Sequence[Path], reports: Path, tally: Tally) -> None:
    """Every file of tables/ of every page, built again, against the one beside the page."""
    from reports.build import build_reports

    with tempfile.TemporaryDirectory() as temporary:
        out = Path(temporary)
        try:
            if _is_evidence(folder):
                build_reports(out / "no results", folder, out, evidence_only=True)
                out = out / "evidence"
            else:
                build_reports(folder, ROOT / "results/evidence", out)
        except (BadInput, *DAMAGED) as error:
            tally.show("tables", [f"the report cannot be built again from these records ({type(error).__name__}: {error})"])
            return
        for home in homes:
            differences = []
            stated, found = (_texts(place / home.name / "tables") | _texts(place / home.name, "*.md") for place in (reports, out))
            for name in sorted(stated.keys() | found.keys()):
                tally.checked["tables"] += name.endswith(".csv")
                differences += [f"{name}: {problem}" for problem in table_difference(name, stated.get(name), found.get(name))]
            tally.show(f"{home.name}/tables", differences, f"holds, {len(found)} files:")


def _texts(folder: Path, names: str = "*.*") -> dict[str, str]:
    """File name -> text of every table, line ends as they are. What is no text cannot be equal to one."""
    return {path.name: path.read_bytes().decode("utf-8", "replace") for path in sorted(folder.glob(names))}


# ---- The data ----


class _DataSet:
    """The data set that --data names, for the profiles whose records are of it. BadInput where none is."""

    def __init__(self, path: str, records: Sequence[dict]):
        self.path, self._loaded = path, {}
        names = {str(record["data"].get("name")) for record in records if record["status"] == "finished"}
        if self.load(True).name not in names:
            raise BadInput(f"--data {path}: holds {self.load(True).name}; the records are of {', '.join(sorted(names)) or 'no data'}")

    def load(self, restval: bool) -> CaptionData:
        if restval not in self._loaded:
            self._loaded[restval] = load_data(self.path, restval)
        return self._loaded[restval]

    def check(self, home: Path, records: Sequence[dict], tally: Tally) -> Iterator[str]:
        """Fingerprint and references of a profile's finished records, each references file once."""
        seen = set()
        for record in records:
            if record["status"] == "failed":
                continue
            if record["data"].get("name") != self.load(True).name:
                tally.unchecked[f"data of {home.name}: --data {self.path} holds {self.load(True).name}"] += 1
                return
            data, path = self.load(bool(record["config"].get("restval", True))), _references_path(home, record)
            if record["data"].get("fingerprint") != data.fingerprint:
                yield f"{record['run_id']}: fingerprint stated {record['data'].get('fingerprint')}, the data's is {data.fingerprint}"
            if path and (path, data.fingerprint) not in seen:
                seen.add((path, data.fingerprint))
                yield from _check_training(training_beside(home / path), data, tally)
                yield from _check_references(home, path, data)
                tally.checked["references files against the data"] += 1


def _references_path(home: Path, record: dict) -> str | None:
    """None where it is no file of the profile, which `_check_files` says."""
    about = record["files"].get("references")
    path = about.get("path") if isinstance(about, dict) else None
    return path if isinstance(path, str) and (home / path).resolve().is_relative_to(home.resolve()) else None


def _check_training(path: Path, data: CaptionData, tally: Tally) -> Iterator[str]:
    if not path.exists():
        return
    try:
        stated = read_training(path)
    except BadInput as error:
        yield str(error)
        return
    examples = [data.examples[i] for i in data.split("train")]
    found = {caption_hash(caption) for example in examples for caption in (*example.captions, *example.raw)}
    tally.checked["training captions"] += len(found)
    if stated != found:
        yield f"{path.name}: {len(stated)} training captions stated, the data has {len(found)}, of them {len(stated & found)} the same"


def _check_references(home: Path, path: str, data: CaptionData) -> Iterator[str]:
    examples = [data.examples[i] for split in SPLITS for i in data.split(split)]
    wanted = [{"id": e.image_id, "split": e.split, "tokens": list(e.captions), "raw": list(e.raw)} for e in examples]
    try:
        lines = read_lines(home / path)
    except DAMAGED as error:
        yield f"{path}: cannot be read ({error})"
        return
    for stated, found in zip_longest(lines, wanted):
        if stated != found:
            image = found["id"] if found else stated.get("id")
            yield f"{path}: image {image}: {first_difference(stated, found) or 'another order of fields'}"
            return


if __name__ == "__main__":
    run_command(main)
