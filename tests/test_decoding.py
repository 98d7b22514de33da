"""Beam search and sampling over a toy decoder: against brute force, Hugging Face's rule, hand calculation; alone and in a batch."""

import itertools
from typing import NamedTuple

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from captioning.bad_input import BadInput
from captioning.config import Decode
from captioning.decoding import search
from captioning.vocabulary import END, PAD, START, UNK

V = 7  # four specials and three words


class ToyState(NamedTuple):
    memory: torch.Tensor  # (B, V, V, V)
    last: torch.Tensor  # (B*K, 2): the last two words

    def select(self, rows):
        return ToyState(self.memory, self.last[rows])

    def keep(self, images, rows):
        return ToyState(self.memory[images], self.last[rows])


class Toy:
    """Log-probabilities of the next word depend on the image and the last two words: `tables` (B,V,V,V)."""

    def start(self, tables):
        return ToyState(tables, torch.full((len(tables), 2), START))

    def step(self, words, state, attend=False):
        last = torch.stack([state.last[:, 1], words], 1)
        K = len(words) // len(state.memory)
        image = torch.arange(len(state.memory)).repeat_interleave(K)
        logits = state.memory[image, last[:, 0], last[:, 1]]
        state = ToyState(state.memory, last)
        # A map that tells which words led here, so that attention must follow its beam.
        maps = torch.nn.functional.one_hot(last[:, 1], V).double()
        return (logits, state, maps) if attend else (logits, state)


def tables(images: int, seed: int, sharpness: float = 3.0) -> torch.Tensor:
    return sharpness * torch.randn(images, V, V, V, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def by_the_table(table: torch.Tensor, said) -> float:
    """Log-probability of a caption, word by word."""
    history, total = [START, START], 0.0
    for token in [*said.words, END] if said.ended else said.words:
        total += float(table[history[-2], history[-1]].log_softmax(-1)[token])
        history.append(token)
    return total


def brute_force(table: torch.Tensor, longest: int, penalty: float) -> list[tuple[float, tuple[int, ...]]]:
    """Every caption of at most `longest` tokens that ends, and every cut one of `longest` words, with its score; best first."""
    words = [w for w in range(V) if w not in (PAD, START, END)]
    found = []
    for n in range(longest + 1):
        for said in itertools.product(words, repeat=n):
            tokens = (*said, END) if n < longest else said
            history, total = [START, START], 0.0
            for token in tokens:
                total += float(table[history[-2], history[-1]].log_softmax(-1)[token])
                history.append(token)
            found.append((total / len(tokens) ** penalty, said))
    return sorted(found, reverse=True)


@pytest.mark.parametrize("stop", ["best", "full"])
@pytest.mark.parametrize("penalty", [0.0, 1.0])
@pytest.mark.parametrize("seed", range(4))
def test_full_width_equals_brute_force(seed, penalty, stop):
    table = tables(2, seed)
    decode = Decode(beam=4**4 + 60, max_words=4, length_penalty=penalty, stop=stop)
    for image, found in enumerate(search(Toy(), table, decode)):
        expected = brute_force(table[image], 4, penalty)
        assert tuple(found[0].words) == expected[0][1]
        assert found[0].score == pytest.approx(expected[0][0], abs=1e-9)
        if stop == "full":
            assert [tuple(h.words) for h in found[:20]] == [said for _, said in expected[:20]]


@settings(max_examples=25, deadline=None)
@given(
    seed=st.integers(0, 10**6), beam=st.integers(1, 6), stop=st.sampled_from(["best", "full", "shrink"]), ngram=st.sampled_from([0, 2, 3])
)
def test_alone_equals_in_a_batch(seed, beam, stop, ngram):
    batch = tables(5, seed, sharpness=1.5)
    decode = Decode(beam=beam, max_words=8, stop=stop, no_repeat_ngram=ngram)
    together = search(Toy(), batch, decode, attend=True)
    for image in range(5):
        alone = search(Toy(), batch[image : image + 1], decode, attend=True)[0]
        assert [h.words for h in together[image]] == [h.words for h in alone]
        for a, b in zip(together[image], alone, strict=True):
            assert a.score == pytest.approx(b.score, abs=1e-12)
            assert torch.equal(a.attention, b.attention)


@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 10**6), beam=st.integers(1, 5), stop=st.sampled_from(["best", "full", "shrink"]))
def test_scores_are_the_captions_own_and_attention_follows_its_beam(seed, beam, stop):
    table = tables(3, seed, sharpness=2.0)
    for image, found in enumerate(search(Toy(), table, Decode(beam=beam, max_words=6, stop=stop), attend=True)):
        assert found == sorted(found, key=lambda h: -h.score)
        for h in found:
            assert h.log_probability == pytest.approx(by_the_table(table[image], h), abs=1e-9)
            # The toy's map at a word shows the word before it.
            assert h.attention.argmax(-1).tolist() == [START, *h.words[:-1]][: len(h.words)]
            assert not {PAD, START, END} & set(h.words)


