"""The three protocols: against NLTK and pycocoevalcap, what is reported is what an unresampled bootstrap gives, and pairs share their draws."""

import gzip
import json
import warnings

import numpy as np
import pytest

from captioning.bad_input import BadInput
from captioning.protocols import METRICS, compare, measure_predictions, score_coco, score_free, score_predictions, score_published
from captioning.statistics import interval

REFERENCES = {
    "7": ["a brown dog runs across the grass", "the dog is running", "a dog running on green grass", "brown dog in a field", "a dog plays"],
    "3": ["two children ride a red bike", "kids on a bike", "two kids riding a bicycle", "a boy and a girl on a bike", "children biking"],
    "5": ["a man surfs a big wave", "a surfer riding a wave", "man on a surfboard", "the man is surfing", "a surfer in the sea"],
}
CANDIDATES = {"5": "a man riding a wave on a surfboard", "7": "a brown dog runs on green grass", "3": "two kids ride a red bike in a park"}
WITHOUT_SPICE = ("BLEU", "METEOR", "ROUGE-L", "CIDEr")


def nltk_bleu(references, candidates) -> list[float]:
    from nltk.translate.bleu_score import corpus_bleu

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return [100 * corpus_bleu(references, candidates, weights=(1 / n,) * n) for n in (1, 2, 3, 4)]


def test_free_is_nltk():
    scored = score_free(CANDIDATES, REFERENCES, split="val", beam=3)
    ids = list(REFERENCES)
    expected = nltk_bleu([[r.split() for r in REFERENCES[i]] for i in ids], [CANDIDATES[i].split() for i in ids])
    assert list(scored.scores().values()) == pytest.approx(expected, abs=1e-9)
    assert scored.ids == tuple(REFERENCES)
    assert scored.signature == (
        "free|split:val|beam:3|stop:?|lenpen:?|max:?|ngram:?|unk:?|select:?|specials:?|tok:dataset|refs:5|v:nltk-rule,recap-1"
    )


def test_coco_is_pycocoevalcap():
    from pycocoevalcap.bleu.bleu import Bleu
    from pycocoevalcap.cider.cider import Cider
    from pycocoevalcap.rouge.rouge import Rouge

    raw = {i: [caption.capitalize() + "." for caption in captions] for i, captions in REFERENCES.items()}
    scored = score_coco(CANDIDATES, raw, METRICS, split="test")
    tokens = {i: [CANDIDATES[i]] for i in REFERENCES}
    expected = [100 * v for v in Bleu(4).compute_score(REFERENCES, tokens, verbose=0)[0]]
    expected += [100 * metric.compute_score(REFERENCES, tokens)[0] for metric in (Rouge(), Cider())]
    scores = scored.scores()
    assert [scores[name] for name in ("BLEU-1", "BLEU-2", "BLEU-3", "BLEU-4", "ROUGE-L", "CIDEr")] == pytest.approx(expected, abs=1e-9)
    assert 10 < scores["METEOR"] < 60
    assert list(scored.not_available) == ["SPICE"] and "SPICE" not in scores
    assert scored.signature.startswith("coco|split:test|beam:?|") and "|tok:ptb|refs:5|v:pycocoevalcap-" in scored.signature


def test_coco_without_java_says_so_for_every_metric(monkeypatch):
    monkeypatch.setenv("RECAP_JAVA", "/nowhere/java")
    found = score_coco(CANDIDATES, REFERENCES).to_json()
    assert found["scores"] == found["intervals"] == {}
    assert list(found["not_available"]) == ["BLEU-1", "BLEU-2", "BLEU-3", "BLEU-4", "METEOR", "ROUGE-L", "CIDEr", "SPICE"]
    assert all("/nowhere/java is not an executable file" in reason for reason in found["not_available"].values())
    assert score_free(CANDIDATES, REFERENCES).scores()["BLEU-1"] > 0


def test_only_meteor_fails(monkeypatch):
    from captioning.java import JavaUnavailable
    from captioning.meteor import Meteor

    def fail(*_):
        raise JavaUnavailable("Java failed with status 137: killed")

    monkeypatch.setattr(Meteor, "start", lambda self: None)
    monkeypatch.setattr(Meteor, "counts", fail)
    found = score_coco(CANDIDATES, REFERENCES, WITHOUT_SPICE)
    assert found.not_available == {"METEOR": "Java failed with status 137: killed"}
    assert list(found.scores()) == ["BLEU-1", "BLEU-2", "BLEU-3", "BLEU-4", "ROUGE-L", "CIDEr"]


