"""Does showing other crops, colours and mirror images of the training photos help?

The paper's code does none and does not say so. Crops of 60 to 100 % of the area; with colour and flips besides (a photo whose captions
name left or right is never mirrored). The encoder stays frozen, but each epoch sees other pixels, so its regions can't be kept.
No number is published. Expected: little with few epochs, for a frozen encoder was trained to see past such changes.
Cost, one CPU core a row: a minute or two on the demo; on Flickr8k with DeiT-tiny about twice the main row. run_all.py --all, or by name.
"""

from dataclasses import replace

from benchmarks.experiments.encoders import main_row


def runs(profile) -> list:
    """(label, configuration) of each row."""
    label, main = main_row(profile)
    return [
        (f"{label}, no augmentation", main),
        (f"{label}, crops", replace(main, name=f"{main.name}-crop", augment="crop")),
        (f"{label}, crops, colour, flips", replace(main, name=f"{main.name}-crop-colour-flip", augment="crop-colour-flip")),
    ]
