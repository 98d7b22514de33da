"""The PTB tokenizer: one line out for each caption in, whatever is in it; equal to pycocoevalcap's where that is right."""

import os

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from captioning.java import find_java
from captioning.ptb import ptb_tokenize

PLAIN = [
    "A man riding a wave on top of a surfboard.",
    "Two dogs (one black, one white) aren't running; they're \"resting\" -- or so it seems...",
    "A sign reads STOP! at 5:30 p.m. in Washington D.C.",
    "A woman's t-shirt costs $3.50, 20% off",
    "the U.S. flag",
    "An old-fashioned car parked in front of Joe's & Sons",
]
NASTY = [
    "a\nb",
    "a\rb",
    "a\r\nb",
    "a\x85b",
    "a\u2028b",
    "a\u2029b",
    "a\x0bb",
    "a\x0cb",
    "a\tb",
    "a ||| b",
    "a 😀 b",
    "a\ud800b",
    "a\x00b",
    "",
    " ",
]


@pytest.fixture
def java_on_path(monkeypatch):
    """pycocoevalcap calls `java`."""
    monkeypatch.setenv("PATH", str(find_java().parent) + os.pathsep + os.environ["PATH"])


def as_shipped(captions: list[str]) -> list[list[str]]:
    from pycocoevalcap.tokenizer.ptbtokenizer import PTBTokenizer

    lines = PTBTokenizer().tokenize({number: [{"caption": caption}] for number, caption in enumerate(captions)})
    return [lines.get(number, []) for number in range(len(captions))]


def test_equals_coco_caption_on_plain_captions(java_on_path):
    assert ptb_tokenize(PLAIN) == [line for (line,) in as_shipped(PLAIN)]


def test_as_shipped_every_later_image_gets_its_neighbours_text(java_on_path):
    """What this project's own call is for: one form feed, and all after it are shifted; an empty last caption is lost."""
    captions = ["a cat", "a red\x0cdog", "a bus", "a tree", ""]
    assert as_shipped(captions) == [["a cat"], ["a red"], ["dog"], ["a bus"], ["a tree"]]
    assert ptb_tokenize(captions) == ["a cat", "a red dog", "a bus", "a tree", ""]


def test_nasty_captions_keep_their_place():
    expected = ["a b"] * 9 + ["a | | | b", "a b", "a b", "a b", "", ""]
    marked = [caption for number, nasty in enumerate(NASTY) for caption in (nasty, f"m{number}")]
    lines = ptb_tokenize(marked)
    assert lines[1::2] == [f"m{number}" for number in range(len(NASTY))]
    assert lines[0::2] == expected
    assert ptb_tokenize(NASTY[::-1]) == expected[::-1]
    assert ptb_tokenize([]) == []


@given(st.lists(st.one_of(st.text(), st.text("a .\n\r\x85\u2028|<>-'\"&;()\\/0😀\ud800")), min_size=1, max_size=150))
@settings(max_examples=12, deadline=None)
def test_one_line_for_each_caption(captions):
    marked = [caption for number, nasty in enumerate(captions) for caption in (nasty, f"m{number}")]
    lines = ptb_tokenize(marked)
    assert lines[1::2] == [f"m{number}" for number in range(len(captions))]


def test_a_tokenizer_that_merges_lines_is_found_out(monkeypatch):
    """None is known that does; if one did, no other caption would get its text."""

    def merging(lines):
        return "\n".join(lines).replace("glue\n", "glue ").split("\n")

    monkeypatch.setattr("captioning.ptb._run_tokenizer", merging)
    assert ptb_tokenize(["one", "two glue", "three", "four"]) == ["one", "two glue", "three", "four"]
