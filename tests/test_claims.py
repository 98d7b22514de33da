"""Claims: the data are whole, the rule gives each of its findings, intervals equal a bootstrap written out, and records become findings. All numbers made up."""

import ast
import gzip
import hashlib
import json
import re
import subprocess
import sys
from dataclasses import replace
from decimal import Decimal
from pathlib import Path

import numpy as np
import pytest

from captioning import claims, published
from captioning.claims import (
    ABOVE,
    BELOW,
    CONTRADICTED,
    FINDINGS,
    NOT_RUN,
    REPRODUCED,
    SAME_SIGN_LARGER,
    SAME_SIGN_SMALLER,
    TOO_CLOSE,
    TOO_SMALL,
    detectable_difference,
    finding_of,
    finding_of_value,
    holm,
    judge,
    p_value,
)
from captioning.findings import findings
from captioning.protocols import Scored, score_free
from captioning.published import FRACTION, Claim, Condition, Number, load_claims, load_numbers, load_scale
from captioning.statistics import image_counts, interval, mean_of

ROOT = Path(__file__).resolve().parents[1]
EVERYWHERE = ("demo", "flickr8k", "coco")
OURS, THEIRS, OTHER = (Condition(run, "encoders", run, EVERYWHERE) for run in ("convnext", "resnet101", "vgg16"))
CLAIM = Claim(
    id="made-up", sentence="Ours is above theirs", source="nowhere", mark="published", better=(OURS,), worse=(THEIRS,), metric="BLEU-4",
    published_metric="BLEU-4", also=(), protocol="free", beam=5, split="val", direction="higher", published_difference=10.0, rule="size",
    better_number=None, worse_number=None, note="",
)  # fmt: skip
EVERY = replace(CLAIM, better=(OURS, OTHER), rule="every", published_difference=None)
LOSS = replace(
    CLAIM, metric="cross-entropy", published_metric="loss", also=("penalty", "loss"), protocol="published", beam=None, direction="lower",
    published_difference=-10.0,
)  # fmt: skip
NUMBER = Number(
    "made-up-value", "BLEU-1", 0.66, FRACTION, "mini-COCO", "not known", "not known", None, None, "theirs", "published", "nowhere", ""
)
VIT = Condition("sep", "systems", "vit_base_patch16_224", ("coco",))
VALUE = replace(
    CLAIM, id="value", better=(VIT,), worse=(), metric="BLEU-1", published_metric="BLEU-1", published_difference=None, rule="value", better_number=NUMBER,
)  # fmt: skip


def scored(metrics: dict[str, np.ndarray], signature: str = "free|split:val") -> Scored:
    """metrics: name -> (N,) values whose mean is the score."""
    statistics = tuple(mean_of(name, values) for name, values in metrics.items())
    return Scored("free", signature, tuple(map(str, range(len(statistics[0].rows)))), statistics)


def pair(difference: float, noise: float, images: int = 200, metric: str = "BLEU-4", seeds: int = 1) -> tuple[dict, dict]:
    """A better and a worse condition whose relative difference is `difference` percent, its standard error over images about `noise` percent."""
    generator = np.random.default_rng(7)
    better, worse = {}, {}
    for seed in range(seeds):
        base = generator.normal(50, 5, images)
        wobble = generator.normal(0, 1, images)
        wobble = (wobble - wobble.mean()) / wobble.std()
        worse[seed] = scored({metric: base})
        better[seed] = scored({metric: base * (1 + difference / 100) + base.mean() * wobble * noise / 100 * images**0.5})
    return {"convnext": better}, {"resnet101": worse}


# ---- The rule ----


@pytest.mark.parametrize(
    "difference, noise, finding",
    [
        (-8, 1, CONTRADICTED),
        (10.5, 1, REPRODUCED),
        (5, 1, SAME_SIGN_SMALLER),
        (20, 1, SAME_SIGN_LARGER),
        (1, 1, TOO_SMALL),
        (-1, 1, TOO_SMALL),
        (6, 6, TOO_CLOSE),
    ],
)
@pytest.mark.parametrize("sign", [1, -1])
def test_every_finding_of_the_rule_with_both_signs(difference, noise, finding, sign):
    claim = CLAIM if sign > 0 else replace(CLAIM, direction="lower", published_difference=-10.0)
    found = judge(claim, *pair(sign * difference, noise), draws=2000)
    assert found["finding"] == finding and finding in FINDINGS
    (part,) = found["parts"]
    assert part["relative_difference"] == pytest.approx(sign * difference, abs=1e-6)
    low, high = part["interval"]
    assert high - low == pytest.approx(2 * 1.96 * noise, rel=0.15)
    assert (found["p"] < 0.05) == (low > 0 or high < 0)
    assert (part["better"], part["worse"], part["images"], part["interval_kind"]) == ("convnext", "resnet101", 200, "images only")
    json.dumps(found, allow_nan=False)


def test_the_rule_at_its_edges():
    assert finding_of((0, 12), 1, 10) == TOO_CLOSE  # an end that is 0 includes 0
    assert finding_of((0, 9), 1, 10) == TOO_SMALL
    assert finding_of((2, 10), 1, 10) == finding_of((-10, -2), -1, -10) == REPRODUCED  # an end that is the published value includes it
    assert finding_of((-3, -1), 1, 10) == finding_of((1, 3), -1, -10) == CONTRADICTED
    assert finding_of((1, 3), 1) == REPRODUCED and finding_of((-1, 3), 1) == TOO_CLOSE and finding_of((-3, -1), 1) == CONTRADICTED
    assert finding_of((0, 0), 1, 10) == TOO_SMALL