def test_greedy_takes_the_likeliest_word_each_time():
    table = tables(4, 11)
    for image, (best, *_) in enumerate(search(Toy(), table, Decode(beam=1, max_words=12))):
        history = [START, START]
        while len(history) < 14:
            scores = table[image, history[-2], history[-1]].clone()
            scores[[PAD, START]] = -torch.inf
            history.append(int(scores.argmax()))
            if history[-1] == END:
                break
        assert best.words == [w for w in history[2:] if w != END]
        assert best.ended == (history[-1] == END)


def huggingface_rule(table, beam, longest, penalty):
    """Beam search with early_stopping=True as Hugging Face documents it, one image, plain lists: 2K candidates, ends count in the first K."""
    open_beams, ended = [(0.0, (START, START))], []
    for t in range(1, longest + 1):
        candidates = []
        for total, said in open_beams:
            scores = table[said[-2], said[-1]].log_softmax(-1)
            candidates += [(total + float(scores[w]), (*said, w)) for w in range(V) if w not in (PAD, START)]
        candidates.sort(reverse=True)
        candidates = candidates[: 2 * beam]
        ended += [(s / t**penalty, said[2:-1]) for s, said in candidates[:beam] if said[-1] == END]
        open_beams = [c for c in candidates if c[1][-1] != END][:beam]
        if len(ended) >= beam:
            break
        if t == longest:
            ended += [(s / t**penalty, said[2:]) for s, said in open_beams]
    return max(ended)


@pytest.mark.parametrize("penalty", [0.0, 1.0])
@pytest.mark.parametrize("beam", [1, 3, 5])
def test_stop_full_is_hugging_faces_early_stopping(beam, penalty):
    batch = tables(30, 5)
    lengths = set()
    for image, found in enumerate(search(Toy(), batch, Decode(beam=beam, max_words=7, length_penalty=penalty, stop="full"))):
        score, words = huggingface_rule(batch[image], beam, 7, penalty)
        assert tuple(found[0].words) == words
        assert found[0].score == pytest.approx(score, abs=1e-9)
        lengths.add(len(words))
    assert len(lengths) > 2  # the images end at different times, or this would test little


def published_rule(table, beam, longest):
    """The paper's code: of k candidates those that end leave the beam for good; stop when none is left; the best of the ended wins."""
    open_beams, ended, k = [(0.0, (START, START))], [], beam
    for _ in range(longest):
        candidates = []
        for total, said in open_beams:
            scores = table[said[-2], said[-1]].log_softmax(-1)
            candidates += [(total + float(scores[w]), (*said, w)) for w in range(V) if w not in (PAD, START)]
        candidates = sorted(candidates, reverse=True)[:k]
        ended += [(s, said[2:-1]) for s, said in candidates if said[-1] == END]
        open_beams = [c for c in candidates if c[1][-1] != END]
        k = beam - len(ended)
        if k == 0:
            break
    return max(ended) if ended else max((s, said[2:]) for s, said in open_beams)


@pytest.mark.parametrize("beam", [1, 3, 5])
def test_stop_shrink_is_the_papers_code(beam):
    batch = tables(30, 8)
    for image, found in enumerate(search(Toy(), batch, Decode(beam=beam, max_words=7, stop="shrink"))):
        score, words = published_rule(batch[image], beam, 7)
        assert tuple(found[0].words) == words and found[0].score == pytest.approx(score, abs=1e-9)


