"""Captions from a decoder: one batched beam search (greedy is width 1) and sampling, over nothing but `start` and `step`.

A caption's score is its log-probability in nats, end token included, divided by its number of tokens ** length_penalty.
At most `max_words` tokens are said, the end token counted; a caption that did not end by then is cut there and competes as it is
(Hugging Face `generate` does the same), so there is a caption also when nothing ends.
"""

import contextlib
from typing import NamedTuple

import torch
from torch import Tensor

from captioning.bad_input import BadInput
from captioning.config import Decode
from captioning.vocabulary import END, PAD, START, UNK

NO_WORD = "the captioner gives no word a probability: its weights are damaged or its training failed; train it again"


class Hypothesis(NamedTuple):
    """One caption. words: ids without start and end. score: what it was ranked by. log_probability: nats, end token included.

    attention (T,R): one row for each word, None unless asked for.
    """

    words: list[int]
    score: float
    log_probability: float
    ended: bool
    attention: Tensor | None = None


@contextlib.contextmanager
def seeded(seed: int, device: torch.device):
    """Random draws in here follow the seed, and leave torch's random state as it was. Only hard attention with sampled locations draws any."""
    with torch.random.fork_rng([device] if device.type == "cuda" else []):
        torch.manual_seed(seed)
        yield


@torch.inference_mode()
def search(decoder, regions: Tensor, decode: Decode, attend: bool = False) -> list[list[Hypothesis]]:
    """regions (B,R,D) -> for each image its captions, best first: up to `beam` of them, one if sampled.

    decoder: anything with `start(regions) -> state` and `step(words, state[, attend]) -> logits, state[, attention]`, whose state has
    `select(rows)` and `keep(images, rows)`. The logits that a step gives are the search's own: they are written into.
    """
    if decode.sample:
        return [[h] for h in _sample(decoder, regions, decode, attend)]
    return _beam_search(decoder, regions, decode, attend)


def _beam_search(decoder, regions: Tensor, decode: Decode, attend: bool) -> list[list[Hypothesis]]:
    B, K, device = len(regions), decode.beam, regions.device
    pools = [_Pool(decode) for _ in range(B)]
    alive = list(range(B))  # the images still searched, by their place in `pools`
    state = decoder.start(regions)
    words = torch.full((B,), START, device=device)
    said = torch.empty(B, 0, dtype=torch.long, device=device)  # (rows, t)
    total = torch.zeros(B, 1, dtype=torch.float64, device=device)  # (images, beams): log-probability so far
    seen = None  # (rows, t, R) attention so far

    for t in range(1, decode.max_words + 1):
        logits, state, *attention = decoder.step(words, state, attend=True) if attend else decoder.step(words, state)
        # Twice as many as needed, of each row and then of each image: even if K of them end, K go on.
        scores, candidates = _likeliest(logits, said, decode, 2 * K)  # (rows, c)
        if attend:
            now = attention[0].unsqueeze(1)
            seen = now if seen is None else torch.cat([seen, now], 1)
        k, c = total.shape[1], scores.shape[1]
        joined = (total.unsqueeze(-1) + scores.view(-1, k, c)).flatten(1)  # (images, k*c)
        best, index = joined.topk(min(2 * K, joined.shape[1]), dim=1)
        parent, word = index // c, candidates.view(-1, k * c).gather(1, index)
        offset = torch.arange(len(alive), device=device).unsqueeze(1) * k
        rows, next_words, next_total = _sort_out(pools, alive, best, parent + offset, word, said, seen, t, decode)

        going = [i for i, image in enumerate(alive) if not pools[image].done]
        if t == decode.max_words:  # also where the last end came just now: what is open may be better
            for i, image in enumerate(alive):
                pools[image].cut(next_total[i], rows[i], next_words[i], said, seen)
        if not going or t == decode.max_words:
            break
        if len(going) < len(alive):
            keep = torch.tensor(going, device=device)
            rows_kept = (keep.unsqueeze(1) * k + torch.arange(k, device=device)).flatten()
            state = state.keep(keep, rows_kept)
            said, seen = said[rows_kept], seen[rows_kept] if attend else None
            rows = rows[keep] - (keep - torch.arange(len(going), device=device)).unsqueeze(1) * k
            next_words, next_total = next_words[keep], next_total[keep]
            alive = [alive[i] for i in going]
        chosen = rows.flatten()
        state = state.select(chosen)
        words, total = next_words.flatten(), next_total
        said = torch.cat([said[chosen], words.unsqueeze(1)], 1)
        seen = seen[chosen] if attend else None
    return [pool.ranked() for pool in pools]


