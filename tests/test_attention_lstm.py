"""The hand-written backward pass against autograd through the plain step, in float64; the layout of its rows against sets of beginnings."""

import pytest
import torch

from captioning import attention_lstm
from captioning.attention_lstm import lay_out
from captioning.config import RunConfig
from captioning.vocabulary import PAD, START
from models import AttendDecoder

SIX = ([4, 2, 5, 1, 3, 3], [0, 1, 1, 2, 0, 2])  # lengths of captions, the image of each
SINGLE = ([4, 2, 5], [2, 0, 1])
UNEVEN = ([5] * 9, [0, 0, 0, 0, 1, 2, 3, 4, 5])  # beside image 0 most places would stand empty


def make_captions(lengths: list[int], kinds: int, seed: int = 0) -> torch.Tensor:
    """(N,T+1) words from the start token on, of so many kinds: with two, captions often begin alike."""
    words = torch.randint(4, 4 + kinds, (len(lengths), max(lengths) + 1), generator=torch.Generator().manual_seed(seed))
    words[:, 0] = START
    for row, n in enumerate(lengths):
        words[row, n + 1 :] = PAD
    return words


@pytest.mark.parametrize("part_bytes", [2**21, 1])
@pytest.mark.parametrize("kinds", [2, 16])
@pytest.mark.parametrize("captions", [SIX, SINGLE, UNEVEN], ids=["six", "single", "uneven"])
def test_values_and_gradients_equal_autograd_through_the_steps(captions, kinds, part_bytes, monkeypatch):
    monkeypatch.setattr(attention_lstm, "PART_BYTES", part_bytes)
    torch.manual_seed(0)
    decoder = AttendDecoder(6, 20, RunConfig(embed_dim=5, attention_dim=7, hidden_dim=4, dropout=0.0)).double()
    regions = torch.randn(6, 5, 6, dtype=torch.float64, requires_grad=True)
    words = make_captions(captions[0], kinds)
    lengths, image_of = map(torch.tensor, captions)
    weights = torch.arange(1, len(lengths) + 1)

    plain = torch.zeros((), dtype=torch.float64)
    for row, n in enumerate(lengths.tolist()):
        state, attended = decoder.start(regions[image_of[row]].unsqueeze(0)), 0
        for t in range(n):
            logits, state, attention = decoder.step(words[row : row + 1, t], state, attend=True)
            plain = plain + logits.sin().sum() * weights[row] + (attention.cos() * (t + 1)).sum()
            attended = attended + attention
        plain = plain + (1 - attended).square().mean() * weights[row]

    forced = decoder.forced(regions, words, lengths, image_of, attend=True)
    fast = (
        (forced.logits.sin() * weights[forced.caption].unsqueeze(1)).sum()
        + (forced.attention.cos() * (forced.position + 1).unsqueeze(1)).sum()
        + (forced.penalty * weights).sum()
    )
    assert torch.allclose(plain, fast, atol=1e-12)

    inputs = [regions, *decoder.parameters()]
    for expected, found in zip(torch.autograd.grad(plain, inputs), torch.autograd.grad(fast, inputs), strict=True):
        assert expected.abs().max() > 0
        assert torch.allclose(expected, found, atol=1e-12)


@pytest.mark.parametrize("alike", [True, False])
@pytest.mark.parametrize(("captions", "shares"), [(SIX, True), (SINGLE, True), (UNEVEN, False)], ids=["six", "single", "uneven"])
def test_rows_are_the_different_beginnings_of_an_image(captions, shares, alike):
    lengths, order = torch.tensor(captions[0]).sort(descending=True, stable=True)
    image_of, words = torch.tensor(captions[1])[order], make_captions(captions[0], kinds=2)[order]
    layout = lay_out(words, lengths, image_of, alike)
    asked = [(caption, t) for t in range(int(lengths[0])) for caption in range(len(lengths)) if t < lengths[caption]]
    row_of = dict(zip(asked, layout.row_of.tolist(), strict=True))

    beginnings: dict[int, set] = {}
    for (caption, t), row in row_of.items():
        whose = (int(image_of[caption]),) if shares and alike else (caption,)
        beginnings.setdefault(row, set()).add((*whose, *words[caption, : t + 1].tolist()))
        assert layout.word[row] == words[caption, t]
        state = torch.cat([block.before for block in layout.blocks])[row]
        assert state == (row_of[caption, 0] if t == 0 else len(layout.starts) + row_of[caption, t - 1])
    assert sorted(beginnings) == list(range(len(layout.word)))
    assert all(len(found) == 1 for found in beginnings.values()) and len(set.union(*beginnings.values())) == len(beginnings)

    for t, block in enumerate(layout.blocks):
        here = {row: image_of[caption] for (caption, place), row in row_of.items() if place == t}
        assert sorted(here) == list(range(block.rows.start, block.rows.stop))
        rows = torch.arange(block.rows.start, block.rows.stop).unsqueeze(1)
        images = layout.image[: block.groups].view(-1, 1, 1).expand(-1, block.width, 1)
        assert block.pack(images).flatten().tolist() == [here[row] for row in sorted(here)]
        assert torch.equal(block.pack(block.spread(rows)), rows)
        filled = block.spread_or_zero(torch.ones(len(rows), 1))
        assert filled.sum() == len(rows) and (shares or block.width == 1)
    assert torch.equal(layout.starts, layout.image) or not alike