def test_the_rule_of_values_at_its_edges():
    assert finding_of_value((64, 67), 66) == finding_of_value((66, 67), 66) == finding_of_value((60, 66), 66) == REPRODUCED
    assert (finding_of_value((60, 65.9), 66), finding_of_value((66.1, 70), 66)) == (BELOW, ABOVE)
    assert {BELOW, ABOVE} < set(FINDINGS)


@pytest.mark.parametrize("mean, finding", [(66.1, REPRODUCED), (63, BELOW), (69, ABOVE)])
@pytest.mark.parametrize("seeds", [1, 5])
def test_every_finding_of_a_claimed_value(mean, finding, seeds):
    """The interval is a bootstrap of the images' mean, written out; a fraction is claimed, scores are times 100; no test is made."""
    values = [np.random.default_rng(seed).normal(0, 5, 200) for seed in range(seeds)]
    values = [mean + own - own.mean() + (seed - (seeds - 1) / 2) / 10 for seed, own in enumerate(values)]
    found = judge(VALUE, {"sep": {s: scored({"BLEU-1": own}) for s, own in enumerate(values)}}, {}, 2000, 3)
    (part,) = found["parts"]
    assert found["finding"] == part["finding"] == finding and found["p"] is part["p"] is None
    counts = np.concatenate(list(image_counts(200, 2000, 3)))
    each = np.stack([counts @ own / 200 for own in values], axis=1)
    if seeds == 5:
        each = np.take_along_axis(each, np.random.default_rng(3).integers(5, size=each.shape), axis=1)
    assert part["interval"] == pytest.approx(np.percentile(each.mean(axis=1), [2.5, 97.5]))
    assert part["value"] == pytest.approx(mean) and part["values"]["BLEU-1"]["better"]["0"] == pytest.approx(values[0].mean())
    assert (part["better"], part["worse"], part["images"]) == ("sep", None, 200)
    assert part["interval_kind"] == ("images and seeds" if seeds == 5 else "images only")
    json.dumps(found, allow_nan=False)
    with pytest.raises(ValueError, match="too few images"):
        judge(VALUE, {"sep": {0: scored({"BLEU-1": values[0][:29]})}}, {}, 10)


@pytest.mark.parametrize(
    "first, second, finding", [(5, 8, REPRODUCED), (5, 0.2, TOO_CLOSE), (5, -8, CONTRADICTED), (0.2, -8, CONTRADICTED)]
)
def test_every_pair_must_hold(first, second, finding):
    better, worse = pair(first, 1)
    better["vgg16"] = pair(second, 1)[0]["convnext"]
    found = judge(EVERY, better, worse, draws=1000)
    assert found["finding"] == finding
    parts = {part["better"]: part["p"] for part in found["parts"]}
    assert found["p"] == (2 * parts["vgg16"] if finding == CONTRADICTED else max(parts.values()))


def test_losses_are_judged_on_cross_entropy_with_the_penalty_beside():
    """The penalty falls by half, cross-entropy by a percent: most of the sum's fall is no fall of cross-entropy."""
    base = np.random.default_rng(0).normal(3, 0.3, 300)
    other = base + np.random.default_rng(1).normal(0, 0.05, 300)
    ours = scored({"cross-entropy": 0.99 * other, "penalty": np.full(300, 0.4), "loss": 0.99 * other + 0.4})
    theirs = scored({"cross-entropy": base, "penalty": np.full(300, 0.8), "loss": base + 0.8})
    found = judge(LOSS, {"convnext": {0: ours}}, {"resnet101": {0: theirs}}, draws=1000)
    (part,) = found["parts"]
    assert found["finding"] == part["finding"] == SAME_SIGN_SMALLER
    assert part["also"]["penalty"]["relative_difference"] == pytest.approx(-50) and "finding" not in part["also"]["penalty"]
    low, high = part["also"]["loss"]["interval"]
    assert low < high < -10 and part["also"]["loss"]["finding"] == SAME_SIGN_LARGER
    assert list(part["values"]) == ["cross-entropy", "penalty", "loss"] and part["values"]["penalty"]["worse"] == {"0": pytest.approx(0.8)}


def test_what_cannot_be_compared_is_refused():
    better, worse = pair(5, 1)
    with pytest.raises(ValueError, match="same images"):
        judge(CLAIM, better, pair(5, 1, images=50)[1], draws=10)
    rules = {"resnet101": {0: replace(worse["resnet101"][0], signature="free|split:val|lenpen:1")}}
    with pytest.raises(ValueError, match="different rules"):
        judge(CLAIM, better, rules, draws=10)
    selected = {"resnet101": {0: replace(worse["resnet101"][0], signature="free|split:val|select:other")}}
    assert judge(CLAIM, better, selected, draws=10)["parts"]
    with pytest.raises(ValueError, match="BLEU-4 of the second condition is 0; there is no relative difference"):
        judge(CLAIM, better, {"resnet101": {0: scored({"BLEU-4": np.zeros(200)})}}, draws=10)


