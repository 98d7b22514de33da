"""The loop of the attention LSTM over teacher-forced words as one autograd function with its backward pass written out.

Same sums as the plain loop (a test compares values and gradients in float64), less work: captions of an image that begin alike are one row until they
part; its rows look at one copy of its regions and keys; what of the backward pass does not hang on later words is computed for all words at once; each
weight's gradient is one matrix product over all words at the end.
"""

from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor


def choose(attention: Tensor, draws: Tensor | None) -> Tensor:
    """The region (n,) that each row looks at: sampled from attention (n,R) by draws (n,) in 0..1, the likeliest where there are none."""
    if draws is None:
        return attention.argmax(1)
    reached = attention.float().cumsum(1)  # in bf16 the sum of many small shares is far off
    return (reached <= draws.unsqueeze(1) * reached[:, -1:]).sum(1).clamp(max=attention.shape[1] - 1)


def locate_weights(attention: Tensor, chosen: Tensor, draws: Tensor | None) -> Tensor:
    """Weights of the regions (n,R): all on the chosen one (n,), attention itself where the draw is below 0 (the expected region)."""
    located = torch.zeros_like(attention).scatter(1, chosen.unsqueeze(1), 1.0)
    return located if draws is None else torch.where(draws.unsqueeze(1) < 0, attention, located)


class Block(NamedTuple):
    """The rows (n,) of one position, as groups x width places: those of an image side by side, so that they share its keys.

    rows: theirs of all P. before (n,): the state that each goes on from, of the (n0+P) states of which the first n0 stand before the first word.
    slot (n,): place of each; row (groups*width,): which stands at each place, any where none does; empty: those places. The last three are None
    where rows and places are the same.
    """

    rows: slice
    groups: int
    width: int
    before: Tensor
    slot: Tensor | None
    row: Tensor | None
    empty: Tensor | None

    def spread(self, rows: Tensor) -> Tensor:
        """(n,C) -> (groups,width,C); what stands in empty places means nothing."""
        return (rows if self.row is None else rows.index_select(0, self.row)).view(self.groups, self.width, -1)

    def spread_or_zero(self, rows: Tensor) -> Tensor:
        """The same with 0 in empty places."""
        block = self.spread(rows)
        if self.empty is not None:
            block.flatten(0, 1).index_fill_(0, self.empty, 0.0)
        return block

    def pack(self, block: Tensor) -> Tensor:
        """(groups,width,C) -> (n,C)."""
        block = block.flatten(0, 1)
        return block if self.slot is None else block.index_select(0, self.slot)


class Layout(NamedTuple):
    """What the loop computes for N captions of M words: P rows, each a beginning of one or more captions of an image.

    image (G,): of each group of rows. starts (n0,): image of each row at the first position. word (P,): the last one of each beginning.
    row_of (M,): row of each of the captions' words, position by position, the captions in the order given.
    """

    image: Tensor
    starts: Tensor
    word: Tensor
    row_of: Tensor
    blocks: list[Block]


MOST_PLACES = 1.5  # a row; where the captions of an image end so far apart that more would stand empty, each counts as an image of its own


