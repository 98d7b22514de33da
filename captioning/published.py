"""Published numbers and the claims made with them, as data: reads and checks benchmarks/published/, whose README explains the fields. No torch.

No published number stands in code or in a template: what shows one takes it from here.
"""

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

FOLDER = Path(__file__).resolve().parents[1] / "benchmarks" / "published"
QUESTIONS = FOLDER.with_name("questions.json")
WEIGHTS = ("ImageNet", "random", "own")  # what an encoder may have; own: a Python file of the reader's
ASKED_HERE = "asked here"  # in place of a mark and a source
MARKS = ("published", "second-hand", "derived", "read in code")
RULES = ("size", "direction", "every", "value")  # captioning/claims.py says and applies them
FRACTION = "fraction, 0 to 1"  # a unit; our scores are times 100


@dataclass(frozen=True, slots=True)
class Number:
    """A number that somebody published. `value` is in `unit`; a setting may be a text. `split`, `protocol`: "not known" where nobody said, "none" where
    there is none."""

    id: str
    quantity: str
    value: float | str
    unit: str
    data_set: str
    split: str
    protocol: str
    beam: int | None
    epoch: int | None
    model: str
    mark: str
    source: str
    note: str

    @property
    def as_scored(self) -> float:
        """The value in the unit of our scores, of which a fraction is a hundredth."""
        return round(100 * self.value, 10) if self.unit == FRACTION else self.value


@dataclass(frozen=True, slots=True)
class Condition:
    """A run by its name, the experiment that trains it, how its encoder's timm name begins, and the profiles that have it.

    weights: what its encoder must have on photographs, one of `WEIGHTS`. instead: the run that is meant where this one was not run: the same net with
    the weights that everybody can have.
    """

    run: str
    experiment: str
    encoder: str
    profiles: tuple[str, ...]
    weights: str = "ImageNet"
    instead: "Condition | None" = None


@dataclass(frozen=True, slots=True)
class Claim:
    """`better` is claimed to be above (`direction` "higher") or below ("lower") `worse` in `metric`; with several, every pair of them.

    published_difference: of `published_metric`, in percent of the worse condition's value; None where no size was claimed. also: metrics that stand beside.
    Of the rule "value" there is no `worse`: `better` is claimed to reach `better_number`.
    """

    id: str
    sentence: str
    source: str
    mark: str
    better: tuple[Condition, ...]
    worse: tuple[Condition, ...]
    metric: str
    published_metric: str
    also: tuple[str, ...]
    protocol: str
    beam: int | None
    split: str
    direction: str
    published_difference: float | None
    rule: str
    better_number: Number | None
    worse_number: Number | None
    note: str

    @property
    def sign(self) -> int:
        return 1 if self.direction == "higher" else -1

    @property
    def sides(self) -> tuple[str, ...]:
        """What must be measured: both sides of a comparison, or the one whose value is claimed."""
        return ("better",) if self.rule == "value" else ("better", "worse")

    @property
    def published_value(self) -> float | None:
        """The claimed value in the unit of our scores; None where a difference is claimed."""
        return self.better_number.as_scored if self.rule == "value" else None


_OPTIONAL_INT, _TEXTS = (int, type(None)), (list,)
_NUMBER_FIELDS = {
    "id": str, "quantity": str, "value": (int, float, str), "unit": str, "data set": str, "split": str, "protocol": str, "beam": _OPTIONAL_INT,
    "epoch": _OPTIONAL_INT, "model": str, "mark": str, "source": str, "note": str,
}  # fmt: skip
_CONDITION_FIELDS = {"experiment": str, "encoder": str, "profiles": _TEXTS}
_CLAIM_FIELDS = {
    "id": str, "sentence": str, "source": str, "mark": str, "better": _TEXTS, "worse": _TEXTS, "metric": str, "published metric": str, "also": _TEXTS,
    "protocol": str, "beam": _OPTIONAL_INT, "split": str, "direction": str, "published difference": (int, float, type(None)), "rule": str,
    "better number": (str, type(None)), "worse number": (str, type(None)), "note": str,
}  # fmt: skip
_QUESTION_FIELDS = {
    "id": str, "sentence": str, "better": str, "worse": str, "metric": str, "protocol": str, "beam": _OPTIONAL_INT, "split": str, "would change it": str,
}  # fmt: skip
_SCALE_FIELDS = {"data": str, "images": dict, "pretraining": str}
_CHOICES = {
    "mark": MARKS,
    "direction": ("higher", "lower"),
    "rule": RULES,
    "protocol": ("published", "free", "coco", "not known", "none"),
    "weights": WEIGHTS,
}
_MAY_BE_EMPTY = ("note", "also", "worse")


