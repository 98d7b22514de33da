"""Subwords: the ids and texts of transformers' own tokenizers behind our ids, words made of pieces, and one line for files that are no tokenizer."""

import copy
import dataclasses
import gzip
import hashlib
import json
import pickle
import re
import shutil
import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from nltk.translate.bleu_score import corpus_bleu
from tokenizers import Tokenizer, models

from benchmarks import one_run
from captioning import Captioner, load_captioner
from captioning.bad_input import BadInput
from captioning.config import Decode, RunConfig
from captioning.data import Example, load_data
from captioning.decoding import Hypothesis
from captioning.protocols import measure_predictions
from captioning.subwords import Subwords, from_folder
from captioning.token_rules import token_rules
from captioning.vocabulary import END, PAD, SPECIALS, START, UNK, Vocabulary
from tests.tiny import SETTINGS, make_data
from tests.tiny_tokenizers import TEXTS, make_gpt2, make_t5
from train import Training, Where, train

SPECIAL_NAMES = ["<|endoftext|>", "a </s> b <pad> <unk> <extra_id_0>", "<end> <pad>"]
HARD = [*TEXTS, *SPECIAL_NAMES, "", " ", "\n\n", "  the dog  ", "\u202e\x00\x7f", "x" * 300, "'s 't"]
captions = st.one_of(st.sampled_from(HARD), st.text(max_size=20), st.text("the dog's\n\"é🐶", max_size=30))


@pytest.fixture(scope="module")
def folders(tmp_path_factory) -> dict[str, Path]:
    home = tmp_path_factory.mktemp("tokenizers")
    make_gpt2(home / "gpt2")
    make_t5(home / "t5")
    return {kind: home / kind for kind in ("gpt2", "t5")}


@pytest.fixture(scope="module", params=["gpt2", "t5"])
def kind(request) -> str:
    return request.param


@pytest.fixture(scope="module")
def ours(folders, kind) -> Subwords:
    return from_folder(folders[kind], kind)


@pytest.fixture(scope="module")
def theirs(folders, kind):
    """transformers' own, from the same files."""
    from transformers import GPT2TokenizerFast, T5TokenizerFast

    return {"gpt2": GPT2TokenizerFast, "t5": T5TokenizerFast}[kind].from_pretrained(str(folders[kind]))


def test_ids_are_the_language_models_with_our_specials_first(ours, theirs, kind):
    special = {"gpt2": (-1, -1, theirs.eos_token_id, -1), "t5": (-1, theirs.pad_token_id, theirs.eos_token_id, theirs.unk_token_id)}[kind]
    assert ours.lm_ids[:4] == special and ours.architecture == kind
    assert ours.lm_ids[4:] == tuple(i for i in range(len(theirs)) if i not in special)
    assert len(ours) == len(ours.lm_ids) == 4 + len(theirs) - (1 if kind == "gpt2" else 3)
    assert ours.decode([PAD, START, END, UNK]) == list(SPECIALS)
    assert ours.lm_vocabulary == theirs.get_vocab()


@settings(deadline=None, max_examples=150)
@given(caption=captions)
def test_same_ids_and_text_as_transformers(ours, theirs, kind, caption):
    stripped = caption.strip()
    ids = ours.encode(caption)
    assert PAD not in ids and START not in ids and END not in ids
    if not any(name in caption for name in (*SPECIALS, "</s>", "<|endoftext|>", "<extra_id_")):
        assert [ours.lm_ids[i] if i != UNK else theirs.unk_token_id for i in ids] == theirs.encode(stripped, add_special_tokens=False)
        said = theirs.decode([ours.lm_ids[i] for i in ids], skip_special_tokens=True, clean_up_tokenization_spaces=False)
        assert ours.text([START, *ids, END, PAD]) == said.strip()
    if kind == "gpt2":
        assert UNK not in ids and ours.text(ids) == stripped


def test_every_text_of_the_list_survives(ours, theirs, kind):
    """The same on every caption of the list, whatever hypothesis drew."""
    for caption in TEXTS:
        assert [ours.lm_ids[i] for i in ours.encode(caption)] == theirs.encode(caption, add_special_tokens=False)
        assert kind == "t5" or ours.text(ours.encode(caption)) == caption
    assert ours.encode("") == ours.encode(" \n") == [] and ours.text([]) == "" and ours.groups([]) == []


