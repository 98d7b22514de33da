"""The order of an epoch: every caption once, or every image once; a function of seed and epoch alone; parts keep rows together."""

import dataclasses

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st
from transformers import GPT2TokenizerFast

from captioning.batches import CaptionIds, epoch_batches, pad_with_end
from captioning.config import RunConfig
from captioning.subwords import from_folder
from captioning.vocabulary import END, PAD, START, UNK, Vocabulary
from tests.tiny_tokenizers import make_gpt2

WORDS = ("a", "dog", "red", "runs", "on", "grass")
VOCABULARY = Vocabulary(("<pad>", "<start>", "<end>", "<unk>", *WORDS))
caption = st.lists(st.sampled_from((*WORDS, "zebra")), min_size=1, max_size=9).map(" ".join)
sets = st.lists(st.lists(caption, min_size=1, max_size=6), min_size=1, max_size=12)
configs = st.builds(
    RunConfig, seed=st.integers(0, 3), batch_size=st.integers(1, 14), batching=st.sampled_from(("images", "captions"))
)  # fmt: skip


def ids_of(captions_of: list[list[str]], max_words: int = 50) -> CaptionIds:
    """Captions of the examples 0, 3, 6, ...: indices of a split need not be dense."""
    return CaptionIds(captions_of, range(0, 3 * len(captions_of), 3), VOCABULARY, max_words)


@settings(deadline=None, max_examples=40)
@given(sets, configs, st.integers(0, 2))
def test_every_caption_once_in_batches_of_at_most_the_size(captions_of, config, epoch):
    captions = ids_of(captions_of)
    batches = epoch_batches(captions, config, epoch)
    assert sorted(np.concatenate(batches)) == list(range(len(captions)))
    for chosen in batches:
        images = captions.image[chosen]
        assert len(chosen) <= config.batch_size or (config.batching == "images" and len(set(images)) == 1)
        if config.batching == "images":
            assert all((captions.image == image).sum() == (images == image).sum() for image in images)
    if config.batching == "captions":
        assert all(len(chosen) == config.batch_size for chosen in batches[:-1])


@settings(deadline=None, max_examples=40)
@given(sets, configs, st.integers(0, 2))
def test_one_caption_an_image(captions_of, config, epoch):
    captions, config = ids_of(captions_of), dataclasses.replace(config, batching="one")
    batches = epoch_batches(captions, config, epoch)
    assert sorted(captions.image[np.concatenate(batches)]) == list(range(0, 3 * len(captions_of), 3))
    assert [len(chosen) for chosen in batches[:-1]] == [config.batch_size] * (len(batches) - 1)
    assert 0 < len(batches[-1]) <= config.batch_size


def test_one_caption_is_drawn_anew_each_epoch_and_each_as_often():
    captions, config = ids_of([["a dog"] * 4, ["a"], ["red dog"] * 2] * 20), RunConfig(batching="one", batch_size=60)
    epochs = [np.concatenate(epoch_batches(captions, config, epoch)) for epoch in range(400)]
    assert all(np.array_equal(np.concatenate(epoch_batches(captions, config, epoch)), epochs[epoch]) for epoch in (0, 7))
    counts = np.bincount(np.concatenate(epochs), minlength=len(captions)).reshape(20, 7)  # 4, 1 and 2 captions of three images
    assert np.all(counts[:, 4] == 400) and abs(counts[:, :4] - 100).max() < 45 and abs(counts[:, 5:] - 200).max() < 50  # 5 sigma
    assert len({tuple(captions.image[epoch]) for epoch in epochs}) == 400


@settings(deadline=None, max_examples=20)
@given(sets, configs)
def test_the_order_is_a_function_of_seed_and_epoch(captions_of, config):
    def order(config, epoch):
        return [tuple(b) for b in epoch_batches(ids_of(captions_of), config, epoch)]

    assert order(config, 1) == order(config, 1)
    many = ids_of([["a dog"]] * 50)
    orders = [
        tuple(np.concatenate(epoch_batches(many, dataclasses.replace(config, seed=seed), epoch))) for seed in (0, 1) for epoch in (0, 1)
    ]
    assert len(set(orders)) == 4


