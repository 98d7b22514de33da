"""What held: the verdict table of a profile's claims, the sentences above it, and how each claim was judged. From the findings; no torch.

`claims` is the list that captioning.findings gives, explained in benchmarks/published/README.md.
"""

from collections import Counter

from captioning.claims import (
    ABOVE,
    BELOW,
    CONTRADICTED,
    NOT_RUN,
    REPRODUCED,
    SAME_SIGN_LARGER,
    SAME_SIGN_SMALLER,
    TOO_CLOSE,
    TOO_SMALL,
)
from reports.profile import Profile
from reports.tables import Column, Link, Missing, Published, Table, Value, minus_sign

LEVEL = 0.05  # of Holm's adjusted p, for the sentence that says how sure the findings are
WAS = ("was ", "were ")  # of one claim, of several
IN_WORDS = {
    REPRODUCED: "reproduced",
    SAME_SIGN_SMALLER: "held in direction with a smaller difference than published",
    SAME_SIGN_LARGER: "held in direction with a larger difference than published",
    TOO_SMALL: "smaller than published and not told from no difference",
    TOO_CLOSE: "too close to call",
    ABOVE: ABOVE,
    BELOW: BELOW,
    CONTRADICTED: "contradicted",
    NOT_RUN: "not run",
}


def counts_of(claims: list[dict]) -> dict[str, int]:
    """Finding -> how many claims, in the order of `IN_WORDS`, without zeros."""
    found = Counter(claim["finding"] for claim in claims)
    return {finding: found[finding] for finding in IN_WORDS if found[finding]}


def lead(profile: str, claims: list[dict]) -> list[str]:
    """One or two sentences: how many claims held, and how sure that is."""
    counts = counts_of(claims)
    if list(counts) == [NOT_RUN]:
        return [f"None of the {len(claims)} claims could be judged at this profile; the table says of each what is missing."]
    said = [f"{count} {'' if IN_WORDS[f].startswith('held') else WAS[count > 1]}{IN_WORDS[f]}" for f, count in counts.items()]
    sentences = [f"Of the {len(claims)} claims, {_listed(said)}."]
    judged = [claim for claim in claims if claim["p_holm"] is not None]
    if judged:
        sure = sum(claim["p_holm"] < LEVEL for claim in judged)
        kinds = dict.fromkeys(part["interval_kind"] for claim in judged for part in claim["parts"])
        images = sorted({part["images"] for claim in judged for part in claim["parts"]})
        sentences.append(
            f"How sure: {sure} of {len(judged)} measured differences stay clear of 0 at {100 * LEVEL:g} % after Holm's correction for "
            f"{len(judged)} tests; 95 % intervals over {' or '.join(f'{n:,}' for n in images)} images ({' or '.join(kinds)})."
        )
    measured = [claim for claim in claims if claim["finding"] != NOT_RUN]
    if not any(claim["scale"]["is_paper"] for claim in measured):
        sentences.append(f"None of this is at the paper's scale: it speaks of {profile} alone.")
    return sentences


def _listed(parts: list[str]) -> str:
    return parts[0] if len(parts) == 1 else f"{', '.join(parts[:-1])} and {parts[-1]}"


def verdict_table(claims: list[dict]) -> Table:
    """A row per claim; its sentence leads to how it was judged."""
    columns = [Column("Claim", numeric=False), Column("Scale", numeric=False), Column("Finding", numeric=False)]
    columns += [Column("Published"), Column("Measured"), Column("Interval over", numeric=False)]
    with_also = any(claim["also"] for claim in claims)
    columns += [Column("Beside it", numeric=False)] * with_also
    columns += [Column("p, Holm"), Column("Images"), Column("Seeds")]
    rows = [_row(claim, with_also) for claim in claims]
    remarks = ["Differences are relative, in percent of the second condition. Both sides of a measured one were trained and scored here."]
    if any(is_value(claim) for claim in claims):
        remarks.append(
            "Where an absolute value is claimed, that value and the measured one stand here, times 100; nothing is tested there, so there is no p."
        )
    return Table("verdicts", "What was claimed, and what was found", columns, rows, remarks)


def is_value(claim: dict) -> bool:
    """Whether an absolute value is claimed, and no difference. A finding from before there were such claims does not say."""
    return claim.get("published_value") is not None