def test_there_is_a_caption_when_nothing_ends():
    table = tables(2, 3)
    table[..., END] = -1e9
    for stop in ("best", "full", "shrink"):
        for found in search(Toy(), table, Decode(beam=3, max_words=5, stop=stop), attend=True):
            assert len(found) == 3
            assert all(len(h.words) == 5 and not h.ended and len(h.attention) == 5 for h in found)


@pytest.mark.parametrize("value", [float("nan"), -float("inf")])
@pytest.mark.parametrize("stop", ["best", "full", "shrink"])
def test_scores_that_are_no_numbers_are_refused(value, stop):
    with pytest.raises(BadInput, match="gives no word a probability"):
        search(Toy(), torch.full_like(tables(2, 3), value), Decode(beam=3, max_words=5, stop=stop))


def test_bans():
    table = tables(6, 4)
    table[..., UNK] += 8
    assert any(UNK in found[0].words for found in search(Toy(), table, Decode(beam=3, max_words=6)))
    assert not any(UNK in h.words for found in search(Toy(), table, Decode(beam=3, max_words=6, ban_unk=True)) for h in found)
    table[..., END] -= 50  # long captions over three words must repeat
    for found in search(Toy(), table, Decode(beam=3, max_words=9, no_repeat_ngram=2)):
        for h in found:
            pairs = list(itertools.pairwise(h.words))
            assert len(pairs) == len(set(pairs))


def test_sampling_draws_from_the_distribution_and_is_seeded():
    """First words of 1,500 seeds against the softmax; top_k, top_p and temperature against hand-made tables."""
    table = torch.full((1, V, V, V), -1e9, dtype=torch.float64)
    shares = {4: 0.5, 5: 0.3, 6: 0.15, END: 0.05}
    for word, share in shares.items():
        table[..., word] = torch.tensor(share, dtype=torch.float64).log()

    def first_words(**how):
        found = [search(Toy(), table, Decode(sample=True, max_words=1, seed=s, **how))[0][0] for s in range(1500)]
        return [h.words[0] if h.words else END for h in found]

    said = first_words()
    for word, share in shares.items():
        assert said.count(word) / 1500 == pytest.approx(share, abs=0.04)
    assert said == first_words()
    assert set(first_words(top_k=2)) == {4, 5}
    assert set(first_words(top_p=0.6)) == {4, 5}
    assert set(first_words(top_p=0.5)) == {4}
    cold = first_words(temperature=0.5)  # shares squared: 0.25, 0.09, 0.0225, 0.0025
    assert cold.count(4) / 1500 == pytest.approx(0.25 / 0.365, abs=0.04)


def test_sampling_alone_equals_in_a_batch():
    batch = tables(4, 9, sharpness=1.0)
    decode = Decode(sample=True, max_words=8, seed=3, top_p=0.9)
    together = search(Toy(), batch, decode, attend=True)
    for image in range(4):
        (alone,) = search(Toy(), batch[image : image + 1], decode, attend=True)[0]
        assert alone.words == together[image][0].words
        assert alone.score == pytest.approx(together[image][0].score)
        assert alone.log_probability == pytest.approx(by_the_table(batch[image], alone), abs=1e-9)
        if alone.words:
            assert torch.equal(alone.attention, together[image][0].attention)


@pytest.mark.parametrize("decode", [Decode(), Decode(sample=True)])
@pytest.mark.parametrize("value", [torch.nan, -torch.inf])
def test_a_captioner_without_any_word_is_named(decode, value):
    table = torch.full((2, V, V, V), value, dtype=torch.float64)
    with pytest.raises(BadInput, match="gives no word a probability"):
        search(Toy(), table, decode)


@pytest.mark.parametrize("wrong", [
    {"temperature": 0.0}, {"temperature": float("inf")}, {"temperature": 1e-320}, {"temperature": float("nan")},
    {"length_penalty": 700.0}, {"length_penalty": float("inf")}, {"seed": 2**62},
])  # fmt: skip
def test_a_number_that_leaves_none_is_refused(wrong):
    with pytest.raises(BadInput, match=f"--{next(iter(wrong)).replace('_', '-')} .*: give a number"):
        Decode(**wrong)
