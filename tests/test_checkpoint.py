"""Checkpoints: what goes in comes out to the bit; what is cut, mixed up, pickled or of another net is named in one line; nobody's code is run."""

import hashlib
import json
import resource
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file, save_file

from captioning import Captioner, checkpoint, load_captioner
from captioning.bad_input import BadInput
from captioning.checkpoint import ENCODER_FIELDS, PROBE, load_checkpoint, load_state, mark_finished, save_checkpoint, save_state, settings
from captioning.checkpoint_list import lacks_encoder
from captioning.config import Decode, RunConfig
from captioning.regions import regions_key
from captioning.subwords import from_folder
from captioning.vocabulary import Vocabulary
from models import build_model
from tests.tiny import SETTINGS
from tests.tiny_tokenizers import make_gpt2, make_t5

VOCABULARY = Vocabulary.build(["a red square on the left", "one blue thing é", "a green square"], 1)
FACTS = {"run_id": "tiny-0-abc", "data": {"name": "tiny", "fingerprint": "f"}, "epoch": 1, "scores": {"val_bleu4_free": 1.0}}
FETCHED = {**SETTINGS, "pretrained": True}


def make(folder: Path, weights: str = "pretrained", **changes):
    """A checkpoint of an untrained model, and the model."""
    config = RunConfig(**{**SETTINGS, **changes})
    torch.manual_seed(7)
    model = build_model(config, len(VOCABULARY), weights).eval()
    save_checkpoint(folder, model, config, VOCABULARY, FACTS)
    return model


@pytest.fixture(scope="module")
def weights(tmp_path_factory) -> dict[str, Path]:
    """Folders with weights of the same architecture: as they were fetched, rounded to fp16 by somebody, of another net."""
    import timm

    folders = {}
    for name, seed in (("own", 0), ("rounded", 0), ("other", 1)):
        torch.manual_seed(seed)
        state = timm.create_model("resnet10t").state_dict()
        if name == "rounded":
            state = {n: t.half() if t.is_floating_point() else t for n, t in state.items()}
        folders[name] = tmp_path_factory.mktemp(name)
        save_file(state, folders[name] / "resnet10t.safetensors")
    return folders


@pytest.fixture(scope="module")
def whole(tmp_path_factory) -> Path:
    make(tmp_path_factory.mktemp("checkpoint") / "whole")
    return tmp_path_factory.getbasetemp() / "checkpoint0" / "whole"


@pytest.fixture
def copy(whole, tmp_path) -> Path:
    return Path(shutil.copytree(whole, tmp_path / "copy"))


def pictures(count: int = 3) -> list[Image.Image]:
    random = np.random.default_rng(0)
    return [Image.fromarray(random.integers(0, 256, (50, 70, 3), dtype=np.uint8)) for _ in range(count)]


def change(folder: Path, **fields) -> None:
    description = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(description | fields))


def change_weights(folder: Path, edit) -> None:
    """Other tensors, with a config.json that vouches for them: only shapes and names can tell."""
    tensors = load_file(folder / "model.safetensors")
    edit(tensors)
    save_file(tensors, folder / "model.safetensors")
    change(folder, model_sha256=hashlib.sha256((folder / "model.safetensors").read_bytes()).hexdigest())


def complaint(folder: Path, **how) -> str:
    with pytest.raises(BadInput) as found:
        load_checkpoint(folder, build_model, **how)
    assert "\n" not in str(found.value) and str(folder) in str(found.value)
    return str(found.value)


@pytest.mark.parametrize("changes", [{}, {"tune_from": 2}, {"encoder": "demo_resnet", "pretrained": True, "image_size": 0}])
def test_what_goes_in_comes_out_to_the_bit(tmp_path, changes):
    model = make(tmp_path, **changes)
    loaded = load_captioner(tmp_path, "cpu")
    assert not loaded.model.training and loaded.vocabulary.words == VOCABULARY.words
    state, other = model.state_dict(), loaded.model.state_dict()
    assert state.keys() == other.keys() and all(torch.equal(state[n], other[n]) for n in state)
    assert loaded.model.encoder.preprocessing == model.encoder.preprocessing
    decode = Decode(beam=3, max_words=8)
    before = Captioner(model, VOCABULARY, {"config": {"attention": "soft"}}, torch.device("cpu")).caption(pictures(), decode, attend=True)
    after = loaded.caption(pictures(), decode, attend=True)
    for one, other in zip(before, after, strict=True):
        assert (one.text, one.score) == (other.text, other.score) and np.array_equal(one.attention, other.attention)


