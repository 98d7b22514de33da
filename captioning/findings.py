"""What a profile's saved predictions say of every claim. No torch.

    findings(Path("results/flickr8k"), load_claims(), records)

Reads predictions and references as results/README.md lays them out; captioning/claims.py has the rule, benchmarks/published/ the claims.
"""

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from functools import cache, lru_cache
from pathlib import Path

import numpy as np

from captioning.bad_input import BadInput
from captioning.claims import NOT_RUN, RULES, holm, judge, resample_together, statistics_of
from captioning.fingerprint import file_sha256
from captioning.protocols import Scored, read_predictions, score_coco
from captioning.published import Claim, Condition, load_scale
from captioning.statistics import DRAWS, Statistic
from captioning.weight_tags import WEIGHTS, pretraining


@dataclass(frozen=True, slots=True)
class _Gathered:
    """What a profile has for a claim. scored: side -> run -> seed -> its scores; used: their records; reasons: why a condition gives nothing."""

    conditions: list[Condition]
    left_out: list[str]
    scored: dict[str, dict[str, dict[int, Scored]]]
    used: list[dict]
    reasons: list[str]

    @property
    def systems(self) -> list[Scored]:
        return [system for side in self.scored.values() for seeds in side.values() for system in seeds.values()]


def findings(
    profile_folder: str | Path,
    claims: Sequence[Claim],
    records: Iterable[dict],
    scale: dict | None = None,
    draws: int = DRAWS,
    known: Mapping[str, dict] | None = None,
) -> list[dict]:
    """What was found for each claim at a profile, ready for JSON; benchmarks/published/README.md explains the fields.

    profile_folder: results/<profile>; records: its records (captioning/records.py), of one name and seed the latest finished one counts. Recomputes every
    score from the saved predictions; files that are not the record's own are not used. A claim that cannot be judged is "not run", with the reason.
    known: claim id -> its finding from equal inputs, taken over as it is; only Holm's adjustment, which depends on all claims, is made anew.
    """
    folder, scale, known = Path(profile_folder), load_scale() if scale is None else scale, known or {}
    runs, digest = by_name_and_seed(records), cache(file_sha256)
    claims = [about_what_was_run(claim, runs) for claim in claims]
    gathered = [None if claim.id in known else _gather(folder, claim, runs, digest) for claim in claims]
    drawn = resample_together([one for claim, own in zip(claims, gathered, strict=True) if own for one in _needed(claim, own)], draws)
    found = [
        _find(folder, claim, own, runs, scale, draws, drawn) if own else known[claim.id] | {"p_holm": None, "holm_family": 0}
        for claim, own in zip(claims, gathered, strict=True)
    ]
    judged = [entry for entry in found if entry["p"] is not None]
    for entry, p in zip(judged, holm([entry["p"] for entry in judged]), strict=True):
        entry |= {"p_holm": p, "holm_family": len(judged)}
    return found


def about_what_was_run(claim: Claim, runs: Mapping[str, Mapping[int, dict]]) -> Claim:
    """The claim, with the conditions that stand in for others where more of them have finished: all or none, so that both sides are of one kind."""

    def finished(condition: Condition) -> bool:
        return any(record["status"] == "finished" for record in runs.get(condition.run, {}).values())

    paired = [condition for condition in (*claim.better, *claim.worse) if condition.instead]
    if sum(finished(one.instead) for one in paired) <= sum(map(finished, paired)):
        return claim
    better, worse = (tuple(one.instead or one for one in side) for side in (claim.better, claim.worse))
    return replace(claim, better=better, worse=worse)


def by_name_and_seed(records: Iterable[dict], planned: Collection[str] = ()) -> dict[str, dict[int, dict]]:
    """name -> seed -> the record that counts: a planned one (planned: run ids) before others, a finished one before a failed one, then the later."""

    def rank(record: dict) -> tuple:
        return record["run_id"] in planned, record["status"] == "finished", record["finished"], record["run_id"]

    runs: dict[str, dict[int, dict]] = {}
    for record in sorted(records, key=rank):
        runs.setdefault(record["name"], {})[record["config"].get("seed", 0)] = record
    return {name: dict(sorted(seeds.items())) for name, seeds in runs.items()}


