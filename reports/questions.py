"""What can be judged with the encoders at hand: the answers to this project's own questions, and the numbers that others published on the same data.

From the findings and the records; no torch.
"""

from collections import defaultdict

from captioning.claims import CONTRADICTED, NOT_RUN, REPRODUCED, TOO_CLOSE
from captioning.presets import preset
from captioning.published import Number, load_numbers
from captioning.weight_tags import pretraining
from reports.beside import about
from reports.profile import Profile, label_of
from reports.scores import main_beam, score_cell
from reports.sections import system_of
from reports.tables import SPLITS, Column, Link, Missing, Published, Table, Value
from reports.verdicts import LEVEL, between, deciding_part, detectable_cell, p_text, percent

ANSWERS = {REPRODUCED: "yes", CONTRADICTED: "no, the opposite", TOO_CLOSE: "too close to call"}
QUANTITIES = ("BLEU-1", "BLEU-2", "BLEU-3", "BLEU-4", "METEOR")
FORCED = ("BLEU-1", "BLEU-4", "top-5", "loss", "cross-entropy")
COMPARED = ("encoders", "attention", "systems")  # experiments whose rows stand beside the published ones


def cannot_judge(profile: Profile, questions: list[dict]) -> str:
    """What a page on photographs must say first: that the paper's own encoder is not among its runs. "" where it is, and for drawn scenes."""
    if profile.name == "demo" or not profile.finished or any(_is_imagenet_convnext(run["encoder"]) for run in profile.finished):
        return ""
    said = f"This page cannot judge what the paper says of ConvNeXt: none of its {len(profile.finished)} finished runs has an ImageNet-trained ConvNeXt."
    return said + (" What it can judge is below: the questions that need no ConvNeXt." if any(one["parts"] for one in questions) else "")


def _is_imagenet_convnext(encoder: dict) -> bool:
    tag = encoder.get("tag") or ""
    return tag.startswith("convnext") and "ImageNet" in pretraining(tag, encoder.get("source") or "", encoder.get("sha256") or "none")


def question_table(questions: list[dict]) -> Table | None:
    """A row per question of `claims.json`, those that were measured first; None where none was."""
    if not any(one["parts"] for one in questions):
        return None
    columns = [Column("Question", numeric=False), Column("Answer", numeric=False), Column("Measured", numeric=False), Column("Difference")]
    columns += [
        Column("Of the same seeds", numeric=False),
        Column("Smallest detectable"),
        Column("p, Holm"),
        Column("On test"),
        Column("By the other metric"),
        Column("Images"),
    ]
    columns += [Column("What would change it", numeric=False)]
    ranked = sorted(questions, key=lambda one: one["finding"] == NOT_RUN)
    remarks = [
        f"Measured on the {measured_how(questions)}; by these images each run's epoch was chosen, too, by those of the test split nothing. In brackets each seed's "
        "score. Differences are those of the means over seeds, in percent of the second, with a 95 % interval over images and seeds where both "
        "sides have five seeds or more, else over images alone; both sides see the same images.",
        f"Yes or no: the interval excludes 0, and p, by Holm over all questions that were tested, is below {LEVEL:g}. Of these runs: with fewer than five seeds "
        "the interval knows nothing of other seeds. Seeds overlap: the lowest of the side ahead is below the highest of the other. Smallest detectable: the true "
        "difference that so many images and seeds would find 4 times in 5, by the spread of the seeds at hand (of one seed each, at least).",
        "The test split and the other metric (BLEU-4 for CIDEr, CIDEr for BLEU-4) are not tested, they stand beside: where they point elsewhere, the answer hangs "
        "on the choice.",
    ]
    return Table("questions", "Questions that can be judged here", columns, [_row(one) for one in ranked], remarks)


def measured_how(questions: list[dict]) -> str:
    """Split, protocol and beam of the questions, which all are asked alike or are told one by one."""
    return "; ".join(
        dict.fromkeys(f"{SPLITS[one['split']].lower()} split, protocol {one['protocol']}, beam {one['beam']}" for one in questions)
    )


def is_answered(question: dict) -> bool:
    """Whether the answer is yes or no: by the interval, and by p among all that were asked."""
    return question["finding"] in (REPRODUCED, CONTRADICTED) and question["p_holm"] < LEVEL


def answer_of(question: dict) -> str:
    """In words; what an interval over images cannot know is said with it."""
    said = ANSWERS[question["finding"]]
    if question["finding"] == TOO_CLOSE:
        return said
    if not is_answered(question):
        return f"too close to call among so many questions (alone: {said})"
    part = deciding_part(question)
    if part["interval_kind"] == "images and seeds":
        return said
    better, worse = (list(by_seed.values()) for by_seed in part["values"][question["metric"]].values())
    overlap = min(better) <= max(worse) and min(worse) <= max(better)
    return f"{said}, of these runs{', though their seeds overlap' if overlap else ''}"


