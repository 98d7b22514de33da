"""caption.py as people call it: what goes to stdout, which checkpoint, any photo, the strip, and one line for whatever cannot be used."""

import csv
import hashlib
import io
import json
import os
import shutil
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest
import torch
from PIL import Image

import caption
from captioning import load_captioner, photo_list
from captioning.bad_input import BadInput, run_command
from captioning.batches import CaptionIds
from captioning.checkpoint_list import default_checkpoint, find_checkpoints
from captioning.config import Decode, RunConfig
from captioning.data import load_data
from captioning.inputs import open_inputs
from captioning.validation import predict
from captioning.vocabulary import END, START, UNK
from tests.tiny import SETTINGS, make_data
from train import Where, train

ROOT = Path(__file__).resolve().parents[1]


@pytest.fixture(scope="module")
def data(tmp_path_factory) -> Path:
    return make_data(tmp_path_factory.mktemp("tiny"))


@pytest.fixture(scope="module")
def trained(data, tmp_path_factory) -> Path:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    config = RunConfig(**SETTINGS | {"epochs": 40, "dropout": 0.0, "decoder_lr": 1e-2})
    out = train(
        config, Where(data=str(data), out=str(tmp_path_factory.mktemp("run") / "c"), cache=str(data / "cache"), device="cpu", workers=0)
    )
    torch.set_num_threads(before)
    return out


@pytest.fixture(scope="module")
def captioner(trained):
    return load_captioner(trained, "cpu")


@pytest.fixture
def call(trained, captioner, monkeypatch, capsys):
    """caption.py with these arguments: (status, stdout, stderr). The trained checkpoint is loaded once for all tests."""
    load = load_captioner

    def run(*line, checkpoint: Path | None = trained):
        more = ["--checkpoint", str(checkpoint)] if checkpoint else []
        monkeypatch.setattr(caption, "load_captioner", lambda path, *how: captioner if path == trained else load(path, *how))
        monkeypatch.setattr(sys, "argv", ["caption.py", "--device", "cpu", *map(str, line), *more])
        with pytest.raises(SystemExit) as left:
            run_command(caption.main)
        return left.value.code, *capsys.readouterr()

    return run


@pytest.fixture(scope="module")
def photos(data) -> list[Path]:
    return sorted((data / "images").glob("*.png"))


def test_one_photo_prints_its_caption_alone(call, photos):
    status, out, err = call("--img", photos[0], "--beam", 5)
    assert status == 0 and out.count("\n") == 1 and out.split() and photos[0].name not in out
    assert err.startswith("checkpoint: ") and "trained on tiny" in err and err.count("\n") == 1


def test_what_it_does_not_know_it_does_not_say(call, captioner, photos):
    """A model that would say <unk> first of all; the captions that are scored may say it, those that people read do not."""
    bias = captioner.model.decoder.project.bias
    with torch.no_grad():
        bias[UNK] += 12
    try:
        assert "<unk>" in call("--img", photos[0], "--allow-unk")[1]
        said = call("--img", photos[0])[1]
        assert said.split() and "<unk>" not in said
        assert captioner.caption([photos[0]])[0].text == said.strip()
        assert "unk allowed" in call("--img", photos[0], "--allow-unk", "--json")[1]
    finally:
        with torch.no_grad():
            bias[UNK] -= 12


def test_files_folder_and_pattern_say_the_same(call, photos):
    one_by_one = [f"{photo}: {call('--img', photo)[1]}" for photo in photos[:3]]
    assert call("--img", *photos[:3])[:2] == (0, "".join(one_by_one))
    whole = call("--img", photos[0].parent)[1].splitlines()
    assert len(whole) == len(photos) and [line.rpartition(": ")[0] for line in whole] == list(map(str, photos))
    assert call("--img", photos[0].parent / "t*.png", photos[-1])[1].splitlines() == [
        line for line in whole if "/train" in line or "/test" in line
    ] + [line for line in whole if line.startswith(str(photos[-1]))]


def test_json_is_a_list_of_objects(call, photos, trained):
    status, out, _ = call("--img", *photos[:2], "--json", "--beam", 3)
    found = json.loads(out)
    assert status == 0 and [f["image"] for f in found] == list(map(str, photos[:2]))
    for one in found:
        assert list(one) == ["image", "caption", "score", "ended", "words", "checkpoint", "model", "decode"]
        assert one["caption"] == " ".join(one["words"]) and one["score"] < 0 and one["checkpoint"] == str(trained)
        assert one["decode"] == "beam 3, no unk"
        assert one["model"] == hashlib.sha256((trained / "model.safetensors").read_bytes()).hexdigest()[:12]


