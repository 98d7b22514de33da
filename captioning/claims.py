"""The one rule that says what measured captions make of a claim, its intervals, p-values and smallest detectable differences. No torch.

`RULES` is the rule in words, as a report prints it; `judge` applies it. A published number is only shown and compared with an interval: both arms of
every test are measured here, and a claim of an absolute value is not tested at all.
"""

import contextlib
from collections.abc import Collection, Iterable, Mapping, Sequence
from statistics import NormalDist

import numpy as np

from captioning.protocols import Scored
from captioning.published import Claim
from captioning.statistics import DRAWS, SEED, Statistic, image_counts, interval

NOT_RUN, CONTRADICTED, REPRODUCED = "not run", "contradicted", "reproduced"
SAME_SIGN_SMALLER, SAME_SIGN_LARGER = "direction only, smaller", "direction only, larger"
TOO_SMALL, TOO_CLOSE = "smaller than published", "too close to call"
BELOW, ABOVE = "below the published value", "above the published value"
FINDINGS = (NOT_RUN, CONTRADICTED, REPRODUCED, SAME_SIGN_SMALLER, SAME_SIGN_LARGER, TOO_SMALL, TOO_CLOSE, BELOW, ABOVE)

LEAST_IMAGES = 30  # resampling fewer says next to nothing of other images: with one, every draw is the same
_NOT_RUN = (
    f"Not run: a condition has no measurement, or was scored on fewer than {LEAST_IMAGES} images, or the second condition scores 0, on all images or in so "
    "many draws that the interval has no end."
)
_SIZE = (
    f"The first that holds. {_NOT_RUN} Contradicted: the interval of the measured relative difference excludes 0, with the "
    "other sign. Reproduced: it includes the published difference and excludes 0. Direction only, smaller (or larger): it excludes 0 with the same sign, "
    "and the published difference lies beyond it (or nearer to 0). Smaller than published: it includes 0 and excludes the published difference. "
    "Too close to call: it includes both."
)
_DIRECTION = (
    f"Only a direction is claimed. {_NOT_RUN} Contradicted: the interval of the measured relative difference excludes 0, "
    "with the other sign. Reproduced: it excludes 0 with the claimed sign. Too close to call: it includes 0."
)
_VALUE = (
    "An absolute value is claimed, which says nothing on other data: the condition is run on the claim's kind of data alone. Nothing is tested, since a "
    f"published constant has no spread: no p, no part in Holm's correction. Not run: the condition has no measurement, or was scored on fewer than "
    f"{LEAST_IMAGES} images. Reproduced: the interval of the measured value includes the published value. Below (or above) the published value: it lies "
    "wholly below (or above) it."
)
RULES = {
    "size": _SIZE,
    "direction": _DIRECTION,
    "every": f"Every pair must hold. {_DIRECTION} The claim's finding is its worst pair's: not run, then contradicted, then too close to call.",
    "value": _VALUE,
}
SEEDS_WANTED = 5  # fewer say too little of the spread between seeds to resample them
PLANNED = ((1000, 1), (1000, 5), (5000, 1), (5000, 5))  # images (Flickr8k's and COCO's validation splits) and seeds to plan for


def finding_of(ends: Sequence[float], sign: int, published: float | None = None) -> str:
    """What the interval of a measured relative difference makes of a claim: `RULES` in code. All in percent; sign +1 or -1 is the claimed one."""
    low, high = sorted(sign * end for end in ends)
    if high < 0:
        return CONTRADICTED
    if published is None:
        return REPRODUCED if low > 0 else TOO_CLOSE
    size = sign * published
    if low > 0:
        return REPRODUCED if low <= size <= high else SAME_SIGN_SMALLER if size > high else SAME_SIGN_LARGER
    return TOO_CLOSE if size <= high else TOO_SMALL


def finding_of_value(ends: Sequence[float], published: float) -> str:
    """What the interval of a measured value makes of a claimed one, both in one unit."""
    low, high = ends
    return REPRODUCED if low <= published <= high else BELOW if high < published else ABOVE


