"""The paper's decoder against the published loop (benchmarks/baseline.py): a training step, beam search, pixels to text, an epoch."""

import numpy as np

from benchmarks.speeds.bench import Measured, Size, gflop_of, interleave, ratios, waiter
from benchmarks.speeds.work import MAX_WORDS, V, references, vocabulary

IMAGES, EACH = 32, 5


def training_step(size: Size, device, regions: int, dim: int, shuffled: bool = False) -> Measured:
    """32 images x 5 captions, forward and backward, the loss and top-5 accuracy read, gradients clipped, Adam.

    shuffled: the words of every caption in random order, so that no two captions begin alike; real ones often do, and then ours computes less.
    """
    import torch

    from benchmarks import baseline
    from captioning.batches import CaptionIds
    from captioning.config import RunConfig
    from models import AttendDecoder, CaptionModel

    torch.manual_seed(0)
    images = 4 if size.quick else IMAGES
    captions = references()
    if shuffled:
        random = np.random.default_rng(0)
        captions = [[" ".join(random.permutation(c.split())) for c in several] for several in captions]
    turns = size.repeats + 1
    ids = CaptionIds(captions[: images * turns], range(images * turns), vocabulary(), MAX_WORDS)
    batches = [ids.collate(np.arange(images * EACH * k, images * EACH * (k + 1))) for k in range(turns)]
    config = RunConfig(clip_value=5.0)
    decoder = AttendDecoder(dim, V, config)
    published = baseline.PublishedDecoder.from_ours(decoder, config.dropout).to(device).train()
    model = CaptionModel(torch.nn.Identity(), decoder, config).to(device).train()
    ours_adam = torch.optim.Adam(decoder.parameters(), lr=4e-4, fused=True)
    peer_adam = torch.optim.Adam(published.parameters(), lr=4e-4)
    seen = torch.randn(images, regions, dim, device=device)
    turn = {"ours": 0, "peer": 0}

    def batch_of(who: str):
        batch = batches[turn[who]]
        turn[who] += 1
        return [torch.from_numpy(a).to(device) for a in (batch.words, batch.lengths, batch.image_of)]

    def ours() -> None:
        words, lengths, image_of = batch_of("ours")
        ours_adam.zero_grad(set_to_none=True)
        losses = model(seen, words, lengths, image_of)
        (losses.cross_entropy / losses.words + losses.penalty / losses.captions).backward()
        torch.stack([v.detach().float() for v in losses]).tolist()
        torch.nn.utils.clip_grad_value_(decoder.parameters(), config.clip_value)
        ours_adam.step()

    def peer() -> None:
        words, lengths, image_of = batch_of("peer")
        baseline.training_step(published, peer_adam, seen[image_of], words, lengths)

    seconds = interleave(ours, peer, size.repeats, waiter(device))
    more = {"words": round(float(np.mean([b.lengths.sum() for b in batches]))), "parameters": sum(p.numel() for p in decoder.parameters())}
    for who, step in (("ours", ours), ("peer", peer)):
        turn[who] = 0
        more[f"gflop_{who}"] = round(gflop_of(step), 1)
    what = f"decoder training step, {images} images x {EACH} captions, V {V:,}, {regions} regions of {dim}"
    what += ", no two captions begin alike" if shuffled else ""
    return Measured(what, "the published loop's time over ours", ratios(*seconds), *seconds, more)


def trained_decoder(regions: int, dim: int, device, quick: bool):
    """A decoder that says sentences of the usual length: a language model of the references, for its regions are noise."""
    import torch
    from torch.nn import functional as F

    from captioning.batches import CaptionIds
    from captioning.config import RunConfig
    from models import AttendDecoder

    torch.manual_seed(0)
    captions = references()
    ids = CaptionIds(captions, range(len(captions)), vocabulary(), MAX_WORDS)
    decoder = AttendDecoder(dim, V, RunConfig(dropout=0.0)).to(device)
    adam = torch.optim.Adam(decoder.parameters(), lr=4e-3, fused=True)
    random = np.random.default_rng(0)
    noise, rows = torch.randn(40, regions, dim, device=device), torch.arange(40, device=device)
    for _ in range(2 if quick else 120):
        batch = ids.collate(random.integers(len(ids), size=40))
        words, lengths = (torch.from_numpy(a).to(device) for a in (batch.words, batch.lengths))
        forced = decoder.forced(noise, words, lengths, rows)
        loss = F.cross_entropy(forced.logits, words[forced.caption, forced.position + 1])
        adam.zero_grad()
        loss.backward()
        adam.step()
    return decoder.eval()


