"""Weights and switches of the encoder: torchvision's ConvNeXts equal timm's, every tag saw ImageNet-1k alone, normalisation, final norm, train mode."""

import contextlib
import dataclasses
import hashlib
import json
import pickle
import subprocess
import sys
import threading
from functools import partial
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
import timm
import torch
from safetensors.torch import save_file
from torch.nn import functional as F

from captioning import torchvision_weights, trunks
from captioning.bad_input import BadInput
from captioning.config import NUMERICS, RunConfig
from captioning.data import load_data
from captioning.encoder import Encoder
from captioning.inputs import KeptRegions, Pixels, keep_regions, open_inputs, why_not_kept
from captioning.regions import regions_key
from captioning.trunks import Preprocessing, TrunkSource, create_trunk, exact_tag, locate
from captioning.weight_tags import IMAGENET_1K, WEIGHTS, pretraining
from models import build_encoder, build_model
from tests.tiny import SETTINGS, make_data

ROOT = Path(__file__).resolve().parents[1]
TAG = "convnext_tiny.tv_in1k"
ATTO = RunConfig(encoder="convnext_atto", pretrained=False, image_size=64)
RESNET = RunConfig(**SETTINGS)  # resnet10t at 64 pixels


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    return load_data(make_data(tmp_path_factory.mktemp("tiny")))


@pytest.fixture(scope="module")
def torchvision_tiny():
    """torchvision's own ConvNeXt-Tiny, every tensor random: its layer scale of 1e-6 would hide what the blocks do."""
    from torchvision.models import convnext_tiny

    torch.manual_seed(5)
    model = convnext_tiny().eval()
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.numel() < 10_000:
                parameter.add_(0.3 * torch.randn_like(parameter))
    return model


# torchvision's weights


def test_torchvisions_weights_give_the_same_map_in_timms_net(torchvision_tiny, tmp_path):
    torch.save(torchvision_tiny.state_dict(), tmp_path / f"{TAG}.pth")
    encoder = build_encoder(RunConfig(encoder=TAG, image_size=96, final_norm=True), weights=str(tmp_path))
    images = torch.randn(2, 3, 96, 96)
    with torch.no_grad():
        expected = torchvision_tiny.features(images)
        found = encoder.trunk.forward_features(images)
        normed = torchvision_tiny.classifier[0](expected)
        assert torch.allclose(encoder._map(images), normed, atol=1e-4)
    assert expected.std() > 0.1  # the blocks do something
    assert (found - expected).abs().max() < 1e-5 * expected.abs().max()
    assert encoder.source.kind == "torchvision" and encoder.source.tag == TAG and len(encoder.source.weights_sha256) == 64


def test_all_of_torchvisions_weights_fit_timms_nets():
    """Names, shapes and stochastic depth, for every size; on the meta device, for the large net has 198 million parameters."""
    import torchvision.models

    for tag in torchvision_weights.ENUMERATIONS:
        name = tag.partition(".")[0]
        with torch.device("meta"):
            theirs = getattr(torchvision.models, name)()
            ours = timm.create_model(name, drop_path_rate=trunks.STOCHASTIC_DEPTH[name])
        expected = {n: t.shape for n, t in ours.state_dict().items()}
        assert {n: t.shape for n, t in torchvision_weights.to_timm(theirs.state_dict()).items()} == expected
        chances = [b.p for n, b in theirs.named_modules() if n.endswith("stochastic_depth")]
        own = [getattr(b.drop_path, "drop_prob", 0.0) for stage in ours.stages for b in stage.blocks]
        assert own == pytest.approx(chances, abs=1e-6)


def test_torchvisions_preprocessing_and_addresses_are_torchvisions():
    for tag in torchvision_weights.ENUMERATIONS:
        stated = torchvision_weights.preprocessing(tag)
        assert Preprocessing(**stated) == Preprocessing(224, [0.485, 0.456, 0.406], [0.229, 0.224, 0.225], "bilinear")
        promised = torchvision_weights.promised_hash(torchvision_weights.file_name(tag))
        assert len(promised) == 8 and set(promised) <= set("0123456789abcdef")
        assert torchvision_weights.url(tag).startswith("https://")
    encoder = build_encoder(RunConfig(encoder=TAG, pretrained=False, resize="crop"))
    assert encoder.preprocessing == Preprocessing(224, (0.485, 0.456, 0.406), (0.229, 0.224, 0.225), "bilinear", "crop")


