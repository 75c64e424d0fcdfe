"""Can a regular expression match some text in exponentially many ways? Then a backtracking engine tries them all.

The pattern becomes an automaton with one position per character class (Glushkov 1961). It is exponentially ambiguous
if and only if some text leads from a position back to itself along two different ways (Weber and Seidl 1991; why that
is what explodes: Weideman et al. 2016, "Analyzing Matching Time Behavior of Backtracking Regular Expression Matchers").
Two ways differ when they pass different positions, or when one step can be taken in two ways, as in `(a*)*`.

What is left out errs towards refusing: anchors and look-arounds hold everywhere, a group's repetition `\\1` is any
text, letters match in either case, and a repeat of `LONG` times or more goes on for ever. Characters are compared on
ASCII, those in the pattern, and a few others. Polynomial time (`.*.*.*x`) is not found; a time limit catches that.
"""

from __future__ import annotations

import re
from collections import defaultdict
from typing import Any, NamedTuple

_CONSTANTS: Any = re._constants  # type: ignore[attr-defined]
_PARSER: Any = re._parser  # type: ignore[attr-defined]
LONG = 8
"""A repeat of fewer times is written out."""
MOST_POSITIONS = 400
"""More character classes are too many to look at."""
_OTHERS = "éßΣя中٣\u00a0\u2028\U0001f600"
"""Letters, digits, spaces and symbols beyond ASCII."""

Ways = dict[int, int]
"""In how many ways a position is reached: 1, or 2 for more."""


class TooManyPositionsError(Exception):
    """The pattern has more than `MOST_POSITIONS` character classes."""


class _Part(NamedTuple):
    """A piece of a pattern: in how many ways it matches nothing, and where it begins and ends."""

    empty: int
    first: Ways
    last: Ways


_NOTHING = _Part(1, {}, {})


def explodes(pattern: str) -> bool:
    """Whether some text can be matched in exponentially many ways.

    Raises:
        TooManyPositionsError: the pattern is too large to say.
        re.error: it is not a regular expression.
    """
    parsed = _PARSER.parse(pattern)
    automaton = _Automaton(sorted({*map(chr, range(128)), *_OTHERS, *_spelled(parsed)}))
    automaton.sequence(parsed, dotall=bool(parsed.state.flags & re.DOTALL))
    return automaton.is_ambiguous()


class _Automaton:
    def __init__(self, alphabet: list[str]) -> None:
        self._alphabet = alphabet
        self._labels: list[int] = []
        """For each position, the characters of the alphabet that it matches, as bits."""
        self._next: defaultdict[int, Ways] = defaultdict(dict)

    def sequence(self, parsed: Any, *, dotall: bool) -> _Part:
        whole = _NOTHING
        for operation, argument in parsed:
            whole = self._after(whole, self._part(operation, argument, dotall))
        return whole

    def _part(self, operation: Any, argument: Any, dotall: bool) -> _Part:
        match str(operation):
            case "LITERAL" | "NOT_LITERAL" | "IN" | "ANY":
                part = self._position(operation, argument, dotall)
            case "MAX_REPEAT" | "MIN_REPEAT" | "POSSESSIVE_REPEAT":
                part = self._repeat(argument[0], argument[1], argument[2], dotall)
            case "SUBPATTERN":
                _, added, removed, inner = argument
                part = self.sequence(inner, dotall=(dotall or bool(added & re.DOTALL)) and not removed & re.DOTALL)
            case "ATOMIC_GROUP":
                part = self.sequence(argument, dotall=dotall)
            case "BRANCH":
                part = _either([self.sequence(each, dotall=dotall) for each in argument[1]])
            case "GROUPREF_EXISTS":
                part = _either([self.sequence(each or [], dotall=dotall) for each in argument[1:]])
            case "GROUPREF":
                part = self._repeat(0, _CONSTANTS.MAXREPEAT, [(_CONSTANTS.ANY, None)], dotall=True)
            case "ASSERT" | "ASSERT_NOT":
                self.sequence(argument[1], dotall=dotall)
                part = _NOTHING
            case _:
                part = _NOTHING
        return part

    def _position(self, operation: Any, argument: Any, dotall: bool) -> _Part:
        if len(self._labels) >= MOST_POSITIONS:
            raise TooManyPositionsError
        bits = sum(1 << n for n, each in enumerate(self._alphabet) if _matches(operation, argument, each, dotall))
        self._labels.append(bits)
        here = {len(self._labels) - 1: 1}
        return _Part(0, here, here)

    def _repeat(self, least: int, most: int, inner: Any, dotall: bool) -> _Part:
        """Only a counted repeat may match nothing in between; engines leave an uncounted one that does not move on."""
        if most >= LONG:
            part = self.sequence(inner, dotall=dotall)
            counted = least > 1 or most != _CONSTANTS.MAXREPEAT
            self._join(part.last, _times(part.first, 1 + part.empty if counted else 1))
            return part if least else part._replace(empty=min(2, 1 + part.empty))
        whole = _NOTHING
        for number in range(most, 0, -1):
            whole = self._after(self.sequence(inner, dotall=dotall), whole)
            if number > least:
                whole = whole._replace(empty=min(2, 1 + whole.empty))
        return whole

    def _after(self, one: _Part, other: _Part) -> _Part:
        self._join(one.last, other.first)
        first = _sum(one.first, _times(other.first, one.empty))
        return _Part(min(2, one.empty * other.empty), first, _sum(other.last, _times(one.last, other.empty)))

    def _join(self, ends: Ways, starts: Ways) -> None:
        for end, ways in ends.items():
            self._next[end] = _sum(self._next[end], _times(starts, ways))

    def is_ambiguous(self) -> bool:
        """Whether two different ways lead from a position back to itself on the same text."""
        return any(self._has_two_ways_home(position) for position in range(len(self._labels)))

    def _has_two_ways_home(self, home: int) -> bool:
        """Walk two ways side by side from `home`; remember whether they have differed."""
        waiting, seen = [(home, home, False)], set()
        while waiting:
            one, other, differ = waiting.pop()
            for left, left_ways in self._next[one].items():
                for right, right_ways in self._next[other].items():
                    if not self._labels[left] & self._labels[right]:
                        continue
                    twice = one == other and left == right and max(left_ways, right_ways) > 1
                    state = (left, right, differ or left != right or twice)
                    if state == (home, home, True):
                        return True
                    if state not in seen:
                        seen.add(state)
                        waiting.append(state)
        return False