def test_few_images_are_not_judged():
    """One image, drawn again and again, would differ from itself by the same percent in every draw: an interval of width 0 and the smallest p there is."""
    for images in (1, 29):
        ours, theirs = (scored({"BLEU-4": np.full(images, value)}) for value in (55.0, 50.0))
        with pytest.raises(ValueError, match=rf"too few images \({images}; 30 are the least\)"):
            judge(CLAIM, {"convnext": {0: ours}}, {"resnet101": {0: theirs}}, draws=10)
    assert judge(CLAIM, *pair(10, 1, images=30), draws=100)["parts"]
    assert all("fewer than 30 images" in claims.RULES[rule] for rule in published.RULES)


def sparse(nonzero: int, images: int = 60) -> np.ndarray:
    return np.r_[np.full(nonzero, 40.0), np.zeros(images - nonzero)]


def test_a_baseline_of_0_in_a_few_draws_is_judged():
    """Of 60 images 5 have a score. (55/60)^60 = 0.5 % of the draws have none of them: their ratio is infinite, above the upper end, which stays finite."""
    ours = scored({"BLEU-4": np.full(60, 50.0) + sparse(5)})
    theirs = scored({"BLEU-4": sparse(5)})
    found = judge(CLAIM, {"convnext": {0: ours}}, {"resnet101": {0: theirs}}, draws=10_000)
    (part,) = found["parts"]
    counts = np.concatenate(list(image_counts(60, 10_000)))
    draws = [[float(count @ one.statistics[0].rows[:, 0]) for one in (ours, theirs)] for count in counts]
    ratios = sorted(100 * (a / b - 1) if b else np.inf for a, b in draws)
    assert 20 < sum(np.isinf(ratios)) < 120
    assert part["interval"] == pytest.approx(
        [np.percentile(ratios[:9870], 100 * 249.975 / 9869), ratios[9749] + 0.025 * (ratios[9750] - ratios[9749])]
    )
    assert found["finding"] == SAME_SIGN_LARGER and found["p"] == pytest.approx(2 / 10_001)
    json.dumps(found, allow_nan=False)


def test_a_baseline_of_0_in_many_draws_is_not_and_the_rule_says_so(tmp_path):
    """(58/60)^60 = 13 % of the draws have no score: more than lie above an upper end."""
    with pytest.raises(
        ValueError, match=r"BLEU-4 of the second condition is 0 in [\d,]+ of 1,000 draws; the interval of a relative difference has no end"
    ):
        judge(CLAIM, {"convnext": {0: scored({"BLEU-4": sparse(60)})}}, {"resnet101": {0: scored({"BLEU-4": sparse(2)})}}, 1000)
    relative = set(published.RULES) - {"value"}
    assert all("scores 0, on all images or in so many draws" in claims.RULES[rule] for rule in relative)


def test_where_both_are_0_there_is_no_difference():
    both = {0: scored({"BLEU-4": sparse(2)})}
    (part,) = judge(CLAIM, {"convnext": both}, {"resnet101": both}, 1000)["parts"]
    assert part["interval"] == [0, 0] and part["p"] == 1 and part["relative_difference"] == 0


def test_a_seed_or_a_metric_beside_whose_base_is_0_is_left_out():
    base = np.full(60, 3.0)
    worse = {
        0: scored({"cross-entropy": base, "penalty": np.zeros(60), "loss": base}),
        1: scored({"cross-entropy": 0 * base, "penalty": 0 * base, "loss": base}),
    }
    better = {s: scored({"cross-entropy": base, "penalty": np.full(60, 0.4), "loss": base}) for s in (0, 1)}
    (part,) = judge(LOSS, {"convnext": better}, {"resnet101": worse}, 100)["parts"]
    assert list(part["also"]) == ["loss"] and list(part["seed_differences"]) == ["0"] and part["relative_difference"] == pytest.approx(100)


# ---- Intervals ----


def captions(seed: int, wrong: float, images: int = 30) -> tuple[dict, dict]:
    generator = np.random.default_rng(0)
    references = {str(k): [" ".join(generator.choice(list("abcdef"), 9)) for _ in range(3)] for k in range(images)}
    generator = np.random.default_rng(seed)
    candidates = {
        i: " ".join("x" if generator.random() < wrong else word for word in texts[generator.integers(3)].split())
        for i, texts in references.items()
    }
    return candidates, references


@pytest.mark.parametrize("seeds", [2, 5])
def test_interval_is_a_bootstrap_written_out(seeds):
    """Each draw's images scored anew as captions, the same for both systems and all seeds; with five seeds those are drawn too."""
    draws, seed = 40, 3
    sides = [{s: captions(10 * side + s, wrong) for s in range(seeds)} for side, wrong in enumerate((0.05, 0.15))]
    made = [{s: score_free(*both) for s, both in side.items()} for side in sides]
    (part,) = judge(CLAIM, {"convnext": made[0]}, {"resnet101": made[1]}, draws, seed)["parts"]
    counts = np.concatenate(list(image_counts(30, draws, seed))).astype(int)
    generator = np.random.default_rng(seed)
    drawn_seeds = [generator.integers(seeds, size=(draws, seeds)) if seeds >= 5 else np.tile(np.arange(seeds), (draws, 1)) for _ in sides]
    differences = []
    for k in range(draws):
        means = []
        for side, chosen in zip(sides, drawn_seeds, strict=True):
            values = []
            for s in chosen[k]:
                candidates, references = side[int(s)]
                drawn = [(f"{i}-{copy}", str(i)) for i in range(30) for copy in range(counts[k, i])]
                again = score_free({new: candidates[i] for new, i in drawn}, {new: references[i] for new, i in drawn})
                values.append(again.scores()["BLEU-4"])
            means.append(np.mean(values))
        differences.append(100 * (means[0] / means[1] - 1))
    assert part["interval"] == pytest.approx(interval(np.array(differences)), abs=1e-8)
    assert part["p"] == p_value(np.array(differences))
    means = [np.mean([system.scores()["BLEU-4"] for system in side.values()]) for side in made]
    assert part["relative_difference"] == pytest.approx(100 * (means[0] / means[1] - 1))
    assert part["interval_kind"] == ("images and seeds" if seeds == 5 else "images only")
    each = [100 * (made[0][s].scores()["BLEU-4"] / made[1][s].scores()["BLEU-4"] - 1) for s in range(seeds)]
    assert part["seed_differences"] == {str(s): pytest.approx(value) for s, value in enumerate(each)}