@pytest.mark.parametrize("encoder, pretrained", [("demo_resnet", True), ("demo_resnet", False)])
def test_kept_regions_of_training_serve_the_loaded_model(tmp_path, encoder, pretrained):
    """Under another name they would be computed again; under the name of random weights, a later random run would take them for its own."""
    model = make(tmp_path, encoder=encoder, pretrained=pretrained, image_size=0)
    loaded, _, _ = load_checkpoint(tmp_path, build_model)
    own, found = (regions_key(m.encoder.source, m.encoder.preprocessing, 0, "data", 0) for m in (model, loaded))
    assert own == found


def test_a_fetched_frozen_encoder_is_named_not_stored(tmp_path, weights):
    model = make(tmp_path, str(weights["own"]), **FETCHED)
    tensors = load_file(tmp_path / "model.safetensors")
    assert PROBE in tensors and not [n for n in tensors if n.startswith("encoder.")]
    stated = json.loads((tmp_path / "config.json").read_text())["encoder"]
    assert stated["tag"].startswith("resnet10t.") and not stated["stored"]
    assert stated["weights_sha256"] == hashlib.sha256((weights["own"] / "resnet10t.safetensors").read_bytes()).hexdigest()
    loaded, _, _ = load_checkpoint(tmp_path, build_model, str(weights["own"]))
    state = loaded.state_dict()
    assert all(torch.equal(tensor, state[n]) for n, tensor in model.state_dict().items())
    load_checkpoint(tmp_path, build_model, str(weights["rounded"]))
    assert "gives other regions" in complaint(tmp_path, weights=str(weights["other"]))
    assert "gives other regions" in complaint(tmp_path, weights="none")


def test_weights_of_ones_own_are_stored_frozen_too(tmp_path, weights):
    """Nobody else could find them by their name."""
    (tmp_path / "resnet10t.own.safetensors").write_bytes((weights["own"] / "resnet10t.safetensors").read_bytes())
    make(tmp_path / "c", str(tmp_path), **FETCHED | {"encoder": "resnet10t.own"})
    assert any(n.startswith("encoder.trunk.") for n in load_file(tmp_path / "c/model.safetensors"))
    load_captioner(tmp_path / "c", "cpu")
    assert not lacks_encoder(tmp_path / "c")


def test_half_weights_halve_the_file_and_come_back_rounded(tmp_path):
    model = make(tmp_path / "whole", tune_from=0)
    make(tmp_path / "half", tune_from=0, half_weights=True)
    sizes = [(tmp_path / name / "model.safetensors").stat().st_size for name in ("half", "whole")]
    assert sizes[0] < 0.55 * sizes[1]
    loaded, _, description = load_checkpoint(tmp_path / "half", build_model)
    assert description["config"]["half_weights"] is True
    for name, tensor in model.state_dict().items():
        found = loaded.state_dict()[name]
        assert found.dtype == tensor.dtype and torch.equal(found, tensor.half().to(tensor.dtype) if tensor.is_floating_point() else tensor)


def test_a_number_too_large_for_fp16_is_not_lost(tmp_path):
    config = RunConfig(**SETTINGS | {"half_weights": True})
    model = build_model(config, len(VOCABULARY)).eval()
    large = next(p for n, p in model.named_parameters() if n.startswith("decoder."))
    with torch.no_grad():
        large.view(-1)[0] = 1e5
    save_checkpoint(tmp_path, model, config, VOCABULARY, FACTS)
    loaded = load_checkpoint(tmp_path, build_model)[0]
    assert all(torch.isfinite(tensor).all() for tensor in loaded.state_dict().values())
    assert next(p for n, p in loaded.named_parameters() if n.startswith("decoder.")).view(-1)[0] == 1e5


