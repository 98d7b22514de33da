"""Two presets, and every difference between them as a switch that can be set alone: what the paper's published code does, and what it meant.

`as-published` mirrors the code (Leo-Thomas/ConvNeXt-for-Image-Captioning), accidents included; `corrected` keeps the paper's model and mends
the accidents. A switch also says what else the field does (`elsewhere`), where that is Show, Attend and Tell's (arXiv:1502.03044) or this
project's own habit. Two accidents lie in the scores and not in the run: `<end>` and `<unk>` count in the published BLEU
(`captioning.protocols.score_published`). Fine-tuning has no switch of its own: the published code unfreezes nothing, so both presets are frozen.
"""

import dataclasses
from dataclasses import dataclass, field

from captioning.bad_input import BadInput
from captioning.config import RunConfig
from captioning.systems import system_config


@dataclass(frozen=True)
class Switch:
    """One decision. `published`, `corrected` and `elsewhere` are fields of RunConfig with their values; the keys are always the same."""

    name: str
    consequence: str
    published: dict
    corrected: dict
    elsewhere: dict = field(default_factory=dict)


SWITCHES = (
    Switch(
        "selection",
        "Checkpoint, learning rate and stopping follow the BLEU-4 of teacher-forced words, each image counted five times.",
        {"select": "published"},
        {"select": "free"},
    ),
    Switch(
        "train-mode",
        "The frozen encoder draws stochastic depth (ConvNeXt) or lets BatchNorm drift (CNN baselines): noisy regions, which can't be kept.",
        {"encoder_mode": "train"},
        {"encoder_mode": "eval"},
    ),
    Switch(
        "final-norm",
        "ConvNeXt's last LayerNorm lies in the classifier that the code drops: regions come un-normalised.",
        {"final_norm": False},
        {"final_norm": True},
    ),
    Switch(
        "weights",
        "torchvision's ImageNet-1k weights of ConvNeXt-Small; ours are the authors' own.",
        {"encoder": "convnext_small.tv_in1k"},
        {"encoder": "convnext_small.fb_in1k"},
    ),
    Switch(
        "image",
        "Squashed to 256 pixels with ImageNet's mean and standard deviation, whatever the encoder was trained with.",
        {"image_size": 256, "normalise": "imagenet", "resize": "squash"},
        {"image_size": 0, "normalise": "own", "resize": "squash"},
        {"image_size": 0, "normalise": "own", "resize": "crop"},
    ),
    Switch("grid", "An 8x8 map pooled to 7x7; the baselines' code keeps 14x14.", {"grid": 7}, {"grid": 7}, {"grid": 14}),
    Switch(
        "split",
        "Karpathy's split with restval in training (113,287 images); Xu et al. trained on 82,783.",
        {"restval": True},
        {"restval": True},
        {"restval": False},
    ),
    Switch(
        "vocabulary",
        "Words are counted over all splits: test captions decide which words are known.",
        {"vocabulary": "all"},
        {"vocabulary": "train"},
    ),
    Switch(
        "batches",
        "32 shuffled captions a step, so that an image is encoded five times an epoch; ours are whole images, 160 captions.",
        {"batching": "captions", "batch_size": 32, "decoder_lr": 4e-4},
        {"batching": "images", "batch_size": 160, "decoder_lr": 1e-3},
    ),
    Switch(
        "schedule",
        "At most 120 epochs, learning rate x0.8 after 8 without a better BLEU, stop at 20; ours falls as a cosine.",
        {"schedule": "plateau", "epochs": 120, "patience": 20, "warmup_steps": 0},
        {"schedule": "cosine", "epochs": 20, "patience": 0, "warmup_steps": 100},
    ),
    Switch(
        "clipping",
        "Gradients cut element by element, which turns their direction; ours are scaled.",
        {"clip_value": 5.0, "clip_norm": 0.0},
        {"clip_value": 0.0, "clip_norm": 5.0},
    ),
    Switch(
        "penalty",
        "The attention penalty's mean over regions: its weight falls with the grid.",
        {"penalty_over": "mean", "penalty_weight": 1.0},
        {"penalty_over": "mean", "penalty_weight": 1.0},
        {"penalty_over": "sum", "penalty_weight": 1.0},
    ),
    Switch(
        "activation", "ReLU in the attention's scores; Xu: tanh.", {"activation": "relu"}, {"activation": "relu"}, {"activation": "tanh"}
    ),
    Switch("gate", "A gate for each feature of the context; Xu: one.", {"gate": "vector"}, {"gate": "vector"}, {"gate": "scalar"}),
    Switch(
        "output", "Words from the hidden state alone; Xu: a deep output.", {"output": "simple"}, {"output": "simple"}, {"output": "deep"}
    ),
    Switch(
        "captions",
        "Five an image, cut at 50 words.",
        {"max_words": 50, "minimum_count": 6},
        {"max_words": 50, "minimum_count": 6},
        {"max_words": 20, "minimum_count": 6},
    ),
    Switch(
        "teacher-forcing",
        "Always; nothing in the code trains or decodes without it.",
        {"teacher_forcing": "always"},
        {"teacher_forcing": "always"},
        {"teacher_forcing": "never"},
    ),
)


