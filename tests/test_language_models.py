"""Pretrained language models from a Hugging Face folder: the same logits as transformers' own, bad folders, what a checkpoint and a run id keep."""

import dataclasses
import json
import shutil

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import GPT2Config, GPT2LMHeadModel, T5Config, T5ForConditionalGeneration
from transformers.activations import ACT2FN
from transformers.modeling_outputs import BaseModelOutput

from captioning.bad_input import BadInput
from captioning.config import run_id
from captioning.language_models import Language, locate_language, without_weights
from captioning.language_settings import ACTIVATIONS, SETTINGS
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


def restate(folder, remove=(), **changes):
    """Change its config.json."""
    path = folder / "config.json"
    stated = json.loads(path.read_text(encoding="utf-8")) | changes
    path.write_text(json.dumps({name: value for name, value in stated.items() if name not in remove}), encoding="utf-8")


def retensor(folder, change):
    """Change its weights: a function of name -> tensor."""
    save_file(change(load_file(folder / "model.safetensors")), folder / "model.safetensors", {"format": "pt"})


def id_of(system, folder, **changes):
    config = configured(system, folder, **changes)
    return run_id(config, data="d", weights="w", language=locate_language(config).identity)


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
    with pytest.raises(BadInput, match="it is no gpt2, nor has it a folder gpt2 with one"):
        locate_language(system_config("prefix"), str(tmp_path))
    assert locate_language(system_config("attend")) is None and locate_language(system_config("transformer")) is None


def test_another_architecture_is_refused(tmp_path):
    t5_folder(tmp_path / "t5")
    gpt2_folder(tmp_path / "gpt2")
    with pytest.raises(BadInput, match="type t5, --system prefix wants gpt2"):
        locate_language(configured("prefix", tmp_path / "t5"))
    with pytest.raises(BadInput, match="type gpt2, --system t5 wants t5"):
        locate_language(configured("t5", tmp_path / "gpt2"))


def test_the_folder_itself_may_be_named_where_weights_are_looked_for(tmp_path):
    """--weights DIR where DIR is what save_pretrained wrote; one of another architecture is not taken."""
    gpt2_folder(tmp_path / "mine")
    language = locate_language(system_config("prefix"), str(tmp_path / "mine"))
    assert (language.weights_folder, language.name) == (tmp_path / "mine", "mine")
    with pytest.raises(BadInput, match=r"--weights \S+mine: it is no t5, nor has it a folder t5-base with one"):
        locate_language(system_config("t5"), str(tmp_path / "mine"))
    (tmp_path / "config.json").write_text('{"architecture": "vit_base_patch16_224"}', encoding="utf-8")  # as timm writes it
    with pytest.raises(BadInput, match="it is no gpt2"):
        locate_language(system_config("prefix"), str(tmp_path))


def test_a_tokenizer_that_does_not_fit_is_refused(tmp_path):
    gpt2_folder(tmp_path / "gpt2")
    make_gpt2(tmp_path / "larger")
    gpt2_folder(tmp_path / "small", size=300)
    config = dataclasses.replace(configured("prefix", tmp_path / "small"), tokenizer=str(tmp_path / "larger"))
    with pytest.raises(BadInput, match=r"larger: the tokenizer has the token \d+, the weights of small only \d+ rows"):
        locate_language(config).vocabulary()
    make_t5(tmp_path / "t5")
    with pytest.raises(BadInput, match="T5's sentencepiece, the language model reads GPT-2's byte pairs"):
        locate_language(dataclasses.replace(config, tokenizer=str(tmp_path / "t5"))).vocabulary()


def test_fewer_tokens_than_rows_fit_where_each_has_its_own(tmp_path):
    """As T5's 32,100 on 32,128 rows. The 300-token byte pairs are the first 300 of the 397: merges are learnt in that order."""
    gpt2_folder(tmp_path / "gpt2")
    make_gpt2(tmp_path / "fewer", size=300)
    vocabulary = locate_language(configured("prefix", tmp_path / "gpt2", tokenizer=str(tmp_path / "fewer"))).vocabulary()
    assert len(vocabulary) == 303
    make_gpt2(tmp_path / "gpt2", size=300)
    assert locate_language(configured("prefix", tmp_path / "gpt2")).vocabulary() == vocabulary


def test_a_tokenizer_with_other_ids_is_refused(tmp_path):
    """The same tokens, and every one of them at another row."""
    gpt2_folder(tmp_path / "gpt2")
    shutil.copytree(tmp_path / "gpt2", tmp_path / "permuted")
    ids = json.loads((tmp_path / "gpt2" / "vocab.json").read_text(encoding="utf-8"))
    (tmp_path / "permuted" / "vocab.json").write_text(json.dumps({token: len(ids) - 1 - i for token, i in ids.items()}), encoding="utf-8")
    with pytest.raises(BadInput, match="permuted: the token .+ has another id than in the tokenizer beside the weights of gpt2"):
        locate_language(configured("prefix", tmp_path / "gpt2", tokenizer=str(tmp_path / "permuted"))).vocabulary()