def test_a_caption_alone_equals_it_in_a_batch(captioner, photos):
    decode = Decode(beam=3, max_words=12)
    together = captioner.caption(photos[:6], decode)
    assert len({c.text for c in together}) > 1  # else equality says nothing
    for photo, one in zip(photos, together, strict=False):
        alone = captioner.caption([photo], decode)[0]
        assert alone.text == one.text and alone.score == pytest.approx(one.score, abs=1e-3)
    assert captioner.caption([]) == []


def test_the_captions_are_those_that_validation_scores(captioner, trained, data, tmp_path):
    loaded = load_data(data)
    config = RunConfig(**{k: v for k, v in captioner.description["config"].items() if k != "beams"})
    images = loaded.split("val") + loaded.split("test")
    inputs = open_inputs(loaded, captioner.model.encoder, config, tmp_path, workers=0)
    captions = CaptionIds([loaded.examples[i].captions for i in images], images, captioner.vocabulary, 12)
    decodes, device = [Decode(beam=1, max_words=12), Decode(beam=3, max_words=12)], torch.device("cpu")
    found = predict(captioner.model, captions, inputs, images, decodes, captioner.vocabulary, device)
    scored = {one.image: one.free[1] for one in found}
    for index in images:
        said = captioner.caption([data / "images" / Path(loaded.examples[index].file).name], Decode(beam=3, max_words=12))[0]
        assert said.words == captioner.vocabulary.decode(scored[index].words)
        assert said.score == pytest.approx(scored[index].score, abs=1e-2)


def test_out_of_memory_predicts_in_halves(captioner, data, tmp_path, monkeypatch):
    """Memory for two images: the same words in the same order."""
    loaded = load_data(data)
    config = RunConfig(**{k: v for k, v in captioner.description["config"].items() if k != "beams"})
    images = [*loaded.split("test"), *loaded.split("val")]  # not in ascending order
    inputs = open_inputs(loaded, captioner.model.encoder, config, tmp_path, workers=0)
    captions = CaptionIds([loaded.examples[i].captions for i in images], images, captioner.vocabulary, 12)

    def found():
        rows = predict(captioner.model, captions, inputs, images, [Decode(beam=3, max_words=12)], captioner.vocabulary, captioner.device)
        return [(one.image, one.free[0].words, [f.words for f in one.forced]) for one in rows]

    expected, encode = found(), captioner.model.encode

    def small(pixels):
        if len(pixels) > 2:
            raise torch.OutOfMemoryError
        return encode(pixels)

    monkeypatch.setattr(captioner.model, "encode", small)
    assert found() == expected and [image for image, *_ in expected] == images
    monkeypatch.setattr(captioner.model, "encode", lambda pixels: small(torch.cat([pixels] * 3)))
    with pytest.raises(BadInput, match="out of memory with one image"):
        found()


def test_locations_are_for_hard_attention(trained):
    with pytest.raises(BadInput, match="--locations argmax: .* has no hard attention"):
        load_captioner(trained, "cpu", locations="argmax")


def test_one_checkpoint_of_hard_attention_captions_in_three_ways(data, photos, tmp_path):
    """Drawn locations are the same at every call: they follow Decode's seed."""
    config = RunConfig(**{**SETTINGS, "attention": "hard", "decoder_lr": 0.05})
    out = train(config, Where(data=str(data), out=str(tmp_path / "hard"), cache=str(tmp_path), device="cpu", workers=0))

    def scores(locations, seed=0):
        captioner = load_captioner(out, "cpu", locations=locations)
        return [caption.score for caption in captioner.caption(photos[:3], Decode(beam=1, max_words=8, seed=seed))]

    assert scores("") == scores("expected")
    assert scores("sample") == scores("sample") != scores("sample", seed=1)
    assert len({tuple(scores(locations)) for locations in ("expected", "sample", "argmax")}) == 3


def test_a_turned_photo_is_captioned_upright(captioner, photos, tmp_path):
    upright = Image.open(photos[1]).convert("RGB")
    exif = Image.Exif()
    exif[0x0112] = 6  # lies on its side, to be turned clockwise
    upright.transpose(Image.Transpose.ROTATE_90).save(tmp_path / "turned.png", exif=exif)
    one, other = captioner.caption([photos[1]])[0], captioner.caption([tmp_path / "turned.png"])[0]
    assert (one.text, one.score) == (other.text, other.score)


def test_any_kind_of_photo_gets_a_caption(call, photos, tmp_path):
    red = Image.open(photos[0]).convert("RGB")
    red.convert("L").save(tmp_path / "grey.jpg")
    red.convert("CMYK").save(tmp_path / "cmyk.jpg")
    Image.new("I;16", (30, 20), 40_000).save(tmp_path / "16-bit.png")
    red.quantize(4).save(tmp_path / "palette.png")
    red.putalpha(128)
    red.save(tmp_path / "alpha.PNG")
    red.convert("P").save(tmp_path / "moving.gif", save_all=True, append_images=[Image.new("P", red.size)] * 3)
    Image.new("L", (10_000, 10_000), 90).save(tmp_path / "100-megapixels.jpg")
    (tmp_path / "notes.txt").write_text("passed over")
    status, out, err = call("--img", tmp_path, "--json")
    found = json.loads(out)
    assert status == 0 and len(found) == 7 and all(f["words"] for f in found), err


