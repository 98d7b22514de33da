"""What a record's configuration says of a system's maps is what its decoder does."""

import dataclasses

import pytest

from captioning.config import RunConfig
from captioning.language_models import locate_language
from captioning.systems import MAP_KINDS, SYSTEMS, map_kind, system_config
from models import DECODERS

SMALL = {
    "language_model": "",
    "layers": 1,
    "heads": 2,
    "width": 8,
    "embed_dim": 8,
    "attention_dim": 8,
    "hidden_dim": 8,
    "projection_dim": 8,
}


@pytest.mark.parametrize("system, features", [*((system, system_config(system).features) for system in SYSTEMS), ("t5", "regions")])
def test_maps_are_gradients_where_the_image_has_no_places(system, features):
    config = dataclasses.replace(system_config(system), **SMALL, features=features)
    decoder = DECODERS[system](6, 4, 9, config, locate_language(config))
    assert (map_kind(dataclasses.asdict(config)) == "gradient") is (not decoder.has_places)


def test_kinds_of_maps():
    hard, none = (dataclasses.asdict(RunConfig(attention=kind)) for kind in ("hard", "none"))
    assert (map_kind(hard), map_kind(none)) == ("attention", "even")
    assert map_kind(none | {"system": "sep"}) == "attention"
    old = {name: value for name, value in none.items() if name not in ("system", "features")}
    assert map_kind(old) == "even" and map_kind({}) == "attention"  # records from before there were several systems
    assert set(MAP_KINDS) == {"attention", "gradient", "even"}
