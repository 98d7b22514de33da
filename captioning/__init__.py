"""The parts of ReCap: data, text, decoding, scores, and `load_captioner`, the one way to load a model."""

from captioning.captioner import Caption, Captioner, load_captioner

__all__ = ["Caption", "Captioner", "load_captioner"]
