"""Pretrained language models from a Hugging Face folder: the same logits as transformers' own, bad folders, what a checkpoint and a run id keep."""

import dataclasses
import json

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import GPT2Config, GPT2LMHeadModel, T5Config, T5ForConditionalGeneration
from transformers.modeling_outputs import BaseModelOutput

from captioning.bad_input import BadInput
from captioning.config import run_id
from captioning.language_models import Language, locate_language, without_weights
from captioning.systems import SYSTEMS, system_config
from captioning.vocabulary import END, PAD, START
from models import DECODERS
from tests.tiny_tokenizers import make_gpt2, make_t5

D, R = 10, 6


def gpt2_folder(folder, size=400, **changes):
    """A tiny random GPT-2 with a head as transformers writes it, and its tokenizer."""
    make_gpt2(folder, size)
    rows = len(json.loads((folder / "vocab.json").read_text(encoding="utf-8")))
    torch.manual_seed(3)
    config = GPT2Config(vocab_size=rows, n_embd=16, n_layer=2, n_head=2, n_positions=64, **changes)
    model = GPT2LMHeadModel(config)
    model.save_pretrained(folder)
    return model.double().eval()


def t5_folder(folder, **changes):
    make_t5(folder)
    torch.manual_seed(3)
    settings = {"vocab_size": 100, "d_model": 16, "d_kv": 6, "d_ff": 20, "num_layers": 1, "num_decoder_layers": 3, "num_heads": 2}
    model = T5ForConditionalGeneration(T5Config(**settings | changes, decoder_start_token_id=0))
    model.save_pretrained(folder)
    return model.double().eval()


def configured(system, folder, **changes):
    return dataclasses.replace(system_config(system), language_model=str(folder), embed_dim=8, projection_dim=12, max_words=20, **changes)


def built(system, folder, **changes):
    config = configured(system, folder, **changes)
    language = locate_language(config)
    vocabulary = language.vocabulary()
    torch.manual_seed(0)
    return DECODERS[system](D, R, len(vocabulary), config, language).double().eval(), vocabulary, config, language


@pytest.mark.parametrize("system", ["prefix", "sep"])
def test_gpt2_of_a_folder_gives_its_own_logits(system, tmp_path):
    theirs = gpt2_folder(tmp_path / "gpt2")
    decoder, vocabulary, config, _ = built(system, tmp_path / "gpt2", **({"mask": "causal"} if system == "sep" else {}))
    regions = torch.randn(2, 1 if system == "prefix" else R, D, dtype=torch.float64)
    ids = vocabulary.encode("the dog runs")
    words = torch.tensor([[START, *ids]] * 2)
    ours = decoder(regions, words)  # (2, T, V)
    tokens = decoder.tokens_of_image(regions)
    tokens = tokens - decoder.model.wpe.weight[: tokens.shape[1]]
    own = torch.tensor([vocabulary.lm_ids[i] for i in ids])
    embedded = torch.cat([tokens, theirs.transformer.wte(own).expand(2, -1, -1)], 1)
    expected = theirs(inputs_embeds=embedded).logits[:, tokens.shape[1] - 1 :]
    has = torch.tensor([i >= 0 for i in vocabulary.lm_ids])
    assert torch.allclose(ours[..., has], expected[..., [i for i in vocabulary.lm_ids if i >= 0]], atol=1e-6)
    assert torch.isinf(ours[..., ~has]).all() and (~has).sum() == 3
    # The softmax runs over their tokens and no more.
    assert torch.allclose(ours.log_softmax(-1)[..., END], expected.log_softmax(-1)[..., vocabulary.lm_ids[END]], atol=1e-6)


@pytest.mark.parametrize("changes", [{}, {"tie_word_embeddings": False, "feed_forward_proj": "gated-gelu"}], ids=["t5", "gated, unscaled"])
def test_t5_of_a_folder_gives_its_own_logits(changes, tmp_path):
    theirs = t5_folder(tmp_path / "t5", **changes)
    decoder, vocabulary, config, _ = built("t5", tmp_path / "t5", features="regions")
    regions = torch.randn(2, R, D, dtype=torch.float64)
    ids = vocabulary.encode("the dog jumps")
    ours = decoder(regions, torch.tensor([[START, *ids]] * 2))
    fed = torch.tensor([[vocabulary.lm_ids[i] for i in (START, *ids)]] * 2)
    tokens = decoder.tokens_of_image(regions)
    expected = theirs(encoder_outputs=BaseModelOutput(tokens), decoder_input_ids=fed).logits
    has = [i for i, theirs in enumerate(vocabulary.lm_ids) if theirs >= 0]
    assert torch.allclose(ours[..., has], expected[..., [vocabulary.lm_ids[i] for i in has]], atol=1e-6)
    assert PAD not in has and {START, END} <= set(has)


