"""The Transformer systems against Hugging Face's and torch's own modules: losses, stepping, greedy and beam search, masks, gradients."""

import dataclasses
import time

import pytest
import torch
from torch.nn import functional as F
from transformers import GPT2LMHeadModel
from transformers.modeling_outputs import BaseModelOutput

from benchmarks.speeds import language
from captioning.bad_input import BadInput
from captioning.config import Decode, RunConfig
from captioning.decoding import search
from captioning.image_attention import Cache, Look, Packing
from captioning.language_models import locate_language
from captioning.systems import system_config
from captioning.vocabulary import END, PAD, START
from models import DECODERS

V, D, R = 40, 12, 9
SYSTEMS = ("transformer", "t5", "prefix", "sep")
SMALL = {
    "language_model": "",
    "layers": 2,
    "heads": 4,
    "width": 32,
    "embed_dim": 16,
    "projection_dim": 24,
    "prefix_length": 4,
    "max_words": 14,
}


def settings(system, **changes):
    of = {field.name: field.metadata.get("of") or (system,) for field in dataclasses.fields(RunConfig)}
    small = {name: value for name, value in SMALL.items() if system in of[name]}
    return dataclasses.replace(system_config(system), **small | changes)


def make(system, seed=0, sharp=1.0, **changes):
    """A small random decoder in float64, in eval mode. sharp: factor on the logits."""
    torch.manual_seed(seed)
    config = settings(system, **changes)
    decoder = DECODERS[system](D, R, V, config, locate_language(config)).double().eval()
    for name, parameter in decoder.named_parameters():
        if parameter.dim() > 1 and not name.startswith(("project", "head")):
            # Hugging Face's start is so flat that every caption would be the same.
            torch.nn.init.normal_(parameter, std=0.35)
    if sharp != 1.0:
        final = {"transformer": "stack.norm", "t5": "stack.final_layer_norm", "prefix": "model.ln_f", "sep": "model.ln_f"}[system]
        norm = decoder.get_submodule(final)
        norm.weight.data.mul_(sharp)
    return decoder, config


def images(n, config, seed=1):
    shape = (n, R if config.features == "regions" else 1, D)
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def captions(rows, longest=9, seed=2):
    """words (rows, longest+1) from the start token on, with the end token and padding; lengths (rows,)."""
    generator = torch.Generator().manual_seed(seed)
    words = torch.randint(4, V, (rows, longest + 1), generator=generator)
    lengths = torch.randint(1, longest + 1, (rows,), generator=generator)
    lengths[0] = longest
    words[:, 0] = START
    for row, n in enumerate(lengths):
        words[row, n] = END
        words[row, n + 1 :] = PAD
    return words, lengths


class SepGPT2(GPT2LMHeadModel):
    """GPT-2 whose first call (the image's tokens) has no causal mask; afterwards every token sees all that was cached."""

    def forward(self, input_ids=None, inputs_embeds=None, attention_mask=None, past_key_values=None, **rest):
        first = inputs_embeds is not None and (past_key_values is None or past_key_values.get_seq_length() == 0)
        if first:
            P = inputs_embeds.shape[1]
            attention_mask = inputs_embeds.new_zeros(len(inputs_embeds), 1, P, P)
        return super().forward(
            input_ids=input_ids, inputs_embeds=inputs_embeds, attention_mask=attention_mask, past_key_values=past_key_values, **rest
        )


def hugging_face(system, decoder):
    """The same weights in transformers' own model with a head."""
    no_mask = system == "sep" and not decoder.image_is_causal
    return language.hugging_face(system, decoder, SepGPT2 if no_mask else None).eval()


def unplaced(decoder, regions):
    """The image's tokens without GPT-2's positions, which Hugging Face's model adds itself."""
    tokens = decoder.tokens_of_image(regions)
    return tokens if not decoder.in_sequence else tokens - decoder.model.wpe.weight[: tokens.shape[1]]


