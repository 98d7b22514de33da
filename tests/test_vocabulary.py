"""Vocabulary: both rules, stable ids, and the round trip."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from captioning.bad_input import BadInput
from captioning.data import CaptionData, Example
from captioning.vocabulary import END, SPECIALS, UNK, Vocabulary

WORDS = st.text("abcdé'-0", min_size=1, max_size=4)
CAPTIONS = st.lists(st.lists(WORDS, max_size=8).map(" ".join), max_size=20)


@given(CAPTIONS)
def test_known_captions_come_back(captions):
    vocabulary = Vocabulary.build(captions, 1)
    for caption in captions:
        assert vocabulary.decode(vocabulary.encode(caption)) == caption.split()


@given(CAPTIONS, st.integers(1, 4), st.randoms(use_true_random=False))
def test_order_of_captions_does_not_matter(captions, minimum_count, random):
    shuffled = random.sample(captions, len(captions))
    assert Vocabulary.build(captions, minimum_count) == Vocabulary.build(shuffled, minimum_count)


@given(CAPTIONS, st.integers(1, 4))
def test_exactly_the_frequent_words_are_kept(captions, minimum_count):
    words = " ".join(captions).split()
    vocabulary = Vocabulary.build(captions, minimum_count)
    assert vocabulary.words[:4] == SPECIALS
    assert set(vocabulary.words[4:]) == {word for word in words if words.count(word) >= minimum_count}
    counts = [words.count(word) for word in vocabulary.words[4:]]
    assert counts == sorted(counts, reverse=True)
    assert len(vocabulary) == len(vocabulary.words)


def test_ties_are_alphabetical_and_strangers_unknown():
    vocabulary = Vocabulary.build(["b a c c"], 1)
    assert vocabulary.words[4:] == ("c", "a", "b")
    assert vocabulary.encode("a zebra") == [5, UNK]


def test_a_special_in_a_caption_is_no_command():
    vocabulary = Vocabulary.build(["<end> <pad> dog <start>"] * 9, 1)
    assert vocabulary.words == (*SPECIALS, "dog")
    assert vocabulary.encode("<end> <pad> dog") == [UNK, UNK, 4]


@given(CAPTIONS)
def test_text_and_words_of_ids(captions):
    vocabulary = Vocabulary.build(captions[::2], 1)
    for caption in captions:
        ids = [*vocabulary.encode(caption), END]
        said = [word if word in vocabulary.words[4:] else "<unk>" for word in caption.split()]
        assert vocabulary.text(ids) == " ".join([*said, "<end>"])
        assert vocabulary.tokens(ids) == [word for word in said if word != "<unk>"]
        assert vocabulary.groups(ids) == [(word, [place]) for place, word in enumerate([*said, "<end>"])]


def test_rules_differ_in_the_splits_they_count():
    def example(number, split, caption):
        return Example(str(number), f"{number}.jpg", split, (caption,), (caption,))

    examples = [example(i, "train", "dog") for i in range(6)] + [example(6, "train", "cat")]
    examples += [example(7 + i, "val", "cat") for i in range(4)] + [example(11, "test", "cat")]
    data = CaptionData("x", None, examples, "0" * 64, None)
    assert Vocabulary.from_data(data, "published").words[4:] == ("cat", "dog")
    assert Vocabulary.from_data(data, "corrected").words[4:] == ("dog",)
    assert Vocabulary.from_data(data, "corrected", 1).words[4:] == ("dog", "cat")
    with pytest.raises(BadInput, match="published, corrected"):
        Vocabulary.from_data(data, "all")


@pytest.mark.parametrize("words", [("dog",), (*SPECIALS, "dog", "dog"), (*SPECIALS, "<end>"), ()])
def test_what_is_no_vocabulary_is_refused(words):
    with pytest.raises(BadInput, match="vocabulary"):
        Vocabulary(words)
