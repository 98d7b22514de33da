"""What makes each kind of error: one caption against the references of its image, from their words alone.

`Image` holds what references say, read once for all captions of an image; `find_errors` asks each rule. captioning/errors.py has the kinds in words.
"""

import functools
from collections import Counter
from collections.abc import Iterator, Sequence
from typing import NamedTuple

from captioning.noun_phrases import UNKNOWN, Phrase, Reading, Statement, read_caption
from captioning.object_words import Lexicon, load_lexicon

MANY = 3  # the least that "several" may stand for
LONGEST_PHRASE = 12  # words of a repeated phrase that are looked for
_ARTICLES = frozenset(("a", "an", "the"))
RULES = 2  # raised when a rule or the lexicon changes what is found
# Of captions marked by reading, by the sha256 of their file's text: what became of the rules after they were first compared with them.
RULES_SINCE = {
    "02f4355bd7215a0c89ace4ad686d2168a8288068d1d040ad84c1f4c6fef660a1": "The rules were mended once since, for faults found apart from these marks.",
}


class Error(NamedTuple):
    """kind: of `captioning.errors.KINDS`; word: what in the caption, or what is missing; instead: what references say, "" where nothing."""

    kind: str
    word: str
    instead: str


class Image:
    """What the references of an image say. `missable`: [(object, its word)] that all of them name, the one most of them say first."""

    def __init__(self, references: tuple[str, ...]):
        self.lexicon = load_lexicon()
        self.readings = [read_caption(caption) for caption in references]
        self.phrases = [phrase for reading in self.readings for phrase in reading.phrases]
        self.statements = [statement for reading in self.readings for statement in reading.statements]
        self.named = frozenset().union(*(self.lexicon.reach(phrase.objects) for phrase in self.phrases))
        self.worn = frozenset().union(*(reading.worn for reading in self.readings))
        if self.worn:  # "in red" is dressed, whatever the garment
            self.named |= self.lexicon.reach(("clothing",))
        # An object counts once a reference, however often that says it.
        self.said = Counter(name for reading in self.readings for name in {phrase.objects[0] for phrase in reading.phrases if phrase.whole})
        self.missable = self._missable()

    def names(self, phrase: Phrase) -> bool:
        """Whether a reference names the object, or something more special, or only something more general.

        Not only: where one says "kids" and another "boys", "girls" is wrong. Of things that may well stand beside each other ("clothes", "trousers") a
        more general word is enough.
        """
        lexicon = self.lexicon
        if self.named.isdisjoint(phrase.objects):
            return False
        if not lexicon.is_agent(phrase.objects[0]) or any(_is_special(other, phrase, lexicon) for other in self.phrases):
            return True
        reach = lexicon.reach(phrase.objects)
        general = {name for other in self.phrases for name in other.objects if name in reach}
        return not any(name not in reach and not general.isdisjoint(lexicon.ancestors[name]) for name in self.said)

    def _missable(self) -> list[tuple[str, str]]:
        lexicon, said = self.lexicon, self.said
        each = [[lexicon.reach(p.objects) for p in reading.phrases if p.whole] for reading in self.readings]
        candidates = set(said) | {above for name in said for above in lexicon.ancestors[name] if above not in lexicon.loose}
        in_all = [name for name in candidates - lexicon.parts if all(any(name in reach for reach in named) for named in each)]
        in_all.sort(key=lambda name: (-said[name], -len(lexicon.ancestors[name]), name))
        return [(name, self.word_for(name)) for name in in_all]

    def word_for(self, name: str) -> str:
        """An object's name, or where no reference has that, the word that most of them have for it."""
        words = Counter(p.word for p in self.phrases if p.whole and p.objects[0] == name)
        own = name in words or self.lexicon.plurals[name] in words
        return name if own or not words else min(words, key=lambda word: (-words[word], word))

    def like(self, phrase: Phrase) -> list[Phrase]:
        """What references say of the same object: as special, more general or more special."""
        reach = self.lexicon.reach(phrase.objects)
        return [other for other in self.phrases if not reach.isdisjoint(other.objects)]


@functools.lru_cache(maxsize=50_000)
def read_image(references: tuple[str, ...]) -> Image:
    return Image(references)


def find_errors(caption: str, references: Sequence[str], ended: bool = True) -> list[Error]:
    """All errors of one caption that do not need the other captions."""
    reading, image = read_caption(caption), read_image(tuple(references))
    found = [*_invented(reading, image), *_missed(reading, image), *_wrong_colours(reading, image), *_wrong_counts(reading, image)]
    found += [*_wrong_relations(reading, image), *_repeated(reading, image.lexicon), *_unended(reading, image.lexicon, ended)]
    found += [Error("unknown-word", UNKNOWN, "")] * (UNKNOWN in reading.tokens)
    return list(dict.fromkeys(found))


