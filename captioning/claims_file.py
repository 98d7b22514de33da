"""claims.json beside a report page: every finding with all that a machine needs to check it. No torch.

    write_claims(page / "claims.json", make_claims(Path("results/demo"), records, earlier=page / "claims.json"))

Equal inputs give equal bytes. benchmarks/published/README.md explains the fields; `python -m captioning.verify` makes the file again and compares.
"""

import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import cache
from pathlib import Path

from captioning import protocols
from captioning.atomic import atomic_write
from captioning.bad_input import BadInput
from captioning.claims import NOT_RUN, RULES
from captioning.findings import about_what_was_run, by_name_and_seed, conditions_here, findings
from captioning.fingerprint import file_sha256
from captioning.published import FOLDER, QUESTIONS, Claim, load_claims, load_numbers, load_questions, load_scale
from captioning.records import read_plan
from captioning.statistics import DRAWS, SEED

ROOT = Path(__file__).resolve().parents[1]
SCHEMA = 1
TOOL = f"claims-5,{protocols.TOOL}"  # raised by hand when code moves a finding or a field of one: no finding from before it is taken over
FILES = ("captions", "references", "curve")  # a record's files that are small enough to be always there
_FIELDS = {
    "schema": int, "tool": str, "profile": str, "rules": dict, "published": dict, "draws": int, "seed": int, "files": dict, "claims": list,
    "questions": list,
}  # fmt: skip
_INPUTS = ("schema", "tool", "profile", "published", "draws", "seed")  # what all findings of a file rest on


def make_claims(
    profile_folder: Path,
    records: Sequence[dict],
    earlier: Path | None = None,
    draws: int = DRAWS,
    *,
    published: Path = FOLDER,
    asked: Path = QUESTIONS,
) -> dict:
    """The content of a profile's claims.json, as `read_claims` gives it back.

    profile_folder: results/<profile>; records: its records, each with its file under runs/. Of those with one name and seed the one that the tables show
    counts: the planned one, then a finished one, then the latest. published: folder of numbers.json and claims.json; asked: the file of our own
    questions, of which those stand here whose conditions the profile has.
    earlier: claims.json of the last build. A finding whose record and prediction files, published data, draws and code version are the same there is
    taken over, not computed again. ValueError for published data that are not whole, BadInput for a record without a file.
    """
    folder, digest = Path(profile_folder), _digests(Path(profile_folder))
    runs = by_name_and_seed(records, _planned(folder))
    records = [record for seeds in runs.values() for record in seeds.values()]
    content = {
        "schema": SCHEMA,
        "tool": TOOL,
        "profile": folder.name,
        "rules": RULES,
        "published": {path.name: file_sha256(path) for path in (published / "numbers.json", published / "claims.json", asked)},
        "draws": draws,
        "seed": SEED,
        "files": dict(sorted((_record_files(records, digest) | _prediction_files(records, digest, FILES)).items())),
    }
    claims = load_claims(published / "claims.json", load_numbers(published / "numbers.json"))
    questions = [about_what_was_run(one, runs) for one in load_questions(asked) if len(conditions_here(one, folder.name)) == 2]
    for kind, these in (("claims", claims), ("questions", questions)):
        inputs = {claim.id: _inputs(claim, folder.name, runs, digest) for claim in these}
        known = _unchanged(earlier, content, kind, inputs)
        found = findings(folder, these, records, load_scale(published / "claims.json"), draws, known)
        content[kind] = [entry | inputs[entry["id"]] for entry in found]
    return json.loads(_text(content))


def reports_of(results: str | Path) -> Path:
    """Where the pages of a results folder go unless somebody says: reports/ for this checkout's own, for another a folder beside it that bears its name."""
    results = Path(results).resolve()
    if results in (ROOT / "results", ROOT / "results/evidence"):
        return ROOT / "reports"
    name = results.name
    return results.with_name(name.replace("results", "reports", 1) if "results" in name else f"{name}-reports")


def pages_of(results: str | Path, evidence: str | Path, reports: str | Path) -> Path:
    """The folder whose <profile>/ have the page of a results folder's profiles, with claims.json beside it: those of committed evidence stand apart."""
    return Path(reports) / "evidence" if Path(results).resolve() == Path(evidence).resolve() else Path(reports)


def write_claims(path: Path, content: dict) -> None:
    """Write what `make_claims` gave, by rename."""
    with atomic_write(path) as file:
        file.write(_text(content))


