"""Quality against cost: one table and one figure over all finished runs, and what each frozen encoder knew of what it was trained on. No torch."""

import re
from functools import partial

import pandas

from reports.figures import scatter
from reports.profile import Profile, title_of
from reports.scores import millions, number, pretraining_of, score_cell
from reports.tables import Column, Missing, Table, Value

SIDES = {"minutes": "training, minutes", "speed": "captioning, images/s"}


def cost_table(profile: Profile, beam: str) -> Table | None:
    """A row per run: its size, what it cost, on what; None where nothing has finished. The number before a model is its place in the figure."""
    rows, numbers = profile.finished, numbers_of(profile)
    if not rows:
        return None
    columns = [Column("Model", numeric=False), Column("No. in figure"), Column("Pretraining", numeric=False), Column("Grid", numeric=False)]
    columns += [Column("Parameters, encoder"), Column("Parameters, trained"), Column(f"BLEU-4, free, beam {beam}, validation")]
    columns += [Column("Training, minutes"), Column("Epochs (best)", numeric=False), Column("Images/s"), Column("Memory, GB")]
    machines = {record["run_id"]: short_hardware(record["cost"]) for record in rows}
    one_machine = len(set(machines.values())) == 1
    columns += [] if one_machine else [Column("Hardware", numeric=False)]
    body = [[profile.heading(r), numbers[r["name"]], *_cells(r, beam), *([] if one_machine else [machines[r["run_id"]]])] for r in rows]
    remarks = [
        "Images/s: from pixels to captions, beam 5; these and the minutes are of a machine as busy as it then was, so they compare roughly."
        + (f" All on {machines[rows[0]['run_id']]}." if one_machine else "")
    ]
    return Table("cost", "Size, quality and cost of every run", columns, body, remarks)


def numbers_of(profile: Profile) -> dict[str, int]:
    """Run name -> its number in the figure, in the order of the tables."""
    return {name: k for k, name in enumerate(dict.fromkeys(record["name"] for record in profile.finished), 1)}


def _cells(record: dict, beam: str) -> list:
    encoder, cost, training = record["encoder"], record["cost"], record["training"]
    grid, memory = encoder.get("grid"), cost.get("peak_memory_mb")
    return [
        pretraining_of(encoder) + ("" if encoder.get("frozen") else ", tuned"),
        "×".join(map(str, grid)) if grid else Missing("no grid in the record"),
        millions(encoder.get("parameters")),
        millions(record["model"].get("trained_parameters")),
        score_cell(record, "val", "free", beam, "BLEU-4"),
        _minutes(cost.get("train_seconds")),
        f"{training.get('epochs', '?')} ({training.get('best_epoch', '?')})",
        number(cost.get("images_per_second")),
        Missing("not in the record") if memory is None else Value(memory / 1000, f"{memory / 1000:.1f}"),
    ]


def _minutes(seconds: float | None) -> Value | Missing:
    return Missing("not in the record") if seconds is None else Value(seconds / 60, f"{seconds / 60:.1f}")


def short_hardware(cost: dict) -> str:
    """A processor's or a GPU's name without its maker's trimmings, and the threads used: "Xeon 2.50GHz, 1 thread". The record has it whole."""
    device, threads = cost.get("device") or "not in the record", cost.get("threads")
    on_cpu = device.startswith("cpu")
    name = re.sub(r"\((R|TM|tm)\)|\b(Processor|CPU|Intel|NVIDIA|with)\b|@|^(cpu|cuda)[: ]*", " ", device)
    name = " ".join(name.split()) or device
    return f"{name}, {threads} thread{'s' if threads != 1 else ''}" if threads and on_cpu else name


def cost_figure(profile: Profile, beam: str):
    """BLEU-4 with its interval against training time, captioning speed and size, a panel each; a dot is the mean of a run's seeds. None without two runs."""
    numbers, rows = numbers_of(profile), []
    for record in profile.finished:
        cell, cost = score_cell(record, "val", "free", beam, "BLEU-4"), record["cost"]
        place = {"minutes": (cost.get("train_seconds") or 0) / 60, "speed": cost.get("images_per_second") or 0}
        place["parameters"] = (record["encoder"].get("parameters") or 0) / 1e6
        if isinstance(cell, Value) and all(place.values()):
            ends = {"low": cell.value if cell.low is None else cell.low, "high": cell.value if cell.high is None else cell.high}
            about = {"number": numbers[record["name"]], "group": title_of(record["experiments"][0])}
            rows.append({**about, **place, "value": cell.value, **ends})
    if len({row["number"] for row in rows}) < 2:
        return None
    frame = pandas.DataFrame(rows).groupby(["number", "group"], as_index=False, sort=False).mean()
    best, fastest = frame.loc[frame["value"].idxmax()], frame.loc[frame["minutes"].idxmin()]
    alt = (
        f"BLEU-4 of {len(frame)} models against training minutes, images a second and parameters. Highest: number {best['number']:.0f} with "
        f"{best['value']:.1f} after {best['minutes']:.1f} minutes; quickest to train: number {fastest['number']:.0f} with {fastest['value']:.1f} "
        f"after {fastest['minutes']:.1f} minutes. The table below has all of them."
    )
    title = f"BLEU-4, free, beam {beam}, against cost"
    return partial(scatter, title, "BLEU-4 with 95 % interval", frame.to_dict("records"), SIDES), alt


def knowledge_table(profile: Profile) -> Table | None:
    """How much of single drawn objects each encoder had right after its pretraining, one row per encoder; None where no record says so."""
    first: dict[str, dict] = {}
    for record in profile.finished:
        if record["encoder"].get("accuracy"):
            first.setdefault(record["encoder"].get("tag") or record["encoder"]["name"], record)
    if not first:
        return None
    asked = list(dict.fromkeys(what for record in first.values() for what in record["encoder"]["accuracy"]))
    columns = [Column("Encoder", numeric=False), Column("Parameters"), *(Column(f"{what.capitalize()}, %") for what in asked)]
    rows = []
    for tag, record in first.items():
        shares = [record["encoder"]["accuracy"].get(what) for what in asked]
        cells = [
            Missing("the encoder's card does not say") if share is None else Value(100 * share, f"{100 * share:.1f}") for share in shares
        ]
        rows.append([tag, millions(record["encoder"].get("parameters")), *cells])
    return Table("single-objects", "What each encoder has right of the single drawn objects it was trained on", columns, rows)
