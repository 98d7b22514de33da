"""What is every accident of the published code worth?

Both presets (captioning/presets.py), and `corrected` with each switch alone set as the published code has it; where both presets agree, set as others
have it. The profile's main encoder stands in for ConvNeXt-Small, and its own number of epochs for the code's 120, so that all rows cost alike. Switches that say
nothing there have no row: other weights of an encoder that has one, pixels of scenes that are drawn at one size, restval where there is none.
No numbers are published for any of them; for `<end>` and `<unk>` in the score, see `protocols`.
Cost, one CPU core a row: 1 minute on the demo (2 to 4 where regions can't be kept or batches are small). run_all.py --all, or by name.
"""

from dataclasses import replace

from benchmarks.experiments.encoders import main_row
from captioning.presets import SWITCHES

BUDGET = ("epochs", "patience", "max_words", "minimum_count", "encoder")  # of the profile, whatever the preset says


def runs(profile) -> list:
    """(label, configuration) of each row."""
    _, main = main_row(profile)
    convnext = "convnext" in main.encoder
    switches = [(switch, change) for switch in SWITCHES if (change := _changes(switch, profile, convnext))]
    corrected = replace(main, **_together(switches, "corrected"))
    rows = [
        ("as published", replace(corrected, name="as-published", **_together(switches, "published"))),
        ("corrected", corrected if corrected == main else replace(corrected, name="corrected")),
    ]
    for switch, changed in switches:
        alone = "published" if changed["published"] != changed["corrected"] else "elsewhere"
        rows.append((f"{switch.name} {alone}", replace(rows[1][1], name=f"switch-{switch.name}", **changed[alone])))
    return rows


def _changes(switch, profile, convnext: bool) -> dict | None:
    """A switch's values at this profile: {"published", "corrected", "elsewhere"}; None where it would change nothing."""
    sides = {side: _fitted(getattr(switch, side), profile) for side in ("published", "corrected", "elsewhere")}
    if switch.name == "final-norm" and not convnext:
        return None
    if switch.name == "split" and profile.name != "coco":
        return None
    moves = sides["published"] != sides["corrected"] or (sides["elsewhere"] and sides["elsewhere"] != sides["corrected"])
    return sides if moves else None


def _fitted(values: dict, profile) -> dict:
    values = {field: value for field, value in values.items() if field not in BUDGET}
    if profile.name == "demo":
        values = {field: value for field, value in values.items() if field not in ("image_size", "resize", "grid")}
        if "batch_size" in values:  # the demo's batch and rate are its own; the published ones are a fifth and 0.4 times ours
            values["batch_size"] = profile.base.batch_size * values["batch_size"] // 160
            values["decoder_lr"] = profile.base.decoder_lr * values["decoder_lr"] / 1e-3
        if "warmup_steps" in values:
            values["warmup_steps"] = min(values["warmup_steps"], profile.base.warmup_steps)
    return values


def _together(switches: list, side: str) -> dict:
    return {field: value for _, changed in switches for field, value in changed[side].items()}
