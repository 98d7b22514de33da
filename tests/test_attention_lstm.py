"""The hand-written backward pass against autograd through the plain step, in float64."""

import torch

from captioning.config import RunConfig
from models import AttendDecoder


def test_values_and_gradients_equal_autograd_through_the_steps():
    torch.manual_seed(0)
    decoder = AttendDecoder(6, 20, RunConfig(embed_dim=5, attention_dim=7, hidden_dim=4, dropout=0.0)).double()
    regions = torch.randn(3, 5, 6, dtype=torch.float64, requires_grad=True)
    lengths = torch.tensor([4, 2, 5, 1, 3, 3])
    words = torch.randint(4, 20, (6, 6))
    image_of = torch.tensor([0, 1, 1, 2, 0, 2])
    weights = torch.arange(1, 7)

    plain = torch.zeros((), dtype=torch.float64)
    for row, n in enumerate(lengths.tolist()):
        state, attended = decoder.start(regions[image_of[row]].unsqueeze(0)), 0
        for t in range(n):
            logits, state, attention = decoder.step(words[row : row + 1, t], state, attend=True)
            plain = plain + logits.sin().sum() + (attention.cos() * (t + 1)).sum()
            attended = attended + attention
        plain = plain + (1 - attended).square().mean() * weights[row]

    forced = decoder.forced(regions, words, lengths, image_of, attend=True)
    fast = (
        forced.logits.sin().sum() + (forced.attention.cos() * (forced.position + 1).unsqueeze(1)).sum() + (forced.penalty * weights).sum()
    )
    assert torch.allclose(plain, fast, atol=1e-12)

    inputs = [regions, *decoder.parameters()]
    for expected, found in zip(torch.autograd.grad(plain, inputs), torch.autograd.grad(fast, inputs), strict=True):
        assert expected.abs().max() > 0
        assert torch.allclose(expected, found, atol=1e-12)