def read_claims(path: Path) -> dict:
    """A claims.json. BadInput names the file and what is wrong: not there, no whole JSON text, another schema, a field missing or of the wrong type."""
    way_out = "make it again with `python reports/build.py`"
    try:
        content = json.loads(Path(path).read_text(encoding="utf-8"), parse_constant=_refuse)
    except OSError as error:
        raise BadInput(f"{path}: {error.strerror}; {way_out}") from None
    except (ValueError, RecursionError):
        raise BadInput(f"{path}: no whole JSON text; {way_out}") from None
    problem = _find_problem(content)
    if problem:
        raise BadInput(f"{path}: {problem}; {way_out}")
    return content


def is_as_written(path: Path, content: dict) -> bool:
    """Whether the file's bytes are those that `write_claims` makes of its content: no other spaces or order, no field twice."""
    return Path(path).read_bytes() == _text(content).encode("utf-8", "surrogatepass")


def _text(content: dict) -> str:
    return json.dumps(content, indent=1, ensure_ascii=False, allow_nan=False) + "\n"


def _refuse(constant: str) -> None:
    raise ValueError(f"{constant} is no number of JSON")


def _find_problem(content: object) -> str | None:
    if not isinstance(content, dict):
        return "no JSON object"
    if content.get("schema") != SCHEMA:
        return f"schema {content.get('schema')!r}, this version reads {SCHEMA}"
    wrong = next((name for name, kind in _FIELDS.items() if not isinstance(content.get(name), kind)), None)
    if wrong:
        return f"field {wrong!r} is missing or no {_FIELDS[wrong].__name__}"
    if not all(isinstance(claim, dict) and isinstance(claim.get("id"), str) for claim in (*content["claims"], *content["questions"])):
        return "a claim or a question has no 'id'"
    return None


def _planned(folder: Path) -> set[str]:
    """Run ids of the plan; none where it cannot be read, which the page says."""
    try:
        return {run["run_id"] for run in read_plan(folder)}
    except BadInput:
        return set()


def _digests(folder: Path) -> Callable[[str], str | None]:
    """path from the profile's folder -> sha256, each file read once; None where there is no such file inside the folder."""

    @cache
    def digest(path: str) -> str | None:
        file = (folder / path).resolve()
        try:
            return file_sha256(file) if file.is_relative_to(folder.resolve()) else None
        except OSError:
            return None

    return digest


def _record_files(records: Iterable[dict], digest: Callable) -> dict[str, str]:
    """runs/<run_id>.json -> sha256."""
    found = {path: digest(path) for path in (f"runs/{record['run_id']}.json" for record in records)}
    lost = next((path for path, value in found.items() if value is None), None)
    if lost:
        raise BadInput(f"{lost}: no such record; build the report again")
    return found


def _prediction_files(records: Iterable[dict], digest: Callable, kinds: Sequence[str]) -> dict[str, str]:
    """path -> sha256 of these files of the records, as far as they are there."""
    about = [record.get("files", {}).get(kind) for record in records for kind in kinds]
    paths = [one["path"] for one in about if one]
    return {path: digest(path) for path in paths if digest(path)}


def _inputs(claim: Claim, profile: str, runs: Mapping[str, Mapping[int, dict]], digest: Callable) -> dict[str, dict[str, str]]:
    """All files that a finding is made from: a failed run's record too, whose reason it tells."""
    records = [record for _, condition in conditions_here(claim, profile) for record in runs.get(condition.run, {}).values()]
    return {"records": _record_files(records, digest), "predictions": _prediction_files(records, digest, ("captions", "references"))}


def _unchanged(earlier: Path | None, content: dict, kind: str, inputs: Mapping[str, dict]) -> dict[str, dict]:
    """claim id -> its finding in the earlier file, of those that rest on the same. A file that cannot be read has none: it is about to be replaced.

    What was not judged because Java failed is tried again: beside runs that need the memory it may be killed, and such a reason passes.
    """
    try:
        before = read_claims(earlier) if earlier else {}
    except BadInput:
        return {}
    if any(before.get(name) != content[name] for name in _INPUTS):
        return {}
    same = [claim for claim in before[kind] if {name: claim.get(name) for name in ("records", "predictions")} == inputs.get(claim["id"])]
    whole = [claim for claim in same if {"p", "finding", "reason"} <= claim.keys()]
    return {claim["id"]: claim for claim in whole if claim["finding"] != NOT_RUN or "Java" not in str(claim["reason"])}
