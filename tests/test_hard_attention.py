"""Hard attention: the gradient estimate against autograd through every location sequence of a toy, each further term alone, and learning to look."""

import itertools

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from captioning import attention_lstm
from captioning.config import RunConfig
from captioning.vocabulary import END, START
from models import AttendDecoder, CaptionModel
from train import Training

R, V = 3, 9
HARD = {"attention": "hard", "embed_dim": 5, "attention_dim": 7, "hidden_dim": 4, "dropout": 0.0, "expected_share": 0.0}
FORMS = [{}, {"activation": "tanh"}, {"gate": "scalar"}, {"output": "deep"}]


def toy(**changes) -> tuple[CaptionModel, tuple]:
    """A model on regions in float64 and one caption of two words and the end token."""
    torch.manual_seed(0)
    config = RunConfig(**{**HARD, **changes})
    model = CaptionModel(nn.Module(), AttendDecoder(6, V, config), config).double()
    model.encode = lambda regions: regions
    regions = 2 * torch.randn(1, R, 6, dtype=torch.float64)
    words = torch.tensor([[START, 5, 7, END]])
    return model, (regions, words, torch.tensor([3]), torch.tensor([0]))


@pytest.fixture
def look_at(monkeypatch):
    """look_at(model, locations): the next pass looks at these regions in place of sampled ones."""
    monkeypatch.setattr(attention_lstm, "choose", lambda attention, draws: (draws * R).long())
    monkeypatch.setattr("models.choose", lambda attention, draws: (draws * R).long())

    def set_locations(model, locations):
        draws = (torch.tensor(locations, dtype=torch.float64) + 0.5) / R
        model.decoder._draw = lambda *_: draws

    return set_locations


def restated(model, regions, words, locations):
    """log p(locations | image) and log p(words | locations) word by word from the equations, without the decoder's own passes."""
    decoder = model.decoder
    p = dict(decoder.named_parameters())
    activation = torch.tanh if decoder.attention.activation is torch.tanh_ else lambda x: x.clamp(min=0)
    mean = regions.mean(0)
    h = p["start_hidden.weight"] @ mean + p["start_hidden.bias"]
    c = p["start_cell.weight"] @ mean + p["start_cell.bias"]
    where = what = 0
    for t, location in enumerate(locations):
        query = p["attention.query.weight"] @ h + p["attention.query.bias"]
        keys = regions @ p["attention.keys.weight"].T + p["attention.keys.bias"]
        where = where + (activation(keys + query) @ p["attention.score.weight"][0]).log_softmax(0)[location]
        z = torch.sigmoid(p["gate.weight"] @ h + p["gate.bias"]) * regions[location]
        y = p["embedding.weight"][words[t]]
        gates = p["cell.weight_ih"] @ torch.cat([y, z]) + p["cell.bias_ih"] + p["cell.weight_hh"] @ h + p["cell.bias_hh"]
        i, f, g, o = gates.chunk(4)
        c = torch.sigmoid(f) * c + torch.sigmoid(i) * torch.tanh(g)
        h = torch.sigmoid(o) * torch.tanh(c)
        out = h
        if decoder.deep:
            out = y + p["from_hidden.weight"] @ h + p["from_hidden.bias"] + p["from_context.weight"] @ z
        what = what + (p["project.weight"] @ out + p["project.bias"]).log_softmax(0)[words[t + 1]]
    return where, what


def gradient(value, model) -> torch.Tensor:
    parameters = list(model.parameters())
    grads = torch.autograd.grad(value, parameters, allow_unused=True)
    return torch.cat([(torch.zeros_like(p) if g is None else g).flatten() for p, g in zip(parameters, grads, strict=True)])


@pytest.mark.parametrize("form", FORMS, ids=str)
def test_the_estimate_is_unbiased(look_at, form):
    """arXiv:1502.03044 eq. 11: over all location sequences, weight 1, a constant baseline."""
    model, (regions, words, *rest) = toy(**form)
    model.baseline.fill_(-3.0)
    bound, estimate, total = 0, 0, 0
    for locations in itertools.product(range(R), repeat=3):
        where, what = restated(model, regions[0], words[0], locations)
        share = float(where.detach().exp())
        bound = bound + where.exp() * what
        total += share
        look_at(model, locations)
        losses = model(regions, words, *rest)
        assert float(losses.cross_entropy) == pytest.approx(-float(what.detach()), abs=1e-5)
        estimate = estimate + share * gradient(-(losses.cross_entropy + losses.reinforce), model)
    expected = gradient(bound, model)
    assert total == pytest.approx(1) and expected.norm() > 0.1
    assert (estimate - expected).abs().max() < 1e-6