def conditions_here(claim: Claim, profile: str) -> list[tuple[str, Condition]]:
    """The claim's conditions that this profile has, each with its side, "better" or "worse"."""
    wanted = [(side, condition) for side in ("better", "worse") for condition in getattr(claim, side)]
    return [(side, condition) for side, condition in wanted if profile in condition.profiles]


def _gather(folder: Path, claim: Claim, runs: Mapping[str, Mapping[int, dict]], digest: Callable[[Path], str]) -> _Gathered:
    here = conditions_here(claim, folder.name)
    scored: dict[str, dict[str, dict[int, Scored]]] = {"better": {}, "worse": {}}
    used, reasons = [], []
    for side, condition in here:
        try:
            finished = _usable(folder.name, condition, runs.get(condition.run, {}))
            scored[side][condition.run] = {seed: _scored(folder, record, claim, digest) for seed, record in finished.items()}
            used += finished.values()
        except (BadInput, ValueError) as error:
            reasons.append(str(error).replace(f"{folder.resolve()}/", ""))  # a page must not depend on where it was made
    if not set(claim.sides) <= {side for side, _ in here}:
        reasons.append(_why_not_here(claim, folder.name))
    conditions = [condition for _, condition in here]
    left_out = [condition.run for condition in (*claim.better, *claim.worse) if condition not in conditions]
    return _Gathered(conditions, left_out, scored, used, reasons)


def _why_not_here(claim: Claim, profile: str) -> str:
    if claim.rule != "value":
        return f"this claim's conditions are not run at profile {profile}"
    (condition,) = claim.better
    profiles = f"profile{'s' if len(condition.profiles) > 1 else ''} {', '.join(condition.profiles)}"
    has = "has" if len(condition.profiles) == 1 else "have"
    elsewhere = f"elsewhere a run {condition.run} stands in the tables of {condition.experiment} alone"
    return f"an absolute score says nothing on other data: only {profiles} {has} this condition; {elsewhere}"


def _needed(claim: Claim, gathered: _Gathered) -> list[Statistic]:
    """What must be drawn to judge a claim: nothing where a side is missing."""
    if not all(gathered.scored[side] for side in claim.sides):
        return []
    return [statistic for system in gathered.systems for statistic in statistics_of(system, (claim.metric, *claim.also))]


def _find(folder: Path, claim: Claim, gathered: _Gathered, runs: Mapping[str, Mapping[int, dict]], scale: dict, draws: int, drawn) -> dict:
    scored, used, reasons = gathered.scored, gathered.used, list(gathered.reasons)
    judged, problem = _judge_or_say_why(claim, scored, used, draws, drawn)
    reasons += [problem] if problem else []
    if reasons:
        judged |= {"finding": NOT_RUN, "p": None}
    return {
        **_describe(claim),
        **judged,
        "p_holm": None,
        "holm_family": 0,
        "reason": "; ".join(reasons),
        "scale": _scale_of_value(claim, folder.name, used) if claim.rule == "value" else _scale(folder.name, used, scale),
        "left_out": gathered.left_out,
        "runs": [record["run_id"] for record in used],
        "failed_runs": [r["run_id"] for c in gathered.conditions for r in runs.get(c.run, {}).values() if r["status"] == "failed"],
        "signature": gathered.systems[0].signature if gathered.systems else None,
        "test": [] if reasons else _on_test(claim, used),
        "command": _command(claim, folder.name, gathered.conditions, used),
    }


def _judge_or_say_why(claim: Claim, scored: dict, used: Sequence[dict], draws: int, drawn) -> tuple[dict, str]:
    """What was measured of the pairs whose conditions are there, and why no more could be ("" where a missing condition is the reason)."""
    nothing = {"finding": NOT_RUN, "p": None, "parts": []}
    if not all(scored[side] for side in claim.sides):
        return nothing, ""
    if len({record["files"]["references"]["sha256"] for record in used}) > 1:
        return nothing, "the runs were scored against different references"
    try:
        return judge(claim, scored["better"], scored["worse"], draws, drawn=drawn), ""
    except ValueError as error:
        return nothing, str(error)


def _describe(claim: Claim) -> dict:
    content = asdict(claim) | {"better": [c.run for c in claim.better], "worse": [c.run for c in claim.worse], "also": list(claim.also)}
    return {**content, "rule": RULES[claim.rule], "published_value": claim.published_value}