def _either(parts: list[_Part]) -> _Part:
    first: Ways = {}
    last: Ways = {}
    for part in parts:
        first, last = _sum(first, part.first), _sum(last, part.last)
    return _Part(min(2, sum(part.empty for part in parts)), first, last)


def _sum(one: Ways, other: Ways) -> Ways:
    return {position: min(2, one.get(position, 0) + other.get(position, 0)) for position in {*one, *other}}


def _times(ways: Ways, count: int) -> Ways:
    return {position: min(2, each * count) for position, each in ways.items()} if count else {}


def _matches(operation: Any, argument: Any, character: str, dotall: bool) -> bool:
    """Whether one character class matches a character in either case."""
    if str(operation) == "ANY":
        return dotall or character != "\n"
    if str(operation) == "IN":
        negated = str(argument[0][0]) == "NEGATE"
        return any(_in_set(each, argument) for each in _cases(character)) != negated
    found = any(ord(each) == argument for each in _cases(character))
    return found == (str(operation) == "LITERAL")


def _in_set(character: str, items: Any) -> bool:
    for operation, argument in items:
        name = str(operation)
        if name == "LITERAL" and ord(character) == argument:
            return True
        if name == "RANGE" and argument[0] <= ord(character) <= argument[1]:
            return True
        if name == "CATEGORY" and _CATEGORIES[str(argument)].match(character):
            return True
    return False


_CATEGORIES = {
    f"CATEGORY_{negation}{name}": re.compile(f"\\{letter.upper() if negation else letter}")
    for name, letter in (("DIGIT", "d"), ("SPACE", "s"), ("WORD", "w"))
    for negation in ("", "NOT_")
}


def _cases(character: str) -> set[str]:
    return {each for each in (character, character.lower(), character.upper()) if len(each) == 1}


def _spelled(parsed: Any) -> set[str]:
    """Every character that a pattern spells out, in either case, and the neighbours of a range's ends."""
    if isinstance(parsed, int):
        near = (parsed - 1, parsed, parsed + 1)
        return {case for code in near if 0 <= code < 0x110000 for case in _cases(chr(code))}
    if isinstance(parsed, tuple) and len(parsed) == 2 and str(parsed[0]) in ("LITERAL", "NOT_LITERAL"):
        return _spelled(int(parsed[1]))
    if isinstance(parsed, tuple) and len(parsed) == 2 and str(parsed[0]) == "RANGE":
        return _spelled(int(parsed[1][0])) | _spelled(int(parsed[1][1]))
    if isinstance(parsed, list | tuple) or hasattr(parsed, "data"):
        return {each for item in parsed if not isinstance(item, int) for each in _spelled(item)}
    return set()
