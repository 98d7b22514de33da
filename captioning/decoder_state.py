"""What every decoder shares: the state between two words, what teacher forcing gives, and the base class that says which methods there are."""

from abc import ABC, abstractmethod
from typing import NamedTuple

import torch
from torch import Tensor, nn

from captioning.vocabulary import PAD


class State(NamedTuple):
    """A decoder between two words. memory: per image (B, ...), never reordered nor copied. hidden: per row (B*K, ...), K beams an image."""

    memory: tuple[Tensor, ...]
    hidden: tuple[Tensor, ...]

    def select(self, rows: Tensor) -> "State":
        """Rows of the beam, by index, within their image."""
        return State(self.memory, tuple(h.index_select(0, rows) for h in self.hidden))

    def keep(self, images: Tensor, rows: Tensor) -> "State":
        """Only these images, and the rows that are theirs."""
        return State(tuple(m.index_select(0, images) for m in self.memory), tuple(h.index_select(0, rows) for h in self.hidden))


class Forced(NamedTuple):
    """Teacher-forced predictions of the M real words (end tokens included) of N captions; padding is never computed.

    logits (M,V), caption (M,) and position (M,) of each word, penalty (N,): the mean over regions of (1 - sum of attention over words)^2, 0
    for systems without that term, attention (M,R) when asked for. The words come in an order of the decoder's own. Hard attention in training
    has besides log_locations (N,): the log-probability of a caption's sampled locations (0 where the expected region was used), and entropy
    (N,): the attention's entropy summed over its words, in nats.
    """

    logits: Tensor
    caption: Tensor
    position: Tensor
    penalty: Tensor
    attention: Tensor | None
    log_locations: Tensor | None = None
    entropy: Tensor | None = None


class Decoder(nn.Module, ABC):
    """`start` and `step` for captioning, `forced` for training; `forward`, all words at once, equals stepping.

    Attention, when asked for, is (rows,R); with attend="heads", where there are any, every layer's and head's (rows,layers,heads,R).
    """

    has_places = True
    """Attention over places of the image. Without, a map is made from gradients (captioning.saliency)."""
    longest: int | None = None
    """The most words that `step` can say; None: any number."""

    @abstractmethod
    def start(self, regions: Tensor):
        """regions (B,R,D) -> the state before the first word, one row an image, with `select` and `keep` as State has them."""

    @abstractmethod
    def step(self, words: Tensor, state, attend: bool | str = False):
        """words (B*K,), K rows of each image in turn -> logits (B*K,V), state; with attend also the attention."""

    @abstractmethod
    def forced(self, regions: Tensor, words: Tensor, lengths: Tensor, image_of: Tensor | None = None, attend: bool = False) -> Forced:
        """Predict each caption's words from its own earlier words. words (N,T+1), lengths (N,); image_of (N,), None: N/B captions of each in turn."""

    def forward(self, regions: Tensor, words: Tensor, attend: bool = False):
        """regions (B,R,D), words (N,T), N/B captions of each image in turn -> logits (N,T,V); with attend also attention (N,T,R).

        words holds no target: its last column is fed in as well. At padding both are 0.
        """
        N, T = words.shape
        following = torch.cat([words, words.new_full((N, 1), PAD)], 1)
        forced = self.forced(regions, following, (words != PAD).sum(1), attend=attend)
        logits = forced.logits.new_zeros(N, T, forced.logits.shape[-1]).index_put((forced.caption, forced.position), forced.logits)
        if not attend:
            return logits
        attention = forced.attention.new_zeros(N, T, forced.attention.shape[-1])
        return logits, attention.index_put((forced.caption, forced.position), forced.attention)


def captions_in_turn(images: int, captions: int, device) -> Tensor:
    """image_of (N,) where N/B captions of each image come in turn."""
    return torch.arange(images, device=device).repeat_interleave(captions // images)