def _row(question: dict) -> list:
    part = deciding_part(question)
    if part is None or question["finding"] == NOT_RUN:
        return [question["sentence"], "not run", question["reason"] or "a run is missing"]
    measured = " against ".join(f"{part[side]} {_seeds(question, part, side)}" for side in ("better", "worse")) + f" {question['metric']}"
    test = question["test"][0]["relative_difference"] if question["test"] else None
    return [
        question["sentence"], answer_of(question), measured,
        Value(part["relative_difference"], percent(part["relative_difference"]), *part["interval"]),
        ", ".join(map(percent, part["seed_differences"].values())),
        detectable_cell(part["detectable"][0]),
        Value(question["p_holm"], p_text(question["p_holm"])),
        Missing("not scored on test") if test is None else Value(test, percent(test)),
        _also(part),
        Value(part["images"], f"{part['images']:,}"), question["note"],
    ]  # fmt: skip


def _also(part: dict) -> Value | Missing:
    """The difference by the metric that stands beside, validation."""
    for metric, found in part["also"].items():
        return Value(found["relative_difference"], f"{percent(found['relative_difference'])} {metric}", *found["interval"])
    return Missing("no other metric was scored")


def _seeds(question: dict, part: dict, side: str) -> str:
    """The mean over a side's seeds, and in brackets each one's."""
    digits = 1 if question["metric"].startswith(("BLEU", "CIDEr")) else 3
    values = list(part["values"][question["metric"]][side].values())
    return f"{sum(values) / len(values):.{digits}f}" + (
        f" ({', '.join(f'{value:.{digits}f}' for value in values)})" if len(values) > 1 else ""
    )


def findings_in_words(questions: list[dict]) -> list[tuple[str, str, str, str]]:
    """Of the questions that were answered, in their order (the question; the answer; difference, interval, p, images and seeds; what would change it)."""
    said = []
    for one in filter(is_answered, questions):
        part = deciding_part(one)
        measured = (
            f"{percent(part['relative_difference'])} {one['metric']} ({between(part['interval'])}, "
            f"{part['interval_kind']}; smallest detectable {detectable_cell(part['detectable'][0]).text}), Holm's p {p_text(one['p_holm'])}, "
            f"n = {part['images']:,}: {_seeds(one, part, 'better')} against {_seeds(one, part, 'worse')}."
        )
        said.append((one["sentence"], answer_of(one), measured, one["note"]))
    return said


def scored_both_ways(profile: Profile) -> str:
    """What the words that are fed while it is scored do to one model's BLEU-4: of the forced row of `teacher_forcing`, over its seeds. "" where there is none."""
    always = [
        run for run in profile.finished if "teacher_forcing" in run["experiments"] and run["config"].get("teacher_forcing") == "always"
    ]
    runs = [run for run in profile.finished if run["name"] == always[0]["name"]] if always else []
    beam = main_beam(profile.finished)
    cells = [(score_cell(run, "val", "published", None, "BLEU-4"), score_cell(run, "val", "free", beam, "BLEU-4")) for run in runs]
    if not cells or not all(isinstance(cell, Value) for pair in cells for cell in pair):
        return ""
    forced, free = ([pair[k].value for pair in cells] for k in (0, 1))
    apart = sum(a.high < b.low or b.high < a.low for a, b in cells)
    scores = " and ".join(", ".join(f"{value:.1f}" for value in values) for values in (forced, free))
    return (
        f"Teacher forcing's other face: the same {label_of(runs[0], 'encoders')} scored on the references' words (published) and on its own (free, beam {beam}) has "
        f"BLEU-4 {scores}; own words add {_mean(free) - _mean(forced):+.1f}. The two 95 % intervals lie apart with {apart} of {len(cells)} "
        f"seed{'s' if len(cells) > 1 else ''}."
    )


def _mean(values: list[float]) -> float:
    return sum(values) / len(values)