def load_numbers(path: str | Path = FOLDER / "numbers.json") -> tuple[Number, ...]:
    """Every published number. ValueError names the entry and the field that is wrong."""
    numbers = []
    for k, entry in enumerate(_read(path, "numbers")["numbers"]):
        where = _check(entry, _NUMBER_FIELDS, f"{Path(path).name}, number {k}")
        if not isinstance(entry["value"], str) and not math.isfinite(entry["value"]):
            raise ValueError(f"{where}: field 'value' is no finite number")
        numbers.append(Number(**{name.replace(" ", "_"): value for name, value in entry.items()}))
    _check_unique(numbers, path)
    return tuple(numbers)


def load_claims(path: str | Path = FOLDER / "claims.json", numbers: Sequence[Number] | None = None) -> tuple[Claim, ...]:
    """Every claim, with its conditions and published numbers looked up. ValueError names the entry and the field that is wrong."""
    content = _read(path, "conditions", "claims")
    conditions = {}
    for run, entry in content["conditions"].items():
        _check(entry, _CONDITION_FIELDS, f"{Path(path).name}, condition {run!r}")
        conditions[run] = Condition(run, entry["experiment"], entry["encoder"], tuple(entry["profiles"]))
    by_id = {number.id: number for number in (load_numbers() if numbers is None else numbers)} | {None: None}
    claims = []
    for k, entry in enumerate(content["claims"]):
        where = _check(entry, _CLAIM_FIELDS, f"{Path(path).name}, claim {k}")
        claims.append(_make_claim(entry, where, conditions, by_id))
    _check_unique(claims, path)
    return tuple(claims)


def load_scale(path: str | Path = FOLDER / "claims.json") -> dict:
    """The paper's scale, as far as it is known: {"data", "images" per split, "pretraining"}."""
    scale = _read(path, "paper scale")["paper scale"]
    _check(scale, _SCALE_FIELDS, f"{Path(path).name}, paper scale")
    return scale


def load_questions(path: str | Path = QUESTIONS) -> tuple[Claim, ...]:
    """Questions of this project's own, about runs with the encoders at hand, as claims of a direction ("higher"); `note` is what would change the answer.

    ValueError names the entry and the field that is wrong.
    """
    content = _read(path, "conditions", "questions")
    conditions = {}
    for run, entry in content["conditions"].items():
        more = {"weights": str, "instead": str} if "instead" in entry else {"weights": str}
        where = _check(entry, _CONDITION_FIELDS | more, f"{Path(path).name}, condition {run!r}")
        other = conditions.get(entry.get("instead", ""))
        if "instead" in entry and other is None:
            raise ValueError(f"{where}: field 'instead' is {entry['instead']!r}, no condition above it")
        conditions[run] = Condition(run, entry["experiment"], entry["encoder"], tuple(entry["profiles"]), entry["weights"], other)
    questions = []
    for k, entry in enumerate(content["questions"]):
        where = _check(entry, _QUESTION_FIELDS, f"{Path(path).name}, question {k}")
        whole = {name: value for name, value in entry.items() if name != "would change it"}
        whole |= {"better": [entry["better"]], "worse": [entry["worse"]], "published metric": entry["metric"]}
        whole |= {"also": ["CIDEr" if entry["metric"] != "CIDEr" else "BLEU-4"]}
        whole |= dict.fromkeys(("source", "mark"), ASKED_HERE) | {
            "direction": "higher",
            "rule": "direction",
            "note": entry["would change it"],
        }
        whole |= dict.fromkeys(("published difference", "better number", "worse number"))
        questions.append(_make_claim(whole, where, conditions, {None: None}))
    _check_unique(questions, path)
    return tuple(questions)


