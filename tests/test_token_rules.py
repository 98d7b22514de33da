"""One model's captions under every token rule, against NLTK on rows written out by hand."""

import gzip
import json

import pytest
from nltk.translate.bleu_score import corpus_bleu

from captioning.bad_input import BadInput
from captioning.token_rules import token_rules

VOCABULARY = ["<pad>", "<start>", "<end>", "<unk>", "a", "red", "dog", "runs", "on", "the", "grass", "man", "sits"]
FREE = {"x": "a red dog runs on the <unk>", "y": "a man sits on the grass"}
FORCED = {
    "x": ["a red dog runs on the <unk> <end>", "the dog runs on grass <end> <end>"],
    "y": ["a man sits on the grass <end>", "a dog sits on the <unk> <end>"],
}
TOKENS = {"x": ["a red dog runs on the meadow", "the red dog runs on grass"], "y": ["a man sits on the grass", "the man sits on the bench"]}


@pytest.fixture
def predictions(tmp_path):
    def write(name, lines):
        with gzip.open(tmp_path / name, "wt", encoding="utf-8") as file:
            file.writelines(json.dumps(line) + "\n" for line in lines)

    write("r.jsonl.gz", [{"id": i, "split": "val", "tokens": TOKENS[i], "raw": [f"{t}." for t in TOKENS[i]]} for i in "xy"])
    header = {"vocabulary": VOCABULARY, "references": "r.jsonl.gz", "beams": [1, 3], "max_words": 20, "decoding": {}}
    forced = {i: [{"words": w, "n": len(w.split()), "top5": 1, "cross_entropy": 1.0, "penalty": 0.1} for w in FORCED[i]] for i in "xy"}
    free = {b: {i: {"text": FREE[i] if b == "3" else "a dog", "score": 0, "ended": True} for i in "xy"} for b in ("1", "3")}
    lines = [{"id": i, "split": "val", "free": {b: free[b][i] for b in free}, "forced": forced[i]} for i in "xy"]
    write("p.jsonl.gz", [header, *lines])
    return tmp_path / "p.jsonl.gz"


def bleu(candidates, references) -> float:
    return 100 * corpus_bleu([[r.split() for r in several] for several in references], [c.split() for c in candidates])


def known(caption: str) -> str:
    return " ".join(word if word in VOCABULARY else "<unk>" for word in caption.split())


def test_every_rule_equals_nltk_on_rows_written_out(predictions):
    rows = {row["rule"]: row for row in token_rules(predictions, "val", draws=50)}
    said = {i: FREE[i].replace(" <unk>", "") for i in "xy"}
    flat = [(words, [f"{known(t)} <end>" for t in TOKENS[i]]) for i in "xy" for words in FORCED[i]]
    no_match = [(words, [t.replace("<unk>", "<other>") for t in several]) for words, several in flat]

    def without_end(pairs):
        return [(words.replace(" <end>", ""), [t.replace(" <end>", "") for t in several]) for words, several in pairs]

    expected = {
        "teacher-forced, as the published code scores: <end> kept, <unk> matches": flat,
        "teacher-forced, <end> dropped": without_end(flat),
        "teacher-forced, <unk> matches nothing": no_match,
        "teacher-forced, <end> dropped and <unk> matches nothing": without_end(no_match),
        "free, greedy": [("a dog", TOKENS[i]) for i in "xy"],
        "free, beam 3": [(said[i], TOKENS[i]) for i in "xy"],
        "free, beam 3, <end> kept on both sides": [(f"{said[i]} <end>", [f"{t} <end>" for t in TOKENS[i]]) for i in "xy"],
        "free, beam 3, <unk> kept and rare words of the references made <unk>": [(FREE[i], [known(t) for t in TOKENS[i]]) for i in "xy"],
        "free, beam 3, the first reference only": [(said[i], TOKENS[i][:1]) for i in "xy"],
    }
    assert rows.keys() == {*expected, "free, beam 3, PTB tokens (coco-caption)"}
    for rule, pairs in expected.items():
        want = bleu(*zip(*pairs, strict=True))
        assert rows[rule]["scores"]["scores"]["BLEU-4"] == pytest.approx(want, abs=1e-9 if want > 1e-6 else 1e-3), rule
    values = [row["scores"]["scores"]["BLEU-4"] for row in rows.values()]
    assert len({round(value, 6) for value in values}) >= 8  # the rules do differ here
    assert all(row["scores"]["signature"] for row in rows.values())
    assert len({row["scores"]["signature"] for row in rows.values()}) == len(rows)


def test_a_split_that_is_not_there_is_bad_input(predictions):
    with pytest.raises(BadInput, match="test"):
        token_rules(predictions, "test")