def training_in_words(profile: Profile) -> str:
    """How the rows with an LSTM were trained, as far as all of them were trained alike, beside the paper's; "" where there are none."""
    alike_runs = [run for run in profile.finished if set(run["experiments"]) & {"encoders", "attention"} and system_of(run) == "attend"]
    configs = [run["config"] for run in alike_runs]
    fields = {
        "epochs": "{} epochs", "batch_size": "{:,} captions a step", "decoder_lr": "learning rate {:g}", "schedule": "schedule {}",
        "hidden_dim": "an LSTM of {}", "dropout": "dropout {:g}",
    }  # fmt: skip
    found = {name: {one.get(name) for one in configs} for name in fields}
    alike = [fields[name].format(*values) for name, values in found.items() if len(values) == 1 and values != {None}]
    if not alike:
        return ""
    theirs = preset("as-published")
    kept = sorted({run["training"]["best_epoch"] for run in alike_runs})
    return (
        f"The rows of encoders and attention were all trained with {', '.join(alike)}; each keeps that of its epochs with the best greedy BLEU-4 on "
        f"validation, here {_joined(kept)}. That score jumps from epoch to epoch, so which one is kept is partly luck (column Epochs of Quality against cost). "
        f"The paper's code: up to {theirs.epochs} epochs, {theirs.batch_size} captions a step, {theirs.decoder_lr:g}."
    )


def _joined(epochs: list[int]) -> str:
    """The smallest and the largest, or the only one."""
    return f"epochs {epochs[0]} to {epochs[-1]}" if len(epochs) > 1 else f"epoch {epochs[0]}"


def same_data_tables(profile: Profile) -> list[Table]:
    """What was published on this profile's data (few tell the split), and our rows of the same kind: free captions, then teacher-forced scores."""
    numbers = [n for n in load_numbers() if n.data_set.lower() == profile.name and n.quantity in {*QUANTITIES, *FORCED}]
    numbers = [number for number in numbers if number.epoch is None and "validation" not in number.split]
    if profile.name == "coco" or not numbers or not profile.finished:
        return []  # on COCO the paper's own tables have them
    beam = main_beam(profile.finished)
    kinds = (
        (False, QUANTITIES, "coco", beam, "same-data", "Published on the same data, decoded freely",
         f"Ours: test split, protocol coco, beam {beam}, the first seed. Theirs: as their footnotes say; none names its tokenizer. "
         "Where they name a beam, ours at it stand below, on the data set's own tokens."),
        (True, FORCED, "published", None, "same-data-forced", "Published on the same data, teacher-forced",
         "Ours: test split, protocol published. Loss and top-5 are per word of the references, on both sides. Loss is cross-entropy, in nats a word, and "
         "the attention penalty; of systems without one, the cross-entropy is the loss."),
    )  # fmt: skip
    made = [_same_data(profile, [n for n in numbers if (n.protocol == "published") == forced], *how) for forced, *how in kinds]
    return [table for table in made if table is not None]


def _same_data(profile: Profile, numbers: list[Number], quantities, protocol: str, beam: str | None, slug: str, title: str, remark: str):
    if not numbers:
        return None
    by_model: dict[str, dict[str, Number]] = defaultdict(dict)
    for number in numbers:
        by_model[number.model][number.quantity] = number
    rows = [
        [
            model,
            *(
                Published(found[q].as_scored, f"{found[q].as_scored:g}", found[q].mark, about(found[q])) if q in found else ""
                for q in quantities
            ),
        ]
        for model, found in by_model.items()
    ]
    first = {run["name"]: run for run in reversed(profile.finished) if set(run["experiments"]) & set(COMPARED)}
    ours = [(run, [score_cell(run, "test", protocol, beam, quantity) for quantity in quantities]) for run in first.values()]
    rank = quantities.index("BLEU-4")
    ours.sort(key=lambda pair: -pair[1][rank].value if isinstance(pair[1][rank], Value) else 0)
    names = {run["run_id"]: profile.heading(run) for run, _ in ours}
    rows += [[Link(f"ours: {names[run['run_id']].label}", names[run["run_id"]].anchor), *cells] for run, cells in ours if _scored(cells)]
    if protocol == "coco":
        rows += _at_their_beam(ours, numbers, quantities, names)
    return Table(slug, title, [Column("Captioner", numeric=False), *map(Column, quantities)], rows, [remark])


def _at_their_beam(ours: list, numbers: list[Number], quantities, names) -> list[list]:
    """Our rows at the beams that are stated of published numbers: protocol free, since only the main beam's captions are scored by coco's."""
    found = []
    for beam in sorted({str(number.beam) for number in numbers if number.beam}, key=int):
        for run, _ in ours:
            cells = [score_cell(run, "test", "free", beam, quantity) for quantity in quantities]
            if _scored(cells):
                label, anchor = names[run["run_id"]].label, names[run["run_id"]].anchor
                found.append([Link(f"ours: {label}, beam {beam}, protocol free", anchor), *cells])
    return found


def _scored(cells: list) -> bool:
    return any(isinstance(cell, Value) for cell in cells)
