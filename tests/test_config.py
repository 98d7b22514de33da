"""Settings of another system, which would change nothing but the run id, are one sentence; what is a system's own passes."""

import dataclasses

import pytest

from captioning.bad_input import BadInput
from captioning.config import RunConfig, main_beam_of
from captioning.presets import SWITCHES, switched
from captioning.systems import SYSTEMS, system_config

OTHERS = {
    "attend": {"layers": 3, "prefix_length": 4, "mask": "causal", "features": "vector", "language_model": "gpt2", "projection_norm": True},
    "t5": {"mask": "causal", "prefix_length": 4, "attention": "hard", "penalty_weight": 0.5},
    "prefix": {"separator": False, "projection_norm": True, "gate": "scalar"},
    "sep": {"refiner_layers": 1, "features": "vector", "attention": "hard", "output": "deep"},
    "transformer": {"tokenizer": "tokens", "mask": "causal", "prefix_length": 4, "activation": "tanh", "projection_dim": 64, "language_model": "gpt2"},
}  # fmt: skip
OWN = {
    "attend": {"attention": "hard", "reward": "mean", "penalty_weight": 0.5, "penalty_over": "sum", "locations": "argmax"},
    "t5": {"features": "regions", "projection_norm": True, "projection_dim": 64, "tokenizer": "tokens"},
    "prefix": {"prefix_length": 10, "refiner_layers": 0, "embed_dim": 64},
    "sep": {"mask": "causal", "separator": False},
    "transformer": {"layers": 2, "heads": 4, "width": 64},
}


@pytest.mark.parametrize(("system", "field"), [(system, field) for system in OTHERS for field in OTHERS[system]])
def test_a_setting_of_another_system_is_refused(system, field):
    option = "--no-separator" if field == "separator" else "--" + field.replace("_", "-")
    with pytest.raises(BadInput, match=f"^{option}.*: a setting of --system .*, not of {system}; leave it out$"):
        dataclasses.replace(system_config(system), **{field: OTHERS[system][field]})


@pytest.mark.parametrize("system", SYSTEMS)
def test_its_own_settings_pass_and_so_does_no_penalty(system):
    config = dataclasses.replace(system_config(system), **OWN[system])
    assert all(getattr(config, field) == value for field, value in OWN[system].items())
    assert dataclasses.replace(config, penalty_weight=0.0).penalty_weight == 0


def test_switches_of_the_paper_s_attention_are_refused_elsewhere():
    refused = set()
    for switch in SWITCHES:
        try:
            switched(switch.name, system_config("transformer"))
        except BadInput:
            refused.add(switch.name)
    assert refused == {"activation", "gate", "output", "penalty"}


@pytest.mark.parametrize("system", ["t5", "prefix", "sep"])
def test_a_named_language_model_has_its_own_sizes(system):
    config = system_config(system)
    for change in ({"layers": 3}, {"heads": 4}, {"width": 256}):
        with pytest.raises(BadInput, match=f"--{next(iter(change))} .*: {config.language_model} has sizes of its own; leave it out"):
            dataclasses.replace(config, **change)
    small = dataclasses.replace(config, language_model="", layers=3, heads=4, width=256)
    assert (small.layers, small.heads, small.width) == (3, 4, 256)
    assert RunConfig(system=system, features=config.features, language_model="a/model").language_model == "a/model"


def test_the_main_beam():
    assert main_beam_of((1, 3, 5)) == main_beam_of(["7", "5", "10"]) == "5"
    assert main_beam_of({"9": {}, "10": {}}) == "10" and main_beam_of(iter([1])) == "1"
