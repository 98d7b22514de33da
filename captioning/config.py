"""What a run is: `RunConfig` holds every setting that changes its numbers, `Decode` how captions are searched. Neither imports torch.

Where a run happens (data folder, device, workers, output) is a flag of train.py and never part of `run_id`.
"""

import dataclasses
import hashlib
import json
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

from captioning.bad_input import BadInput, at_least, flag, one_of

# Raised by hand when a change of the code moves scores, so that records from before it no longer count as done.
NUMERICS = 1
MOST_LENGTH_PENALTY = 10.0  # a caption's length to a much higher power is no number any more
MOST_SEED = 2**62  # torch takes not much larger ones, and something is added for other processes


SYSTEM_NAMES = ("attend", "t5", "prefix", "sep", "transformer")
LANGUAGE = ("t5", "prefix", "sep")  # systems with a language model
TRANSFORMERS = (*LANGUAGE, "transformer")


def later(default, of: tuple[str, ...] = ()):
    """A field that came after records existed. At its default, which must mean what was done before it came, `run_id` leaves it out.

    of: the systems that it is a setting of (none: of all); in another it is refused unless it stands at its default.
    """
    return dataclasses.field(default=default, metadata={"later": True, "of": of})


@dataclass(frozen=True)
class Decode:
    """How captions are searched. beam 1 is greedy. Scores are sums of log-probabilities in nats, divided by length ** length_penalty."""

    beam: int = 5
    """Beam width; 1 is greedy."""
    max_words: int = 50
    """Longest caption in tokens, the end token counted."""
    length_penalty: float = 0.0
    """Exponent of the length that a caption's score is divided by; 0 is none."""
    no_repeat_ngram: int = 0
    """No n-gram of this length twice in a caption; 0 is off."""
    ban_unk: bool = False
    """Never say <unk>."""
    stop: Literal["best", "full", "shrink"] = "best"
    """best: until no open beam can still win. full: until `beam` captions have ended (Hugging Face's early_stopping=True).
    shrink: each caption that ends takes its place out of the beam (the paper's code)."""
    sample: bool = False
    """Draw words instead of searching for the likeliest caption."""
    temperature: float = 1.0
    top_k: int = 0
    """Draw from the k likeliest words only; 0 is off."""
    top_p: float = 1.0
    """Draw from the smallest set of words that holds this share of the probability."""
    seed: int = 0
    """Seed of the draws."""

    def __post_init__(self):
        at_least(self, beam=1, max_words=1, no_repeat_ngram=0, top_k=0, length_penalty=0.0, seed=0)
        _check_seed(self.seed)
        one_of(self, stop=("best", "full", "shrink"))
        if not 1e-6 <= self.temperature <= 1e6:  # beyond, no number is left of what is divided by it
            raise BadInput(f"--temperature {self.temperature}: give a number above 0, from 1e-6 to 1e6")
        if not self.length_penalty <= MOST_LENGTH_PENALTY:
            raise BadInput(f"--length-penalty {self.length_penalty}: give a number up to {MOST_LENGTH_PENALTY:g}")
        if not 0 < self.top_p <= 1:
            raise BadInput(f"--top-p {self.top_p}: give a share above 0 and up to 1")


def _check_seed(seed: int) -> None:
    if seed >= MOST_SEED:
        raise BadInput(f"--seed {seed}: give a number below {MOST_SEED}")


