"""Training on the model's own words: the schedules, and what is fed in place of the reference."""

import pytest
import torch

from captioning.config import Decode, RunConfig
from captioning.decoding import search
from captioning.own_words import forced_share, mix_own_words
from captioning.vocabulary import END, PAD, START
from models import AttendDecoder

CONFIG = RunConfig(embed_dim=6, attention_dim=6, hidden_dim=8, dropout=0.5)


@pytest.mark.parametrize("end", [0.0, 0.25, 0.5, 1.0])
@pytest.mark.parametrize("rule", ["linear", "inverse-sigmoid", "exponential"])
def test_a_schedule_falls_from_one_to_its_end(rule, end):
    config = RunConfig(teacher_forcing=rule, forced_at_end=end)
    shares = [forced_share(config, k / 20) for k in range(21)]
    assert shares[0] == pytest.approx(1, abs=0.01) and shares[-1] == pytest.approx(end, abs=0.01)
    assert all(a >= b for a, b in zip(shares, shares[1:], strict=False))


def test_always_never_and_the_middle():
    assert [forced_share(RunConfig(teacher_forcing=rule), 0.3) for rule in ("always", "never")] == [1.0, 0.0]
    assert forced_share(RunConfig(teacher_forcing="linear", forced_at_end=0.2), 0.5) == pytest.approx(0.6)
    assert forced_share(RunConfig(teacher_forcing="inverse-sigmoid", forced_at_end=0.2), 0.5) == pytest.approx(0.6)
    assert forced_share(RunConfig(teacher_forcing="exponential", forced_at_end=0.25), 0.5) == pytest.approx(0.5)


def made(rows: int = 6, longest: int = 7):
    torch.manual_seed(0)
    decoder = AttendDecoder(8, 30, CONFIG)
    torch.nn.init.normal_(decoder.project.weight)
    words = torch.randint(4, 30, (rows, longest + 1))
    words[:, 0] = START
    lengths = torch.tensor([longest, 2, 5, 1, longest - 1, 3])[:rows]
    for row, n in enumerate(lengths.tolist()):
        words[row, n], words[row, n + 1 :] = END, PAD
    return decoder, torch.randn(3, 5, 8), words, lengths, torch.tensor([2, 0, 1, 1, 0, 2])[:rows]


def test_never_feeds_what_greedy_search_says():
    """Until the model's own end; dropout is on in training and plays no part in choosing words."""
    decoder, regions, words, lengths, image_of = made()
    decoder.train()
    fed = mix_own_words(decoder, regions, words, lengths, image_of, 0.0, "argmax")
    assert decoder.training and torch.equal(fed[:, 0], words[:, 0])
    greedy = [found[0].words for found in search(decoder.eval(), regions, Decode(beam=1, max_words=9))]
    compared = 0
    for row, n in enumerate(lengths.tolist()):
        said = greedy[image_of[row]][: n - 1]
        assert fed[row, 1 : len(said) + 1].tolist() == said
        compared += len(said)
    assert compared > 8


def test_a_decoder_that_ran_out_of_memory_goes_on_training(monkeypatch):
    decoder, regions, words, lengths, image_of = made()
    decoder.train()

    def fail(*_):
        raise torch.OutOfMemoryError

    monkeypatch.setattr(decoder, "step", fail)
    with pytest.raises(torch.OutOfMemoryError):
        mix_own_words(decoder, regions, words, lengths, image_of, 0.0, "argmax")
    assert decoder.training


def test_with_the_whole_share_nothing_changes_and_targets_never_do():
    decoder, regions, words, lengths, image_of = made()
    before = words.clone()
    assert torch.equal(mix_own_words(decoder, regions, words, lengths, image_of, 1.0, "argmax"), before)
    mix_own_words(decoder, regions, words, lengths, image_of, 0.0, "argmax")
    assert torch.equal(words, before)


def test_a_share_between_is_drawn_word_by_word():
    decoder, regions, words, lengths, image_of = made()
    changed = possible = 0
    for _ in range(60):
        fed = mix_own_words(decoder, regions, words, lengths, image_of, 0.7, "argmax")
        for row, n in enumerate(lengths.tolist()):
            changed += int((fed[row, 1:n] != words[row, 1:n]).sum())
            possible += n - 1
    assert 0.2 < changed / possible < 0.4


def test_sampled_words_follow_the_distribution_and_are_never_special():
    decoder, regions, words, lengths, image_of = made()
    with torch.no_grad():
        decoder.project.bias[[PAD, START]] += 50  # what the model would like to say most
    said = torch.cat([mix_own_words(decoder, regions, words, lengths, image_of, 0.0, "sample")[:1, 1] for _ in range(300)])
    assert not {PAD, START} & set(said.tolist())
    decoder.eval()
    logits, _ = decoder.step(torch.tensor([START] * 3), decoder.start(regions))
    logits[:, [PAD, START]] = -torch.inf
    shares = logits[image_of[0]].softmax(-1)
    likeliest = int(shares.argmax())
    assert float((said == likeliest).float().mean()) == pytest.approx(float(shares[likeliest].detach()), abs=0.12)
