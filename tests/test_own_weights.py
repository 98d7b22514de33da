"""timm's architecture with weights of one's own: NAME.own never stands for a download, and benchmarks/distill.py makes such weights."""

import json
import shutil
import sys
from pathlib import Path

import numpy as np
import pytest
import timm
import torch
from PIL import Image
from safetensors.torch import load_file, save_file

from benchmarks import distill
from captioning.bad_input import BadInput
from captioning.config import RunConfig
from captioning.trunks import create_trunk, exact_tag, locate
from captioning.weight_tags import pretraining
from models import build_encoder


@pytest.fixture(scope="module")
def weights(tmp_path_factory) -> Path:
    torch.manual_seed(3)
    path = tmp_path_factory.mktemp("own") / "mine.safetensors"
    save_file(timm.create_model("convnext_atto", num_classes=0).state_dict(), path)
    return path


def test_own_weights_come_from_the_file_named(weights):
    source = locate("convnext_atto.own", True, str(weights))
    trunk, preprocessing = create_trunk(source)
    stem = "stem.0.weight"
    assert torch.equal(trunk.state_dict()[stem], load_file(str(weights))[stem])
    assert (source.tag, preprocessing.size) == ("convnext_atto.own", 224)
    assert pretraining(source.tag, source.kind, source.weights_sha256) == "weights of one's own"
    assert build_encoder(RunConfig(encoder="convnext_atto.own", grid=7), source=source).dim == 320


def test_own_weights_are_never_fetched():
    with pytest.raises(BadInput, match="--weights F.safetensors"):
        locate("convnext_atto.own", True)
    with pytest.raises(BadInput, match="timm knows no such model"):
        exact_tag("convnext_zilch.own")


def test_published_weights_in_a_folder_are_not_ones_own(weights, tmp_path):
    """Only a file of that very name is: what ships holds nobody else's."""
    shutil.copyfile(weights, tmp_path / "convnext_atto.safetensors")
    assert locate("convnext_atto", True, str(tmp_path)).weights_path == tmp_path / "convnext_atto.safetensors"
    with pytest.raises(BadInput, match="none of convnext_atto.own.safetensors, convnext_atto.own/model.safetensors is there"):
        locate("convnext_atto.own", True, str(tmp_path))
    shutil.copyfile(weights, tmp_path / "convnext_atto.own.safetensors")
    assert locate("convnext_atto.own", True, str(tmp_path)).weights_path == tmp_path / "convnext_atto.own.safetensors"


def test_a_view_is_the_same_for_the_same_numbers():
    picture = np.random.default_rng(0).integers(0, 256, (224, 224, 3), dtype=np.uint8)
    assert np.array_equal(distill.view_of(picture, 0, 5, 0, 224), picture)
    one, again, other = (distill.view_of(picture, 0, 5, view, 96) for view in (1, 1, 2))
    assert one.shape == (96, 96, 3) and np.array_equal(one, again) and not np.array_equal(one, other)


def test_directions_are_the_principal_ones():
    random = torch.Generator().manual_seed(0)
    regions = torch.randn(4000, 3, generator=random) @ torch.randn(3, 6, generator=random) + 7  # three directions in six channels
    mean, whole = distill.directions(regions, 6)
    standard = (regions - mean) @ whole
    assert torch.allclose(standard.std(0), torch.ones(6), atol=1e-4) and torch.allclose(standard.mean(0), torch.zeros(6), atol=1e-4)
    mean, few = distill.directions(regions, 3)
    kept = (regions - mean) @ few
    assert kept.var(0).mean() == pytest.approx(1, abs=1e-3)
    # Nothing is lost: three directions are all there are, so the standardised channels follow from them by a linear map.
    solved = torch.linalg.lstsq(kept, standard).solution
    assert torch.allclose(kept @ solved, standard, atol=1e-3)


def test_a_smaller_grid_is_foretold_as_means():
    targets = torch.arange(49.0).view(1, 49, 1)
    assert torch.equal(distill.pool(targets, 49), targets)
    assert distill.pool(targets, 1).item() == pytest.approx(24)


def test_pictures_and_regions_are_mixed_alike():
    mixed = distill.mixing(np.random.default_rng(0), 6, 0.4)
    x = torch.randn(6, 3, 4)
    y = mixed(x)
    assert torch.allclose(mixed(2 * x + 1), 2 * y + 1, atol=1e-5) and not torch.allclose(y, x, atol=0.01)
    for k in range(6):  # each row is one of x's and its own, in one share
        pairs = [torch.stack([x[k].flatten(), x[j].flatten()], 1) for j in range(6) if j != k]
        shares = [torch.linalg.lstsq(pair, y[k].flatten()).solution for pair in pairs]
        misses = [float((pair @ share - y[k].flatten()).norm()) for pair, share in zip(pairs, shares, strict=True)]
        share = shares[int(np.argmin(misses))]
        assert min(misses) < 1e-4 and share.sum() == pytest.approx(1, abs=1e-3) and (share > -1e-4).all()
    assert distill.mixing(np.random.default_rng(0), 6, 0.0)(x) is x


