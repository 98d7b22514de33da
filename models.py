"""The paper's decoder with its visual attention, the captioner around it, and `build_model`, the only place that turns names into modules.

Contract. Encoder: images (B,3,H,W) -> regions (B,R,D), with a known grid (h,w), h*w = R.
Decoder: `start(regions) -> state`; `step(words, state) -> logits, state`; `forward(regions, words) -> logits (N,T,V)`, all words at once,
equal to stepping. Attention comes back only when asked for (`attend=True`). Beam search, sampling and the demo stand on `start` and `step`.
"""

import dataclasses
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from captioning.attention_lstm import AttentionLSTM, choose, lay_out, locate_weights, score_regions
from captioning.config import RunConfig
from captioning.decoder_state import Decoder, Forced, State, captions_in_turn
from captioning.encoder import Encoder
from captioning.language_models import Language, locate_language
from captioning.own_words import mix_own_words
from captioning.transformer_decoders import CrossDecoder, PrefixDecoder, SepDecoder, T5Decoder
from captioning.trunks import IMAGENET_MEAN, IMAGENET_STD, TrunkSource, create_trunk, locate
from captioning.vocabulary import PAD

ACTIVATIONS = {"relu": torch.relu_, "tanh": torch.tanh_}  # in place: what they get is read by nobody else


class AdditiveAttention(nn.Module):
    """softmax(w . f(U region + W h)), arXiv:1502.03044 eq. 4-5; f: its tanh, or the paper's ReLU."""

    def __init__(self, region_dim: int, hidden_dim: int, config: RunConfig):
        super().__init__()
        self.keys = nn.Linear(region_dim, config.attention_dim)
        self.query = nn.Linear(hidden_dim, config.attention_dim)
        # paper: this layer has a bias; here: none, for it cancels in the softmax and its gradient is rounding noise that Adam blows up.
        self.score = nn.Linear(config.attention_dim, 1, bias=False)
        self.activation = ACTIVATIONS[config.activation]

    def remember(self, regions: Tensor) -> tuple[Tensor, Tensor]:
        """What stays the same at every word: regions (B,R,D) and their keys (B,R,A)."""
        return regions, self.keys(regions)

    def forward(self, hidden: Tensor, memory: tuple[Tensor, Tensor]) -> Tensor:
        """hidden (B*K,H) -> attention (B,K,R)."""
        _, keys = memory
        query = self.query(hidden).view(len(keys), -1, keys.shape[-1])  # (B, K, A)
        if not torch.is_grad_enabled() and keys.dtype == query.dtype:
            return score_regions(keys, query, self.score.weight.squeeze(0), self.activation).softmax(-1)
        return self.score(self.activation(keys.unsqueeze(1) + query.unsqueeze(2))).squeeze(-1).softmax(-1)

    def look(self, weights: Tensor, memory: tuple[Tensor, Tensor]) -> Tensor:
        """weights (B,K,R) -> context (B,K,D)."""
        return weights @ memory[0]