def test_torchvisions_names_are_known_and_leave_timms_alone():
    assert exact_tag(TAG) == TAG
    assert locate(TAG, pretrained=False).kind == "torchvision"
    assert exact_tag("convnext_tiny") == "convnext_tiny.in12k_ft_in1k"  # a bare name is timm's default, as before
    with pytest.raises(BadInput, match=r"no weights tagged 'v1'; there are .*convnext_tiny\.fb_in1k.*convnext_tiny\.tv_in1k"):
        exact_tag("convnext_tiny.v1")
    with pytest.raises(BadInput, match="no weights tagged 'tv_in1k'"):
        exact_tag("convnext_atto.tv_in1k")


def test_importing_the_trunks_imports_neither_torch_nor_torchvision():
    code = "import sys, captioning.trunks, captioning.weight_tags; print(*{'torch', 'torchvision', 'timm'} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == ""


@pytest.fixture
def bytes_named_as_promised(monkeypatch):
    """Some bytes for weights, and their file name with their hash as torchvision's have it; locating never opens them."""
    content = b"weights" * 1000
    name = f"convnext_tiny-{hashlib.sha256(content).hexdigest()[:8]}.pth"
    monkeypatch.setattr(torchvision_weights, "url", lambda _: f"http://127.0.0.1:9/{name}")
    return content, name


@pytest.fixture
def hub(tmp_path, monkeypatch):
    """torch.hub's folder of weights, empty."""
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    return tmp_path / "home" / "hub" / "checkpoints"


def test_local_torchvision_weights_by_their_names(tmp_path, bytes_named_as_promised):
    content, name = bytes_named_as_promised
    (tmp_path / "convnext_tiny.safetensors").write_bytes(b"of timm's")  # not taken: a bare name says not whose weights these are
    with pytest.raises(BadInput, match=rf"none of {TAG}\.safetensors, .*{TAG}\.pth, {name} is there; three ways out"):
        locate(TAG, True, str(tmp_path))
    for file in (name, f"{TAG}.pth", f"{TAG}.safetensors"):  # each goes before the one before it
        (tmp_path / file).write_bytes(content)
        source = locate(TAG, True, str(tmp_path))
        assert source.weights_path == tmp_path / file and source.weights_sha256 == hashlib.sha256(content).hexdigest()
    (tmp_path / name).write_bytes(content[:-1])
    with pytest.raises(BadInput, match="not as its name says: cut or changed"):
        locate(TAG, True, str(tmp_path / name))


def test_torchvision_weights_in_the_hubs_folder_are_taken_unasked(hub, bytes_named_as_promised):
    content, name = bytes_named_as_promised
    with pytest.raises(BadInput, match="not here yet; running fetches them"):
        locate(TAG, True, fetch=False)
    assert not hub.exists()
    hub.mkdir(parents=True)
    (hub / name).write_bytes(content)
    assert locate(TAG, True, fetch=False).weights_path == hub / name


class Handler(BaseHTTPRequestHandler):
    def __init__(self, content, *arguments):
        self.content = content
        super().__init__(*arguments)

    def do_GET(self):
        self.send_response(404 if self.content is None else 200)
        self.send_header("Content-Length", str(len(self.content or b"")))
        self.end_headers()
        self.wfile.write(self.content or b"")

    def log_message(self, *_):
        pass


