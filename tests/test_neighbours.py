"""The four neighbours as people use them: learnt by heart, saved and loaded, captioned with maps, batches of theirs, gradients as maps."""

import dataclasses
import json

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from captioning import Captioner, load_captioner
from captioning.bad_input import BadInput
from captioning.batches import CaptionIds, epoch_batches
from captioning.checkpoint import save_checkpoint
from captioning.config import Decode, RunConfig
from captioning.language_models import locate_language
from captioning.own_words import mix_own_words
from captioning.presets import preset
from captioning.saliency import gradient_maps
from captioning.systems import SYSTEMS, system_config
from captioning.vocabulary import START, Vocabulary
from models import DECODERS
from tests.tiny import SETTINGS, make_data
from tests.tiny_tokenizers import make_gpt2
from train import Training, Where

SMALL = {"layers": 2, "heads": 2, "width": 48, "dropout": 0.0, "penalty_weight": 0.0}
CASES = {
    "t5": {"features": "vector"},
    "t5, regions": {"system": "t5"},
    "prefix": {"features": "vector"},
    "sep": {},
    "sep, subwords": {"system": "sep", "tokenizer": "tokens"},
    "transformer": {"max_words": 40},
}


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    return make_data(tmp_path_factory.mktemp("data"))


def trained(case, data, folder, epochs):
    changes = {"system": case} | SMALL | CASES[case]
    if "tokenizer" in changes:
        make_gpt2(folder / "tokens", size=300)
        changes |= {"tokenizer": str(folder / "tokens"), "max_words": 40}
    settings = {"encoder": "demo_resnet", "pretrained": True, "decoder_lr": 2e-3, "batch_size": 18, "schedule": "constant"}
    config = RunConfig(**{**SETTINGS, **settings, **changes})
    where = Where(data=str(data), out=str(folder / "run"), cache=str(data / "cache"), device="cpu", workers=0, threads=1)
    training = Training(config, where)
    training.model.train()
    for epoch in range(epochs):
        for chosen in epoch_batches(training.captions, config, epoch):
            training._learn(chosen, batches=1)
    return training


@pytest.mark.parametrize("case", CASES)
def test_eight_images_by_heart_then_saved_loaded_and_shown(case, data, tmp_path):
    """After the training each image gets one of its own captions, ended by itself; a loaded checkpoint says the same, with a map a word."""
    one_vector = CASES[case].get("features") == "vector"
    training = trained(case, data, tmp_path, epochs=260 if one_vector else 100)
    images = json.loads((data / "dataset_tiny.json").read_text())["images"][:8]
    files = [data / "images" / image["filename"] for image in images]
    decode, description = Decode(beam=3, max_words=40), {"config": dataclasses.asdict(training.config)}
    ours = Captioner(training.model, training.vocabulary, description, torch.device("cpu")).caption(files, decode)
    for caption, image in zip(ours, images, strict=True):
        assert caption.text in [" ".join(s["tokens"]) if training.vocabulary.has_words else s["raw"] for s in image["sentences"]]

    folder = tmp_path / "saved"
    folder.mkdir()
    facts = {"run_id": training.run_id, "data": {"name": "tiny", "fingerprint": "f"}, "epoch": 1, "scores": {}}
    save_checkpoint(folder, training.model, training.config, training.vocabulary, facts)
    loaded = load_captioner(folder, "cpu")
    again = loaded.caption(files, decode, attend=True)
    assert [c.text for c in again] == [c.text for c in ours]
    for caption in again:
        assert len(caption.attention) == len(caption.words) and np.allclose(caption.attention.sum((1, 2)), 1, atol=1e-4)
        assert " ".join(caption.words).replace(" .", ".") == caption.text
    assert loaded.map_kind == ("gradient" if one_vector else "attention")


@pytest.mark.parametrize("case", ["t5", "prefix", "sep", "transformer"])
def test_a_step_in_bf16_with_own_words_goes_where_float32_goes(case):
    """Half of the fed words are the model's own; every gradient is finite, and together they point where those in float32 do."""
    config = RunConfig(system=case, own_words="sample", **SMALL | CASES[case])
    torch.manual_seed(0)
    decoder = DECODERS[case](6, 4, 30, config, locate_language(config)).train()
    regions = torch.randn(3, 1 if config.features == "vector" else 4, 6)
    words, lengths, image_of = torch.randint(4, 30, (5, 8)), torch.tensor([7, 3, 6, 2, 4]), torch.tensor([0, 0, 1, 2, 2])
    words[:, 0] = START
    found = []
    for enabled in (False, True):
        decoder.zero_grad()
        torch.manual_seed(7)
        with torch.autocast("cpu", dtype=torch.bfloat16, enabled=enabled):
            fed = mix_own_words(decoder, regions, words, lengths, image_of, 0.5, config.own_words)
            if not enabled:
                reference = fed  # a sampled word near two others may fall otherwise after rounding
            forced = decoder.forced(regions, reference, lengths, image_of)
            loss = F.cross_entropy(forced.logits.float(), words[forced.caption, forced.position + 1])
        assert fed.shape == words.shape and (fed != words).any()
        loss.backward()
        found.append(torch.cat([p.grad.flatten() for p in decoder.parameters()]))
    assert all(gradients.isfinite().all() for gradients in found)
    assert F.cosine_similarity(*found, dim=0) > 0.99