def _make_claim(entry: dict, where: str, conditions: Mapping[str, Condition], numbers: Mapping[str | None, Number | None]) -> Claim:
    fields = {name.replace(" ", "_"): value for name, value in entry.items()}
    for side in ("better", "worse"):
        for run in entry[side]:
            if run not in conditions:
                raise ValueError(f"{where}: field {side!r} names {run!r}, which is no condition")
        fields[side] = tuple(conditions[run] for run in entry[side])
        number = f"{side} number"
        if entry[number] not in numbers:
            raise ValueError(f"{where}: field {number!r} names {entry[number]!r}, which is no published number")
        fields[number.replace(" ", "_")] = numbers[entry[number]]
    if entry["protocol"] not in ("published", "free", "coco"):
        raise ValueError(f"{where}: field 'protocol' is {entry['protocol']!r}; a claim is judged under published, free or coco")
    if (entry["beam"] is None) != (entry["protocol"] == "published"):
        raise ValueError(f"{where}: field 'beam' is {entry['beam']!r} under protocol {entry['protocol']}")
    claim = Claim(**fields | {"also": tuple(entry["also"])})
    if claim.rule == "value":
        return _check_value(claim, where)
    if not claim.worse:
        raise ValueError(f"{where}: field 'worse' is empty, which is for rule 'value'")
    difference = claim.published_difference
    if (difference is None) == (claim.rule == "size"):
        raise ValueError(f"{where}: field 'published difference' is {difference!r} with rule {claim.rule!r}")
    if difference is not None and not difference * claim.sign > 0:
        raise ValueError(f"{where}: field 'published difference' is {difference!r}, its direction {claim.direction!r}")
    if claim.rule != "every" and len(claim.better) * len(claim.worse) != 1:
        raise ValueError(f"{where}: field 'rule' is {claim.rule!r}, which is for one pair of conditions")
    return claim


def _check_value(claim: Claim, where: str) -> Claim:
    """A claim of an absolute value: one condition, one number, nothing else. ValueError names the field that is wrong."""
    number = claim.better_number
    wrong = {
        "worse": bool(claim.worse),
        "worse number": claim.worse_number is not None,
        "published difference": claim.published_difference is not None,
    }
    wrong |= {"also": bool(claim.also), "better": len(claim.better) != 1}
    for name in (name for name, is_wrong in wrong.items() if is_wrong):
        raise ValueError(
            f"{where}: field {name!r}: rule 'value' has one condition, 'better', its 'better number' and nothing to compare it with"
        )
    if number is None or isinstance(number.value, str) or not claim.metric == claim.published_metric == number.quantity:
        raise ValueError(f"{where}: field 'better number' is {number and number.id!r}; rule 'value' needs a number of {claim.metric}")
    return claim


def _read(path: str | Path, *names: str) -> dict:
    try:
        content = json.loads(Path(path).read_text(encoding="utf-8"))
    except ValueError as error:
        raise ValueError(f"{Path(path).name}: no JSON text ({error})") from None
    if not isinstance(content, dict) or content.get("schema") != 1:
        raise ValueError(f"{Path(path).name}: field 'schema' is not 1")
    for name in names:
        if not content.get(name):
            raise ValueError(f"{Path(path).name}: field {name!r} is missing or empty")
    return content


def _check(entry: object, fields: Mapping[str, type | tuple], where: str) -> str:
    """ValueError unless `entry` has exactly these fields with these types, allowed choices and no empty text. Back: what to call the entry."""
    if not isinstance(entry, dict):
        raise ValueError(f"{where}: no object")
    if isinstance(entry.get("id"), str):
        where = f"{where} ({entry['id']!r})"
    for name in [*(fields.keys() - entry.keys()), *(entry.keys() - fields.keys())]:
        raise ValueError(f"{where}: field {name!r} is {'missing' if name in fields else 'not known'}")
    for name, kinds in fields.items():
        value = entry[name]
        if not isinstance(value, kinds) or isinstance(value, bool):
            raise ValueError(f"{where}: field {name!r} is {value!r}, of the wrong type")
        if isinstance(value, list) and not all(isinstance(item, str) and item for item in value):
            raise ValueError(f"{where}: field {name!r} is {value!r}, no list of names")
        if value in ("", []) and name not in _MAY_BE_EMPTY:
            raise ValueError(f"{where}: field {name!r} is empty")
        if name in _CHOICES and value not in _CHOICES[name]:
            raise ValueError(f"{where}: field {name!r} is {value!r}; choose {', '.join(_CHOICES[name])}")
    return where


def _check_unique(entries: Sequence[Number | Claim], path: str | Path) -> None:
    seen: set[str] = set()
    for entry in entries:
        if entry.id in seen:
            raise ValueError(f"{Path(path).name}: field 'id' is {entry.id!r} twice")
        seen.add(entry.id)
