"""What there is to run: experiments' rows times seeds, each once however many experiments share it, with its run id and whether it is done."""

import dataclasses
import difflib
import importlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from benchmarks.experiments import DEFAULT, NAMES
from benchmarks.experiments.attention import attention_rows
from benchmarks.experiments.encoders import as_run, encoder_base
from benchmarks.profiles import Profile
from captioning.bad_input import BadInput
from captioning.config import RunConfig, run_id
from captioning.fingerprint import file_sha256
from captioning.records import read_record

MADE = ("captions", "references", "curve")  # a record's files that its numbers are made from; without them it is not done
PICTURES = ("attention",)  # not every record has them
NAMED = 10  # runs that an error lists


@dataclass(frozen=True)
class Run:
    """A row of one table or more: `labels` has its name in the table of each experiment that shares it.

    `problem`: why it cannot run here (weights that are not to be had), else "".
    """

    run_id: str
    config: RunConfig
    labels: dict[str, str]
    problem: str = ""

    @property
    def label(self) -> str:
        return next(iter(self.labels.values()))

    def entry(self) -> dict:
        return {
            "run_id": self.run_id,
            "name": self.config.name,
            "label": self.label,
            "experiments": list(self.labels),
            "labels": self.labels,
        }


def _no_such_run(experiment: str, name: str, there: list[str]) -> str:
    """All its runs, or of many the nearest."""
    if len(there) <= NAMED:
        return f"--only {experiment}:{name}: its runs are {', '.join(there)}"
    nearest = difflib.get_close_matches(name, there, NAMED, cutoff=0.3) or there[:NAMED]
    return f"--only {experiment}:{name}: none of its {len(there)} runs; nearest: {', '.join(nearest)}; --list names all"


def choose_experiments(only: list[str], everything: bool = False) -> dict[str, set[str]]:
    """--only EXPERIMENT or EXPERIMENT:RUN -> experiment -> names of its runs (empty: all). Without --only the default set, or with --all everything."""
    chosen: dict[str, set[str]] = {}
    for text in only or (NAMES if everything else DEFAULT):
        experiment, _, name = text.partition(":")
        if experiment not in NAMES:
            raise BadInput(f"--only {text}: no experiment {experiment!r}; there are {', '.join(NAMES)}")
        chosen.setdefault(experiment, set())
        chosen[experiment].add(name)
    return {experiment: set() if "" in names else names for experiment, names in chosen.items()}


def make_plan(
    profile: Profile,
    only: list[str],
    seeds: int,
    own_encoders: list[str],
    weights: str,
    fingerprint_of: Callable[[bool], str],
    fetch: bool = True,
    everything: bool = False,
    just_seed: int | None = None,
    changed: Callable[[RunConfig], RunConfig] = lambda config: config,
) -> list[Run]:
    """All runs asked for, in the order of the tables. own_encoders: path.py:factory of the reader's own, further rows of `encoders`.

    seeds: 0 to seeds - 1, unless just_seed is the only one. fingerprint_of: restval -> fingerprint of the data with or without it. fetch: False downloads
    no weights; a run that needs some has that for its problem. changed: what is to be run in place of a table's row.
    """
    from captioning.language_models import locate_language, without_weights
    from captioning.trunks import locate

    rows: dict[RunConfig, dict[str, str]] = {}
    own, chosen = _own_rows(profile, own_encoders), choose_experiments(only, everything)
    for experiment, names in chosen.items():
        found = _rows_of(experiment, profile)
        if experiment == "encoders":
            found += [_own_row(profile, name, encoder) for name, encoder in own.items()]
        if experiment == "attention" and names:  # by name only: who asks for the table of attention wants it for one encoder
            others = _rows_of("encoders", profile) + [_own_row(profile, name, encoder) for name, encoder in own.items()]
            known = {config.name for _, config in found}
            found += [row for other in others for row in attention_rows(profile, *other) if row[1].name not in known]
        unknown = names - {config.name for _, config in found}
        if unknown:
            raise BadInput(_no_such_run(experiment, min(unknown), [config.name for _, config in found]))
        for label, config in found:
            if not names or config.name in names:
                rows.setdefault(changed(as_run(profile, config, own)), {})[experiment] = label
    for name, encoder in own.items():
        if not any(config.encoder == encoder for config in rows):
            raise BadInput(f"--encoder {encoder}: --only leaves it out; add encoders:{name}, or leave --encoder out")
    if weights == "none":
        rows = {without_weights(config): labels for config, labels in rows.items()}
    plan = []
    for config, labels in rows.items():
        try:
            source, problem = locate(config.encoder, config.pretrained, weights, fetch), ""
            language = locate_language(config, weights, fetch)
            hashes = {
                "weights": source.weights_sha256,
                "encoder_file": source.file_sha256,
                "language": language.identity if language else None,
            }
        except BadInput as error:
            hashes, problem = {"weights": "not to be had"}, str(error)
        for seed in range(seeds) if just_seed is None else (just_seed,):
            seeded = dataclasses.replace(config, seed=seed)
            plan.append(Run(run_id(seeded, data=fingerprint_of(config.restval), **hashes), seeded, labels, problem))
    return plan


