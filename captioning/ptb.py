"""The PTB tokenizer as coco-caption runs it: Stanford CoreNLP 3.4.1, lower case, then punctuation dropped.

As shipped (pycocoevalcap/tokenizer/ptbtokenizer.py) all captions go in as lines, and the lines that come out are handed to the images in
order. Java's idea of a line end is wider than the caller's "\\n": after a caption with a carriage return, form feed or U+2028 every later
image gets its neighbour's text, silently; an empty last caption loses its line. Here such characters become spaces, a last line marks
the end, and one line out for each caption in is checked. The temporary file in the package folder is gone too: captions go in by stdin.
"""

import re
from collections.abc import Sequence

from captioning.java import coco_folder, run_java

_NO_TEXT = re.compile("[\x00-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff]")  # controls, line ends, lone surrogates
_END = "."  # a line that PTB leaves alone and that, like the end of the text, ends a sentence


def ptb_tokenize(captions: Sequence[str]) -> list[str]:
    """Tokens of each caption, joined by one space. Raises JavaUnavailable.

    A character that is no Unicode text (a lone surrogate) separates words.
    """
    if not captions:
        return []
    from pycocoevalcap.tokenizer.ptbtokenizer import PUNCTUATIONS

    dropped = frozenset(PUNCTUATIONS)
    lines = _one_line_each([_NO_TEXT.sub(" ", caption) for caption in captions])
    assert len(lines) == len(captions), f"{len(captions)} captions in, {len(lines)} lines out of the PTB tokenizer"
    return [" ".join(token for token in line.rstrip().split(" ") if token not in dropped) for line in lines]


def _one_line_each(captions: list[str]) -> list[str]:
    lines = _run_tokenizer([*captions, _END])
    if len(lines) == len(captions) + 1 and lines[-1] == _END:
        return lines[:-1]
    # None is known that gets here. Should one: find it by halves, so that no other caption gets its text.
    if len(captions) == 1:
        return [" ".join(lines).removesuffix(_END)]
    middle = len(captions) // 2
    return _one_line_each(captions[:middle]) + _one_line_each(captions[middle:])


def _run_tokenizer(lines: list[str]) -> list[str]:
    jar = coco_folder("tokenizer") / "stanford-corenlp-3.4.1.jar"
    program = ["-cp", str(jar), "edu.stanford.nlp.process.PTBTokenizer", "-preserveLines", "-lowerCase", "-encoding", "utf-8"]
    text = "\n".join(lines).encode("utf-8")
    return run_java(program, heap="512m", feed=text).decode("utf-8").replace("\r\n", "\n").removesuffix("\n").split("\n")
