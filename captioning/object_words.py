"""The words that name objects: which object a word stands for, which objects are more general than others, colours, counts and relations.

Reads the lexicon, captioning/lexicon/*.json (its README says what each entry means). An object is a name such as "dog"; the word "puppies" stands for it,
"bike" stands for two. Nothing is looked up outside these files: no tagger, no WordNet.
"""

import functools
import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

LEXICON = Path(__file__).with_name("lexicon")
MOST_IN_DIGITS = 999  # four digits are mostly a year
_ONES = ("one", "two", "three", "four", "five", "six", "seven", "eight", "nine")


@dataclass(frozen=True, slots=True)
class Form:
    """One spelling: the objects it may stand for, the likeliest first (none: words that look like an object and are not), and its number."""

    objects: tuple[str, ...]
    plural: bool


class Lexicon:
    """The lexicon, compiled once.

    forms: first word -> [(all words, Form)], longest first; parents: object -> the objects one step more general.
    """

    def __init__(self, folder: Path = LEXICON):
        nouns = json.loads((folder / "objects.json").read_text(encoding="utf-8"))
        about = json.loads((folder / "attributes.json").read_text(encoding="utf-8"))
        self.objects: dict[str, dict] = nouns["objects"]
        self.coco: dict[str, str] = nouns["coco"]
        self.parents = {name: tuple(entry.get("is", ())) for name, entry in self.objects.items()}
        self.ancestors = {name: frozenset(self._above(name)) for name in self.objects}
        below: dict[str, set[str]] = {name: set() for name in self.objects}
        for name, above in self.ancestors.items():
            for one in above:
                below[one].add(name)
        self._relatives = {name: self.ancestors[name] | below[name] | {name} for name in self.objects}
        self._reach: dict[tuple[str, ...], frozenset[str]] = {}
        self.collectives: dict[str, int | str] = nouns["collectives"]
        self.mass, self.parts, self.loose = (frozenset(nouns[kind]) for kind in ("mass", "parts", "loose"))
        self.broad = frozenset(nouns["broad"])
        self.plural_only, self.also_verbs, self.games = (frozenset(nouns[kind]) for kind in ("plural_only", "also_verbs", "games"))
        self.also_verbs |= {plural_of(word, {}) for word in self.also_verbs}
        self.not_objects = frozenset(nouns["not_objects"])
        self.implied = _by_first_word((words, tuple(objects)) for words, objects in nouns["implied"].items())
        self.plurals = {name: plural_of(name, nouns["plurals"]) for name in self.objects}
        self.forms = _by_first_word(self._spellings(nouns["plurals"]).items())
        self.colours = _by_first_word((words, colour) for colour, spellings in about["colours"].items() for words in spellings)
        near = {frozenset(pair) for pair in about["near_colours"]}
        names = list(about["colours"])
        self.shades = {a: frozenset(b for b in names if a == b or "any" in (a, b) or {a, b} in near) for a in names}
        self.adjectives = frozenset(about["size_words"]) | frozenset(about["shade_words"])
        self.counts: dict[str, int | str] = _numbers(about["tens"], about["teens"], about["counts"]) | about["counts"]
        self.measures = frozenset(about["measures"])
        self.determiners = frozenset(about["determiners"])
        self.openers = self.determiners | self.counts.keys()
        self.negations = frozenset(about["negations"])
        self.relations = {tuple(words.split()): name for name, spellings in about["relations"].items() for words in spellings}
        self.opposites: dict[str, str] = about["opposite_relations"]
        self.opposites |= {b: a for a, b in self.opposites.items()}
        self.near_relations = frozenset(frozenset(pair) for pair in about["near_relations"])
        self.no_end = frozenset(about["no_end"])
        self.particles = {word: frozenset(verbs) for word, verbs in about["particles"].items()}

    def _above(self, name: str) -> set[str]:
        found, waiting = set(), list(self.parents[name])
        while waiting:
            one = waiting.pop()
            if one not in found:
                found.add(one)
                waiting += self.parents[one]
        return found

    def _spellings(self, irregular: dict[str, str]) -> dict[str, Form]:
        """Every singular and plural with its objects; words that only look like objects, where they are longer than one word, with none."""
        found: dict[tuple[str, bool], list[str]] = {}
        for name, entry in self.objects.items():
            for words in entry["words"]:
                last = words.rpartition(" ")[2]
                pairs = [(words, last in self.plural_only)]
                if last not in self.plural_only:
                    pairs.append((plural_of(words, irregular), True))
                for spelling, plural in pairs:
                    owners = found.setdefault((spelling, plural), [])
                    # An object that is called just so comes before those that may be called so.
                    owners.insert(0, name) if words == name and name not in owners else owners.append(name)
        spellings = {words: Form((), False) for words in self.not_objects if " " in words}
        for (words, plural), owners in sorted(found.items(), key=lambda pair: pair[0][1]):
            if words not in spellings:  # "sheep" and "fish" are both: counted as one unless a number says more
                spellings[words] = Form(tuple(dict.fromkeys(owners)), plural)
        return spellings

    def reach(self, objects: tuple[str, ...]) -> frozenset[str]:
        """The objects that these agree with: themselves, all that is more general, all that is more special."""
        found = self._reach.get(objects)
        if found is None:
            found = self._reach[objects] = frozenset().union(*(self._relatives[name] for name in objects))
        return found

    def is_a(self, name: str, general: str) -> bool:
        return name == general or general in self.ancestors[name]

    def is_agent(self, name: str) -> bool:
        """Whether it is alive."""
        return self.is_a(name, "person") or self.is_a(name, "animal")

    def is_countable(self, name: str) -> bool:
        return name not in self.mass and name not in self.parts

    def agree(self, one: str, other: str) -> bool:
        """Whether two relations can be said of the same two things: equal, or near each other."""
        return one == other or frozenset((one, other)) in self.near_relations