@contextlib.contextmanager
def serving(content: bytes | None):
    """The address of a server that answers every question with these bytes, or with 404."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(Handler, content))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        server.server_close()


def test_torchvision_weights_are_fetched_once(hub, bytes_named_as_promised, monkeypatch):
    content, name = bytes_named_as_promised
    with serving(content) as address:
        monkeypatch.setattr(torchvision_weights, "url", lambda _: f"{address}/{name}")
        source = locate(TAG, True)
    assert source.weights_path == hub / name and (hub / name).read_bytes() == content
    assert locate(TAG, True) == source  # the server is gone


@pytest.mark.parametrize(
    "answer, words", [(b"other weights", "invalid hash value"), (b"", "invalid hash value"), (None, "404"), ("off", "refused")]
)
def test_torchvision_weights_that_do_not_come(hub, bytes_named_as_promised, monkeypatch, answer, words):
    _, name = bytes_named_as_promised
    with contextlib.nullcontext("http://127.0.0.1:9") if answer == "off" else serving(answer) as address:
        monkeypatch.setattr(torchvision_weights, "url", lambda _: f"{address}/{name}")
        ways_out = f"three ways out: go online.*--weights DIR with {TAG}.safetensors or {name} in it.*--weights none"
        with pytest.raises(BadInput, match=f"nor to be fetched from {address}.*{words}.*{ways_out}"):
            locate(TAG, True)
    assert [p.name for p in hub.iterdir()] == [f".{name}.lock"]


class Trap:
    def __reduce__(self):
        return (print, ("this ran",))


@pytest.mark.parametrize("content", ["pickle", "list", "cut"])
def test_pth_files_that_are_no_tensors_are_refused(tmp_path, capsys, content):
    path = tmp_path / f"{TAG}.pth"
    if content == "pickle":
        path.write_bytes(pickle.dumps(Trap(), protocol=2))
    else:
        torch.save([1, 2], path)
        path.write_bytes(path.read_bytes()[: 100 if content == "cut" else None])
    with pytest.raises(BadInput, match="cut, or not a file of tensors only|no state dict of tensors"):
        create_trunk(locate(TAG, True, str(path)))
    assert "this ran" not in capsys.readouterr().out


def test_weights_of_another_net_are_refused(tmp_path):
    save_file(timm.create_model("convnext_atto").state_dict(), tmp_path / f"{TAG}.safetensors")
    with pytest.raises(BadInput, match="other weights"):
        create_trunk(locate(TAG, True, str(tmp_path)))


# The table of tags


def test_every_tag_exists_and_saw_imagenet_1k_alone():
    timms = set(timm.list_pretrained())
    for row in WEIGHTS:
        name, _, tag = row.tag.partition(".")
        assert row.tag in timms or row.tag in torchvision_weights.ENUMERATIONS
        assert exact_tag(row.tag) == row.tag
        assert row.pretraining == IMAGENET_1K
        described = tag
        if row.tag in timms:
            config = timm.models.get_pretrained_cfg(row.tag)
            assert config.num_classes == 1000
            described += f" {config.hf_hub_id} {config.url} {config.description}"
        assert tag.endswith("in1k") and (tag.startswith("tv_") == (row.row == "as-published") or name.split("_")[0] != "convnext")
        assert not any(larger in described for larger in ("in12k", "in21k", "in22k", "laion", "clip", "wsl", "ssl", "jft", "22k", "21k"))


def test_the_table_says_what_bare_names_would_mix():
    for row in WEIGHTS:
        name, _, tag = row.tag.partition(".")
        assert timm.models.get_pretrained_cfg(name).tag == row.default
        larger = {"in12k": "ImageNet-12k", "in21k": "ImageNet-21k", "in22k": "ImageNet-22k"}
        for set_of_pictures, words in larger.items():
            if set_of_pictures in row.default and row.row == "main":
                assert row.note.startswith("bare:") and words in row.note
        assert ("the same weights" in row.note) == (tag == row.default)
    assert len({row.label for row in WEIGHTS}) == len({row.tag for row in WEIGHTS}) == len(WEIGHTS)


# normalise


def test_imagenets_normalisation_replaces_the_encoders_own(data):
    own, imagenet = (build_encoder(dataclasses.replace(RESNET, encoder="vit_tiny_patch16_224", normalise=n)) for n in ("own", "imagenet"))
    assert own.preprocessing.mean == (0.5, 0.5, 0.5)
    assert imagenet.preprocessing == dataclasses.replace(own.preprocessing, mean=(0.485, 0.456, 0.406), std=(0.229, 0.224, 0.225))
    white = imagenet.scale(torch.full((1, 1, 1, 3), 255, dtype=torch.uint8)).flatten()
    assert torch.allclose(white, torch.tensor([(1 - 0.485) / 0.229, (1 - 0.456) / 0.224, (1 - 0.406) / 0.225]))
    keys = {regions_key(e.source, e.preprocessing, 0, data.fingerprint, 0) for e in (own, imagenet)}
    assert len(keys) == 2


# final_norm


def test_final_norm_is_the_classifiers_norm_at_every_place(tmp_path):
    torch.manual_seed(0)
    state = timm.create_model("convnext_atto").state_dict()
    state["head.norm.weight"], state["head.norm.bias"] = torch.rand(320) + 0.5, torch.randn(320)
    save_file(state, tmp_path / "convnext_atto.safetensors")
    config = RunConfig(encoder="convnext_atto.d2_in1k", image_size=96, final_norm=True)
    encoder = build_encoder(config, weights=str(tmp_path))
    images = torch.randn(2, 3, 96, 96)
    with torch.no_grad():
        bare = encoder.trunk.forward_features(images)
        regions = encoder(images)
        pooled = build_encoder(dataclasses.replace(config, grid=2), weights=str(tmp_path))._map(images)
        for place in range(9):
            region = bare.flatten(2)[:, :, place]
            expected = F.layer_norm(region, (320,), state["head.norm.weight"], state["head.norm.bias"], 1e-6)
            assert torch.allclose(regions[:, place], expected, atol=5e-3)  # regions are rounded to fp16
        normed = F.layer_norm(bare.permute(0, 2, 3, 1), (320,), state["head.norm.weight"], state["head.norm.bias"], 1e-6).permute(
            0, 3, 1, 2
        )
    assert torch.allclose(pooled, F.adaptive_avg_pool2d(normed, 2), atol=1e-5)  # normed before pooling, not after
    del state["head.norm.bias"]
    save_file(state, tmp_path / "convnext_atto.safetensors")
    build_encoder(dataclasses.replace(config, final_norm=False), weights=str(tmp_path))  # there a file without its head serves
    with pytest.raises(BadInput, match="--final-norm: .*lacks head.norm.bias"):
        build_encoder(config, weights=str(tmp_path))


@pytest.mark.parametrize("name", ["resnet10t", "swin_tiny_patch4_window7_224", "vit_tiny_patch16_224"])
def test_encoders_without_a_norm_in_their_head_say_so(name):
    with pytest.raises(BadInput, match=f"--final-norm: {name}.* keeps no norm in its classifier head"):
        build_encoder(RunConfig(encoder=name, pretrained=False, final_norm=True))


def test_final_norm_learns_where_the_encoder_does():
    """Without the switch the head's norm is frozen, for nothing reaches it; with it, it can even learn alone."""
    learning = {}
    for final_norm in (False, True):
        encoder = build_encoder(dataclasses.replace(ATTO, tune_from=4, final_norm=final_norm)).train()
        encoder(torch.randn(2, 3, 64, 64)).square().sum().backward()
        learning[final_norm] = {n for n, p in encoder.trunk.named_parameters() if p.requires_grad}
        assert all(p.grad is not None for p in encoder.trunk.parameters() if p.requires_grad)
    assert learning[True] - learning[False] == {"head.norm.weight", "head.norm.bias"}
    alone = build_encoder(dataclasses.replace(ATTO, tune_from=5, final_norm=True))
    assert {n for n, p in alone.trunk.named_parameters() if p.requires_grad} == {"head.norm.weight", "head.norm.bias"}


