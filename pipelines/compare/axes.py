"""The settings that a comparison changes, and the values that people type for them.

Numbers are read as AUTOMATIC1111's X/Y/Z plot reads them: `1, 2, 5`, `1-5`, `1-10 (+3)`, `1-10 [4]`.
"""

import csv
import dataclasses
import itertools
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

from models.errors import RequestError
from pipelines.request import GenerationRequest
from pipelines.samplers import SAMPLERS, canonical_sampler, canonical_schedule

MAX_CELLS, MAX_AXES = 400, 3
WHOLE, NUMBER, NAME, WORDS, MODEL, CHECKPOINT = "whole", "number", "name", "words", "model", "checkpoint"
FIELDS = {
    "prompt": WORDS,  # the first value is looked for, the others are put in its place
    "seed": WHOLE,
    "steps": WHOLE,
    "guidance_scale": NUMBER,
    "sampler": NAME,
    "schedule": NAME,
    "width": WHOLE,
    "height": WHOLE,
    "model": MODEL,
    "checkpoint": CHECKPOINT,  # a run's name and a step: "emoji: 500"
}
NO_RUNS: Mapping[str, Sequence[int]] = MappingProxyType({})
_NUMBER = r"-?\d+(?:\.\d+)?"
_RANGE = re.compile(
    rf"\s*({_NUMBER})\s*-\s*({_NUMBER})\s*(?:\(\s*([+-]\d+(?:\.\d+)?)\s*\)|\[\s*(\d{{1,4}})\s*\])?\s*"
)


@dataclass(frozen=True, slots=True)
class Axis:
    """A setting and the values that it takes, at least one."""

    field: str
    values: tuple[Any, ...]

    def label(self, index: int) -> str:
        """What stands beside the row or column of a value."""
        value = self.values[index]
        if FIELDS[self.field] == CHECKPOINT and len({one.rpartition(": ")[0] for one in self.values}) == 1:
            return str(value.rpartition(": ")[2])
        return f"{value:g}" if isinstance(value, float) else str(value)


@dataclass(frozen=True, slots=True)
class Cell:
    """One picture of a comparison: its place on each axis, what draws it, and the model if one is named.

    The name is that of a model or of a checkpoint, as the axis has it.
    """

    place: tuple[int, ...]
    request: GenerationRequest
    model: str | None


def parse_axis(
    field: str, text: str, models: Sequence[str] = (), checkpoints: Mapping[str, Sequence[int]] = NO_RUNS
) -> Axis:
    """The axis that people ask for with these words.

    `models` are the names that may be asked for, `checkpoints` the steps that may, by the name of their run.
    Raises RequestError in a sentence for what cannot be read.
    """
    words = next(csv.reader([text.replace("\n", ",")], skipinitialspace=True), [])
    return _axis(field, [word.strip() for word in words if word.strip()], models, checkpoints)


def _axis(
    field: str, words: Sequence[str], models: Sequence[str], checkpoints: Mapping[str, Sequence[int]]
) -> Axis:
    if field not in FIELDS:
        raise RequestError(f"There is no setting {field!r} to compare; there is {', '.join(FIELDS)}.")
    kind = FIELDS[field]
    values: list[Any] = list(words)
    if kind in (WHOLE, NUMBER):
        values = list(itertools.chain.from_iterable(_numbers(field, word, kind == WHOLE) for word in words))
    elif kind == NAME:
        values = [(canonical_sampler if field == "sampler" else canonical_schedule)(word) for word in words]
    elif kind == CHECKPOINT:
        values = _checkpoints(words, checkpoints)
    elif (
        kind == MODEL and (unknown := next((word for word in words if word not in models), None)) is not None
    ):
        raise RequestError(f"There is no model {unknown!r}; there is {', '.join(models)}.")
    values = list(dict.fromkeys(values))
    if not values:
        raise RequestError(f"The axis {field} has no values; write some, with commas between them.")
    if len(values) > MAX_CELLS:
        raise RequestError(f"The axis {field} has {len(values)} values; {MAX_CELLS} pictures are the most.")
    return Axis(field, tuple(values))


def cells(request: GenerationRequest, axes: Sequence[Axis]) -> list[Cell]:
    """Every picture of a comparison, those of one model one after another; `request` must have its seed.

    Raises RequestError where a combination cannot be drawn, naming it.
    """
    if not 1 <= len(axes) <= MAX_AXES:
        raise RequestError(f"A comparison has one to {MAX_AXES} axes, not {len(axes)}.")
    if len({axis.field for axis in axes}) < len(axes):
        raise RequestError("Two axes change the same setting; choose another one for one of them.")
    places = list(itertools.product(*(range(len(axis.values)) for axis in axes)))
    if len(places) > MAX_CELLS:
        raise RequestError(f"That would be {len(places)} pictures; {MAX_CELLS} are the most.")
    drawing = [number for number, axis in enumerate(axes) if FIELDS[axis.field] in (MODEL, CHECKPOINT)]
    if len(drawing) > 1:
        raise RequestError("A checkpoint is a model of its own: compare models or checkpoints, not both.")
    base = dataclasses.replace(request, count=1)
    found = [_cell(base, axes, place) for place in places]
    # A sort keeps the order of equals.
    return sorted(found, key=lambda cell: [cell.place[number] for number in drawing])


