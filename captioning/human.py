"""What people score: the j-th reference of every image against the others, and captioners rescored on the same others; each the mean over j.

A score against five references is no match for one person's caption, which has only four others to be compared with: both sides must lose the same one.
"""

import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import numpy as np

from captioning.bad_input import BadInput
from captioning.config import main_beam_of
from captioning.protocols import TOOL, Saved, Scored, read_predictions, score_coco, score_free
from captioning.statistics import DRAWS, interval

FILE = "human.json"  # in a profile's results folder; results/README.md lays it out
SCHEMA, SPLIT = 1, "test"
METRICS = ("BLEU", "METEOR", "ROUGE-L", "CIDEr")
PROTOCOLS = ("free", "coco")


def score_people(home: Path, record: dict) -> dict:
    """human.json without its runs: the references of a profile's data set, scored. record: any finished run on them."""
    saved, about = read_predictions(home / record["files"]["captions"]["path"], SPLIT), record["files"]["references"]
    return {
        "schema": SCHEMA,
        "tool": TOOL,
        "split": SPLIT,
        "references_sha256": about["sha256"],
        "left_out": references_of_all(saved),
        "people": human_scores(saved),
        "runs": [],
    }


def score_run(home: Path, record: dict) -> dict:
    """One of human.json's runs: the main beam's captions, rescored."""
    captions = record["files"]["captions"]
    saved = read_predictions(home / captions["path"], SPLIT)
    beam = main_beam_of(saved.said)
    return {"run_id": record["run_id"], "captions_sha256": captions["sha256"], "beam": beam, "scores": rescored(saved, beam)}


def read_human(home: Path) -> dict:
    """A profile's human.json; one without runs where there is none. Raises BadInput for a file that cannot be used."""
    path = home / FILE
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        if content["schema"] != SCHEMA:
            raise ValueError(f"schema {content['schema']!r}, this version reads {SCHEMA}")
        _check_layout(content)
        return content
    except FileNotFoundError:
        return {"runs": []}
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise BadInput(f"{path}: damaged ({type(error).__name__}: {error}); remove it, benchmarks/human.py makes it again") from None


def _check_layout(content: dict) -> None:
    """Raises KeyError, TypeError or ValueError where a reader would later."""
    if (
        not isinstance(content["left_out"], int)
        or not isinstance(content["references_sha256"], str)
        or not isinstance(content["tool"], str)
    ):
        raise ValueError("left_out is no number, or references_sha256 or tool no text")
    for row in content["runs"]:
        if not all(isinstance(row[name], str) for name in ("run_id", "captions_sha256", "beam")):
            raise ValueError("a run without run_id, captions_sha256 or beam")
    for scores in (content["people"], *(row["scores"] for row in content["runs"])):
        for protocol in PROTOCOLS:
            one = scores[protocol]
            if not all(isinstance(one[part], dict) for part in ("scores", "intervals", "not_available")) or not isinstance(
                one["n_images"], int
            ):
                raise ValueError(f"{protocol} is no scores object")


def human_scores(saved: Saved, protocols: Sequence[str] = PROTOCOLS, draws: int = DRAWS) -> dict[str, dict]:
    """{protocol: SCORES} of the references themselves. saved: any run's predictions; only its references are read."""
    fields = {"split": saved.fields["split"], "beam": "a person's"}
    score = {
        "free": lambda j: score_free(_only(saved.tokens, j), _without(saved.tokens, j), **fields),
        "coco": lambda j: score_coco(_only(saved.raw, j), _without(saved.raw, j), METRICS, **fields),
    }
    return {protocol: _mean(score[protocol], saved, draws) for protocol in protocols}


def rescored(saved: Saved, beam: str, protocols: Sequence[str] = PROTOCOLS, draws: int = DRAWS) -> dict[str, dict]:
    """{protocol: SCORES} of a run's captions against the same references that `human_scores` compares people with."""
    fields, words = saved.fields | {"specials": "dropped", "beam": beam}, saved.words(beam)
    rule = {"tokens": "dataset"} if saved.vocabulary else {"tokens": "a-z0-9,refs-dataset"}
    score = {
        "free": lambda j: score_free(words, _without(saved.tokens, j), **rule, **fields),
        "coco": lambda j: score_coco(saved.said[beam], _without(saved.raw, j), METRICS, **fields),
    }
    return {protocol: _mean(score[protocol], saved, draws) for protocol in protocols}


def references_of_all(saved: Saved) -> int:
    """How many references every image has at least; one is left out of so many in turn."""
    return min(len(captions) for captions in saved.raw.values())


def _mean(score: Callable[[int], Scored], saved: Saved, draws: int) -> dict:
    """SCORES whose values are the means over j, whose intervals those of the mean over the same images."""
    turns = [score(j) for j in range(references_of_all(saved))]
    values, drawn = [one.scores() for one in turns], [one.resampled(draws) for one in turns]
    every = [metric for metric in values[0] if all(metric in one for one in values)]
    first = turns[0]
    return {
        "protocol": first.protocol,
        "signature": f"{first.signature}|left-out:one-in-turn,mean-of-{len(turns)}",
        "n_images": len(first.ids),
        "scores": {metric: float(np.mean([one[metric] for one in values])) for metric in every},
        "intervals": {metric: list(interval(np.mean([one[metric] for one in drawn], axis=0))) for metric in every} if draws else {},
        "not_available": {metric: reason for one in turns for metric, reason in one.not_available.items()},
    }


def _only(captions: Mapping[str, Sequence[str]], j: int) -> dict[str, str]:
    return {image: several[j] for image, several in captions.items()}


def _without(captions: Mapping[str, Sequence[str]], j: int) -> dict[str, list[str]]:
    return {image: [*several[:j], *several[j + 1 :]] for image, several in captions.items()}
