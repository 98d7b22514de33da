"""The pointing game: by hand on small masks, against torch's upsampling, against a decoder that steps word by word; its scores and its tables."""

import csv
import gzip
import io
import json
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from torch import nn

from captioning import pointing, validation
from captioning.batches import CaptionIds
from captioning.config import Decode, RunConfig
from captioning.decoding import search
from captioning.pointing import (
    absent_nouns,
    has_scenes,
    hit_share,
    mass_inside,
    measure_pointing,
    point,
    pointing_of_split,
    pointing_statistics,
    score_pointing,
    score_saved,
    upsample,
)
from captioning.protocols import compare
from captioning.scene_grammar import NOUNS
from captioning.scenes import SIDE, Background, Group, Scene, Thing, load_scenes, noun_masks
from captioning.statistics import resample
from captioning.vocabulary import START, Vocabulary
from models import AttendDecoder, CaptionModel
from reports.pointing import pointing_table
from reports.tables import Missing

ROOT = Path(__file__).resolve().parents[1]
PLAIN = Background(((90, 90, 90), (90, 90, 90)), (1, 0), "plain", 6, 3, 4)


def make_scene(*groups: tuple[str, str, tuple[tuple[int, int], ...]]) -> Scene:
    """Things of radius 5 at (x, y): (shape, colour, places) per group."""
    made = [Group(shape, colour, "small", tuple(Thing(x, y, 5, (0, 0, 0)) for x, y in places)) for shape, colour, places in groups]
    return Scene((0, 0, 0), PLAIN, tuple(made), (), ())


SCENE = make_scene(("circle", "red", ((12, 12),)), ("star", "white", ((44, 20), (44, 31))), ("circle", "blue", ((52, 52),)))


def one_hot(row: int, column: int, grid: tuple[int, int] = (8, 8)) -> np.ndarray:
    weights = np.zeros(grid)
    weights[row, column] = 1
    return weights


def even(words: int, grid: tuple[int, int] = (8, 8)) -> np.ndarray:
    return np.full((words, *grid), 1 / np.prod(grid), dtype=np.float32)


@pytest.mark.parametrize("grid", [(8, 8), (7, 7), (3, 5), (1, 4), (12, 12)])
def test_even_attention_scores_exactly_chance(grid):
    words = ["a", "red", "circle", "above", "two", "stars"]
    found = point(SCENE, words, even(len(words), grid))
    assert [one.noun for one in found] == ["circle", "stars"]
    for one in found:
        assert one.hit == one.share == noun_masks(SCENE, one.noun).mean()
        assert one.mass == pytest.approx(one.share, rel=1e-6)


def test_attention_on_the_object_hits_and_its_mass_is_the_overlap():
    mask = np.zeros((SIDE, SIDE), dtype=bool)
    mask[8:16, 16:20] = True  # the left half of cell (1, 2)
    mask[10:14, 20:22] = True  # and its middle
    assert hit_share(one_hot(1, 2), mask) == 1
    assert mass_inside(one_hot(1, 2), mask) == mask[8:16, 16:24].mean()
    assert hit_share(one_hot(1, 3), mask) == mass_inside(one_hot(1, 3), mask) == 0
    assert mass_inside(0.25 * one_hot(1, 2) + 0.75 * one_hot(6, 6), mask) == pytest.approx(0.25 * mask[8:16, 16:24].mean())
    (found,) = point(SCENE, ["circle"], one_hot(1, 1)[None])
    assert found.hit == 1 and 0.9 < found.mass <= 1  # a circle of 11 pixels across covers the cell it stands on but for corners
    (found,) = point(SCENE, ["star"], one_hot(1, 1)[None])
    assert found.hit == found.mass == 0