@pytest.mark.parametrize("name", ["strip.png", "new folder/strip.jpg", "strip"])
def test_attention_draws_a_tile_for_each_word(call, photos, tmp_path, monkeypatch, name):
    from captioning import attention_strip

    drawn = []
    monkeypatch.setattr(
        attention_strip, "draw_strip", lambda *a, draw=attention_strip.draw_strip, **k: drawn.append((*a, k)) or draw(*a, **k)
    )
    status, out, _ = call("--img", photos[2], "--attention", tmp_path / name)
    assert status == 0
    with Image.open(tmp_path / name) as strip:
        strip.load()
        assert strip.width > 2 * attention_strip.TILE
    ((picture, words, maps, more),) = drawn
    assert more == {"title": "attention"}
    assert words == out.split() and picture.size == (64, 64)
    assert len(maps) >= len(words) and maps.shape[1:] == (2, 2)
    assert maps.sum((1, 2)) == pytest.approx(1, abs=1e-3)


def test_help_needs_no_torch():
    script = "import sys, runpy\nsys.argv = ['caption.py', '--help']\ntry: runpy.run_path('caption.py', run_name='__main__')\n"
    script += "except SystemExit as e: assert e.code == 0\nassert not {'torch', 'timm', 'numpy', 'PIL'} & sys.modules.keys()\n"
    said = subprocess.run([sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True)
    assert said.returncode == 0, said.stderr
    for option in ("--img", "--beam", "--checkpoint", "--attention", "--json", "--csv", "--out", "--sample", "python caption.py --img "):
        assert option in said.stdout


def describe(folder: Path, data: str = "flickr8k", bleu4: float = 10.0, seconds: int = 0) -> Path:
    folder.mkdir(parents=True)
    (folder / "config.json").write_text(json.dumps({"data": {"name": data}, "scores": {"val_bleu4_free": bleu4}}))
    os.utime(folder / "config.json", (seconds, seconds))
    return folder


def test_the_default_is_what_ships_else_the_best_newest(tmp_path, monkeypatch, call, trained, photos):
    monkeypatch.setattr("captioning.checkpoint_list.ROOT", tmp_path)
    status, out, err = call("--img", photos[0], checkpoint=None)
    assert (status, out) == (2, "") and "no checkpoint yet; make one with" in err
    worst = describe(tmp_path / "results/demo/checkpoints/a", "demo", 60)
    assert default_checkpoint()[0] == worst
    older = describe(tmp_path / "results/flickr8k/checkpoints/b", bleu4=20, seconds=1)
    describe(tmp_path / "trained/c", bleu4=19, seconds=9)
    assert default_checkpoint()[0] == older  # photographs before drawn scenes, then the better one
    newer = describe(tmp_path / "trained/d", bleu4=20, seconds=2)
    (tmp_path / "trained/broken").mkdir()
    (tmp_path / "trained/broken/config.json").write_text('{"data": {"na')
    describe(tmp_path / "trained/null", bleu4=None, seconds=9)
    describe(tmp_path / "trained/nan", bleu4=float("nan"), seconds=9)
    describe(tmp_path / "trained/deep").joinpath("config.json").write_text("[" * 100_000)
    assert default_checkpoint()[0] == newer
    (tmp_path / "checkpoints").mkdir()
    (tmp_path / "checkpoints" / "shipped").symlink_to(trained)
    assert default_checkpoint()[0] == tmp_path / "checkpoints" / "shipped"
    status, _, err = call("--img", photos[0], checkpoint=None)
    assert status == 0 and err.startswith(f"checkpoint: {tmp_path}/checkpoints/shipped (trained on tiny")


def ship(folder: Path, bleu4: float, tag: str = "") -> Path:
    """A checkpoint under checkpoints/: with its encoder's weights inside, or only their tag."""
    describe(folder, bleu4=bleu4)
    description = json.loads((folder / "config.json").read_text())
    encoder = {"stored": not tag, "kind": "timm", "tag": tag or "convnext_femto.own"}
    (folder / "config.json").write_text(json.dumps(description | {"encoder": encoder, "config": {"pretrained": True}}))
    return folder


def test_of_ones_own_too_download_takes_the_best(tmp_path, monkeypatch):
    monkeypatch.setattr("captioning.checkpoint_list.ROOT", tmp_path)
    named = ship(tmp_path / "trained/named", 20, "deit_tiny_patch16_224.fb_in1k")
    whole = ship(tmp_path / "trained/whole", 15)
    for damage in (5, None, ""):
        damaged = ship(tmp_path / f"trained/damaged-{damage}", 1, "x")
        (damaged / "config.json").write_text((damaged / "config.json").read_text().replace('"tag": "x"', f'"tag": {json.dumps(damage)}'))
    assert default_checkpoint(str(tmp_path)) == (whole, named) and default_checkpoint(str(tmp_path), download=True) == (named, None)


def test_the_default_is_the_best_that_needs_no_download(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr("captioning.checkpoint_list.ROOT", tmp_path)
    tag = "deit_tiny_patch16_224.fb_in1k"
    named = ship(tmp_path / "checkpoints/named", 20, tag)
    assert default_checkpoint(str(tmp_path)) == (named, None)  # nothing else is there: using it says what is missing
    whole, own = ship(tmp_path / "checkpoints/whole", 15), describe(tmp_path / "trained/own", "coco", 30)
    assert find_checkpoints(str(tmp_path)) == [whole, own, named] and default_checkpoint(str(tmp_path)) == (whole, named)
    assert default_checkpoint(str(tmp_path), download=True) == (named, None)
    options = caption.parse_arguments(["--img", "x.jpg", "--weights", str(tmp_path)])
    assert caption.choose_checkpoint(options) == whole
    assert capsys.readouterr().err == "a better captioner is a download away, named: --download fetches the encoder it needs, once\n"
    (tmp_path / f"{tag}.safetensors").write_bytes(b"weights")
    assert find_checkpoints(str(tmp_path)) == [named, whole, own] and default_checkpoint(str(tmp_path)) == (named, None)
    assert caption.choose_checkpoint(options) == named and capsys.readouterr().err == ""


def test_a_demo_checkpoint_says_what_it_knows(call, photos, captioner, monkeypatch):
    monkeypatch.setitem(captioner.description, "data", {"name": "demo"})
    assert "knows drawn scenes only" in call("--img", photos[0])[2]


def bomb(path: Path) -> Path:
    Image.new("1", (20_000, 20_000)).save(path)
    return path


def written(path: Path, content: bytes) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
    return path


BROKEN = {
    "missing": (lambda t, p: ["--img", t / "no.jpg"], "no.jpg: no such image file; check the path"),
    "empty": (lambda t, p: ["--img", written(t / "e.jpg", b"")], "e.jpg: the file is empty"),
    "truncated": (lambda t, p: ["--img", written(t / "t.png", p.read_bytes()[:90])], "t.png: broken or cut short"),
    "no image": (lambda t, p: ["--img", written(t / "n.jpg", b"hello, world")], "n.jpg: not an image that can be read; give a JPEG"),
    "bomb": (lambda t, p: ["--img", bomb(t / "b.png")], "b.png: more than 250 million pixels"),
}  # fmt: skip
BAD = {
    "no photo": (lambda t, p: [], "which photo? For instance: python caption.py --img "),
    "stdin and others": (lambda t, p: ["--img", "-", p], "--img -: the photo on stdin is captioned alone"),
    "folder without pictures": (lambda t, p: ["--img", written(t / "d" / "x.txt", b"").parent], "d: no pictures in this folder"),
    "pattern without match": (lambda t, p: ["--img", t / "*.jpg"], "*.jpg: matches no file"),
    "empty name": (lambda t, p: ["--img", ""], "--img '': an empty name"),
    "beam 0": (lambda t, p: ["--img", p, "--beam", 0], "--beam 0: give a number of at least 1"),
    "beam wider than the vocabulary": (lambda t, p: ["--img", p, "--beam", 500], "--beam 500: wider than the vocabulary of"),
    "no words": (lambda t, p: ["--img", p, "--max-words", 0], "--max-words 0"),
    "penalty not a number": (lambda t, p: ["--img", p, "--length-penalty", "nan"], "--length-penalty nan"),
    "two strips": (lambda t, p: ["--img", p, p.parent, "--attention", t / "a.png"], "--attention draws one photo's strip"),
    "temperature without sampling": (lambda t, p: ["--img", p, "--temperature", 2], "--temperature: of drawn captions only; add --sample"),
    "sampling a beam": (lambda t, p: ["--img", p, "--sample", "--beam", 3], "--beam: --sample draws one caption"),
    "sampling beams": (lambda t, p: ["--img", p, "--sample", "--beams"], "--beams: --sample draws one caption"),
    "top-p above 1": (lambda t, p: ["--img", p, "--sample", "--top-p", 2], "--top-p 2.0: give a share"),
    "beams as COCO results": (lambda t, p: ["--img", p, "--beams", "--format", "coco"], "--beams: COCO results hold one caption an image"),
    "text into a file": (lambda t, p: ["--img", p, "--out", t / "o.txt"], "o.txt: text is for reading; add --format json"),
    "into a folder": (lambda t, p: ["--img", p, "--out", t, "--json"], "is a folder; name a file in it"),
    "into a photo": (lambda t, p: ["--img", p, "--out", p, "--json"], "not what --format json writes"),
    "strip of another kind": (lambda t, p: ["--img", p, "--attention", t / "a.txt"], "a.txt: write a .png"),
    "strip in no folder": (lambda t, p: ["--img", p, "--attention", written(t / "f", b"") / "a.png"], "/a.png: cannot be written (Not a"),
    "strip read-only": (lambda t, p: ["--img", p, "--attention", "/proc/1/a.png"], "--attention /proc/1/a.png: cannot be written"),
    "strip over the photo": (lambda t, p: ["--img", p, "--attention", p], "is the photo itself; write the strip to another file"),
    "seed of too many digits": (lambda t, p: ["--img", p, "--sample", "--seed", 10**22], "--seed 10000000000000000000000: give a number"),
    "seed below 0": (lambda t, p: ["--img", p, "--seed", -1], "--seed -1: give a number of at least 0"),
    "no checkpoint": (lambda t, p: ["--img", p, "--checkpoint", t / "c"], "c: no such checkpoint; train one with"),
    "pickle": (lambda t, p: ["--img", p, "--checkpoint", written(t / "BEST.pth.tar", b"\x80")], "pickled checkpoints are never loaded"),
    "device": (lambda t, p: ["--img", p, "--device", "tpu"], "invalid choice: 'tpu'"),
}  # fmt: skip


@pytest.mark.parametrize("case", [*BAD, *BROKEN])
def test_bad_input_is_one_line(call, photos, tmp_path, case, trained):
    make_line, said = (BAD | BROKEN)[case]
    line = make_line(tmp_path, photos[0])
    before = photos[0].read_bytes()
    status, out, err = call(*line, checkpoint=None if "--checkpoint" in line else trained)
    errors = [text for text in err.splitlines() if not text.startswith(("checkpoint: ", "usage:", " "))]
    assert status == (1 if case in BROKEN else 2) and "Traceback" not in err
    assert len(errors) == 1 and errors[0].startswith("caption.py: error: ") and said in errors[0]
    assert out == "" and photos[0].read_bytes() == before


def test_a_broken_photo_among_others_costs_only_its_own_caption(call, photos, tmp_path):
    broken = written(tmp_path / "broken.jpg", photos[0].read_bytes()[:60])
    status, out, err = call("--img", photos[0], broken, photos[1], "--json")
    assert status == 1 and [f["image"] for f in json.loads(out)] == [str(photos[0]), str(photos[1])]
    assert sum("broken.jpg" in line for line in err.splitlines()) == 1
    assert err.splitlines()[-1] == "1 of 3 photos could not be read, the others are captioned"


def test_a_photo_on_stdin_is_captioned_as_its_file(call, photos, monkeypatch):
    class Piped(io.TextIOWrapper):
        def isatty(self):
            return False

    monkeypatch.setattr(sys, "stdin", Piped(io.BytesIO(photos[2].read_bytes())))
    assert call("--img", "-")[:2] == (0, call("--img", photos[2])[1])
    monkeypatch.setattr(sys, "stdin", Piped(io.BytesIO(b"hello, world")))
    status, out, err = call("--img", "-")
    assert (status, out) == (1, "") and "stdin: not an image" in err


def test_another_photo_on_stdin_is_not_taken_for_the_one_before(call, photos, tmp_path, monkeypatch):
    for photo, expected in zip(photos[:2], (0, 2), strict=True):
        monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(photo.read_bytes())))
        status, _, err = call("--img", "-", "--out", tmp_path / "o.json")
        assert status == expected
    assert "holds a photo from stdin, perhaps another one" in err


