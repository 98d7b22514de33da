"""One model's "BLEU-4" under every protocol, beam width and token rule: how far the name alone can be moved. No torch.

Reads the run's record and, where it was made, results/<profile>/protocols/<run_id>.json with further rules for the same captions.
"""

import json
from functools import partial
from pathlib import Path

from captioning.bad_input import BadInput
from reports.figures import Point, dots
from reports.profile import Profile
from reports.scores import BLEU, cell_of, scores_of
from reports.tables import SPLITS, Column, Missing, Table, Value

ORDER = {"published": 0, "free": 1, "coco": 2}


def protocols(profile: Profile, ranked: list[dict]) -> tuple[dict | None, list[str]]:
    """The section's content for the run that the experiment `protocols` names, else the best one (`ranked`: best first), and problems. One that was
    scored by further rules comes first.

    {"run", "table", "figure", "alt", "spread" (points between the lowest and the highest BLEU-4), "lowest", "highest" (their rules), "n"}.
    """
    runs = [run for run in profile.finished if run in ranked and "protocols" in run["experiments"]] or ranked
    if not runs:
        return None, []
    run = next((run for run in runs if _rules_path(profile, run).exists()), runs[0])
    try:
        further, problems = _further_rules(profile, run), []
    except BadInput as error:
        further, problems = {}, [str(error)]
    rules = _rules_of(run)
    known = {scores["signature"] for splits in rules.values() for scores in splits.values()}
    rules |= {rule: splits for rule, splits in further.items() if not known & {scores["signature"] for scores in splits.values()}}
    table, bleu4 = _table(profile, run, rules)
    points = {title: [[_point(cells[split])] if split in cells else [] for cells in bleu4.values()] for split, title in SPLITS.items()}
    shown = {title: lines for title, lines in points.items() if any(lines)}
    values = {rule: cells["val"].value for rule, cells in bleu4.items() if "val" in cells}
    figure = partial(dots, "One model, its BLEU-4 by rule", "BLEU-4 with 95 % interval", list(bleu4), shown)
    alt = "BLEU-4 on validation by rule: " + "; ".join(f"{rule} {value:.1f}" for rule, value in values.items())
    content = {"run": run, "table": table, "figure": figure, "alt": alt, "n": len(rules)}
    if len(values) > 1:
        lowest, highest = min(values, key=values.get), max(values, key=values.get)
        content |= {"spread": f"{values[highest] - values[lowest]:.1f}", "lowest": lowest, "highest": highest}
    return content, problems


def _rules_of(run: dict) -> dict[str, dict[str, dict]]:
    """Rule in words -> split -> scores, as the record holds them: published, free by rising beam, coco, and whatever else there is."""
    conditions = {
        (protocol, beam)
        for split in run["scores"].values()
        for protocol, content in split.items()
        for beam in ([None] if protocol == "published" else content)
    }
    rules = {}
    for protocol, beam in sorted(conditions, key=lambda c: (ORDER.get(c[0], 3), c[0], len(c[1] or ""), c[1] or "")):
        found = {split: scores_of(run, split, protocol, beam) for split in SPLITS}
        decoding = {None: "teacher-forced", "1": "greedy"}.get(beam, f"beam {beam}")
        rules[f"{protocol}: {decoding}"] = {split: scores for split, scores in found.items() if scores}
    return rules


def _rules_path(profile: Profile, run: dict) -> Path:
    return profile.folder / "protocols" / f"{run['run_id']}.json"


def _further_rules(profile: Profile, run: dict) -> dict[str, dict[str, dict]]:
    """The rules of the run's protocols file; none where there is no file. BadInput where it is damaged or was made from other captions."""
    path = _rules_path(profile, run)
    if not path.exists():
        return {}
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        if content["schema"] != 1 or content["captions_sha256"] != run["files"]["captions"]["sha256"]:
            raise BadInput(
                f"protocols/{path.name}: of another schema, or made from other captions than the record's; run again to remake it"
            )
        rules: dict[str, dict[str, dict]] = {}
        for split in SPLITS:
            for entry in content["splits"].get(split, []):
                cell_of(entry["scores"], "BLEU-4", "")  # every field that is read below
                rules.setdefault(str(entry["rule"]), {})[split] = entry["scores"] | {"signature": str(entry["scores"]["signature"])}
        return rules
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise BadInput(f"protocols/{path.name}: damaged ({type(error).__name__}: {error}); run again to remake it") from None


def _table(profile: Profile, run: dict, rules: dict[str, dict[str, dict]]) -> tuple[Table, dict[str, dict[str, Value]]]:
    """The table, and rule -> split -> its BLEU-4 where there is one."""
    n = {split: {found[split]["n_images"] for found in rules.values() if split in found} for split in SPLITS}
    groups = {split: f"{title}, n = {max(n[split]):,} images" for split, title in SPLITS.items() if n[split]}
    columns = [Column("Rule", numeric=False)]
    columns += [Column(metric, groups["val"]) for metric in BLEU if "val" in groups]
    columns += [Column("BLEU-4", groups["test"])] * ("test" in groups) + [Column("Signature", numeric=False)]
    wanted = [("val", metric) for metric in BLEU if "val" in groups] + [("test", "BLEU-4")] * ("test" in groups)
    rows, bleu4 = [], {}
    for rule, found in rules.items():
        cells = {(s, m): cell_of(found.get(s), m, "not scored by this rule on this split") for s, m in {*wanted, ("val", "BLEU-4")}}
        first = next(iter(found.values()), None)
        signature = first["signature"] if first else Missing("not in the record")
        rows.append([rule, *(cells[place] for place in wanted), signature])
        bleu4[rule] = {s: cells[s, "BLEU-4"] for s in SPLITS if isinstance(cells.get((s, "BLEU-4")), Value)}
    return Table("protocols", f"{profile.names[run['run_id']]}: one checkpoint, {len(rows)} rules", columns, rows), bleu4


def _point(cell: Value) -> Point:
    return Point(cell.value, cell.low, cell.high)