class MeanRegion(nn.Module):
    """No attention, the control: every word sees the mean region."""

    def remember(self, regions: Tensor) -> tuple[Tensor, Tensor]:
        """The mean region (B,1,D), and the even attention (B,R) that it stands for."""
        return regions.mean(1, keepdim=True), regions.new_full(regions.shape[:2], 1 / regions.shape[1])

    def forward(self, hidden: Tensor, memory: tuple[Tensor, Tensor]) -> Tensor:
        """hidden (B*K,H) -> even attention (B,K,R)."""
        _, even = memory
        return even.unsqueeze(1).expand(-1, len(hidden) // len(even), -1)

    def look(self, weights: Tensor, memory: tuple[Tensor, Tensor]) -> Tensor:
        """weights (B,K,R), which change nothing -> the mean region (B,K,D)."""
        return memory[0].expand(-1, weights.shape[1], -1)


class AttendDecoder(Decoder):
    """LSTM with visual attention (the paper's decoder). V words; words[:, 0] is the start token; PAD fills behind the end token.

    Hard attention samples one region a word in training, from `draws`; when captioning it does what `locations` says.
    """

    def __init__(self, region_dim: int, vocabulary_size: int, config: RunConfig):
        super().__init__()
        E, H = config.embed_dim, config.hidden_dim
        self.attention = MeanRegion() if config.attention == "none" else AdditiveAttention(region_dim, H, config)
        self.embedding = nn.Embedding(vocabulary_size, E)
        self.cell = nn.LSTMCell(E + region_dim, H)
        self.start_hidden = nn.Linear(region_dim, H)
        self.start_cell = nn.Linear(region_dim, H)
        # A vector gate on the context (arXiv:1502.03044 sec. 4.2.1 as in the paper's code; Xu's released code: a scalar).
        self.gate = nn.Linear(H, region_dim if config.gate == "vector" else 1)
        self.dropout = nn.Dropout(config.dropout)
        self.deep = config.output == "deep"
        if self.deep:
            self.from_hidden = nn.Linear(H, E)
            self.from_context = nn.Linear(region_dim, E, bias=False)
        self.project = nn.Linear(E if self.deep else H, vocabulary_size)
        nn.init.uniform_(self.embedding.weight, -0.1, 0.1)
        nn.init.uniform_(self.project.weight, -0.1, 0.1)
        nn.init.zeros_(self.project.bias)
        self.hard = config.attention == "hard"
        self.locations = config.locations
        self.expected_share, self.expected_per = config.expected_share, config.expected_per
        self.penalty_over = config.penalty_over
        # The hand-written backward pass is of the paper's form; the other forms go through autograd.
        self.by_hand = (config.activation, config.gate, config.output) == ("relu", "vector", "simple") and config.attention != "none"

    def start(self, regions: Tensor) -> State:
        """regions (B,R,D) -> the state before the first word, one row an image."""
        mean = regions.mean(1)
        return State(self.attention.remember(regions), (self.start_hidden(mean), self.start_cell(mean)))

    def step(self, words: Tensor, state: State, attend: bool = False):
        """words (B*K,), K rows of each image in turn -> logits (B*K,V), state; with attend also the attention (B*K,R)."""
        embedded = self.embedding(words)
        draws = torch.rand(len(words), device=words.device) if self._samples_locations() else None
        hidden, attention, context = self._advance(embedded, state.memory, state.hidden, draws)
        logits = self._say(hidden[0], embedded, context)
        state = State(state.memory, hidden)
        return (logits, state, attention) if attend else (logits, state)

    def forced(self, regions: Tensor, words: Tensor, lengths: Tensor, image_of: Tensor | None = None, attend: bool = False) -> Forced:
        """Predict each caption's words from its own earlier words.

        regions (B,R,D); words (N,T+1) from the start token on; lengths (N,) words to predict, end token included; image_of (N,) row of
        regions of each caption (default: N/B captions of each image in turn).
        """
        B, N = len(regions), len(words)
        if image_of is None:
            image_of = captions_in_turn(B, N, words.device)
        # Longest first: at every word only the captions that still run are computed, as a shrinking prefix of the batch.
        lengths, order = lengths.sort(descending=True, stable=True)
        words, image_of = words[order], image_of[order]
        running = (lengths.unsqueeze(0) > torch.arange(int(lengths[0]), device=lengths.device).unsqueeze(1)).sum(1).tolist()
        caption = torch.cat([order[:n] for n in running])
        position = torch.arange(len(running), device=words.device).repeat_interleave(torch.tensor(running, device=words.device))
        draws = self._draw(caption, image_of[order.argsort()], B)
        if self.by_hand:
            outputs, attentions, chosen = self._run_by_hand(words, lengths, regions, image_of, draws)
            embedded = contexts = None
        else:
            embedded = self.embedding(torch.cat([words[:n, t] for t, n in enumerate(running)]))  # (M, E)
            outputs, attentions, contexts, chosen = self._run(embedded, regions, image_of, running, draws)
        logits = self._say(outputs, embedded, contexts)  # (M, V)
        attended = attentions.new_zeros(N, attentions.shape[1]).index_add(0, caption, attentions)  # (N, R)
        missed = (1 - attended).square()
        # paper: mean over regions; Xu sums them, so there the weight does not fall with the grid.
        penalty = missed.mean(1) if self.penalty_over == "mean" else missed.sum(1)
        found = Forced(logits, caption, position, penalty, attentions if attend else None)
        return found._replace(**_location_terms(attentions, chosen, draws, caption, N)) if self.hard and self.training else found

    def _draw(self, caption: Tensor, image_of: Tensor, images: int) -> Tensor | None:
        """Hard attention: for each of the M words the draw in 0..1 that samples its location, below 0 for the expected region. Else None.

        caption (M,) of each word, image_of (N,) of each caption.
        """
        if not (self.hard and self.training) and not self._samples_locations():
            return None
        draws = torch.rand(len(caption), device=caption.device)
        if not self.training:
            return draws
        expected = torch.rand(images if self.expected_per == "image" else 1, device=caption.device) < self.expected_share
        return draws.masked_fill(expected.expand(images)[image_of[caption]], -1.0)

    def _samples_locations(self) -> bool:
        return self.hard and not self.training and self.locations == "sample"

    def _run_by_hand(self, words: Tensor, lengths: Tensor, regions: Tensor, image_of: Tensor, draws: Tensor | None):
        """All words at once: what `_run` does, through captioning.attention_lstm's hand-written backward pass."""
        E = self.embedding.embedding_dim
        from_word, from_context = self.cell.weight_ih[:, :E], self.cell.weight_ih[:, E:]
        from_hidden = torch.cat([self.attention.query.weight, self.gate.weight, self.cell.weight_hh])
        bias = torch.cat([self.attention.query.bias, self.gate.bias])
        score = self.attention.score.weight.squeeze(0)
        # Captions that began alike part where each word's location is drawn.
        layout = lay_out(words, lengths, image_of, alike=draws is None)
        different, ids = layout.word.unique(return_inverse=True)
        table = F.linear(self.embedding(different), from_word, self.cell.bias_ih + self.cell.bias_hh)
        memory, hidden = self.start(regions)
        # index_select, not [...]: on a CPU with several threads the latter's backward pass adds in an order of its own each time.
        memory = tuple(m.index_select(0, layout.image) for m in memory)  # (G, ...)
        hidden = tuple(h.index_select(0, layout.starts) for h in hidden)
        # Under autocast only the forward pass would be in bf16, and the loop's sums are better in float32 anyway.
        with torch.autocast(words.device.type, enabled=False):
            table, *tensors = (
                t.float() if t.dtype == torch.bfloat16 else t for t in (table, *memory, *hidden, from_hidden, bias, from_context, score)
            )
            if draws is not None:
                draws = torch.empty_like(draws).index_copy(0, layout.row_of, draws)
            found = AttentionLSTM.apply(table, ids, *tensors, layout.blocks, draws, self._takes_likeliest())
        return tuple(rows if rows is None else rows.index_select(0, layout.row_of) for rows in found)

    def _run(self, embedded: Tensor, regions: Tensor, image_of: Tensor, running: list[int], draws: Tensor | None):
        """All words, position by position through `_advance` -> hidden states (M,H), attention (M,R), contexts (M,D), chosen regions (M,)."""
        memory, hidden = self.start(regions)
        # index_select, not [...]: on a CPU with several threads the latter's backward pass adds in an order of its own each time.
        memory = tuple(m.index_select(0, image_of) for m in memory)  # (N, ...)
        hidden = tuple(h.index_select(0, image_of) for h in hidden)
        outputs, attentions, contexts, chosen = [], [], [], []
        place = 0
        for n in running:
            rows = slice(place, place + n)
            hidden = tuple(h[:n] for h in hidden)
            drawn = None if draws is None else draws[rows]
            hidden, attention, context = self._advance(embedded[rows], tuple(m[:n] for m in memory), hidden, drawn)
            outputs.append(hidden[0])
            attentions.append(attention)
            contexts.append(context)
            chosen += [] if draws is None else [choose(attention.detach(), drawn)]
            place += n
        return torch.cat(outputs), torch.cat(attentions), torch.cat(contexts), torch.cat(chosen) if chosen else None

    def _advance(self, embedded: Tensor, memory: tuple[Tensor, ...], hidden: tuple[Tensor, ...], draws: Tensor | None = None):
        """One word further: hidden states (B*K,H), attention (B*K,R), gated context (B*K,D)."""
        attention = self.attention(hidden[0], memory)  # (B, K, R)
        weights = attention
        if draws is not None or self._takes_likeliest():
            chosen = choose(attention.detach().flatten(0, 1), draws)
            weights = locate_weights(attention.flatten(0, 1), chosen, draws).view_as(attention)
        context = torch.sigmoid(self.gate(hidden[0])) * self.attention.look(weights, memory).flatten(0, 1)
        return self.cell(torch.cat([embedded, context], 1), hidden), attention.flatten(0, 1), context

    def _takes_likeliest(self) -> bool:
        return self.hard and not self.training and self.locations == "argmax"

    def _say(self, hidden: Tensor, embedded: Tensor, context: Tensor | None) -> Tensor:
        """Logits (M,V) of the next words."""
        if self.deep:  # arXiv:1502.03044 eq. 7
            hidden = embedded + self.from_hidden(hidden) + self.from_context(context)
        return self.project(self.dropout(hidden))


def _location_terms(attentions: Tensor, chosen: Tensor, draws: Tensor, caption: Tensor, captions: int) -> dict[str, Tensor]:
    """Log-probability of the sampled locations and entropy of the attention, both summed over each caption's words."""
    attentions = attentions.float() if attentions.dtype == torch.bfloat16 else attentions
    logs = attentions.clamp_min(1e-20).log()  # (M, R)
    located = logs.gather(1, chosen.unsqueeze(1)).squeeze(1) * (draws >= 0)
    nothing = attentions.new_zeros(captions)
    return {
        "log_locations": nothing.index_add(0, caption, located),
        "entropy": nothing.index_add(0, caption, -(attentions * logs).sum(1)),
    }


class Losses(NamedTuple):
    """Sums over the captions of one call, so that processes and parts of a batch add up. Nats; `top5`, `words`, `captions` are counts.

    Hard attention alone has the last three: reinforce, whose gradient is the score-function estimate with its sign turned for minimising;
    entropy of the attention; reward. Others have 0.
    """

    cross_entropy: Tensor
    penalty: Tensor
    top5: Tensor
    words: Tensor
    captions: Tensor
    reinforce: Tensor
    entropy: Tensor
    reward: Tensor


class ScoredCaptions(NamedTuple):
    """N captions under teacher forcing, one value each; predicted (N,T): the likeliest word at each place, PAD behind the end."""

    predicted: Tensor
    cross_entropy: Tensor
    penalty: Tensor
    top5: Tensor


class CaptionModel(nn.Module):
    """An encoder and a decoder. `forward` is what training wraps: images or regions and captions in, sums of losses out."""

    def __init__(self, encoder: Encoder, decoder: nn.Module, config: RunConfig):
        super().__init__()
        self.encoder = encoder
        self.decoder = decoder
        self.reward, self.own_words = config.reward, config.own_words
        if config.attention == "hard":
            self.register_buffer("baseline", torch.zeros(()))

    def encode(self, inputs: Tensor) -> Tensor:
        """uint8 pixels (B,S,S,3) or regions (B,R,D) of any float type -> regions (B,R,D)."""
        if inputs.dim() == 3:
            return inputs.float()
        return self.encoder(self.encoder.scale(inputs))

    def forward(self, inputs: Tensor, words: Tensor, lengths: Tensor, image_of: Tensor, forced_share: float = 1.0) -> Losses:
        """inputs as in `encode`; words (N,T+1), lengths (N,), image_of (N,) as in the decoder's `forced`.

        forced_share: share of the reference's words that are fed back; in place of the others come the model's own.
        """
        regions = self.encode(inputs)
        fed = words
        if forced_share < 1:
            fed = mix_own_words(self.decoder, regions.detach(), words, lengths, image_of, forced_share, self.own_words)
        forced = self.decoder.forced(regions, fed, lengths, image_of)
        targets = words[forced.caption, forced.position + 1]
        nothing = torch.zeros((), device=words.device)
        terms = (nothing, nothing, nothing) if forced.log_locations is None else self._hard_terms(forced, targets, lengths)
        return Losses(
            F.cross_entropy(forced.logits.float(), targets, reduction="sum"),
            forced.penalty.sum(),
            top5_hits(forced.logits, targets).sum(),
            lengths.sum(),
            torch.tensor(len(words), device=words.device),
            *terms,
        )

    def _hard_terms(self, forced: Forced, targets: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """arXiv:1502.03044 sec. 4.1, derived: minus (reward - baseline) x log p(locations); entropy; rewards. Sums over captions."""
        per_word = F.cross_entropy(forced.logits.detach().float(), targets, reduction="none")
        reward = per_word.new_zeros(len(lengths)).index_add(0, forced.caption, -per_word)
        if self.reward == "mean":
            reward = reward / lengths
        return -((reward - self.baseline) * forced.log_locations).sum(), forced.entropy.sum(), reward.sum()

    def score_captions(self, inputs: Tensor, words: Tensor, lengths: Tensor, image_of: Tensor) -> ScoredCaptions:
        """The same, caption by caption."""
        forced = self.decoder.forced(self.encode(inputs), words, lengths, image_of)
        targets = words[forced.caption, forced.position + 1]
        per_word = F.cross_entropy(forced.logits.float(), targets, reduction="none").double()
        hits = top5_hits(forced.logits, targets).long()
        predicted = torch.full_like(words[:, 1:], PAD).index_put((forced.caption, forced.position), forced.logits.argmax(-1))
        nothing = forced.caption.new_zeros(len(words))
        summed = nothing.double().index_add(0, forced.caption, per_word)
        return ScoredCaptions(predicted, summed, forced.penalty, nothing.index_add(0, forced.caption, hits))


def top5_hits(logits: Tensor, targets: Tensor) -> Tensor:
    """logits (M,V), targets (M,) -> bool (M,): the target is among the five likeliest words."""
    return (logits.topk(min(5, logits.shape[-1]), -1).indices == targets.unsqueeze(-1)).any(-1)


# System -> (region_dim D, regions R, vocabulary_size V, config, language) -> decoder.
DECODERS = {
    "attend": lambda D, R, V, config, language: AttendDecoder(D, V, config),
    "t5": lambda D, R, V, config, language: T5Decoder(D, V, config, language),
    "prefix": lambda D, R, V, config, language: PrefixDecoder(D, V, config, language),
    "sep": lambda D, R, V, config, language: SepDecoder(D, R, V, config, language),
    "transformer": lambda D, R, V, config, language: CrossDecoder(D, V, config),
}


def build_encoder(config: RunConfig, weights: str = "pretrained", source: TrunkSource | None = None) -> Encoder:
    """The encoder a configuration names. weights: "pretrained", "none", a file or a folder. Raises BadInput as `locate` does."""
    source = source or locate(config.encoder, config.pretrained, weights)
    stochastic_depth = config.encoder_mode == "train"
    # A pooled vector goes through the classifier head's norm too, so the weights must hold it.
    head_norm = config.final_norm or config.features == "vector"
    trunk, preprocessing = create_trunk(source, config.image_size, stochastic_depth=stochastic_depth, head_norm=head_norm)
    changes = {"mean": IMAGENET_MEAN, "std": IMAGENET_STD} if config.normalise == "imagenet" else {}
    preprocessing = dataclasses.replace(preprocessing, resize=config.resize, **changes)
    return Encoder(
        trunk, preprocessing, source, grid=config.grid, tune_from=config.tune_from, final_norm=config.final_norm,
        mode=config.encoder_mode, vector=config.features == "vector",
    )  # fmt: skip


def build_model(
    config: RunConfig,
    vocabulary_size: int,
    weights: str = "pretrained",
    source: TrunkSource | None = None,
    language: Language | dict | None = None,
) -> CaptionModel:
    """Names -> modules. Seed torch before: what is not pretrained starts from its random state.

    language: of the systems that have one; a dict is what a checkpoint keeps of it; None looks for it as the configuration says.
    """
    encoder = build_encoder(config, weights, source)
    if isinstance(language, dict):
        language = Language.from_dict(language)
    if language is None:
        language = locate_language(config, weights)
    decoder = DECODERS[config.system](encoder.dim, encoder.grid[0] * encoder.grid[1], vocabulary_size, config, language)
    return CaptionModel(encoder, decoder, config)
