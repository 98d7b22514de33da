"""Records: one JSON file per run, results/<profile>/runs/<run_id>.json; present = that run ended. results/README.md explains every field.

Reads and writes that file, and the list of planned runs (results/<profile>/plan.json) by which a report knows what has not been run.
A file that is half written, of another schema or not what its name says is named as a problem and never trusted.
"""

import json
import math
from pathlib import Path

from captioning.atomic import atomic_write
from captioning.bad_input import BadInput

SCHEMA = 1

_ALWAYS = {
    "schema": int,
    "run_id": str,
    "name": str,
    "label": str,
    "experiments": list,
    "profile": str,
    "finished": str,
    "config": dict,
    "status": str,
}
_WHEN_FINISHED = {
    "data": dict,
    "encoder": dict,
    "model": dict,
    "scores": dict,
    "training": dict,
    "cost": dict,
    "provenance": dict,
    "files": dict,
}
_SCORES = {"protocol": str, "signature": str, "n_images": int, "scores": dict, "intervals": dict, "not_available": dict}


def read_record(path: str | Path) -> dict:
    """One record. BadInput names the file and what is wrong with it: unreadable, half written, another schema, a field missing or of the wrong type."""
    path = Path(path)
    record = _read_json(path, "record", "delete it and run again")
    problem = _find_problem(record)
    if problem is None and record["run_id"] != path.stem:
        problem = f"it holds run {record['run_id']!r}, not the run its name says"
    if problem is not None:
        raise BadInput(f"record {path}: {problem}; delete it and run again")
    return record


def write_record(folder: str | Path, record: dict) -> Path:
    """Write `record` to `folder`/<run_id>.json by rename; the path comes back. ValueError when the record breaks the schema: that is a bug, not a user's error."""
    problem = _find_problem(record)
    if problem is not None:
        raise ValueError(f"record {record.get('run_id')!r}: {problem}")
    path = Path(folder) / f"{record['run_id']}.json"
    with atomic_write(path) as file:
        json.dump(record, file, indent=1, ensure_ascii=False, allow_nan=False)
        file.write("\n")
    return path


def list_records(folder: str | Path) -> tuple[list[dict], list[str]]:
    """All records of a `runs` folder oldest first, and one line for each file that is not one. A folder that is not there holds none.

    Failed runs are records too (`status` is "failed", `reason` says why). Curves (*.metrics.jsonl) and files being written are passed over.
    """
    records, problems = [], []
    for path in sorted(Path(folder).glob("*.json")):
        if path.name.startswith("."):
            continue
        try:
            records.append(read_record(path))
        except BadInput as error:
            problems.append(str(error))
    records.sort(key=lambda record: (record["finished"], record["run_id"]))
    return records, problems


def write_plan(profile_folder: str | Path, runs: list[dict]) -> Path:
    """Write `profile_folder`/plan.json: each run that was asked for as {"run_id", "name", "label", "experiments", "labels"}, in the order of
    the tables. labels: the run's name in the table of each of its experiments.
    """
    path = Path(profile_folder) / "plan.json"
    with atomic_write(path) as file:
        json.dump({"schema": SCHEMA, "runs": runs}, file, indent=1, ensure_ascii=False)
        file.write("\n")
    return path


def merge_plans(earlier: list[dict], runs: list[dict]) -> list[dict]:
    """The plan after a call that asked for some runs only: what was planned before stays, unless the same name and seed now has another id."""
    found = {run["run_id"]: run for run in runs}
    again = {run["run_id"].rpartition("-")[0] for run in runs}
    kept = []
    for run in earlier:
        new = found.pop(run["run_id"], None)
        if new is not None:
            labels = {**run.get("labels", dict.fromkeys(run["experiments"], run["label"])), **new["labels"]}
            kept.append(new | {"experiments": list(labels), "labels": labels})
        elif run["run_id"].rpartition("-")[0] not in again:
            kept.append(run)
    return kept + list(found.values())