def test_blind_attention_gets_what_the_report_says():
    """Even attention gets chance, attention fixed on the middle about twice that, attention on the region that a thing covers most nearly all."""
    data, fixed, best = load_scenes(0, 200, 0), {}, {}
    middle = 0.25 * (one_hot(3, 3) + one_hot(3, 4) + one_hot(4, 3) + one_hot(4, 4))
    for example, scene in zip(data.examples, data.images.scenes, strict=True):
        nouns = [word for word in example.captions[0].split() if word in NOUNS]
        cover = [noun_masks(scene, noun).reshape(8, 8, 8, 8).mean((1, 3)) for noun in nouns]
        for entries, maps in ((fixed, [middle] * len(nouns)), (best, [one_hot(*divmod(int(c.argmax()), 8)) for c in cover])):
            entries[example.image_id] = {"forced": [list(one) for one in point(scene, nouns, np.stack(maps))]}
    assert 1.7 < score_pointing(fixed, draws=0)["scores"]["ratio"] < 2.5
    ceiling = score_pointing(best, draws=0)["scores"]
    assert 80 < ceiling["pointing"] < 100 and 65 < ceiling["mass"] < 85 and ceiling["ratio"] > 12


def test_a_tie_counts_as_the_share_of_its_places_inside():
    mask = np.zeros((SIDE, SIDE), dtype=bool)
    mask[:16, :16] = True
    assert hit_share(0.5 * (one_hot(0, 0) + one_hot(7, 7)), mask) == pytest.approx(16 / 32)  # a corner is flat to the edge, 4x4 pixels each
    assert hit_share(0.5 * (one_hot(0, 0) * (1 + 1e-8) + one_hot(7, 7)), mask) == pytest.approx(16 / 32)  # rounding breaks no tie
    assert hit_share(0.51 * one_hot(0, 0) + 0.49 * one_hot(7, 7), mask) == 1


@pytest.mark.parametrize("grid", [(8, 8), (7, 7), (4, 8), (1, 4), (2, 3), (16, 16)])
def test_upsampling_is_torchs(grid):
    weights = np.random.default_rng(0).random(grid)
    theirs = nn.functional.interpolate(torch.from_numpy(weights)[None, None], (SIDE, SIDE), mode="bilinear", align_corners=False)
    assert np.abs(upsample(weights) - theirs[0, 0].numpy()).max() < 1e-6


@pytest.mark.parametrize("grid", [(8, 8), (4, 8)])
def test_every_cell_is_strongest_in_its_middle(grid):
    h, w = SIDE // grid[0], SIDE // grid[1]
    for row in range(1, grid[0] - 1):
        for column in range(1, grid[1] - 1):
            fine = upsample(one_hot(row, column, grid))
            places = np.argwhere(fine == fine.max())
            assert places.mean(0).tolist() == [(row + 0.5) * h - 0.5, (column + 0.5) * w - 0.5] and len(places) == 4


def test_mass_is_spread_over_whole_cells_and_sums_to_one():
    weights = np.random.default_rng(1).dirichlet(np.ones(35)).reshape(5, 7)
    assert mass_inside(weights, np.ones((SIDE, SIDE), dtype=bool)) == pytest.approx(1)
    top = np.zeros((SIDE, SIDE), dtype=bool)
    top[:16] = True  # one row of cells and a quarter of the next: 64 / 5 = 12.8 pixels each
    assert mass_inside(weights, top) == pytest.approx(weights[0].sum() + 0.25 * weights[1].sum())


def test_plurals_synonyms_and_a_noun_for_two_groups():
    words = ["two", "discs", "and", "a", "circle", "with", "stars", "box"]
    found = point(SCENE, words, np.stack([one_hot(1, 1)] * 3 + [one_hot(1, 1)] + [one_hot(6, 6)] * 4))
    assert [one.noun for one in found] == ["discs", "circle", "stars"]  # no square stands there
    both = noun_masks(SCENE, "circle").mean()
    assert [one.share for one in found] == [both, both, noun_masks(SCENE, "star").mean()]
    assert found[0] == found[1]._replace(noun="discs") and [one.hit for one in found] == [1, 1, 0]
    (on_blue,) = point(SCENE, ["circles"], one_hot(6, 6)[None])
    assert on_blue.hit == 1  # any thing of the noun counts
    assert absent_nouns(SCENE, words) == ["box"] and absent_nouns(SCENE, ["red", "<unk>", "disc"]) == []