def test_a_special_in_a_caption_is_no_command(ours, kind):
    for name in ("<|endoftext|>", "</s>", "<pad>", "<extra_id_0>", "<unk>"):
        ids = ours.encode(f"the {name} dog")
        assert not {PAD, START, END} & set(ids)
        if kind == "gpt2":  # spelled out
            assert UNK not in ids and ours.text(ids) == f"the {name} dog"
        else:
            assert UNK in ids and "<extra_id_0>" not in ours.decode(ids)
            assert ours.decode(ids)[0] == "the" and ours.text(ids).split()[-1] == "dog"


@settings(deadline=None, max_examples=150)
@given(data=st.data())
def test_words_are_made_of_pieces_whatever_was_said(ours, data):
    """Any ids, so also parts of characters: nothing raises, and the words are those of the text."""
    ids = data.draw(st.lists(st.integers(0, len(ours) - 1), max_size=25))
    text, groups = ours.text(ids), ours.groups(ids)
    assert [word for word, _ in groups] == text.split()
    assert len(ours.decode(ids)) == len(ids)
    places = [place for _, places in groups for place in places]
    assert places == sorted(places) and set(places) <= set(range(len(ids)))
    assert all(word in ours.text([ids[place] for place in own]) for word, own in groups)
    # What no word has is a blank, a special, or a part of a character, for two parts may make a blank (U+0085).
    left = [ours.text([ids[place]]) for place in set(range(len(ids))) - set(places)]
    assert not re.search(r"[^\s\ufffd]", "".join(left))


def test_words_pieces_and_tokens_of_a_caption(ours):
    """Letters that both tokenizers know, so that the caption itself says what its words are."""
    caption = "A dog's run. Two dogs"
    ids = ours.encode(caption)
    groups = ours.groups([START, *ids, END])
    assert [word for word, _ in groups] == caption.split() and ours.text(ids) == caption
    for word, places in groups:
        assert "".join(ours.decode([ids[place - 1] for place in places])) == word
    assert max(len(places) for _, places in groups) > 1  # else no word was put together
    assert ours.tokens([*ids, END]) == ["a", "dog", "s", "run", "two", "dogs"]
    example = Example("1", "1.jpg", "train", ("two dogs run",), ("Two dogs run.",))
    assert ours.captions_of(example) == ("Two dogs run.",) and not ours.has_words


def test_parts_of_a_character_are_shown_as_such(folders):
    """The four bytes of an emoji that the tokenizer has no token for."""
    ours = from_folder(folders["gpt2"], "gpt2")
    ids = ours.encode("a \U0001f9ff b")
    assert ours.text(ids) == "a \U0001f9ff b" and [word for word, _ in ours.groups(ids)] == ["a", "\U0001f9ff", "b"]
    first = ours.groups(ids)[1][1]
    assert len(first) > 1 and "\ufffd" in "".join(ours.decode([ids[place] for place in first]))
    assert ours.text(ids[: first[-1]]).startswith("a \ufffd")


def test_word_vocabularies_train_on_tokens():
    example = Example("1", "1.jpg", "train", ("two dogs run",), ("Two dogs run.",))
    assert Vocabulary(SPECIALS).captions_of(example) == ("two dogs run",) and Vocabulary(SPECIALS).has_words


def test_one_tokenizer_has_one_hash_whatever_its_files(folders, ours, theirs, kind, tmp_path):
    """From GPT-2's two files, from transformers' tokenizer.json, from our own, and with padding, truncation and a template set."""
    theirs.save_pretrained(tmp_path / "saved")
    saved = tmp_path / "saved" / "tokenizer.json"
    shutil.copytree(folders[kind], tmp_path / "copy")
    (tmp_path / "copy" / "tokenizer.json").write_text(ours.to_json(), encoding="utf-8")
    tokenizer = Tokenizer.from_file(str(saved))
    tokenizer.enable_truncation(3)
    tokenizer.enable_padding(length=9)
    (tmp_path / "cut").mkdir()
    tokenizer.save(str(tmp_path / "cut" / "tokenizer.json"))
    for place in (saved.parent, tmp_path / "copy", tmp_path / "cut"):
        other = from_folder(place, kind)
        assert other == ours and hash(other) == hash(ours) and other.sha256 == ours.sha256 and other.lm_ids == ours.lm_ids
        assert other.encode(TEXTS[0]) == ours.encode(TEXTS[0])
    assert ours.sha256 == hashlib.sha256(ours.to_json().encode()).hexdigest()
    assert Subwords.from_json(ours.to_json()).to_json() == ours.to_json()


