"""Training on the model's own words: how many of the reference's words are still fed back, and what stands in place of the others.

A model's own word is what it would say at that place when captioning (dropout off, hard attention's `locations`), after the words fed so far.
No gradient flows through the choice of a word (arXiv:1506.03099 sec. 2.4), so the words are chosen first and then fed to one forced pass.
"""

import math

import torch
from torch import Tensor

from captioning.config import RunConfig
from captioning.vocabulary import PAD, START

STEEPNESS = 10.0  # of the inverse sigmoid: 99 % of the fall lie between the first and the last step


def forced_share(config: RunConfig, progress: float) -> float:
    """Share of the reference's words fed back at `progress`, 0 at the start of training and 1 at its end.

    The falling schedules are arXiv:1506.03099's (linear, inverse sigmoid, exponential), each from 1 to `forced_at_end`, the last two within 0.01.
    """
    end = config.forced_at_end
    if config.teacher_forcing in ("always", "never"):
        return float(config.teacher_forcing == "always")
    if config.teacher_forcing == "linear":
        return 1 - (1 - end) * progress
    if config.teacher_forcing == "exponential":
        return max(end, 1e-3) ** progress
    return end + (1 - end) / (1 + math.exp(STEEPNESS * (progress - 0.5)))


@torch.no_grad()
def mix_own_words(decoder, regions: Tensor, words: Tensor, lengths: Tensor, image_of: Tensor, share: float, rule: str) -> Tensor:
    """words (N,T+1) with each word behind the start token replaced, with probability 1 - share, by the decoder's own.

    regions (B,R,D), lengths (N,) words to predict, image_of (N,) as in a decoder's `forced`. rule: "argmax" or "sample". Any decoder with
    `start` and `step` will do.
    """
    training = decoder.training
    decoder.eval()
    try:
        return _mix(decoder, regions, words, lengths, image_of, share, rule)
    finally:  # also when memory runs out: training tries again
        decoder.train(training)
        torch.clear_autocast_cache()  # the fast path of torch's Transformer encoder leaves weights there that know no gradient


def _mix(decoder, regions: Tensor, words: Tensor, lengths: Tensor, image_of: Tensor, share: float, rule: str) -> Tensor:
    lengths, order = lengths.sort(descending=True, stable=True)
    fed = words[order]
    rows = image_of[order]
    state = decoder.start(regions).keep(rows, rows)
    running = len(rows)
    steps = torch.arange(1, words.shape[1] - 1, device=words.device)  # the last word is only predicted
    for t, now in enumerate((lengths.unsqueeze(0) > steps.unsqueeze(1)).sum(1).tolist()):
        if not now:
            break
        if now < running:  # captions that have ended leave
            kept = torch.arange(now, device=words.device)
            state, running = state.keep(kept, kept), now
        logits, state = decoder.step(fed[:now, t], state)
        logits[:, [PAD, START]] = -torch.inf
        own = logits.argmax(-1) if rule == "argmax" else torch.multinomial(logits.float().softmax(-1), 1).squeeze(1)
        if share > 0:
            own = torch.where(torch.rand(now, device=words.device) < share, fed[:now, t + 1], own)
        fed[:now, t + 1] = own
    return fed[order.argsort()]