def test_seeds_widen_the_interval_from_five_on_in_both():
    generator = np.random.default_rng(2)
    base = generator.normal(50, 5, 300)
    sides = [{s: scored({"BLEU-4": base + shift + generator.normal(0, 2)}) for s in range(5)} for shift in (2, 0)]
    five = judge(CLAIM, {"convnext": sides[0]}, {"resnet101": sides[1]}, 2000)["parts"][0]
    four = {s: sides[1][s] for s in range(4)}
    fewer = judge(CLAIM, {"convnext": sides[0]}, {"resnet101": four}, 2000)["parts"][0]
    assert (five["interval_kind"], fewer["interval_kind"]) == ("images and seeds", "images only")
    width, narrow = (np.ptp(part["interval"]) for part in (five, fewer))
    # Seeds' standard deviation is about 2 of 50 in each arm: 100 * 2 / 50 * sqrt(2 / 5) = 2.5 %; the images cancel.
    assert 5 < width < 15 and narrow < 1
    assert list(fewer["seed_differences"]) == ["0", "1", "2", "3"]


@pytest.mark.parametrize("better, worse", [((3,), (0, 1, 2)), ((0, 1, 2, 3, 4), (1,)), ((2,), (0, 1)), ((0, 1, 2, 3, 4), (0, 1, 2, 3))])
def test_all_seeds_of_both_are_compared(better, worse):
    """Else the one seed that both have may be the best of the one side's, and nobody sees the others."""
    generator = np.random.default_rng(3)
    values = {seed: generator.normal(50 + seed, 5, 100) for seed in range(5)}
    sides = [{seed: scored({"BLEU-4": values[seed] + shift}) for seed in seeds} for seeds, shift in ((better, 2), (worse, 0))]
    part = judge(CLAIM, {"convnext": sides[0]}, {"resnet101": sides[1]}, 200)["parts"][0]
    means = [np.mean([values[seed].mean() + shift for seed in seeds]) for seeds, shift in ((better, 2), (worse, 0))]
    assert part["relative_difference"] == pytest.approx(100 * (means[0] / means[1] - 1))
    low, high = part["interval"]
    assert low < part["relative_difference"] < high and part["interval_kind"] == "images only"
    assert {side: tuple(map(int, by_seed)) for side, by_seed in part["values"]["BLEU-4"].items()} == {"better": better, "worse": worse}


def test_p_values_by_hand():
    assert p_value(np.array([1.0] * 97 + [-1.0] * 2)) == pytest.approx(2 * 3 / 100)
    assert p_value(np.array([1.0] * 99)) == pytest.approx(2 / 100)
    assert p_value(np.zeros(10)) == 1.0


def test_holm_by_hand():
    """Sorted 0.005, 0.01, 0.03, 0.04 times 4, 3, 2, 1: 0.02, 0.03, 0.06, 0.04, and no smaller than the one before."""
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert holm([0.9, 0.8]) == [1.0, 1.0] and holm([0.04]) == [0.04] and holm([]) == []


def test_detectable_difference_is_found_four_times_in_five():
    """Simulated: captioners that truly differ by the smallest detectable difference, tested by judge's own interval."""
    generator = np.random.default_rng(5)
    images, noise = 150, 8.0
    true = detectable_difference(100 * noise / 50 / images**0.5, images, images)
    found = 0
    for _ in range(200):
        base = np.full(images, 50.0)
        ours = base * (1 + true / 100) + generator.normal(0, noise, images)
        found += judge(CLAIM, {"convnext": {0: scored({"BLEU-4": ours})}}, {"resnet101": {0: scored({"BLEU-4": base})}}, 300)["p"] < 0.05
    assert 0.72 < found / 200 < 0.88


