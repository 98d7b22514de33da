"""The architectures, whole: image encoder, visual attention, decoders, and `build_model`, the only place that turns names into modules.

Contract. Encoder: images (B,3,H,W) -> regions (B,R,D), with a known grid (h,w), h*w = R.
Decoder: `start(regions) -> state`; `step(words, state) -> logits, state`; `forward(regions, words) -> logits (N,T,V)`, all words at once,
equal to stepping. Attention comes back only when asked for (`attend=True`). Beam search, sampling and the demo stand on `start` and `step`.
"""

from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from captioning.attention_lstm import AttentionLSTM
from captioning.bad_input import BadInput
from captioning.config import RunConfig
from captioning.trunks import Preprocessing, TrunkSource, create_trunk, locate
from captioning.vocabulary import PAD


class Encoder(nn.Module):
    """Any timm model, CNN or ViT, or a user's module, as images (B,3,H,W) -> regions (B,R,D), row by row from the top left.

    Class and register tokens are dropped. grid: pool to grid x grid regions (0: the trunk's own). tune_from: -1 frozen and always in eval
    mode; k: timm's layer groups from the k-th on learn, with BatchNorm statistics kept as they came where the weights are pretrained.
    Frozen regions are rounded to fp16, because that is what the cache of regions holds: one number wherever they come from.
    """

    def __init__(self, trunk: nn.Module, preprocessing: Preprocessing, source: TrunkSource, grid: int = 0, tune_from: int = -1):
        super().__init__()
        self.trunk = trunk
        self.preprocessing = preprocessing
        self.source = source
        self.pool = grid
        self.tune_from = tune_from
        self.frozen = tune_from < 0
        self.keep_statistics = source.weights_sha256 != "none"
        self.register_buffer("mean", torch.tensor(preprocessing.mean).view(1, 3, 1, 1), persistent=False)
        self.register_buffer("std", torch.tensor(preprocessing.std).view(1, 3, 1, 1), persistent=False)
        self._choose_what_learns(tune_from)
        self.train(False)
        probe = self._probe()  # (1, D, h, w)
        self.dim, *self.grid = probe.shape[1:]
        if not self.frozen:
            self._freeze_unreached(probe)

    def forward(self, images: Tensor) -> Tensor:
        """images (B,3,S,S), already scaled -> regions (B,R,D)."""
        regions = self._map(images).flatten(2).transpose(1, 2)  # (B, R, D)
        return regions.half().float() if self.frozen else regions

    def scale(self, pixels: Tensor) -> Tensor:
        """uint8 (B,S,S,3) -> scaled float (B,3,S,S)."""
        images = pixels.permute(0, 3, 1, 2).float().div(255)
        return (images - self.mean) / self.std

    def train(self, mode: bool = True):
        super().train(mode and not self.frozen)
        if self.keep_statistics:
            for module in self.modules():
                if isinstance(module, nn.modules.batchnorm._BatchNorm):
                    module.eval()
        return self

    def _map(self, images: Tensor) -> Tensor:
        features = self.trunk.forward_features(images)
        if not isinstance(features, Tensor):
            raise BadInput(
                f"--encoder {self.source.tag}: gives {type(features).__name__}, no spatial map to attend to; choose another encoder"
            )
        if features.dim() == 3:
            features = self._tokens_to_map(features)
        elif features.dim() == 4 and self._is_nhwc(features):
            features = features.permute(0, 3, 1, 2)
        if features.dim() != 4 or features.shape[-1] * features.shape[-2] == 1:
            raise BadInput(
                f"--encoder {self.source.tag}: gives {tuple(features.shape)}, no spatial map to attend to; choose another encoder"
            )
        if self.pool and tuple(features.shape[-2:]) != (self.pool, self.pool):
            features = F.adaptive_avg_pool2d(features, self.pool)
        return features  # (B, D, h, w)

    def _tokens_to_map(self, tokens: Tensor) -> Tensor:
        patches = tokens[:, getattr(self.trunk, "num_prefix_tokens", 0) :]
        embed = getattr(self.trunk, "patch_embed", None)
        h, w = getattr(embed, "grid_size", None) or (round(patches.shape[1] ** 0.5),) * 2
        if h * w != patches.shape[1]:
            raise BadInput(f"--encoder {self.source.tag}: {patches.shape[1]} tokens are no grid; choose another encoder")
        return patches.transpose(1, 2).unflatten(2, (h, w))

    def _is_nhwc(self, features: Tensor) -> bool:
        stated = getattr(self.trunk, "output_fmt", None)
        if stated is not None:
            return str(stated).rsplit(".", 1)[-1] == "NHWC"
        return features.shape[1] == features.shape[2] != features.shape[3]

    def _choose_what_learns(self, tune_from: int) -> None:
        groups = layer_groups(self.trunk)
        last = max(groups.values(), default=0)
        if tune_from > last:
            raise BadInput(f"--tune-from {tune_from}: {self.source.tag} has the layer groups 0 to {last}")
        for name, parameter in self.trunk.named_parameters():
            parameter.requires_grad_(0 <= tune_from <= groups[name])

    def _probe(self) -> Tensor:
        size = self.preprocessing.size
        try:
            with torch.set_grad_enabled(not self.frozen):
                features = self._map(torch.zeros(1, 3, size, size))
        except (RuntimeError, AssertionError, AttributeError, ValueError) as error:
            # Architectures refuse a size, or give something else than a map, each in its own way.
            reason = " ".join(str(error).split())[:160]
            raise BadInput(
                f"--encoder {self.source.tag}: cannot map pictures of {size} pixels ({reason}); other --image-size or encoder"
            ) from error
        if not self.frozen and not features.requires_grad:
            raise BadInput(
                f"--tune-from {self.tune_from}: nothing of {self.source.tag} before its regions would learn; choose a smaller number"
            )
        return features

    def _freeze_unreached(self, features: Tensor) -> None:
        """What lies behind the regions (a head's norm, say) never gets a gradient; several processes would wait for it forever."""
        learning = [p for p in self.trunk.parameters() if p.requires_grad]
        reached = torch.autograd.grad(features.sum(), learning, allow_unused=True)
        for parameter, gradient in zip(learning, reached, strict=True):
            parameter.requires_grad_(gradient is not None)