def test_the_vocabulary_of_tests_reaches_every_system():
    assert set(SYSTEMS) | {"attend"} == set(DECODERS)


FORMS = [
    ("t5", {}),
    ("t5", {"features": "regions"}),
    ("t5", {"projection_norm": True}),
    ("prefix", {}),
    ("prefix", {"refiner_layers": 0}),
    ("sep", {}),
    ("sep", {"mask": "causal"}),
    ("sep", {"separator": False}),
]


@pytest.mark.parametrize(("system", "changes"), FORMS)
def test_the_loss_is_hugging_faces_own(system, changes):
    decoder, config = make(system, **changes)
    theirs = hugging_face(system, decoder)
    words, lengths = captions(6)
    regions = images(6, config)
    forced = decoder.forced(regions, words, lengths)
    targets = words[forced.caption, forced.position + 1]
    ours = F.cross_entropy(forced.logits, targets)
    labels = words[:, 1:].masked_fill(words[:, 1:] == PAD, -100)
    tokens = unplaced(decoder, regions)
    if system == "t5":
        fed = words[:, :-1]
        loss = theirs(encoder_outputs=BaseModelOutput(tokens), decoder_input_ids=fed, labels=labels).loss
    else:
        P, T = tokens.shape[1], labels.shape[1]
        embedded = torch.cat([tokens, theirs.transformer.wte(words[:, 1:])], 1)
        nothing = labels.new_full((len(labels), P), -100)
        mask = torch.full((P + T, P + T), -torch.inf, dtype=torch.float64).triu(1)
        if not decoder.image_is_causal:
            mask[:P, :P] = 0
        mask = mask.expand(len(labels), 1, -1, -1)
        forward = GPT2LMHeadModel.forward
        loss = forward(theirs, inputs_embeds=embedded, attention_mask=mask, labels=torch.cat([nothing, labels], 1)).loss
    assert ours.item() == pytest.approx(loss.item(), rel=1e-6)  # theirs is computed in float32


@pytest.mark.parametrize("early", [True, "never"])
@pytest.mark.parametrize("penalty", [0.0, 1.0])
@pytest.mark.parametrize("beam", [1, 3, 5])
@pytest.mark.parametrize("system", ["t5", "prefix", "sep"])
def test_captions_are_those_of_generate(system, beam, penalty, early):
    """50 images, sharp logits, captions that end at different words or not at all."""
    seed, sharp = {"t5": (4, 10.5), "prefix": (0, 2.0), "sep": (1, 2.0)}[system]
    decoder, config = make(system, seed, sharp, features="regions" if system == "t5" else settings(system).features)
    theirs = hugging_face(system, decoder)
    regions = images(50, config) * 3
    decode = Decode(beam=beam, max_words=12, length_penalty=penalty, stop="full" if early is True else "best")
    with torch.inference_mode():
        logits = decoder.step(torch.full((50,), START), decoder.start(regions))[0]
        ours = [found[0] for found in search(decoder, regions, decode)]
        tokens = unplaced(decoder, regions)
        options = {"encoder_outputs": BaseModelOutput(tokens)} if system == "t5" else {"inputs_embeds": tokens}
        if system != "t5":
            options["attention_mask"] = torch.ones(tokens.shape[:2], dtype=torch.long)
        found = theirs.generate(
            **options, num_beams=beam, do_sample=False, max_new_tokens=12, length_penalty=penalty, early_stopping=early if beam > 1 else False,
            suppress_tokens=[PAD, START], decoder_start_token_id=START, bos_token_id=START, eos_token_id=END, pad_token_id=PAD,
        )  # fmt: skip
    assert logits.std() > 3
    if system == "t5":
        found = found[:, 1:]
    lengths = set()
    for one, row in zip(ours, found.tolist(), strict=True):
        said = row[: row.index(END)] if END in row else [w for w in row if w != PAD]
        assert one.words == said
        lengths.add(len(said))
    assert len(lengths) > 2 and len({tuple(one.words) for one in ours}) > 10


