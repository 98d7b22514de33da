"""The published loop and ours are the same function: what speed.py compares is the same work."""

import dataclasses

import pytest
import torch

from benchmarks.baseline import PublishedDecoder, training_step
from captioning.config import Decode, RunConfig
from captioning.decoding import search
from captioning.vocabulary import END, PAD, START
from models import AttendDecoder

D, R, V = 24, 9, 60


@pytest.fixture
def decoders():
    torch.manual_seed(3)
    config = RunConfig(embed_dim=16, hidden_dim=20, attention_dim=12, dropout=0.0)
    ours = AttendDecoder(D, V, config)
    with torch.no_grad():
        for parameter in ours.parameters():
            parameter.mul_(3)  # sharper than at the start of training
        ours.embedding.weight.mul_(20)
        ours.project.weight.mul_(4)
        ours.project.bias[[PAD, START]] = -100.0  # never said: no target is one of them
    return ours, PublishedDecoder.from_ours(ours, dropout=0.0)


def captions(images: int = 6, each: int = 5):
    """words (N,T+1), lengths (N,), image_of (N,)."""
    generator = torch.Generator().manual_seed(1)
    n = images * each
    lengths = torch.randint(2, 11, (n,), generator=generator)
    words = torch.randint(4, V, (n, int(lengths.max()) + 1), generator=generator)
    words[:, 0] = START
    words[torch.arange(n), lengths] = END
    words[torch.arange(words.shape[1]) > lengths.unsqueeze(1)] = PAD
    return words, lengths, torch.arange(images).repeat_interleave(each)


def test_logits_and_attention_are_ours_to_1e_5(decoders):
    ours, published = decoders
    words, lengths, image_of = captions()
    regions = torch.randn(6, R, D)
    logits, alphas, order = published(regions[image_of], words, lengths)
    forced = ours.forced(regions, words, lengths, image_of, attend=True)
    place = order.argsort()[forced.caption]
    assert len(forced.caption) == lengths.sum()
    torch.testing.assert_close(logits[place, forced.position], forced.logits, rtol=0, atol=1e-5)
    torch.testing.assert_close(alphas[place, forced.position], forced.attention, rtol=0, atol=1e-6)
    assert forced.logits.std() > 1  # not all alike


def test_a_training_step_moves_the_weights_as_ours_does(decoders):
    ours, published = decoders
    words, lengths, image_of = captions()
    regions = torch.randn(6, R, D)
    forced = ours.forced(regions, words, lengths, image_of)
    targets = words[forced.caption, forced.position + 1]
    loss = torch.nn.functional.cross_entropy(forced.logits, targets) + forced.penalty.mean()
    loss.backward()
    torch.nn.utils.clip_grad_value_(ours.parameters(), 5.0)
    torch.optim.SGD(ours.parameters(), lr=0.1).step()
    value = training_step(published, torch.optim.SGD(published.parameters(), lr=0.1), regions[image_of], words, lengths)
    assert value == pytest.approx(loss.item(), abs=1e-5)
    moved = PublishedDecoder.from_ours(ours, 0.0).state_dict()
    for name, parameter in published.state_dict().items():
        if name != "attention.full_att.bias":
            torch.testing.assert_close(parameter, moved[name], rtol=0, atol=1e-5)


@pytest.mark.parametrize("beam", [1, 3, 5])
def test_beam_search_says_what_our_shrinking_beam_says(decoders, beam):
    ours, published = decoders
    ours.double().eval()
    published.double().eval()
    with torch.no_grad():
        published.fc.bias[END] = ours.project.bias[END] = 0.5  # some captions end early, some late, some never
    regions = torch.randn(40, R, D, dtype=torch.float64)
    decode = dataclasses.replace(Decode(beam), stop="shrink", max_words=12, ban_unk=False)
    found = search(ours, regions, decode)
    said = [published.caption(one.unsqueeze(0), beam, 12) for one in regions]
    for (words, score), hypotheses in zip(said, found, strict=True):
        assert hypotheses[0].words == words
        assert hypotheses[0].log_probability == pytest.approx(score, abs=1e-9)
    assert len({len(words) for words, _ in said}) > 3
