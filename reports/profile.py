"""One results/<profile>/ as its page shows it: which records stand in the tables, in what order, and what each is called. No torch."""

import re
from dataclasses import dataclass
from pathlib import Path

from captioning.bad_input import BadInput
from captioning.records import list_records, read_plan
from reports.tables import Link

TITLES = {"show_attend_tell": "Show, Attend and Tell", "convnext_versions": "ConvNeXt versions"}
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
        self.seeds = {run["run_id"]: f"seed {run['config'].get('seed')}" if seeds[run["name"]] - {0, None} else "" for run in self.runs}
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
    return TITLES.get(experiment) or experiment.replace("_", " ").replace("-", " ").capitalize()