def is_done(folder: Path, run: Run) -> bool:
    """A finished record of this very run lies in results/<profile>, with the files that it was made with. A half-written or failed one is no record."""
    try:
        record = read_record(folder / "runs" / f"{run.run_id}.json")
    except BadInput:
        return False
    return record["status"] == "finished" and not _changed_files(folder, record)


def drop_changed_files(folder: Path, run: Run) -> None:
    """Remove what lies in the place of a finished run's files and is not what it was scored on: the run would go on from it."""
    try:
        record = read_record(folder / "runs" / f"{run.run_id}.json")
    except BadInput:
        return
    for path in _changed_files(folder, record) if record["status"] == "finished" else ():
        if path is not None:
            path.unlink(missing_ok=True)


def _changed_files(folder: Path, record: dict) -> list[Path | None]:
    """Files of a finished record that are gone or not those that it was made with; None for one that it does not name or that lies elsewhere. The
    checkpoint may be gone: no number is made from it."""
    changed: list[Path | None] = []
    for kind in (*MADE, *(kind for kind in PICTURES if kind in record["files"])):
        about = record["files"].get(kind)
        path = folder / about["path"] if isinstance(about, dict) and isinstance(about.get("path"), str) else None
        if path is None or not path.resolve().is_relative_to(folder.resolve()):
            changed.append(None)
        elif not path.is_file() or file_sha256(path) != about.get("sha256"):
            changed.append(path)
    return changed


def _rows_of(experiment: str, profile: Profile) -> list:
    return importlib.import_module(f"benchmarks.experiments.{experiment}").runs(profile)


def _own_rows(profile: Profile, encoders: Sequence[str]) -> dict[str, str]:
    """Name of the row -> the reader's own encoder. BadInput where it could be taken for another row: findings and tables go by names."""
    taken = {config.name for experiment in NAMES for _, config in _rows_of(experiment, profile)}
    rows: dict[str, str] = {}
    for encoder in dict.fromkeys(encoders):
        name = _own_name(encoder)
        if name in taken or name in rows:
            whose = f"--encoder {rows[name]} has" if name in rows else "a row of the study has"
            raise BadInput(f"--encoder {encoder}: its row would be called {name}, a name that {whose} already; rename the factory")
        rows[name] = encoder
    return rows


def _own_row(profile: Profile, name: str, encoder: str) -> tuple[str, RunConfig]:
    return name, dataclasses.replace(encoder_base(profile), name=name, encoder=encoder)


def _own_name(encoder: str) -> str:
    if ".py:" not in encoder:
        raise BadInput(f"--encoder {encoder}: give path/to/file.py:factory (named models are rows of the experiment already)")
    path = encoder.rsplit(":", 1)[0]
    if not Path(path).is_file():
        raise BadInput(f"--encoder {encoder}: there is no file {path}; give path/to/file.py:factory")
    return encoder.rsplit(":", 1)[1].replace("_", "-")