def _numbers(tens: Sequence[str], teens: Sequence[str], ones: dict[str, int | str]) -> dict[str, int]:
    """Numbers in words, thirteen to ninety-nine, and in digits, 1 to `MOST_IN_DIGITS`. tens: "twenty" first; teens: "thirteen" first; ones: has one to nine."""
    found = {word: n for n, word in enumerate(teens, start=13)}
    for n, word in zip(range(20, 100, 10), tens, strict=True):
        found |= {word: n} | {f"{word} {one}": n + ones[one] for one in _ONES}
    return found | {str(n): n for n in range(1, MOST_IN_DIGITS + 1)}


def _by_first_word(entries: Iterable[tuple]) -> dict[str, list[tuple[tuple[str, ...], object]]]:
    """Spellings by their first word, the longest first."""
    found: dict[str, list] = {}
    for words, meaning in entries:
        split = tuple(words.split())
        found.setdefault(split[0], []).append((split, meaning))
    for spellings in found.values():
        spellings.sort(key=lambda entry: -len(entry[0]))
    return found


def plural_of(words: str, irregular: dict[str, str]) -> str:
    """The plural of a noun by its last word: listed, or by rule (-s, -es, -ies)."""
    rest, _, last = words.rpartition(" ")
    if words in irregular:
        return irregular[words]
    if last in irregular:
        made = irregular[last]
    elif last.endswith("y") and last[-2:-1] not in tuple("aeiou"):
        made = last[:-1] + "ies"
    elif last.endswith(("s", "x", "z", "ch", "sh")):
        made = last + "es"
    else:
        made = last + "s"
    return f"{rest} {made}".strip()


@functools.cache
def load_lexicon() -> Lexicon:
    return Lexicon()


def longest_match(entries: dict[str, list], tokens: Sequence[str], place: int) -> tuple[int, object] | None:
    """(how many words, meaning) of the longest spelling that begins at a place; None where none does."""
    for words, meaning in entries.get(tokens[place], ()):
        if len(words) == 1 or tuple(tokens[place : place + len(words)]) == words:
            return len(words), meaning
    return None
