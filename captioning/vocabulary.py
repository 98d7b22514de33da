"""The words a captioner can say: built from captions, stored in every checkpoint's config.json.

`Vocabulary` and `captioning.subwords.Subwords` have the same methods, so that little else asks which of the two a system says.
Ids 0 to 3 are <pad>, <start>, <end>, <unk>; then words by falling count, ties alphabetical, so equal captions give equal ids everywhere.
"""

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from captioning.bad_input import BadInput

SPECIALS = ("<pad>", "<start>", "<end>", "<unk>")
PAD, START, END, UNK = range(4)

RULES = {
    # paper: a word counts when it is seen more than 5 times over *all* splits (a small leak from validation and test).
    "published": {"splits": ("train", "val", "test"), "minimum_count": 6},
    "corrected": {"splits": ("train",), "minimum_count": 6},
}


@dataclass(frozen=True)
class Vocabulary:
    """`words[i]` is the word with id i; the first four are SPECIALS. Raises BadInput where the list is not a vocabulary."""

    words: tuple[str, ...]
    ids: dict[str, int] = field(init=False, repr=False, compare=False)
    has_words = True

    def __post_init__(self) -> None:
        words = tuple(self.words)
        if words[:4] != SPECIALS:
            raise BadInput(f"a vocabulary starts with {' '.join(SPECIALS)}, this one with {' '.join(map(str, words[:4]))}; make it anew")
        # A caption's own "<pad>" or "<end>" is a word nobody knows, never a command: the specials are left out of the look-up.
        ids = {word: i for i, word in enumerate(words) if i >= len(SPECIALS)}
        if len(ids) != len(words) - len(SPECIALS) or not ids.keys().isdisjoint(SPECIALS):
            twice = next(word for word, n in Counter(words).items() if n > 1)
            raise BadInput(f"the vocabulary holds {twice!r} twice; make it anew")
        object.__setattr__(self, "words", words)
        object.__setattr__(self, "ids", ids)

    @classmethod
    def build(cls, captions: Iterable[str], minimum_count: int) -> "Vocabulary":
        """All words of `captions` (split at white space) seen at least `minimum_count` times."""
        counts: Counter[str] = Counter()
        for caption in captions:
            counts.update(caption.split())
        kept = [word for word, n in counts.items() if n >= minimum_count and word not in SPECIALS]
        return cls(SPECIALS + tuple(sorted(kept, key=lambda word: (-counts[word], word))))

    @classmethod
    def from_data(cls, data, rule: str, minimum_count: int | None = None) -> "Vocabulary":
        """The vocabulary of a CaptionData by one of RULES; `minimum_count` replaces the rule's own."""
        if rule not in RULES:
            raise BadInput(f"unknown vocabulary rule {rule!r}: choose one of {', '.join(RULES)}")
        splits = RULES[rule]["splits"]
        captions = (caption for example in data.examples if example.split in splits for caption in example.captions)
        return cls.build(captions, RULES[rule]["minimum_count"] if minimum_count is None else minimum_count)

    def encode(self, caption: str) -> list[int]:
        """Ids of the caption's words; no <start> or <end> is added, an unknown word is UNK."""
        return [self.ids.get(word, UNK) for word in caption.split()]

    def decode(self, ids: Iterable[int]) -> list[str]:
        """The words of `ids`, specials included."""
        return [self.words[int(i)] for i in ids]

    def text(self, ids: Iterable[int]) -> str:
        """The caption as text: its words, specials included, with a space between."""
        return " ".join(self.decode(ids))

    def tokens(self, ids: Iterable[int]) -> list[str]:
        """The words that protocol `free` scores: no specials."""
        return [self.words[i] for i in map(int, ids) if i >= len(SPECIALS)]

    def groups(self, ids: Iterable[int]) -> list[tuple[str, list[int]]]:
        """The words, each with the places in `ids` of the pieces that it is made of: its own."""
        return [(word, [place]) for place, word in enumerate(self.decode(ids))]

    @staticmethod
    def captions_of(example) -> Sequence[str]:
        """What is trained on: the data set's tokens."""
        return example.captions

    def __len__(self) -> int:
        return len(self.words)