def test_t5_with_an_output_matrix_of_its_own(tmp_path):
    """T5 1.1: its file holds lm_head.weight beside shared.weight."""
    t5_folder(tmp_path / "t5", tie_word_embeddings=False)
    tensors = load_file(tmp_path / "t5" / "model.safetensors")
    tensors["lm_head.weight"] = torch.randn_like(tensors["shared.weight"])
    save_file(tensors, tmp_path / "t5" / "model.safetensors", {"format": "pt"})
    decoder, vocabulary, config, _ = built("t5", tmp_path / "t5", features="regions")
    regions, words = torch.randn(1, R, D, dtype=torch.float64), torch.tensor([[START, 7, 9]])
    ours = decoder(regions, words)
    own = torch.tensor([[max(i, 0) for i in vocabulary.lm_ids]])[0]
    hidden = decoder.unembed.weight.double()
    assert torch.equal(hidden[7], tensors["lm_head.weight"][own[7]].double()) and decoder.output_scale == 1.0
    again = DECODERS["t5"](D, R, len(vocabulary), config, Language.from_dict(decoder.language_config)).double().eval()
    again.load_state_dict(decoder.state_dict())
    assert torch.equal(again(regions, words), ours)


def test_gpt2_with_an_output_matrix_of_its_own_is_refused(tmp_path):
    """Its logits would not be the file's."""
    gpt2_folder(tmp_path / "gpt2")
    tensors = load_file(tmp_path / "gpt2" / "model.safetensors")
    tensors["lm_head.weight"] = torch.randn_like(tensors["transformer.wte.weight"])
    save_file(tensors, tmp_path / "gpt2" / "model.safetensors", {"format": "pt"})
    with pytest.raises(BadInput, match="output matrix is not its embedding's"):
        built("prefix", tmp_path / "gpt2")


def test_the_order_of_asking_changes_nothing(tmp_path):
    """What a language model lacks is known without asking for its vocabulary first."""
    gpt2_folder(tmp_path / "gpt2")
    config = configured("sep", tmp_path / "gpt2")
    size = len(locate_language(config).vocabulary())
    decoder = DECODERS["sep"](D, R, size, config, locate_language(config))
    assert torch.isinf(decoder.never).sum() == 3
    assert decoder.language_config["absent"] == [0, 1, 3]


def test_a_folder_is_found_where_weights_are_looked_for(tmp_path):
    gpt2_folder(tmp_path / "distilgpt2")
    config = dataclasses.replace(system_config("sep"))
    assert locate_language(config, str(tmp_path)).weights_folder == tmp_path / "distilgpt2"
    with pytest.raises(BadInput, match="no folder gpt2 with a language model"):
        locate_language(system_config("prefix"), str(tmp_path))
    assert locate_language(system_config("attend")) is None and locate_language(system_config("transformer")) is None


def test_another_architecture_is_refused(tmp_path):
    t5_folder(tmp_path / "t5")
    gpt2_folder(tmp_path / "gpt2")
    with pytest.raises(BadInput, match="type t5, --system prefix wants gpt2"):
        locate_language(configured("prefix", tmp_path / "t5"))
    with pytest.raises(BadInput, match="type gpt2, --system t5 wants t5"):
        locate_language(configured("t5", tmp_path / "gpt2"))


def test_a_tokenizer_that_does_not_fit_is_refused(tmp_path):
    gpt2_folder(tmp_path / "gpt2")
    make_gpt2(tmp_path / "larger")
    make_gpt2(tmp_path / "gpt2", size=300)  # fewer tokens than the weights have rows: those rows are left out
    gpt2_folder(tmp_path / "small", size=300)
    config = dataclasses.replace(configured("prefix", tmp_path / "small"), tokenizer=str(tmp_path / "larger"))
    assert len(locate_language(configured("prefix", tmp_path / "gpt2")).vocabulary()) == 303
    with pytest.raises(BadInput, match=r"larger: the tokenizer has the token \d+, the weights of small only \d+ rows"):
        locate_language(config).vocabulary()
    make_t5(tmp_path / "t5")
    with pytest.raises(BadInput, match="T5's sentencepiece, the language model reads GPT-2's byte pairs"):
        locate_language(dataclasses.replace(config, tokenizer=str(tmp_path / "t5"))).vocabulary()