def test_the_regions_that_are_kept_are_those_of_the_encoder_that_is_stored(tmp_path, weights):
    """A frozen encoder of one's own is rounded only where that changes nothing: its kept regions were made before."""
    for name in ("own", "rounded"):
        place = tmp_path / name
        place.mkdir()
        shutil.copyfile(weights[name] / "resnet10t.safetensors", place / "resnet10t.own.safetensors")
        model = make(place / "c", str(place), **FETCHED | {"encoder": "resnet10t.own", "half_weights": True})
        loaded = load_checkpoint(place / "c", build_model)[0]
        assert all(torch.equal(t, loaded.state_dict()[n]) for n, t in model.state_dict().items() if n.startswith("encoder."))
    sizes = {name: (tmp_path / name / "c/model.safetensors").stat().st_size for name in ("own", "rounded")}
    assert sizes["rounded"] < 0.55 * sizes["own"]


def test_a_tuned_encoder_is_stored(tmp_path, weights):
    make(tmp_path, str(weights["own"]), **FETCHED | {"tune_from": 3})
    assert any(n.startswith("encoder.trunk.") for n in load_file(tmp_path / "model.safetensors"))
    load_checkpoint(tmp_path, build_model, "/nowhere")  # and nothing is looked for elsewhere


def test_weights_wanted_and_not_there_name_three_ways_out(tmp_path, weights, monkeypatch):
    make(tmp_path / "c", str(weights["own"]), **FETCHED)
    monkeypatch.setattr("huggingface_hub.try_to_load_from_cache", lambda *_: None)
    monkeypatch.setattr("captioning.trunks.look_up", lambda _: (_ for _ in ()).throw(OSError("no network")))
    for place, said in (
        ("pretrained", "neither in the Hugging Face cache"),
        (str(tmp_path), "none of"),
        ("/nowhere", "no such file or folder"),
    ):
        with pytest.raises(BadInput) as found:
            load_checkpoint(tmp_path / "c", build_model, place, download=True)
        assert said in str(found.value) and "resnet10t" in str(found.value) and "\n" not in str(found.value)
        assert place == "/nowhere" or "three ways out" in str(found.value)
    (tmp_path / "resnet10t.safetensors").write_bytes((weights["own"] / "resnet10t.safetensors").read_bytes()[:5000])
    with pytest.raises(BadInput, match="not a whole safetensors file"):
        load_checkpoint(tmp_path / "c", build_model, str(tmp_path))


def test_nothing_is_fetched_unasked(tmp_path, weights, monkeypatch):
    make(tmp_path, str(weights["own"]), **FETCHED)
    asked = []

    def fetch(repository, name):
        asked.append(repository)
        return str(weights["own"] / "resnet10t.safetensors")

    monkeypatch.setattr("huggingface_hub.try_to_load_from_cache", lambda *_: None)
    monkeypatch.setattr("huggingface_hub.hf_hub_download", fetch)
    monkeypatch.setattr("captioning.trunks.look_up", lambda _: None)
    assert "not on this machine, and nothing is fetched unasked; --download" in complaint(tmp_path)
    with pytest.raises(BadInput, match="nothing is fetched unasked"):
        load_captioner(tmp_path, "cpu")
    assert lacks_encoder(tmp_path) and not lacks_encoder(tmp_path, str(weights["own"])) and asked == []
    load_captioner(tmp_path, "cpu", download=True)
    assert asked == ["timm/resnet10t.c3_in1k"]


def test_a_users_encoder_runs_only_when_the_user_names_it(tmp_path):
    source = (Path(__file__).parent / "tiny_encoder.py").read_text()
    file, marker = tmp_path / "mine.py", tmp_path / "it-ran"
    file.write_text(f"{source}\nopen({str(marker)!r}, 'w').close()\n")
    own = {"encoder": f"{file}:make", "image_size": 0}
    make(tmp_path / "c", **own)
    assert str(tmp_path) not in (tmp_path / "c" / "config.json").read_text()  # where it lay is nobody's business
    marker.unlink()
    assert "--encoder path/to/file.py:make" in complaint(tmp_path / "c")
    description = json.loads((tmp_path / "c" / "config.json").read_text())
    for kind in ("file", "timm", "demo"):  # nor does a checkpoint get it run by calling it something else
        description["encoder"] |= {"kind": kind, "tag": own["encoder"]}
        for stored in (False, True):
            description["encoder"]["stored"] = stored
            change(tmp_path / "c", config=description["config"] | own, encoder=description["encoder"])
            with pytest.raises(BadInput):
                load_checkpoint(tmp_path / "c", build_model)
            assert not marker.exists(), (kind, stored)
    make(tmp_path / "c", **own)
    load_checkpoint(tmp_path / "c", build_model, encoder=own["encoder"])
    file.write_text(source.replace("manual_seed(0)", "manual_seed(1)"))
    assert "gives other regions" in complaint(tmp_path / "c", encoder=own["encoder"])