def lay_out(words: Tensor, lengths: Tensor, image_of: Tensor, alike: bool) -> Layout:
    """words (N,T+1), lengths (N,), image_of (N,) of captions, the longest first. alike: those of an image that begin alike are one row until they part.

    Groups stand in the order of their longest caption: those that are left are a prefix at every position.
    """
    device = words.device
    words, lengths, image_of = (t.cpu().numpy() for t in (words, lengths, image_of))
    N, T = len(words), int(lengths[0])
    fed = np.where(np.arange(T) < lengths[:, None], words[:, :T], -1)  # (N, T)
    for owner in (image_of, np.arange(N)):
        _, first, group = np.unique(owner, return_index=True, return_inverse=True)
        group = first.argsort().argsort()[group]  # (N,)
        order = np.lexsort((*fed.T[::-1], group))  # captions that begin alike are neighbours
        new = _begins(fed[order], group[order], alike)  # (N, T)
        position, caption = new.T.nonzero()  # (P,)
        caption = order[caption]
        counts = new.sum(0)
        offsets = counts.cumsum() - counts
        mine = group[caption]
        heads = np.flatnonzero(np.diff(position * N + mine, prepend=-1))
        place = np.arange(len(mine)) - np.repeat(heads, np.diff(heads, append=len(mine)))  # (P,) within its group
        widths = np.maximum.reduceat(place, offsets) + 1
        groups = mine[offsets + counts - 1] + 1
        if (groups * widths).sum() <= MOST_PLACES * len(mine):
            break
    row = np.empty((N, T), dtype=np.int64)
    row[order] = new.cumsum(0) - 1 + offsets  # of all P
    before = np.where(position == 0, row[caption, 0], counts[0] + row[caption, position - 1])
    slot = mine * widths[position] + place
    standing, empty = _places(slot, position, counts, groups * widths)

    def split(array: np.ndarray, sizes: np.ndarray) -> tuple[Tensor, ...]:
        return torch.from_numpy(array).to(device).split(sizes.tolist())

    blocks = [
        Block(slice(end - n, end), g, w, b, *((s, r, e if len(e) else None) if g * w > n else (None, None, None)))
        for n, end, g, w, b, s, r, e in zip(
            counts.tolist(), counts.cumsum().tolist(), groups.tolist(), widths.tolist(), split(before, counts), split(slot, counts),
            split(*standing), split(*empty), strict=True,
        )
    ]  # fmt: skip
    arrays = (image_of[np.sort(first)], image_of[caption[: counts[0]]], words[caption, position], row.T[fed.T >= 0])
    return Layout(*(torch.from_numpy(a).to(device) for a in arrays), blocks)


def _begins(fed: np.ndarray, group: np.ndarray, alike: bool) -> np.ndarray:
    """(N,T): whether a caption's beginning up to that word is another one than that of the caption above it."""
    new = np.ones(fed.shape, dtype=bool)
    if alike:
        new[1:] = np.logical_or.accumulate(fed[1:] != fed[:-1], axis=1) | (group[1:] != group[:-1])[:, None]
    return new & (fed >= 0)


def _places(slot: np.ndarray, position: np.ndarray, counts: np.ndarray, places: np.ndarray):
    """Which row stands at each place, any where none does, and the empty places; both with how many there are at each position."""
    offsets = places.cumsum() - places
    standing = np.full(places.sum(), -1)
    standing[offsets[position] + slot] = np.arange(len(slot)) - np.repeat(counts.cumsum() - counts, counts)
    empty = np.flatnonzero(standing < 0)
    where = np.searchsorted(offsets, empty, side="right") - 1
    return (standing.clip(0), places), (empty - offsets[where], np.bincount(where, minlength=len(places)))


