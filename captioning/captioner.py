"""The one way to caption: `load_captioner` a checkpoint folder, `Captioner.caption` pictures. The command line, the web demo and the speed
bench use nothing else.

    from captioning import load_captioner

    captioner = load_captioner("checkpoints/...")
    (caption,) = captioner.caption(["photo.jpg"])
    print(caption.text)
    for other in captioner.alternatives("photo.jpg"):
        print(other.score, other.text)
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from captioning.bad_input import BadInput
from captioning.config import Decode
from captioning.systems import map_kind

if TYPE_CHECKING:
    import numpy as np
    import torch
    from PIL import Image

    from captioning.subwords import Subwords
    from captioning.vocabulary import Vocabulary

    Photo = Image.Image | str | Path | bytes

AT_ONCE = 32  # images in a batch


@dataclass(frozen=True)
class Caption:
    """What was said of a picture.

    score: its log-probability in nats, see captioning.decoding. attention (T,h,w): a map for each word, None unless asked for; the map of a word
    that is made of several pieces is their mean. ended: it came to its own end; False where it was cut at the longest caption.
    """

    text: str
    score: float
    words: list[str]
    attention: "np.ndarray | None" = None
    ended: bool = True


class Captioner:
    """A trained model with its vocabulary and preprocessing: pictures in, captions out. Made by `load_captioner`."""

    def __init__(self, model: "torch.nn.Module", vocabulary: "Vocabulary | Subwords", description: dict, device: "torch.device"):
        self.model = model.to(device).eval()
        self.vocabulary = vocabulary
        self.description = description
        self.device = device

    def caption(self, images: "Sequence[Photo]", decode: Decode | None = None, attend: bool = False) -> list[Caption]:
        """One caption for each image, the best of the search. images: PIL images, paths or files' bytes, any size and mode.

        decode: one that is given says <unk>, as the scored captions do, unless it has ban_unk; None is `Decode()` without <unk>, with shorter captions
        where the decoder has no more positions. attend: with a map a word, of attention or, where the system's image tokens have no place, of gradients
        (`map_kind` says which). Raises BadInput: a picture that is none, a search that this model can't do.
        """
        return [found[0] for found in self.alternatives_of(images, decode, attend, most=1)]

    def alternatives(self, image: "Photo", decode: Decode | None = None, attend: bool = False) -> list[Caption]:
        """All captions of one image's search, the best first: up to `decode.beam` of them, one if sampled. `caption` gives the first."""
        return self.alternatives_of([image], decode, attend)[0]

    def alternatives_of(
        self, images: "Sequence[Photo]", decode: Decode | None = None, attend: bool = False, most: int | None = None
    ) -> list[list[Caption]]:
        """`alternatives` of several images, searched 32 at a time; the best `most` of each. A map by gradient costs a backward pass a word."""
        import torch

        if len(images) > AT_ONCE:  # else memory would grow with them
            groups = (images[first : first + AT_ONCE] for first in range(0, len(images), AT_ONCE))
            return [found for group in groups for found in self.alternatives_of(group, decode, attend, most)]
        pixels = [torch.from_numpy(self.prepare(image)) for image in images]
        if not pixels:
            return []
        pixels, decode = torch.stack(pixels).to(self.device), decode or Decode(max_words=self.most_words(), ban_unk=True)
        with torch.inference_mode():
            regions = self.model.encode(pixels)
        by_gradient = attend and self.map_kind == "gradient"
        found = self._search(regions, decode, attend and not by_gradient)
        if most != 1 and decode.stop == "best":
            self._search_on(found, regions, decode, attend and not by_gradient)
        found = [one[:most] for one in found]
        if not by_gradient:
            return [[self._caption(h, h.attention) for h in one] for one in found]
        from captioning.saliency import gradient_maps

        asked = [(image, h.words, range(len(h.words))) for image, one in enumerate(found) for h in one]
        maps = iter(gradient_maps(self.model, pixels, asked))
        return [[self._caption(h, next(maps)) for h in one] for one in found]

    def most_words(self, wanted: int = Decode.max_words) -> int:
        """wanted, or as many words as the decoder has positions for."""
        longest = self.model.decoder.longest
        return wanted if longest is None else min(wanted, longest)

    @property
    def map_kind(self) -> str:
        """What a word's map shows: "attention", "gradient" (gradient times input), or "even" where every word sees the mean region."""
        return map_kind(self.description["config"])

    def _search(self, regions, decode: Decode, attend: bool) -> list[list]:
        from captioning.decoding import search, seeded

        if decode.beam > len(self.vocabulary):
            raise BadInput(f"--beam {decode.beam}: wider than the vocabulary of {len(self.vocabulary)} words; choose a smaller beam")
        if self.most_words(decode.max_words) < decode.max_words:
            raise BadInput(f"--max-words {decode.max_words}: this captioner has positions for {self.most_words(decode.max_words)}")
        with seeded(decode.seed, self.device):
            return search(self.model.decoder, regions.to(self.device), decode, attend)

    def _search_on(self, found: list[list], regions, decode: Decode, attend: bool) -> None:
        """Images whose search ended with the best caption and before `beam` others are searched until those are there too; the best stays the best."""
        short = [image for image, one in enumerate(found) if len(one) < decode.beam]
        if short and not decode.sample:
            for image, one in zip(short, self._search(regions[short], replace(decode, stop="full"), attend), strict=True):
                found[image] = one

    def prepare(self, image: "Photo") -> "np.ndarray":
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
        return Caption(self.vocabulary.text(hypothesis.words), hypothesis.score, [word for word, _ in groups], maps, hypothesis.ended)


def load_captioner(
    path: str | Path, device: str = "auto", weights: str = "pretrained", encoder: str = "", locations: str = "", download: bool = False
) -> Captioner:
    """Load a checkpoint: a folder, or hf:OWNER/NAME[@REVISION] (captioning.hub). device: auto, cpu or cuda.

    weights, encoder, download: see captioning.checkpoint.load_checkpoint. locations: what hard attention looks at, in place of
    what it was configured for: expected, sample or argmax. Raises BadInput.
    """
    import torch

    from captioning.checkpoint import load_checkpoint
    from captioning.hub import resolve
    from models import build_model

    if device == "cuda" and not torch.cuda.is_available():
        raise BadInput("--device cuda: torch sees no CUDA device; use --device cpu")
    if device == "auto":
        device = "cuda" if torch.cuda.is_available() else "cpu"
    model, vocabulary, description = load_checkpoint(resolve(path), build_model, weights, encoder, download)
    if locations:
        if not getattr(model.decoder, "hard", False):
            raise BadInput(f"--locations {locations}: {path} has no hard attention; leave the option out")
        model.decoder.locations = locations
    return Captioner(model, vocabulary, description, torch.device(device))