def judge(
    claim: Claim,
    better: Mapping[str, Mapping[int, Scored]],
    worse: Mapping[str, Mapping[int, Scored]],
    draws: int = DRAWS,
    seed: int = SEED,
    drawn: Mapping[Statistic, Mapping[str, np.ndarray]] | None = None,
) -> dict:
    """What was measured for a claim and what that makes of it. better, worse: run name -> seed -> its scores, all of the same images by the same rules.

    Back: {"finding", "p", "parts"}; a part is a pair of conditions: {"better", "worse" (run names), "values" (metric -> side -> seed -> value),
    "relative_difference", "interval", "interval_kind", "seed_differences", "p", "finding", "also", "images", "detectable"}, differences in percent of
    the worse condition's mean over seeds. Of a claimed value (`worse` empty) the one part has its "value", the mean over seeds, in place of a difference,
    and no p. Images are drawn once for all runs and seeds; seeds too, each condition's by itself, where both have
    five or more ("images and seeds"); else the interval is "images only", of the runs that there are. All seeds of both are compared, the
    mean of the ones with the mean of the others. Five seeds resampled show about a tenth too little of their spread.
    The p of several pairs: the largest, since all must hold; where one is contradicted, that pair's times the number of pairs.
    drawn: what `resample_together` gave for `statistics_of` these runs with these draws and this seed; by default it is made here.
    Raises ValueError for runs that cannot be compared, and where `RULES` calls the claim not run.
    """
    systems = [scored for side in (better, worse) for seeds in side.values() for scored in seeds.values()]
    problem = incomparable(systems)
    if problem:
        raise ValueError(problem)
    if len(systems[0].ids) < LEAST_IMAGES:
        raise ValueError(f"too few images ({len(systems[0].ids)}; {LEAST_IMAGES} are the least)")
    metrics = (claim.metric, *claim.also)
    if drawn is None:
        drawn = resample_together([one for scored in systems for one in statistics_of(scored, metrics)], draws, seed)
    sides = [
        {run: {s: (scored, _values(scored, metrics, drawn)) for s, scored in seeds.items()} for run, seeds in side.items()}
        for side in (better, worse)
    ]
    if claim.rule == "value":
        part = _judge_value(claim, *sides[0].items(), seed)
        return {"finding": part["finding"], "p": None, "parts": [part]}
    parts = []
    for a in better:
        for b in worse:
            parts.append(_judge_pair(claim, (a, sides[0][a]), (b, sides[1][b]), seed))
    finding = min((part["finding"] for part in parts), key=_badness) if len(parts) > 1 else parts[0]["finding"]
    p = max(part["p"] for part in parts)
    if finding == CONTRADICTED:
        p = min(1.0, len(parts) * min(part["p"] for part in parts if part["finding"] == CONTRADICTED))
    return {"finding": finding, "p": p, "parts": parts}


def _badness(finding: str) -> int:
    return (CONTRADICTED, TOO_CLOSE, REPRODUCED).index(finding)


def incomparable(systems: Sequence[Scored]) -> str | None:
    """Why these cannot be compared, or None. How the checkpoint was selected belongs to a system; all else of a signature must agree."""

    def rules(scored: Scored) -> str:
        return "|".join(field for field in scored.signature.split("|") if not field.startswith("select:"))

    if any(scored.ids != systems[0].ids for scored in systems):
        return "the runs were not scored on the same images"
    signatures = {rules(scored) for scored in systems}
    return None if len(signatures) == 1 else f"the runs were scored by different rules: {' and '.join(sorted(signatures))}"


def statistics_of(scored: Scored, metrics: Collection[str]) -> list[Statistic]:
    """Those statistics of a system that any of these metrics comes out of."""
    return [statistic for statistic in scored.statistics if not set(metrics).isdisjoint(statistic.names)]


def resample_together(statistics: Iterable[Statistic], draws: int = DRAWS, seed: int = SEED) -> dict[Statistic, dict[str, np.ndarray]]:
    """Per statistic: metric -> (draws,) values. Images are drawn once for all statistics of as many images.

    Each is multiplied by itself, so that its last digits do not depend on which others are drawn with it.
    """
    groups: dict[int, list[Statistic]] = {}
    for statistic in dict.fromkeys(statistics):
        groups.setdefault(len(statistic.rows), []).append(statistic)
    drawn = {}
    for images, group in groups.items():
        blocks = [[counts @ statistic.rows for statistic in group] for counts in image_counts(images, draws, seed)]
        for statistic, sums in zip(group, zip(*blocks, strict=True), strict=True):
            drawn[statistic] = dict(zip(statistic.names, statistic.finish(np.concatenate(sums)).T, strict=True))
    return drawn


