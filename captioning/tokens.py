"""Tokens for captions that come without them, as COCO's own files and tables do.

Rule: lower case; a token is a run of letters and digits with the marks that belong to them (accents, vowel signs), in which an apostrophe may stand between
two of them ("man's"); everything else only parts tokens ("t-shirt" is two). On Flickr8k's 40,000 captions this gives the tokens of Karpathy's JSON for
99.9 % of them; the others hold "#", "&" or a web address. Languages written without spaces are not cut into words.
"""

import re
import unicodedata

# The class [^\W_] is letters and digits of every alphabet.
_TOKEN = re.compile(r"[^\W_]+(?:'[^\W_]+)*")


def tokenize(caption: str) -> str:
    """The caption's tokens joined by one space; "" where it has none."""
    if caption.isascii():
        return " ".join(_TOKEN.findall(caption.lower()))
    # Composed, because e + accent and é are one word; ’ is what phones and word processors write for '.
    caption = unicodedata.normalize("NFC", caption.lower().replace("\u2019", "'"))
    words = "".join(c if c.isalnum() or c == "'" or unicodedata.category(c)[0] == "M" else " " for c in caption).split()
    stripped = ("'".join(part for part in word.split("'") if any(c.isalnum() for c in part)) for word in words)
    return " ".join(word for word in stripped if word)