def test_stdin_without_end_is_refused(call, monkeypatch):
    class Endless(io.RawIOBase):
        given = 0

        def readable(self):
            return True

        def readinto(self, buffer):
            self.given += len(buffer)
            assert self.given < 10_000_000
            return len(buffer)

    monkeypatch.setattr(photo_list, "MOST_BYTES", 2_000_000)
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BufferedReader(Endless())))
    status, _, err = call("--img", "-")
    assert status == 2 and "--img -: more than 2 MB on stdin; save the photo and name its file" in err


def test_the_word_demo_is_some_drawn_scenes(call):
    status, out, _ = call("--img", "demo", "--csv")
    assert status == 0 and [row["image"] for row in csv.DictReader(io.StringIO(out))] == [f"scene-{n:06}" for n in range(3400, 3404)]


def test_all_alternatives_are_the_hypotheses_of_a_full_beam(captioner, photos):
    """`beam` of them, best first, the first as `caption` says it; scores as one teacher-forced pass of the decoder gives them."""
    decode = Decode(beam=4, max_words=12)
    for photo, best in zip(photos, captioner.caption(photos, decode), strict=True):
        found = captioner.alternatives(photo, decode, attend=True)
        assert len({c.text for c in found}) == 4 and [c.score for c in found] == sorted((c.score for c in found), reverse=True)
        assert (found[0].text, found[0].score) == (best.text, pytest.approx(best.score, abs=1e-4))
        regions = captioner.model.encode(torch.from_numpy(captioner.prepare(photo))[None])
        for one in found:
            assert one.attention.shape[0] >= len(one.words) and one.attention.shape[1:] == (2, 2)
            ids = captioner.vocabulary.encode(one.text)
            ids = [START, *ids, END] if one.ended else [START, *ids]
            with torch.inference_mode():
                logits = captioner.model.decoder(regions, torch.tensor([ids[:-1]]))[0]  # (T, V)
            steps = logits.log_softmax(-1)[torch.arange(len(ids) - 1), torch.tensor(ids[1:])]
            assert one.score == pytest.approx(float(steps.sum()), abs=1e-3)