@settings(deadline=None, max_examples=40)
@given(sets, st.integers(1, 9), st.randoms(use_true_random=False))
def test_collated_rows_are_the_captions_they_stand_for(captions_of, max_words, random):
    captions = ids_of(captions_of, max_words)
    texts = [text for texts in captions_of for text in texts]
    assert captions.cut == sum(len(text.split()) > max_words for text in texts)
    chosen = np.array(random.sample(range(len(captions)), random.randint(1, len(captions))))
    batch = captions.collate(chosen)
    assert len(set(batch.images)) == len(batch.images)
    assert batch.words.shape == (len(chosen), batch.lengths.max() + 1)
    for row, index in enumerate(chosen):
        said = [VOCABULARY.words.index(w) if w in WORDS else UNK for w in texts[index].split()[:max_words]]
        assert batch.words[row].tolist() == [START, *said, END] + [PAD] * (batch.words.shape[1] - len(said) - 2)
        assert batch.lengths[row] == len(said) + 1
        assert batch.images[batch.image_of[row]] == captions.image[index]


def test_filled_with_end_tokens_to_the_longest():
    captions = ids_of([["a dog", "a"], ["red dog runs on grass"]])
    batch = captions.collate(np.array([0, 1, 2]))
    filled = pad_with_end(batch)
    a, dog, red, runs, on, grass = range(4, 10)
    expected = [[START, a, dog, END, END, END], [START, a, END, END, END, END], [START, red, dog, runs, on, grass]]
    assert filled.words.tolist() == expected and filled.lengths.tolist() == [5, 5, 5] and batch.lengths.tolist() == [3, 2, 6]
    assert filled.part(np.array([0])).words.tolist() == expected[:2]  # also where the longest is in another part
    assert filled.images is batch.images and filled.image_of is batch.image_of and (batch.words[0, 4:] == PAD).all()


def test_filled_with_end_tokens_as_the_published_prefix_system_s_tokenizer_does(tmp_path):
    """GPT-2's tokenizer with its end of text as padding: the longest row has none, the others what they lack."""
    make_gpt2(tmp_path)
    theirs = GPT2TokenizerFast.from_pretrained(tmp_path)
    theirs.pad_token = theirs.eos_token
    texts = ["A dog runs on the grass .", "a dog", "Two men"]
    tokens = from_folder(tmp_path, "gpt2")
    filled = pad_with_end(CaptionIds([texts], [0], tokens, 50).collate(np.arange(3)))
    expected = theirs(texts, padding=True)["input_ids"]
    assert np.array(tokens.lm_ids)[filled.words[:, 1:]].tolist() == expected
    assert filled.lengths.tolist() == [len(expected[0])] * 3 and expected[0][-1] != theirs.eos_token_id


def test_captions_without_a_word_still_have_an_end_to_learn():
    filled = pad_with_end(ids_of([[""], [""]]).collate(np.array([0, 1])))
    assert filled.words.tolist() == [[START, END]] * 2 and filled.lengths.tolist() == [1, 1]


@settings(deadline=None, max_examples=40)
@given(sets, st.integers(1, 4), st.randoms(use_true_random=False))
def test_parts_hold_every_row_once_beside_its_own_image(captions_of, count, random):
    captions = ids_of(captions_of)
    chosen = np.array(random.sample(range(len(captions)), random.randint(1, len(captions))))
    whole = captions.collate(chosen)
    rows = []
    for places in np.array_split(np.arange(len(whole.images)), count):
        part = whole.part(places)
        assert part.images.tolist() == whole.images[places].tolist()
        assert part.words.shape == (len(part.lengths), part.lengths.max(initial=0) + 1)
        rows += [(int(part.images[i]), *words[: n + 1]) for i, words, n in zip(part.image_of, part.words, part.lengths, strict=True)]
    assert sorted(rows) == sorted(
        (int(whole.images[i]), *words[: n + 1]) for i, words, n in zip(whole.image_of, whole.words, whole.lengths, strict=True)
    )
