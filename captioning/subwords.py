"""Subwords: a language model's own tokenizer, GPT-2's byte pairs or T5's sentencepiece, with the methods of `Vocabulary`.

Ids 0 to 3 are <pad>, <start>, <end>, <unk>, as for words; then come all other tokens of the language model, in its order. `lm_ids` says which of
its ids each of ours is, so that its rows can be put in our order. Read from a Hugging Face folder, kept in a checkpoint as one tokenizer.json.
"""

import hashlib
import json
import re
from collections.abc import Iterable, Sequence
from itertools import accumulate
from pathlib import Path

from captioning.bad_input import BadInput
from captioning.vocabulary import END, SPECIALS, START, UNK

FILE = "tokenizer.json"
KINDS = {"gpt2": "GPT-2's byte pairs", "t5": "T5's sentencepiece"}
END_OF_TEXT = "<|endoftext|>"
BLANK = "\u2581"  # sentencepiece's sign for a space


class Subwords:
    """A tokenizer of `architecture` "gpt2" or "t5". lm_ids[i]: the language model's id of our id i, -1 where it has no such token.

    lm_vocabulary: the language model's own id of each token.

    Captions are text as written. A special token's name in a caption is no command: GPT-2's is spelled out, T5's becomes <unk>. Equal content is equal.
    """

    has_words = False

    def __init__(self, architecture: str, content: str):
        """content: what `to_json` gave; `from_json` checks text from elsewhere."""
        from tokenizers import Tokenizer

        self.architecture = architecture
        self._content = content
        self.sha256 = hashlib.sha256(content.encode()).hexdigest()
        self._tokenizer = Tokenizer.from_str(content)
        self._tokenizer.encode_special_tokens = True
        stated = json.loads(content)
        ids = self.lm_vocabulary = self._tokenizer.get_vocab(with_added_tokens=True)
        special = _special_ids(architecture, stated["model"], ids)
        self.lm_ids = (*special, *sorted(set(ids.values()) - set(special)))
        names = {i: name for name, i in ids.items()}
        self._names = [*SPECIALS, *(names[i] for i in self.lm_ids[len(SPECIALS) :])]
        silent = {one["id"] for one in stated["added_tokens"] if one["special"]}
        own = [(ours, theirs) for ours, theirs in enumerate(self.lm_ids) if ours >= len(SPECIALS) and theirs not in silent]
        # T5's </s> and the like are pieces as any other to the tokenizers library: typed in a caption they would be found.
        self._ours = [UNK] * (max(ids.values()) + 1)
        self._bytes = [b""] * len(self.lm_ids)
        for ours, theirs in own:
            self._ours[theirs] = ours
            self._bytes[ours] = _BYTES[architecture](names[theirs])

    @classmethod
    def from_json(cls, text: str, where: str | Path = FILE) -> "Subwords":
        """A tokenizer.json. Raises BadInput in the name of `where`: no tokenizer, one of another kind, or one that lacks what captions need."""
        from tokenizers import Tokenizer

        try:
            content = json.loads(Tokenizer.from_str(text).to_str())
        except Exception as error:  # the library raises nothing more exact
            raise BadInput(f"{where}: cut or not a tokenizer of Hugging Face's tokenizers ({_short(error)}); copy it again") from error
        architecture = _kind(content, where)
        _check(architecture, content, where)
        return cls(architecture, _normal_form(architecture, content))

    def to_json(self) -> str:
        """tokenizer.json in normal form: the same for the same tokens and rules, whatever files they came from; `sha256` is its hash."""
        return self._content

    def encode(self, caption: str) -> list[int]:
        """Ids of the caption's pieces, white space at its ends left out; no <start> or <end> is added."""
        text = caption.strip().encode("utf-8", "replace").decode()  # a lone surrogate is no text
        return [self._ours[i] for i in self._tokenizer.encode(text, add_special_tokens=False).ids]

    def decode(self, ids: Iterable[int]) -> list[str]:
        """Each piece's own text, specials' names included; what is no whole character alone is shown as U+FFFD."""
        return [self._bytes[i].decode("utf-8", "replace").strip() if self._bytes[i] else self._names[i] for i in map(int, ids)]

    def text(self, ids: Iterable[int]) -> str:
        """The caption as text, without special tokens."""
        return b"".join(self._bytes[int(i)] for i in ids).decode("utf-8", "replace").strip()

    def tokens(self, ids: Iterable[int]) -> list[str]:
        """The words that protocol `free` scores."""
        from captioning.protocols import words_of

        return words_of(self.text(ids)).split()

    def groups(self, ids: Iterable[int]) -> list[tuple[str, list[int]]]:
        """The words of the text, parted at white space, each with the places in `ids` of the pieces that it is made of."""
        pieces = [self._bytes[int(i)] for i in ids]
        whole = b"".join(pieces)
        piece_of = [place for place, piece in enumerate(pieces) for _ in piece]  # of each byte
        text = whole.decode("utf-8", "surrogateescape")  # every byte that is no text stays one character, so that bytes can be counted
        starts = [0, *accumulate(len(c.encode("utf-8", "surrogateescape")) for c in text)]
        spans = [(starts[word.start()], starts[word.end()]) for word in re.finditer(r"\S+", text)]
        return [(whole[a:b].decode("utf-8", "replace"), sorted(set(piece_of[a:b]))) for a, b in spans]

    @staticmethod
    def captions_of(example) -> Sequence[str]:
        """What is trained on: text as written."""
        return example.raw

    def __len__(self) -> int:
        return len(self.lm_ids)

    def __eq__(self, other) -> bool:
        return isinstance(other, Subwords) and self._content == other._content

    def __hash__(self) -> int:
        return hash(self.sha256)

    def __repr__(self) -> str:
        return f"Subwords({self.architecture}, {len(self)} tokens, {self.sha256[:12]})"

    def __reduce__(self):
        return Subwords, (self.architecture, self._content)  # a pickled Tokenizer forgets encode_special_tokens