def test_a_caption_cut_at_its_longest_has_not_ended(captioner, photos):
    (cut,), (whole,) = (captioner.caption(photos[:1], Decode(beam=1, max_words=most)) for most in (2, 12))
    assert whole.ended and len(whole.words) > 2 and not cut.ended and cut.words == whole.words[:2]


def test_alternatives_in_every_format(call, photos, captioner):
    first, second = ([c.text for c in captioner.alternatives(photo, Decode(beam=3))] for photo in photos[:2])
    alone = call("--img", photos[0], "--beam", 3, "--beams")[1].splitlines()
    assert [line.split(maxsplit=1)[1].removesuffix(" (cut)") for line in alone] == first
    both = call("--img", *photos[:2], "--beam", 3, "--beams")[1].splitlines()
    assert both[0] == f"{photos[0]}:" and both[4] == f"{photos[1]}:" and [line.split(maxsplit=1)[1] for line in both[5:]] == second
    found = json.loads(call("--img", *photos[:2], "--beam", 3, "--beams", "--json")[1])
    assert [[a["caption"] for a in one["alternatives"]] for one in found] == [first, second]
    rows = list(csv.DictReader(io.StringIO(call("--img", *photos[:2], "--beam", 3, "--beams", "--csv")[1])))
    assert [(row["caption"], row["rank"]) for row in rows] == [(text, str(n % 3 + 1)) for n, text in enumerate(first + second)]