def test_final_norm_is_part_of_the_regions_name(data, tmp_path):
    source, size = TrunkSource("a", "a.b", "timm", None, "abc"), Preprocessing(64, (0.5,) * 3, (0.5,) * 3)
    assert regions_key(source, size, 0, "data", 0, final_norm=True) != regions_key(source, size, 0, "data", 0)
    facts = ["a.b", "abc", "", size.to_dict(), 0, "data", NUMERICS, None]  # what files are named by that are already there
    assert regions_key(source, size, 0, "data", 0) == hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()[:24]
    found = []
    for final_norm in (True, False):
        config = dataclasses.replace(ATTO, final_norm=final_norm)
        found.append(open_inputs(data, build_encoder(config), config, tmp_path, workers=0).get(range(14)))
    assert not torch.equal(*found) and len(list(tmp_path.glob("regions-*.npy"))) == 2


# encoder_mode


def test_a_frozen_encoder_in_train_mode_drops_paths_only_while_training(monkeypatch):
    monkeypatch.setitem(trunks.STOCHASTIC_DEPTH, "convnext_atto", 0.5)
    torch.manual_seed(0)
    encoder = build_encoder(dataclasses.replace(ATTO, encoder_mode="train"))
    with torch.no_grad():
        for name, parameter in encoder.trunk.named_parameters():
            if name.endswith("gamma"):
                parameter.fill_(1.0)
    images = torch.randn(4, 3, 64, 64)
    assert not any(p.requires_grad for p in encoder.parameters()) and not encoder.drifts  # layer norms keep no statistics
    encoder.train()
    assert encoder.trunk.training and not torch.equal(encoder(images), encoder(images))
    encoder.eval()
    steady = encoder(images)
    assert torch.equal(encoder(images), steady) and not torch.equal(steady, steady.half().float())  # nothing is kept, so nothing is rounded
    ordinary = build_encoder(ATTO).train()
    assert torch.equal(ordinary(images), ordinary(images))