@pytest.mark.parametrize("maps", [even(2), np.zeros((1, 8, 8)), np.full((1, 8, 8), np.nan), np.ones((1, 64)) / 64])
def test_wrong_attention_is_refused(maps):
    with pytest.raises(ValueError, match="one map"):
        point(SCENE, ["circle"], maps)


def test_a_caption_without_words_names_nothing():
    assert point(SCENE, [], np.zeros((0, 8, 8))) == []


ENTRIES = {
    "a": {"forced": [["star", 1.0, 0.5, 0.1], ["disc", 0.0, 0.25, 0.05]], "free": [], "absent": ["box"]},
    "b": {"forced": [["star", 1.0, 0.75, 0.15]], "free": [["star", 0.5, 0.6, 0.2]], "absent": []},
    "c": {"forced": [], "free": [], "absent": []},
}


def test_scores_are_sums_over_nouns_and_intervals_hold_them():
    found = score_pointing(ENTRIES, "forced", "val", 5)
    assert found["scores"] == pytest.approx({"pointing": 200 / 3, "mass": 150 / 3, "chance": 10, "ratio": 2 / 0.3})
    assert found["protocol"] == "pointing-forced" and (found["n_images"], found["n_nouns"]) == (3, 3) and "n_absent" not in found
    assert "split:val|beam:teacher-forced" in found["signature"] and found["not_available"] == {}
    for name, value in found["scores"].items():
        low, high = found["intervals"][name]
        assert low <= value + 1e-9 and value <= high + 1e-9
    free = score_pointing(ENTRIES, "free", "val", 5, draws=0)
    assert free["scores"] == pytest.approx({"pointing": 50, "mass": 60, "chance": 20, "ratio": 2.5})
    assert (free["n_nouns"], free["n_absent"]) == (1, 1) and "beam:5" in free["signature"] and free["intervals"] == {}
    assert json.loads(json.dumps(found)) == found


def test_resampling_every_image_once_gives_the_value(monkeypatch):
    statistic = pointing_statistics([entry["forced"] for entry in ENTRIES.values()])
    monkeypatch.setattr("captioning.statistics.image_counts", lambda images, draws, seed: iter([np.ones((1, images))]))
    once = resample([statistic], 1)
    assert {name: values[0] for name, values in once.items()} == pytest.approx(statistic.values())


def test_no_noun_is_no_score():
    found = score_pointing({"c": ENTRIES["c"]}, "free", "test", 5)
    assert found["scores"] == {} and set(found["not_available"]) == set(pointing.NAMES) and found["n_nouns"] == 0
    with pytest.raises(ValueError, match="forced, free"):
        measure_pointing(ENTRIES, "beam")


def test_two_systems_are_compared_on_the_same_images():
    other = {image: entry | {"forced": [[n, 0.0, m, s] for n, _, m, s in entry["forced"]]} for image, entry in ENTRIES.items()}
    found = compare(measure_pointing(ENTRIES), measure_pointing(other), draws=200)
    assert found["pointing"]["difference"] == pytest.approx(200 / 3) and found["mass"]["interval"] == [0, 0]
    with pytest.raises(ValueError):
        compare(measure_pointing(ENTRIES, "forced"), measure_pointing(ENTRIES, "free"))


def test_scores_come_from_saved_predictions_alone(tmp_path):
    path = tmp_path / "run.jsonl.gz"

    def save(lines):
        path.write_bytes(gzip.compress("".join(json.dumps(line) + "\n" for line in lines).encode()))

    lines = [{"id": i, "split": "val", "pointing": entry} for i, entry in ENTRIES.items()]
    lines.append({"id": "d", "split": "test"})
    save([{"beams": [3, 1]}, *lines])
    found = score_saved(path, "val", draws=50)
    assert found == {captions: score_pointing(ENTRIES, captions, "val", 3, draws=50) for captions in ("forced", "free")}
    assert score_saved(path, "test") is None and score_saved(path, "train") is None


