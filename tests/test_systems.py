"""What a record's configuration says of a system's maps is what its decoder does; what the experiments make of the systems."""

import dataclasses

import pytest
import torch

from benchmarks.experiments import systems, systems_ablations
from benchmarks.profiles import PROFILES
from captioning.bad_input import BadInput
from captioning.config import RunConfig
from captioning.language_models import locate_language
from captioning.presets import preset
from captioning.systems import MAP_KINDS, SYSTEMS, map_kind, system_config
from models import DECODERS

SIZES = {"layers": 1, "heads": 2, "width": 8}
LANGUAGE = {"language_model": "", "projection_dim": 8, "embed_dim": 8, **SIZES}
SMALL = {
    "attend": {"embed_dim": 8, "attention_dim": 8, "hidden_dim": 8},
    "transformer": SIZES,
    "t5": LANGUAGE,
    "prefix": LANGUAGE,
    "sep": LANGUAGE,
}


@pytest.mark.parametrize("system, features", [*((system, system_config(system).features) for system in SYSTEMS), ("t5", "regions")])
def test_maps_are_gradients_where_the_image_has_no_places(system, features):
    config = dataclasses.replace(system_config(system), **SMALL[system], features=features)
    decoder = DECODERS[system](6, 4, 9, config, locate_language(config))
    assert (map_kind(dataclasses.asdict(config)) == "gradient") is (not decoder.has_places)


def test_kinds_of_maps():
    hard, none = (dataclasses.asdict(RunConfig(attention=kind)) for kind in ("hard", "none"))
    assert (map_kind(hard), map_kind(none)) == ("attention", "even")
    assert map_kind(none | {"system": "sep"}) == "attention"
    old = {name: value for name, value in none.items() if name not in ("system", "features")}
    assert map_kind(old) == "even" and map_kind({}) == "attention"  # records from before there were several systems
    assert set(MAP_KINDS) == {"attention", "gradient", "even"}


@pytest.mark.parametrize("system", SYSTEMS)
def test_selection_by_forced_words_is_refused_where_an_untrained_model_repeats_them(system):
    """Tied embeddings: most of what t5, prefix and sep say before any training is the word just fed."""
    config = dataclasses.replace(system_config(system), **SMALL[system])
    if system != "attend":
        config = dataclasses.replace(config, width=48, heads=4)
    torch.manual_seed(0)
    decoder = DECODERS[system](64, 16, 300, config, locate_language(config)).eval()
    regions, words = torch.randn(8, 1 if config.features == "vector" else 16, 64), torch.randint(4, 300, (8, 12))
    with torch.no_grad():
        forced = decoder.forced(regions, words, torch.full((8,), 11))
    repeated = (forced.logits.argmax(-1) == words[forced.caption, forced.position])[forced.position > 0].float().mean()
    assert repeated > 0.7 or repeated < 0.1
    if repeated > 0.7:
        with pytest.raises(BadInput, match="--select published: .* repeating the words it is fed"):
            dataclasses.replace(config, select="published")
    else:
        assert dataclasses.replace(config, select="published").select == "published"


@pytest.mark.parametrize("profile", ["flickr8k", "flickr30k", "coco"])
def test_what_a_document_leaves_open_is_the_main_row_s(profile):
    """Captions seen: an epoch of `one` shows one of five. What the documents of prefix (batches of 96, 3 epochs) and sep (one caption) say stays."""
    main, *rows = [config for _, config in systems.runs(PROFILES[profile])]
    named = {config.system: config for config in rows[:4]}
    seen = {system: config.epochs * (1 if config.batching == "one" else 5) for system, config in named.items()}
    assert seen == {"t5": 5 * main.epochs, "prefix": 5 * 3, "sep": 5 * main.epochs, "transformer": 5 * main.epochs}
    assert {system: config.batch_size for system, config in named.items()} == dict.fromkeys(SYSTEMS.keys() - {"attend"}, 160) | {
        "prefix": 96
    }
    assert (named["sep"].batching, named["sep"].grid, named["transformer"].grid) == ("one", 0, main.grid)


@pytest.mark.parametrize("profile", PROFILES)
def test_every_ablation_changes_something_of_its_own(profile):
    rows = [config for _, config in systems_ablations.runs(PROFILES[profile])]
    unnamed = [dataclasses.replace(config, name="x") for config in rows]
    assert len(set(unnamed)) == len(rows) == len({config.name for config in rows})
    own = systems.row_of(PROFILES[profile], "sep")[1]
    other = next(config for config in rows if config.system == "sep" and config.batching != own.batching)
    captions = {config.batching: config.epochs * (1 if config.batching == "one" else 5) for config in (own, other)}
    assert captions.keys() == {"one", "images"} and len(set(captions.values())) == 1


@pytest.mark.parametrize("profile", PROFILES)
def test_the_published_prefix_row_is_trained_as_the_preset_is(profile):
    config = next(config for _, config in systems_ablations.runs(PROFILES[profile]) if config.name.endswith("-as-published"))
    asked = preset("as-published", "prefix")
    fields = ("normalise", "train_on", "padding", "batching", "schedule", "warmup_steps", "clip_norm", "sampled", "beams")
    assert [getattr(config, field) for field in fields] == [getattr(asked, field) for field in fields]