def test_detectable_difference_by_images_and_seeds():
    """Four times the images halve the images' part; the seeds' part is that of a difference of two means, simulated."""
    z = 1.959964 + 0.841621
    assert detectable_difference(1.0, 1000, 1000) == pytest.approx(z, abs=1e-5)
    assert detectable_difference(1.0, 1000, 4000) == pytest.approx(z / 2, abs=1e-5)
    generator = np.random.default_rng(6)
    ours, theirs = generator.normal(52, 1, 2000), generator.normal(50, 2, 2000)
    sides = [{s: scored({"BLEU-4": np.full(30, value)}) for s, value in enumerate(values[:200])} for values in (ours, theirs)]
    rows = judge(CLAIM, {"convnext": sides[0]}, {"resnet101": sides[1]}, 50)["parts"][0]["detectable"]
    wanted = {(row["images"], row["seeds"]): row["percent"] for row in rows}
    assert rows[0]["images"] == 30 and rows[0]["seeds"] == 200 and set(claims.PLANNED) <= set(wanted)
    spread = np.std(100 * (ours.reshape(-1, 5).mean(axis=1) / theirs.reshape(-1, 5).mean(axis=1) - 1))
    assert wanted[1000, 5] == pytest.approx(z * spread, rel=0.15)
    assert all(row["spread_of_seeds"] for row in rows)
    # One seed on a side: it is taken to spread as the other does, in percent of its mean.
    lone = judge(CLAIM, {"convnext": sides[0]}, {"resnet101": {0: scored({"BLEU-4": np.full(30, 48.0)})}}, 50)["parts"][0]["detectable"]
    wanted = z * np.sqrt(2 / 5) * 100 * np.std(ours[:200], ddof=1) / 48
    assert {row["seeds"]: row["percent"] for row in lone}[5] == pytest.approx(wanted) and lone[0]["seeds"] == 1
    assert all(row["spread_of_seeds"] for row in lone)
    # Five seeds against one: as measured with what each has.
    five = {"convnext": {s: sides[0][s] for s in range(5)}}, {"resnet101": {0: scored({"BLEU-4": np.full(30, 48.0)})}}
    (first, *_) = judge(CLAIM, *five, 50)["parts"][0]["detectable"]
    wanted = z * np.sqrt(1 / 5 + 1) * 100 * np.std(ours[:5], ddof=1) / 48
    assert first["seeds"] == 1 and first["percent"] == pytest.approx(wanted)
    alone = judge(CLAIM, *pair(5, 1), draws=50)["parts"][0]["detectable"]
    assert not any(row["spread_of_seeds"] for row in alone)


# ---- From records ----


def write_lines(path: Path, lines: list[dict]) -> dict:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(gzip.compress("\n".join(map(json.dumps, lines)).encode(), mtime=0))
    return {"path": f"captions/{path.name}", "sha256": hashlib.sha256(path.read_bytes()).hexdigest()}


def make_run(home: Path, name: str, seed: int, wrong: float, tag: str) -> dict:
    """A record with predictions of 40 validation images, whose words are wrong with the given chance."""
    candidates, references = captions(hash_of(name, seed), wrong, images=40)
    own = [{"id": i, "split": "val", "tokens": texts, "raw": texts} for i, texts in references.items()]
    about = write_lines(home / "captions/references-00.jsonl.gz", own)
    header = {"schema": 1, "run_id": f"{name}-{seed}", "vocabulary": list("abcdefx"), "references": "references-00.jsonl.gz", "beams": [5]}
    lines: list[dict] = [header]
    for i, text in candidates.items():
        loss = 9 * (2 + 3 * wrong) + int(i) % 3
        forced = [{"words": text, "n": 9, "top5": 5, "cross_entropy": loss, "penalty": 0.5} for _ in references[i]]
        lines.append({"id": i, "split": "val", "free": {"5": {"text": text, "score": -1.0}}, "forced": forced})
    files = {"captions": write_lines(home / f"captions/{name}-{seed}.jsonl.gz", lines), "references": about}
    test = {"free": {"5": {"scores": {"BLEU-4": 60 - 100 * wrong}}}, "published": {"scores": {"cross-entropy": 2 + wrong}}}
    return {
        "run_id": f"{name}-{seed}", "name": name, "status": "finished", "finished": f"2026-01-01T00:00:0{seed}Z", "config": {"seed": seed},
        "data": {"name": home.name, "images": {"train": 100, "val": 40}, "splits": "given"}, "scores": {"test": test}, "files": files,
        "encoder": {"tag": tag, "source": "demo" if home.name == "demo" else "timm", "sha256": "e" * 64},
    }  # fmt: skip


def hash_of(name: str, seed: int) -> int:
    return int(hashlib.sha256(f"{name}{seed}".encode()).hexdigest()[:8], 16)


TAGS = {"convnext": "convnext_small.fb_in1k", "resnet101": "resnet101.tv_in1k", "vgg16": "vgg16.tv_in1k"}


def make_runs(home: Path, seeds: int = 1) -> list[dict]:
    wrong = {"convnext": 0.05, "resnet101": 0.3, "vgg16": 0.1}
    return [make_run(home, name, seed, wrong[name], tag) for name, tag in TAGS.items() for seed in range(seeds)]


def test_findings_of_a_profile(tmp_path):
    home = tmp_path / "flickr8k"
    records = make_runs(home, seeds=2)
    found, every, loss = findings(home, [CLAIM, replace(EVERY, id="every"), replace(LOSS, id="loss")], records, draws=300)
    assert found["finding"] == SAME_SIGN_LARGER and found["reason"] == ""
    assert found["runs"] == ["convnext-0", "convnext-1", "resnet101-0", "resnet101-1"]
    assert found["rule"] == claims.RULES["size"] and every["rule"] == claims.RULES["every"]
    assert (
        found["command"]
        == "python benchmarks/run_all.py --profile flickr8k --data DIR --only encoders:convnext encoders:resnet101 --seeds 2"
    )
    assert found["scale"]["text"] == "not the paper's scale" and found["scale"]["reasons"][0].startswith("data: flickr8k")
    assert found["test"] == [
        {
            "better": "convnext",
            "worse": "resnet101",
            "better_mean": 55,
            "worse_mean": 30,
            "relative_difference": pytest.approx(100 * 25 / 30),
        }
    ]
    assert every["finding"] == REPRODUCED and len(every["parts"]) == 2
    assert loss["finding"] == SAME_SIGN_LARGER and loss["parts"][0]["also"]["penalty"]["relative_difference"] == 0
    assert [entry["p_holm"] for entry in (found, every, loss)] == holm([entry["p"] for entry in (found, every, loss)])
    assert found["holm_family"] == 3 and found["signature"].startswith("free|split:val|beam:5|")
    json.dumps([found, every, loss], allow_nan=False)