def make_tiny(**changes):
    """A decoder with random weights whose attention is far from even, on random regions of three scenes, 4x4 each."""
    data = load_scenes(train=0, val=3, test=0, seed=5)
    vocabulary = Vocabulary.build([c for e in data.examples for c in e.captions] * 2, 2)
    torch.manual_seed(0)
    config = RunConfig(embed_dim=8, attention_dim=8, hidden_dim=8, max_words=20, **changes)
    decoder = AttendDecoder(6, len(vocabulary), config)
    with torch.no_grad():
        if config.attention != "none":
            decoder.attention.score.weight *= 40
        decoder.embedding.weight *= 10
        decoder.project.weight *= 3
    encoder = nn.Module()
    encoder.grid = [4, 4]
    regions = torch.randn(3, 16, 6).half()
    inputs = SimpleNamespace(get=lambda indices: regions[torch.as_tensor(indices)])
    captions = CaptionIds([e.captions for e in data.examples], [0, 1, 2], vocabulary, 20)
    return data, vocabulary, CaptionModel(encoder, decoder, config).eval(), inputs, captions, regions.float()


@pytest.fixture(scope="module")
def tiny():
    return make_tiny()


def play(model, data, captions, inputs, images: list[int], decode: Decode, vocabulary) -> list[dict]:
    """The game on the images' own captions, in a batch, and on their references."""
    said = [found[0] for found in search(model.decoder, inputs.get(images).float(), decode, attend=True)]
    return list(pointing_of_split(model, data, captions, inputs, images, said, vocabulary, torch.device("cpu")))


def attend_step_by_step(decoder, regions: torch.Tensor, ids: list[int]) -> np.ndarray:
    """The attention (T, 4, 4) of each step that predicts ids (T,), words fed one by one."""
    state, maps = decoder.start(regions[None]), []
    for before in [START, *ids[:-1]]:
        _, state, attention = decoder.step(torch.tensor([before]), state, attend=True)
        maps.append(attention[0].numpy().reshape(4, 4))
    return np.stack(maps)


@torch.inference_mode()
@pytest.mark.parametrize("at_once", [50, 2])
def test_forced_attention_is_the_steps_that_predict_the_nouns(tiny, monkeypatch, at_once):
    data, vocabulary, model, inputs, captions, regions = tiny
    monkeypatch.setattr(validation, "IMAGES_AT_ONCE", at_once)
    assert has_scenes(data) and not has_scenes(SimpleNamespace(images=object()))
    images, decode = [2, 0, 1], Decode(beam=3, max_words=8)
    found = play(model, data, captions, inputs, images, decode, vocabulary)
    assert len(found) == 3 and json.loads(json.dumps(found)) == found
    for image, entry in zip(images, found, strict=True):
        scene, example, wanted = data.images.scenes[image], data.examples[image], []
        for caption in example.captions:
            ids = vocabulary.encode(caption)
            wanted += point(scene, vocabulary.decode(ids), attend_step_by_step(model.decoder, regions[image], ids))
        assert [row[0] for row in entry["forced"]] == [one.noun for one in wanted] and len(wanted) >= 8
        assert np.allclose([row[1:] for row in entry["forced"]], [one[1:] for one in wanted], atol=2e-6)
        best = search(model.decoder, regions[image : image + 1], decode)[0][0]
        words = vocabulary.decode(best.words)
        wanted = point(scene, words, attend_step_by_step(model.decoder, regions[image], best.words))
        assert [row[0] for row in entry["free"]] == [one.noun for one in wanted]
        assert np.allclose([row[1:] for row in entry["free"]], [one[1:] for one in wanted], atol=2e-6)
        assert entry["absent"] == absent_nouns(scene, words)


@torch.inference_mode()
def test_a_system_without_attention_scores_exactly_chance():
    data, vocabulary, model, inputs, captions, _ = make_tiny(attention="none")
    found = play(model, data, captions, inputs, [0, 1, 2], Decode(beam=2, max_words=6), vocabulary)
    rows = [row for entry in found for row in entry["forced"]]
    assert len(rows) >= 20 and all(hit == mass == share for _, hit, mass, share in rows)