def test_gradient_times_input_by_hand(data, tmp_path):
    """One word's map from a plain backward pass; parameters keep their (absent) gradients and whether they learn."""
    training = trained("prefix", data, tmp_path, epochs=1)
    model = training.model.eval()
    pixels = torch.randint(0, 255, (2, 64, 64, 3), dtype=torch.uint8)
    ids = training.vocabulary.encode("a red square on the left")
    for parameter in model.parameters():
        parameter.grad = None
    learning = [p.requires_grad for p in model.parameters()]
    maps = gradient_maps(model, pixels, [(1, ids, [0, 3]), (0, ids, [2])], grid=4)
    assert [m.shape for m in maps] == [(2, 4, 4), (1, 4, 4)]
    assert [p.requires_grad for p in model.parameters()] == learning and all(p.grad is None for p in model.parameters())

    image = model.encoder.scale(pixels[1:]).requires_grad_()
    logits = model.decoder(model.encoder.regions(image), torch.tensor([[1, *ids]]))  # (1, T, V)
    logits[0, 3].log_softmax(-1)[ids[3]].backward()
    expected = (image.grad * image).sum(1).abs()[0].detach().view(4, 16, 4, 16).mean((1, 3))
    assert np.allclose(maps[0][1], (expected / expected.sum()).numpy(), atol=1e-6)


def test_an_epoch_of_one_caption_an_image_sees_each_image_once():
    texts = [[f"w{i} w{k}" for k in range(n)] for i, n in enumerate([3, 1, 5, 2])]
    captions = CaptionIds(texts, range(4), Vocabulary.build((t for own in texts for t in own), 1), 10)
    config = RunConfig(batching="one", batch_size=3)
    seen = [np.concatenate(epoch_batches(captions, config, epoch)) for epoch in range(40)]
    assert all(sorted(captions.image[rows]) == [0, 1, 2, 3] for rows in seen)
    assert {row for rows in seen for row in rows} == set(range(11))  # every caption has its turn
    assert any((a != b).any() for a, b in zip(seen, seen[1:], strict=False))


def test_full_scale_sizes_are_those_of_the_documents():
    t5, prefix, sep = (system_config(name) for name in ("t5", "prefix", "sep"))
    assert (t5.language_model, t5.features, t5.encoder.split(".")[0]) == ("google-t5/t5-base", "vector", "convnextv2_base")
    assert (prefix.embed_dim, prefix.prefix_length, prefix.refiner_layers, prefix.language_model) == (512, 5, 2, "openai-community/gpt2")
    assert (sep.layers, sep.language_model, sep.separator, sep.mask, sep.batching) == (6, "distilbert/distilgpt2", True, "image", "one")
    assert all(system_config(name).system == name for name in SYSTEMS)
    assert (prefix.projection_dim, prefix.batch_size, prefix.decoder_lr, prefix.epochs) == (1024, 96, 1e-4, 3)


def test_the_prefix_system_as_its_published_code_trains_it():
    """train.py, src/model.py and src/generate_caption.py of vinay-852/Image_Captioning."""
    config = preset("as-published", "prefix")
    assert (config.batching, config.batch_size, config.decoder_lr, config.epochs) == ("captions", 96, 1e-4, 3)
    assert (config.schedule, config.warmup_steps, config.clip_norm, config.clip_value) == ("constant", 0, 0.0, 0.0)
    assert (config.train_on, config.padding, config.max_words, config.normalise) == ("all", "end", 50, "imagenet")
    assert (config.embed_dim, config.projection_dim, config.prefix_length, config.refiner_layers) == (512, 1024, 5, 2)
    assert (config.sampled, config.beams, config.frozen, config.dropout) == (True, (1,), True, 0.1)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"system": "prefix"}, "--features vector"),
        ({"system": "sep", "width": 50, "heads": 8}, "not divisible"),
        ({"sampled": True}, "--beams is 1"),
        ({"prefix_length": 0}, "at least 1"),
    ],
)
def test_settings_that_do_not_fit_are_refused(changes, message):
    with pytest.raises(BadInput, match=message):
        RunConfig(**changes)


def test_a_preset_of_a_system_without_any_is_refused():
    with pytest.raises(BadInput, match="--system sep has none"):
        preset("as-published", "sep")