class AttentionLSTM(torch.autograd.Function):
    """apply(table, ids, regions, keys, hidden, cell, from_hidden, bias, from_context, score, blocks, draws, likeliest) -> for P rows hidden states
    (P,H), attention (P,R), chosen regions (P,) or None.

    table (U,4H): different words' part of the LSTM's gates, biases included; ids (P,): the word fed to each row. regions (G,R,D), keys (G,R,A): one a
    group of the layout. hidden and cell (n0,H): before the first word. from_hidden (A+D+4H,H), bias (A+D,): query, context gate and recurrent gates
    from the hidden state. from_context (4H,D). score (A,).
    Hard attention: draws (P,) sample the region that a row sees (`choose`), below 0 it sees the expected one; likeliest: all see their likeliest.
    What is chosen is a constant to the gradient.
    """

    @staticmethod
    def forward(ctx, table, ids, regions, keys, hidden, cell, from_hidden, bias, from_context, score, blocks, draws=None, likeliest=False):
        P, (R, A), D, (start, H) = len(ids), keys.shape[1:], regions.shape[2], hidden.shape
        to_looks, to_gates, context_to_gates = from_hidden[: A + D].T, from_hidden[A + D :].T, from_context.T
        looks = table.new_empty(P, A + D)  # query and context gate
        gates = table.index_select(0, ids)  # (P, 4H): input, forget, candidate, output
        contexts, squashed, attentions = (table.new_empty(P, size) for size in (D, H, R))
        hiddens, cells = torch.cat([hidden, table.new_empty(P, H)]), torch.cat([cell, table.new_empty(P, H)])
        outputs, after_cells = hiddens[start:], cells[start:]
        located = draws is not None or likeliest
        weights, chosen = (torch.empty_like(attentions), torch.empty_like(ids)) if located else (attentions, None)
        parts = [_parts(keys, block) for block in blocks]
        scratch = _scratch(keys, blocks, parts)
        for block, groups in zip(blocks, parts, strict=True):
            rows = block.rows
            before = hiddens.index_select(0, block.before)
            torch.addmm(bias, before, to_looks, out=looks[rows])
            gate = looks[rows, A:].sigmoid_()
            query = block.spread(looks[rows, :A])
            scores = [_add(keys[part], query[part], scratch).relu_() @ score for part in groups]
            torch.softmax(block.pack(_joined(scores)), 1, out=attentions[rows])
            if located:
                drawn = None if draws is None else draws[rows]
                chosen[rows] = choose(attentions[rows], drawn)
                weights[rows] = locate_weights(attentions[rows], chosen[rows], drawn)
            context = block.pack(torch.bmm(block.spread(weights[rows]), regions[: block.groups]))
            contexts[rows] = context
            now = gates[rows].addmm_(before, to_gates).addmm_(gate * context, context_to_gates)
            now[:, : 2 * H].sigmoid_()
            now[:, 2 * H : 3 * H].tanh_()
            now[:, 3 * H :].sigmoid_()
            i, f, g, o = now.chunk(4, 1)
            cell = torch.mul(f, cells.index_select(0, block.before), out=after_cells[rows]).addcmul_(i, g)
            torch.mul(o, torch.tanh(cell, out=squashed[rows]), out=outputs[rows])
        ctx.blocks, ctx.parts, ctx.inner = blocks, parts, (looks, gates, contexts, hiddens, cells, squashed, weights)
        # What sees a chosen region does not hang on the attention.
        ctx.soft = None if not located else torch.zeros(P, 1, device=ids.device) if draws is None else (draws < 0).unsqueeze(1)
        ctx.save_for_backward(table, ids, regions, keys, from_hidden, from_context, score, attentions)
        if located:
            ctx.mark_non_differentiable(chosen)
        return outputs, attentions, chosen

    @staticmethod
    def backward(ctx, d_outputs, d_attentions, _d_chosen):
        table, ids, regions, keys, from_hidden, from_context, score, attentions = ctx.saved_tensors
        looks, gates, contexts, hiddens, cells, squashed, weights = ctx.inner
        A, D, (P, H), blocks = keys.shape[2], regions.shape[2], squashed.shape, ctx.blocks
        start = len(hiddens) - P
        before = torch.cat([block.before for block in blocks])  # (P,)
        queries, gate = looks[:, :A], looks[:, A:]
        i, f, g, o = gates.chunk(4, 1)
        # What does not hang on later words, for all rows at once: each gradient but for the factor that comes from there.
        d_z = gates.new_empty(P, A + D + 4 * H)  # of what comes from the hidden state
        d_queries, d_gate, d_gates = d_z.split([A, D, 4 * H], 1)
        d_i, d_f, d_g, d_o = d_gates.chunk(4, 1)
        _through_sigmoid(g, i, out=d_i)
        _through_sigmoid(cells.index_select(0, before), f, out=d_f)
        _through_tanh(i, g, out=d_g)
        _through_sigmoid(squashed, o, out=d_o)
        _through_sigmoid(contexts, gate, out=d_gate)
        through_cell = _through_tanh(o, squashed, out=torch.empty_like(squashed))
        gated = gate * contexts
        d_ifg = d_gates[:, : 3 * H].unflatten(1, (3, H))
        d_hiddens, d_cells = torch.cat([d_outputs.new_zeros(start, H), d_outputs]), torch.zeros_like(cells)
        d_regions = torch.zeros_like(regions) if ctx.needs_input_grad[2] else None
        # The score's weights come in at the end: sums of the scores' gradients where the relu lets them through, over words and over regions.
        lit_keys, lit_queries = torch.zeros_like(keys), torch.empty_like(queries)
        scratch = _scratch(keys, blocks, ctx.parts)
        for block, groups in zip(reversed(blocks), reversed(ctx.parts), strict=True):
            rows = block.rows
            dh = d_hiddens[start:][rows]
            dc = through_cell[rows].mul_(dh).add_(d_cells[start:][rows])
            d_ifg[rows].mul_(dc.unsqueeze(1))
            d_o[rows].mul_(dh)
            d_cells.index_add_(0, block.before, dc.mul_(f[rows]))
            d_gated = d_gates[rows] @ from_context
            d_gate[rows].mul_(d_gated)
            d_context = block.spread(d_gated.mul_(gate[rows]))
            d_weights = block.pack(torch.bmm(d_context, regions[: block.groups].transpose(1, 2)))
            if d_regions is not None:
                d_regions[: block.groups].baddbmm_(block.spread_or_zero(weights[rows]).transpose(1, 2), d_context)
            if ctx.soft is not None:
                d_weights.mul_(ctx.soft[rows])
            d_scores = torch._softmax_backward_data(d_weights.add_(d_attentions[rows]), attentions[rows], 1, attentions.dtype)
            d_scores = block.spread_or_zero(d_scores).unsqueeze(3)  # (groups, width, R, 1)
            query, lit_query = block.spread(queries[rows]), []
            for part in groups:
                lit = _add(keys[part], query[part], scratch)
                _through_relu(d_scores[part].expand_as(lit), lit, out=lit)
                lit_query.append(lit.sum(2))
                lit_keys[part] += lit.sum(1)
            lit_queries[rows] = block.pack(_joined(lit_query))
            torch.mul(lit_queries[rows], score, out=d_queries[rows])
            d_hiddens.index_add_(0, block.before, d_z[rows] @ from_hidden)
        return (
            torch.ops.aten.embedding_dense_backward(d_gates, ids, len(table), -1, False),
            None,
            d_regions,
            lit_keys * score,
            d_hiddens[:start],
            d_cells[:start],
            d_z.T @ hiddens.index_select(0, before),
            d_z[:, : A + D].sum(0),
            d_gates.T @ gated,
            (keys * lit_keys).sum((0, 1)) + (queries * lit_queries).sum(0),
            None,
            None,
            None,
        )