def _row(claim: dict, with_also: bool) -> list:
    judged_on = "" if claim["metric"] == claim["published_metric"] else f"judged on {claim['metric']}"
    row: list = [
        Link(claim["sentence"], f"claim-{claim['id']}", judged_on),
        claim["scale"]["text"],
        claim["finding"],
        published_cell(claim),
    ]
    part = deciding_part(claim)
    if part is None or claim["finding"] == NOT_RUN:
        return [*row, claim["reason"] or "a condition was not run"]
    seeds, images = seeds_of(part, claim["metric"]), Value(part["images"], f"{part['images']:,}")
    if is_value(claim):
        measured = Value(part["value"], f"{part['value']:.1f} {claim['metric']}", *part["interval"])
        return [*row, measured, part["interval_kind"], *[""] * with_also, "no test", images, seeds]
    measured = Value(part["relative_difference"], percent(part["relative_difference"]), *part["interval"])
    beside = "; ".join(f"{metric} {percent(found['relative_difference'])}" for metric, found in part["also"].items())
    p = Value(claim["p_holm"], p_text(claim["p_holm"]))
    over = part["interval_kind"] + (f"; {part['better']} against {part['worse']}, which decides" if len(claim["parts"]) > 1 else "")
    return [*row, measured, over, *[beside] * with_also, p, images, seeds]


def published_cell(claim: dict) -> Published | str:
    difference = claim["published_difference"]
    about = f"{claim['mark'].capitalize()}: {claim['source']}."
    if is_value(claim):
        number = claim["better_number"]
        about += f" Written there: {number['value']:g} ({number['unit']}), on {number['data_set']}."
        return Published(claim["published_value"], f"{claim['published_value']:g} {claim['metric']}", claim["mark"], about)
    if difference is None:
        return Published("no size", "no size", claim["mark"], about)
    metric = "" if claim["metric"] == claim["published_metric"] else f" in {claim['published_metric']}"
    return Published(difference, f"{percent(difference, 2)}{metric}", claim["mark"], about)


def deciding_part(claim: dict) -> dict | None:
    """The pair of conditions that a claim's finding is about: of several the one that agrees least with it."""
    if is_value(claim):
        return next(iter(claim["parts"]), None)
    sign = 1 if claim["direction"] == "higher" else -1
    these = [part for part in claim["parts"] if part["finding"] == claim["finding"]] or claim["parts"]
    return min(these, key=lambda part: sign * part["relative_difference"], default=None)


def seeds_of(part: dict, metric: str) -> Value | str:
    """How many seeds both sides have (a claimed value has one side), or both numbers where they differ."""
    counts = list(dict.fromkeys(len(by_seed) for by_seed in part["values"][metric].values()))
    return Value(counts[0], str(counts[0])) if len(counts) == 1 else " / ".join(map(str, counts))


def detectable_table(claims: list[dict]) -> Table | None:
    """The smallest difference that a test finds beside the one that is claimed, for BLEU-4's sized claims; None where none was measured."""
    sized = [claim for claim in claims if claim["published_difference"] is not None and claim["metric"] == "BLEU-4" and claim["parts"]]
    if not sized:
        return None
    sizes = list(dict.fromkeys((d["images"], d["seeds"]) for claim in sized for d in claim["parts"][0]["detectable"]))
    columns = [Column("Claim", numeric=False), Column("Published difference")]
    columns += [Column(f"{n:,} images, {k} seed{'s' if k != 1 else ''}", "Smallest difference found 4 times in 5") for n, k in sizes]
    rows = []
    for claim in sized:
        by_size = {(d["images"], d["seeds"]): d for d in claim["parts"][0]["detectable"]}
        cells = [detectable_cell(by_size[size]) if size in by_size else Missing("not planned for") for size in sizes]
        rows.append([Link(claim["sentence"], f"claim-{claim['id']}"), published_cell(claim), *cells])
    remarks = [
        "Paired test at 5 %, two-sided, power 80 %. A published difference below this number can be neither confirmed nor denied so."
    ]
    if any(not d["spread_of_seeds"] for claim in sized for d in claim["parts"][0]["detectable"]):
        remarks.append("At least (≥): one seed of each only was run, so the spread between seeds counts as 0.")
    return Table("detectable", "What can be seen at all: the smallest detectable difference", columns, rows, remarks)


