"""Values of a configuration file, checked against the dataclass that they are for."""

import dataclasses
import difflib
import tomllib
import types
import typing
from typing import Any, Literal

from models.errors import ConfigError


def takes_text(kind: type[Any], section: str, name: str) -> bool:
    """Whether a key of a configuration holds text, whatever it looks like."""
    sections = typing.get_type_hints(kind)
    return section in sections and typing.get_type_hints(sections[section]).get(name) is str


def toml_value(text: str) -> Any:
    """A value as TOML writes it, or the text itself where that is none."""
    try:
        return tomllib.loads(f"value = {text}")["value"]
    except tomllib.TOMLDecodeError:
        return text.strip()  # an unquoted string


def build(kind: type[Any], values: Any, prefix: str = "") -> Any:
    """A dataclass from a mapping; ConfigError naming an unknown key, or a value that does not fit."""
    if not isinstance(values, dict):
        raise ConfigError(f"{prefix.rstrip('.')} is a section, not a value")
    types = typing.get_type_hints(kind)
    limits = {one.name: one.metadata for one in dataclasses.fields(kind)}
    arguments = {}
    for key, value in values.items():
        if key not in types:
            near = difflib.get_close_matches(key, types, n=1, cutoff=0.0)
            raise ConfigError(f"unknown key {prefix}{key}; did you mean {prefix}{near[0]}?")
        if dataclasses.is_dataclass(types[key]):
            arguments[key] = build(typing.cast(type[Any], types[key]), value, f"{prefix}{key}.")
        else:
            arguments[key] = _checked(types[key], value, f"{prefix}{key}", **limits[key])
    return kind(**arguments)


def _checked(expected: Any, value: Any, key: str, low: float = 0, high: float = float("inf")) -> Any:
    if typing.get_origin(expected) in (typing.Union, types.UnionType):
        number, words = typing.get_args(expected)  # a number, or one of some words
        expected = words if isinstance(value, str) else number
    if typing.get_origin(expected) is Literal:
        if value not in typing.get_args(expected):
            choices = ", ".join(map(str, typing.get_args(expected)))
            raise ConfigError(f"{key} is {value!r}; choose from {choices}")
        return value
    if typing.get_origin(expected) is tuple:
        inner = typing.get_args(expected)
        if inner[-1] is Ellipsis:
            items = value.split(",") if isinstance(value, str) else value
            if not isinstance(items, list | tuple) or not items:
                raise ConfigError(f"{key} takes a list of names, not {value!r}")
            return tuple(_checked(inner[0], item, key) for item in items)
        if not isinstance(value, list | tuple) or len(value) != len(inner):
            raise ConfigError(f"{key} takes a list of {len(inner)} numbers, not {value!r}")
        return tuple(_checked(one, item, key) for one, item in zip(inner, value, strict=True))
    if expected is float and type(value) is int:
        value = float(value)
    if type(value) is not expected:
        raise ConfigError(f"{key} takes a value of type {expected.__name__}, not {value!r}")
    if expected in (int, float) and not (low <= value <= high and value < float("inf")):
        reach = f"from {low} on" if high == float("inf") else f"from {low} to {high}"
        raise ConfigError(f"{key} is {value!r}; it must be a finite number {reach}")
    return value