def _of(name: str) -> RunConfig:
    settings = {key: value for switch in SWITCHES for key, value in getattr(switch, name.replace("as-", "")).items()}
    return RunConfig(name=name, attention="soft", embed_dim=512, attention_dim=512, hidden_dim=512, dropout=0.5, tune_from=-1, **settings)


PRESETS = {name: _of(name) for name in ("as-published", "corrected")}


# How the published `prefix` system (vinay-852/Image_Captioning) trains and captions, as far as settings can say it.
PREFIX_PUBLISHED = {
    "normalise": "imagenet",  # vit_base_patch16_224 wants 0.5 and 0.5
    "train_on": "all",  # test images included
    "padding": "end",  # the longest caption of a batch alone learns no end, the others learn many
    "batching": "captions",
    # paper: AdamW, weight decay 0.01, in mixed fp16; here: Adam in float32.
    "schedule": "constant",  # its rate falls every 5 epochs, and it trains 3
    "warmup_steps": 0,
    "clip_norm": 0.0,
    # paper: no validation, the last epoch's weights; here: those of the epoch of the best validation BLEU-4.
    # paper: at most 20 tokens drawn (since 2024 transformers counts the prefix's 5 among them); here: as many as in training, 50.
    "sampled": True,
    "beams": (1,),
}
# Its sizes are the system's (captioning/systems.py, where its head and its refiner differ); corrected is that system as this project trains.
PREFIX_PRESETS = {
    "as-published": dataclasses.replace(system_config("prefix"), name="as-published", **PREFIX_PUBLISHED),
    "corrected": dataclasses.replace(system_config("prefix"), name="corrected"),
}


def preset(name: str, system: str = "attend") -> RunConfig:
    """Raises BadInput for a name that is none, or a system without presets."""
    presets = {"attend": PRESETS, "prefix": PREFIX_PRESETS}.get(system)
    if presets is None:
        raise BadInput(f"--preset {name}: --system {system} has none; leave it out")
    if name not in presets:
        raise BadInput(f"--preset {name}: choose {', '.join(presets)}")
    return presets[name]


def switched(name: str, base: RunConfig | None = None) -> RunConfig:
    """`corrected` (or base) with one switch set as the paper's code has it; where both presets agree, as others do."""
    switch = next((switch for switch in SWITCHES if switch.name == name), None)
    if switch is None:
        raise BadInput(f"no switch {name!r}; there are {', '.join(switch.name for switch in SWITCHES)}")
    setting = switch.published if switch.published != switch.corrected else switch.elsewhere
    return dataclasses.replace(base or PRESETS["corrected"], name=f"{name}-switched", **setting)