def _cell(request: GenerationRequest, axes: Sequence[Axis], place: tuple[int, ...]) -> Cell:
    options: dict[str, Any] = {}
    prompt, model = request.prompt, None
    for axis, index in zip(axes, place, strict=True):
        value = axis.values[index]
        if axis.field == "prompt":
            search = axis.values[0]
            if search not in request.prompt:
                raise RequestError(f"The prompt does not hold {search!r}, which the axis would replace.")
            prompt = prompt.replace(search, value)
        elif FIELDS[axis.field] in (MODEL, CHECKPOINT):
            model = value
        else:
            options[axis.field] = value
    sampler = SAMPLERS[options.get("sampler", request.sampler)]
    if "sampler" in options and "schedule" not in options and request.schedule not in sampler.schedules:
        options["schedule"] = "Automatic"
    return Cell(place, dataclasses.replace(request, prompt=prompt, **options), model)


def _checkpoints(words: Sequence[str], known: Mapping[str, Sequence[int]]) -> list[str]:
    """`emoji: 500, 1000` as "emoji: 500" and "emoji: 1000"; `emoji` or `emoji: all` are all that there are."""
    values, run = [], next(iter(known)) if len(known) == 1 else ""
    for word in words:
        named, colon, asked = (part.strip() for part in word.rpartition(":"))
        if not colon and asked.removeprefix("runs/") in known:
            named, asked = asked, "all"
        run = named.removeprefix("runs/") or run
        if run not in known:
            raise RequestError(
                f"There is no run {run or word!r} whose checkpoints draw; there is "
                f"{', '.join(known) or 'none yet'}. Write a run and its steps, as in NAME: 500, 1000."
            )
        steps = list(known[run]) if asked == "all" else _numbers("checkpoint", asked, whole=True)
        if missing := [step for step in steps if step not in known[run]]:
            there = ", ".join(map(str, known[run]))
            raise RequestError(f"{run} has no checkpoint of step {missing[0]}; there is {there}.")
        values += [f"{run}: {step}" for step in steps]
    return values


def _numbers(field: str, word: str, whole: bool) -> list[float]:
    """The numbers of one part between commas: a number, or a range."""
    form = _RANGE.fullmatch(word)
    if form is None:
        if not re.fullmatch(_NUMBER, word) or (whole and "." in word):
            kind = "a whole number" if whole else "a number"
            raise RequestError(
                f"{word!r} is not {kind} for {field}; write numbers, or ranges such as 1-10 (+3)."
            )
        return [int(word) if whole else float(word)]
    first, last = float(form[1]), float(form[2])
    if form[4] is not None:
        count = int(form[4])
        if not 1 <= count <= MAX_CELLS:
            raise RequestError(f"{word!r} asks for {count} values; 1 to {MAX_CELLS} can be had.")
        spread = (last - first) / max(1, count - 1)
        values = [first + spread * number for number in range(count)]
    else:
        step = float(form[3]) if form[3] is not None else 1.0 if last >= first else -1.0
        if step == 0 or (last - first) * step < 0:
            raise RequestError(f"{word!r} never arrives: its step goes the other way.")
        count = int((last - first) / step + 1e-9) + 1
        if count > MAX_CELLS:
            raise RequestError(f"{word!r} is {count} values; {MAX_CELLS} are the most.")
        values = [first + step * number for number in range(count)]
    return [round(value) if whole else round(value, 6) for value in values]


def axes_to_json(axes: Sequence[Axis]) -> list[dict[str, Any]]:
    """The axes as plain values, for the settings inside a sheet."""
    return [{"field": axis.field, "values": list(axis.values)} for axis in axes]


def axes_from_json(values: object) -> list[Axis]:
    """What `axes_to_json` wrote; RequestError if it is not that."""
    if not isinstance(values, list):
        raise RequestError("The axes of a comparison must be a list.")
    axes = []
    for value in values:
        if not isinstance(value, Mapping) or not isinstance(value.get("values"), list):
            raise RequestError("An axis of a comparison must have a field and values.")
        words = [f"{one:.6f}" if isinstance(one, float) else str(one) for one in value["values"]]
        field, steps = str(value.get("field")), dict[str, list[int]]()
        if field == "checkpoint":
            for run, _, step in (word.rpartition(": ") for word in words):
                steps.setdefault(run, []).append(int(step) if step.isdecimal() else -1)
        axes.append(_axis(field, words, models=words, checkpoints=steps))
    return axes
