"""The one way to caption: `load_captioner` a checkpoint folder, `Captioner.caption` pictures. The command line, the web demo, evaluation and the speed
bench use nothing else.

    from captioning import load_captioner

    captioner = load_captioner("checkpoints/...")
    (caption,) = captioner.caption(["photo.jpg"])
    print(caption.text)
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from captioning.bad_input import BadInput
from captioning.config import Decode
from captioning.systems import map_kind


@dataclass(frozen=True)
class Caption:
    """text, its words, its score (log-probability in nats, see captioning.decoding); attention (T,h,w) as NumPy, a map a word, if asked for.

    The map of a word that is made of several pieces is their mean.
    """

    text: str
    score: float
    words: list[str]
    attention: Any = None


class Captioner:
    """A trained model with its vocabulary and preprocessing: pictures in, captions out. Made by `load_captioner`."""

    def __init__(self, model, vocabulary, description: dict, device):
        self.model = model.to(device).eval()
        self.vocabulary = vocabulary
        self.description = description
        self.device = device

    def caption(self, images: Sequence, decode: Decode | None = None, attend: bool = False) -> list[Caption]:
        """One caption for each image, the best of the search. images: PIL images, paths or files' bytes, any size and mode.

        decode: None is `Decode()`, with shorter captions where the decoder has no more positions. attend: with a map a word, of attention or,
        where the system's image tokens have no place, of gradients (`map_kind` says which). Raises BadInput: a picture that is none, a search that
        this model can't do.
        """
        import torch

        pixels = [torch.from_numpy(self.prepare(image)) for image in images]
        if not pixels:
            return []
        pixels, decode = torch.stack(pixels).to(self.device), decode or Decode(max_words=self.most_words())
        with torch.inference_mode():
            regions = self.model.encode(pixels)
        if not attend or self.map_kind != "gradient":
            return [found[0] for found in self.caption_regions(regions, decode, attend)]
        from captioning.saliency import gradient_maps

        best = [found[0] for found in self._search(regions, decode, attend=False)]
        maps = gradient_maps(self.model, pixels, [(i, h.words, range(len(h.words))) for i, h in enumerate(best)])
        return [self._caption(h, of_pieces) for h, of_pieces in zip(best, maps, strict=True)]

    def most_words(self, wanted: int = Decode.max_words) -> int:
        """wanted, or as many words as the decoder has positions for."""
        longest = self.model.decoder.longest
        return wanted if longest is None else min(wanted, longest)

    @property
    def map_kind(self) -> str:
        """What a word's map shows: "attention", "gradient" (gradient times input), or "even" where every word sees the mean region."""
        return map_kind(self.description["config"])

    def caption_regions(self, regions, decode: Decode, attend: bool = False) -> list[list[Caption]]:
        """regions (B,R,D) -> for each image the captions of the search, best first."""
        return [[self._caption(h, h.attention) for h in found] for found in self._search(regions, decode, attend)]

    def _search(self, regions, decode: Decode, attend: bool) -> list[list]:
        from captioning.decoding import search, seeded

        if decode.beam > len(self.vocabulary):
            raise BadInput(f"--beam {decode.beam}: wider than the vocabulary of {len(self.vocabulary)} words; choose a smaller beam")
        if self.most_words(decode.max_words) < decode.max_words:
            raise BadInput(f"--max-words {decode.max_words}: this captioner has positions for {self.most_words(decode.max_words)}")
        with seeded(decode.seed, self.device):
            return search(self.model.decoder, regions.to(self.device), decode, attend)

    def prepare(self, image):
        """Any image -> what the encoder sees, uint8 (S,S,3)."""
        import numpy as np
        from PIL import Image

        from captioning.images import open_image, to_upright_rgb
        from captioning.pixels import resize

        pre = self.model.encoder.preprocessing
        picture = to_upright_rgb(image) if isinstance(image, Image.Image) else open_image(image)
        return np.array(resize(picture, pre.size, pre.resize, pre.interpolation))

    def _caption(self, hypothesis, of_pieces) -> Caption:
        """of_pieces: a map for each piece of the hypothesis, (T,R) or (T,h,w), or None."""
        import numpy as np

        groups = self.vocabulary.groups(hypothesis.words)
        maps = None
        if of_pieces is not None:
            if not isinstance(of_pieces, np.ndarray):
                of_pieces = of_pieces.float().cpu().numpy().reshape(-1, *self.model.encoder.grid)
            maps = np.array([of_pieces[places].mean(axis=0) for _, places in groups]).reshape(-1, *of_pieces.shape[1:])
        return Caption(self.vocabulary.text(hypothesis.words), hypothesis.score, [word for word, _ in groups], maps)


def load_captioner(
    path: str | Path, device: str = "auto", weights: str = "pretrained", encoder: str = "", locations: str = ""
) -> Captioner:
    """Load a checkpoint folder. device: auto, cpu or cuda. weights, encoder: see captioning.checkpoint.load_checkpoint.

    locations: what hard attention looks at, in place of what it was configured for: expected, sample or argmax. Raises BadInput.
    """
    import torch

    from captioning.checkpoint import load_checkpoint
    from models import build_model

    if device == "cuda" and not torch.cuda.is_available():
        raise BadInput("--device cuda: torch sees no CUDA device; use --device cpu")
    if device == "auto":
        device = "cuda" if torch.cuda.is_available() else "cpu"
    model, vocabulary, description = load_checkpoint(path, build_model, weights, encoder)
    if locations:
        if not getattr(model.decoder, "hard", False):
            raise BadInput(f"--locations {locations}: {path} has no hard attention; leave the option out")
        model.decoder.locations = locations
    return Captioner(model, vocabulary, description, torch.device(device))