def forced(words: str, top5: int = 2, cross_entropy: float = 5.0, penalty: float = 0.5) -> dict:
    return {"words": words, "n": len(words.split()), "top5": top5, "cross_entropy": cross_entropy, "penalty": penalty}


def test_published_counts_captions_end_and_unk():
    """By NLTK's own function on the rows written out: a hypothesis per caption, all references of its image, <unk> and <end> kept."""
    references = {"1": ["a dog runs", "a zebra"], "2": ["the cat sits here now"]}
    own = {
        "1": [forced("a <unk> runs <end>", 3, 4.0, 0.2), forced("a <unk> <end>", 3, 6.0, 0.4)],
        "2": [forced("the cat sits <end>", 1, 8.0, 0.9)],
    }
    scored = score_published(own, references, ["a", "dog", "runs", "the", "cat", "sits", "here", "<end>", "<unk>"], max_words=4)
    first = [["a", "dog", "runs", "<end>"], ["a", "<unk>", "<end>"]]
    second = [["the", "cat", "sits", "here", "<end>"]]  # cut to 4 words, as in training
    said = [["a", "<unk>", "runs", "<end>"], ["a", "<unk>", "<end>"], ["the", "cat", "sits", "<end>"]]
    assert list(scored.scores().values())[:4] == pytest.approx(nltk_bleu([first, first, second], said), abs=1e-9)
    rest = {name: value for name, value in scored.scores().items() if not name.startswith("BLEU")}
    entropy, penalty = 18 / 11, 1.5 / 3
    assert rest == pytest.approx(
        {"top-5": 100 * 7 / 11, "cross-entropy": entropy, "cross-entropy per caption": 6, "penalty": penalty, "loss": entropy + penalty}
    )
    # Images are resampled, not rows: of two images a draw has the one, both or the other.
    assert {round(float(v), 9) for v in scored.resampled(200)["top-5"]} == {round(100 * v, 9) for v in (6 / 7, 7 / 11, 1 / 4)}
    assert "|max:4|" in scored.signature and "|specials:end-kept,unk-matches|" in scored.signature


@pytest.mark.parametrize("keep_end, match_unk", [(True, False), (False, True), (False, False)])
def test_what_end_and_unk_are_worth(keep_end, match_unk):
    """The two accidents of the published BLEU switched off, by NLTK's own function on the rows written out."""
    references = {"1": ["a dog runs", "a zebra"], "2": ["the cat sits here now"]}
    own = {
        "1": [forced("a <unk> runs <end>", 3, 4.0, 0.2), forced("a <unk> <end>", 3, 6.0, 0.4)],
        "2": [forced("the cat sits here now <end>", 1, 8.0, 0.9)],
    }
    words = ["a", "dog", "runs", "the", "cat", "sits", "here", "now", "<end>", "<unk>"]
    end, unk = ["<end>"] * keep_end, "<unk>" if match_unk else "zebra"
    first = [["a", "dog", "runs", *end], ["a", unk, *end]]
    second = [["the", "cat", "sits", "here", "now", *end]]
    said = [["a", "<unk>", "runs", *end], ["a", "<unk>", *end], ["the", "cat", "sits", "here", "now", *end]]
    found = score_published(own, references, words, keep_end=keep_end, match_unk=match_unk)
    assert list(found.scores().values())[:4] == pytest.approx(nltk_bleu([first, first, second], said), abs=1e-9)
    published = score_published(own, references, words)
    assert found.scores()["BLEU-4"] < published.scores()["BLEU-4"] and found.scores()["top-5"] == published.scores()["top-5"]
    assert f"|specials:end-{'kept' if keep_end else 'dropped'},unk-{'matches' if match_unk else 'never'}|" in found.signature


def test_published_of_subwords_has_losses_only():
    own = {"1": [{"words": None, "n": 4, "top5": None, "cross_entropy": 4.0, "penalty": None}]}
    scored = score_published(own, {"1": ["a dog"]}, None)
    assert scored.scores()["cross-entropy per caption"] == 4
    assert "subwords" in scored.not_available["BLEU-4"] and "subwords" in scored.not_available["top-5"]


def test_unresampled_is_reported_and_intervals_hold_it():
    scored = score_coco(CANDIDATES, REFERENCES, WITHOUT_SPICE)
    found = scored.to_json()
    for statistic in scored.statistics:
        ones = np.ones((1, len(REFERENCES)))
        assert (statistic.finish(ones @ statistic.rows)[0]).tolist() == pytest.approx([found["scores"][name] for name in statistic.names])
    for name, (low, high) in found["intervals"].items():
        assert low <= found["scores"][name] <= high
    assert all(len(values) == 3 for values in scored.per_image().values())
    json.dumps(found, allow_nan=False)