def _usable(profile: str, condition: Condition, seeds: Mapping[int, dict]) -> dict[int, dict]:
    """The finished records of a condition by seed. BadInput says why there are none."""
    finished = {s: record for s, record in seeds.items() if record["status"] == "finished"}
    if not finished:
        failed = next((f" (it failed: {record['reason']})" for record in seeds.values()), "")
        raise BadInput(f"{condition.run} was not run{failed}")
    for record in finished.values():
        encoder = record["encoder"]
        tag, trained_on = encoder.get("tag") or "", _pretraining(encoder)
        # A net of another family or without its ImageNet weights says nothing of the paper's; the demo's own nets are small members of each family.
        has = {"ImageNet": "ImageNet" in trained_on, "random": trained_on == "none", "own": encoder.get("source") == "file"}
        if profile != "demo" and not (tag.startswith(condition.encoder) and has[condition.weights]):
            wanted = {"ImageNet": f"ImageNet-trained {condition.encoder}", "random": f"random {condition.encoder}"}
            kind = wanted.get(condition.weights, f"{condition.encoder} of a file")
            raise BadInput(f"{record['run_id']} has no {kind} encoder, but {tag or 'one without a tag'} ({trained_on})")
    return finished


def _pretraining(encoder: dict) -> str:
    return pretraining(encoder.get("tag") or "", encoder.get("source") or "", encoder.get("sha256") or "none")


def _scored(folder: Path, record: dict, claim: Claim, digest: Callable[[Path], str]) -> Scored:
    """A run's scores under the claim's protocol. BadInput or ValueError where its files cannot be used or a metric is not to be had."""
    digests = tuple(_checked_file(folder, record, kind, digest) for kind in ("references", "captions"))
    wanted = (claim.metric, *claim.also)
    families = tuple(sorted({"BLEU" if metric.startswith("BLEU") else metric for metric in wanted}))
    scored = _measure(str(digests[1][0]), claim.split, claim.protocol, str(claim.beam), families, tuple(digest for _, digest in digests))
    if scored is None:
        raise BadInput(f"{record['run_id']} was not decoded at beam {claim.beam}")
    missing = [metric for metric in wanted if not any(metric in statistic.names for statistic in scored.statistics)]
    if missing:
        raise BadInput(f"{record['run_id']} has no {missing[0]}: {scored.not_available.get(missing[0], 'not scored')}")
    return scored


@lru_cache(maxsize=512)  # a report is built again after every run
def _measure(path: str, split: str, protocol: str, beam: str, families: tuple[str, ...], digests: tuple[str, ...]) -> Scored | None:
    """None where it was not decoded at this beam. families: what is wanted of coco-caption's metrics, of which some take long. digests: of the files
    that are read, so that changed ones are read again."""
    saved = read_predictions(path, split)
    if protocol == "published":
        return saved.score_published()
    if beam not in saved.said:
        return None
    if protocol == "free":
        return saved.score_free(beam)
    return score_coco(saved.said[beam], saved.raw, families, **saved.fields | {"specials": "dropped", "beam": beam})


def _checked_file(folder: Path, record: dict, kind: str, digest: Callable[[Path], str]) -> tuple[Path, str]:
    """A record's file and its sha256. BadInput if there is none, it lies outside the profile, or it is not the one that the record was made with."""
    about = record["files"].get(kind)
    if not about:
        raise BadInput(f"{record['run_id']} has no {kind} file")
    path = (folder / about["path"]).resolve()
    if not path.is_relative_to(folder.resolve()):
        raise BadInput(f"{record['run_id']}: its {kind} file {about['path']!r} lies outside {folder.name}/; not read")
    try:
        found = digest(path)
    except OSError as error:
        raise BadInput(f"{record['run_id']}: its {kind} file {about['path']}: {error.strerror}; run again to remake it") from None
    if found != about.get("sha256"):
        raise BadInput(
            f"{record['run_id']}: its {kind} file {about['path']} is not the one it was scored on (sha256 differs); run again to remake it"
        )
    return path, found


