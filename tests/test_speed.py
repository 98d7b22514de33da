"""The speed bench: its arithmetic by hand, a rehearsal of its cheap rows, and the tables made of its record."""

import json
import mmap
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch

from benchmarks import speed
from benchmarks.speeds import bench, growth, startup, training
from captioning.bad_input import BadInput
from captioning.speed_records import check_speeds, read_speeds
from reports import speed as report

ROOT = Path(__file__).resolve().parents[1]


def test_both_sides_take_turns():
    said = []
    ours, peer = bench.interleave(lambda: said.append("ours"), lambda: said.append("peer"), 3)
    assert said == ["ours", "peer", "ours", "peer", "peer", "ours", "ours", "peer"]  # the first two warm up
    assert len(ours) == len(peer) == 3 and min(ours + peer) >= 0


def test_a_ratio_is_per_unit_of_work():
    # 10 images in 2 s against 1 image in 3 s: 0.2 s against 3 s an image.
    assert bench.ratios([2.0, 4.0], [3.0, 3.0], 10, 1) == pytest.approx([15, 7.5])
    assert bench.Measured("", "", [15, 7.5, 1]).value == 7.5


def test_targets():
    assert bench.Target(at_least=2.5).met(2.5) and not bench.Target(at_least=2.5).met(2.49)
    assert bench.Target(at_most=1.15).met(1.15) and not bench.Target(at_most=1.15).met(1.16)
    assert str(bench.Target(at_most=0.4)) == "at most 0.4"


def test_a_line_is_found_and_its_worst_distance():
    line = growth.fit([1, 2, 4], [5, 8, 14])
    assert (line.start, line.slope, line.residual) == pytest.approx((2, 3, 0), abs=1e-9)
    assert growth.fit([1, 2, 4, 8], [5, 8, 14, 52]).residual > 0.1


def test_a_peak_is_that_of_what_ran_within():
    if bench.status_mb("RssAnon") is None:
        pytest.skip("this system does not say")
    with bench.Peak(torch.device("cpu")) as small:
        pass
    with bench.Peak(torch.device("cpu")) as large:
        block = mmap.mmap(
            -1, 200_000_000, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS
        )  # pages of its own: malloc may have kept as much of what tests before freed
        for place in range(0, len(block), mmap.PAGESIZE):
            block[place] = 1
        time.sleep(0.05)
        block.close()
        time.sleep(0.05)
    assert 180 < large.mb - small.mb < 230


def test_more_processes_are_a_line_with_their_memory(monkeypatch):
    monkeypatch.setattr(training, "demo_epochs", lambda n, threads, size: ([9.0, 8.0 / n], 500 * n))
    found = training.more_processes(bench.Size(quick=False, repeats=1), torch.device("cpu"))
    assert found.more["sizes"] == [1, 2, 3, 4] and found.more["peak_mb"] == [500, 1000, 1500, 2000]
    assert (
        found.more["best_seconds"] == pytest.approx([8, 4, 8 / 3, 2]) and found.values == [found.more["residual"]] and found.values[0] > 0.1
    )


def test_a_tree_of_processes_is_whole():
    script = "import subprocess, sys, time\nsubprocess.Popen(['sleep', '30'])\nprint('up', flush=True)\ntime.sleep(30)"
    process = subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE, text=True)
    assert process.stdout.readline() == "up\n"
    tree = training.tree_of(process.pid)
    assert len(tree) == 2 and tree[0] == process.pid
    subprocess.run(["kill", *map(str, tree)], check=True)
    process.wait()


def test_a_process_that_fails_is_named():
    with pytest.raises(RuntimeError, match="no such thing"):
        training._anonymous_peak([sys.executable, "-c", "raise SystemExit('no such thing')"])


def test_names():
    assert speed.chosen([]) == list(speed.ROWS)
    assert speed.chosen(["growth"]) == ["growth-images", "growth-words", "growth-beams", "growth-vocabulary", "growth-processes"]
    assert speed.chosen(["beam"]) == ["beam", "beam-best"]
    with pytest.raises(BadInput, match="--only bea: no such row"):
        speed.chosen(["bea"])


