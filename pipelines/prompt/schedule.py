"""Prompts that change while a picture is drawn: `[a:b:0.3]` and `[a|b]`, read as AUTOMATIC1111 reads them."""

import re
from bisect import bisect_left
from collections.abc import Sequence
from dataclasses import dataclass

# What its grammar takes as plain text; a backslash hides the character behind it.
_PLAIN = re.compile(r"(?:[^\\\[\]():|]|\\.)+")
_NUMBER = re.compile(r"\s*(?P<number>[+-]?(?:[0-9]+\.?[0-9]*|\.[0-9]+)(?:[eE][+-]?[0-9]+)?)\s*\]")
_CLOSING = {"(": ")", "[": "]"}
Span = tuple[int, int]  # from, to


@dataclass(frozen=True, slots=True)
class _Choice:
    """A bracket whose text depends on the step: one of `spans`, by turns, or the second after step `when`."""

    end: int
    spans: tuple[Span, ...]
    when: int | None = None

    def span(self, step: int) -> Span:
        if self.when is None:
            return self.spans[(step - 1) % len(self.spans)]
        return self.spans[step > self.when]


def schedule(text: str, steps: int, first_pass_steps: int | None = None) -> list[tuple[int, str]]:
    """What is read until which step, counted from 1: [(last step, text), ...], the last entry until `steps`.

    A number with a point is a part of the steps, one without counts them. In a second pass over the picture
    both go on from the first: numbers up to `first_pass_steps`, and parts up to 1.0, lie behind it.
    A text that the grammar does not take, as with a bar outside brackets, is read as it stands.
    """
    choices = _choices(text, steps, first_pass_steps)
    if choices is None:
        return [(steps, text)]
    ends = {steps}
    for choice in choices.values():
        if choice.when is None:
            ends |= set(range(1, steps + 1))
        elif choice.when > 0:
            ends.add(choice.when)
    places = sorted(choices)
    return [(end, _text_at(text, choices, places, end)) for end in sorted(ends)]


def text_at(entries: Sequence[tuple[int, str]], step: int) -> str:
    """The text of a schedule that is read in a step, counted from 1."""
    return next(text for last, text in entries if step <= last)


def _choices(text: str, steps: int, first_pass_steps: int | None) -> dict[int, _Choice] | None:
    """The brackets that depend on the step, by their place; None where the text is none of the grammar's.

    From right to left, so that a bracket finds those inside it already read: no depth is too deep.
    """
    places = []  # of what is not plain
    place = 0
    while place < len(text):
        if plain := _PLAIN.match(text, place):
            place = plain.end()
        elif text[place] == "\\":
            return None  # nothing follows that it could hide
        else:
            places.append(place)
            place += 1
    ends: dict[int, int] = {}  # of every pair of brackets that belong together
    choices: dict[int, _Choice] = {}
    for start in reversed(places):
        if text[start] not in _CLOSING:
            continue
        stops = []  # the bars and colons, and last what ends the bracket, if anything does
        following = bisect_left(places, start + 1)
        while following < len(places):
            place = places[following]
            if text[place] in _CLOSING:
                if place not in ends:
                    break
                following = bisect_left(places, ends[place])
                continue
            stops.append(place)
            if text[place] in ")]":
                break
            following += 1
        found = _read_bracket(text, start, stops, steps, first_pass_steps)
        if found is None:
            continue
        ends[start] = found.end
        if found.spans:
            choices[start] = found
    outside = 0
    for place in places:
        if place >= outside and text[place] == "|":
            return None
        if place >= outside:
            outside = ends.get(place, outside)
    return choices


def _read_bracket(
    text: str, start: int, stops: list[int], steps: int, first_pass_steps: int | None
) -> _Choice | None:
    """The bracket at `start`, without spans where it is a mere weight; None where it is no bracket at all."""
    if not stops:
        return None
    kinds = "".join(text[stop] for stop in stops)
    spans = tuple(zip([start + 1, *(stop + 1 for stop in stops)], stops, strict=False))
    if text[start] == "(":
        return _Choice(stops[-1] + 1, ()) if kinds in (")", ":)") else None
    if kinds == "]":
        return _Choice(stops[-1] + 1, ())
    if set(kinds[:-1]) == {"|"} and kinds[-1] == "]":
        return _Choice(stops[-1] + 1, spans)
    number = _NUMBER.match(text, stops[-2] + 1) if kinds in (":]", "::]") else None
    if number is None or number.end() != stops[-1] + 1:
        return None
    when = _when(number["number"], steps, first_pass_steps)
    before, after = spans[:-1] if len(spans) == 3 else ((start, start), spans[0])
    return _Choice(stops[-1] + 1, (before, after), when)


def _when(number: str, steps: int, first_pass_steps: int | None) -> int:
    """The last step before the change."""
    value, part = float(number), "." in number
    if first_pass_steps is not None:
        value -= 1.0 if part else first_pass_steps
    return int(min(max(value * steps if part else value, 0), steps))


def _text_at(text: str, choices: dict[int, _Choice], places: list[int], step: int) -> str:
    parts: list[str] = []
    left = [(0, len(text))]
    while left:
        start, end = left.pop()
        following = bisect_left(places, start)
        if following == len(places) or places[following] >= end:
            parts.append(text[start:end])
            continue
        place = places[following]
        parts.append(text[start:place])
        choice = choices[place]
        left += [(choice.end, end), choice.span(step)]
    return "".join(parts)