@torch.inference_mode()
def test_drawn_locations_leave_the_random_state_alone():
    data, vocabulary, model, inputs, captions, _ = make_tiny(attention="hard", locations="sample")
    said = [found[0] for found in search(model.decoder, inputs.get([0, 1, 2]).float(), Decode(beam=2, max_words=6), attend=True)]
    arguments = (model, data, captions, inputs, [0, 1, 2], said, vocabulary, torch.device("cpu"))
    torch.manual_seed(7)
    before = torch.get_rng_state()
    found = list(pointing_of_split(*arguments))
    assert torch.equal(torch.get_rng_state(), before)
    torch.manual_seed(8)
    assert list(pointing_of_split(*arguments)) == found


@torch.inference_mode()
def test_memory_that_runs_out_halves_the_group(tiny, monkeypatch):
    data, vocabulary, model, inputs, captions, _ = tiny
    arguments = (model, data, captions, inputs, [2, 0, 1], Decode(beam=2, max_words=6), vocabulary)
    whole = play(*arguments)
    asked, forced = [], model.decoder.forced

    def short_of_memory(regions, *rest, **options):
        asked.append(len(regions))
        if len(regions) > 1:
            raise torch.OutOfMemoryError("too much")
        return forced(regions, *rest, **options)

    monkeypatch.setattr(model.decoder, "forced", short_of_memory)
    halves = play(*arguments)
    assert asked == [3, 1, 2, 1, 1] and [e["absent"] for e in halves] == [e["absent"] for e in whole]
    for one, other in zip(halves, whole, strict=True):
        assert np.allclose([row[1:] for row in one["forced"]], [row[1:] for row in other["forced"]], atol=2e-6)


def test_pointing_needs_no_torch():
    code = "import sys, captioning.pointing, reports.pointing; assert not {'torch', 'timm', 'nltk'} & set(sys.modules)"
    subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=True)


def make_records() -> list[dict]:
    """Made up: one with both splits, one without the test split's free captions, one from before the pointing game, one that failed."""
    scores = {captions: score_pointing(ENTRIES, captions, "val", 5, draws=100) for captions in ("forced", "free")}
    nothing = score_pointing({"c": ENTRIES["c"]}, "free", "test", 5)
    both = {"label": "Both", "pointing": {"val": scores, "test": scores | {"free": nothing}}}
    return [both, {"label": "Validation", "pointing": {"val": scores}}, {"label": "Old"}, {"label": "Failed", "pointing": None}]


def test_tables_hold_the_records_numbers(tmp_path):
    records = make_records()
    table = pointing_table(records, "forced", lambda record: record["label"])
    rows = list(csv.DictReader(io.StringIO(table.as_csv())))
    assert [row["Model"] for row in rows] == ["Both", "Validation"]
    scores = records[0]["pointing"]["val"]["forced"]
    for name, label in (("pointing", "Pointing, %"), ("mass", "Attention mass inside, %"), ("chance", "Chance, %"), ("ratio", "Ratio")):
        for split in ("Validation", "Test"):
            assert float(rows[0][f"{split} {label}"]) == scores["scores"][name]
            assert [float(rows[0][f"{split} {label} {end}"]) for end in ("low", "high")] == scores["intervals"][name]
    assert rows[0]["Validation Nouns"] == "3" and rows[1]["Test Nouns"] == ""
    assert "not played on this split" in rows[1]["missing"]
    assert table.columns[1].group == "Validation, n = 3 images" and len(table.remarks) == 2
    assert len(table.write(tmp_path)) == 3

    free = pointing_table(records, "free", lambda record: record["label"])
    cells = dict(zip([column.name for column in free.columns], free.rows[0], strict=True))
    assert cells["Validation Nouns not there"].value == 1 and cells["Validation Ratio"].text == "2.5"
    assert isinstance(cells["Test Pointing, %"], Missing) and "names a thing" in cells["Test Pointing, %"].reason
    assert cells["Test Nouns"].value == 0 and len(free.remarks) == 3


def test_no_record_no_table():
    assert pointing_table(make_records()[2:], "forced", str) is None
    assert pointing_table([], "free", str) is None