def test_other_rules_are_another_tokenizer(ours, kind):
    content = json.loads(ours.to_json())
    content["normalizer"] = {"type": "Lowercase"}
    assert Subwords.from_json(json.dumps(content)) != ours
    content = json.loads(ours.to_json())
    if kind == "gpt2":
        content["model"]["merges"][:2] = content["model"]["merges"][1::-1]
    else:
        content["model"]["vocab"][9][1] -= 0.5
    assert Subwords.from_json(json.dumps(content)).sha256 != ours.sha256
    assert ours != Vocabulary(SPECIALS)


def test_copies_encode_alike(ours):
    for other in (copy.deepcopy(ours), pickle.loads(pickle.dumps(ours))):
        assert other == ours and all(other.encode(caption) == ours.encode(caption) for caption in HARD)


def test_an_added_word_is_a_word(ours, theirs, kind, folders, tmp_path):
    """A token that somebody added, which is not special, is found as transformers finds it."""
    theirs = copy.deepcopy(theirs)
    theirs.add_tokens(["selfie_stick"])
    theirs.save_pretrained(tmp_path)
    found = from_folder(tmp_path, kind)
    ids = found.encode("the selfie_stick dog")
    assert [found.lm_ids[i] for i in ids] == theirs.encode("the selfie_stick dog", add_special_tokens=False)
    assert len(found) == len(ours) + 1 and found.decode([len(found) - 1]) == ["selfie_stick"] and len(found) - 1 in ids
    assert "selfie_stick" in found.text(ids)


def test_a_lone_surrogate_is_no_text(ours):
    assert ours.encode("a \ud83d dog") == ours.encode("a ? dog")


def edit(name: str, change):
    """Another content of one file of the folder."""

    def harm(folder: Path) -> None:
        path = folder / name
        path.write_bytes(change(path.read_bytes()))

    return harm


def as_json(folder: Path, change=lambda content: None) -> None:
    """tokenizer.json in place of the two files, changed."""
    content = json.loads(from_folder(folder, "gpt2").to_json())
    change(content)
    (folder / "tokenizer.json").write_text(json.dumps(content))


def drop_end(content: dict) -> None:
    del content["model"]["vocab"]["<|endoftext|>"]
    content["added_tokens"] = []


def drop_byte(content: dict) -> None:
    del content["model"]["vocab"]["ÿ"]  # no merge has it


def only_spiece(folder: Path) -> None:
    for path in folder.iterdir():
        path.unlink()
    (folder / "spiece.model").write_bytes(b"\n\x0e")