def from_folder(folder: str | Path, architecture: str) -> Subwords:
    """The tokenizer of a Hugging Face folder: its tokenizer.json, else GPT-2's vocab.json and merges.txt. architecture: "gpt2" or "t5".

    Raises BadInput: nothing there, cut, not of one piece, of the other kind.
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise BadInput(f"{folder}: no such folder; a tokenizer is a folder with {FILE}, or with GPT-2's vocab.json and merges.txt")
    names = [name for name in ("vocab.json", "merges.txt") if (folder / name).is_file()]
    if (folder / FILE).is_file():
        where = folder / FILE
        found = Subwords.from_json(_read(where), where)
    elif len(names) == 2:
        where = folder / "vocab.json"
        found = Subwords.from_json(_join_files(where, folder / "merges.txt"), where)
    else:
        raise BadInput(f"{folder}: {_what_lacks(folder, names, architecture)}")
    if found.architecture != architecture:
        raise BadInput(
            f"{where}: {KINDS[found.architecture]}, the language model reads {KINDS[architecture]}; give the tokenizer that belongs to it"
        )
    return found


def _what_lacks(folder: Path, names: list[str], architecture: str) -> str:
    if names:
        return f"has {names[0]} without {'merges.txt' if names == ['vocab.json'] else 'vocab.json'}; copy both, or {FILE}"
    if (folder / "spiece.model").is_file():
        making = f"transformers.AutoTokenizer.from_pretrained({str(folder)!r}).save_pretrained({str(folder)!r})"
        return f"has spiece.model alone, and {FILE} is needed; make it once with: {making}"
    files = f"{FILE}, nor vocab.json and merges.txt" if architecture == "gpt2" else FILE
    return f"has no {files}; give a folder with the tokenizer's files"


def _read(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise BadInput(f"{path}: cannot be read as text ({_short(error)}); copy it again") from error


def _join_files(vocab_file: Path, merges_file: Path) -> str:
    """GPT-2's two files as a tokenizer.json, the rules as in transformers' GPT2Tokenizer."""
    from tokenizers import Tokenizer, models, pre_tokenizers

    try:
        vocab = json.loads(_read(vocab_file))
        ids = list(vocab.values())
        if not all(type(i) is int and i >= 0 for i in ids) or len(set(ids)) < len(ids):
            raise ValueError("its ids are not numbers, or one stands twice")
    except (ValueError, AttributeError) as error:
        raise BadInput(f"{vocab_file}: cut or no vocabulary ({_short(error)}); copy it again") from error
    lines = [line for line in _read(merges_file).split("\n") if line and not line.startswith("#version")]
    merges = [tuple(line.split(" ")) for line in lines]
    wrong = [" ".join(parts) for parts in merges if len(parts) != 2 or not {*parts, "".join(parts)} <= vocab.keys()]
    if wrong:
        raise BadInput(
            f"{merges_file}: {wrong[0]!r} joins no two tokens of {vocab_file.name}; the two files are not of one tokenizer, or cut"
        )
    made = {"".join(parts) for parts in merges}
    unmade = [token for token in vocab if len(token) > 1 and token not in made]
    unmakeable = [token for token in unmade if not re.fullmatch(r"<.*>", token)]
    if unmakeable:
        raise BadInput(
            f"{merges_file}: no line makes {unmakeable[0]!r} of {vocab_file.name}; the two files are not of one tokenizer, or cut"
        )
    tokenizer = Tokenizer(models.BPE(vocab, merges))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.add_special_tokens(unmade)  # <|endoftext|> and its like
    return tokenizer.to_str()


def _kind(content: dict, where) -> str:
    """ "gpt2" or "t5"."""
    model, steps = content["model"], list(_steps(content["pre_tokenizer"]))
    marks = model.get("continuing_subword_prefix") or model.get("end_of_word_suffix")
    if model["type"] == "BPE" and any(step["type"] == "ByteLevel" for step in steps) and not marks:
        return "gpt2"
    if model["type"] == "Unigram" and any(step["type"] == "Metaspace" and step["replacement"] == BLANK for step in steps):
        return "t5"
    raise BadInput(f"{where}: a {model['type']} tokenizer; known are {' and '.join(KINDS.values())}: give one of those")


def _steps(step: dict | None) -> Iterable[dict]:
    """A pre-tokenizer's steps; a Sequence holds several."""
    if step and step["type"] == "Sequence":
        for one in step["pretokenizers"]:
            yield from _steps(one)
    elif step:
        yield step