def test_paired_comparison():
    a, b = score_free(CANDIDATES, REFERENCES), score_free({i: "a dog" for i in REFERENCES}, REFERENCES)
    found = compare(a, b, draws=500)
    first, second = a.resampled(500), b.resampled(500)
    for name in a.scores():
        assert found[name]["difference"] == a.scores()[name] - b.scores()[name]
        assert found[name]["interval"] == list(interval(first[name] - second[name]))
    assert all(pair["difference"] == 0 and pair["interval"] == [0, 0] for pair in compare(a, a, draws=100).values())
    with pytest.raises(ValueError, match="same images"):
        compare(a, score_free({"7": "a"}, {"7": ["a"]}))


def test_other_images_or_fields_are_refused():
    with pytest.raises(ValueError, match="not the same"):
        score_free({"1": "a"}, {"2": ["a"]})
    with pytest.raises(TypeError, match="unknown signature field 'beams'"):
        score_free(CANDIDATES, REFERENCES, beams=3)


@pytest.fixture
def predictions(tmp_path):
    header = {"schema": 1, "run_id": "x", "vocabulary": ["<pad>", "<start>", "<end>", "<unk>", "a", "dog", "runs", "cat"], "max_words": 20}
    header |= {"references": "references-00.jsonl.gz", "beams": [1, 3], "decoding": {"stop": "best", "unk": "allowed"}}
    lines, references = [header], []
    for number, split in enumerate(("val", "val", "test")):
        said = {"1": {"text": "a dog <end>", "score": -1.0}, "3": {"text": "a <unk> dog runs", "score": -1.0}}
        lines.append({"id": str(number), "split": split, "free": said, "forced": [forced("a dog <end>"), forced("a <unk> runs <end>")]})
        references.append({"id": str(number), "split": split, "tokens": ["a dog", "a zebra runs"], "raw": ["A dog.", "A zebra runs!"]})
    save(tmp_path / "x.jsonl.gz", lines)
    save(tmp_path / "references-00.jsonl.gz", references)
    return tmp_path / "x.jsonl.gz"


def save(path, lines):
    path.write_bytes(gzip.compress("\n".join(map(json.dumps, lines)).encode()))


def test_a_runs_saved_predictions(predictions):
    found = score_predictions(predictions, "val", draws=50)
    assert list(found) == ["published", "free", "coco"] and list(found["free"]) == ["1", "3"] and list(found["coco"]) == ["3"]
    assert found["published"]["n_images"] == found["free"]["1"]["n_images"] == 2
    assert found["published"]["scores"]["BLEU-1"] == pytest.approx(100)
    assert found["free"]["1"]["scores"]["BLEU-2"] == pytest.approx(100)  # the end token is dropped
    assert found["free"]["3"]["scores"]["BLEU-1"] == pytest.approx(100)  # and so is <unk>
    assert found["free"]["3"]["signature"].startswith(
        "free|split:val|beam:3|stop:best|lenpen:?|max:20|ngram:?|unk:allowed|select:?|specials:dropped|"
    )
    assert found["coco"]["3"]["scores"]["METEOR"] > 30
    scored = measure_predictions(predictions, "val")["free"]["1"]
    assert scored.to_json(50) == found["free"]["1"]


def test_subwords_are_cut_by_one_rule(predictions):
    with gzip.open(predictions) as file:
        header, *lines = map(json.loads, file)
    for line in lines:
        line["free"] = {"3": {"text": "A dog, runs.", "score": 0.0}}
        line["forced"] = [{"words": None, "n": 3, "top5": None, "cross_entropy": 2.0, "penalty": None}] * 2
    save(predictions, [header | {"vocabulary": None, "beams": [3]}, *lines])
    found = measure_predictions(predictions, "test")
    assert "|tok:a-z0-9,refs-dataset|" in found["free"]["3"].signature
    assert found["free"]["3"].scores()["BLEU-1"] == pytest.approx(100)
    assert found["published"].scores()["cross-entropy per caption"] == 2


def test_damaged_predictions(predictions):
    with pytest.raises(BadInput, match="0 images of split 'train'"):
        score_predictions(predictions, "train")
    (predictions.parent / "references-00.jsonl.gz").unlink()
    with pytest.raises(BadInput, match="references-00.jsonl.gz: no such file"):
        score_predictions(predictions, "val")
    predictions.write_bytes(predictions.read_bytes()[:-20])
    with pytest.raises(BadInput, match="damaged"):
        score_predictions(predictions, "val")
    save(predictions, [{"schema": 1}])
    with pytest.raises(BadInput, match="no 'vocabulary'"):
        score_predictions(predictions, "val")
