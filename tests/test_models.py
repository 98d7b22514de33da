"""models.py against a plain restatement of the published equations, stepping against all words at once, gradients for every encoder family."""

import dataclasses

import pytest
import torch
from torch.nn import functional as F

from captioning.bad_input import BadInput
from captioning.config import RunConfig
from captioning.decoder_state import State
from captioning.encoder import layer_groups
from captioning.vocabulary import END, PAD, START
from models import AttendDecoder, build_encoder, build_model

SMALL = RunConfig(embed_dim=12, attention_dim=10, hidden_dim=14, dropout=0.0)
FAMILIES = {
    "convnext_atto": (7, 7),
    "convnextv2_atto": (7, 7),
    "resnet18": (7, 7),
    "vgg11": (7, 7),
    "mobilenetv3_small_050": (7, 7),
    "vit_tiny_patch16_224": (14, 14),
    "deit_tiny_distilled_patch16_224": (14, 14),
    "swin_tiny_patch4_window7_224": (7, 7),
}


def captions(rows: int = 6, vocabulary: int = 30, longest: int = 9) -> tuple[torch.Tensor, torch.Tensor]:
    """Words (N,T+1) from the start token on, of unequal lengths, and those lengths."""
    generator = torch.Generator().manual_seed(1)
    lengths = torch.tensor([longest, 3, longest - 2, 1, 5, 5])[:rows]
    words = torch.randint(4, vocabulary, (rows, longest + 1), generator=generator)
    words[:, 0] = START
    for row, n in enumerate(lengths.tolist()):
        words[row, n] = END
        words[row, n + 1 :] = PAD
    return words, lengths


FORMS = {
    "paper": {},
    "tanh": {"activation": "tanh"},
    "scalar gate": {"gate": "scalar"},
    "deep output": {"output": "deep"},
    "show, attend and tell": {"activation": "tanh", "gate": "scalar", "output": "deep"},
    "none": {"attention": "none"},
    "none, deep": {"attention": "none", "output": "deep", "gate": "scalar"},
    "hard": {"attention": "hard"},
}


def restated(decoder: AttendDecoder, regions: torch.Tensor, words: list[int], form: dict | None = None):
    """The published decoder, one image, one caption, word by word: arXiv:1502.03044 eq. 1-13 as the paper's code has them, or another form."""
    form = form or {}
    p = dict(decoder.named_parameters())
    mean = regions.mean(0)
    h = p["start_hidden.weight"] @ mean + p["start_hidden.bias"]
    c = p["start_cell.weight"] @ mean + p["start_cell.bias"]
    logits, maps = [], []
    for word in words:
        scores = []
        for region in regions:
            if form.get("attention") == "none":
                scores.append(torch.zeros(()))
                continue
            key = p["attention.keys.weight"] @ region + p["attention.keys.bias"]
            query = p["attention.query.weight"] @ h + p["attention.query.bias"]
            lit = torch.tanh(key + query) if form.get("activation") == "tanh" else torch.clamp(key + query, min=0)
            scores.append((p["attention.score.weight"] @ lit).squeeze())
        alpha = torch.exp(torch.stack(scores))
        alpha = alpha / alpha.sum()
        context = sum(a * region for a, region in zip(alpha, regions, strict=True))
        context = torch.sigmoid(p["gate.weight"] @ h + p["gate.bias"]) * context
        x = torch.cat([p["embedding.weight"][word], context])
        gates = p["cell.weight_ih"] @ x + p["cell.bias_ih"] + p["cell.weight_hh"] @ h + p["cell.bias_hh"]
        i, f, g, o = gates.chunk(4)
        c = torch.sigmoid(f) * c + torch.sigmoid(i) * torch.tanh(g)
        h = torch.sigmoid(o) * torch.tanh(c)
        out = h
        if form.get("output") == "deep":
            out = p["embedding.weight"][word] + p["from_hidden.weight"] @ h + p["from_hidden.bias"] + p["from_context.weight"] @ context
        logits.append(p["project.weight"] @ out + p["project.bias"])
        maps.append(alpha)
    return torch.stack(logits), torch.stack(maps)


@pytest.fixture
def decoder() -> AttendDecoder:
    torch.manual_seed(0)
    return AttendDecoder(8, 30, SMALL).eval()


def decoder_of(form: str) -> AttendDecoder:
    torch.manual_seed(0)
    return AttendDecoder(8, 30, dataclasses.replace(SMALL, **FORMS[form])).eval()