def _check(architecture: str, content: dict, where) -> None:
    """Raise BadInput where a special token is not there, or captions would lose letters without a word."""
    model = content["model"]
    pieces = model["vocab"] if architecture == "gpt2" else {piece for piece, _ in model["vocab"]}
    names = {*pieces, *(one["content"] for one in content["added_tokens"])}
    wanted = (END_OF_TEXT,) if architecture == "gpt2" else ("</s>", "<pad>")
    missing = [name for name in wanted if name not in names]
    if missing:
        what = "end token" if missing[0] == wanted[0] else "token"
        raise BadInput(f"{where}: has no {what} {missing[0]}, as {KINDS[architecture]} have; give a tokenizer with one")
    if architecture == "t5" and model["unk_id"] is None:
        raise BadInput(f"{where}: has no token for what it does not know (unk_id); give a tokenizer with one")
    unwritten = [char for char in _BYTE_OF if architecture == "gpt2" and char not in pieces]
    if unwritten:
        way_out = "train it with initial_alphabet=ByteLevel.alphabet()"
        raise BadInput(f"{where}: {len(unwritten)} of 256 bytes have no token, so captions would lose letters; {way_out}")


def _normal_form(architecture: str, content: dict) -> str:
    """tokenizer.json with everything that does not change our ids or text set to one value: files of one tokenizer differ in such things."""
    keys = ("id", "content", "single_word", "lstrip", "rstrip", "normalized", "special")
    added = [{key: one[key] for key in keys} for one in sorted(content["added_tokens"], key=lambda one: one["id"])]
    end = (END_OF_TEXT,) if architecture == "gpt2" else ("</s>", "<pad>")
    for one in added:
        if one["special"] or one["content"] in end:
            one |= dict.fromkeys(keys[2:6], False) | {"special": True}
    kept = {"version": "1.0", "truncation": None, "padding": None, "post_processor": None, "added_tokens": added}
    kept |= {name: content[name] for name in ("normalizer", "pre_tokenizer", "decoder", "model")}
    for step in _steps(kept["pre_tokenizer"]):
        if step["type"] == "ByteLevel":
            step["trim_offsets"] = True
    if architecture == "gpt2":
        kept["decoder"] = {"type": "ByteLevel", "add_prefix_space": True, "trim_offsets": True, "use_regex": True}
        kept["model"] |= {"dropout": None, "unk_token": None, "continuing_subword_prefix": None, "end_of_word_suffix": None}
        kept["model"] |= {"fuse_unk": False, "byte_fallback": False}
    return json.dumps(kept, ensure_ascii=False, sort_keys=True, separators=(",", ":"))


def _special_ids(architecture: str, model: dict, ids: dict[str, int]) -> tuple[int, ...]:
    """The language model's ids of <pad>, <start>, <end>, <unk>. T5 starts its decoder with <pad>, and pads with nothing of ours."""
    special = [-1] * len(SPECIALS)
    special[END] = ids[END_OF_TEXT if architecture == "gpt2" else "</s>"]
    if architecture == "t5":
        special[START], special[UNK] = ids["<pad>"], model["unk_id"]
    return tuple(special)


def _byte_table() -> dict[str, int]:
    """The character that GPT-2 writes for each byte: itself where it is visible in Latin-1, else the next from U+0100 on (its encoder.py)."""
    visible = [*range(33, 127), *range(161, 173), *range(174, 256)]
    hidden = sorted(set(range(256)) - set(visible))
    return {chr(byte): byte for byte in visible} | {chr(256 + place): byte for place, byte in enumerate(hidden)}


_BYTE_OF = _byte_table()


def _gpt2_bytes(token: str) -> bytes:
    try:
        return bytes(_BYTE_OF[c] for c in token)
    except KeyError:  # an added token is text as it is
        return token.encode()


_BYTES = {"gpt2": _gpt2_bytes, "t5": lambda piece: piece.replace(BLANK, " ").encode()}


def _short(error: Exception) -> str:
    return " ".join(str(error).split())[:120]