def _through_sigmoid(gradient: Tensor, value: Tensor, out: Tensor) -> Tensor:
    """gradient * value * (1 - value): a sigmoid's backward pass in one sweep."""
    return torch.ops.aten.sigmoid_backward.grad_input(gradient, value, grad_input=out)


def _through_tanh(gradient: Tensor, value: Tensor, out: Tensor) -> Tensor:
    return torch.ops.aten.tanh_backward.grad_input(gradient, value, grad_input=out)


def _through_relu(gradient: Tensor, value: Tensor, out: Tensor) -> Tensor:
    """value: what went in or what came out, for both are above 0 at the same places."""
    return torch.ops.aten.threshold_backward.grad_input(gradient, value, 0, grad_input=out)


PART_BYTES = 2**21  # of keys + query at once on a CPU: what its caches hold


def score_regions(keys: Tensor, query: Tensor, score: Tensor, activation) -> Tensor:
    """score . activation(keys + query), without gradients: keys (B,R,A), query (B,K,A), score (A,), an activation in place -> (B,K,R)."""
    parts = _slices(keys, len(keys), query.shape[1])
    scratch = keys.new_empty((parts[0].stop - parts[0].start) * query.shape[1] * keys[0].numel())
    return _joined([activation(_add(keys[part], query[part], scratch)) @ score for part in parts])


def _parts(keys: Tensor, block: Block) -> list[slice]:
    """The groups of a block, so many at once."""
    return _slices(keys, block.groups, block.width)


def _slices(keys: Tensor, groups: int, width: int) -> list[slice]:
    most = max(1, PART_BYTES // (width * keys[0].nbytes)) if keys.device.type == "cpu" else groups
    return [slice(first, min(first + most, groups)) for first in range(0, groups, most)]


def _scratch(keys: Tensor, blocks: list[Block], parts: list[list[slice]]) -> Tensor:
    """Room for the largest part of all: the same memory at every word stays in the caches."""
    return keys.new_empty(max((p[0].stop - p[0].start) * b.width for b, p in zip(blocks, parts, strict=True)) * keys[0].numel())


def _add(keys: Tensor, query: Tensor, scratch: Tensor) -> Tensor:
    """keys (b,R,A) + query (b,k,A) -> (b,k,R,A), in scratch."""
    R = keys.shape[1]
    out = scratch[: query.numel() * R].view(*query.shape[:2], R, -1)
    return torch.add(keys.unsqueeze(1), query.unsqueeze(2), out=out)


def _joined(parts: list[Tensor]) -> Tensor:
    return parts[0] if len(parts) == 1 else torch.cat(parts)
