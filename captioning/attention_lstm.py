"""The loop of the attention LSTM over teacher-forced words as one autograd function with its backward pass written out.

Same sums as the plain loop (a test compares values and gradients in float64), less work: autograd would add up a gradient of every weight
and of all keys at each word; here each weight's gradient is one matrix product over all words at the end, and the keys' is added in place.
"""

import torch
from torch import Tensor


def choose(attention: Tensor, draws: Tensor | None) -> Tensor:
    """The region (n,) that each row looks at: sampled from attention (n,R) by draws (n,) in 0..1, the likeliest where there are none."""
    if draws is None:
        return attention.argmax(1)
    reached = attention.float().cumsum(1)  # in bf16 the sum of many small shares is far off
    return (reached <= draws.unsqueeze(1) * reached[:, -1:]).sum(1).clamp(max=attention.shape[1] - 1)


def locate_weights(attention: Tensor, draws: Tensor | None) -> Tensor:
    """Weights of the regions (n,R): all on the chosen one, attention itself where the draw is below 0 (the expected region)."""
    chosen = torch.zeros_like(attention).scatter(1, choose(attention.detach(), draws).unsqueeze(1), 1.0)
    return chosen if draws is None else torch.where(draws.unsqueeze(1) < 0, attention, chosen)


LIT_BYTES = 2**29  # what the forward pass may keep for the backward pass; above it is computed again