def _invented(reading: Reading, image: Image) -> Iterator[Error]:
    lexicon, seen = image.lexicon, set()
    for phrase in reading.phrases:
        if not phrase.whole or phrase.objects[0] in lexicon.parts or phrase.objects in seen or image.names(phrase):
            continue
        seen.add(phrase.objects)
        yield Error("invented-object", phrase.word, _confused_with(phrase, reading, image))


def _confused_with(phrase: Phrase, reading: Reading, image: Image) -> str:
    """An object of the same sort that references name and the caption does not: the dog for which it said "cat"."""
    lexicon = image.lexicon
    sort = lexicon.ancestors[phrase.objects[0]] - lexicon.broad
    own = frozenset().union(*(lexicon.reach(other.objects) for other in reading.phrases if other is not phrase))
    others = [name for name in image.said if name not in own and not sort.isdisjoint(lexicon.ancestors[name])]
    return min(others, key=lambda name: (-image.said[name], name), default="")


def _missed(reading: Reading, image: Image) -> Iterator[Error]:
    named = frozenset().union(*(image.lexicon.reach(phrase.objects) for phrase in reading.phrases))
    taken: frozenset[str] = frozenset()
    for name, word in image.missable:
        if name not in named and name not in taken:
            taken |= image.lexicon.reach((name,))  # who misses the dog misses no animal besides
            yield Error("missed-object", word, word)


def _wrong_colours(reading: Reading, image: Image) -> Iterator[Error]:
    shades = image.lexicon.shades
    for phrase in reading.phrases:
        if not phrase.colours or not phrase.whole or image.lexicon.is_a(phrase.objects[0], "person"):
            continue  # a person's colour is skin, hair or dress
        given = frozenset(colour for other in image.like(phrase) for colour in other.colours)
        if image.lexicon.is_a(phrase.objects[0], "clothing"):
            given |= image.worn
        for colour in sorted(phrase.colours):
            if given and shades[colour].isdisjoint(given):
                yield Error("wrong-colour", f"{colour} {phrase.word}", ", ".join(sorted(given)))


def _wrong_counts(reading: Reading, image: Image) -> Iterator[Error]:
    things = [phrase for phrase in reading.phrases if phrase.whole]
    for phrase in things:
        if phrase.count in (None, "single") or phrase.word in image.lexicon.collectives:
            continue  # "a crowd" says how many stand in it, not how many people there are
        # Of more general things only people and animals are counted alike: "two toys" say nothing of "a ball".
        like = [
            o for o in image.like(phrase) if o.whole and (_is_special(o, phrase, image.lexicon) or image.lexicon.is_agent(o.objects[0]))
        ]
        if phrase.colours:  # of several dogs the black one
            like = [other for other in like if other.colours and not _differ(phrase.colours, other.colours, image.lexicon)] or like
        definite = [other.count for other in like if isinstance(other.count, int) or other.count == "many"]
        if not definite or any(_counts_agree(phrase.count, other.count) for other in like if other.count):
            continue
        counted = set(map(id, like))
        totals = [_total([p for p in one.phrases if id(p) in counted]) for one in image.readings]
        if any(total and _counts_agree(phrase.count, total) for total in totals):
            continue
        # "a man and a woman" are the two people of a reference.
        own = [(_total([p for p in things if not image.lexicon.reach(other.objects).isdisjoint(p.objects)]), other.count) for other in like]
        if any(total and count and _counts_agree(total, count) for total, count in own):
            continue
        yield Error("wrong-count", _with_count(phrase, reading, image.lexicon), ", ".join(sorted({str(count) for count in definite})))


def _with_count(phrase: Phrase, reading: Reading, lexicon: Lexicon) -> str:
    """The phrase without its adjectives: "a group of people"."""
    words = reading.tokens[phrase.start : phrase.end]
    return " ".join(word for word in words if word not in lexicon.adjectives and word not in lexicon.colours)


def _is_special(one: Phrase, other: Phrase, lexicon: Lexicon) -> bool:
    """Whether the first names the same object as the second, or a more special one."""
    return any(lexicon.is_a(a, b) for a in one.objects for b in other.objects)


def _total(phrases: list[Phrase]) -> int | str | None:
    """How many things several phrases name together; None for one phrase, whose count stands alone."""
    counts = [phrase.count for phrase in phrases]
    if len(counts) < 2 or None in counts:
        return None
    numbers = [1 if count == "single" else count for count in counts]
    return "plural" if any(isinstance(number, str) for number in numbers) else sum(numbers)