def beam_search(size: Size, device, stop: str) -> Measured:
    """Beam 5 from regions in memory. stop "shrink": the published rule, so both say the same captions; "best": ours, which ends sooner."""
    import torch

    from benchmarks.baseline import PublishedDecoder
    from captioning.config import Decode
    from captioning.decoding import search

    R, D = (9, 64) if size.quick else (49, 768)
    decoder = trained_decoder(R, D, device, size.quick)
    published = PublishedDecoder.from_ours(decoder, 0.0).to(device).eval()
    n, few, at_once = (6, 2, 4) if size.quick else (1000, 100, 250) if device.type == "cuda" else (1000, 25, 50)
    seen = torch.randn(n, R, D, device=device)
    decode, said = Decode(5, stop=stop), {}

    def ours() -> None:
        found = [search(decoder, seen[k : k + at_once], decode) for k in range(0, n, at_once)]
        said["ours"] = [hypotheses[0].words for several in found for hypotheses in several]

    def peer() -> None:
        with torch.inference_mode():
            said["peer"] = [published.caption(seen[k : k + 1])[0] for k in range(few)]

    seconds = interleave(ours, peer, size.repeats, waiter(device))
    same = float(np.mean([a == b for a, b in zip(said["ours"], said["peer"], strict=False)]))
    more = {
        "gflop_an_image_ours": round(gflop_of(ours) / n, 2), "gflop_an_image_peer": round(gflop_of(peer) / few, 2),
        "images_per_second": round(n / float(np.median(seconds[0])), 1), "images_per_second_peer": round(few / float(np.median(seconds[1])), 2),
        "images": n, "images_of_peer": few, "at_once": at_once, "same_captions": same,
        "mean_words": round(float(np.mean([len(words) for words in said["ours"]])), 1),
    }  # fmt: skip
    rule = "the published stopping rule" if stop == "shrink" else "our stopping rule"
    what = f"decoder only, beam 5, {n} images, {R} regions of {D}, {rule}"
    return Measured(what, "the published loop's time an image over ours", ratios(*seconds, n, few), *seconds, more)


def pixels_to_text(size: Size, device) -> Measured:
    """A photo's pixels to its caption at beam 5 through `Captioner.caption`, against the encoder's plain batched forward pass alone.

    The photos have COCO's usual size, so ours brings them to the encoder's; the peer begins with pixels that are there already.
    """
    import torch
    from PIL import Image

    from benchmarks.baseline import PublishedDecoder
    from captioning import Captioner
    from captioning.config import RunConfig
    from captioning.trunks import locate
    from models import CaptionModel, build_encoder

    name, n, at_once = ("convnext_atto", 4, 2) if size.quick else ("convnext_small", 1000, 250 if device.type == "cuda" else 32)
    config = RunConfig(encoder=name, pretrained=False, grid=7)
    torch.manual_seed(0)
    encoder = build_encoder(config, source=locate(name, False, "none")).to(device).eval()
    decoder = trained_decoder(49, encoder.dim, device, size.quick)
    captioner = Captioner(CaptionModel(encoder, decoder, config), vocabulary(), {"config": {}}, device)
    side = encoder.preprocessing.size
    random = np.random.default_rng(0)
    several = [Image.fromarray(random.integers(0, 256, (480, 640, 3), dtype=np.uint8)) for _ in range(min(n, 50))]
    photos = [several[k % len(several)] for k in range(n)]
    pictures = np.stack([np.asarray(photo.resize((side, side))) for photo in photos])
    groups = range(0, n, at_once)

    def ours() -> None:
        for k in groups:
            captioner.caption(photos[k : k + at_once])

    @torch.inference_mode()
    def peer() -> None:
        for k in groups:
            scaled = encoder.scale(torch.from_numpy(pictures[k : k + at_once]).to(device))
            encoder.trunk.forward_features(scaled)

    published = PublishedDecoder.from_ours(decoder, 0.0).to(device).eval()
    few = 2 if size.quick else 8

    @torch.inference_mode()
    def published_loop() -> None:
        """One image at a time, as its caption.py does; its validation runs the encoder five times an image besides."""
        for k in range(few):
            published.caption(encoder(encoder.scale(torch.from_numpy(pictures[k : k + 1]).to(device))))

    seconds = interleave(ours, peer, min(size.repeats, 3), waiter(device))
    alone, _ = interleave(published_loop, lambda: None, 3, waiter(device))
    more = {"images": n, "at_once": at_once, "images_per_second": round(n / float(np.median(seconds[0])), 2)}
    more["times_the_published_loop"] = round(more["images_per_second"] * float(np.median(alone)) / few, 2)
    more |= {"images_per_second_peer": round(n / float(np.median(seconds[1])), 2), "encoder": name}
    return Measured(
        f"caption {n} images, beam 5, pixels to text, {name}", "images/s over the encoder's alone", ratios(*seconds), *seconds, more
    )
