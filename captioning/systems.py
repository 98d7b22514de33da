"""The five captioners: where each comes from, and its full-scale configuration, the default of `train.py --system NAME`. Imports no torch.

A size that a system's own document names is that; settings that it leaves open are named in `open`. Everything else stays as RunConfig has it.
"""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace

from captioning.bad_input import BadInput
from captioning.config import RunConfig


@dataclass(frozen=True)
class System:
    """What it is in one line, its document, what its configuration changes, its language model's architecture ("" for none), and which of
    those changes are ours: its document does not say."""

    title: str
    document: str
    settings: dict = field(default_factory=dict)
    architecture: str = ""
    open: frozenset[str] = frozenset()

    @property
    def said(self) -> dict:
        """The settings that are its document's."""
        return {name: value for name, value in self.settings.items() if name not in self.open}


# A random language model (--language-model "") has the sizes of the named one.
_LANGUAGE = {"tune_from": -1, "decoder_lr": 1e-4, "dropout": 0.1, "penalty_weight": 0.0, "warmup_steps": 500}
_TRAINING = frozenset({"decoder_lr", "dropout", "warmup_steps", "batch_size", "epochs"})  # where a document is silent on training

SYSTEMS = {
    "attend": System(
        "ConvNeXt, LSTM with visual attention",
        "A Study of ConvNeXt Architectures for Enhanced Image Captioning, IEEE Access 2024",
    ),
    "t5": System(
        "ConvNeXt V2, one token into T5",
        "github.com/yusufsas/ConvNextT5-ImageCaptioning",
        _LANGUAGE
        | {
            "encoder": "convnextv2_base.fcmae_ft_in1k",
            "features": "vector",
            "language_model": "google-t5/t5-base",
            "layers": 12,
            "heads": 12,
            "width": 768,
            "tune_from": 0,  # end to end
            "encoder_lr": 1e-5,
            "batch_size": 80,
            "epochs": 5,
        },
        "t5",
        _TRAINING | {"encoder_lr"},
    ),
    "prefix": System(
        "ViT, five prefix tokens before GPT-2",
        "github.com/vinay-852/Image_Captioning",
        _LANGUAGE
        | {
            "encoder": "vit_base_patch16_224.augreg2_in21k_ft_in1k",
            "features": "vector",
            "language_model": "openai-community/gpt2",
            "layers": 12,
            "heads": 12,
            "width": 768,
            "embed_dim": 512,
            # paper: hidden layers of 1024, 1024 and 512, each with dropout and a LayerNorm; here: two of 1024 with neither.
            "projection_dim": 1024,
            "prefix_length": 5,
            "refiner_layers": 2,  # paper: 8 heads, feed-forward width 2048; here: GPT-2's own, 12 and 3072.
            "batch_size": 96,
            "epochs": 3,
        },
        "gpt2",
        frozenset({"warmup_steps"}),
    ),
    "sep": System(
        "ViT, regions and [SEP] before DistilGPT2",
        "Image-Captioning with ViT and DistilGPT2 (BLEU-1 0.66 on a COCO subset)",
        _LANGUAGE
        | {
            "encoder": "vit_base_patch16_224.augreg_in1k",
            "language_model": "distilbert/distilgpt2",
            "layers": 6,
            "heads": 12,
            "width": 768,
            "grid": 0,  # all of the ViT's tokens
            "projection_dim": 3072,  # "a higher-dimensional space"
            "batching": "one",
            "batch_size": 64,
            "epochs": 20,
        },
        "gpt2",
        _TRAINING | {"projection_dim"},
    ),
    "transformer": System(
        "ConvNeXt, Transformer decoder with cross-attention",
        "CaptionGen: ConvNeXt and Transformer on Flickr8k",
        {
            "encoder": "convnext_small.fb_in1k",
            "layers": 6,
            "heads": 8,
            "width": 512,
            "dropout": 0.1,
            "penalty_weight": 0.0,
            "warmup_steps": 500,
        },
        open=frozenset({"layers", "heads", "width", "dropout", "penalty_weight", "warmup_steps"}),
    ),
}


def system_config(system: str) -> RunConfig:
    """The full-scale configuration. Raises BadInput for a name that is none."""
    if system not in SYSTEMS:
        raise BadInput(f"--system {system}: choose {', '.join(SYSTEMS)}")
    return replace(RunConfig(), **{"name": system, "system": system} | SYSTEMS[system].settings)


# What a word's map over the picture is made of -> in words.
MAP_KINDS = {"attention": "attention", "gradient": "gradient times input", "even": "every word sees the mean region"}


def map_kind(config: Mapping) -> str:
    """A key of `MAP_KINDS`, by a record's or a checkpoint's `config`: gradients where the image's tokens have no place, even without attention."""
    config = asdict(RunConfig()) | dict(config)  # a record from before a field came has none of it
    if config["system"] == "prefix" or (config["system"] == "t5" and config["features"] == "vector"):
        return "gradient"
    return "even" if config["system"] == "attend" and config["attention"] == "none" else "attention"