@pytest.mark.parametrize("form", FORMS)
def test_decoder_is_the_published_one(form):
    """In every form; hard attention captions with the expected region, which is soft attention's."""
    decoder = decoder_of(form)
    regions = torch.randn(3, 5, 8)
    words, lengths = captions()
    inputs = words[:, :-1].masked_fill(torch.arange(9) >= lengths.unsqueeze(1), PAD)
    logits, attention = decoder(regions, inputs, attend=True)
    for row in range(6):
        n = int(lengths[row])
        expected, maps = restated(decoder, regions[row // 2], words[row, :n].tolist(), FORMS[form])
        assert torch.allclose(logits[row, :n], expected, atol=1e-5)
        assert torch.allclose(attention[row, :n], maps, atol=1e-5)
        assert not logits[row, n:].any() and not attention[row, n:].any()


@pytest.mark.parametrize("form", FORMS)
def test_stepping_equals_all_words_at_once(form):
    decoder = decoder_of(form)
    regions = torch.randn(3, 5, 8)
    words = torch.randint(4, 30, (6, 7))
    expected, maps = decoder(regions, words, attend=True)
    state = decoder.start(regions)
    state = State(state.memory, tuple(h.repeat_interleave(2, 0) for h in state.hidden))
    for t in range(7):
        logits, state, attention = decoder.step(words[:, t], state, attend=True)
        assert torch.allclose(logits, expected[:, t], atol=1e-5)
        assert torch.allclose(attention, maps[:, t], atol=1e-5)


def test_forced_penalty_and_order_by_hand(decoder):
    regions = torch.randn(2, 5, 8)
    words, lengths = captions(4)
    image_of = torch.tensor([1, 0, 1, 1])  # captions need not come image by image, nor equally many
    forced = decoder.forced(regions, words, lengths, image_of, attend=True)
    assert len(forced.logits) == int(lengths.sum())
    for row in range(4):
        n = int(lengths[row])
        expected, maps = restated(decoder, regions[image_of[row]], words[row, :n].tolist())
        mine = (forced.caption == row).nonzero().squeeze(1)
        assert forced.position[mine].tolist() == list(range(n))
        assert torch.allclose(forced.logits[mine], expected, atol=1e-5)
        assert torch.allclose(forced.penalty[row], ((1 - maps.sum(0)) ** 2).mean(), atol=1e-5)


def test_losses_are_sums_that_add_up_over_parts(decoder):
    config = RunConfig(encoder="resnet18", pretrained=False, image_size=64, embed_dim=12, attention_dim=10, hidden_dim=14, dropout=0.0)
    torch.manual_seed(0)
    model = build_model(config, 30, weights="none").eval()
    regions = torch.randn(3, 4, model.encoder.dim)
    words, lengths = captions()
    image_of = torch.tensor([0, 0, 1, 1, 2, 2])
    whole = model(regions, words, lengths, image_of)
    parts = [
        model(regions[i : i + 1], words[2 * i : 2 * i + 2], lengths[2 * i : 2 * i + 2], torch.zeros(2, dtype=torch.long)) for i in range(3)
    ]
    for field in whole._fields:
        assert torch.allclose(getattr(whole, field).float(), sum(getattr(p, field) for p in parts).float(), rtol=1e-5)
    targets = words[:, 1:]
    logits = model.decoder(regions, words[:, :-1].masked_fill(torch.arange(9) >= lengths.unsqueeze(1), PAD))
    expected = F.cross_entropy(logits.flatten(0, 1), targets.flatten(), reduction="sum", ignore_index=PAD)
    assert torch.allclose(whole.cross_entropy, expected, rtol=1e-5)
    scored = model.score_captions(regions, words, lengths, image_of)
    assert torch.allclose(scored.cross_entropy.sum().float(), whole.cross_entropy, rtol=1e-5)
    assert int(scored.top5.sum()) == int(whole.top5)
    real = targets != PAD
    assert torch.equal(scored.predicted[real], logits.argmax(-1)[real])


@pytest.mark.parametrize("form", FORMS)
def test_every_form_trains_all_its_parameters(form):
    torch.manual_seed(0)
    decoder = AttendDecoder(8, 30, dataclasses.replace(SMALL, expected_share=0.0, **FORMS[form]))
    words, lengths = captions()
    forced = decoder.forced(torch.randn(3, 5, 8), words, lengths)
    loss = forced.logits.logsumexp(-1).sum() + forced.penalty.sum()
    if form == "hard":
        loss = loss + forced.log_locations.sum() + forced.entropy.sum()
    loss.backward()
    without = [n for n, p in decoder.named_parameters() if p.grad is None or not p.grad.abs().sum() > 0]
    assert not without


@pytest.mark.parametrize("name", FAMILIES)
def test_every_family_gives_a_vector(name):
    """What timm's own classifier sees: `num_classes=0` gives just that."""
    torch.manual_seed(0)
    encoder = build_encoder(
        RunConfig(system="t5", features="vector", encoder=name, pretrained=False, width=8, heads=2), weights="none"
    ).eval()
    images = torch.randn(2, 3, 224, 224)
    with torch.no_grad():
        found, own = encoder(images), encoder.trunk(images)
    assert encoder.grid == [1, 1] and found.shape == (2, 1, encoder.dim)
    assert torch.allclose(found[:, 0], own.half().float(), atol=1e-5)


@pytest.mark.parametrize("name", FAMILIES)
def test_every_family_gives_regions_and_gradients(name):
    """Forward, grid and gradients from layer group 1 on; group 0 (the stem) stays as it is."""
    torch.manual_seed(0)
    encoder = build_encoder(RunConfig(encoder=name, pretrained=False, tune_from=1), weights="none").train()
    regions = encoder(torch.randn(2, 3, encoder.preprocessing.size, encoder.preprocessing.size))
    assert tuple(encoder.grid) == FAMILIES[name]
    assert regions.shape == (2, encoder.grid[0] * encoder.grid[1], encoder.dim)
    regions.square().sum().backward()
    groups = layer_groups(encoder.trunk)
    reached = {n for n, p in encoder.trunk.named_parameters() if p.grad is not None and p.grad.abs().sum() > 0}
    assert reached and all(groups[n] >= 1 for n in reached)
    assert {groups[n] for n in reached} >= set(range(1, max(groups[n] for n in reached) + 1))


def test_pooled_grid_is_the_mean_of_its_regions():
    torch.manual_seed(0)
    config = RunConfig(encoder="vit_tiny_patch16_224", pretrained=False)
    own = build_encoder(config, weights="none")
    torch.manual_seed(0)
    pooled = build_encoder(RunConfig(encoder="vit_tiny_patch16_224", pretrained=False, grid=7), weights="none")
    images = torch.randn(1, 3, 224, 224)
    with torch.no_grad():
        fine, coarse = own._map(images), pooled._map(images)
    assert list(pooled.grid) == [7, 7]
    assert torch.allclose(coarse[0, :, 2, 3], fine[0, :, 4:6, 6:8].mean((1, 2)), atol=1e-5)


def test_class_token_is_dropped_and_regions_keep_their_places():
    """Changing one patch of the picture changes that patch's region most, at its place row by row."""
    encoder = build_encoder(RunConfig(encoder="resnet18", pretrained=False), weights="none")
    images = torch.zeros(1, 3, 224, 224)
    changed = images.clone()
    changed[:, :, 96:128, 160:192] = 2.0  # cell (3, 5) of the 7x7 grid
    with torch.no_grad():
        difference = (encoder(changed) - encoder(images)).norm(dim=-1)[0]
    assert int(difference.argmax()) == 3 * 7 + 5


def test_frozen_encoder_stays_in_eval_mode_and_rounds_as_the_cache_does():
    encoder = build_encoder(RunConfig(encoder="resnet18", pretrained=False, image_size=64), weights="none").train()
    assert not any(m.training for m in encoder.modules())
    assert not any(p.requires_grad for p in encoder.parameters())
    regions = encoder(torch.randn(1, 3, 64, 64))
    assert torch.equal(regions, regions.half().float())


@pytest.mark.parametrize(
    "config, words",
    [
        (RunConfig(encoder="convnext_smol"), "nearest: convnext_small"),
        (RunConfig(encoder="convnext_small.nonsense"), "no weights tagged"),
        (RunConfig(encoder="nowhere.py:make"), "no file nowhere.py"),
        (RunConfig(encoder="demo_unknown"), "no demo encoder"),
        (RunConfig(encoder="resnet18", pretrained=False, tune_from=99), "layer groups"),
        (RunConfig(encoder="resnet18", pretrained=False, image_size=32), "no spatial map"),
        (RunConfig(encoder="convnext_atto", pretrained=False, image_size=1), "cannot map pictures of 1 pixels"),
        (RunConfig(encoder="crossvit_tiny_240", pretrained=False), "no spatial map"),
        (RunConfig(encoder="convnext_atto", pretrained=False, tune_from=5), "choose a smaller number"),
    ],
)
def test_encoders_that_cannot_be_used(config, words):
    with pytest.raises(BadInput, match=words):
        build_encoder(config)


def test_weights_offline_name_three_ways_out(monkeypatch, tmp_path):
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path))
    monkeypatch.setattr("captioning.trunks.look_up", lambda _: (_ for _ in ()).throw(OSError("offline")))
    monkeypatch.setattr("huggingface_hub.try_to_load_from_cache", lambda *_: None)
    with pytest.raises(BadInput, match="three ways out: go online.*--weights DIR.*--weights none"):
        build_encoder(RunConfig(encoder="resnet18.a1_in1k"))
    with pytest.raises(BadInput, match="three ways out.*put one there"):
        build_encoder(RunConfig(encoder="resnet18.a1_in1k"), weights=str(tmp_path))