def _sort_out(pools, alive, best, rows, word, said, seen, t, decode: Decode):
    """Put candidates that end into their image's pool; return row, word and log-probability of the K that go on (images, K).

    A place that nobody takes (a beam that shrank, fewer candidates than K) holds log-probability -inf.
    """
    K = decode.beam
    ends = word == END
    live = best > -torch.inf
    rank = torch.arange(best.shape[1], device=best.device)
    if decode.stop == "shrink":
        width = torch.tensor([pools[image].places for image in alive], device=best.device).unsqueeze(1)
        live = live & (rank < width)
        ending, going = live & ends, live & ~ends
    else:
        ending, going = live & ends & (rank < K), live & ~ends
    ended = ending.nonzero()
    if len(ended):
        i, j = ended.unbind(1)
        row = rows[i, j]
        maps = [None] * len(ended) if seen is None else seen[row]
        # Each `.tolist()` waits for the device once, whatever the number of captions.
        for image, total, words, attention in zip(i.tolist(), best[i, j].tolist(), said[row].tolist(), maps, strict=True):
            pools[alive[image]].add(total, t, words, attention)
    # The K best that go on, in order of rank.
    order = torch.where(going, rank, best.shape[1] + rank).argsort(1)[:, :K]
    next_total = torch.where(going, best, -torch.inf).gather(1, order)
    next_rows, next_words = rows.gather(1, order), word.gather(1, order)
    missing = K - order.shape[1]
    if missing > 0:
        pad = (0, missing)
        next_total = torch.nn.functional.pad(next_total, pad, value=-torch.inf)
        next_words = torch.nn.functional.pad(next_words, pad, value=PAD)
        next_rows = torch.cat([next_rows, next_rows[:, :1].expand(-1, missing)], 1)
    for image, best_open in zip(alive, next_total[:, 0].tolist(), strict=True):
        pools[image].settle(best_open)
    return next_rows, next_words, next_total


class _Pool:
    """The ended captions of one image, and when its search is done."""

    def __init__(self, decode: Decode):
        self.decode = decode
        self.hypotheses: list[Hypothesis] = []
        self.ended = 0
        self.done = False

    @property
    def places(self) -> int:
        return self.decode.beam - self.ended

    def add(self, log_probability: float, tokens: int, words: list[int], attention: Tensor | None, ended: bool = True) -> None:
        self.ended += ended
        score = log_probability / tokens**self.decode.length_penalty
        kept = None if attention is None else attention[: tokens - ended].clone()
        self.hypotheses.append(Hypothesis(words, score, log_probability, ended, kept))

    def settle(self, best_open: float) -> None:
        """best_open: log-probability of the likeliest caption that goes on."""
        if best_open == -torch.inf:
            self.done = True
        elif self.decode.stop == "best" and self.decode.beam > 1:  # width 1 is greedy: the first end is the end
            # Log-probabilities only fall; the longest caption is divided by most. Nothing open can pass this bound.
            bound = best_open / self.decode.max_words**self.decode.length_penalty
            self.done = bool(self.hypotheses) and max(h.score for h in self.hypotheses) >= bound
        else:
            self.done = self.ended >= self.decode.beam

    def cut(self, totals: Tensor, rows: Tensor, words: Tensor, said: Tensor, seen: Tensor | None) -> None:
        """Nothing may go on: what is open becomes a caption as it is. In the paper's code only captions that ended count, if any did."""
        if self.decode.stop == "shrink" and self.ended:
            return
        for total, row, word in zip(totals.tolist(), rows.tolist(), words.tolist(), strict=True):
            if total > -torch.inf:
                caption = [*said[row].tolist(), word]
                self.add(total, len(caption), caption, None if seen is None else seen[row], ended=False)

    def ranked(self) -> list[Hypothesis]:
        if not self.hypotheses:  # every logit was NaN or -inf
            raise BadInput(NO_WORD)
        return sorted(self.hypotheses, key=lambda h: -h.score)[: self.decode.beam]


def _likeliest(logits: Tensor, said: Tensor, decode: Decode, most: int) -> tuple[Tensor, Tensor]:
    """The `most` likeliest words of each row that may be said: log-probabilities (rows,c) in float64, and which words (rows,c).

    logits (rows,V) are used up. Only what is kept goes into float64; the exponentials are summed in the logits' own precision, at least float32.
    """
    logits = logits if logits.dtype == torch.float64 else logits.float()
    highest = logits.amax(-1, keepdim=True)
    norm = highest.double() + (logits - highest).exp_().sum(-1, keepdim=True).double().log()
    best, words = _top(_allowed(logits, said, decode), min(most, logits.shape[1]))
    return best.double() - norm, words