@dataclass(frozen=True)
class RunConfig:
    """One training run. Every field changes the numbers; `run_id` is made from all of them."""

    name: str = "attend"
    """What the run is called in tables and in its run id."""
    seed: int = 0
    system: Literal[SYSTEM_NAMES] = "attend"
    """attend: LSTM with visual attention. t5: T5 reads the image as its encoder's output. prefix: GPT-2 continues a prefix made of the image.
    sep: GPT-2 over regions, a learned [SEP] and text. transformer: Transformer decoder with cross-attention."""

    encoder: str = "convnext_small.fb_in1k"
    """A timm model with its weight tag, a demo encoder, or path/to/file.py:factory (runs that file's code)."""
    pretrained: bool = True
    """False: random encoder weights (--weights none)."""
    image_size: int = 0
    """Side of the square the encoder sees, in pixels; 0 is the encoder's own."""
    resize: Literal["squash", "crop"] = "squash"
    """squash: both sides to the square, as in the paper. crop: the shorter side, then the centre."""
    grid: int = 0
    """Pool the regions to grid x grid; 0 keeps the encoder's own grid."""
    normalise: Literal["own", "imagenet"] = later("own")
    """Mean and standard deviation of the encoder's own weights, or ImageNet's whatever the encoder (the paper's code)."""
    final_norm: bool = later(False)
    """Apply the norm that a ConvNeXt keeps in its classifier head. The paper's code drops it with the head: regions come un-normalised."""
    encoder_mode: Literal["eval", "train"] = later("eval")
    """train: the encoder, frozen too, is in train mode while training (the paper's code): stochastic depth draws, BatchNorm drifts, and its
    regions can't be kept."""
    tune_from: int = -1
    """-1: frozen encoder. 0: all of it learns. k: its layer groups from the k-th on learn (timm's own grouping)."""
    encoder_lr: float = 1e-5

    attention: Literal["soft", "hard", "none"] = later("soft", of=("attend",))
    """soft: the expected region. hard: one sampled region a word, learnt by REINFORCE. none: the mean region, the control."""
    activation: Literal["relu", "tanh"] = later("relu", of=("attend",))
    """Of the attention's scores. relu: the paper. tanh: arXiv:1502.03044."""
    gate: Literal["vector", "scalar"] = later("vector", of=("attend",))
    """Of the context: one per feature (the paper), or one (arXiv:1502.03044)."""
    output: Literal["simple", "deep"] = later("simple", of=("attend",))
    """simple: words from the hidden state alone (the paper). deep: from state, context and last word too (arXiv:1502.03044 eq. 7)."""
    # Of attend (embed_dim of prefix too), and yet not refused elsewhere: rows of the other systems keep those of the row they are made from.
    embed_dim: int = 512
    attention_dim: int = 512
    hidden_dim: int = 512
    dropout: float = 0.5
    """attend: before the vocabulary projection. The others: in every layer of the decoder, on its attention too."""
    reinforce_weight: float = later(0.1, of=("attend",))
    """hard: weight of the REINFORCE term beside the cross-entropy."""
    reinforce_scale: Literal["words", "captions", "none"] = later("words", of=("attend",))
    """hard: the term's sum over a batch is divided by its words, as the cross-entropy is, by its captions, or not at all (its released code)."""
    reward: Literal["sum", "mean"] = later("sum", of=("attend",))
    """hard: a caption's log-likelihood summed over its words (arXiv:1502.03044), or their mean (its released code)."""
    entropy_weight: float = later(0.002, of=("attend",))
    """hard: weight of the entropy of the attention, which keeps it from settling too early."""
    baseline_decay: float = later(0.9, of=("attend",))
    """hard: the baseline is so much of itself and the rest of the batch's mean reward; it starts from 0 and never knows the current batch."""
    expected_share: float = later(0.5, of=("attend",))
    """hard: how often the expected region is used in training in place of a sampled one."""
    expected_per: Literal["image", "batch"] = later("image", of=("attend",))
    """hard: that is drawn for each image (arXiv:1502.03044), or once for the batch (its released code; once for each part of it, where
    several processes or a small device share it)."""
    locations: Literal["expected", "sample", "argmax"] = later("expected", of=("attend",))
    """hard, when captioning: the expected region (arXiv:1502.03044's released code), a sampled one, or the likeliest."""

    features: Literal["regions", "vector"] = later("regions", of=("t5", "prefix"))
    """What the decoder sees of an image: its regions, or the one vector that the encoder's classifier would see (t5, prefix)."""
    language_model: str = later("", of=LANGUAGE)
    """t5, prefix, sep: a pretrained one, by its Hugging Face name or as a folder. Empty: a random one of `layers`, `heads` and `width`."""
    tokenizer: str = later("", of=LANGUAGE)
    """Empty: the language model's own, or, where that is random, words of the training captions. Else a folder with tokenizer files."""
    layers: int = later(6, of=TRANSFORMERS)
    """transformer, and random language models; a named one has sizes of its own."""
    heads: int = later(8, of=TRANSFORMERS)
    width: int = later(512, of=TRANSFORMERS)
    projection_dim: int = later(0, of=LANGUAGE)
    """t5, prefix, sep: hidden width of the projection from the image to the language model's width; 0 is that width itself."""
    projection_norm: bool = later(False, of=("t5",))
    """t5: a LayerNorm behind the projection."""
    prefix_length: int = later(5, of=("prefix",))
    """prefix: tokens made of one image."""
    refiner_layers: int = later(2, of=("prefix",))
    """prefix: layers of the Transformer encoder that refines the prefix; 0 is none."""
    mask: Literal["image", "causal"] = later("image", of=("sep",))
    """sep. image: regions and [SEP] see each other fully. causal: a token sees what stands before it."""
    separator: bool = later(True, of=("sep",))
    """sep: a learned [SEP] between regions and text."""

    teacher_forcing: Literal["always", "never", "linear", "inverse-sigmoid", "exponential"] = later("always")
    """In training, which words are fed back: the reference's, the model's own, or word by word the reference's with a share that falls
    over the epochs from 1 to about `forced_at_end` (scheduled sampling, arXiv:1506.03099)."""
    forced_at_end: float = later(0.5)
    """Share of the reference's words at the end of a falling schedule."""
    own_words: Literal["argmax", "sample"] = later("argmax")
    """The model's own word: its likeliest, or one drawn from its distribution."""

    restval: bool = later(True)
    """COCO: train on restval too (Karpathy's 113,287 images); without it arXiv:1502.03044's 82,783."""
    vocabulary: Literal["train", "all"] = "train"
    """Count words over the training captions, or over all splits as the paper's code does."""
    minimum_count: int = 6
    """Words seen less often are <unk>. The paper: more than 5 times."""
    max_words: int = 50
    """Longer training captions are cut."""
    train_on: Literal["train", "all"] = later("train")
    """all: images of validation and test too, as the published `prefix` system does; its scores then say nothing."""

    batching: Literal["images", "captions", "one"] = "images"
    """images: whole images with all their captions. captions: single shuffled captions, the paper's way. one: an epoch sees each image
    once, with one of its captions drawn anew (the published `sep` system)."""
    batch_size: int = 160
    """Captions a step, over all processes."""
    epochs: int = 20
    decoder_lr: float = 4e-4
    schedule: Literal["cosine", "constant", "plateau"] = "cosine"
    """cosine: to 0 over all epochs after `warmup_steps`. plateau: x0.8 after 8 epochs without a better validation score (the paper)."""
    warmup_steps: int = 0
    padding: Literal["masked", "end"] = later("masked")
    """end: captions get no end token of their own; shorter ones are filled up with end tokens to the batch's longest, and those are learnt
    (the published `prefix` system)."""
    clip_norm: float = 5.0
    """Gradients are scaled to at most this norm; 0 is off."""
    clip_value: float = later(0.0)
    """Gradients are cut element by element to plus or minus this (the paper's code: 5); 0 is off."""
    penalty_weight: float = dataclasses.field(default=1.0, metadata={"of": ("attend",)})
    """Weight of the attention penalty (doubly stochastic attention, arXiv:1502.03044 eq. 14)."""
    penalty_over: Literal["mean", "sum"] = later("mean", of=("attend",))
    """The penalty's mean over regions (the paper's code), so that its weight falls with the grid, or their sum (arXiv:1502.03044)."""
    augment: Literal["none", "crop", "crop-colour-flip"] = "none"
    """Seeded by (seed, epoch, image). Needs the encoder at every step, so regions are not kept."""
    patience: int = 0
    """Stop after this many epochs without a better validation score; 0 trains all epochs."""
    select: Literal["free", "published"] = "free"
    """Checkpoint selection by validation BLEU-4: free (greedy) or published (teacher-forced argmax; attend and transformer)."""
    precision: Literal["fp32", "bf16"] = "fp32"
    half_weights: bool = later(False)
    """The checkpoint's weights are rounded to fp16, half the size. The finished run is scored with what it holds; the scores that choose the
    epoch are of the weights before. Left as they are: numbers too large for fp16, and a frozen encoder that rounding would change."""

    beams: tuple[int, ...] = (1, 3, 5)
    """Beam widths at which the finished run is scored."""
    sampled: bool = later(False)
    """Score one drawn caption an image in place of beams: top-k 50, top-p 0.95, temperature 0.8 (the published `prefix` system)."""

    def __post_init__(self):
        at_least(
            self, seed=0, image_size=0, grid=0, tune_from=-1, embed_dim=1, attention_dim=1, hidden_dim=1, minimum_count=1, max_words=1,
            batch_size=1, epochs=1, warmup_steps=0, clip_norm=0.0, penalty_weight=0.0, patience=0,
            layers=1, heads=1, width=1, projection_dim=0, prefix_length=1, refiner_layers=0,
        )  # fmt: skip
        _check_seed(self.seed)
        one_of(self, system=SYSTEM_NAMES, resize=("squash", "crop"), vocabulary=("train", "all"))
        one_of(self, batching=("images", "captions", "one"), features=("regions", "vector"), mask=("image", "causal"))
        one_of(self, train_on=("train", "all"), padding=("masked", "end"))
        one_of(self, schedule=("cosine", "constant", "plateau"), augment=("none", "crop", "crop-colour-flip"), select=("free", "published"))
        one_of(self, precision=("fp32", "bf16"), normalise=("own", "imagenet"), encoder_mode=("eval", "train"))
        one_of(self, attention=("soft", "hard", "none"), activation=("relu", "tanh"), gate=("vector", "scalar"), output=("simple", "deep"))
        one_of(self, reward=("sum", "mean"), reinforce_scale=("words", "captions", "none"), expected_per=("image", "batch"))
        one_of(self, locations=("expected", "sample", "argmax"), own_words=("argmax", "sample"), penalty_over=("mean", "sum"))
        one_of(self, teacher_forcing=("always", "never", "linear", "inverse-sigmoid", "exponential"))
        at_least(self, clip_value=0.0, reinforce_weight=0.0, entropy_weight=0.0)
        for field in ("baseline_decay", "expected_share", "forced_at_end"):
            if not 0 <= getattr(self, field) <= 1:
                raise BadInput(f"{flag(field)} {getattr(self, field)}: give a share from 0 to 1")
        for field in ("encoder_lr", "decoder_lr"):
            if not 0 < getattr(self, field) < 1:
                raise BadInput(f"{flag(field)} {getattr(self, field)}: give a learning rate above 0 and below 1")
        if not 0 <= self.dropout < 1:
            raise BadInput(f"--dropout {self.dropout}: give a share from 0 up to, not including, 1")
        if not self.name or not all(c.isalnum() or c in "._-" for c in self.name):
            raise BadInput(f"--name {self.name!r}: use letters, digits, '.', '_' and '-'")
        if not self.beams or min(self.beams) < 1:
            raise BadInput(f"--beams {self.beams}: give beam widths of at least 1")
        if self.sampled and self.beams != (1,):
            raise BadInput(f"--sampled: one caption an image is drawn, so --beams is 1, not {' '.join(map(str, self.beams))}")
        self._check_system()

    def _check_system(self) -> None:
        self._refuse_settings_of_others()
        if self.system == "prefix" and self.features != "vector":
            raise BadInput("--system prefix makes its prefix of one vector: --features vector")
        if self.system != "attend" and not self.language_model and self.width % self.heads:
            raise BadInput(f"--width {self.width}: not divisible by --heads {self.heads}")
        if self.select == "published" and self.system in LANGUAGE:
            # Words leave by the rows they came in by, so that at first the likeliest next word is the one just fed: the reference, one place late.
            raise BadInput(
                f"--select published: {self.system} begins by repeating the words it is fed, which scores high teacher-forced; use --select free"
            )

    def _refuse_settings_of_others(self) -> None:
        """What would change nothing but the run id is refused."""
        for field in dataclasses.fields(self):
            value, systems = getattr(self, field.name), field.metadata.get("of")
            said = [field.default, *([0.0] if field.name == "penalty_weight" else [])]
            if systems and self.system not in systems and value not in said:
                raise BadInput(
                    f"{_given(field.name, value)}: a setting of --system {', '.join(systems)}, not of {self.system}; leave it out"
                )
        if not self.language_model:
            return
        from captioning.systems import SYSTEMS  # which stands on this module

        for name in ("layers", "heads", "width"):
            value, full = getattr(self, name), SYSTEMS[self.system].settings[name]
            if value not in (full, getattr(RunConfig, name)):
                raise BadInput(
                    f'{_given(name, value)}: {self.language_model} has sizes of its own; leave it out, or add --language-model ""'
                )

    @property
    def frozen(self) -> bool:
        return self.tune_from < 0