def _scale(profile: str, used: Sequence[dict], paper: dict) -> dict:
    """Whether data and models are the paper's: {"text", "is_paper" (None where nothing was run), "reasons"}. Its decoding is not known to anybody."""
    reasons = [] if profile == paper["data"] else [f"data: {profile}, the paper's are {paper['data']}"]
    encoders: dict[str, list[str]] = {}
    for record in used:
        data, tag, trained_on = record["data"], record["encoder"].get("tag"), _pretraining(record["encoder"])
        sizes = {split: data.get("images", {}).get(split) for split in paper["images"]}
        if profile == paper["data"] and sizes != paper["images"]:
            reasons.append(f"images: {_counts(sizes)}, the paper's split has {_counts(paper['images'])}")
        if data.get("splits", "given") != "given":
            reasons.append(f"splits: {data['splits']}")
        if trained_on != paper["pretraining"]:
            encoders.setdefault(f"encoder trained on {trained_on}, the paper's on {paper['pretraining']}", []).append(record["name"])
        elif tag not in (weights.tag for weights in WEIGHTS):
            encoders.setdefault(f"{tag} is none of the paper's encoders", []).append(record["name"])
    reasons += [f"{', '.join(dict.fromkeys(names))}: {reason}" for reason, names in encoders.items()]
    is_paper = False if reasons else True if used else None
    text = {False: "not the paper's scale", True: "the paper's data and models, as far as they are known", None: "nothing was run"}
    return {"text": text[is_paper], "is_paper": is_paper, "reasons": list(dict.fromkeys(reasons))}


def _scale_of_value(claim: Claim, profile: str, used: Sequence[dict]) -> dict:
    """As `_scale`, of a claimed value, whose source is not the paper: whether the data are its source's."""
    theirs = claim.better_number.data_set
    reasons = [] if theirs.lower() == profile else [f"data: {profile}, the published value's are {theirs}"]
    reasons += [f"splits: {record['data']['splits']}" for record in used if record["data"].get("splits", "given") != "given"]
    is_theirs = None if not used else not reasons
    text = {False: "not its source's data", True: "its source's data, as far as they are known", None: "nothing was run"}
    return {"text": text[is_theirs], "is_paper": is_theirs, "reasons": list(dict.fromkeys(reasons))}


def _counts(images: dict) -> str:
    return ", ".join(f"{count:,} {split}" if count is not None else f"? {split}" for split, count in images.items())


def _on_test(claim: Claim, used: Sequence[dict]) -> list[dict]:
    """The same comparison on the test split, from the records: per pair the means over seeds and their relative difference in percent; no test is made. Of a
    claimed value its mean alone."""

    def by_seed(run: str) -> dict[int, float | None]:
        found = {
            record["config"]["seed"]: record["scores"].get("test", {}).get(claim.protocol, {}) for record in used if record["name"] == run
        }
        found = {seed: content if claim.beam is None else content.get(str(claim.beam), {}) for seed, content in found.items()}
        return {seed: content.get("scores", {}).get(claim.metric) for seed, content in found.items()}

    def mean(values: dict[int, float | None]) -> float | None:
        return None if None in values.values() or not values else float(np.mean(list(values.values())))

    values = {condition.run: by_seed(condition.run) for condition in (*claim.better, *claim.worse)}
    if claim.rule == "value":
        ((run, only),) = values.items()
        return [{"better": run, "worse": None, "better_mean": mean(only)}] if mean(only) is not None else []
    found = []
    for a, b in [(a.run, b.run) for a in claim.better for b in claim.worse]:
        first, second = mean(values[a]), mean(values[b])
        if first is not None and second:
            difference = 100 * (first / second - 1)
            found.append({"better": a, "worse": b, "better_mean": first, "worse_mean": second, "relative_difference": difference})
    return found


def _command(claim: Claim, profile: str, conditions: Sequence[Condition], used: Sequence[dict]) -> str:
    """The call that makes (or remakes, with --force) all runs of a claim; where this profile has none of its conditions, at the first that has."""
    if not conditions:
        everywhere = (*claim.better, *claim.worse)
        profile = everywhere[0].profiles[0]
        conditions = [condition for condition in everywhere if profile in condition.profiles]
    only = " ".join(dict.fromkeys(f"{condition.experiment}:{condition.run}" for condition in conditions))
    seeds = {record["config"].get("seed", 0) for record in used} or {0}
    which = f"--seed {max(seeds)}" if len(seeds) == 1 and max(seeds) else f"--seeds {1 + max(seeds)}"
    data = "" if profile == "demo" else " --data DIR"
    data += "".join(dict.fromkeys(f" --encoder FILE.py:{condition.encoder}" for condition in conditions if condition.weights == "own"))
    return f"python benchmarks/run_all.py --profile {profile}{data} --only {only} {which}"
