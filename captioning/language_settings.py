"""What is used of a language model's config.json, as Hugging Face writes it: each setting's default and its check. Imports no torch.

All else in it changes no logit. How many tokens it has is not read here: the weights say how many rows there are.
"""

import json
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

from captioning.bad_input import BadInput

ACTIVATIONS = ("gelu_new", "gelu", "gelu_fast", "gelu_pytorch_tanh", "relu", "silu", "swish", "tanh")


class Check(NamedTuple):
    fits: Callable[[object], bool]
    wanted: str


COUNT = Check(lambda value: type(value) is int and value > 0, "a whole number above 0")
OPTIONAL = Check(lambda value: value is None or COUNT.fits(value), f"{COUNT.wanted}, or null")
SMALL = Check(lambda value: type(value) is float and 0 < value < 1, "a number between 0 and 1")
FLAG = Check(lambda value: type(value) is bool, "true or false")
TRUE, FALSE = Check(lambda value: value is True, "true"), Check(lambda value: value is False, "false")
ACTIVATION = Check(lambda value: value in ACTIVATIONS, f"one of {', '.join(ACTIVATIONS)}")
FEED_FORWARD = Check(
    lambda value: isinstance(value, str) and value.removeprefix("gated-") in ACTIVATIONS, f"{ACTIVATION.wanted}, or gated- before one"
)

# Architecture -> name -> what absent or null means (None: it has to be stated), check.
SETTINGS = {
    "gpt2": {
        "n_embd": (None, COUNT), "n_layer": (None, COUNT), "n_head": (None, COUNT), "n_positions": (1024, COUNT), "n_inner": (None, OPTIONAL),
        "activation_function": ("gelu_new", ACTIVATION), "layer_norm_epsilon": (1e-5, SMALL),
        "scale_attn_weights": (True, TRUE), "scale_attn_by_inverse_layer_idx": (False, FALSE), "add_cross_attention": (False, FALSE),
    },
    "t5": {
        "d_model": (None, COUNT), "d_kv": (None, COUNT), "d_ff": (None, COUNT), "num_decoder_layers": (6, COUNT), "num_heads": (None, COUNT),
        "feed_forward_proj": ("relu", FEED_FORWARD), "layer_norm_epsilon": (1e-6, SMALL), "scale_decoder_outputs": (True, FLAG),
        "relative_attention_num_buckets": (32, COUNT), "relative_attention_max_distance": (128, COUNT),
    },
}  # fmt: skip
# What of them has to fit together.
TOGETHER = {
    "gpt2": Check(lambda used: used["n_embd"] % used["n_head"] == 0, "n_embd to be a multiple of n_head"),
    "t5": Check(
        lambda used: used["relative_attention_max_distance"] > used["relative_attention_num_buckets"] // 2 > 0,
        "relative_attention_max_distance to be above half of relative_attention_num_buckets, which is at least 2",
    ),
}


def read_config(folder: Path) -> dict:
    """config.json of a Hugging Face folder. Raises BadInput: not there, damaged, or without a model_type."""
    try:
        stated = json.loads((folder / "config.json").read_text(encoding="utf-8"))
        return stated | {"model_type": stated["model_type"]}
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise BadInput(f"{folder}: no Hugging Face folder: config.json is missing or damaged ({error})") from error


def used_settings(architecture: str, stated: dict, where: str) -> dict:
    """Those of `stated` that are used, and the defaults of the others. Raises BadInput in the name of `where`: one is wrong or not supported."""
    stated = {name: value for name, value in stated.items() if value is not None}
    if architecture == "t5":  # as T5Config fills them in
        scaled = stated.get("tie_word_embeddings", True)
        stated = {"num_decoder_layers": stated.get("num_layers", 6), "scale_decoder_outputs": scaled} | stated
    used = {name: stated.get(name, default) for name, (default, _) in SETTINGS[architecture].items()}
    for name, (_, check) in SETTINGS[architecture].items():
        if not check.fits(used[name]):
            raise BadInput(
                f"{where}: its {name} is {json.dumps(used[name])}, supported is {check.wanted}; give a whole, plain {architecture}"
            )
    if not TOGETHER[architecture].fits(used):
        raise BadInput(f"{where}: its sizes do not fit together, {architecture} wants {TOGETHER[architecture].wanted}; copy it again")
    return used
