"""Photographs from elsewhere: captions are kept without photos, a judgement stays as long as its caption, and the page counts them."""

import json
import sys

import numpy as np
import pytest
import torch
from PIL import Image

from benchmarks import photos
from captioning import load_captioner
from captioning.bad_input import BadInput, run_command
from captioning.config import Decode
from captioning.judged_photos import counts_of, keep_others, read_photos
from captioning.protocols import score_coco
from captioning.vocabulary import UNK
from reports.photos import photo_table
from reports.profile import Profile
from reports.tables import Missing, Value
from tests.web_files import make_demo


@pytest.fixture(scope="module")
def demo(tmp_path_factory):
    return make_demo(tmp_path_factory.mktemp("demo"))


@pytest.fixture
def call(demo, tmp_path, monkeypatch, capsys):
    """benchmarks/photos.py for one captioner and two sets; sets lie in tmp_path."""
    random = np.random.default_rng(0)
    for name, count in (("one", 3), ("two", 2)):
        (tmp_path / name).mkdir()
        for k in range(count):
            Image.fromarray(random.integers(0, 256, (40, 60, 3), dtype=np.uint8)).save(tmp_path / name / f"{name}|{k}.png")
    references = {f"two|{k}": ["a red square", "a dog"] for k in range(2)}
    (tmp_path / "references.json").write_text(json.dumps(references))

    def run(*more):
        sets = [f"{name}={tmp_path / name}" for name in ("one", "two")]
        line = ["--captioner", demo / "checkpoints/looks", "--photos", *sets, "--references", f"two={tmp_path / 'references.json'}"]
        monkeypatch.setattr(sys, "argv", ["photos.py", *map(str, line), "--to", str(tmp_path / "photos.json"), *more])
        with pytest.raises(SystemExit) as left:
            run_command(photos.main)
        return left.value.code, capsys.readouterr().out

    return run


def judge(path, *judgements):
    content = json.loads(path.read_text())
    for one, judgement in zip(content["photos"], judgements, strict=False):
        one |= {"judged": judgement, "why": f"because | of <{judgement}>"}
    path.write_text(json.dumps(content))


def profile_of(folder) -> Profile:
    return Profile("flickr8k", folder, [], [], [], [])


def test_captions_are_the_captioners_and_scores_pycocoevalcaps(call, demo, tmp_path):
    status, out = call("--open")
    found = read_photos(tmp_path / "photos.json")
    assert status == 0 and "5 captions, 5 not judged" in out and out.count("looks  one/") == 3
    captioner = load_captioner(demo / "checkpoints/looks", "cpu")
    for one in found["photos"]:
        (said,) = captioner.caption([tmp_path / one["set"] / one["photo"]], Decode(5, ban_unk=True))
        assert one["caption"] == said.text
    captions = {one["photo"].removesuffix(".png"): one["caption"] for one in found["photos"] if one["set"] == "two"}
    expected = score_coco(captions, {image: ["a red square", "a dog"] for image in captions}, ("CIDEr",)).scores()
    assert found["scores"][0]["scores"]["CIDEr"] == pytest.approx(expected["CIDEr"]) and found["scores"][0]["n_images"] == 2


def test_captions_to_judge_hold_no_unknown_words(call, tmp_path, monkeypatch):
    def biased(*how):
        captioner = load_captioner(*how)
        with torch.no_grad():
            captioner.model.decoder.project.bias[UNK] += 20
        assert "<unk>" in captioner.caption([tmp_path / "one" / "one|0.png"], Decode(5))[0].text
        return captioner

    monkeypatch.setattr("captioning.load_captioner", biased)
    assert call()[0] == 0
    found = read_photos(tmp_path / "photos.json")
    assert not any("<unk>" in one["caption"] for one in found["photos"])
    assert "unk:banned" in found["scores"][0]["signature"] and "?" not in found["scores"][0]["signature"]


def test_a_judgement_stays_as_long_as_its_caption(call, tmp_path):
    call()
    path = tmp_path / "photos.json"
    judge(path, "right", "partly", "wrong")
    content = json.loads(path.read_text())
    content["photos"][1]["caption"] += " no more"
    path.write_text(json.dumps(content | {"how": "by one judge"}))
    assert "3 not judged" in call()[1]
    assert [one["judged"] for one in read_photos(path)["photos"]] == ["right", None, "wrong", None, None]
    assert "which is not shown here: by one judge." in photo_table(profile_of(tmp_path))[1]