def test_drawn_captions_follow_the_seed(call, photos):
    line = ["--img", *photos[:6], "--sample", "--temperature", 3]
    one = call(*line, "--seed", 1)[1]
    assert one == call(*line, "--seed", 1)[1] and one != call(*line, "--seed", 2)[1]
    greedy = call("--img", *photos[:6], "--beam", 1)[1]
    assert call("--img", *photos[:6], "--sample", "--top-k", 1, "--seed", 5)[1] == greedy != one


def test_each_photo_is_captioned_once(call, photos):
    assert call("--img", photos[0], photos[0].parent, photos[0], "--csv")[1] == call("--img", photos[0].parent, "--csv")[1]


def test_a_photo_by_two_names_is_captioned_once_and_hidden_files_are_none(call, photos, tmp_path, monkeypatch):
    folder = tmp_path / "camera"
    folder.mkdir()
    (folder / "beach.jpg").write_bytes(photos[0].read_bytes())
    (folder / "._beach.jpg").write_bytes(b"what macOS leaves beside a copy")
    monkeypatch.chdir(tmp_path)
    status, out, _ = call("--img", "camera", folder / "beach.jpg", "--json")
    assert status == 0 and [found["image"] for found in json.loads(out)] == ["camera/beach.jpg"]


def test_any_failure_to_open_costs_one_photo_only(call, photos, tmp_path):
    (tmp_path / "round.jpg").symlink_to("round.jpg")
    status, out, err = call("--img", photos[0], tmp_path / "round.jpg", photos[1], "--json")
    assert status == 1 and len(json.loads(out)) == 2 and "round.jpg: cannot be read" in err


def test_many_images_are_searched_in_groups(captioner, photos, monkeypatch):
    """Their memory would grow with them."""
    from captioning import captioner as module

    whole, sizes, search = captioner.caption(photos[:5]), [], captioner._search
    monkeypatch.setattr(module, "AT_ONCE", 2)
    monkeypatch.setattr(captioner, "_search", lambda regions, *how: sizes.append(len(regions)) or search(regions, *how))
    assert [one.text for one in captioner.caption(photos[:5])] == [one.text for one in whole] and sizes == [2, 2, 1]