def test_a_claimed_value_is_judged_on_its_own_kind_of_data_alone(tmp_path):
    """It takes no part in Holm's family, and a published value of other data never says "reproduced" of these."""
    tag = "vit_base_patch16_224.augreg_in1k"
    for profile in ("demo", "coco"):
        home = tmp_path / profile
        records = [*make_runs(home), *(make_run(home, "sep", seed, 0.2, tag) for seed in range(2))]
        found, pair = findings(home, [VALUE, CLAIM], records, draws=300)
        assert pair["holm_family"] == 1 and pair["p"] == pair["p_holm"] and pair["published_value"] is None
        assert found["p"] is found["p_holm"] is None and found["holm_family"] == 0 and found["published_value"] == 66
        assert found["rule"] == claims.RULES["value"] and found["worse"] == []
        if profile == "demo":
            assert (found["finding"], found["parts"], found["left_out"], found["test"]) == (NOT_RUN, [], ["sep"], [])
            assert found["reason"].startswith("an absolute score says nothing on other data: only profile coco has this condition")
            assert found["command"] == "python benchmarks/run_all.py --profile coco --data DIR --only systems:sep --seeds 1"
            assert found["scale"] == {
                "text": "nothing was run",
                "is_paper": None,
                "reasons": ["data: demo, the published value's are mini-COCO"],
            }
            continue
        (part,) = found["parts"]
        each = [
            100 * np.mean([word != "x" for text in captions(hash_of("sep", s), 0.2, images=40)[0].values() for word in text.split()])
            for s in (0, 1)
        ]
        # Captions are references but for their x: every other word is right, and none is too short.
        assert part["value"] == pytest.approx(np.mean(each)) and list(part["values"]["BLEU-1"]["better"].values()) == pytest.approx(each)
        assert found["finding"] == ABOVE and found["runs"] == ["sep-0", "sep-1"] and found["reason"] == ""
        assert found["scale"]["text"] == "not its source's data" and found["scale"]["is_paper"] is False
        assert found["command"].endswith("--profile coco --data DIR --only systems:sep --seeds 2")
        same = replace(VALUE, better_number=replace(NUMBER, data_set="COCO"))
        assert findings(home, [same], records, draws=50)[0]["scale"]["is_paper"]
        # Nor is another encoder's score, or that of random weights, its value.
        records[-1]["encoder"]["sha256"] = "none"
        assert "no ImageNet-trained vit_base_patch16_224 encoder" in findings(home, [VALUE], records, draws=50)[0]["reason"]
        (nothing,) = findings(home, [VALUE], records[:3], draws=50)
        assert nothing["reason"] == "sep was not run" and nothing["command"].endswith("--only systems:sep --seeds 1")


def test_what_is_missing_is_not_run_and_named(tmp_path):
    home = tmp_path / "demo"
    records = make_runs(home)
    alone = [record for record in records if record["name"] == "convnext"]
    found, other = findings(home, [CLAIM, replace(EVERY, worse=(OTHER,), better=(OURS, THEIRS))], alone, draws=50)
    assert found["finding"] == other["finding"] == NOT_RUN and found["p"] is found["p_holm"] is None and found["parts"] == []
    assert found["reason"] == "resnet101 was not run" and other["reason"] == "resnet101 was not run; vgg16 was not run"
    assert found["command"].endswith("--profile demo --only encoders:convnext encoders:resnet101 --seeds 1")

    failed = {**records[1], "status": "failed", "reason": "out of disk"}
    (found,) = findings(home, [CLAIM], [alone[0], failed], draws=50)
    assert found["reason"] == "resnet101 was not run (it failed: out of disk)" and found["failed_runs"] == ["resnet101-0"]

    # Where one of several conditions is missing, the pairs that are there are shown.
    (found,) = findings(home, [EVERY], records[:2], draws=50)
    assert (
        found["finding"] == NOT_RUN
        and [part["better"] for part in found["parts"]] == ["convnext"]
        and found["reason"] == "vgg16 was not run"
    )

    # A condition that this profile does not have is left out and said.
    elsewhere = replace(OTHER, profiles=("coco",))
    found, nothing = findings(home, [replace(EVERY, better=(OURS, elsewhere)), replace(CLAIM, worse=(elsewhere,))], records, draws=50)
    assert found["finding"] == REPRODUCED and found["left_out"] == ["vgg16"]
    assert nothing["finding"] == NOT_RUN and "profile demo" in nothing["reason"]