def read_plan(profile_folder: str | Path) -> list[dict]:
    """The planned runs, or an empty list where nobody planned any. BadInput for a file that cannot be used."""
    path = Path(profile_folder) / "plan.json"
    if not path.exists():
        return []
    plan = _read_json(path, "plan", "delete it; the next run_all.py writes it anew")
    runs = plan.get("runs") if plan.get("schema") == SCHEMA else None
    wanted = {"run_id": str, "name": str, "label": str, "experiments": list}
    if not isinstance(runs, list) or any(not isinstance(run, dict) or _wrong_field(run, wanted) for run in runs):
        raise BadInput(f"plan {path}: not a plan of schema {SCHEMA}; delete it; the next run_all.py writes it anew")
    return runs


def _read_json(path: Path, what: str, way_out: str) -> dict:
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise BadInput(f"{what} {path}: {error.strerror}; {way_out}") from None
    except (ValueError, RecursionError):
        raise BadInput(f"{what} {path}: no whole JSON text, perhaps half written; {way_out}") from None
    if not isinstance(content, dict):
        raise BadInput(f"{what} {path}: a JSON object was expected; {way_out}")
    return content


def _find_problem(record: dict) -> str | None:
    """The first thing wrong with a record, or None."""
    if record.get("schema") != SCHEMA:
        return f"schema {record.get('schema')!r}, this version reads {SCHEMA}"
    wrong = _wrong_field(record, _ALWAYS)
    if wrong:
        return wrong
    if not record["experiments"] or not all(isinstance(name, str) for name in record["experiments"]):
        return "'experiments' is no list of names"
    if record["status"] == "failed":
        return None if isinstance(record.get("reason"), str) and record["reason"] else "it failed, and 'reason' does not say why"
    if record["status"] != "finished":
        return f"status {record['status']!r} is neither 'finished' nor 'failed'"
    return _wrong_field(record, _WHEN_FINISHED) or _wrong_scores(record["scores"]) or _wrong_pointing(record.get("pointing", {}))


def _wrong_field(content: dict, wanted: dict[str, type]) -> str | None:
    for name, kind in wanted.items():
        if not isinstance(content.get(name), kind) or isinstance(content.get(name), bool):
            return f"field {name!r} is missing or no {kind.__name__}"
    return None


def _wrong_scores(splits: dict) -> str | None:
    """Every SCORES object of a record's `scores`: fields there, values finite numbers, intervals pairs, reasons texts."""
    for split, protocols in splits.items():
        if not isinstance(protocols, dict):
            return f"scores of {split!r} are no object"
        for protocol, content in protocols.items():
            if not isinstance(content, dict):
                return f"scores of {split!r} under {protocol!r} are no object"
            by_beam = {"": content} if protocol == "published" else content
            for beam, scores in by_beam.items():
                where = f"scores of {split!r} under {protocol!r}{f' at beam {beam}' if beam else ''}"
                wrong = _wrong_field(scores, _SCORES) if isinstance(scores, dict) else "no object"
                if wrong:
                    return f"{where}: {wrong}"
                if not all(_is_number(value) for value in scores["scores"].values()):
                    return f"{where}: a value is no finite number"
                if not all(
                    isinstance(pair, list) and len(pair) == 2 and all(map(_is_number, pair)) for pair in scores["intervals"].values()
                ):
                    return f"{where}: an interval is no pair of finite numbers"
                if not all(isinstance(reason, str) for reason in scores["not_available"].values()):
                    return f"{where}: a reason is no text"
    return None


def _wrong_pointing(splits: object) -> str | None:
    """`pointing` is laid out as `scores` are, with "forced" and "free" in place of beams."""
    return (
        _wrong_scores({split: {"pointing": found} for split, found in splits.items()})
        if isinstance(splits, dict)
        else "'pointing' is no object"
    )


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