BAD = {
    "not-there": (shutil.rmtree, "no such folder; a tokenizer is a folder with tokenizer.json"),
    "empty": (lambda f: [p.unlink() for p in f.iterdir()], "has no tokenizer.json, nor vocab.json and merges.txt"),
    "spiece": (only_spiece, "has spiece.model alone, and tokenizer.json is needed; make it once with: transformers.AutoTokenizer"),
    "no-merges": (lambda f: (f / "merges.txt").unlink(), "has vocab.json without merges.txt"),
    "no-vocab": (lambda f: (f / "vocab.json").unlink(), "has merges.txt without vocab.json"),
    "cut-vocab": (edit("vocab.json", lambda b: b[: len(b) // 2]), "vocab.json: cut or no vocabulary"),
    "binary-vocab": (edit("vocab.json", lambda b: b"\xff\xfe\x00"), "vocab.json: cannot be read as text"),
    "list-vocab": (edit("vocab.json", lambda b: b'["a", "b"]'), "vocab.json: cut or no vocabulary"),
    "id-twice": (edit("vocab.json", lambda b: b.replace(b":300,", b":301,")), "vocab.json: cut or no vocabulary (its ids are not numbers, or one stands twice"),
    "cut-merges": (edit("merges.txt", lambda b: b[: len(b) // 2]), "merges.txt: "),
    "cut-merges-at-a-line": (edit("merges.txt", lambda b: b"\n".join(b.split(b"\n")[:20])), "merges.txt: no line makes"),
    "other-merges": (edit("merges.txt", lambda b: b + b"Q Q\n"), "merges.txt: 'Q Q' joins no two tokens of vocab.json"),
    "cut-json": (lambda f: [as_json(f), edit("tokenizer.json", lambda b: b[: len(b) // 2])(f)], "tokenizer.json: cut or not a tokenizer"),
    "other-json": (lambda f: (f / "tokenizer.json").write_text('{"model_type": "gpt2"}'), "tokenizer.json: cut or not a tokenizer"),
    "no-end": (lambda f: as_json(f, drop_end), "tokenizer.json: has no end token <|endoftext|>"),
    "no-byte": (lambda f: as_json(f, drop_byte), "1 of 256 bytes have no token"),
    "word-piece": (lambda f: Tokenizer(models.WordPiece({"[UNK]": 0}, unk_token="[UNK]")).save(str(f / "tokenizer.json")), "a WordPiece tokenizer; known are"),
    "other-kind": (make_t5, "T5's sentencepiece, the language model reads GPT-2's byte pairs"),
}  # fmt: skip


@pytest.mark.parametrize("name", BAD)
def test_what_is_no_tokenizer_is_one_line(folders, tmp_path, name):
    folder = Path(shutil.copytree(folders["gpt2"], tmp_path / "copy"))
    harm, said = BAD[name]
    harm(folder)
    with pytest.raises(BadInput) as found:
        from_folder(folder, "gpt2")
    assert said in str(found.value) and "\n" not in str(found.value) and str(folder) in str(found.value)


@pytest.mark.parametrize("missing, said", [("</s>", "no end token </s>"), ("<pad>", "no token <pad>"), ("unk_id", "unk_id")])
def test_what_t5_needs(folders, tmp_path, missing, said):
    content = json.loads((folders["t5"] / "tokenizer.json").read_text())
    if missing == "unk_id":
        content["model"]["unk_id"] = None
    else:
        content["added_tokens"] = [one for one in content["added_tokens"] if one["content"] != missing]
        content["model"]["vocab"] = [[piece if piece != missing else "zzz", score] for piece, score in content["model"]["vocab"]]
    (tmp_path / "tokenizer.json").write_text(json.dumps(content))
    with pytest.raises(BadInput, match=said):
        from_folder(tmp_path, "t5")
    with pytest.raises(BadInput, match="GPT-2's byte pairs, the language model reads T5's sentencepiece"):
        from_folder(folders["gpt2"], "t5")


@pytest.fixture(scope="module")
def trained(folders, tmp_path_factory):
    """GPT-2 made small, trained on images of all splits and scored by one drawn caption each: (data set, configuration, checkpoint)."""
    home = tmp_path_factory.mktemp("trained")
    data = make_data(home / "data")
    language = {"system": "prefix", "features": "vector", "tokenizer": str(folders["gpt2"]), "layers": 1, "heads": 2, "width": 32}
    batches = {"batching": "one", "batch_size": 4, "padding": "end", "train_on": "all", "max_words": 30, "epochs": 2}
    config = RunConfig(**SETTINGS | language | batches | {"sampled": True, "beams": (1,)})
    out = train(config, Where(data=str(data), out=str(home / "c"), cache=str(home / "cache"), device="cpu", workers=0, threads=1))
    return load_data(data), config, out


def test_a_run_with_subwords_has_no_scores_of_words(trained, folders):
    data, config, out = trained
    lines = [json.loads(line) for line in (out / "metrics.jsonl").read_text().splitlines()]
    assert [line["step"] for line in lines] == [4, 8]  # 14 images by 4
    assert all({"val_bleu4_free", "val_cross_entropy"} <= line.keys() for line in lines)
    assert not any({"val_top5", "val_bleu4_published"} & line.keys() for line in lines)
    found = load_captioner(out, "cpu")
    assert found.vocabulary == from_folder(folders["gpt2"], "gpt2")
    photo = data.open_image(0)
    for caption in found.caption([photo, photo], Decode(beam=2, max_words=8)):
        assert caption.words == caption.text.split()
    with pytest.raises(BadInput, match="--select published: .+; use --select free"):
        dataclasses.replace(config, select="published")


def test_end_tokens_are_learnt_as_filling_only_where_asked_for(trained, tmp_path, monkeypatch):
    data, config, _ = trained
    learnt = []
    monkeypatch.setattr(Training, "_backward", lambda _, batch, share: learnt.append(batch) or sys.exit())
    for padding in ("end", "masked"):
        where = Where(out=str(tmp_path / padding), cache=str(tmp_path), device="cpu", workers=0)
        with pytest.raises(SystemExit):
            train(dataclasses.replace(config, padding=padding), where, data)
    filled, masked = learnt
    # Without an end of its own, so that the longest caption learns none.
    np.testing.assert_array_equal(filled.words, np.where(masked.words == PAD, END, masked.words)[:, :-1])
    assert (masked.words == PAD).any() and set(filled.lengths) == {masked.lengths.max() - 1}
    assert any(END not in row for row in filled.words)


def test_saved_predictions_of_subwords_are_scored_as_text(trained, tmp_path, monkeypatch):
    data, config, out = trained
    monkeypatch.setenv("RECAP_JAVA", "/nowhere/java")  # quicker
    run, place = SimpleNamespace(run_id="x", config=config), SimpleNamespace(folder=tmp_path, cache=str(tmp_path))
    (tmp_path / "checkpoints/x").mkdir(parents=True)
    captioner = load_captioner(out, "cpu")
    path = tmp_path / "captions/x.jsonl.gz"
    one_run.save_predictions(captioner, run, place, data, path)
    header, *lines = [json.loads(line) for line in gzip.decompress(path.read_bytes()).decode().splitlines()]
    assert header["vocabulary"] is None and header["beams"] == [1] and header["decoding"]["stop"] == "sample-k50-p0.95-t0.8"
    drawn = Decode(beam=1, max_words=30, sample=True, top_k=50, top_p=0.95, temperature=0.8)
    for line, index in zip(lines, data.split("val") + data.split("test"), strict=True):
        example = data.examples[index]
        assert [one["words"] for one in line["forced"]] == [one["top5"] for one in line["forced"]] == [None] * len(example.raw)
        assert [one["n"] for one in line["forced"]] == [len(captioner.vocabulary.encode(caption)) + 1 for caption in example.raw]
        assert line["free"]["1"]["text"] == captioner.caption([data.open_image(index)], drawn)[0].text
    said = {line["id"]: line["free"]["1"]["text"] for line in lines if line["split"] == "test"}
    words = [re.findall("[a-z0-9]+", text.lower()) for text in said.values()]
    references = [[caption.split() for caption in data.examples[i].captions] for i in data.split("test")]
    scores = measure_predictions(path, "test")
    assert scores["free"]["1"].scores()["BLEU-1"] == pytest.approx(100 * corpus_bleu(references, words, weights=(1,)), abs=1e-9)
    per_caption = [one["cross_entropy"] for line in lines if line["split"] == "test" for one in line["forced"]]
    assert scores["published"].scores()["cross-entropy per caption"] == pytest.approx(sum(per_caption) / len(per_caption))
    assert {row["rule"].split(",")[1] for row in token_rules(path, "val", draws=0)} == {" drawn"}


def test_beams_of_subwords_as_of_words():
    assert one_run.decodes_of(RunConfig(max_words=9), 4) == [Decode(1, 9), Decode(3, 9), Decode(4, 9)]
    assert one_run.decoding_fields(RunConfig())["stop"] == "best"


def test_the_map_of_a_word_is_the_mean_of_its_pieces(ours):
    encoder = SimpleNamespace(grid=(2, 3))
    model = SimpleNamespace(encoder=encoder)
    model.to = lambda _: SimpleNamespace(eval=lambda: model)
    ids = [START, *ours.encode("Two dogs"), END]
    maps = torch.rand(len(ids), 6)
    found = Captioner(model, ours, {}, torch.device("cpu"))._caption(Hypothesis(ids, -1.0, -1.0, True), maps)
    assert found.words == ["Two", "dogs"] and found.text == "Two dogs" and found.attention.shape == (2, 2, 3)
    pieces = ours.decode(ids)
    end = next(k for k in range(2, len(ids)) if "".join(pieces[1:k]) == "Two")
    rows = [place for place in range(end, len(ids) - 1) if pieces[place]]
    np.testing.assert_allclose(found.attention[1], maps[rows].mean(0).view(2, 3), rtol=1e-6)
    nothing = Captioner(model, ours, {}, torch.device("cpu"))._caption(Hypothesis([], -1.0, -1.0, True), torch.zeros(0, 6))
    assert nothing.words == [] and nothing.attention.shape == (0, 2, 3)