@pytest.mark.parametrize("system", SYSTEMS)
def test_steps_equal_all_words_at_once(system):
    decoder, config = make(system)
    regions = images(3, config)
    words, _ = captions(6)
    fed = words[:, :-1].masked_fill(words[:, :-1] == END, PAD)
    ask = decoder.has_places
    whole = decoder(regions, fed, attend=ask)
    logits, maps = whole if ask else (whole, None)
    state = decoder.start(regions)
    for t in range(fed.shape[1]):
        rows = fed[::2, 0] if t == 0 else fed[:, t]
        found = decoder.step(rows, state, attend=ask)
        state = found[1]
        place = torch.arange(0, 6, 2) if t == 0 else torch.arange(6)
        real = rows != PAD
        assert torch.allclose(found[0][real], logits[place, t][real], atol=1e-9)
        if ask:
            assert torch.allclose(found[2][real], maps[place, t][real], atol=1e-9)
        if t == 0:
            state = state.select(torch.arange(3).repeat_interleave(2))


def test_the_plain_transformer_is_torchs():
    decoder, config = make("transformer")
    regions, (words, lengths) = images(4, config), captions(4)
    fed = words[:, :-1]
    x = decoder.embedding(fed) + decoder.positions.weight[: fed.shape[1]]
    T = fed.shape[1]
    mask = torch.nn.Transformer.generate_square_subsequent_mask(T, dtype=torch.float64)
    expected = decoder.stack(x, decoder.project_regions(regions), tgt_mask=mask) @ decoder.embedding.weight.T
    forced = decoder.forced(regions, words, lengths)
    assert torch.allclose(forced.logits, expected[forced.caption, forced.position], atol=1e-9)


def test_cross_attention_by_layer_and_head_is_torchs():
    decoder, config = make("transformer", layers=1)
    regions = images(2, config)
    with torch.no_grad():
        _, _, heads = decoder.step(torch.full((2,), START), decoder.start(regions), attend="heads")
        layer = decoder.stack.layers[0]
        x = decoder.embed(torch.full((2,), START), torch.zeros(2, dtype=torch.long)).unsqueeze(1)
        x = x + layer.self_attn(*[layer.norm1(x)] * 3, need_weights=False)[0]
        tokens = decoder.project_regions(regions)
        _, expected = layer.multihead_attn(layer.norm2(x), tokens, tokens, need_weights=True, average_attn_weights=False)
        _, _, one = decoder.step(torch.full((2,), START), decoder.start(regions), attend=True)
    assert heads.shape == (2, 1, 4, R)
    assert torch.allclose(heads[:, 0], expected[:, :, 0], atol=1e-9)
    assert torch.allclose(one, expected[:, :, 0].mean(1), atol=1e-9)


@pytest.mark.parametrize("separator", [True, False])
@pytest.mark.parametrize("mask", ["image", "causal"])
def test_the_mask_of_sep_entry_by_entry(mask, separator):
    """Whose input changes whose output: by gradients, not by reading the mask. Padding is seen by none."""
    decoder, config = make("sep", mask=mask, separator=separator)
    P, T = R + separator, 5
    tokens = decoder.tokens_of_image(images(1, config)).detach().requires_grad_()
    words = torch.tensor([[START, 5, 6, 7, END, PAD]])
    embedded = decoder.model.wte(words[0, 1:T]).detach().requires_grad_()  # the words fed back

    # The image's part: which token's keys in the last layer know of which token.
    keys = decoder.memory_of(tokens)[-1][0]  # (1, h, P, d)
    seen = torch.stack([torch.autograd.grad(keys[0, :, p].sum(), tokens, retain_graph=True)[0][0].abs().sum(1) > 0 for p in range(P)])
    expected = torch.ones(P, P, dtype=torch.bool)
    assert torch.equal(seen, expected if mask == "image" else expected.tril())

    # The text: place t (the t-th word is said there) sees the whole image part and the words before it, itself included.
    decoder.embed = lambda w, position: torch.cat([embedded[:1] * 0, embedded])[position]  # (M, W) by place
    decoder.tokens_of_image = lambda _: tokens
    forced = decoder.forced(images(1, config), words, torch.tensor([T]))
    for t in range(T):
        to_image, to_words = torch.autograd.grad(forced.logits[t].square().sum(), [tokens, embedded], retain_graph=True, allow_unused=True)
        assert (to_image[0].abs().sum(1) > 0).all()
        assert ((to_words.abs().sum(1) > 0) == (torch.arange(T - 1) < t)).all()


