"""What there is to run: experiments' rows times seeds, each once however many experiments share it, with its run id and whether it is done."""

import dataclasses
import importlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from benchmarks.experiments import DEFAULT, NAMES
from benchmarks.profiles import Profile
from captioning.bad_input import BadInput
from captioning.config import RunConfig, run_id
from captioning.records import read_record


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
) -> list[Run]:
    """All runs asked for, in the order of the tables. own_encoders: path.py:factory of the reader's own, further rows of `encoders`.

    fingerprint_of: restval -> fingerprint of the data with or without it. fetch: False downloads no weights; a run that needs some has that for its problem.
    """
    from captioning.trunks import locate

    rows: dict[RunConfig, dict[str, str]] = {}
    for experiment, names in choose_experiments(only, everything).items():
        found = importlib.import_module(f"benchmarks.experiments.{experiment}").runs(profile)
        if experiment == "encoders":
            found += [(_own_name(e), dataclasses.replace(profile.base, name=_own_name(e), encoder=e)) for e in own_encoders]
        unknown = names - {config.name for _, config in found}
        if unknown:
            raise BadInput(f"--only {experiment}:{unknown.pop()}: its runs are {', '.join(config.name for _, config in found)}")
        for label, config in found:
            if not names or config.name in names:
                rows.setdefault(config, {})[experiment] = label
    if weights == "none":
        rows = {dataclasses.replace(config, pretrained=False): labels for config, labels in rows.items()}
    plan = []
    for config, labels in rows.items():
        try:
            source, problem = locate(config.encoder, config.pretrained, weights, fetch), ""
            hashes = {"weights": source.weights_sha256, "encoder_file": source.file_sha256}
        except BadInput as error:
            hashes, problem = {"weights": "not to be had"}, str(error)
        for seed in range(seeds):
            seeded = dataclasses.replace(config, seed=seed)
            plan.append(Run(run_id(seeded, data=fingerprint_of(config.restval), **hashes), seeded, labels, problem))
    return plan


def is_done(folder: Path, run: Run) -> bool:
    """A finished record of this very run lies in results/<profile>. A half-written or failed one is no record."""
    try:
        return read_record(folder / "runs" / f"{run.run_id}.json")["status"] == "finished"
    except BadInput:
        return False


def _own_name(encoder: str) -> str:
    if ".py:" not in encoder:
        raise BadInput(f"--encoder {encoder}: give path/to/file.py:factory (named models are rows of the experiment already)")
    path = encoder.rsplit(":", 1)[0]
    if not Path(path).is_file():
        raise BadInput(f"--encoder {encoder}: there is no file {path}; give path/to/file.py:factory")
    return encoder.rsplit(":", 1)[1].replace("_", "-")