@pytest.fixture
def captioned(monkeypatch, captioner) -> list:
    """Pictures that the captioner was given since."""
    seen = []
    search = captioner.alternatives_of
    monkeypatch.setattr(captioner, "alternatives_of", lambda images, *how: seen.extend(images) or search(images, *how))
    return seen


@pytest.mark.parametrize("name", ["out.json", "out.csv", "coco.json"])
def test_a_file_is_gone_on_from(call, photos, tmp_path, captioned, name):
    more = ["--format", "coco"] if name == "coco.json" else []
    out, whole = tmp_path / "new" / name, tmp_path / name
    assert call("--img", *photos, "--out", whole, *more)[:2] == (0, "")
    call("--img", *photos[:5], "--out", out, *more)
    del captioned[:]
    status, _, err = call("--img", *photos, "--out", out, *more)
    assert status == 0 and len(captioned) == len(photos) - 5 and f"5 of {len(photos)} photos are in it already" in err
    assert out.read_bytes() == whole.read_bytes()
    del captioned[:]
    assert call("--img", *photos, "--out", out, *more)[0] == 0 and captioned == []
    status, _, err = call("--img", *photos, "--out", out, "--beam", 2, *more)
    assert status == 2 and "has decode 'beam 5, no unk', this call 'beam 2, no unk'" in err and out.read_bytes() == whole.read_bytes()


@pytest.mark.parametrize("name", ["o.json", "o.csv", "coco.json"])
def test_captions_of_weights_that_are_no_longer_there_are_not_gone_on_from(call, photos, tmp_path, trained, name):
    """The folder is the same, its model another: trained again."""
    more = ["--format", "coco"] if name == "coco.json" else []
    folder = shutil.copytree(trained, tmp_path / "c")
    assert call("--img", photos[0], "--out", tmp_path / name, *more, checkpoint=folder)[0] == 0
    before, description = (tmp_path / name).read_bytes(), json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(description | {"model_sha256": "0" * 64}))
    status, _, err = call("--img", *photos[:2], "--out", tmp_path / name, *more, checkpoint=folder)
    assert status == 2 and f"has model '{description['model_sha256'][:12]}', this call '000000000000'" in err
    assert (tmp_path / name).read_bytes() == before


def test_coco_results_are_gone_on_from_by_the_same_photos_only(call, photos, tmp_path, monkeypatch):
    """Two photos of one name in two folders have one id; from another folder a photo has another name and is the same."""
    for folder, photo in zip("ab", photos, strict=False):
        written(tmp_path / folder / "x.png", photo.read_bytes())
    line = ["--format", "coco", "--out", tmp_path / "r.json"]
    assert call("--img", tmp_path / "a" / "x.png", *line)[0] == 0
    before = (tmp_path / "r.json").read_bytes()
    status, _, err = call("--img", tmp_path / "b" / "x.png", *line)
    assert status == 2 and f"image x in it is {tmp_path}/a/x.png, this call has {tmp_path}/b/x.png" in err
    monkeypatch.chdir(tmp_path / "a")
    status, _, err = call("--img", "x.png", *line)
    assert status == 0 and "1 of 1 photos are in it already" in err
    (tmp_path / "r.json.made-by.json").unlink()
    status, _, err = call("--img", "x.png", *line)
    assert status == 2 and "is there already without r.json.made-by.json" in err and (tmp_path / "r.json").read_bytes() == before


def test_a_strip_is_drawn_of_a_photo_whose_caption_is_there(call, photos, tmp_path):
    line = ["--img", photos[0], "--out", tmp_path / "o.json"]
    call(*line)
    before = (tmp_path / "o.json").read_bytes()
    assert call(*line, "--attention", tmp_path / "strip.png")[0] == 0
    with Image.open(tmp_path / "strip.png") as strip:
        assert strip.width > 300
    assert (tmp_path / "o.json").read_bytes() == before


@pytest.mark.parametrize("option", ["--out", "--attention", "--save-attention"])
def test_a_place_that_cannot_be_written_is_refused_before_the_model_is_loaded(call, photos, tmp_path, monkeypatch, option):
    wrong = written(tmp_path / "f.png", b"") / "new" / "x.csv" / "y.png"
    monkeypatch.setattr(caption, "default_checkpoint", lambda: pytest.fail("loaded"))
    status, out, err = call("--img", photos[0], "--csv", option, wrong, checkpoint=None)
    assert (
        (status, out) == (2, "") and f"error: {option} {tmp_path}/f.png/new/x.csv" in err and "cannot be written (Not a directory)" in err
    )
    assert [p.name for p in tmp_path.iterdir()] == ["f.png"]