@pytest.mark.parametrize(
    ("stated", "fits"), [({"eos_token_id": 0}, True), ({"eos_token_id": [5, 0]}, True), ({"eos_token_id": 9}, False), ({}, False)]
)
def test_weights_without_a_tokenizer_know_their_end(stated, fits, tmp_path):
    """Not stated it is GPT-2's own 50,256; the tiny tokenizer's is 0."""
    gpt2_folder(tmp_path / "gpt2")
    (tmp_path / "tokens").mkdir()
    for name in ("vocab.json", "merges.txt"):
        shutil.move(tmp_path / "gpt2" / name, tmp_path / "tokens" / name)
    restate(tmp_path / "gpt2", **(stated or {"remove": ["eos_token_id"]}))
    language = locate_language(configured("prefix", tmp_path / "gpt2", tokenizer=str(tmp_path / "tokens")))
    if fits:
        assert language.vocabulary().lm_ids[END] == 0
    else:
        with pytest.raises(
            BadInput, match=f"its end token is 0, eos_token_id of the weights of gpt2 is {stated.get('eos_token_id', 50256)}"
        ):
            language.vocabulary()


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
    with pytest.raises(BadInput, match="its scale_attn_by_inverse_layer_idx is true, supported is false"):
        locate_language(configured("prefix", folder))
    (folder / "config.json").write_text("{", encoding="utf-8")
    with pytest.raises(BadInput, match=r"config\.json is missing or damaged"):
        locate_language(configured("prefix", folder))


@pytest.mark.parametrize(
    ("system", "changes", "message"),
    [
        ("sep", {"remove": ["n_embd"]}, "its n_embd is null, supported is a whole number above 0"),
        ("sep", {"n_embd": "16"}, 'its n_embd is "16", supported is a whole number'),
        ("sep", {"n_head": True}, "its n_head is true, supported is a whole number"),
        ("sep", {"n_head": 3}, "gpt2 wants n_embd to be a multiple of n_head"),
        ("sep", {"n_positions": 0}, "its n_positions is 0, supported"),
        ("sep", {"n_inner": 2.5}, "its n_inner is 2.5, supported is a whole number above 0, or null"),
        ("sep", {"layer_norm_epsilon": "small"}, 'its layer_norm_epsilon is "small", supported is a number'),
        ("sep", {"activation_function": "nothing"}, 'its activation_function is "nothing", supported is one of gelu_new, '),
        ("sep", {"activation_function": ["gelu"]}, r'its activation_function is \["gelu"\], supported is one of'),
        ("sep", {"scale_attn_weights": False}, "its scale_attn_weights is false, supported is true"),
        ("t5", {"feed_forward_proj": "x"}, 'its feed_forward_proj is "x", supported is one of .+, or gated- before one'),
        ("t5", {"feed_forward_proj": 3}, "its feed_forward_proj is 3"),
        ("t5", {"num_decoder_layers": "3"}, 'its num_decoder_layers is "3"'),
        ("t5", {"relative_attention_num_buckets": 1}, "half of relative_attention_num_buckets, which is at least 2"),
        ("t5", {"scale_decoder_outputs": "yes"}, 'its scale_decoder_outputs is "yes", supported is true or false'),
    ],
)
def test_a_wrong_setting_is_one_sentence(system, changes, message, tmp_path):
    folder = tmp_path / "model"
    {"sep": gpt2_folder, "t5": t5_folder}[system](folder)
    restate(folder, **changes)
    with pytest.raises(BadInput, match=rf"model/config\.json: .*{message}.*; \w"):
        locate_language(configured(system, folder))


def test_defaults_are_those_of_transformers(tmp_path):
    for config, own in ((GPT2Config(), SETTINGS["gpt2"]), (T5Config(), SETTINGS["t5"])):
        stated = {name: default for name, (default, _) in own.items() if default is not None}
        assert stated == {name: getattr(config, name) for name in stated}
    assert all(name in ACT2FN for name in ACTIVATIONS)


def test_the_weights_say_how_many_tokens_there_are(tmp_path):
    """vocab_size of config.json may be wrong or missing: the rows count."""
    gpt2_folder(tmp_path / "gpt2")
    ids = {id_of("sep", tmp_path / "gpt2")}
    for changes in ({"vocab_size": "397"}, {"vocab_size": 5000}, {"remove": ["vocab_size"]}):
        restate(tmp_path / "gpt2", **changes)
        ids.add(id_of("sep", tmp_path / "gpt2"))
        built("sep", tmp_path / "gpt2")
    assert len(ids) == 1