def test_captioners_that_are_not_named_stay(call, tmp_path):
    call()
    path = tmp_path / "photos.json"
    judge(path, *["right"] * 5)
    path.write_text(path.read_text().replace('"looks"', '"another"'))
    assert "10 captions" in call()[1]
    found = read_photos(path)
    assert [one["name"] for one in found["captioners"]] == ["looks", "another"] and len(found["scores"]) == 2
    assert [one["judged"] for one in found["photos"] if one["captioner"] == "another"] == ["right"] * 5


def test_a_call_with_one_set_keeps_the_others_judgements_and_scores(call, tmp_path):
    call()
    path = tmp_path / "photos.json"
    judge(path, *["right"] * 5)
    before = read_photos(path)
    found = before | {"photos": [one | {"judged": None} for one in before["photos"] if one["set"] == "one"], "scores": []}
    found = json.loads(json.dumps(found))
    keep_others(found, before)
    assert [one["judged"] for one in found["photos"] if one["set"] == "two"] == ["right"] * 2 and found["scores"] == before["scores"]
    assert len(found["captioners"]) == 1

    # Captions that changed have no score from before; another model's under the same name go altogether.
    again = json.loads(json.dumps(before | {"scores": []}))
    again["photos"][-1]["caption"] += " no more"
    keep_others(again, before)
    assert not again["scores"] and len(again["photos"]) == 5
    other = json.loads(json.dumps(found | {"photos": found["photos"][:3], "scores": []}))
    other["captioners"][0]["model"] = "0" * 12
    keep_others(other, before)
    assert len(other["photos"]) == 3 and not other["scores"]


def test_a_captioner_without_one_of_the_sets_has_no_row_of_it(call, tmp_path):
    call()
    path = tmp_path / "photos.json"
    content = json.loads(path.read_text())
    more = [one | {"captioner": "second"} for one in content["photos"] if one["set"] == "one"]
    content["captioners"].append(content["captioners"][0] | {"name": "second"})
    path.write_text(json.dumps(content | {"photos": content["photos"] + more}))
    table, page, problems = photo_table(profile_of(tmp_path))
    assert [row[:2] for row in table.rows] == [["looks", "one"], ["looks", "two"], ["second", "one"]] and not problems
    assert page.count("### two") == 1 and page.count("### one") == 2


def test_the_page_counts_and_lists_every_caption(call, tmp_path):
    call()
    judge(tmp_path / "photos.json", "right", "partly", "wrong")
    table, page, problems = photo_table(profile_of(tmp_path))
    one, two = table.rows
    assert not problems and [cell.value for cell in one[2:6]] == [3, 1, 1, 1] and one[6].value == pytest.approx(200 / 3)
    assert one[6].low <= one[6].value <= one[6].high and isinstance(one[7], Missing)
    assert isinstance(two[6], Missing) and "2 captions are not judged yet" in two[6].reason and isinstance(two[7], Value)
    assert counts_of(read_photos(tmp_path / "photos.json"), "looks", "two") == {"right": 0, "partly": 0, "wrong": 0, "not judged": 2}
    rows = [line for line in page.splitlines() if line.startswith(("| one", "| two"))]
    assert len(rows) == 5 and "one\\|0.png" in rows[0] and "because \\| of &lt;right&gt;" in rows[0] and "not judged" in rows[4]
    assert photo_table(profile_of(tmp_path / "one")) == (None, "", [])


@pytest.mark.parametrize("text, said", [("{", "not a file of judged captions"), ('{"schema": 2}', "schema 2")])
def test_a_damaged_file_is_named(tmp_path, text, said):
    (tmp_path / "photos.json").write_text(text)
    with pytest.raises(BadInput, match=said):
        read_photos(tmp_path / "photos.json")
    assert photo_table(profile_of(tmp_path))[0] is None and said in photo_table(profile_of(tmp_path))[2][0]


def test_a_judgement_that_is_none_is_refused(call, tmp_path):
    call()
    judge(tmp_path / "photos.json", "good")
    with pytest.raises(BadInput, match="judged 'good'; choose right, partly, wrong"):
        read_photos(tmp_path / "photos.json")


@pytest.mark.parametrize("more, said", [(["--photos", "one"], "give NAME=PLACE"), (["--photos", "one=/nowhere"], "there is no /nowhere"),
                                        (["--references", "three=/dev/null"], "names no set three")])  # fmt: skip
def test_wrong_sets_are_named(call, capsys, monkeypatch, more, said):
    with pytest.raises(BadInput, match=said):
        monkeypatch.setattr(sys, "argv", ["photos.py", "--captioner", "x", "--photos", "one=/tmp", *more])
        photos.main()