def layer_groups(trunk: nn.Module) -> dict[str, int]:
    """Parameter name -> index of its layer group, from the stem on: timm's own grouping, else the module's children in order."""
    if hasattr(trunk, "group_matcher"):
        from timm.models import group_parameters

        return group_parameters(trunk, trunk.group_matcher(coarse=True), reverse=True)
    order = {name: k for k, (name, _) in enumerate(trunk.named_children())}
    return {name: order.get(name.partition(".")[0], 0) for name, _ in trunk.named_parameters()}


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

    logits (M,V), caption (M,) and position (M,) of each word, penalty (N,): the mean over regions of (1 - sum of attention over words)^2,
    attention (M,R) when asked for. The words come position by position, longest captions first.
    """

    logits: Tensor
    caption: Tensor
    position: Tensor
    penalty: Tensor
    attention: Tensor | None


class SoftAttention(nn.Module):
    """Additive attention, softmax(w . relu(U region + W h)), arXiv:1502.03044 eq. 4-6 with the paper's ReLU."""

    def __init__(self, region_dim: int, hidden_dim: int, attention_dim: int):
        super().__init__()
        self.keys = nn.Linear(region_dim, attention_dim)
        self.query = nn.Linear(hidden_dim, attention_dim)
        # paper: this layer has a bias; here: none, for it cancels in the softmax and its gradient is rounding noise that Adam blows up.
        self.score = nn.Linear(attention_dim, 1, bias=False)

    def forward(self, hidden: Tensor, keys: Tensor, regions: Tensor) -> tuple[Tensor, Tensor]:
        """hidden (B*K,H), keys (B,R,A) = self.keys(regions), regions (B,R,D) -> context (B*K,D), attention (B*K,R)."""
        B, R, _ = keys.shape
        query = self.query(hidden).view(B, -1, 1, keys.shape[-1])  # (B, K, 1, A)
        scores = self.score(F.relu(keys.unsqueeze(1) + query)).squeeze(-1)  # (B, K, R)
        attention = scores.softmax(-1)
        context = attention @ regions  # (B, K, D)
        return context.flatten(0, 1), attention.flatten(0, 1)