@pytest.mark.parametrize(
    ("system", "change", "message"),
    [
        ("sep", lambda t: t | {"transformer.wte.weight": t["transformer.wte.weight"][:300].clone()}, "the weights of model only 300 rows"),
        (
            "sep",
            lambda t: t | {"lm_head.weight": t["transformer.wte.weight"][:300].clone()},
            r"lm_head.weight is \(300, 16\), not 397 rows",
        ),
        ("sep", lambda t: {n: v for n, v in t.items() if "wte" not in n}, r"its weights have no wte.weight \(V,W\); fetch"),
        ("t5", lambda t: {n: v for n, v in t.items() if n != "shared.weight"}, "its weights have no shared.weight"),
    ],
    ids=["fewer rows", "a head of fewer", "no wte", "no shared"],
)
def test_wrong_rows_are_one_sentence(system, change, message, tmp_path):
    folder = tmp_path / "model"
    {"sep": gpt2_folder, "t5": t5_folder}[system](folder)
    retensor(folder, change)
    with pytest.raises(BadInput, match=message):
        built(system, folder)


def test_no_layer_is_left_out(tmp_path):
    """A file of 2 layers, of 3 in T5's decoder, under a configuration of fewer."""
    gpt2_folder(tmp_path / "gpt2")
    restate(tmp_path / "gpt2", n_layer=1)
    with pytest.raises(BadInput, match=r"h\.1\..+ has no place in the model that its config.json describes"):
        built("prefix", tmp_path / "gpt2")
    t5_folder(tmp_path / "t5")
    for changes in ({"num_decoder_layers": None}, {"remove": ["num_decoder_layers"]}):
        restate(tmp_path / "t5", **changes)  # the encoder's one layer
        with pytest.raises(BadInput, match=r"block\.1\..+ has no place"):
            built("t5", tmp_path / "t5", features="regions")


@pytest.mark.parametrize("changes", [{"num_decoder_layers": None}, {"remove": ["num_decoder_layers"]}], ids=["null", "absent"])
def test_t5_not_stating_its_decoders_layers_has_as_many_as_its_encoder(changes, tmp_path):
    """As T5Config has it."""
    t5_folder(tmp_path / "t5", num_layers=3)
    restate(tmp_path / "t5", **changes)
    assert T5Config.from_pretrained(tmp_path / "t5").num_decoder_layers == 3
    assert built("t5", tmp_path / "t5", features="regions")[0].layers == 3


def test_tensors_that_transformers_leaves_out_are_no_error(tmp_path):
    """GPT-2's published file holds its masks, T5's a bias that nothing reads."""
    gpt2_folder(tmp_path / "gpt2")
    retensor(
        tmp_path / "gpt2",
        lambda t: t | {f"h.{k}.attn.bias": torch.ones(1, 1, 64, 64) for k in range(2)} | {"h.0.attn.masked_bias": torch.ones(1)},
    )
    built("prefix", tmp_path / "gpt2")
    t5_folder(tmp_path / "t5")
    name = "decoder.block.0.layer.1.EncDecAttention.relative_attention_bias.weight"
    retensor(tmp_path / "t5", lambda t: t | {name: torch.ones(32, 2)})
    built("t5", tmp_path / "t5", features="regions")