def main_beam_of(beams: Iterable[int | str]) -> str:
    """The beam whose captions stand for a run: 5, the field's habit, where it was decoded, else the widest. As records write it."""
    there = {int(beam) for beam in beams}
    return "5" if 5 in there else str(max(there))


def _given(field: str, value) -> str:
    """A setting as it stands on the command line."""
    if isinstance(value, bool):
        return flag(field) if value else flag(f"no_{field}")
    return f"{flag(field)} {value}"


def run_id(config: RunConfig, *, data: str, weights: str, encoder_file: str = "", language: dict | None = None) -> str:
    """`name-seed-hash`: the hash covers the settings, the data fingerprint, the hash of the weights and of a user's encoder file, and NUMERICS.

    language: of a language model, hashes of its weights and tokenizer and the settings of its folder (`Language.identity`).

    Time, paths, device and worker count are not in it: the same run elsewhere has the same id. Nor is a field that came later and stands at
    its default, so that records from before it keep their ids.
    """
    facts = dataclasses.asdict(config)
    for field in dataclasses.fields(config):
        if field.metadata.get("later") and facts[field.name] == field.default:
            del facts[field.name]
    facts |= {"data": data, "weights": weights, "encoder_file": encoder_file, "numerics": NUMERICS}
    for name in language or {}:  # the files are hashed; where they lie does not matter
        facts[name] = language[name]
    if ".py:" in config.encoder:
        facts["encoder"] = config.encoder.rsplit(":", 1)[1]  # the file itself is hashed; where it lies does not matter
    digest = hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()
    return f"{config.name}-{config.seed}-{digest[:10]}"
