"""The systems with a language model against Hugging Face's `generate` on the same weights, at the sizes of T5-base and GPT-2."""

from benchmarks.speeds.bench import Measured, Size, interleave, ratios, waiter

VOCABULARIES = {"t5": 32_128, "prefix": 50_257}
SMALL = {"layers": 2, "heads": 4, "width": 64}


def beam_search(size: Size, device, system: str) -> Measured:
    """Beam 5 from the encoder's vector; random weights and no end token, so both say all words."""
    import dataclasses

    import torch
    from transformers.modeling_outputs import BaseModelOutput

    from captioning.config import Decode
    from captioning.decoding import search
    from captioning.language_models import locate_language
    from captioning.systems import system_config
    from captioning.vocabulary import END, PAD, START
    from models import DECODERS

    n, words, V = (
        (2, 5, 200) if size.quick else (200, 20, VOCABULARIES[system]) if device.type == "cuda" else (10, 20, VOCABULARIES[system])
    )
    full = {"layers": 12, "heads": 12, "width": 768}  # both documents' sizes
    config = dataclasses.replace(
        system_config(system), language_model="", features="vector", max_words=max(words, 20), **(SMALL if size.quick else full)
    )
    torch.manual_seed(0)
    decoder = DECODERS[system](1024, 1, V, config, locate_language(config)).to(device).eval()
    theirs = hugging_face(system, decoder).to(device).eval()
    vectors = torch.randn(n, 1, 1024, device=device)
    options = {
        "num_beams": 5, "max_new_tokens": words, "length_penalty": 0.0, "early_stopping": "never", "do_sample": False,
        "suppress_tokens": [PAD, START, END], "bos_token_id": START, "eos_token_id": END, "pad_token_id": PAD,
    }  # fmt: skip
    decoder.never[END] = -torch.inf  # neither may end
    decode, said = Decode(5, max_words=words), {}

    def ours() -> None:
        said["ours"] = [found[0].words for found in search(decoder, vectors, decode)]

    @torch.inference_mode()
    def peer() -> None:
        tokens = decoder.tokens_of_image(vectors)
        if system == "t5":
            given = {"encoder_outputs": BaseModelOutput(tokens)}
        else:
            tokens = tokens - decoder.model.wpe.weight[: tokens.shape[1]]  # theirs adds the positions itself
            given = {"inputs_embeds": tokens, "attention_mask": torch.ones(tokens.shape[:2], dtype=torch.long, device=device)}
        found = theirs.generate(**given, **options, use_cache=True)
        said["peer"] = found[:, -words:].tolist()

    seconds = interleave(ours, peer, size.repeats, waiter(device))
    same = sum(a == b for a, b in zip(said["ours"], said["peer"], strict=True)) / n
    more = {"images": n, "words": words, "vocabulary": V, "same_captions": same, "parameters": sum(p.numel() for p in decoder.parameters())}
    what = f"{system}, beam 5, {n} images, {words} words, {more['parameters'] / 1e6:.0f} million parameters"
    return Measured(what, "generate's time over ours", ratios(*seconds), *seconds, more)


def hugging_face(system: str, decoder, kind=None):
    """The same weights in transformers' own model with a head, in their precision. kind: of GPT-2, in place of GPT2LMHeadModel."""
    from transformers import GPT2Config, GPT2LMHeadModel, T5Config, T5ForConditionalGeneration

    from captioning.vocabulary import END, PAD, START

    dtype = next(decoder.parameters()).dtype
    if system == "t5":
        settings = decoder.stack.config
        # The cache goes by num_layers, so theirs has as many encoder layers as it has others; they are never run.
        own = {"num_layers": settings.num_decoder_layers, "is_encoder_decoder": True, "is_decoder": False, "use_cache": True}
        config = T5Config(**settings.to_diff_dict() | own)
        config.decoder_start_token_id, config.eos_token_id, config.pad_token_id = START, END, PAD
        theirs = T5ForConditionalGeneration(config).to(dtype)
        theirs.decoder.load_state_dict(decoder.stack.state_dict())
        theirs.shared.weight.data.copy_(decoder.stack.embed_tokens.weight)
        theirs.lm_head.weight.data.copy_(decoder.stack.embed_tokens.weight)
        return theirs
    config = decoder.model.config.to_dict() | {"use_cache": True, "bos_token_id": START, "eos_token_id": END, "pad_token_id": PAD}
    theirs = (kind or GPT2LMHeadModel)(GPT2Config(**config)).to(dtype)
    theirs.transformer.load_state_dict(decoder.model.state_dict())
    theirs.tie_weights()
    return theirs
