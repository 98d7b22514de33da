"""Two small tokenizers as Hugging Face folders, made by other hands: byte pairs trained by `tokenizers`, T5's by `transformers`."""

import string
from pathlib import Path

from tokenizers import Tokenizer, models, pre_tokenizers, trainers

TEXTS = [
    "A dog runs on the grass .", "Two men's dogs, running; one \"jumps\"!", "un chien court dans l'herbe é è ü", "狗在草地上跑", "a 🐶 and a 👩‍🚀 on the moon",
    "first line\nsecond line\ttab", "Ein Hund rennt über die Wiese", "1,234.50 $ & more #dog", "the dog the dog the dogs", "ﬁne   spaces\u00a0and\u3000more",
]  # fmt: skip


def make_gpt2(folder: Path, size: int = 400) -> None:
    """A byte-level BPE as GPT-2's, in GPT-2's two files."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    tokenizer.train_from_iterator(
        TEXTS * 3, trainers.BpeTrainer(vocab_size=size, initial_alphabet=alphabet, special_tokens=["<|endoftext|>"], show_progress=False)
    )
    folder.mkdir(parents=True, exist_ok=True)
    tokenizer.model.save(str(folder))


def make_t5(folder: Path) -> None:
    """transformers' T5 tokenizer with few pieces and their log-probabilities."""
    from transformers import T5TokenizerFast

    specials = [(name, 0.0) for name in ("<pad>", "</s>", "<unk>")]
    words = [(f"\u2581{word}", -3.0 - 0.1 * k) for k, word in enumerate(("the", "dog", "a", "run", "on", "Two", "jump", "s"))]
    letters = [(letter, -6.0 - 0.01 * k) for k, letter in enumerate(string.ascii_letters + "0123456789.,'\"") if letter != "s"]
    T5TokenizerFast(vocab=[*specials, ("\u2581", -4.0), *words, ("s", -3.5), ("ing", -4.5), *letters], extra_ids=3).save_pretrained(folder)