CHUNK = 64


def _top(values: Tensor, k: int) -> tuple[Tensor, Tensor]:
    """`values.topk(k)` of (rows,V), where V is in the thousands several times as fast: the k highest lie in the k chunks with the highest maxima."""
    V = values.shape[1]
    whole = V // CHUNK * CHUNK
    if whole < 4 * k * CHUNK:
        return values.topk(k)
    chunk = values[:, :whole].unflatten(1, (-1, CHUNK)).amax(2).topk(k, sorted=False).indices  # (rows, k)
    inside = torch.arange(CHUNK, device=values.device)
    place = (chunk.unsqueeze(2) * CHUNK + inside).flatten(1)
    place = torch.cat([place, torch.arange(whole, V, device=values.device).expand(len(values), -1)], 1)
    best, index = values.gather(1, place).topk(k)
    return best, place.gather(1, index)


def _allowed(scores: Tensor, said: Tensor, decode: Decode) -> Tensor:
    """Scores (rows,V), in place, with what may not be said at -inf; the others stay as they are, not renormalised."""
    scores[:, PAD] = scores[:, START] = -torch.inf
    if decode.ban_unk:
        scores[:, UNK] = -torch.inf
    n = decode.no_repeat_ngram
    if n and said.shape[1] >= n:
        windows = said.unfold(1, n, 1)  # (rows, t-n+1, n)
        # After the last n-1 words, every word that once followed them.
        repeats = (windows[..., :-1] == said[:, said.shape[1] - n + 1 :].unsqueeze(1)).all(-1)
        row, place = repeats.nonzero(as_tuple=True)
        scores[row, windows[row, place, -1]] = -torch.inf
    return scores


def _sample(decoder, regions: Tensor, decode: Decode, attend: bool) -> list[Hypothesis]:
    """One caption an image, drawn word by word.

    The t-th draw of a seed is the same number for every image, so an image gets the same caption alone or in any batch.
    """
    B, device = len(regions), regions.device
    draws = torch.rand(decode.max_words, generator=torch.Generator().manual_seed(decode.seed), dtype=torch.float64)
    state, words = decoder.start(regions), torch.full((B,), START, device=device)
    said = torch.empty(B, 0, dtype=torch.long, device=device)
    total = torch.zeros(B, dtype=torch.float64, device=device)
    ended = torch.zeros(B, dtype=torch.bool, device=device)
    seen = []
    for draw in draws.to(device):
        logits, state, *attention = decoder.step(words, state, attend=True) if attend else decoder.step(words, state)
        scores = _allowed(logits.double().log_softmax(-1), said, decode)
        if not (scores.isfinite().any(1) | ended).all():
            raise BadInput(NO_WORD)
        words = _draw(scores / decode.temperature, draw, decode)
        total += torch.where(ended, 0.0, scores.gather(1, words.unsqueeze(1)).squeeze(1))
        words = torch.where(ended, PAD, words)
        said = torch.cat([said, words.unsqueeze(1)], 1)
        seen += attention
        ended |= words == END
        if ended.all():
            break
    captions = []
    for i, row in enumerate(said.tolist()):
        length = row.index(END) if END in row else len(row)
        tokens = length + (END in row)
        maps = torch.stack([a[i] for a in seen[:length]]) if attend and length else None
        captions.append(Hypothesis(row[:length], float(total[i]) / tokens**decode.length_penalty, float(total[i]), END in row, maps))
    return captions


def _draw(scores: Tensor, draw: Tensor, decode: Decode) -> Tensor:
    """scores (B,V), one uniform draw -> words (B,), by inverting the distribution over the words sorted by likelihood."""
    scores, words = scores.sort(1, descending=True)
    if decode.top_k:
        scores[:, decode.top_k :] = -torch.inf
    shares = scores.softmax(1)
    if decode.top_p < 1:
        # A word stays while those before it hold less than top_p; the likeliest always stays.
        shares = torch.where(shares.cumsum(1) - shares < decode.top_p, shares, 0.0)
    reached = shares.cumsum(1)
    place = (reached < draw * reached[:, -1:]).sum(1, keepdim=True).clamp(max=scores.shape[1] - 1)
    return words.gather(1, place).squeeze(1)
