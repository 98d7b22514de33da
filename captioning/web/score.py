"""One caption against references that someone typed: the scores that mean something for a single sentence.

BLEU-1, BLEU-2 and ROUGE-L. BLEU-4 of one sentence is 0 as soon as no four words in a row agree, CIDEr needs the words of a whole set, METEOR and SPICE
a Java that would have to start for each answer: `python -m captioning.score` has them all, for files.
"""

from collections.abc import Sequence

from captioning.bleu import corpus_bleu
from captioning.coco_metrics import rouge_l
from captioning.protocols import words_of

MOST_REFERENCES = 20


def score_typed(caption: str, typed: str) -> dict[str, float]:
    """Scores times 100 by name, of a caption against `typed`, a reference a line. Words are cut as in protocol `free` (a-z and 0-9, lower case).

    No line with a word in it gives no scores. BLEU is NLTK's, ROUGE-L coco-caption's.
    """
    references = [words for words in map(words_of, typed.splitlines()) if words][:MOST_REFERENCES]
    if not references:
        return {}
    said = words_of(caption)
    bleu = corpus_bleu([said.split()], [[reference.split() for reference in references]])
    (rouge,) = rouge_l([said], [references])
    return {"BLEU-1": bleu[0], "BLEU-2": bleu[1], "ROUGE-L": 100 * float(rouge)}


def differs(one: Sequence[str], other: Sequence[str]) -> str:
    """How two captions of one photo compare, in a sentence."""
    if list(one) == list(other):
        return "Both say the same."
    shared = set(one) & set(other)
    return f"{len(shared)} of {len(set(one) | set(other))} different words are in both."