def test_files_that_are_not_the_records_own_are_not_used(tmp_path):
    home = tmp_path / "demo"
    records = make_runs(home)
    (home / records[0]["files"]["captions"]["path"]).write_bytes(b"other")
    assert "sha256 differs" in findings(home, [CLAIM], records, draws=50)[0]["reason"]
    records[0]["files"]["captions"]["path"] = "../elsewhere.gz"
    assert "outside demo/" in findings(home, [CLAIM], records, draws=50)[0]["reason"]
    records[0]["files"] = {}
    assert "has no references file" in findings(home, [CLAIM], records, draws=50)[0]["reason"]
    records = make_runs(home)
    assert "not decoded at beam 3" in findings(home, [replace(CLAIM, beam=3)], records, draws=50)[0]["reason"]
    own = home / records[0]["files"]["captions"]["path"]
    header, *lines = [json.loads(line) for line in gzip.decompress(own.read_bytes()).splitlines()]
    records[0]["files"]["captions"] = write_lines(own, [header | {"references": "gone.gz"}, *lines])
    reason = findings(home, [CLAIM], records, draws=50)[0]["reason"]
    assert reason == "captions/gone.gz: no such file; run again to remake it"
    records = make_runs(home)
    assert "has no METEOR" in findings(home, [replace(CLAIM, metric="METEOR")], records, draws=50)[0]["reason"]


def test_only_imagenet_nets_of_the_family_enter_a_claim_on_photographs(tmp_path):
    for profile, tag, sha, enters in [
        ("flickr8k", "resnet50.tv_in1k", "e" * 64, False),
        ("flickr8k", TAGS["convnext"], "none", False),
        ("coco", "demo_convnext", "e" * 64, False),
        ("flickr8k", "convnext_base.fb_in22k_ft_in1k", "e" * 64, True),
        ("demo", "demo_convnext", "e" * 64, True),
    ]:
        home = tmp_path / profile
        records = make_runs(home)
        records[0]["encoder"] |= {"tag": tag, "sha256": sha}
        (found,) = findings(home, [CLAIM], records, draws=50)
        assert (found["finding"] != NOT_RUN) == enters
        assert enters or "no ImageNet-trained convnext encoder" in found["reason"]


def test_scale(tmp_path):
    home = tmp_path / "coco"
    records = make_runs(home)
    (small,) = findings(home, [CLAIM], records, draws=50)
    assert not small["scale"]["is_paper"] and small["scale"]["reasons"] == [
        f"images: 100 train, 40 val, the paper's split has {load_scale()['images']['train']:,} train, {load_scale()['images']['val']:,} val"
    ]
    for record in records:
        record["data"]["images"] = dict(load_scale()["images"], test=5)
    whole, nothing = findings(home, [CLAIM], records, draws=50)[0], findings(home, [CLAIM], [], draws=50)[0]
    assert whole["scale"] == {"text": "the paper's data and models, as far as they are known", "is_paper": True, "reasons": []}
    assert nothing["scale"]["is_paper"] is None and nothing["finding"] == NOT_RUN
    records[0]["encoder"]["tag"] = "convnext_base.fb_in22k_ft_in1k"
    records[1]["data"]["splits"] = "made"
    (other,) = findings(home, [CLAIM], records, draws=50)
    assert not other["scale"]["is_paper"] and [reason.split(":")[0] for reason in other["scale"]["reasons"]] == ["splits", "convnext"]


# ---- The data ----


def test_claims_and_numbers_are_whole():
    numbers, all_claims = load_numbers(), load_claims()
    assert {number.mark for number in numbers} == set(published.MARKS)
    assert {claim.rule for claim in all_claims} <= set(claims.RULES) == set(published.RULES)
    assert {claim.mark for claim in all_claims} == {"published", "second-hand"}
    for claim in all_claims:
        if claim.published_difference is not None:
            assert (claim.better_number.quantity, claim.worse_number.quantity) == (claim.published_metric,) * 2
        if claim.rule == "value":
            assert claim.published_value > 1 and {condition.profiles for condition in claim.better} == {("coco",)}
    assert {number.unit for number in numbers if number.as_scored != number.value} == {FRACTION}


def test_published_differences_follow_from_the_published_numbers():
    """Within what rounding of the two numbers and of the difference allows."""

    def rounding(value: float) -> float:
        return 0.5 * 10.0 ** Decimal(repr(value)).as_tuple().exponent

    for claim in load_claims():
        if claim.published_difference is not None:
            a, b = claim.better_number.value, claim.worse_number.value
            allowed = 100 * (rounding(a) / b + a * rounding(b) / b**2) + 2 * rounding(claim.published_difference)
            assert 100 * (a / b - 1) == pytest.approx(claim.published_difference, abs=allowed), claim.id


