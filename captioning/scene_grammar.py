"""The words of the demo scenes: a small grammar with synonyms that says what is true of a scene, five ways.

Read by captioning/scenes.py; the error analysis reads the word tables, since on scenes they are the whole lexicon.
"""

from collections.abc import Sequence

# singular, plural; the first pair is the usual one
SYNONYMS = {
    "circle": (("circle", "circles"), ("disc", "discs")),
    "square": (("square", "squares"), ("box", "boxes")),
    "triangle": (("triangle", "triangles"),),
    "cross": (("cross", "crosses"),),
    "star": (("star", "stars"),),
    "heart": (("heart", "hearts"),),
}
NOUNS = {word: shape for shape, pairs in SYNONYMS.items() for pair in pairs for word in pair}
SIZES = {"small": ("small", "little"), "big": ("big", "large")}
COUNTS = {1: "a", 2: "two", 3: "three"}
RELATIONS = {
    "above": ("above", "over"),
    "below": ("below", "under"),
    "left": ("left of", "to the left of"),
    "right": ("right of", "to the right of"),
}
CAPTIONS = 5


def describe(groups: Sequence, relations: frozenset, stream) -> tuple[tuple[str, ...], tuple[tuple[int, ...], ...]]:
    """Five different captions, and for each the groups it names in its order. `groups` and `relations` as in scenes.Scene, `stream` a scenes.Stream."""
    captions: dict[str, tuple[int, ...]] = {}
    while len(captions) < CAPTIONS:
        named = _choose_groups(groups, len(captions), stream)
        text = _sentence(groups, relations, named, stream)
        captions.setdefault(text, named)
    return tuple(captions), tuple(captions.values())


def _choose_groups(groups: Sequence, written: int, stream) -> tuple[int, ...]:
    """Four captions of five speak of the two groups that cover most, the fifth of any two or three; mostly from left to right and top to bottom, as people would."""
    named = [0, 1] if written < 4 else _shuffle(range(len(groups)), stream)[: 3 if stream.chance(50) else 2]
    if stream.chance(30):
        return tuple(_shuffle(named, stream))
    return tuple(sorted(named, key=lambda index: sum(groups[index].centre)))


def _shuffle(items: Sequence[int], stream) -> list[int]:
    items = list(items)
    for last in range(len(items) - 1, 0, -1):
        other = stream.below(last + 1)
        items[last], items[other] = items[other], items[last]
    return items


def _usually_first(choices: Sequence, stream):
    return choices[0] if stream.chance(70) else stream.pick(choices)


def _sentence(groups: Sequence, relations: frozenset, named: tuple[int, ...], stream) -> str:
    phrases = [_noun_phrase(groups[index], stream) for index in named]
    relation = _main_relation(groups, relations, named[0], named[1])
    opening = stream.chance(15) * ("there is " if groups[named[0]].count == 1 else "there are ")
    if len(named) == 3:
        holds_for_both = relation and (named[0], relation, named[2]) in relations
        return (
            opening
            + phrases[0]
            + (f" {_usually_first(RELATIONS[relation], stream)} " if holds_for_both else " with ")
            + f"{phrases[1]} and {phrases[2]}"
        )
    if relation is None or stream.chance(10):
        return f"{opening}{phrases[0]} and {phrases[1]}"
    return f"{opening}{phrases[0]} {_usually_first(RELATIONS[relation], stream)} {phrases[1]}"


def _main_relation(groups: Sequence, relations: frozenset, a: int, b: int) -> str | None:
    """The relation along the axis on which the two stand farther apart, the one people say."""
    dx, dy = (groups[b].centre[axis] - groups[a].centre[axis] for axis in (0, 1))
    relation = ("left" if dx > 0 else "right") if abs(dx) >= abs(dy) else ("above" if dy > 0 else "below")
    return relation if (a, relation, b) in relations else None


def _noun_phrase(group, stream) -> str:
    singular, plural = _usually_first(SYNONYMS[group.shape], stream)
    words = [COUNTS[group.count]]
    if stream.chance(60):
        words.append(_usually_first(SIZES[group.size], stream))
    if stream.chance(92):
        words.append(group.colour)
    words.append(singular if group.count == 1 else plural)
    if words[0] == "a" and words[1][0] in "aeiou":
        words[0] = "an"
    return " ".join(words)