def test_only_what_this_program_made_is_gone_on_from(tmp_path, monkeypatch):
    data, weights = make_photos(tmp_path / "data"), tmp_path / "w.safetensors"
    save_file({"a": torch.zeros(1)}, weights)
    line = ["distill.py", "--data", str(data), "--out", str(tmp_path / "out.safetensors"), "--init", str(weights), "--weights", "none"]
    monkeypatch.setattr(sys, "argv", line)
    with pytest.raises(BadInput, match="not what this program made"):
        distill.main()
    with pytest.raises(BadInput, match="not weights of this student"):
        distill._begin_as(timm.create_model("convnext_zepto_rms"), weights)


@pytest.mark.parametrize("wrong", ["--threads -1", "--seed -1", "--views 0", "--mixup -1"])
def test_a_setting_that_cannot_be_is_refused_at_once(tmp_path, monkeypatch, wrong):
    line = ["distill.py", "--data", "nowhere", "--out", str(tmp_path / "made.safetensors"), *wrong.split()]
    monkeypatch.setattr(sys, "argv", line)
    with pytest.raises(BadInput, match=f"{wrong}.*: give a number of at least"):
        distill.main()


def test_colours_change_and_ones_change_nothing():
    x = torch.rand(2, 3, 8, 8)
    assert torch.allclose(distill.recolour(x, np.ones((2, 3))), x, atol=1e-6)
    grey = distill.recolour(x, np.array([[1, 1, 0.0], [0.5, 1, 1]]))
    assert torch.allclose(grey[0].std(0), torch.zeros(8, 8), atol=1e-6) and torch.allclose(grey[1], 0.5 * x[1], atol=1e-6)


def make_photos(folder: Path) -> Path:
    (folder / "images").mkdir(parents=True)
    random = np.random.default_rng(0)
    rows = ["image,caption,split"]
    for k in range(12):
        colour = random.integers(0, 256, 3)
        picture = np.broadcast_to(colour, (48, 48, 3)) // (1 + (np.indices((48, 48)).sum(0) // 8 % 2)[..., None])
        Image.fromarray(picture.astype(np.uint8)).save(folder / "images" / f"{k}.png")
        rows.append(f"{k}.png,a pattern number {k},{'train' if k < 8 else 'val' if k < 10 else 'test'}")
    (folder / "captions.csv").write_text("\n".join(rows) + "\n")
    return folder


def test_distilled_killed_and_gone_on_with(tmp_path, monkeypatch):
    """Two epochs in one go, and one epoch, a kill, one more: the same weights; and the card says what they foretell."""
    data = make_photos(tmp_path / "data")
    torch.manual_seed(0)
    save_file(timm.create_model("mobilenetv3_small_050", num_classes=0).state_dict(), tmp_path / "mobilenetv3_small_050.safetensors")
    line = [
        "--data",
        str(data),
        "--weights",
        str(tmp_path),
        "--teachers",
        "mobilenetv3_small_050.lamb_in1k",
        "--student",
        "convnext_zepto_rms",
    ]
    line += ["--views", "2", "--channels", "16", "--small", "32", "--batch-size", "4", "--precision", "fp32", "--epochs", "2"]
    monkeypatch.setenv("RECAP_CACHE", str(tmp_path / "cache"))

    def run(out: Path) -> None:
        monkeypatch.setattr(sys, "argv", ["distill.py", *line, "--device", "cpu", "--out", str(out)])
        distill.main()

    whole, cut = tmp_path / "whole.safetensors", tmp_path / "cut.safetensors"
    run(whole)
    save = distill._save_state

    def killed(*arguments) -> None:
        save(*arguments)
        raise KeyboardInterrupt

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(distill, "_save_state", killed)
        run(cut)
    assert not cut.exists()
    run(cut)
    assert whole.read_bytes() == cut.read_bytes()
    card = json.loads(whole.with_suffix(".json").read_text())
    assert len(card["curve"]) == 2 and card["teachers"][0]["channels"] == 16 and not whole.with_suffix(".state.pt").exists()
    assert locate("convnext_zepto_rms.own", True, str(whole)).weights_sha256 == card["sha256"]
    line += ["--init", str(whole), "--mixup", "0.2"]
    run(tmp_path / "further.safetensors")
    further = json.loads((tmp_path / "further.json").read_text())
    assert further["init"] == {name: value for name, value in card.items() if name != "curve"}
    line += ["--lr", "1e-9"]
    run(tmp_path / "same.safetensors")
    begun, ended = load_file(whole), load_file(tmp_path / "same.safetensors")
    assert begun.keys() == ended.keys() and all(torch.allclose(begun[name], ended[name], atol=1e-3) for name in begun)
    del line[-6:]
    with pytest.raises(BadInput, match="is there already"):
        run(whole)
    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(distill, "_save_state", killed)
        run(tmp_path / "other.safetensors")
    state = tmp_path / "other.state.pt"
    Image.new("RGB", (48, 48), "red").save(data / "images" / "0.png")  # other data than the state's
    with pytest.raises(BadInput, match="of other settings, data or teachers"):
        run(tmp_path / "other.safetensors")
    state.write_bytes(b"")
    with pytest.raises(BadInput, match="cut, or of another program"):
        run(tmp_path / "other.safetensors")