class AttentionLSTM(torch.autograd.Function):
    """apply(words, regions, keys, hidden, cell, from_hidden, bias, from_context, score, running, draws, likeliest) -> hidden states (M,H),
    attention (M,R), chosen regions (M,) or None.

    words (M,4H): each word's part of the LSTM's gates, biases included, position by position, the rows that still run first.
    regions (N,R,D), keys (N,R,A), hidden and cell (N,H): one row a caption, longest first. from_hidden (A+D+4H,H), bias (A+D,): query, context
    gate and recurrent gates from the hidden state. from_context (4H,D). score (A,). running: captions that still run at each position.
    Hard attention: draws (M,) sample the region that a word sees (`choose`), below 0 it sees the expected one; likeliest: all see their
    likeliest. What is chosen is a constant to the gradient.
    """

    @staticmethod
    def forward(ctx, words, regions, keys, hidden, cell, from_hidden, bias, from_context, score, running, draws=None, likeliest=False):
        A, D, H = keys.shape[2], regions.shape[2], hidden.shape[1]
        first_hidden, kept, outputs, attentions, chosen = hidden, [], [], [], []
        keeps_lit = len(words) * keys.shape[1] * A * keys.element_size() <= LIT_BYTES
        place = 0
        for n in running:
            before_hidden, before_cell = hidden[:n], cell[:n]
            z = before_hidden @ from_hidden.T
            query, gate = z[:, :A] + bias[:A], torch.sigmoid(z[:, A : A + D] + bias[A:])
            lit = _lit(keys[:n], query)
            attention = torch.softmax(lit @ score, 1)
            weights, soft = attention, None
            if draws is not None or likeliest:
                drawn = None if draws is None else draws[place : place + n]
                chosen.append(choose(attention, drawn))
                weights = locate_weights(attention, drawn)
                soft = torch.zeros(n, 1, device=attention.device) if drawn is None else (drawn < 0).unsqueeze(1)
            context = torch.bmm(weights.unsqueeze(1), regions[:n]).squeeze(1)
            gates = z[:, A + D :] + words[place : place + n] + (gate * context) @ from_context.T
            i, f, g, o = gates.chunk(4, 1)
            i, f = torch.sigmoid(gates[:, : 2 * H]).chunk(2, 1)
            g, o = torch.tanh(g), torch.sigmoid(o)
            cell = f * before_cell + i * g
            squashed = torch.tanh(cell)
            hidden = o * squashed
            kept.append((query, lit if keeps_lit else None, gate, attention, weights, soft, context, i, f, g, o, before_cell, squashed))
            outputs.append(hidden)
            attentions.append(attention)
            place += n
        outputs, attentions = torch.cat(outputs), torch.cat(attentions)
        ctx.running, ctx.kept, ctx.sizes = running, kept, (A, D, H)
        ctx.save_for_backward(regions, keys, first_hidden, from_hidden, from_context, score, outputs)
        if not chosen:
            return outputs, attentions, None
        chosen = torch.cat(chosen)
        ctx.mark_non_differentiable(chosen)
        return outputs, attentions, chosen

    @staticmethod
    def backward(ctx, d_outputs, d_attentions, _d_chosen):
        regions, keys, first_hidden, from_hidden, from_context, score, outputs = ctx.saved_tensors
        A, D, H = ctx.sizes
        running, M = ctx.running, len(outputs)
        need_regions = ctx.needs_input_grad[1]
        d_keys = torch.zeros_like(keys)
        d_regions = torch.zeros_like(regions) if need_regions else None
        d_z = outputs.new_empty(M, A + D + 4 * H)  # gradients of what comes from the hidden state, word by word
        gated = outputs.new_empty(M, D)
        d_score = torch.zeros_like(score)
        d_hidden = torch.zeros_like(first_hidden)
        d_cell = torch.zeros_like(first_hidden)
        place = M
        for n, (query, lit, gate, attention, weights, soft, context, i, f, g, o, before_cell, squashed) in zip(
            reversed(running), reversed(ctx.kept), strict=True
        ):
            place -= n
            rows = slice(place, place + n)
            dh = d_hidden[:n] + d_outputs[rows]
            dc = d_cell[:n] + dh * o * (1 - squashed * squashed)
            d_cell[:n] = dc * f
            d_gates = d_z[rows, A + D :]
            d_gates[:, :H] = dc * g * i * (1 - i)
            d_gates[:, H : 2 * H] = dc * before_cell * f * (1 - f)
            d_gates[:, 2 * H : 3 * H] = dc * i * (1 - g * g)
            d_gates[:, 3 * H :] = dh * squashed * o * (1 - o)
            torch.mul(gate, context, out=gated[rows])
            d_gated = d_gates @ from_context
            d_z[rows, A : A + D] = d_gated * context * gate * (1 - gate)
            d_context = d_gated * gate
            d_weights = torch.bmm(regions[:n], d_context.unsqueeze(2)).squeeze(2)
            d_attention = d_attentions[rows] + (d_weights if soft is None else d_weights * soft)
            if need_regions:
                d_regions[:n] += weights.unsqueeze(2) * d_context.unsqueeze(1)
            d_scores = attention * (d_attention - (attention * d_attention).sum(1, keepdim=True))  # (n, R)
            lit = _lit(keys[:n], query) if lit is None else lit
            d_score += lit.flatten(0, 1).T @ d_scores.flatten()
            d_lit = torch.ops.aten.threshold_backward(d_scores.unsqueeze(2) * score, lit, 0)  # relu's own backward pass
            d_keys[:n] += d_lit
            d_z[rows, :A] = d_lit.sum(1)
            d_hidden[:n] = d_z[rows] @ from_hidden
        # The hidden state before a word: the caption's own last one.
        starts = [0]
        for n in running[:-1]:
            starts.append(starts[-1] + n)
        before = torch.cat([first_hidden[: running[0]]] + [outputs[s : s + n] for s, n in zip(starts, running[1:], strict=False)])
        d_from_hidden = d_z.T @ before
        d_words = d_z[:, A + D :]
        d_from_context = d_words.T @ gated
        return (
            d_words,
            d_regions,
            d_keys,
            d_hidden,
            d_cell,
            d_from_hidden,
            d_z[:, : A + D].sum(0),
            d_from_context,
            d_score,
            None,
            None,
            None,
        )


def _lit(keys: Tensor, query: Tensor) -> Tensor:
    """relu(keys + query): (n,R,A) from (n,R,A) and (n,A)."""
    return torch.add(keys, query.unsqueeze(1)).relu_()