def test_a_cache_that_lacks_files_is_filled(monkeypatch, tmp_path):
    """Another program may have fetched configuration and tokenizer, or weights, alone."""
    monkeypatch.setattr("captioning.trunks.look_up", lambda _: None)
    gpt2_folder(tmp_path / "there")
    here, fetched = tmp_path / "here", []
    here.mkdir()

    def download(name, allow_patterns, local_files_only=False):
        if not local_files_only:
            fetched.append(name)
            shutil.copytree(tmp_path / "there", here, dirs_exist_ok=True)
        return str(here)

    monkeypatch.setattr("huggingface_hub.snapshot_download", download)
    for lacks in ({"model.safetensors"}, {"vocab.json", "merges.txt"}):
        for name in lacks:
            (here / name).unlink(missing_ok=True)
        with pytest.raises(BadInput, match="not here yet; running fetches"):
            locate_language(system_config("prefix"), fetch=False)
        assert locate_language(system_config("prefix")).weights_folder == here
    assert fetched == ["openai-community/gpt2"] * 2
    locate_language(system_config("prefix"))
    (here / "vocab.json").unlink()
    locate_language(dataclasses.replace(system_config("prefix"), tokenizer=str(tmp_path / "there")), fetch=False)
    assert len(fetched) == 2
    (here / "model.safetensors").rename(here / "model-00001-of-00002.safetensors")
    (tmp_path / "there" / "model.safetensors").unlink()
    with pytest.raises(BadInput, match="gpt2 is here only in part, .+pickled weights are never loaded"):
        locate_language(system_config("prefix"))
    (here / "model-00002-of-00002.safetensors").touch()
    locate_language(system_config("prefix"))
    assert len(fetched) == 3


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


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"absent": [99999]}, "language model lacks the token 99999 of 400"),
        ({"absent": [END]}, f"language model lacks the token {END} of 400"),
        ({"absent": ["all"]}, "language model is not described"),
        ({"architecture": "t5"}, "language model: its d_model is null"),
        ({"architecture": "bert"}, "language model is not described"),
        ({"settings": {"n_embd": 16}}, "language model: its n_layer is null"),
        ({"settings": None}, "language model is not described"),
        (
            {"architecture": "t5", "settings": {"d_model": 8, "d_kv": 4, "d_ff": 8, "num_heads": 2}},
            "language model is a t5, its system wants a gpt2",
        ),
    ],
)
def test_a_checkpoint_that_describes_no_language_model_is_one_sentence(changes, message, tmp_path):
    gpt2_folder(tmp_path / "gpt2")
    decoder, vocabulary, config, _ = built("prefix", tmp_path / "gpt2")
    assert len(vocabulary) == 400
    with pytest.raises(BadInput, match=message):
        DECODERS["prefix"](D, R, 400, config, Language.from_dict(decoder.language_config | changes))
    with pytest.raises(BadInput, match="language model is not described"):
        Language.from_dict({"architecture": "gpt2"})


def test_run_ids_go_by_what_the_files_hold_and_not_where_they_lie(tmp_path):
    for place in ("a", "b"):
        gpt2_folder(tmp_path / place / "gpt2")
    own = id_of("sep", tmp_path / "a" / "gpt2")
    assert id_of("sep", tmp_path / "b" / "gpt2") == own
    changed = gpt2_folder(tmp_path / "b" / "gpt2").float()
    changed.transformer.wpe.weight.data[0, 0] += 1
    changed.save_pretrained(tmp_path / "b" / "gpt2")
    assert id_of("sep", tmp_path / "b" / "gpt2") != own


@pytest.mark.parametrize(
    ("system", "changes"),
    [
        ("sep", {"n_head": 4}),
        ("sep", {"layer_norm_epsilon": 1e-2}),
        ("sep", {"activation_function": "relu"}),
        ("sep", {"n_layer": 1}),
        ("t5", {"num_heads": 1, "d_kv": 12}),
        ("t5", {"feed_forward_proj": "gelu"}),
        ("t5", {"scale_decoder_outputs": False}),
        ("t5", {"relative_attention_max_distance": 64}),
    ],
)
def test_run_ids_go_by_the_settings_that_are_used(system, changes, tmp_path):
    """The same weights computed otherwise are another model. What is at its default may be stated or not; the rest does not count."""
    folder = tmp_path / "model"
    {"sep": gpt2_folder, "t5": t5_folder}[system](folder)
    own = id_of(system, folder)
    unused = {"transformers_version": "0", "n_inner": None} | {"use_cache": False, "bos_token_id": None}
    restate(folder, remove=["layer_norm_epsilon", "feed_forward_proj"], **unused)
    assert id_of(system, folder) == own
    restate(folder, **changes)
    assert id_of(system, folder) != own


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


@pytest.mark.parametrize("name", ["a folder", "openai-community/gpt2"])
def test_weights_none_beside_a_named_language_model_is_refused(name, tmp_path):
    """It would be left out without a word. The system's own default is nobody's wish."""
    name = str(tmp_path) if name == "a folder" else name
    with pytest.raises(BadInput, match="--language-model .+: --weights none makes a random one"):
        without_weights(configured("sep", name))
    assert not without_weights(dataclasses.replace(system_config("sep"), dropout=0.2)).language_model


def test_a_random_model_may_read_with_a_tokenizer(tmp_path):
    make_gpt2(tmp_path / "tokens")
    config = dataclasses.replace(without_weights(system_config("sep")), tokenizer=str(tmp_path / "tokens"), width=16, layers=1, heads=2)
    language = locate_language(config)
    vocabulary = language.vocabulary()
    decoder = DECODERS["sep"](D, R, len(vocabulary), config, language)
    assert torch.isfinite(decoder(torch.randn(1, R, D), torch.tensor([[START, 5]]))).all()
    assert language.identity == {"tokenizer": vocabulary.sha256}
