"""Attention over an image's part and over a caption's own words, for decoders that are Transformers.

The image's keys and values are computed once per image and never copied per beam or caption. While captioning, what an image's beams said
lies in one cache an image, where nothing is ever moved: a beam that goes on from another one only changes which entries it may see.
One softmax over image and words where they stand in one sequence (GPT-2 after a prefix), or each for itself (cross-attention).
"""

from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn import functional as F

KeysValues = tuple[Tensor, Tensor]


class Packing:
    """N captions of up to T words, of which M are real: (M,C) rows of real words, caption by caption, and (N,T,C) where attention needs them.

    Every matrix product with a weight runs on the M rows, so padding is only ever computed inside attention.
    """

    def __init__(self, lengths: Tensor):
        """lengths (N,)."""
        self.N, self.T = len(lengths), int(lengths.max())
        real = torch.arange(self.T, device=lengths.device) < lengths.unsqueeze(1)  # (N, T)
        self.place = real.flatten().nonzero().squeeze(1)  # (M,)
        self.full = len(self.place) == self.N * self.T

    @classmethod
    def without_padding(cls, N: int, T: int) -> "Packing":
        packing = cls.__new__(cls)
        packing.N, packing.T, packing.place, packing.full = N, T, None, True
        return packing

    @property
    def caption(self) -> Tensor:
        """(M,) the caption of each word."""
        return self.place // self.T

    @property
    def position(self) -> Tensor:
        """(M,) its place in the caption."""
        return self.place % self.T

    def spread(self, rows: Tensor) -> Tensor:
        """(M,C) -> (N,T,C), 0 at padding."""
        if self.full:
            return rows.view(self.N, self.T, -1)
        # index_copy and index_select: on a CPU with several threads [...]'s backward pass adds in an order of its own each time.
        return rows.new_zeros(self.N * self.T, rows.shape[1]).index_copy(0, self.place, rows).view(self.N, self.T, -1)

    def pack(self, spread: Tensor) -> Tensor:
        """(N,T,C) -> (M,C)."""
        rows = spread.flatten(0, 1)
        return rows if self.full else rows.index_select(0, self.place)


