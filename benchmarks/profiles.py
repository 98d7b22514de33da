"""How large a run is: a profile is a data set and the settings that all its runs share. Experiments change only what they ask about."""

from dataclasses import dataclass

from captioning.bad_input import BadInput
from captioning.config import RunConfig


@dataclass(frozen=True)
class Profile:
    """`data`: what --data is when nobody gives one ("" where it must be given). `photos`: pictures that may not be published with results.

    `main`: the row of `encoders` that every other experiment builds upon. `encoder_beams`: the beams of that experiment's rows, where
    they are more than the base's. `minutes`, `tuned_minutes`: what a run took on one CPU core of 2.5 GHz with its encoder frozen and
    learning, for the plan of a machine that has measured none; 0 is not known.
    """

    name: str
    data: str
    photos: bool
    base: RunConfig
    main: str
    encoder_beams: tuple[int, ...] = ()
    minutes: float = 0
    tuned_minutes: float = 0


# Settings of the demo were found by hand on the validation scenes; reports/LOG.md has what was tried.
DEMO = RunConfig(
    encoder="demo_convnext",
    embed_dim=128,
    attention_dim=32,
    hidden_dim=128,
    dropout=0.3,
    minimum_count=1,
    batch_size=80,
    epochs=4,
    decoder_lr=5e-3,
    warmup_steps=50,
)
# The paper's decoder; grid 7 as in the paper, whatever the encoder's own grid is.
PHOTOGRAPHS = RunConfig(grid=7, epochs=8, decoder_lr=1e-3, warmup_steps=100)
# The published rows of encoders on Flickr8k were decoded at beam 7.
WIDE = (1, 3, 5, 7)

# Flickr8k is for machines without a GPU too: its other experiments build upon the smallest encoder.
PROFILES = {
    "demo": Profile("demo", "demo", photos=False, base=DEMO, main="convnext", minutes=0.8, tuned_minutes=2.2),
    "flickr8k": Profile("flickr8k", "", photos=True, base=PHOTOGRAPHS, main="deit-tiny", encoder_beams=WIDE, minutes=27, tuned_minutes=100),
    "flickr30k": Profile("flickr30k", "", photos=True, base=PHOTOGRAPHS, main="convnext", encoder_beams=WIDE),
    "coco": Profile("coco", "", photos=True, base=PHOTOGRAPHS, main="convnext", encoder_beams=WIDE),
}


def profile_named(name: str) -> Profile:
    if name not in PROFILES:
        raise BadInput(f"--profile {name}: choose {', '.join(PROFILES)}")
    return PROFILES[name]