@pytest.mark.parametrize("option", ["--attention", "--save-attention"])
def test_a_model_without_attention_names_the_option_that_asked(call, photos, tmp_path, captioner, monkeypatch, option):
    monkeypatch.setattr(type(captioner), "map_kind", "even")
    status, _, err = call("--img", photos[0], option, tmp_path / "q.png")
    assert status == 2 and f"error: {option} {tmp_path}/q.png: " in err and "has no attention" in err


def test_a_stopped_call_keeps_what_is_done(call, photos, tmp_path, captioner, monkeypatch):
    monkeypatch.setattr(caption, "AT_ONCE", 4)
    search, calls = captioner.alternatives_of, []

    def stopped(*given):
        calls.append(given)
        if len(calls) == 3:
            raise KeyboardInterrupt
        return search(*given)

    monkeypatch.setattr(captioner, "alternatives_of", stopped)
    status, _, _ = call("--img", *photos, "--out", tmp_path / "o.json")
    assert status == 130 and [one["image"] for one in json.loads((tmp_path / "o.json").read_text())] == list(map(str, photos[:8]))
    monkeypatch.setattr(captioner, "alternatives_of", search)
    status, _, err = call("--img", *photos, "--out", tmp_path / "o.json")
    assert status == 0 and len(json.loads((tmp_path / "o.json").read_text())) == len(photos)
    assert f"{len(photos) - 8} photos captioned in" in err and "images/s" in err


def test_coco_results_are_scored_as_they_are(call, photos, tmp_path, data):
    """pycocotools, which reads them for the field, takes them; so does this project's scorer."""
    from pycocotools.coco import COCO

    from captioning.caption_files import read_candidates

    (tmp_path / "val").mkdir()
    files = [tmp_path / "val" / f"COCO_val2014_{n:012}.png" for n in (391895, 42)]
    for file, photo in zip(files, photos, strict=False):
        file.write_bytes(photo.read_bytes())
    call("--img", tmp_path / "val", "--format", "coco", "--out", tmp_path / "r.json")
    truth = COCO()
    truth.dataset = {"images": [{"id": 391895}, {"id": 42}], "annotations": []}
    truth.createIndex()
    results = truth.loadRes(str(tmp_path / "r.json"))
    assert sorted(results.getImgIds()) == [42, 391895]
    assert read_candidates(tmp_path / "r.json").captions == {
        str(one["image_id"]): one["caption"] for one in json.loads((tmp_path / "r.json").read_text())
    }
    status, _, err = call("--img", tmp_path / "val", photos[0], "--format", "coco", "--out", tmp_path / "r.json")
    assert status == 2 and "COCO's image numbers and file names" in err


def test_a_strip_for_each_photo_stays_in_its_folder(call, photos, tmp_path, captioned):
    """Photos of one name in two folders, and names that lead elsewhere."""
    names = ["a/dog.png", "b/dog.png", "a/..png", "a/sp ace; rm -rf.png", "a/" + "x" * 200 + ".png"]
    for name, photo in zip(names, photos, strict=False):
        written(tmp_path / "in" / name, photo.read_bytes())
    line = ["--img", tmp_path / "in" / "a", tmp_path / "in" / "a" / ".." / "b", tmp_path / "in" / "a" / "..png"]
    line += ["--save-attention", tmp_path / "strips", "--out", tmp_path / "o.csv"]
    assert call(*line)[0] == 0 and len(captioned) == 5
    strips = sorted((tmp_path / "strips").iterdir())
    assert len(strips) == 5 and {p.name for p in tmp_path.iterdir()} == {"in", "strips", "o.csv"}
    for strip in strips:
        with Image.open(strip) as picture:
            assert picture.format == "PNG" and picture.width > 300
    strips[0].unlink()
    del captioned[:]
    assert call(*line)[0] == 0 and len(captioned) == 1 and strips[0].exists()  # what is missing is made again, nothing else


def test_the_docstring_s_lines_run(trained, photos, monkeypatch, capsys, tmp_path):
    """The lines that people copy: load_captioner, a caption, its alternatives."""
    import captioning.captioner

    lines = captioning.captioner.__doc__.partition("    from captioning")[2]
    (tmp_path / "photo.jpg").write_bytes(photos[0].read_bytes())
    monkeypatch.chdir(tmp_path)
    exec(textwrap.dedent("    from captioning" + lines).replace("checkpoints/...", str(trained)), {})
    best, *others = capsys.readouterr().out.splitlines()
    assert len(others) == 5 and others[0].endswith(best)


def test_captions_of_named_bytes_pictures_and_paths_are_one(captioner, photos):
    texts = [captioner.caption([source])[0].text for source in (photos[3], str(photos[3]), photos[3].read_bytes(), Image.open(photos[3]))]
    assert len(set(texts)) == 1
