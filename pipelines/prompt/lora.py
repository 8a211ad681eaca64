"""LoRA tags in a prompt: `<lora:name:0.8>`."""

import re
from dataclasses import dataclass

_TAG = re.compile(r"<lora:(?P<name>[^:<>]+)(?::(?P<weight>[+-]?(?:\d{1,9}\.?\d{0,9}|\.\d{1,9})))?>")


@dataclass(frozen=True, slots=True)
class LoraTag:
    """A LoRA that a prompt asks for, by name, and how strongly."""

    name: str
    weight: float = 1.0


def take_loras(prompt: str) -> tuple[str, tuple[LoraTag, ...]]:
    """The prompt without its LoRA tags, and these; a tag that is malformed stays in the prompt."""
    tags = tuple(LoraTag(tag["name"].strip(), float(tag["weight"] or 1.0)) for tag in _TAG.finditer(prompt))
    return _TAG.sub("", prompt), tags