@pytest.fixture(scope="module")
def rehearsed(tmp_path_factory):
    path = tmp_path_factory.mktemp("speed") / "cpu.json"
    line = [sys.executable, "benchmarks/speed.py", "--device", "cpu", "--quick", "--repeats", "2", "--json", str(path), "--only"]
    for only in (["step-7x7", "beam", "t5", "prefix"], ["products", "growth-words", "second-run"]):
        done = subprocess.run([*line, *only], cwd=ROOT, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
    return done.stdout, {row["name"]: row for row in json.loads(path.read_text())["rows"]}


def test_rows_measured_earlier_stay_in_order(rehearsed):
    _, rows = rehearsed
    assert [*rows] == [name for name in speed.ROWS if name in rows]
    assert {"step-7x7", "step-7x7-unlike", "beam", "beam-best", "t5", "prefix", "products", "growth-words", "second-run"} == {*rows}


def test_what_is_compared_says_the_same(rehearsed):
    _, rows = rehearsed
    for name in ("beam", "t5", "prefix"):
        assert rows[name]["same_captions"] == 1, name
        assert rows[name]["values"] == pytest.approx(
            bench.ratios(rows[name]["seconds"], rows[name]["seconds_of_peer"], *((6, 2) if name == "beam" else ()))
        )
    assert rows["step-7x7"]["gflop_ours"] < rows["step-7x7"]["gflop_peer"]
    assert rows["step-7x7"]["quick"] and rows["step-7x7"]["met"] is None


def test_what_cannot_be_measured_is_a_row_with_its_reason(monkeypatch):
    def fails(*_):
        raise BadInput("3 of the demo's 26 runs are done;\nrun them first")

    monkeypatch.setattr(startup, speed.ROWS["second-run"].function, fails)
    row = speed.measure("second-run", bench.Size(quick=True, repeats=1), torch.device("cpu"))
    assert row == {"name": "second-run", "not_measured": "3 of the demo's 26 runs are done; run them first"}


def test_a_damaged_record_is_one_line(tmp_path):
    (tmp_path / "cpu.json").write_text('{"rows": [{"na')
    with pytest.raises(BadInput, match="cpu.json: no record of speeds .*; remove it"):
        read_speeds(tmp_path / "cpu.json")
    assert report.load_speeds([tmp_path])[0] == [] and len(report.load_speeds([tmp_path])[1]) == 1


def test_a_record_that_contradicts_itself_is_found():
    rows = read_speeds(ROOT / "results/evidence/speed/cpu-2-cores.json")
    assert rows and list(check_speeds(rows)) == []
    assert {"step-7x7", "epoch", "beam", "help", "memory"} <= rows.keys()
    for name, field, value in (
        ("beam", "value", 25.1), ("beam", "met", True), ("step-7x7", "values", [9.0, 9.0, 9.0, 9.0, 9.0]), ("epoch", "seconds", [1.0, 2.0, 9.0]),
        ("help", "value", 0.01), ("memory", "met", False), ("beam", "same_captions", 0), ("beam", "seconds_of_peer", []),
        ("growth-words", "slope", 9.0), ("step-7x7", "target", "at least 1"),
    ):  # fmt: skip
        changed = json.loads(json.dumps(rows))
        changed[name][field] = value
        assert [line for line in check_speeds(changed) if f"speed {name}: " in line], (name, field)


def record(**rows):
    where = {"device": "cpu: Some CPU @ 2.50GHz", "cores": 2, "threads": 2, "torch": "2.14.1"}
    kept = {
        name: {"name": name, "what": name, "unit": "x", "target": None, "met": None, "where": where} | row for name, row in rows.items()
    }
    return {"name": "cpu", "rows": kept}


def test_the_tables():
    rows = {
        "step-7x7": {"values": [2.4, 2.6, 3.0], "value": 2.6, "seconds": [0.8, 0.8, 1.6], "target": "at least 2.5", "met": True},
        "beam-best": {"values": [9.0], "value": 9.0, "images_per_second": 100.0},
        "caption": {"values": [0.9], "value": 0.9, "images_per_second_peer": 8.7, "encoder": "convnext_small"},
        "memory": {"not_measured": "no /proc"},
        "step-14x14": {"values": [9.0], "value": 9.0, "seconds": [1.6]},
        "growth-words": {
            "values": [0.1],
            "value": 0.1,
            "sizes": [5, 50],
            "best_seconds": [1.0, 9.0],
            "peak_mb": [900, 910],
            "slope": 0.2,
            "residual": 0.1,
        },
    }
    made = record(**rows)
    table = report.speed_table(made)
    assert [row[0] for row in table.rows] == ["step-7x7", "beam-best", "caption", "memory", "step-14x14"]
    assert table.rows[0][1].text == "2.60" and table.rows[0][1].interval == "2.40 to 3.00" and table.rows[0][4] == "yes"
    assert table.notes == ["no /proc"]
    (words,) = report.growth_table(made).rows
    assert words[1] == "5 to 50" and words[5].text == "10" and words[6] == "900 to 910"
    coco = {row[0]: row for row in report.coco_table(made).rows}
    # By hand: 3 tuned runs of ConvNeXt-Small, 8 epochs: 8 x (566,435 captions x 5 ms + 5,000 x 10 ms), 8 x (3 x 113,287 + 5,000) passes at the measured
    # 8.7 images/s of the same encoder, and beams 1, 3, 5 over val and test.
    beams = 3
    by_hand = 3 * (8 * (113_287 * 5 * 0.8 / 160 + 50) + 8 * (3 * 113_287 + 5_000) / 8.7 + 10_000 * beams / 100) / 3600
    assert coco["learning_rates"][1] == 3 and coco["learning_rates"][2].value == pytest.approx(by_hand, rel=1e-9)
    assert (
        coco["learning_rates"][3].value == pytest.approx(by_hand / 3) and coco["learning_rates"][4].value == 0
    )  # three runs, eight machines
    # teacher_forcing: two new runs on regions that are there.
    frozen = 2 * (8 * (113_287 * 5 * 0.8 / 160 + 50) + 10_000 * beams / 100) / 3600
    assert coco["teacher_forcing"][2].value == pytest.approx(frozen) and coco["teacher_forcing"][4].value == 0
    # loss_parts: the main row on a 14x14 grid, whose regions are new.
    fine = (8 * (113_287 * 5 * 1.6 / 160 + 50) + 10_000 * beams / 100 + 123_287 / 8.7) / 3600
    assert coco["loss_parts"][2].value == pytest.approx(fine)
    assert coco["loss_parts"][4].value == pytest.approx(123_287 * 196 * 768 * 2 / 1e9)
    together = coco["all of these"]
    each = [row for name, row in coco.items() if not name.startswith("all of these")]
    assert together[1] == sum(row[1] for row in each) and together[2].value == pytest.approx(sum(row[2].value for row in each))
    # Four seeds more: the same but for the regions, which are there. Those of the main encoder on both grids cost 123,287 / 8.7 each.
    five = coco["all of these, 5 seeds"]
    assert five[1] == 5 * together[1] and 4 * together[2].value < five[2].value < 5 * together[2].value and five[4] == together[4]
    said = report.coco_in_words([record(memory=rows["memory"]), made])
    assert f"{five[1]} runs. Hours, 1 CPU: {five[2].text}; " in said and report.coco_in_words([]) == ""
    assert "8 epochs a run" in report.coco_table(made).remarks[0]
    assert together[2].value / 8 <= together[3].value < together[2].value
    # A GPU of 10 TFLOP/s against a machine of 0.2: fifty times.
    assumed = {row[0]: row for row in report.coco_table(record(**rows, products={"value": 200.0, "values": [200.0]})).rows}
    assert len(coco["teacher_forcing"]) == 5 and assumed["teacher_forcing"][5].value == pytest.approx(frozen / 50)
    assert report._side_by_side([5, 4, 3, 3], 2) == 8
    assert report.coco_table(record(memory=rows["memory"])) is None
    without = record(**rows)
    without["rows"] = {"memory": {"not_measured": "no /proc"}} | without["rows"]  # a row without a place first of all
    assert {row[0]: row[1] for row in report.coco_table(without).rows} == {name: row[1] for name, row in coco.items()}


@pytest.mark.parametrize("name", ["convnext_small", "resnet101", "vgg16", "vit_base_patch16_224"])
def test_multiply_adds_are_what_torch_counts(name):
    import timm
    from torch.utils.flop_counter import FlopCounterMode

    with torch.device("meta"):
        model, picture = timm.create_model(name).eval(), torch.empty(1, 3, 224, 224)
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        model.forward_features(picture)
    assert counter.get_total_flops() / 2e9 == pytest.approx(report.GMACS[name], abs=0.006)


def test_the_memory_of_a_process_is_watched():
    began = time.monotonic()
    peak = training._anonymous_peak([sys.executable, "-c", "import time; x = bytearray(300_000_000); time.sleep(0.6)"])
    assert 280 < peak < 400 and time.monotonic() - began < 20