def _counts_agree(one: int | str, other: int | str) -> bool:
    """Whether both can be said of the same things. "plural" is two or more, "many" `MANY` or more, "single" one."""
    low, high = sorted((_range(one), _range(other)))
    return low[1] >= high[0]


def _range(count: int | str) -> tuple[float, float]:
    return {"single": (1, 1), "plural": (2, float("inf")), "many": (MANY, float("inf"))}.get(count) or (count, count)


def _wrong_relations(reading: Reading, image: Image) -> Iterator[Error]:
    lexicon = image.lexicon
    for statement in reading.statements:
        stated = {}
        for other in image.statements:
            for subject, relation, thing in _both_ways(other, lexicon):
                if _same(statement.subject, subject, lexicon) and _same(statement.other, thing, lexicon):
                    stated[relation] = other
        if not stated or any(lexicon.agree(statement.relation, relation) for relation in stated):
            continue
        said = sorted({f"{other.subject.word} {other.word} {other.other.word}" for other in stated.values()})
        yield Error("wrong-relation", f"{statement.subject.word} {statement.word} {statement.other.word}", said[0])


def _both_ways(statement: Statement, lexicon: Lexicon) -> Iterator[tuple[Phrase, str, Phrase]]:
    """What is left of a thing has it on its right."""
    yield statement.subject, statement.relation, statement.other
    if statement.relation in lexicon.opposites:
        yield statement.other, lexicon.opposites[statement.relation], statement.subject


def _same(one: Phrase, other: Phrase, lexicon: Lexicon) -> bool:
    """Whether two phrases can be about the same thing: related objects, and no colour or number that keeps them apart."""
    if lexicon.reach(one.objects).isdisjoint(other.objects) or _differ(one.colours, other.colours, lexicon):
        return False
    return not (isinstance(one.count, int) and isinstance(other.count, int) and one.count != other.count)


def _differ(one: frozenset[str], other: frozenset[str], lexicon: Lexicon) -> bool:
    return bool(one) and bool(other) and all(lexicon.shades[colour].isdisjoint(other) for colour in one)


def _repeated(reading: Reading, lexicon: Lexicon) -> Iterator[Error]:
    tokens = reading.tokens
    for k in range(len(tokens) - 1):
        if tokens[k] == tokens[k + 1] and tokens[k] != UNKNOWN:
            yield Error("repetition", f"{tokens[k]} {tokens[k]}", "")
            return
    for phrase, other in zip(reading.phrases, reading.phrases[1:], strict=False):
        first, second = ([word for word in tokens[p.start : p.end] if word not in _ARTICLES] for p in (phrase, other))
        if tokens[phrase.end : other.start] == ("and",) and first == second and phrase.whole and other.whole:
            yield Error("repetition", " ".join(tokens[phrase.start : other.end]), "")
            return
    repeated = _repeated_phrase(reading, lexicon)
    if repeated:
        yield Error("repetition", repeated, "")


def _repeated_phrase(reading: Reading, lexicon: Lexicon) -> str:
    """The longest phrase of three or more words that is there twice, "" for none. It ends in a word that can end one: no article, preposition, adjective."""
    tokens = reading.tokens
    for length in range(min(LONGEST_PHRASE, len(tokens) // 2), 2, -1):
        first: dict[tuple[str, ...], int] = {}
        for k in range(len(tokens) - length + 1):
            words = tokens[k : k + length]
            if _can_end(k + length - 1, reading, lexicon) and k - first.setdefault(words, k) >= length:
                return " ".join(words)
    return ""


def _can_end(place: int, reading: Reading, lexicon: Lexicon) -> bool:
    word = reading.tokens[place]
    if word in lexicon.no_end or word in lexicon.determiners or word in lexicon.counts:
        return False
    return place in reading.nouns or not (word in lexicon.adjectives or word in lexicon.colours or word.endswith("ing"))


def _unended(reading: Reading, lexicon: Lexicon, ended: bool) -> Iterator[Error]:
    last, before = (("", "") + reading.tokens)[-1], (("", "") + reading.tokens)[-2]
    dressed = last == "on" and any(
        p.end == len(reading.tokens) - 1 and lexicon.is_a(p.objects[0], "clothing") for p in (*reading.phrases, *reading.absent)
    )
    can_end = last not in lexicon.no_end or before in lexicon.particles.get(last, ()) or dressed  # "with a hat on"
    if not ended or not can_end:
        yield Error("unended", last, "")
