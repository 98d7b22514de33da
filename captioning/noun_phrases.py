"""Read a caption: the things it names, with their colours and counts, and the relations it states between them.

No grammar of English: a thing is a word of the lexicon, its attributes are what stands between it and the article before it, and a relation is a preposition
right before one thing, said of the thing before it that can do something. Captions are short and mostly alike, and this is right for most of them.
"""

import functools
import re
from dataclasses import dataclass, replace

from captioning.object_words import Form, Lexicon, load_lexicon, longest_match

UNKNOWN = "<unk>"
_TOKEN = re.compile(r"<unk>|'s\b|[^\W_]+")
FAR = 3  # words without a meaning here that may stand between an article and its noun
BE = frozenset(("is", "are", "was", "were"))
# Words that end the walk from a noun to the left: no adjective is among them.
_STOPS_IN_A_ROW = (
    "and or but while as of with without to at from into onto for is are was were be being been in on over under by near up down off out through "
    "across along around behind beside between against above below inside outside towards toward front top next who which that it he she they them "
    "him there has have wears holds plays sits stands runs jumps walks rides carries chases catches watches looks sit stand run jump walk ride carry "
    "chase catch look play"
)
STOPS = frozenset(_STOPS_IN_A_ROW.split())
_WEARING = frozenset(("in", "wearing", "wears", "dressed"))
_HAVING = frozenset(("with", "have", "has", "having", "wear", "wears", "wearing"))
_EATING = frozenset(("eat", "eats", "eating", "peel", "peels", "peeling"))
_BEFORE_TOP = frozenset(("in", "wearing", "wears", "and", "with"))
_SIZES = frozenset(("small", "little", "big", "large", "huge", "tiny"))
_LOOKED_AT = frozenset(("at", "for", "to", "toward", "towards", "by", "facing"))  # "smiles at the camera": nobody sees it
ORANGE, TOP = "orange", "top"


@dataclass(frozen=True, slots=True)
class Phrase:
    """A thing that a caption names.

    word: the noun as said; objects: what it may stand for, the likeliest first; count: a number, "many", "plural" (more than one), "single" (one, not said
    in so many words) or None; start, end: its words in the caption, attributes included. `whole` is False where it only goes with another thing ("snow" in
    "snow boots", "bikini" in "bikini-clad", the board of a "skateboarder"): such a thing is not missed by who leaves it out, nor made up by who says it.
    """

    word: str
    objects: tuple[str, ...]
    plural: bool
    start: int
    end: int
    colours: frozenset[str] = frozenset()
    count: int | str | None = None
    whole: bool = True


@dataclass(frozen=True, slots=True)
class Statement:
    """One relation: `subject` is `relation` of `other`. word: as the caption says it."""

    subject: Phrase
    relation: str
    other: Phrase
    word: str


@dataclass(frozen=True, slots=True)
class Reading:
    """What one caption says."""

    tokens: tuple[str, ...]
    phrases: tuple[Phrase, ...] = ()
    statements: tuple[Statement, ...] = ()
    worn: frozenset[str] = frozenset()  # colours of clothes that it does not name: "a boy in red"
    nouns: frozenset[int] = frozenset()  # places of all words of the things named, present or absent
    absent: tuple[Phrase, ...] = ()  # "a man without a shirt" names no shirt


def tokenize(caption: str) -> tuple[str, ...]:
    """Lower-case words; a possessive 's is a word of its own, `<unk>` stays whole."""
    return tuple(_TOKEN.findall(caption.lower().replace("\u2019", "'")))


@functools.lru_cache(maxsize=200_000)
def read_caption(caption: str) -> Reading:
    """Equal captions are read once."""
    return _Reader(load_lexicon(), tokenize(caption)).read()