@pytest.mark.parametrize("system", SYSTEMS)
def test_padding_changes_nothing_and_a_batch_of_one_equals_many(system):
    decoder, config = make(system)
    regions, (words, lengths) = images(16, config), captions(64)
    together = decoder.forced(regions, words, lengths)
    for image in (0, 7, 15):
        rows = slice(4 * image, 4 * image + 4)
        filled = words[rows].masked_fill(words[rows] == PAD, 17)
        alone = decoder.forced(regions[image : image + 1], filled, lengths[rows])
        mine = (together.caption >= rows.start) & (together.caption < rows.stop)
        key = lambda f: (f.caption * 100 + f.position).argsort()  # noqa: E731 (each in one order)
        a, b = together.logits[mine][(together.caption[mine] * 100 + together.position[mine]).argsort()], alone.logits[key(alone)]
        assert torch.allclose(a, b, atol=1e-9)


@pytest.mark.parametrize("system", SYSTEMS)
def test_captions_may_come_in_any_order_and_number(system):
    decoder, config = make(system)
    regions, (words, lengths) = images(3, config), captions(6)
    image_of = torch.tensor([2, 0, 0, 1, 2, 2])
    forced = decoder.forced(regions, words, lengths, image_of)
    logits = torch.zeros(6, 10, V, dtype=torch.float64).index_put((forced.caption, forced.position), forced.logits)
    for row in range(6):
        alone = decoder.forced(regions[image_of[row]].unsqueeze(0), words[row : row + 1], lengths[row : row + 1])
        assert torch.allclose(logits[row, alone.position], alone.logits, atol=1e-9)


@pytest.mark.parametrize("system", SYSTEMS)
def test_every_parameter_learns(system):
    torch.manual_seed(0)
    config = settings(system)
    decoder = DECODERS[system](D, R, V, config, locate_language(config))
    words, lengths = captions(6)
    forced = decoder.forced(images(3, config).float(), words, lengths)
    F.cross_entropy(forced.logits, words[forced.caption, forced.position + 1]).backward()
    without = {n for n, p in decoder.named_parameters() if p.grad is None or not p.grad.abs().sum() > 0}
    # One image token takes all of the attention, whatever is asked: there is nothing to learn about where to look.
    idle = ("EncDecAttention.q.weight", "EncDecAttention.k.weight", "layer.1.layer_norm.weight") if system == "t5" else ()
    assert without == {n for n, _ in decoder.named_parameters() if idle and n.endswith(idle)}


@pytest.mark.parametrize("system", SYSTEMS)
def test_the_image_is_neither_copied_nor_reordered_per_beam(system):
    decoder, config = make(system)
    state = decoder.start(images(4, config))
    _, state = decoder.step(torch.full((4,), START), state)
    before = [m.data_ptr() for pair in state.memory for m in pair]
    state = state.select(torch.arange(4).repeat_interleave(5))
    for _ in range(3):
        _, state = decoder.step(torch.full((20,), 7), state)
        state = state.select(torch.arange(20).view(4, 5).flip(1).flatten())
    assert [m.data_ptr() for pair in state.memory for m in pair] == before
    assert all(len(m) == 4 for pair in state.memory for m in pair)