@pytest.mark.parametrize(
    "factory, said",
    [
        ("fail", "failed: RuntimeError: the weights file is on another machine"),
        ("nothing", "has no 'nothing'"),
        ("nn", "failed: TypeError"),
    ],
)
def test_a_users_encoder_that_fails_is_one_line(factory, said):
    with pytest.raises(BadInput) as found:
        build_model(RunConfig(**SETTINGS | {"encoder": f"{Path(__file__).parent / 'tiny_encoder.py'}:{factory}"}), 9)
    assert said in str(found.value) and "tiny_encoder.py" in str(found.value)


@pytest.fixture(scope="module", params=["gpt2", "t5"])
def subwords(request, tmp_path_factory):
    folder = tmp_path_factory.mktemp("tokenizer")
    {"gpt2": make_gpt2, "t5": make_t5}[request.param](folder)
    return from_folder(folder, request.param)


def make_with_subwords(folder: Path, subwords) -> None:
    config = RunConfig(**SETTINGS)
    save_checkpoint(folder, build_model(config, len(subwords)), config, subwords, FACTS)


def test_a_tokenizer_lies_beside_and_comes_back(tmp_path, subwords):
    make_with_subwords(tmp_path, subwords)
    stated = json.loads((tmp_path / "config.json").read_text())["vocabulary"]
    content = (tmp_path / "tokenizer.json").read_bytes()
    assert stated == {"tokenizer": "tokenizer.json", "sha256": hashlib.sha256(content).hexdigest(), "size": len(subwords)}
    model, found, _ = load_checkpoint(tmp_path, build_model)
    assert found == subwords and found.lm_ids == subwords.lm_ids and len(model.decoder.embedding.weight) == len(subwords)
    assert load_captioner(tmp_path, "cpu").vocabulary.encode("a dog") == subwords.encode("a dog")


@pytest.mark.parametrize("harm, said", [
    (lambda c: (c / "tokenizer.json").unlink(), "has no tokenizer.json"),
    (lambda c: cut(c, "tokenizer.json"), "tokenizer.json: not the file that config.json describes"),
    (lambda c: (c / "tokenizer.json").write_bytes((c / "tokenizer.json").read_bytes() + b" "), "tokenizer.json: not the file that"),
    (lambda c: change(c, vocabulary={"tokenizer": "tokenizer.json"}), "'vocabulary' is missing or of another type"),
    (lambda c: change(c, vocabulary="a dog"), "'vocabulary' is missing or of another type"),
    (lambda c: change(c, vocabulary=list(VOCABULARY.words)), "the folder's files are not of one model"),
    (lambda c: change(c, language_model="gpt2"), "'language_model' is missing or of another type"),
    (lambda c: [(c / "tokenizer.json").write_bytes(b"\xff"), change(c, vocabulary={
        "tokenizer": "tokenizer.json", "sha256": hashlib.sha256(b"\xff").hexdigest(), "size": 9})], "tokenizer.json: cut or not a tokenizer"),
])  # fmt: skip
def test_a_checkpoint_whose_tokenizer_is_not_its_own_is_one_line(tmp_path, subwords, harm, said):
    make_with_subwords(tmp_path, subwords)
    harm(tmp_path)
    assert said in complaint(tmp_path)


def test_what_a_decoder_says_of_its_language_model_is_handed_on(tmp_path):
    model = make(tmp_path / "without")
    model.decoder.language_config = {"architecture": "gpt2", "settings": {"n_layer": 2}}
    save_checkpoint(tmp_path / "with", model, RunConfig(**SETTINGS), VOCABULARY, FACTS)
    handed = {}

    def build(config, size, **how):
        handed[len(handed)] = how.pop("language", "not given")
        return build_model(config, size, **how)

    for name in ("without", "with"):
        load_checkpoint(tmp_path / name, build)
    assert handed == {0: "not given", 1: {"architecture": "gpt2", "settings": {"n_layer": 2}}}
    assert "language_model" not in json.loads((tmp_path / "without" / "config.json").read_text())