def test_a_baseline_changes_single_estimates(look_at):
    found = []
    for baseline in (0.0, -8.0):
        model, inputs = toy()
        model.baseline.fill_(baseline)
        look_at(model, (0, 1, 2))
        found.append(gradient(model(*inputs).reinforce, model))
    assert (found[0] - found[1]).norm() > 0.01


@pytest.mark.parametrize("form", FORMS, ids=str)
@pytest.mark.parametrize("share", [0.0, 0.5, 1.0])
def test_all_words_at_once_equal_the_plain_steps(form, share):
    """Values and gradients of the pass that training uses and of `_run`, same draws; several captions an image, unequal lengths."""
    model, _ = toy(**form, expected_share=share)
    regions = torch.randn(3, R, 6, dtype=torch.float64, requires_grad=True)
    words = torch.randint(4, V, (6, 6))
    lengths, image_of = torch.tensor([4, 2, 5, 1, 3, 3]), torch.tensor([0, 1, 1, 2, 0, 2])
    results = []
    for by_hand in (model.decoder.by_hand, False):
        model.decoder.by_hand = by_hand
        torch.manual_seed(3)
        forced = model.decoder.forced(regions, words, lengths, image_of, attend=True)
        value = (
            forced.logits.sin().sum() + (forced.penalty * torch.arange(6)).sum() + forced.entropy.sum() + forced.log_locations.sin().sum()
        )
        results.append((forced, torch.autograd.grad(value, [regions, *model.decoder.parameters()])))
    (one, first), (other, second) = results
    assert torch.allclose(one.logits, other.logits, atol=1e-12) and torch.allclose(one.log_locations, other.log_locations, atol=1e-12)
    for a, b in zip(first, second, strict=True):
        assert a.abs().max() > 0 and torch.allclose(a, b, atol=1e-12)


def test_the_mixed_share_is_drawn_per_image_or_per_batch():
    model, _ = toy(expected_share=0.5)
    decoder, image_of = model.decoder, torch.arange(200).repeat_interleave(2)
    expected = decoder._draw(torch.arange(400), image_of, 200) < 0
    assert torch.equal(expected[::2], expected[1::2])  # both captions of an image alike
    assert 70 < int(expected[::2].sum()) < 130
    decoder.expected_per = "batch"
    torch.manual_seed(1)
    shares = [float((decoder._draw(torch.arange(400), image_of, 200) < 0).float().mean()) for _ in range(40)]
    assert set(shares) == {0.0, 1.0} and 8 < sum(shares) < 32


def test_captions_with_the_expected_region_have_no_score_function_term():
    model, inputs = toy(expected_share=1.0)
    losses = model(*inputs)
    assert float(losses.reinforce) == 0
    soft, _ = toy(attention="soft")
    assert torch.equal(losses.cross_entropy, soft(*inputs).cross_entropy)


def test_entropy_by_hand():
    model, (regions, words, lengths, image_of) = toy()
    forced = model.decoder.forced(regions, words, lengths, image_of, attend=True)
    by_hand = -sum(float(a) * float(a.log()) for a in forced.attention.flatten())
    assert float(forced.entropy.sum()) == pytest.approx(by_hand, abs=1e-9)


def test_each_term_has_its_weight_sign_and_divisor():
    losses = toy()[0](*toy()[1])
    fields = {name: torch.tensor(float(k + 1)) for k, name in enumerate(losses._fields)}
    losses = losses._replace(**fields)

    def loss(**changes):
        training = object.__new__(Training)
        training.config = RunConfig(**{**HARD, "penalty_weight": 0.0, "reinforce_weight": 0.0, "entropy_weight": 0.0, **changes})
        return float(Training._loss(training, losses, words=10, captions=4))

    plain = loss()
    assert plain == pytest.approx(0.1)
    assert loss(penalty_weight=3.0) - plain == pytest.approx(3 * 2 / 4)
    assert loss(entropy_weight=0.5) - plain == pytest.approx(-0.5 * 7 / 10)
    assert loss(reinforce_weight=0.5) - plain == pytest.approx(0.5 * 6 / 10)
    assert loss(reinforce_weight=0.5, reinforce_scale="captions") - plain == pytest.approx(0.5 * 6 / 4)
    assert loss(reinforce_weight=0.5, reinforce_scale="none") - plain == pytest.approx(0.5 * 6)
    assert loss(attention="soft", reinforce_weight=0.5, entropy_weight=0.5) == plain


