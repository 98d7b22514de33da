"""Whether a record agrees with itself: its id, encoder and row with its configuration, what it says of its files with what they hold. No torch.

Each function yields a line for each fact that does not hold; `python -m captioning.verify` asks them all.
"""

import dataclasses
import gzip
import importlib
import json
import zlib
from collections.abc import Iterator, Sequence
from pathlib import Path

from benchmarks.experiments import NAMES
from benchmarks.profiles import PROFILES
from captioning.bad_input import BadInput
from captioning.config import NUMERICS, RunConfig, run_id
from captioning.demo_encoders import GRID, card, names
from captioning.language_models import without_weights
from captioning.pointing import BY_GRADIENTS
from captioning.systems import map_kind
from captioning.torchvision_weights import ENUMERATIONS

SPLITS = ("val", "test")
# How the best epoch is chosen -> the curve's column, and the record's words for it.
SELECTED_BY = {"free": "val_bleu4_free", "published": "val_bleu4_published"}
SELECTION = {"free": "free, greedy", "published": "published"}
DAMAGED = (
    LookupError,
    TypeError,
    ValueError,
    AttributeError,
    OSError,
    EOFError,
    zlib.error,
)  # what reading a file of another layout ends in


def check_run_id(record: dict) -> Iterator[str]:
    """The id is a hash of configuration, data and weights, made as for a plan of runs."""
    numerics = record["provenance"].get("numerics")
    if numerics != NUMERICS:
        yield f"provenance numerics: stated {numerics!r}, this code's is {NUMERICS}: its scores were made by other code"
        return
    fields, stated = dataclasses.fields(RunConfig), record["config"]
    wrong = [one.name for one in fields if one.name not in stated and not one.metadata.get("later")]
    wrong += stated.keys() - {one.name for one in fields}
    if wrong:
        yield f"config: field {wrong[0]!r} is {'not known' if wrong[0] in stated else 'missing'}"
        return
    encoder = record["encoder"]
    try:
        config = RunConfig(**stated | {"beams": tuple(stated["beams"])})
        hashes = {"weights": encoder["sha256"], "encoder_file": encoder["file_sha256"]}
        hashes |= {"language": record.get("language_model", {}).get("identity")}
        found = run_id(config, data=record["data"]["fingerprint"], **hashes)
    except (BadInput, *DAMAGED) as error:
        yield f"run_id: cannot be made from config, data and encoder ({type(error).__name__}: {error})"
        return
    if (found, config.name) != (record["run_id"], record["name"]):
        yield f"run_id: stated {record['run_id']} of {record['name']!r}, its config, data and encoder give {found} of {config.name!r}"


def check_encoder(record: dict) -> Iterator[str]:
    """What the record says of its encoder is what its configuration asks for."""
    config, encoder = record["config"], record["encoder"]
    asked, name, tag = config["encoder"], encoder["name"], str(encoder.get("tag"))
    own = ".py:" in asked
    kind = "file" if own else "demo" if asked.startswith("demo_") else "torchvision" if asked in ENUMERATIONS else "timm"
    named = asked.rpartition(":")[2] if own else asked
    # A bare timm name stands for its default weights, which only timm knows.
    default = kind == "timm" and "." not in asked and tag.partition(".")[0] == asked
    facts = [
        ("encoder name", name, named),
        ("encoder source", encoder["source"], kind),
        ("encoder tag", encoder.get("tag"), tag if default else named),
        ("encoder frozen", encoder["frozen"], config["tune_from"] < 0),
    ]
    side = config["grid"] or (GRID[0] if kind == "demo" and not config["image_size"] else 0)
    if side and config.get("features", "regions") == "regions":
        facts.append(("encoder grid", encoder["grid"], [side, side]))
    if kind != "demo":
        facts.append(("encoder accuracy", encoder.get("accuracy"), None))
    elif named in names() and encoder["sha256"] == card(named)["sha256"]:
        facts.append(("encoder accuracy", encoder["accuracy"], card(named)["accuracy"]))
    yield from differences(facts)