def test_batchnorm_drifts_in_train_mode_and_only_there(tmp_path):
    torch.manual_seed(0)
    save_file(timm.create_model("resnet10t").state_dict(), tmp_path / "resnet10t.safetensors")
    config = dataclasses.replace(RESNET, encoder="resnet10t.c3_in1k", pretrained=True)
    pictures = torch.randint(0, 255, (4, 64, 64, 3), dtype=torch.uint8)
    for mode in ("eval", "train"):
        model = build_model(dataclasses.replace(config, encoder_mode=mode), 30, weights=str(tmp_path))
        before = {n: t.clone() for n, t in model.encoder.state_dict().items()}
        model.train()
        model.encode(pictures)
        model.eval()
        model.encode(pictures)
        changed = {n.rpartition(".")[2] for n, t in model.encoder.state_dict().items() if not torch.equal(t, before[n])}
        assert changed == ({"running_mean", "running_var", "num_batches_tracked"} if mode == "train" else set())
        assert model.encoder.drifts == (mode == "train")
        assert not any(p.requires_grad for p in model.encoder.parameters())


def test_stochastic_depth_comes_with_train_mode_only():
    source = locate("convnext_tiny.fb_in1k", pretrained=False)
    for wanted, last in ((False, 0.0), (True, 0.1)):
        trunk, _ = create_trunk(source, 64, stochastic_depth=wanted)
        assert getattr(trunk.stages[-1].blocks[-1].drop_path, "drop_prob", 0.0) == pytest.approx(last)


@pytest.mark.parametrize(
    "changes, words",
    [
        ({"encoder_mode": "train"}, "train mode gives other regions at every step"),
        ({"augment": "crop"}, "every epoch sees other pictures"),
        ({"tune_from": 2}, "the encoder learns"),
    ],
)
def test_regions_are_kept_only_where_they_last(data, tmp_path, changes, words):
    config = dataclasses.replace(RESNET, **changes)
    encoder = build_encoder(config)
    assert words in why_not_kept(config, encoder) and not why_not_kept(RESNET, build_encoder(RESNET))
    assert isinstance(open_inputs(data, encoder, config, tmp_path, workers=0), Pixels)
    with pytest.raises(BadInput, match=f"regions can't be kept: .*{words}"):
        keep_regions(data, encoder, config, tmp_path, workers=0)
    assert isinstance(keep_regions(data, build_encoder(RESNET), RESNET, tmp_path, workers=0), KeptRegions)


def test_a_tuned_encoder_takes_part_in_train_mode():
    """There BatchNorm keeps its pretrained statistics in mode eval, and drifts in mode train."""
    trunk = timm.create_model("resnet10t")
    source = TrunkSource("resnet10t", "resnet10t.c3_in1k", "timm", None, "abc")
    for mode in ("eval", "train"):
        encoder = Encoder(trunk, Preprocessing(64, (0.5,) * 3, (0.5,) * 3), source, tune_from=0, mode=mode).train()
        norms = [m for m in trunk.modules() if isinstance(m, torch.nn.modules.batchnorm._BatchNorm)]
        assert encoder.trunk.training and all(m.training == (mode == "train") for m in norms)


@pytest.mark.parametrize(
    "tag, kind, weights, expected",
    [
        ("convnext_small.fb_in1k", "timm", "ab", "ImageNet-1k"),
        ("convnext_small.tv_in1k", "torchvision", "ab", "ImageNet-1k"),
        ("convnext_base.fb_in22k_ft_in1k", "timm", "ab", "ImageNet-22k, then ImageNet-1k"),
        ("vit_base_patch16_224.augreg2_in21k_ft_in1k", "timm", "ab", "ImageNet-21k, then ImageNet-1k"),
        ("vit_small_patch14_dinov2.lvd142m", "timm", "ab", "lvd142m"),
        ("resnext101_32x8d.fb_wsl_ig1b_ft_in1k", "timm", "ab", "fb_wsl_ig1b_ft_in1k"),
        ("vit_base_patch16_clip_224.openai_ft_in1k", "timm", "ab", "openai_ft_in1k"),
        ("tf_efficientnet_b0.ns_jft_in1k", "timm", "ab", "ns_jft_in1k"),
        ("resnet18.fb_ssl_yfcc100m_ft_in1k", "timm", "ab", "fb_ssl_yfcc100m_ft_in1k"),
        ("convnext_base.clip_laion2b_augreg_ft_in12k_in1k", "timm", "ab", "clip_laion2b_augreg_ft_in12k_in1k"),
        ("convnext_small.fb_in1k", "timm", "none", "none"),
        ("demo_convnext", "demo", "ab", "single drawn objects"),
        ("make", "file", "ab", "as the encoder's file says"),
    ],
)
def test_pretraining_is_said(tag, kind, weights, expected):
    assert pretraining(tag, kind, weights) == expected