@pytest.mark.parametrize("system", ["transformer", "t5", "prefix", "sep"])
def test_a_word_at_forty_costs_little_more_than_at_five(system):
    """At a width where a word's own layers cost something; reports/LOG.md says what happens below."""
    torch.manual_seed(0)
    config = settings(system, width=512, layers=2, heads=8, max_words=50)
    decoder = DECODERS[system](D, R, 2000, config, locate_language(config)).eval()
    words = torch.full((50,), 7)
    ratios = []
    with torch.inference_mode():
        for _ in range(5):
            _, state = decoder.step(words[:10], decoder.start(images(10, config).float()))
            state = state.select(torch.arange(10).repeat_interleave(5))
            seconds = []
            for _ in range(42):
                begun = time.thread_time()
                _, state = decoder.step(words, state)
                state = state.select(torch.arange(50))
                seconds.append(time.thread_time() - begun)
            ratios.append(sum(seconds[38:42]) / sum(seconds[3:7]))
    assert sorted(ratios)[1] < 1.3


def test_a_prefix_longer_than_the_context_is_refused():
    config = settings("prefix", prefix_length=1020)
    with pytest.raises(BadInput, match="longer than the 1024 positions"):
        DECODERS["prefix"](D, 1, V, config, locate_language(config))


@pytest.mark.parametrize("system", ["prefix", "t5"])
def test_tokens_without_a_place_have_no_attention_map(system):
    decoder, config = make(system)
    with pytest.raises(BadInput, match="no place"):
        decoder.step(torch.full((2,), START), decoder.start(images(2, config)), attend=True)


def test_packing_there_and_back():
    packing = Packing(torch.tensor([3, 1, 2]))
    rows = torch.arange(12.0).view(6, 2)
    assert packing.caption.tolist() == [0, 0, 0, 1, 2, 2] and packing.position.tolist() == [0, 1, 2, 0, 0, 1]
    assert torch.equal(packing.pack(packing.spread(rows)), rows)
    assert packing.spread(rows)[1, 1:].abs().sum() == 0


def test_one_softmax_over_image_and_words_by_hand():
    """Two image tokens and one earlier word, one head of width 1."""
    cache = Cache.empty(torch.zeros(1, 1, 1), 1)
    with torch.no_grad():
        cache = cache.append(torch.tensor([[[[0.5]]]]), torch.tensor([[[[30.0]]]]))
        memory = [(torch.tensor([[[[1.0], [2.0]]]]), torch.tensor([[[[10.0], [20.0]]]]))]
        look = Look(Packing(torch.tensor([1])), 1, 1.0, memory, caches=[cache])
        found = look.both(torch.tensor([[2.0]]), torch.tensor([[0.0]]), torch.tensor([[40.0]]), 0)
    shares = torch.tensor([2.0, 4.0, 1.0, 0.0]).softmax(0)
    assert float(found) == pytest.approx(float(shares @ torch.tensor([10.0, 20.0, 30.0, 40.0])))


def test_two_ways_on_from_one_cache_do_not_disturb_each_other():
    with torch.no_grad():
        first = Cache.empty(torch.zeros(2, 1, 4), 2).append(torch.ones(2, 2, 1, 2), torch.ones(2, 2, 1, 2))
        left = first.append(torch.full((2, 2, 1, 2), 2.0), torch.zeros(2, 2, 1, 2))
        right = first.append(torch.full((2, 2, 1, 2), 3.0), torch.zeros(2, 2, 1, 2))
    assert left.keys[0, 0, :, 0].tolist() == [1, 2] and right.keys[0, 0, :, 0].tolist() == [1, 3]
    assert left.buffer.data_ptr() == first.buffer.data_ptr() != right.buffer.data_ptr()
    kept = right.keep(torch.tensor([1]))
    assert kept.keys.shape == (1, 2, 2, 2) and kept.keys[0, 1, :, 1].tolist() == [1, 3]