class _Reader:
    def __init__(self, lexicon: Lexicon, tokens: tuple[str, ...]):
        self.lexicon, self.tokens = lexicon, tokens
        self.colours: list[str | None] = [None] * len(tokens)
        place = 0
        while place < len(tokens):
            found = longest_match(lexicon.colours, tokens, place)
            for k in range(found[0] if found else 0):
                self.colours[place + k] = found[1]
            place += found[0] if found else 1

    def read(self) -> Reading:
        found = self._find_nouns()
        phrases: list[Phrase] = []
        ends = {end: start for start, end, _ in found}  # where a noun ends -> where it starts
        starts = {start for start, _, _ in found}
        for start, end, form in found:
            word = " ".join(self.tokens[start:end])
            whole = not (end in starts and not form.plural and not self._is_agent(form.objects))
            phrase = Phrase(word, form.objects, form.plural, start, end, whole=whole)
            phrases += self._attributes(phrase, ends) if whole else [phrase]
        ones, worn = self._colours_alone(phrases)
        phrases += ones
        phrases.sort(key=lambda phrase: (phrase.start, phrase.end))
        absent = self._absent(phrases)
        phrases = [phrase for phrase in phrases if phrase not in absent]
        statements = tuple(self._statements([phrase for phrase in phrases if phrase.whole]))
        nouns = frozenset(k for start, end, _ in found for k in range(start, end))
        return Reading(self.tokens, tuple(phrases + self._implied()), statements, worn, nouns, absent)

    def _find_nouns(self) -> list[tuple[int, int, Form]]:
        """Spellings of objects, the longest first, without those that are something else here."""
        found, place, forms = [], 0, self.lexicon.forms
        while place < len(self.tokens):
            match = longest_match(forms, self.tokens, place)
            if match is None:
                place += 1
                continue
            length, form = match
            if length == 1:
                form = self._in_context(place, form)
            if form is not None and form.objects:
                found.append((place, place + length, form))
            place += length
        return found

    def _in_context(self, place: int, form: Form) -> Form | None:
        """What a single word stands for where it stands: words with two meanings need their neighbours. None where it is no object."""
        word, before, after = self.tokens[place], self._at(place - 1), self._at(place + 1)
        if after == "of" and word in self.lexicon.collectives:
            return None
        if word == ORANGE:
            eaten = before in _EATING or self._at(place - 2) in _EATING
            alone = before in ("an", "the") and (
                after in BE or after == "" or (after == "and" and self._at(place + 2) in ("a", "an", "the"))
            )
            return form if eaten or (alone and self._at(place - 2) not in _WEARING) else None
        if word == TOP or (word == "tops" and after == "of"):
            opening = place - 1
            while opening >= 0 and (
                self.colours[opening] or self.tokens[opening] in self.lexicon.adjectives or self.tokens[opening] == "and"
            ):
                opening -= 1
            described = opening < place - 1
            article = self._at(opening) in ("a", "an", "her", "his", "their")
            garment = after != "of" and ((article and self._at(opening - 1) in _BEFORE_TOP) or (described and not article))
            return form if garment else None
        if word == "glasses" and after == "of":
            return Form(("glass",), True)
        if word == "glass":
            return form if before in ("a", "his", "her", "the") or after == "of" else None
        if word == "camera" and (before if before not in ("the", "a") else self._at(place - 2)) in _LOOKED_AT:
            return None
        if word in self.lexicon.games:
            return form if self._is_described(place) and after not in ("game", "match", "practice") else None
        if word in self.lexicon.also_verbs and not self._is_in_nouns_place(place):
            return None
        return form

    def _is_described(self, place: int) -> bool:
        """After an article, a number, a colour or a size."""
        before = self._at(place - 1)
        return place > 0 and (
            before in self.lexicon.determiners or before in self.lexicon.counts or bool(self.colours[place - 1]) or before in _SIZES
        )

    def _is_in_nouns_place(self, place: int) -> bool:
        """After an article, a number, an adjective or a preposition; not after a noun or "to", where a verb stands."""
        before = self._at(place - 1)
        if self._is_described(place) or before in self.lexicon.adjectives:
            return True
        if before in ("and", "or"):  # "flowers and plants", but "jumps and waves"
            return self._at(place - 2) in self.lexicon.forms and self._at(place - 2) not in self.lexicon.also_verbs
        if before in ("to", "who", "that", "which", ""):
            return False
        opened = self._at(place - 2) in self.lexicon.determiners or self._at(place - 2) in self.lexicon.counts
        return before in STOPS or before.endswith("ing") or (before not in self.lexicon.forms and opened)

    def _attributes(self, phrase: Phrase, ends: dict[int, int]) -> list[Phrase]:
        """The phrase with its colours and count. Two phrases for "a black and a white dog"."""
        colours, unsure, far, place = set(), set(), 0, phrase.start - 1
        counts, count, opened = self.lexicon.counts, None, False
        while place >= 0:
            word = self.tokens[place]
            if place + 1 in ends and place + 1 != phrase.start:
                break
            if place + 1 == phrase.start and place + 1 in ends and ends[place + 1] < place + 1:
                place = ends[place + 1] - 1  # "snow boots": the article stands before "snow"
                continue
            if word == "of" and place and f"{self.tokens[place - 1]} of" in counts:
                count, opened = (counts[f"{self.tokens[place - 1]} of"], True) if count is None else (count, True)
                place -= 2
                break
            if self.colours[place]:
                (unsure if far else colours).add(self.colours[place])
            elif word == "of" and self._at(place - 1) in counts and self._at(place - 1) not in ("a", "an", "one") and opened:
                count = counts[self._at(place - 1)]
                break
            elif word in self.lexicon.determiners:
                opened = True
                if self._at(place - 1) != "of":
                    break
            elif word in counts and self._is_no_count(place, phrase):
                pass
            elif word in counts:
                if f"{self._at(place - 1)} {word}" in counts:  # "twenty two"
                    place -= 1
                    word = f"{self.tokens[place]} {word}"
                count, opened = counts[word], True
                place -= word not in ("a", "an") and self._at(place - 1) in ("a", "the")
                break
            elif far == FAR or self._ends_attributes(place, bool(colours or unsure)):
                break
            elif word not in self.lexicon.adjectives and word != "and":
                far += 1
            place -= 1
        colours |= unsure if opened else set()
        start = max(place, 0) if opened else min([phrase.start, *(k for k in range(max(place, 0), phrase.start) if self.colours[k])])
        if self._at(phrase.end) in BE and phrase.end + 1 < len(self.tokens) and self.colours[phrase.end + 1]:
            colours.add(self.colours[phrase.end + 1])
        main = replace(phrase, start=start, colours=frozenset(colours), count=self._count(phrase, count))
        if opened and place >= 2 and self.tokens[place] in ("a", "an", "one", "another") and self.tokens[place - 1] == "and":
            other = self.colours[place - 2]
            if other and place >= 3 and self._at(place - 3) in ("a", "an", "one"):
                return [replace(main, start=place - 3, end=place - 1, colours=frozenset((other,)), count=1), main]
        return [main]

    def _is_no_count(self, place: int, phrase: Phrase) -> bool:
        """Whether a number measures ("15 year old boys") or is a name ("number 15 jersey", "a 15 shirt")."""
        if self._at(place + 1) in self.lexicon.measures or self._at(place - 1) == "number":
            return True
        both = phrase.plural or self.lexicon.plurals.get(phrase.word) == phrase.word  # "15 sheep"
        return not both and self.tokens[place].isdecimal() and self.tokens[place] != "1"

    def _absent(self, phrases: list[Phrase]) -> tuple[Phrase, ...]:
        """The things that a caption says are not there."""
        found: list[Phrase] = []
        for phrase in phrases:
            place = phrase.start
            while place and self.tokens[place] not in self.lexicon.openers and self._is_adjective(place - 1):
                place -= 1  # "without long sleeves"
            if self._is_negation(place):
                after = self._at(place + 1)
                sign = self._at(place - 1) in ("a", "an", "the") or (after.endswith("ing") and not phrase.word.startswith(after))
                absent = not sign  # "a no skiing sign" is there
            elif self._at(place - 1) in ("or", "nor"):
                absent = any(other.end == place - 1 for other in found)
            else:
                absent = self._is_negation(place - 1 - (self._at(place - 1) in _HAVING))  # "not wearing a hat"
            if absent:
                found.append(phrase)
        return tuple(found)

    def _is_negation(self, place: int) -> bool:
        return self._at(place) in self.lexicon.negations or f"{self._at(place - 1)} {self._at(place)}" in self.lexicon.negations

    def _is_adjective(self, place: int) -> bool:
        return bool(self.colours[place]) or self.tokens[place] in self.lexicon.adjectives

    def _ends_attributes(self, place: int, before_colour: bool) -> bool:
        """Whether a word cannot stand before a noun. before_colour: "and" may, between two colours."""
        word = self.tokens[place]
        if word == "and":
            return not (before_colour and place and self.colours[place - 1])
        # "a man walking dogs", but "two walking dogs"
        return word in STOPS or (word.endswith("ing") and self._at(place - 1) not in self.lexicon.openers)

    def _count(self, phrase: Phrase, said: int | str | None) -> int | str | None:
        lexicon = self.lexicon
        if not lexicon.is_countable(phrase.objects[0]) or phrase.word.rpartition(" ")[2] in lexicon.plural_only:
            return None
        if phrase.word in lexicon.collectives:
            return lexicon.collectives[phrase.word]
        if phrase.plural and said in (None, 1):
            return "plural"
        return "single" if said is None else said

    def _colours_alone(self, phrases: list[Phrase]) -> tuple[list[Phrase], frozenset[str]]:
        """What is named by its colour alone: things ("a white one"), and the colours of clothes ("a boy in red")."""
        taken = {k for phrase in phrases for k in range(phrase.start, phrase.end)}
        ones, worn = [], set()
        for place, colour in enumerate(self.colours):
            if colour is None or place in taken:
                continue
            earlier = [phrase for phrase in phrases if phrase.end <= place and self._is_agent(phrase.objects)]
            if self._at(place + 1) == "one" and earlier:
                ones.append(replace(earlier[0], start=place - 1, end=place + 2, colours=frozenset((colour,)), count=1))
            elif self._at(place - 1) in _WEARING or (self._at(place - 1) == "and" and self._at(place - 3) in _WEARING):
                worn.add(colour)
        return ones, frozenset(worn)

    def _implied(self) -> list[Phrase]:
        """The things that other words hold: a skateboard in "skateboarder", grass in "grassy"."""
        found = []
        for place in range(len(self.tokens)):
            match = longest_match(self.lexicon.implied, self.tokens, place)
            if match:
                found += [Phrase(self.tokens[place], (name,), False, place, place + match[0], whole=False) for name in match[1]]
        return found

    def _statements(self, phrases: list[Phrase]) -> list[Statement]:
        found = []
        for k, other in enumerate(phrases):
            match = self._relation_before(other.start)
            before = [phrase for phrase in phrases[:k] if match and phrase.end <= other.start - match[0]]
            if not before or self.lexicon.is_a(other.objects[0], "clothing"):
                continue  # "a man in a shirt" says what he wears, not where he is
            length, relation = match
            place = other.start - length
            nearest = before[-1]
            between = self.tokens[nearest.end : place]
            subject = nearest
            if not self._is_agent(nearest.objects) and (between or self.lexicon.is_a(nearest.objects[0], "clothing")):
                agents = [phrase for phrase in before if self._is_agent(phrase.objects)]
                subject = agents[-1] if agents else nearest
            word = " ".join(self.tokens[place : other.start])
            found.append(Statement(subject, relation, other, word))
            joined = [p for p in before if self.tokens[p.end : subject.start] == ("and",)]
            if joined and between and between[0] in ("are", "sit", "stand", "play", "run", "walk"):
                found.append(Statement(joined[-1], relation, other, word))
        return found

    def _relation_before(self, start: int) -> tuple[int, str] | None:
        """(how many words, relation) of the longest preposition that ends right before a place."""
        for length in range(min(6, start), 0, -1):
            relation = self.lexicon.relations.get(self.tokens[start - length : start])
            if relation:
                return length, relation
        return None

    def _is_agent(self, objects: tuple[str, ...]) -> bool:
        """Whether a thing can do something, so that a relation after a verb is its."""
        return any(self.lexicon.is_a(objects[0], general) for general in ("person", "animal", "vehicle"))

    def _at(self, place: int) -> str:
        return self.tokens[place] if 0 <= place < len(self.tokens) else ""