def test_where_a_users_folders_lie_is_not_written_down(tmp_path):
    (tmp_path / "my-gpt2").mkdir()
    config = RunConfig(system="sep", language_model=str(tmp_path / "my-gpt2"), tokenizer=str(tmp_path / "my-words"))
    written = settings(config)
    assert (written["language_model"], written["tokenizer"]) == ("my-gpt2", "my-words")
    named = settings(RunConfig(system="sep", language_model="openai-community/gpt2"))
    assert (named["language_model"], named["tokenizer"]) == ("openai-community/gpt2", "")
    assert (settings(RunConfig())["language_model"], settings(RunConfig())["tokenizer"]) == ("", "")


def cut(folder: Path, name: str) -> None:
    content = (folder / name).read_bytes()
    (folder / name).write_bytes(content[: len(content) // 2])


DAMAGE = {
    "cut-config": (lambda c: cut(c, "config.json"), "config.json: cut or not a checkpoint's"),
    "empty-config": (lambda c: (c / "config.json").write_text(""), "config.json: cut or not a checkpoint's"),
    "binary-config": (lambda c: (c / "config.json").write_bytes(b"\xff\xfe\x00"), "config.json: cut or not a checkpoint's"),
    "somebody-else's-config": (lambda c: (c / "config.json").write_text('{"model_type": "gpt2"}'), "not a checkpoint's ('schema')"),
    "config-without-words": (lambda c: (c / "config.json").write_text('{"schema": 1, "run_id": "x", "data": {}}'), "has no 'config'"),
    "cut-weights": (lambda c: cut(c, "model.safetensors"), "not the file that config.json describes"),
    "no-weights": (lambda c: (c / "model.safetensors").unlink(), "has no model.safetensors"),
    "a-newer-version": (lambda c: change(c, schema=2), "checkpoint schema 2, this version reads 1; a newer ReCap wrote it: update ReCap"),
    "an-older-version": (lambda c: change(c, schema=0), "checkpoint schema 0, this version reads 1 and has no way there from 0; train it again"),
    "no-version": (lambda c: change(c, schema="1"), "cut or not a checkpoint's (schema '1')"),
    "too-deep": (lambda c: (c / "config.json").write_text("[" * 100_000), "config.json: cut or not a checkpoint's"),
    "data-without-a-name": (lambda c: change(c, data={"fingerprint": "f"}), "'data.name' is missing or of another type"),
    "encoder-of-numbers": (lambda c: change(c, encoder=dict.fromkeys(ENCODER_FIELDS, 1)), "'encoder.name' is missing or of another type"),
    "words-that-are-none": (lambda c: change(c, vocabulary=["<pad>", 1]), "'vocabulary' is missing or of another type"),
    "other-settings": (lambda c: change(c, config={**SETTINGS, "glimpses": 3}), "its settings are of another version"),
    "another-save's-weights": (lambda c: make(c / "x", hidden_dim=8) and (c / "x" / "model.safetensors").rename(c / "model.safetensors"),
                               "killed while saving"),
    "wrong-shapes": (lambda c: change(c, config={**SETTINGS, "hidden_dim": 8}), "the folder's files are not of one model"),
    "fewer-words": (lambda c: change(c, vocabulary=list(VOCABULARY.words[:6])), "the model wants (6,"),
    "lacks-a-tensor": (lambda c: change_weights(c, lambda t: t.pop("decoder.gate.weight")), "lacks 1 tensors, first decoder.gate.weight"),
    "a-tensor-too-many": (lambda c: change_weights(c, lambda t: t.update(more=torch.zeros(2))), "the model wants nothing of that name"),
    "not-safetensors": (lambda c: (c / "model.safetensors").write_bytes(b"PK\x03\x04") and change(
        c, model_sha256=hashlib.sha256(b"PK\x03\x04").hexdigest()), "not a safetensors file"),
    "a-folder-with-a-pickle": (lambda c: [(c / "config.json").unlink(), (c / "BEST_checkpoint.pth.tar").write_bytes(b"x")], "a pickle; those are never"),
    "empty-folder": (lambda c: [p.unlink() for p in c.iterdir()], "has no config.json"),
    "first-epoch": (lambda c: [p.unlink() for p in c.iterdir()] and (c / "state.pt").touch(), "has not finished its first epoch"),
    "no-language-model": (lambda c: change(c, config={**SETTINGS, "system": "sep"}), "no 'language_model', which sep needs"),
    "not-there": (shutil.rmtree, "no such checkpoint; train one with"),
    "a-pickle": (lambda c: shutil.rmtree(c) or torch.save({"a": 1}, c), "pickled checkpoints are never loaded"),
}  # fmt: skip


@pytest.mark.parametrize("damage", DAMAGE)
def test_a_bad_checkpoint_is_one_line(copy, damage):
    harm, said = DAMAGE[damage]
    harm(copy)
    assert said in complaint(copy)


def test_an_older_checkpoint_is_read_through_all_converters(copy, monkeypatch):
    """Two made-up schemas: -1 called the vocabulary `words`, 0 called it `says` and kept the data set's name alone."""
    now = json.loads((copy / "config.json").read_text())
    older = {name: value for name, value in now.items() if name != "vocabulary"}
    older |= {"schema": -1, "words": now["vocabulary"], "data": now["data"]["name"]}
    (copy / "config.json").write_text(json.dumps(older))

    def from_minus_1(found):
        return {n: v for n, v in found.items() if n != "words"} | {"says": found["words"]}

    def from_0(found):
        assert found["schema"] == 0
        return {n: v for n, v in found.items() if n != "says"} | {
            "vocabulary": found["says"],
            "data": {"name": found["data"], "fingerprint": "f"},
        }

    monkeypatch.setattr(checkpoint, "CONVERTERS", {-1: from_minus_1, 0: from_0})
    model, vocabulary, description = load_checkpoint(copy, build_model)
    assert vocabulary.words == VOCABULARY.words and description == now
    mark_finished(copy)  # what writes a description writes it as of now
    assert json.loads((copy / "config.json").read_text()) == now | {"finished": True}
    (copy / "config.json").write_text(json.dumps({**older, "words": 3} | {"data": None}))
    assert "'vocabulary' is missing or of another type" in complaint(copy)
    (copy / "config.json").write_text(json.dumps({n: v for n, v in older.items() if n != "words"}))
    assert "cut or not a checkpoint's of schema -1 (KeyError('words'))" in complaint(copy)
    monkeypatch.setattr(checkpoint, "CONVERTERS", {-1: from_minus_1})
    (copy / "config.json").write_text(json.dumps(older))
    assert "has no way there from 0" in complaint(copy)


def test_a_probe_that_is_not_there_is_named(tmp_path, weights):
    make(tmp_path, str(weights["own"]), **FETCHED)
    change_weights(tmp_path, lambda t: t.pop(PROBE))
    assert PROBE in complaint(tmp_path, weights=str(weights["own"]))


def test_a_full_disk_leaves_the_previous_checkpoint(copy):
    """A limit on file size stands in for a full disk: the same OSError from the same write."""
    before = {p.name: p.read_bytes() for p in copy.iterdir()}
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (50_000, hard))
    try:
        with pytest.raises(OSError, match="File too large"):
            make(copy, seed=1)
        with pytest.raises(OSError, match="File too large"):
            save_state(copy / "state.pt", {"model": torch.zeros(50_000)})
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert {p.name: p.read_bytes() for p in copy.iterdir()} == before


def test_a_state_holds_no_code(tmp_path):
    state = {
        "model": {"a": torch.arange(3)},
        "epoch": 2,
        "seconds": 1.5,
        "sums": [0.0],
        "run_id": "x",
        "world": 1,
        "optimiser": {},
        "processes": [],
    }
    save_state(tmp_path / "state.pt", state)
    assert str(load_state(tmp_path / "state.pt")) == str(state)
    torch.save({"model": Path}, tmp_path / "state.pt")  # any object of a class: pickle would import and run it
    with pytest.raises(BadInput, match="state.pt: cut or not a training state"):
        load_state(tmp_path / "state.pt")