class AttendDecoder(nn.Module):
    """LSTM with visual attention (the paper's decoder). V words; words[:, 0] is the start token; PAD fills behind the end token."""

    def __init__(self, region_dim: int, vocabulary_size: int, config: RunConfig):
        super().__init__()
        E, H = config.embed_dim, config.hidden_dim
        self.attention = SoftAttention(region_dim, H, config.attention_dim)
        self.embedding = nn.Embedding(vocabulary_size, E)
        self.cell = nn.LSTMCell(E + region_dim, H)
        self.start_hidden = nn.Linear(region_dim, H)
        self.start_cell = nn.Linear(region_dim, H)
        # A vector gate on the context (arXiv:1502.03044 sec. 4.2.1 as in the paper's code; Xu's released code: a scalar).
        self.gate = nn.Linear(H, region_dim)
        self.dropout = nn.Dropout(config.dropout)
        self.project = nn.Linear(H, vocabulary_size)
        nn.init.uniform_(self.embedding.weight, -0.1, 0.1)
        nn.init.uniform_(self.project.weight, -0.1, 0.1)
        nn.init.zeros_(self.project.bias)

    def start(self, regions: Tensor) -> State:
        """regions (B,R,D) -> the state before the first word, one row an image."""
        mean = regions.mean(1)
        return State((regions, self.attention.keys(regions)), (self.start_hidden(mean), self.start_cell(mean)))

    def step(self, words: Tensor, state: State, attend: bool = False):
        """words (B*K,), K rows of each image in turn -> logits (B*K,V), state; with attend also the attention (B*K,R)."""
        hidden, attention = self._advance(self.embedding(words), state.memory, state.hidden)
        logits = self.project(self.dropout(hidden[0]))
        state = State(state.memory, hidden)
        return (logits, state, attention) if attend else (logits, state)

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
        attention = forced.attention.new_zeros(N, T, regions.shape[1])
        return logits, attention.index_put((forced.caption, forced.position), forced.attention)

    def forced(self, regions: Tensor, words: Tensor, lengths: Tensor, image_of: Tensor | None = None, attend: bool = False) -> Forced:
        """Predict each caption's words from its own earlier words.

        regions (B,R,D); words (N,T+1) from the start token on; lengths (N,) words to predict, end token included; image_of (N,) row of
        regions of each caption (default: N/B captions of each image in turn).
        """
        B, N = len(regions), len(words)
        if image_of is None:
            image_of = torch.arange(B, device=words.device).repeat_interleave(N // B)
        # Longest first: at every word only the captions that still run are computed, as a shrinking prefix of the batch.
        lengths, order = lengths.sort(descending=True, stable=True)
        words, image_of = words[order], image_of[order]
        running = (lengths.unsqueeze(0) > torch.arange(int(lengths[0]), device=lengths.device).unsqueeze(1)).sum(1).tolist()
        (regions, keys), hidden = self.start(regions)
        # index_select, not [...]: on a CPU with several threads the latter's backward pass adds in an order of its own each time.
        regions, keys = regions.index_select(0, image_of), keys.index_select(0, image_of)  # (N, R, D), (N, R, A)
        hidden = tuple(h.index_select(0, image_of) for h in hidden)
        spoken = torch.cat([words[:n, t] for t, n in enumerate(running)])  # (M,)
        outputs, attentions = self._run(self.embedding(spoken), regions, keys, hidden, running)
        logits = self.project(self.dropout(outputs))  # (M, V)
        caption = torch.cat([order[:n] for n in running])
        position = torch.arange(len(running), device=words.device).repeat_interleave(torch.tensor(running, device=words.device))
        attended = attentions.new_zeros(N, attentions.shape[1]).index_add(0, caption, attentions)  # (N, R)
        # paper: mean over regions; Xu sums them, so there the weight does not fall with the grid.
        penalty = (1 - attended).square().mean(1)
        return Forced(logits, caption, position, penalty, attentions if attend else None)

    def _run(self, embedded: Tensor, regions: Tensor, keys: Tensor, hidden: tuple[Tensor, Tensor], running: list[int]):
        """All words at once: what `_advance` does at each position, through captioning.attention_lstm's hand-written backward pass."""
        E = self.embedding.embedding_dim
        from_word, from_context = self.cell.weight_ih[:, :E], self.cell.weight_ih[:, E:]
        words = F.linear(embedded, from_word, self.cell.bias_ih + self.cell.bias_hh)
        from_hidden = torch.cat([self.attention.query.weight, self.gate.weight, self.cell.weight_hh])
        bias = torch.cat([self.attention.query.bias, self.gate.bias])
        score = self.attention.score.weight.squeeze(0)
        # Under autocast only the forward pass would be in bf16, and the loop's sums are better in float32 anyway.
        with torch.autocast(words.device.type, enabled=False):
            tensors = (
                t.float() if t.dtype == torch.bfloat16 else t
                for t in (words, regions, keys, *hidden, from_hidden, bias, from_context, score)
            )
            return AttentionLSTM.apply(*tensors, running)

    def _advance(self, embedded: Tensor, memory: tuple[Tensor, ...], hidden: tuple[Tensor, ...]):
        regions, keys = memory
        context, attention = self.attention(hidden[0], keys, regions)
        context = torch.sigmoid(self.gate(hidden[0])) * context
        return self.cell(torch.cat([embedded, context], 1), hidden), attention


class Losses(NamedTuple):
    """Sums over the captions of one call, so that processes and parts of a batch add up. Nats; `top5`, `words`, `captions` are counts."""

    cross_entropy: Tensor
    penalty: Tensor
    top5: Tensor
    words: Tensor
    captions: Tensor


class ScoredCaptions(NamedTuple):
    """N captions under teacher forcing, one value each; predicted (N,T): the likeliest word at each place, PAD behind the end."""

    predicted: Tensor
    cross_entropy: Tensor
    penalty: Tensor
    top5: Tensor


class CaptionModel(nn.Module):
    """An encoder and a decoder. `forward` is what training wraps: images or regions and captions in, sums of losses out."""

    def __init__(self, encoder: Encoder, decoder: nn.Module):
        super().__init__()
        self.encoder = encoder
        self.decoder = decoder

    def encode(self, inputs: Tensor) -> Tensor:
        """uint8 pixels (B,S,S,3) or regions (B,R,D) of any float type -> regions (B,R,D)."""
        if inputs.dim() == 3:
            return inputs.float()
        return self.encoder(self.encoder.scale(inputs))

    def forward(self, inputs: Tensor, words: Tensor, lengths: Tensor, image_of: Tensor) -> Losses:
        """inputs as in `encode`; words (N,T+1), lengths (N,), image_of (N,) as in the decoder's `forced`."""
        forced, targets = self._force(inputs, words, lengths, image_of)
        return Losses(
            F.cross_entropy(forced.logits.float(), targets, reduction="sum"),
            forced.penalty.sum(),
            top5_hits(forced.logits, targets).sum(),
            lengths.sum(),
            torch.tensor(len(words), device=words.device),
        )

    def score_captions(self, inputs: Tensor, words: Tensor, lengths: Tensor, image_of: Tensor) -> ScoredCaptions:
        """The same, caption by caption."""
        forced, targets = self._force(inputs, words, lengths, image_of)
        per_word = F.cross_entropy(forced.logits.float(), targets, reduction="none").double()
        hits = top5_hits(forced.logits, targets).long()
        predicted = torch.full_like(words[:, 1:], PAD).index_put((forced.caption, forced.position), forced.logits.argmax(-1))
        nothing = forced.caption.new_zeros(len(words))
        summed = nothing.double().index_add(0, forced.caption, per_word)
        return ScoredCaptions(predicted, summed, forced.penalty, nothing.index_add(0, forced.caption, hits))

    def _force(self, inputs, words, lengths, image_of) -> tuple[Forced, Tensor]:
        forced = self.decoder.forced(self.encode(inputs), words, lengths, image_of)
        return forced, words[forced.caption, forced.position + 1]


def top5_hits(logits: Tensor, targets: Tensor) -> Tensor:
    """logits (M,V), targets (M,) -> bool (M,): the target is among the five likeliest words."""
    return (logits.topk(min(5, logits.shape[-1]), -1).indices == targets.unsqueeze(-1)).any(-1)


DECODERS = {"attend": AttendDecoder}


def build_encoder(config: RunConfig, weights: str = "pretrained", source: TrunkSource | None = None) -> Encoder:
    """The encoder a configuration names. weights: "pretrained", "none", a file or a folder. Raises BadInput as `locate` does."""
    source = source or locate(config.encoder, config.pretrained, weights)
    trunk, preprocessing = create_trunk(source, config.image_size)
    preprocessing = Preprocessing(**{**preprocessing.to_dict(), "resize": config.resize})
    return Encoder(trunk, preprocessing, source, grid=config.grid, tune_from=config.tune_from)


def build_model(config: RunConfig, vocabulary_size: int, weights: str = "pretrained", source: TrunkSource | None = None) -> CaptionModel:
    """Names -> modules. Seed torch before: what is not pretrained starts from its random state."""
    encoder = build_encoder(config, weights, source)
    return CaptionModel(encoder, DECODERS[config.system](encoder.dim, vocabulary_size, config))