def _values(scored: Scored, metrics: Sequence[str], drawn: Mapping[Statistic, Mapping[str, np.ndarray]]) -> dict[str, np.ndarray]:
    """metric -> (draws,) values of one system."""
    return {metric: drawn[one][metric] for metric in metrics for one in statistics_of(scored, [metric])}


def _judge_pair(claim: Claim, better: tuple[str, dict], worse: tuple[str, dict], seed: int) -> dict:
    """better, worse: (run name, {seed: (Scored, metric -> (draws,) values)})."""
    main = _compare(claim.metric, better[1], worse[1], seed)
    pairs = {claim.metric: main}
    for metric in claim.also:
        with contextlib.suppress(ValueError):  # nothing is judged by it: a penalty of 0, say, just does not stand beside
            pairs[metric] = _compare(metric, better[1], worse[1], seed)
    scores = {
        side: {str(s): scored.scores() for s, (scored, _) in runs.items()} for side, runs in (("better", better[1]), ("worse", worse[1]))
    }
    values = {metric: {side: {s: found[metric] for s, found in by_seed.items()} for side, by_seed in scores.items()} for metric in pairs}
    also = {}
    for metric in [metric for metric in claim.also if metric in pairs]:
        also[metric] = {name: pairs[metric][name] for name in ("relative_difference", "interval")}
        if metric == claim.published_metric:
            also[metric]["finding"] = finding_of(pairs[metric]["interval"], claim.sign, claim.published_difference)
    return {
        "better": better[0],
        "worse": worse[0],
        "values": values,
        **main,
        "finding": finding_of(main["interval"], claim.sign, claim.published_difference),
        "also": also,
        "images": len(next(iter(better[1].values()))[0].ids),
    }


def _judge_value(claim: Claim, condition: tuple[str, dict], seed: int) -> dict:
    """condition: (run name, {seed: (Scored, metric -> (draws,) values)})."""
    run, by_seed = condition
    values = {str(s): scored.scores()[claim.metric] for s, (scored, _) in by_seed.items()}
    drawn = np.stack([found[claim.metric] for _, found in by_seed.values()], axis=1)  # (draws, seeds)
    both = len(by_seed) >= SEEDS_WANTED
    means = _mean_of_drawn_seeds(drawn, np.random.default_rng(seed)) if both else drawn.mean(axis=1)
    ends = list(interval(means))
    return {
        "better": run,
        "worse": None,
        "values": {claim.metric: {"better": values}},
        "value": float(np.mean(list(values.values()))),
        "interval": ends,
        "interval_kind": _kind(both),
        "p": None,
        "finding": finding_of_value(ends, claim.published_value),
        "also": {},
        "images": len(next(iter(by_seed.values()))[0].ids),
    }


def _kind(both: bool) -> str:
    return "images and seeds" if both else "images only"


def _compare(metric: str, better: dict, worse: dict, seed: int) -> dict:
    """One metric of two conditions. better, worse: {seed: (Scored, metric -> (draws,) values)}."""
    a, b = (np.array([scored.scores()[metric] for scored, _ in side.values()]) for side in (better, worse))  # (seeds,)
    if not b.mean():
        raise ValueError(f"{metric} of the second condition is 0; there is no relative difference")
    a_draws, b_draws = (np.stack([values[metric] for _, values in side.values()], axis=1) for side in (better, worse))  # (draws, seeds)
    images_only = _relative(a_draws.mean(axis=1), b_draws.mean(axis=1))
    both = min(len(a), len(b)) >= SEEDS_WANTED
    differences = images_only
    if both:
        generator = np.random.default_rng(seed)
        differences = _relative(_mean_of_drawn_seeds(a_draws, generator), _mean_of_drawn_seeds(b_draws, generator))
    spreads = _seed_variances(a, b) if max(len(a), len(b)) > 1 else None
    images, seeds = len(next(iter(better.values()))[0].ids), min(len(a), len(b))
    error = _standard_error(images_only, metric)
    measured = None if spreads is None else spreads[0] / len(a) + spreads[1] / len(b)
    least = {(images, seeds): detectable_difference(error, images, images, measured)}
    for n, k in PLANNED:
        least.setdefault((n, k), detectable_difference(error, images, n, sum(spreads) if spreads else None, k))
    each = {s: (better[s][0].scores()[metric], worse[s][0].scores()[metric]) for s in better if s in worse}
    return {
        "relative_difference": float(_relative(a.mean(), b.mean())),
        "interval": _ends(differences, metric),
        "interval_kind": _kind(both),
        "seed_differences": {str(s): float(_relative(*values)) for s, values in each.items() if values[1]},
        "p": p_value(differences),
        "detectable": [
            {"images": n, "seeds": k, "percent": percent, "spread_of_seeds": spreads is not None} for (n, k), percent in least.items()
        ],
    }


