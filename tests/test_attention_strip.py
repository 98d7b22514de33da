"""The attention strip: lit where the attention is, even where it is even, whole for any caption; stored strips come back as they were."""

import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from captioning.attention_strip import COLUMNS, TILE, concentration, draw_strip, draw_tiles, load_strips, save_strips
from captioning.bad_input import BadInput


def grey(width=64, height=64):
    return Image.new("RGB", (width, height), (128, 128, 128))


def test_a_tile_is_brightest_where_the_attention_is():
    for row, column in ((0, 0), (0, 6), (3, 3), (6, 1)):
        attention = np.zeros((7, 7))
        attention[row, column] = 1
        tile = np.asarray(draw_tiles(grey(), attention[None], side=140)[0], dtype=float).sum(-1)
        y, x = np.unravel_index(tile.argmax(), tile.shape)
        assert (y * 7 // 140, x * 7 // 140) == (row, column)


def test_an_even_attention_lights_the_whole_photo_alike():
    tile = np.asarray(draw_tiles(grey(), np.full((1, 7, 7), 1 / 49))[0])
    assert np.ptp(tile.reshape(-1, 3), axis=0).max() <= 1
    assert tile.astype(int).sum(-1).min() >= 3 * 128


def test_a_tall_photo_keeps_its_shape_and_a_small_one_is_enlarged():
    assert draw_tiles(grey(50, 200), np.ones((1, 2, 2)), side=100)[0].size == (25, 100)
    assert draw_tiles(grey(8, 4), np.ones((1, 2, 2)), side=100)[0].size == (100, 50)


def test_concentration_counts_even_shares():
    assert concentration(np.full((4, 5), 0.05)) == pytest.approx(1)
    one = np.zeros((4, 5))
    one[1, 2] = 1
    assert concentration(one) == pytest.approx(20)


@settings(max_examples=15, deadline=None)
@given(
    words=st.lists(st.text(max_size=12), max_size=14), size=st.tuples(st.integers(1, 90), st.integers(1, 90)), title=st.text(max_size=30)
)
def test_every_caption_and_photo_can_be_drawn(words, size, title):
    attention = np.random.default_rng(0).random((len(words), 3, 4)).astype(np.float16)
    for maps in (attention, None):
        strip = draw_strip(Image.new("RGB", size), words, maps, title)
        assert strip.mode == "RGB" and strip.width > TILE and strip.height > 40


def test_twenty_words_wrap_in_rows_and_an_endless_word_is_cut():
    one = draw_strip(grey(), ["a"] * COLUMNS, np.ones((COLUMNS, 2, 2)))
    many = draw_strip(grey(), ["a"] * 19 + ["w" * 300], np.ones((20, 2, 2)))
    assert many.width == one.width and many.height > 3 * TILE


@pytest.mark.parametrize("mode", ["L", "P", "RGBA", "CMYK"])
def test_a_photo_of_any_mode_is_drawn(mode):
    draw_strip(grey().convert(mode), ["a"], np.ones((1, 2, 2)))


def test_missing_negative_or_infinite_maps_are_an_error():
    for maps in (np.ones((1, 2, 2)), np.ones((2, 4)), -np.ones((2, 2, 2)), np.full((2, 2, 2), np.nan)):
        with pytest.raises(ValueError):
            draw_strip(grey(), ["two", "words"], maps)


def test_stored_strips_come_back_and_equal_input_gives_equal_bytes(tmp_path):
    rng = np.random.default_rng(0)
    images = [rng.integers(0, 255, (6, 9, 3), dtype=np.uint8) for _ in range(2)]
    attention = [rng.random((3, 2, 2)), rng.random((2, 4, 4))]
    meta = [{"id": "ä", "words": ["a", "b"], "references": ["x y"]}, {"id": "2", "words": ["c"], "references": []}]
    save_strips(tmp_path / "a.npz", images, attention, meta)
    save_strips(tmp_path / "b.npz", images, attention, meta)
    assert (tmp_path / "a.npz").read_bytes() == (tmp_path / "b.npz").read_bytes()
    for (photo, maps, about), image, wanted, said in zip(load_strips(tmp_path / "a.npz"), images, attention, meta, strict=True):
        assert np.array_equal(np.asarray(photo), image) and about == said
        np.testing.assert_allclose(maps, wanted, atol=1e-3)


def test_damaged_strips_are_named(tmp_path):
    path = tmp_path / "a.npz"
    with pytest.raises(BadInput, match="no such file"):
        load_strips(path)
    save_strips(path, [np.zeros((4, 4, 3), np.uint8)], [np.ones((1, 2, 2))], [{"id": "1", "words": ["a"], "references": ["a"]}])
    whole = path.read_bytes()
    for content in (b"", whole[: len(whole) // 2], b"\x93NUMPY", whole.replace(b"image_0", b"image_7")):
        path.write_bytes(content)
        with pytest.raises(BadInput, match="a.npz"):
            load_strips(path)
    for meta in ('[{"id": "1", "words": ["a", "b", "c"], "references": []}]', '[{"id": 1, "words": [], "references": []}]', "{", "[3]"):
        np.savez(path, meta=np.array(meta), image_0=np.zeros((4, 4, 3), np.uint8), attention_0=np.ones((1, 2, 2), np.float16))
        with pytest.raises(BadInput, match="a.npz"):
            load_strips(path)


def test_nothing_pickled_is_ever_loaded(tmp_path):
    np.savez(
        tmp_path / "a.npz", meta=np.array(json.dumps([{"id": "1", "words": [], "references": []}])), image_0=np.array([{}], dtype=object)
    )
    with pytest.raises(BadInput, match="a.npz"):
        load_strips(tmp_path / "a.npz")