class Cache:
    """One layer's keys and values of the words that an image's beams said so far: S entries an image, in the order they were said.

    Appending writes behind them where nobody else has, so nothing is copied; old caches stay what they were.
    """

    def __init__(self, buffer: Tensor, used: list[int], size: int):
        """buffer (2,B,h,capacity,d): keys and values. used: [entries written], shared by all caches of the buffer."""
        self.buffer, self.used, self.size = buffer, used, size

    @classmethod
    def empty(cls, like: Tensor, heads: int) -> "Cache":
        """like (B,P,W)."""
        B, _, W = like.shape
        return cls(like.new_empty(2, B, heads, 0, W // heads), [0], 0)

    def append(self, keys: Tensor, values: Tensor) -> "Cache":
        """keys, values (B,h,K,d), one for each beam of each image."""
        size = self.size + keys.shape[2]
        if torch.is_grad_enabled():  # autograd forbids to write behind what it has seen
            buffer = torch.cat([self.buffer[..., : self.size, :], torch.stack([keys, values])], 3)
            return Cache(buffer, [size], size)
        if self.used[0] != self.size or size > self.buffer.shape[3]:
            buffer = self.buffer.new_empty(*self.buffer.shape[:3], max(2 * size, 32), self.buffer.shape[4])
            buffer[..., : self.size, :] = self.buffer[..., : self.size, :]
            return Cache(buffer, [self.size], self.size).append(keys, values)
        self.buffer[0, :, :, self.size : size] = keys
        self.buffer[1, :, :, self.size : size] = values
        self.used[0] = size
        return Cache(self.buffer, self.used, size)

    def keep(self, images: Tensor) -> "Cache":
        """Only these images."""
        buffer = self.buffer.new_empty(2, len(images), *self.buffer.shape[2:])
        buffer[..., : self.size, :] = self.buffer[..., : self.size, :].index_select(1, images)
        return Cache(buffer, [self.size], self.size)

    @property
    def keys(self) -> Tensor:
        return self.buffer[0, :, :, : self.size]

    @property
    def values(self) -> Tensor:
        return self.buffer[1, :, :, : self.size]


class Look:
    """The attention of one pass over some words: what is kept of it (`kept`: own keys and values, or the caches; `weights` on the image).

    heads, scale: of the queries' dot products. memory: a layer each, the image's keys and values (B,h,P,d). image_of (N,): the image of each
    caption; None where N/B captions of each image come in turn. caches: a layer each; then N is the images and T their beams. bias: added to
    the scores of own words, as it broadcasts to (N,h,T,S). first_is_image: the first word's keys and values are in the image's part already,
    it only asks.
    """

    def __init__(
        self,
        packing: Packing,
        heads: int,
        scale: float,
        memory: list[KeysValues] | None = None,
        image_of: Tensor | None = None,
        caches: list[Cache] | None = None,
        bias: Tensor | None = None,
        first_is_image: bool = False,
        dropout: Callable[[Tensor], Tensor] = lambda weights: weights,
        attend: bool = False,
    ):
        self.packing, self.heads, self.scale, self.memory, self.image_of = packing, heads, scale, memory, image_of
        self.caches, self.bias, self.first_is_image, self.dropout, self.attend = caches, bias, first_is_image, dropout, attend
        self.kept: list[KeysValues | Cache] = []
        self.weights: list[Tensor] = []  # a layer each (N, h, T, P)

    def words(self, query: Tensor, key: Tensor, value: Tensor) -> Tensor:
        """Own words only; query, key, value and what comes back are (M,W)."""
        return self._look(self._split(query), self._own(key, value), None)

    def image(self, query: Tensor, layer: int) -> Tensor:
        """The image only: cross-attention."""
        return self._look(self._split(query), None, self.memory[layer])

    def both(self, query: Tensor, key: Tensor, value: Tensor, layer: int) -> Tensor:
        """The image's part and own words behind it, in one softmax."""
        return self._look(self._split(query), self._own(key, value), self.memory[layer])

    def _split(self, rows: Tensor) -> Tensor:
        return split_heads(self.packing.spread(rows), self.heads)

    def _own(self, key: Tensor, value: Tensor) -> KeysValues | None:
        if self.caches is not None:
            cache = self.caches[len(self.kept)]
            if self.first_is_image:
                self.kept.append(cache)
                return None
            cache = cache.append(self._split(key), self._split(value))
            self.kept.append(cache)
            return cache.keys, cache.values
        own = self._split(key), self._split(value)
        if self.first_is_image:
            own = own[0][:, :, 1:], own[1][:, :, 1:]
        self.kept.append(own)
        return own

    def _look(self, query: Tensor, own: KeysValues | None, image: KeysValues | None) -> Tensor:
        """query (N,h,T,d) -> (M,h*d)."""
        query = query * self.scale
        scores = []
        if image is not None:
            scores.append(self._of_image(query, image[0].transpose(2, 3)))  # (N, h, T, P)
        if own is not None:
            to_words = query @ own[0].transpose(2, 3)  # (N, h, T, S)
            scores.append(to_words if self.bias is None else to_words + self.bias)
        weights = (scores[0] if len(scores) == 1 else torch.cat(scores, -1)).softmax(-1)
        P = 0 if image is None else image[0].shape[2]
        if self.attend and P:
            self.weights.append(weights[..., :P])
        weights = self.dropout(weights.to(query.dtype))
        found = 0
        if image is not None:
            found = self._of_image(weights[..., :P], image[1])
        if own is not None:
            found = found + weights[..., P:] @ own[1]
        return self.packing.pack(found.transpose(1, 2).flatten(2))

    def _of_image(self, rows: Tensor, image: Tensor) -> Tensor:
        """rows (N,h,T,a) @ each one's image (B,h,a,b) -> (N,h,T,b). The captions of an image are stacked into one product."""
        N, h, T, a = rows.shape
        if self.image_of is not None:
            return rows @ image.index_select(0, self.image_of)
        B = len(image)
        if B == N:
            return rows @ image
        stacked = rows.view(B, N // B, h, T, a).transpose(1, 2).reshape(B, h, N // B * T, a)
        return (stacked @ image).view(B, h, N // B, T, -1).transpose(1, 2).flatten(0, 1)


def split_heads(x: Tensor, heads: int) -> Tensor:
    """(n,T,W) -> (n,h,T,d)."""
    return x.unflatten(2, (heads, -1)).transpose(1, 2)


def causal_bias(T: int, device) -> Tensor:
    """(T,T): 0 where a word may look, -inf at what comes after it."""
    return torch.full((T, T), -torch.inf, device=device).triu(1)


def one_map(weights: list[Tensor], regions: int) -> Tensor:
    """What the layers' heads looked at, as one map a word: weights, a layer each (N,h,T,P) -> (N,T,R), their mean, as shares of the R regions.

    Tokens behind the regions ([SEP]) are left out.
    """
    mean = torch.stack([w[..., :regions].mean(1) for w in weights]).mean(0)  # (N, T, R)
    return mean / mean.sum(-1, keepdim=True).clamp_min(1e-20)


def dropout_of(probability: float, training: bool) -> Callable[[Tensor], Tensor]:
    return lambda weights: F.dropout(weights, probability, training)
