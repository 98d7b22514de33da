"""What `python train.py --help` says: the settings that most runs change. `--help-all` lists every one, as tyro prints the dataclasses. No torch."""

from captioning.config import RunConfig

SETTINGS = {
    "data and place": {
        "data": "folder with captions and images, the captions file, or demo (drawn scenes)",
        "out": "checkpoint folder (default trained/<run_id>); called again, training goes on",
        "weights": "of encoder and language model: pretrained (by name), none, a folder, a file",
        "device": "auto, cpu, cuda",
        "device-batch-size": "captions at once on a device, where memory is short (default: the whole batch)",
        "workers": "processes that decode photos (default 2)",
    },
    "model": {
        "system": "attend, t5, prefix, sep, transformer",
        "encoder": "a timm model by name, or FILE.py:FACTORY, which is run",
        "grid": "pool the image to GRID x GRID regions; 0: the encoder's own grid",
        "tune-from": "-1: the encoder stays frozen; 0: all of it learns; K: from its layer group K on",
        "attention": "soft, hard, none",
        "language-model": "t5, prefix, sep: a name at Hugging Face, a folder, or empty for a random one",
        "dropout": "in the decoder",
        "minimum-count": "words seen less often are <unk>",
    },
    "training": {
        "preset": "as-published or corrected: all that the paper's code does, or what it meant",
        "epochs": "passes over the training images",
        "batch-size": "captions a step",
        "decoder-lr": "learning rate",
        "encoder-lr": "learning rate of an encoder that learns",
        "teacher-forcing": "always, never, linear, inverse-sigmoid, exponential",
        "augment": "none, crop, crop-colour-flip",
        "patience": "stop after so many epochs without a better validation score; 0: never",
        "precision": "fp32, bf16",
        "seed": "of everything that is drawn",
    },
}


def short_help(description: str, defaults: RunConfig) -> str:
    """description: of the command, its examples in it. defaults: what stands behind a setting of RunConfig."""
    lines = [description.strip(), ""]
    for group, settings in SETTINGS.items():
        lines.append(f"{group}:")
        for name, text in settings.items():
            default = getattr(defaults, name.replace("-", "_"), "")
            lines.append(f"  --{name:<18} {text}{'' if default == '' else f' (default {default})'}")
        lines.append("")
    lines += [
        "every setting:         python train.py --help-all",
        "as a preset has them:  python train.py --preset as-published --help-all",
    ]
    return "\n".join(lines)