def check_row(record: dict, planned: dict) -> Iterator[str]:
    """A run that stands in an experiment's table under the name of one of its rows is that row: its label and, but for seed and random weights, its
    settings. An encoder of the reader's own is in no row."""
    config, profile = RunConfig(**record["config"] | {"beams": tuple(record["config"]["beams"])}), PROFILES.get(record["profile"])
    said = record | planned
    labels = said.get("labels") or dict.fromkeys(said["experiments"], said["label"])
    for experiment in [experiment for experiment in labels if experiment in NAMES and profile and ".py:" not in config.encoder]:
        rows = importlib.import_module(f"benchmarks.experiments.{experiment}").runs(profile)
        for label, row in [(label, row) for label, row in rows if row.name == config.name]:
            facts = [(f"label in {experiment}", labels[experiment], label)]
            asked = row if config.pretrained else without_weights(row)  # --weights none
            asked = dataclasses.replace(asked, seed=config.seed)
            if set(config.beams) <= set(asked.beams):  # only the rows of `encoders` are decoded at its widest beam
                asked = dataclasses.replace(asked, beams=config.beams)
            fields = [one.name for one in dataclasses.fields(RunConfig)]
            facts += [(f"config {name} of a run called {label!r}", getattr(config, name), getattr(asked, name)) for name in fields]
            yield from differences(facts)


def differences(facts: Sequence[tuple[str, object, object]]) -> Iterator[str]:
    for what, stated, found in facts:
        if stated != found:
            yield f"{what}: stated {stated!r}, found {found!r}"


def check_facts(home: Path, record: dict) -> Iterator[str]:
    """What the record says of its files is what they hold: whose captions, which beams, how many images, captions, words and epochs."""
    header, *lines = read_lines(home / record["files"]["captions"]["path"])
    references = read_lines(home / record["files"]["references"]["path"])
    curve = [json.loads(line) for line in (home / record["files"]["curve"]["path"]).read_text(encoding="utf-8").splitlines()]
    config, about, training = record["config"], record["data"], record["training"]
    facts = [
        ("captions' run_id", record["run_id"], header["run_id"]),
        ("references file", Path(record["files"]["references"]["path"]).name, header["references"]),
        ("config beams", config["beams"], header["beams"]),
        ("config max_words", config["max_words"], header["max_words"]),
        ("tokenizer of its own", bool(record.get("language_model", {}).get("identity", {}).get("tokenizer")), header["vocabulary"] is None),
        ("training curve", training["curve"], Path(record["files"]["curve"]["path"]).name),
        ("training epochs", training["epochs"], len(curve)),
        ("training curve's epochs", [line["epoch"] for line in curve], list(range(1, len(curve) + 1))),
        ("training best_epoch", training["best_epoch"], best_epoch(curve, SELECTED_BY[config["select"]])),
        ("training selection", training["selection"], f"BLEU-4, {SELECTION[config['select']]}, val"),
    ]
    if header["vocabulary"] is not None:  # of subwords only the record has the number
        facts.append(("data vocabulary", about["vocabulary"], len(header["vocabulary"])))
    if not config["patience"]:
        facts.append(("config epochs", config["epochs"], len(curve)))
    for split in SPLITS:
        own = [line for line in references if line["split"] == split]
        facts += [
            (f"data images of {split}", about["images"].get(split), len(own)),
            (f"captions' images of {split}", about["images"].get(split), sum(line["split"] == split for line in lines)),
            (f"data captions of {split}", about["captions"].get(split), sum(len(line["tokens"]) for line in own)),
        ]
        pointed = [k for k, line in enumerate(line for line in lines if line["split"] == split) if "pointing" in line]
        first = min(len(own), BY_GRADIENTS) if map_kind(config) == "gradient" else len(own)
        if pointed:  # not only where the model points well
            stated = len(pointed) if pointed == list(range(len(pointed))) else "others than the first"
            facts.append((f"captions' images of {split} with pointing", stated, first))
    if "ended" in record:  # records from before 2026-11-21 have it not
        facts.append(("ended", record["ended"], ended_shares(lines)))
    yield from differences(facts)


def best_epoch(curve: Sequence[dict], column: str) -> int:
    """The first of the highest scores, from 1; where all are 0 that of the lowest cross-entropy, as train.py chooses."""
    return 1 + max(range(len(curve)), key=lambda k: (curve[k][column], 0 if curve[k][column] else -curve[k]["val_cross_entropy"]))


def ended_shares(lines: Sequence[dict]) -> dict[str, dict[str, float]]:
    """Per split and beam how many captions, in percent, ended by themselves and were not cut at the longest. lines: predictions, without their header."""
    found = {}
    for split in SPLITS:
        captions = [line["free"] for line in lines if line["split"] == split]
        beams = captions[0] if captions else ()
        found[split] = {beam: 100 * sum(one[beam]["ended"] for one in captions) / len(captions) for beam in beams}
    return found


def read_lines(path: Path) -> list[dict]:
    with gzip.open(path, "rt", encoding="utf-8", newline="\n") as file:
        return [json.loads(line) for line in file]