WRONG = [
    ("numbers", {"mark": "heard of"}, "'mark' is 'heard of'"),
    ("numbers", {"value": True}, "'value' is True"),
    ("numbers", {"value": float("nan")}, "'value' is no finite number"),
    ("numbers", {"source": ""}, "'source' is empty"),
    ("numbers", {"beam": "5"}, "'beam' is '5'"),
    ("numbers", {"colour": "red"}, "'colour' is not known"),
    ("numbers", {"unit": None}, "'unit' is None"),
    ("claims", {"better": ["nobody"]}, "'better' names 'nobody'"),
    ("claims", {"worse": []}, "'worse' is empty"),
    ("claims", {"worse number": "nothing"}, "'worse number' names 'nothing'"),
    ("claims", {"direction": "lower"}, "'published difference'"),
    ("claims", {"published difference": None}, "'published difference' is None with rule 'size'"),
    ("claims", {"protocol": "none"}, "'protocol' is 'none'"),
    ("claims", {"beam": None}, "'beam' is None"),
    ("claims", {"rule": "guess"}, "'rule' is 'guess'"),
    ("claims", {"worse": ["vit", "deit"]}, "'rule' is 'size'"),
    ("claims", {"rule": "value"}, "'worse': rule 'value' has one condition"),
    ("claims", {"rule": "value", "worse": []}, "'worse number': rule 'value'"),
    ("claims", {"rule": "value", "worse": [], "worse number": None}, "'published difference': rule 'value'"),
    (
        "claims",
        {"rule": "value", "worse": [], "worse number": None, "published difference": None, "better": ["vit", "sep"]},
        "'better': rule 'value'",
    ),
    (
        "claims",
        {"rule": "value", "worse": [], "worse number": None, "published difference": None, "also": ["BLEU-1"]},
        "'also': rule 'value'",
    ),
    (
        "claims",
        {"rule": "value", "worse": [], "worse number": None, "published difference": None, "metric": "BLEU-1"},
        "'better number' is 'paper-best-free-bleu4'; rule 'value' needs a number of BLEU-1",
    ),
    (
        "claims",
        {"rule": "value", "worse": [], "worse number": None, "published difference": None, "better number": None},
        "'better number' is None; rule 'value' needs a number of BLEU-4",
    ),
]


@pytest.mark.parametrize("file, change, message", WRONG)
def test_a_wrong_field_is_named(tmp_path, file, change, message):
    content = json.loads((published.FOLDER / f"{file}.json").read_text(encoding="utf-8"))
    content[file][0] |= change
    path = tmp_path / f"{file}.json"
    path.write_text(json.dumps(content), encoding="utf-8")
    with pytest.raises(ValueError, match=re.escape(message)) as error:
        {"numbers": load_numbers, "claims": load_claims}[file](path)
    assert content[file][0]["id"] in str(error.value) and path.name in str(error.value)


def test_wrong_files_are_named(tmp_path):
    path = tmp_path / "numbers.json"
    entry = json.loads((published.FOLDER / "numbers.json").read_text(encoding="utf-8"))["numbers"][0]
    for text, message in [
        ("{", "no JSON text"),
        ('{"schema": 2}', "'schema' is not 1"),
        ('{"schema": 1}', "'numbers' is missing"),
        (json.dumps({"schema": 1, "numbers": [entry, entry]}), "twice"),
        (json.dumps({"schema": 1, "numbers": [{k: v for k, v in entry.items() if k != "unit"}]}), "'unit' is missing"),
    ]:
        path.write_text(text, encoding="utf-8")
        with pytest.raises(ValueError, match=message):
            load_numbers(path)


def test_no_torch():
    code = "import sys, captioning.findings; assert 'torch' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=True)


def numbers_in(path: Path) -> set[Decimal]:
    """The decimal numbers of a template's text, or of a Python file's code: its literals and texts, but not its docstrings, where an experiment says
    what it expects."""
    text = path.read_text(encoding="utf-8")
    if path.suffix != ".py":
        return {Decimal(found) for found in re.findall(r"\d+\.\d+", text)}
    tree = ast.parse(text)
    documented = (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)
    # A text that is a statement by itself documents the field above it.
    prose = {id(node.value) for node in ast.walk(tree) if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)}
    prose |= {id(node.body[0].value) for node in ast.walk(tree) if isinstance(node, documented) and node.body and ast.get_docstring(node)}
    found = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Constant) and id(node) not in prose:
            if isinstance(node.value, float):
                found.add(Decimal(repr(node.value)))
            elif isinstance(node.value, str):
                found |= {Decimal(number) for number in re.findall(r"\d+\.\d+", node.value)}
    return found


def test_no_published_number_stands_in_code_or_template(tmp_path):
    """Numbers of three digits and more, not whole: shorter ones and settings, which code must have, coincide with others."""
    values = [number.value for number in load_numbers() if not number.quantity.startswith("setting")]
    values += [claim.published_difference for claim in load_claims() if claim.published_difference is not None]
    told = {abs(Decimal(repr(value))).normalize() for value in values if value != int(value)}
    told = {value for value in told if len(value.as_tuple().digits) >= 3}
    assert len(told) > 100
    folders = ("captioning", "benchmarks", "reports")
    files = [*ROOT.glob("*.py"), *(path for folder in folders for path in (ROOT / folder).rglob("*.py"))]
    files += [path for path in (ROOT / "reports/templates").iterdir() if path.is_file()]
    assert len(files) > 40
    for path in files:
        slipped = told & {number.normalize() for number in numbers_in(path)}
        assert not slipped, f"{path.relative_to(ROOT)} has {sorted(slipped)}: take published numbers from benchmarks/published/"
    # The search itself finds what it looks for.
    value = next(iter(told))
    for text in (f"x = {value}", f'x = "{value} points"', f'x = f"{{y}} of {value}"'):
        (tmp_path / "slip.py").write_text(text)
        assert value in {number.normalize() for number in numbers_in(tmp_path / "slip.py")}
    (tmp_path / "slip.py").write_text(f'"""Expected: {value}."""')
    assert not numbers_in(tmp_path / "slip.py")