def test_damaged_folders_are_refused_with_the_reason(tmp_path):
    folder = tmp_path / "gpt2"
    gpt2_folder(folder)
    weights = folder / "model.safetensors"
    whole = weights.read_bytes()
    weights.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(BadInput, match="not a whole safetensors file"):
        built("prefix", folder)
    weights.rename(folder / "pytorch_model.bin")
    with pytest.raises(BadInput, match="pickled weights are never loaded"):
        locate_language(configured("prefix", folder))
    weights.write_bytes(whole)
    stated = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    (folder / "config.json").write_text(json.dumps(stated | {"n_embd": 32}), encoding="utf-8")
    with pytest.raises(BadInput, match="its config.json asks for"):
        built("prefix", folder)
    (folder / "config.json").write_text(json.dumps(stated | {"scale_attn_by_inverse_layer_idx": True}), encoding="utf-8")
    with pytest.raises(BadInput, match="scale_attn_by_inverse_layer_idx is not supported"):
        locate_language(configured("prefix", folder))
    (folder / "config.json").write_text("{", encoding="utf-8")
    with pytest.raises(BadInput, match=r"config\.json is missing or damaged"):
        locate_language(configured("prefix", folder))


def test_offline_says_the_three_ways_out(monkeypatch, tmp_path):
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path))
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    monkeypatch.setattr("captioning.trunks.look_up", lambda _: (_ for _ in ()).throw(OSError("offline")))
    with pytest.raises(BadInput, match="--language-model DIR with its files, or --weights none"):
        locate_language(system_config("prefix"))
    with pytest.raises(BadInput, match="not here yet"):
        locate_language(system_config("t5"), fetch=False)


def test_what_a_checkpoint_keeps_builds_the_same_model_without_the_folder(tmp_path):
    gpt2_folder(tmp_path / "gpt2")
    decoder, vocabulary, config, language = built("prefix", tmp_path / "gpt2")
    kept = json.loads(json.dumps(decoder.language_config))
    assert kept["name"] == "gpt2" and str(tmp_path) not in json.dumps(kept)
    again = DECODERS["prefix"](D, R, len(vocabulary), config, Language.from_dict(kept)).double().eval()
    again.load_state_dict(decoder.state_dict())
    regions, words = torch.randn(2, 1, D, dtype=torch.float64), torch.tensor([[START, 7, 9]] * 2)
    assert torch.equal(again(regions, words), decoder(regions, words))
    with pytest.raises(BadInput, match="language model is not described"):
        Language.from_dict({"architecture": "gpt2"})


def test_run_ids_go_by_what_the_files_hold_and_not_where_they_lie(tmp_path):
    for place in ("a", "b"):
        gpt2_folder(tmp_path / place / "gpt2")
    ids = set()
    for place in ("a", "b"):
        config = configured("sep", tmp_path / place / "gpt2")
        ids.add(run_id(config, data="d", weights="w", language=locate_language(config).identity))
    assert len(ids) == 1
    changed = gpt2_folder(tmp_path / "b" / "gpt2", layer_norm_epsilon=1e-4).float()
    changed.transformer.wpe.weight.data[0, 0] += 1
    changed.save_pretrained(tmp_path / "b" / "gpt2")
    config = configured("sep", tmp_path / "b" / "gpt2")
    ids.add(run_id(config, data="d", weights="w", language=locate_language(config).identity))
    assert len(ids) == 2


def test_weights_none_makes_random_models_of_the_stated_size():
    for system in SYSTEMS:
        config = without_weights(system_config(system))
        assert not config.pretrained and not config.language_model
        language = locate_language(config)
        if system == "prefix":
            assert language.settings["n_layer"] == 12 and language.settings["n_embd"] == 768 and language.vocabulary() is None
        if system == "sep":
            assert language.settings["n_layer"] == 6
        assert language is None or language.identity == {}


def test_a_random_model_may_read_with_a_tokenizer(tmp_path):
    make_gpt2(tmp_path / "tokens")
    config = dataclasses.replace(without_weights(system_config("sep")), tokenizer=str(tmp_path / "tokens"), width=16, layers=1, heads=2)
    language = locate_language(config)
    vocabulary = language.vocabulary()
    decoder = DECODERS["sep"](D, R, len(vocabulary), config, language)
    assert torch.isfinite(decoder(torch.randn(1, R, D), torch.tensor([[START, 5]]))).all()
    assert language.identity == {"tokenizer": vocabulary.sha256}