def test_local_weights_without_classifier_load_and_misfits_are_refused(tmp_path):
    import timm
    from safetensors.torch import save_file

    torch.manual_seed(3)
    state = {n: t.clone() for n, t in timm.create_model("resnet18").state_dict().items() if not n.startswith("fc.")}
    save_file(state, tmp_path / "resnet18.safetensors")
    encoder = build_encoder(RunConfig(encoder="resnet18.a1_in1k"), weights=str(tmp_path))
    assert torch.equal(encoder.trunk.conv1.weight, state["conv1.weight"])
    with pytest.raises(BadInput, match="other weights"):
        build_encoder(RunConfig(encoder="resnet34.a1_in1k"), weights=str(tmp_path / "resnet18.safetensors"))
    (tmp_path / "resnet18.safetensors").write_bytes(b"not safetensors at all")
    with pytest.raises(BadInput, match="not a whole safetensors file"):
        build_encoder(RunConfig(encoder="resnet18.a1_in1k"), weights=str(tmp_path))


def test_a_users_encoder_file(tmp_path):
    good = tmp_path / "mine.py"
    good.write_text(
        "import torch\n"
        "class Net(torch.nn.Module):\n"
        "    preprocessing = dict(size=32, mean=(0, 0, 0), std=(1, 1, 1))\n"
        "    def __init__(self):\n"
        "        super().__init__()\n"
        "        self.conv = torch.nn.Conv2d(3, 6, 8, 8)\n"
        "    def forward_features(self, x):\n"
        "        return self.conv(x)\n"
        "def make():\n    return Net()\n"
        "def bare():\n    return torch.nn.Linear(2, 2)\n"
    )
    encoder = build_encoder(RunConfig(encoder=f"{good}:make", tune_from=0))
    assert (list(encoder.grid), encoder.dim, encoder.preprocessing.size) == ([4, 4], 6, 32)
    assert all(p.requires_grad for p in encoder.parameters())
    with pytest.raises(BadInput, match="has no 'absent'"):
        build_encoder(RunConfig(encoder=f"{good}:absent"))
    with pytest.raises(BadInput, match="no forward_features"):
        build_encoder(RunConfig(encoder=f"{good}:bare"))
    (tmp_path / "broken.py").write_text("raise RuntimeError('boom')\n")
    with pytest.raises(BadInput, match="RuntimeError: boom"):
        build_encoder(RunConfig(encoder=f"{tmp_path}/broken.py:make"))


