"""The four captioners that end in a Transformer: T5 and a plain one read the image by cross-attention, GPT-2 as tokens before the text.

All of them step with caches through `captioning.image_attention`: no past word is computed again, an image's part is computed once and shared
by its beams and captions. Hugging Face's and torch's own modules hold the weights; tests compare with their own forward passes.
"""

from abc import abstractmethod
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from captioning.bad_input import BadInput
from captioning.config import RunConfig
from captioning.decoder_state import Decoder, Forced, captions_in_turn
from captioning.image_attention import Cache, KeysValues, Look, Packing, causal_bias, dropout_of, one_map, split_heads
from captioning.language_models import Language, gpt2_model, t5_decoder


class TransformerDecoder(Decoder):
    """What the four share. A subclass gives `tokens_of_image`, `memory_of`, `embed`, `layer`, `say`, and says where its heads are.

    Two kinds. Cross-attention: the start token is fed as a word. In sequence (`in_sequence`): the image's part stands before the text, and its
    last token says the first word, so the start token is only a sign.
    """

    in_sequence = False
    heads: int
    scale: float
    layers: int
    attention_dropout = 0.0
    extra_tokens = 0  # of the image's part, that are no regions

    @abstractmethod
    def tokens_of_image(self, regions: Tensor) -> Tensor:
        """regions (B,R,D) -> the image's part (B,P,W)."""

    @abstractmethod
    def memory_of(self, tokens: Tensor) -> list[KeysValues]:
        """The image's part (B,P,W) -> its keys and values (B,h,P,d), a layer each."""

    @abstractmethod
    def embed(self, words: Tensor, position: Tensor) -> Tensor:
        """words (M,), position (M,) in the text -> (M,W)."""

    @abstractmethod
    def layer(self, index: int, x: Tensor, look: Look) -> Tensor:
        """(M,W) -> (M,W)."""

    @abstractmethod
    def say(self, x: Tensor) -> Tensor:
        """The last layer's output (M,W) -> logits (M,V)."""

    def relative_bias(self, distance: Tensor) -> Tensor | None:
        """distance (T,S) from a word that asks to one that is asked, 0 or below -> (h,T,S) added to the scores, None for nothing."""
        return None

    def _forced_bias(self, T: int) -> Tensor:
        """For all words at once: a word sees itself and what came before it."""
        bias = causal_bias(T, self.device)
        place = torch.arange(T, device=self.device)
        relative = self.relative_bias(place - place.unsqueeze(1))
        bias = bias if relative is None else bias + relative
        # The first word's own keys stand in the image's part.
        return bias[..., 1:] if self.in_sequence else bias

    @property
    def device(self) -> torch.device:
        return next(self.parameters()).device

    def start(self, regions: Tensor) -> "CachedState":
        """regions (B,R,D) -> the state before the first word, one row an image."""
        tokens = self.tokens_of_image(regions)
        caches = [Cache.empty(tokens, self.heads)] * self.layers
        nothing = regions.new_zeros(len(regions), 0, dtype=torch.bool)
        return CachedState(self.memory_of(tokens), tokens[:, -1], caches, nothing, nothing.new_zeros(0, dtype=torch.long), 0)

    def step(self, words: Tensor, state: "CachedState", attend: bool | str = False):
        """words (B*K,), K rows of each image in turn -> logits (B*K,V), state; with attend also the attention (see Decoder)."""
        N, B = len(words), len(state.last)
        K, t = N // B, state.said
        image_says = t == 0 and self.in_sequence
        sees, times = state.sees, state.times
        if not image_says:  # a row sees what it said before, and its own new word
            own = torch.eye(K, dtype=torch.bool, device=words.device).repeat(B, 1)
            sees, times = torch.cat([sees, own], 1), torch.cat([times, times.new_full((K,), t)])
        bias = torch.zeros(sees.shape, device=words.device).masked_fill(~sees, -torch.inf).view(B, 1, K, -1)
        relative = self.relative_bias((times - t).unsqueeze(0))
        bias = bias if relative is None else bias + relative
        look = Look(
            Packing.without_padding(B, K), self.heads, self.scale, state.memory, None, state.caches, bias, image_says, attend=bool(attend)
        )
        x = state.last.repeat_interleave(K, 0) if image_says else self.embed(words, words.new_full((N,), t))
        for index in range(self.layers):
            x = self.layer(index, x, look)
        state = CachedState(state.memory, state.last, look.kept, sees, times, t + 1)
        logits = self.say(x)
        return (logits, state, self._seen(look, attend)) if attend else (logits, state)

    def forced(self, regions: Tensor, words: Tensor, lengths: Tensor, image_of: Tensor | None = None, attend: bool = False) -> Forced:
        """Predict each caption's words from its own earlier words; see Decoder."""
        B, N = len(regions), len(words)
        if image_of is None:
            image_of = captions_in_turn(B, N, words.device)
        # The captions of an image side by side, so that they share its keys without a copy where all images have as many.
        order = image_of.argsort(stable=True)
        words, lengths, image_of = words[order], lengths[order], image_of[order]
        packing = Packing(lengths)
        even = N % B == 0 and bool((torch.bincount(image_of, minlength=B) == N // B).all())
        tokens = self.tokens_of_image(regions)
        position = packing.position
        x = self.embed(words[:, : packing.T].flatten().index_select(0, packing.place), position)
        if self.in_sequence:
            asking = tokens[:, -1].index_select(0, image_of.index_select(0, packing.caption))  # (M, W)
            x = torch.where((position == 0).unsqueeze(1), asking, x)
        look = Look(
            packing, self.heads, self.scale, self.memory_of(tokens), None if even else image_of,
            bias=self._forced_bias(packing.T), first_is_image=self.in_sequence,
            dropout=dropout_of(self.attention_dropout, self.training), attend=attend,
        )  # fmt: skip
        for index in range(self.layers):
            x = self.layer(index, x, look)
        attention = self._seen(look, True) if attend else None
        return Forced(self.say(x), order.index_select(0, packing.caption), position, regions.new_zeros(N), attention)

    def _seen(self, look: Look, attend: bool | str) -> Tensor:
        """(M,R), or with "heads" (M,layers,h,R)."""
        if not self.has_places:
            raise BadInput("this captioner's image tokens have no place: ask for a map made from gradients (captioning.saliency)")
        regions = look.weights[0].shape[-1] - self.extra_tokens
        if attend == "heads":
            return torch.stack([look.packing.pack(w[..., :regions].transpose(1, 2)) for w in look.weights], 1)
        return look.packing.pack(one_map(look.weights, regions))


class CachedState(NamedTuple):
    """Between two words. memory: a layer each, the image's keys and values; caches: a layer each, what its beams said.

    last (B,W): the image's last token. sees (B*K,S): which of its image's S cached words a row said. times (S,): when each was said.
    """

    memory: list[KeysValues]
    last: Tensor
    caches: list[Cache]
    sees: Tensor
    times: Tensor
    said: int

    def select(self, rows: Tensor) -> "CachedState":
        """Rows of the beam, by index, within their image."""
        return self._replace(sees=self.sees.index_select(0, rows))

    def keep(self, images: Tensor, rows: Tensor) -> "CachedState":
        """Only these images, and the rows that are theirs."""
        memory = [tuple(t.index_select(0, images) for t in pair) for pair in self.memory]
        caches = [cache.keep(images) for cache in self.caches]
        return self._replace(memory=memory, last=self.last.index_select(0, images), caches=caches, sees=self.sees.index_select(0, rows))


class CrossDecoder(TransformerDecoder):
    """A plain Transformer decoder over regions, pre-norm, positions learnt (the `transformer` system)."""

    def __init__(self, region_dim: int, vocabulary_size: int, config: RunConfig):
        super().__init__()
        W = config.width
        self.heads, self.layers, self.scale = config.heads, config.layers, (W // config.heads) ** -0.5
        self.project_regions = nn.Sequential(nn.Linear(region_dim, W), nn.LayerNorm(W))
        self.embedding = nn.Embedding(vocabulary_size, W)
        self.longest = config.max_words
        self.positions = nn.Embedding(self.longest + 1, W)
        layer = nn.TransformerDecoderLayer(W, config.heads, 4 * W, config.dropout, "gelu", batch_first=True, norm_first=True)
        self.stack = nn.TransformerDecoder(layer, config.layers, norm=nn.LayerNorm(W))
        self.dropout = nn.Dropout(config.dropout)
        self.attention_dropout = config.dropout
        nn.init.normal_(self.embedding.weight, std=0.02)
        nn.init.normal_(self.positions.weight, std=0.02)
        for parameter in self.stack.parameters():  # the layers are copies of one: each starts from draws of its own
            if parameter.dim() > 1:
                nn.init.xavier_uniform_(parameter)

    def tokens_of_image(self, regions: Tensor) -> Tensor:
        return self.project_regions(regions)

    def memory_of(self, tokens: Tensor) -> list[KeysValues]:
        W = tokens.shape[2]
        memory = []
        for layer in self.stack.layers:
            attention = layer.multihead_attn
            both = F.linear(tokens, attention.in_proj_weight[W:], attention.in_proj_bias[W:])
            memory.append(tuple(split_heads(part, self.heads) for part in both.chunk(2, 2)))
        return memory

    def embed(self, words: Tensor, position: Tensor) -> Tensor:
        return self.dropout(self.embedding(words) + self.positions(position))

    def layer(self, index: int, x: Tensor, look: Look) -> Tensor:
        layer = self.stack.layers[index]
        W = x.shape[1]
        attention = layer.self_attn
        q, k, v = F.linear(layer.norm1(x), attention.in_proj_weight, attention.in_proj_bias).chunk(3, 1)
        x = x + layer.dropout1(attention.out_proj(look.words(q, k, v)))
        attention = layer.multihead_attn
        q = F.linear(layer.norm2(x), attention.in_proj_weight[:W], attention.in_proj_bias[:W])
        x = x + layer.dropout2(attention.out_proj(look.image(q, index)))
        return x + layer.dropout3(layer.linear2(layer.dropout(layer.activation(layer.linear1(layer.norm3(x))))))

    def say(self, x: Tensor) -> Tensor:
        return F.linear(self.stack.norm(x), self.embedding.weight)


class T5Decoder(TransformerDecoder):
    """T5's decoder over image tokens in place of its encoder's output (the `t5` system): one token, or all regions.

    Projection: linear layers with SiLU to T5's width; a LayerNorm behind it if asked for.
    """

    def __init__(self, region_dim: int, vocabulary_size: int, config: RunConfig, language: Language):
        super().__init__()
        self.has_places = config.features == "regions"
        self.stack = t5_decoder(language, vocabulary_size, config.dropout)
        settings = self.stack.config
        W = settings.d_model
        hidden = config.projection_dim or W
        self.project = nn.Sequential(nn.Linear(region_dim, hidden), nn.SiLU(), nn.Linear(hidden, W))
        self.norm = nn.LayerNorm(W) if config.projection_norm else nn.Identity()
        self.heads, self.layers, self.scale = settings.num_heads, len(self.stack.block), 1.0
        self.attention_dropout = config.dropout
        # t5-base says words with its embedding's own rows, scaled; T5 1.1 with a matrix of its own, or without the scale.
        stated = language.settings
        self.output_scale = W**-0.5 if stated.get("scale_decoder_outputs", stated.get("tie_word_embeddings") is not False) else 1.0
        self.unembed = nn.Linear(W, vocabulary_size, bias=False) if language.unembeds else None
        self.register_buffer("never", language.never(vocabulary_size), persistent=False)
        if self.unembed is not None and language.weights_folder is not None:
            self.unembed.weight.data.copy_(language.tensors["lm_head.weight"])
        self.language_config = language.to_dict()

    def tokens_of_image(self, regions: Tensor) -> Tensor:
        return self.norm(self.project(regions))

    def memory_of(self, tokens: Tensor) -> list[KeysValues]:
        attentions = [block.layer[1].EncDecAttention for block in self.stack.block]
        return [(split_heads(a.k(tokens), self.heads), split_heads(a.v(tokens), self.heads)) for a in attentions]

    def embed(self, words: Tensor, position: Tensor) -> Tensor:
        return self.stack.dropout(self.stack.embed_tokens(words))

    def relative_bias(self, distance: Tensor) -> Tensor:
        """Learnt in the first layer and used in all."""
        attention = self.stack.block[0].layer[0].SelfAttention
        bucket = attention._relative_position_bucket(
            distance, bidirectional=False, num_buckets=attention.relative_attention_num_buckets,
            max_distance=attention.relative_attention_max_distance,
        )  # fmt: skip
        return attention.relative_attention_bias(bucket).permute(2, 0, 1)  # (h, T, S)

    def layer(self, index: int, x: Tensor, look: Look) -> Tensor:
        own, image, feed_forward = self.stack.block[index].layer
        attention, normed = own.SelfAttention, own.layer_norm(x)
        x = x + own.dropout(attention.o(look.words(attention.q(normed), attention.k(normed), attention.v(normed))))
        attention = image.EncDecAttention
        x = x + image.dropout(attention.o(look.image(attention.q(image.layer_norm(x)), index)))
        return feed_forward(x)

    def say(self, x: Tensor) -> Tensor:
        x = self.stack.dropout(self.stack.final_layer_norm(x)) * self.output_scale
        weight = self.stack.embed_tokens.weight if self.unembed is None else self.unembed.weight
        return F.linear(x, weight, self.never.to(x.dtype))


class Gpt2Decoder(TransformerDecoder):
    """GPT-2 that goes on with text after tokens made of an image: what `prefix` and `sep` share."""

    in_sequence = True
    image_is_causal = True

    def __init__(self, vocabulary_size: int, config: RunConfig, language: Language):
        super().__init__()
        self.language_config = language.to_dict()
        self.model = gpt2_model(language, vocabulary_size, config.dropout)
        settings = self.model.config
        self.width, self.heads, self.layers = settings.n_embd, settings.n_head, settings.n_layer
        self.scale = (self.width // self.heads) ** -0.5
        self.attention_dropout = config.dropout
        self.image_tokens = 0  # set by the subclass
        self.register_buffer("never", language.never(vocabulary_size), persistent=False)

    def _check_context(self, image_tokens: int, config: RunConfig) -> None:
        self.image_tokens = image_tokens
        context = self.model.config.n_positions
        self.longest = context - image_tokens
        if config.max_words > self.longest:
            raise BadInput(
                f"{image_tokens} image tokens and {config.max_words} words are longer than the {context} positions of the language model; "
                "choose fewer tokens (--prefix-length, --grid) or a smaller --max-words"
            )

    def _placed(self, tokens: Tensor) -> Tensor:
        """Image tokens (B,P,W) with their positions."""
        return self.model.drop(tokens + self.model.wpe.weight[: tokens.shape[1]])

    def memory_of(self, tokens: Tensor) -> list[KeysValues]:
        B, P, W = tokens.shape
        packing = Packing(torch.full((B,), P, device=tokens.device))
        bias = causal_bias(P, tokens.device) if self.image_is_causal else None
        dropout = dropout_of(self.attention_dropout, self.training)
        look = Look(packing, self.heads, self.scale, bias=bias, dropout=dropout)
        x = tokens.flatten(0, 1)
        for block in self.model.h[:-1]:
            x = _gpt2_layer(block, x, look.words)
        # Of the last layer only keys and values are needed.
        block = self.model.h[-1]
        _, k, v = block.attn.c_attn(block.ln_1(x)).split(W, 1)
        return [*look.kept, tuple(split_heads(packing.spread(t), self.heads) for t in (k, v))]

    def embed(self, words: Tensor, position: Tensor) -> Tensor:
        # The text's first place is the image's last token, so word t stands t - 1 behind the image's part.
        place = (position + self.image_tokens - 1).clamp_min(0)
        return self.model.drop(self.model.wte(words) + self.model.wpe(place))

    def layer(self, index: int, x: Tensor, look: Look) -> Tensor:
        return _gpt2_layer(self.model.h[index], x, lambda q, k, v: look.both(q, k, v, index))

    def say(self, x: Tensor) -> Tensor:
        return F.linear(self.model.ln_f(x), self.model.wte.weight, self.never.to(x.dtype))


def _gpt2_layer(block, x: Tensor, look) -> Tensor:
    attention = block.attn
    q, k, v = attention.c_attn(block.ln_1(x)).split(x.shape[1], 1)
    x = x + attention.resid_dropout(attention.c_proj(look(q, k, v)))
    return x + block.mlp(block.ln_2(x))


class PrefixDecoder(Gpt2Decoder):
    """One vector -> embed_dim -> deep head -> prefix tokens -> Transformer encoder -> GPT-2 (the `prefix` system)."""

    has_places = False

    def __init__(self, region_dim: int, vocabulary_size: int, config: RunConfig, language: Language):
        super().__init__(vocabulary_size, config, language)
        self._check_context(config.prefix_length, config)
        W, hidden = self.width, config.projection_dim or self.width
        self.project = nn.Linear(region_dim, config.embed_dim)
        self.head = nn.Sequential(
            nn.Linear(config.embed_dim, hidden),
            nn.GELU(),
            nn.Linear(hidden, hidden),
            nn.GELU(),
            nn.Linear(hidden, config.prefix_length * W),
        )
        self.refiner = None
        if config.refiner_layers:
            layer = nn.TransformerEncoderLayer(W, self.heads, 4 * W, config.dropout, "gelu", batch_first=True)
            self.refiner = nn.TransformerEncoder(layer, config.refiner_layers, enable_nested_tensor=False)

    def tokens_of_image(self, regions: Tensor) -> Tensor:
        prefix = self.head(self.project(regions.squeeze(1))).unflatten(1, (-1, self.width))  # (B, P, W)
        return self._placed(prefix if self.refiner is None else self.refiner(prefix))


class SepDecoder(Gpt2Decoder):
    """Regions, projected up and down, and a learned [SEP] before the text (the `sep` system).

    Its mask: regions and [SEP] see each other fully and no text; text sees all regions, [SEP] and earlier text. mask="causal": GPT-2's own.
    """

    def __init__(self, region_dim: int, regions: int, vocabulary_size: int, config: RunConfig, language: Language):
        super().__init__(vocabulary_size, config, language)
        self.extra_tokens = int(config.separator)
        self._check_context(regions + self.extra_tokens, config)
        hidden = config.projection_dim or self.width
        self.project = nn.Sequential(nn.Linear(region_dim, hidden), nn.GELU(), nn.Dropout(config.dropout), nn.Linear(hidden, self.width))
        self.image_is_causal = config.mask == "causal"
        self.separator = nn.Parameter(torch.randn(self.width) * 0.02) if config.separator else None

    def tokens_of_image(self, regions: Tensor) -> Tensor:
        tokens = self.project(regions)
        if self.separator is not None:
            tokens = torch.cat([tokens, self.separator.expand(len(tokens), 1, -1)], 1)
        return self._placed(tokens)