def _relative(better: np.ndarray, worse: np.ndarray) -> np.ndarray:
    """Difference in percent of `worse`. In a draw where `worse` alone is 0 it is infinite, where both are there is no difference."""
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.where((better == 0) & (worse == 0), 0.0, 100 * (np.divide(better, worse) - 1))


def _ends(differences: np.ndarray, metric: str) -> list[float]:
    """Their 95 % interval. Infinite draws take their place at its upper end, as any that is larger than all others; ValueError where they reach into it."""
    with np.errstate(invalid="ignore"):
        ends = list(interval(differences))
    if not np.all(np.isfinite(ends)):
        infinite = np.count_nonzero(np.isinf(differences))
        raise ValueError(
            f"{metric} of the second condition is 0 in {infinite:,} of {len(differences):,} draws; the interval of a relative difference has no end"
        )
    return ends


def _standard_error(differences: np.ndarray, metric: str) -> float:
    """Of the draws; where some are infinite, from their interval's width, as if they were normal."""
    if np.all(np.isfinite(differences)):
        return float(np.std(differences))
    low, high = _ends(differences, metric)
    return (high - low) / (2 * NormalDist().inv_cdf(0.975))


def _mean_of_drawn_seeds(values: np.ndarray, generator: np.random.Generator) -> np.ndarray:
    """(draws, seeds) -> (draws,) means over as many seeds drawn with replacement, anew in each draw."""
    return np.take_along_axis(values, generator.integers(values.shape[1], size=values.shape), axis=1).mean(axis=1)


def p_value(differences: np.ndarray) -> float:
    """Two-sided bootstrap p of "no difference": twice the share of draws on the rarer side of 0, a draw of exactly 0 being on both; one is added to
    that count and to the draws, so that it is never 0 (Davison and Hinkley 1997, eq. 4.11)."""
    rarer = min(np.count_nonzero(differences <= 0), np.count_nonzero(differences >= 0))
    return float(min(1.0, 2 * (rarer + 1) / (len(differences) + 1)))


def holm(p_values: Sequence[float]) -> list[float]:
    """P-values adjusted for their number so that the chance of even one false alarm stays below the level (Holm 1979, step-down), in the order given."""
    adjusted, largest = [0.0] * len(p_values), 0.0
    for rank, k in enumerate(sorted(range(len(p_values)), key=lambda k: p_values[k])):
        largest = max(largest, min(1.0, (len(p_values) - rank) * p_values[k]))
        adjusted[k] = largest
    return adjusted


def detectable_difference(
    error: float,
    images: int,
    at_images: int,
    seed_variance: float | None = None,
    at_seeds: int = 1,
    power: float = 0.8,
    level: float = 0.05,
) -> float:
    """The smallest true difference that a paired test at `level`, two-sided, finds with chance `power` on so many images and seeds.

    (z(1 - level/2) + z(power)) * sqrt(error^2 * images / at_images + seed_variance / at_seeds); in the unit of `error`, the bootstrap standard error
    over images of the paired difference on `images` images. seed_variance: of the difference, from one seed of each condition to the next.
    Assumes: normal errors; seeds and images vary independently; more seeds leave the part of the images as it is. With None the spread between
    seeds is taken as 0, so that the true value is larger.
    """
    normal = NormalDist()
    variance = error**2 * images / at_images + (seed_variance or 0.0) / at_seeds
    return (normal.inv_cdf(1 - level / 2) + normal.inv_cdf(power)) * float(variance) ** 0.5


def _seed_variances(better: np.ndarray, worse: np.ndarray) -> tuple[float, float]:
    """What each side adds to the variance in percent^2 of the relative difference of one seed each, from (seeds,) values of both on the same images;
    first order in their spreads. A side of one seed is taken to spread as the other does, in percent of its mean: then both add the same."""
    a, b = better.mean(), worse.mean()
    added = [100**2 * side.var(ddof=1) * factor if len(side) > 1 else None for side, factor in ((better, 1 / b**2), (worse, a**2 / b**4))]
    known = [float(one) for one in added if one is not None]
    return known[0], known[-1]