@pytest.mark.parametrize("form", FORMS)
def test_bf16_training_step(form):
    """Under autocast forward and backward run, and the gradients stay near those in float32."""
    decoder = decoder_of(form).train()
    regions = torch.randn(3, 5, 8)
    words, lengths = captions()
    found = []
    for enabled in (False, True):
        decoder.zero_grad()
        torch.manual_seed(7)  # the same locations
        with torch.autocast("cpu", dtype=torch.bfloat16, enabled=enabled):
            forced = decoder.forced(regions, words, lengths)
            loss = F.cross_entropy(forced.logits.float(), words[forced.caption, forced.position + 1]) + forced.penalty.mean()
            if form == "hard":
                loss = loss + 0.1 * forced.log_locations.mean() + 0.1 * forced.entropy.mean()
        loss.backward()
        found.append(torch.cat([p.grad.flatten() for p in decoder.parameters()]))
    assert torch.nn.functional.cosine_similarity(found[0], found[1], dim=0) > 0.99


def test_gradients_do_not_depend_on_threads_order(decoder):
    """Several captions of an image add to its keys' gradient: with many threads, large tensors, always to the same bits."""
    before = torch.get_num_threads()
    torch.set_num_threads(4)
    try:
        torch.manual_seed(0)
        wide = AttendDecoder(64, 30, RunConfig(embed_dim=12, attention_dim=256, hidden_dim=14, dropout=0.0))
        regions = torch.randn(8, 49, 64)
        words = torch.randint(4, 30, (40, 8))
        lengths = torch.arange(40) % 7 + 1
        found = []
        for _ in range(5):
            wide.zero_grad()
            forced = wide.forced(regions, words, lengths)
            (forced.logits.square().mean() + forced.penalty.mean()).backward()
            found.append(torch.cat([p.grad.flatten() for p in wide.parameters()]))
        assert all(torch.equal(found[0], other) for other in found[1:])
    finally:
        torch.set_num_threads(before)


def test_pretrained_vit_at_another_size_resamples_its_positions(tmp_path):
    import timm
    from safetensors.torch import save_file

    save_file(timm.create_model("vit_tiny_patch16_224").state_dict(), tmp_path / "vit_tiny_patch16_224.safetensors")
    config = RunConfig(encoder="vit_tiny_patch16_224.augreg_in21k_ft_in1k", image_size=320)
    assert list(build_encoder(config, weights=str(tmp_path)).grid) == [20, 20]