def test_the_reward_is_the_caption_s_log_likelihood(look_at):
    for reward, divisor in (("sum", 1), ("mean", 3)):
        model, inputs = toy(reward=reward)
        look_at(model, (2, 0, 1))
        losses = model(*inputs)
        where, what = restated(model, inputs[0][0], inputs[1][0], (2, 0, 1))
        assert float(losses.reward) == pytest.approx(float(what) / divisor, abs=1e-5)
        assert float(losses.reinforce) == pytest.approx(-float(what) / divisor * float(where), abs=1e-5)


def test_the_baseline_follows_and_never_knows_its_own_batch():
    training = object.__new__(Training)
    training.config, training.world = RunConfig(**HARD), 1
    training.model, _ = toy()
    for expected in (-1.0, -1.9):
        Training._move_baseline(training, torch.tensor([0.0, 0, 0, 0, 2, 0, 0, -20.0]))
        assert float(training.model.baseline) == pytest.approx(expected)


def test_what_captioning_looks_at():
    """expected equals soft attention; argmax its likeliest region; sampled ones follow the attention."""
    model, (regions, *_) = toy()
    decoder = model.decoder.eval()
    soft = toy(attention="soft")[0].decoder.eval()
    word = torch.tensor([START])
    logits, _, attention = decoder.step(word, decoder.start(regions), attend=True)
    assert torch.equal(logits, soft.step(word, soft.start(regions))[0])
    alone = {}
    for k in range(R):
        one = soft.start(regions)
        one = one._replace(memory=(regions[:, k : k + 1], one.memory[1][:, k : k + 1]))
        alone[k] = soft.step(word, one)[0]
    decoder.locations = "argmax"
    assert torch.allclose(decoder.step(word, decoder.start(regions))[0], alone[int(attention.argmax())])
    decoder.locations = "sample"
    torch.manual_seed(0)
    counts = torch.zeros(R)
    for _ in range(600):
        found = decoder.step(word, decoder.start(regions))[0]
        counts[[k for k in range(R) if torch.allclose(found, alone[k])]] += 1
    assert int(counts.sum()) == 600
    assert (counts / 600 - attention[0]).abs().max() < 0.07


@pytest.mark.parametrize("attention", ["soft", "hard"])
def test_training_learns_where_the_word_is(attention):
    """One region alone tells the word, at a place that changes; a mark says which region it is."""
    torch.manual_seed(0)
    config = RunConfig(
        attention=attention, embed_dim=8, attention_dim=16, hidden_dim=16, dropout=0.0, reinforce_weight=1.0, entropy_weight=0.01
    )
    model = CaptionModel(nn.Module(), AttendDecoder(9, 10, config), config)
    model.encode = lambda regions: regions
    optimiser = torch.optim.Adam(model.parameters(), lr=0.01)
    generator = torch.Generator().manual_seed(0)

    def batch(n=64):
        regions = 0.3 * torch.randn(n, 4, 9, generator=generator)
        place, word = torch.randint(4, (n,), generator=generator), torch.randint(6, (n,), generator=generator)
        # Every region shows some word; only the marked one's is said.
        shown = torch.randint(6, (n, 4), generator=generator)
        shown[torch.arange(n), place] = word
        regions[..., :6] += 2 * F.one_hot(shown, 6)
        regions[torch.arange(n), place, 8] += 2
        words = torch.stack([torch.full((n,), START), word + 4, torch.full((n,), END)], 1)
        return regions, words, place

    for _ in range(400):
        regions, words, _ = batch()
        losses = model(regions, words, torch.full((64,), 2), torch.arange(64))
        loss = (losses.cross_entropy + losses.reinforce - 0.01 * losses.entropy) / 128
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        if attention == "hard":
            model.baseline.mul_(0.9).add_(0.1 * losses.reward.detach() / 64)
    regions, words, place = batch(200)
    model.eval()
    forced = model.decoder.forced(regions, words, torch.full((200,), 2), attend=True)
    first = forced.position == 0
    looked = forced.attention[first].argmax(1) == place[forced.caption[first]]
    assert looked.float().mean() > 0.9