def detectable_cell(found: dict) -> Value:
    """A smallest detectable difference; "≥" where the spread between seeds is not known and counts as 0."""
    return Value(found["percent"], f"{'' if found['spread_of_seeds'] else '≥ '}{found['percent']:.1f} %")


def unseen(claims: list[dict]) -> list[str]:
    """A sentence for each BLEU-4 claim whose published difference is smaller than what its own measurement could have found."""
    said = []
    for claim in claims:
        part = deciding_part(claim)
        if part is None or claim["published_difference"] is None or claim["metric"] != "BLEU-4":
            continue
        least = part["detectable"][0]
        if abs(claim["published_difference"]) < least["percent"]:
            seeds = f"{least['seeds']} seed{'s' if least['seeds'] != 1 else ''}"
            said.append(
                f"{claim['sentence']} by {percent(claim['published_difference'], 2)}: with {least['images']:,} images and {seeds}, a "
                f"difference must be {'' if least['spread_of_seeds'] else 'at least '}{least['percent']:.1f} % to be found 4 times in 5."
            )
    return said


def details_of(profile: Profile, claims: list[dict]) -> list[dict]:
    """What the page says of how each claim was judged: the claim with its pairs in words and its runs' names and places."""
    runs = {run["run_id"]: run for run in profile.runs}
    return [
        claim
        | {
            "pairs": [_pair(claim, part) for part in claim["parts"]],
            "run_links": [profile.heading(runs[run_id]) for run_id in claim["runs"] if run_id in runs],
            "on_test": [_on_test(claim, found) for found in claim["test"]],
            "numbers": [claim[side] for side in ("better_number", "worse_number") if claim[side]],
        }
        for claim in claims
    ]


def _pair(claim: dict, part: dict) -> dict:
    """{"names", "measured", "p", "finding", "seeds", "also", "detectable"}, all texts; empty what a claimed value has not."""
    if is_value(claim):
        each = ", ".join(f"seed {seed} {value:.1f}" for seed, value in part["values"][claim["metric"]]["better"].items())
        measured = f"{part['value']:.1f} {claim['metric']} ({between(part['interval'])}, {part['interval_kind']}); published {claim['published_value']:g}"
        return dict.fromkeys(("p", "also", "detectable"), "") | {
            "names": part["better"], "measured": measured, "finding": part["finding"], "seeds": each
        }  # fmt: skip
    digits = 1 if claim["metric"].startswith(("BLEU", "top")) else 3
    means = [_mean(part["values"][claim["metric"]][side]) for side in ("better", "worse")]
    also = [
        f"{metric} {percent(found['relative_difference'])} ({between(found['interval'])})"
        + (f": {found['finding']}" if "finding" in found else "")
        for metric, found in part["also"].items()
    ]
    return {
        "names": f"{part['better']} against {part['worse']}",
        "measured": f"{means[0]:.{digits}f} against {means[1]:.{digits}f} {claim['metric']}, {percent(part['relative_difference'])} "
        f"({between(part['interval'])}, {part['interval_kind']})",
        "p": p_text(part["p"]),
        "finding": part["finding"],
        "seeds": ", ".join(f"seed {seed} {percent(difference)}" for seed, difference in part["seed_differences"].items()),
        "also": "; ".join(also),
        "detectable": "; ".join(
            f"{d['images']:,} images and {d['seeds']} seed{'s' if d['seeds'] != 1 else ''}: {detectable_cell(d).text}"
            for d in part["detectable"]
        ),
    }


def _on_test(claim: dict, found: dict) -> str:
    if is_value(claim):
        return f"{found['better']}: {found['better_mean']:.1f} {claim['metric']}"
    return f"{found['better']} against {found['worse']}: {percent(found['relative_difference'])}"


def _mean(by_seed: dict[str, float]) -> float:
    return sum(by_seed.values()) / len(by_seed)


def percent(value: float, digits: int = 1) -> str:
    return minus_sign(f"{round(value, digits) or 0.0:+.{digits}f} %")  # never -0.0


def between(ends: list[float]) -> str:
    return minus_sign(f"{ends[0]:.1f} to {ends[1]:.1f}")


def p_text(p: float) -> str:
    return "< 0.001" if p < 0.001 else f"{p:.3f}" if p < 0.1 else f"{p:.2f}"
