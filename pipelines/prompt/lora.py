"""LoRA tags in a prompt, `<lora:name:0.8>`, and the files that they name.

With two numbers the first is for the text encoders and the second for the UNet, as in AUTOMATIC1111.
"""

import difflib
import re
from dataclasses import dataclass
from pathlib import Path

from models.errors import RequestError
from models.lora import LORA_SUFFIX, LoraFile, read_lora_file
from models.names import file_in
from models.other_forms import PICKLE_SUFFIXES, refuse_other_form

# At which a thing that was taught is drawn and others are hardly changed (docs/teach.md).
TAUGHT_WEIGHT = 0.7
_NUMBER = r"[+-]?(?:\d{1,9}\.?\d{0,9}|\.\d{1,9})"
_TAG = re.compile(rf"<lora:(?P<name>[^:<>]+)(?::(?P<weight>{_NUMBER})(?::(?P<unet>{_NUMBER}))?)?>")


@dataclass(frozen=True, slots=True)
class LoraTag:
    """A LoRA that a prompt asks for, by name, and how strongly; `unet` is None where that is `weight` too."""

    name: str
    weight: float = 1.0
    unet: float | None = None

    @property
    def unet_weight(self) -> float:
        """How strongly the UNet has it."""
        return self.weight if self.unet is None else self.unet


def take_loras(prompt: str) -> tuple[str, tuple[LoraTag, ...]]:
    """The prompt without its LoRA tags, and these; a tag that is malformed stays in the prompt."""
    tags = tuple(
        LoraTag(tag["name"].strip(), float(tag["weight"] or 1.0), float(tag["unet"]) if tag["unet"] else None)
        for tag in _TAG.finditer(prompt)
    )
    return _TAG.sub("", prompt), tags


def put_lora(prompt: str, name: str, weight: float) -> str:
    """The prompt with a tag of this name and weight: in the place of its first one, else at the end."""
    tag, done = f"<lora:{name}:{weight:g}>", False

    def exchanged(found: re.Match[str]) -> str:
        nonlocal done
        if found["name"].strip() != name:
            return found[0]
        first, done = not done, True
        return tag if first else ""

    prompt = _TAG.sub(exchanged, prompt)
    return prompt if done else f"{prompt.rstrip()} {tag}".lstrip()


class Loras:
    """The LoRAs in a folder, `NAME.safetensors` each, looked for anew by each request; without one, none."""

    def __init__(self, folder: Path | None = None) -> None:
        self.folder = folder

    def names(self) -> list[str]:
        """What prompts may call them."""
        if self.folder is None:
            return []
        return sorted(path.stem for path in self.folder.glob(f"*{LORA_SUFFIX}"))

    def find(self, name: str) -> LoraFile:
        """The file of a name; RequestError saying which there are, ModelError where it cannot be read."""
        names = self.names()
        if self.folder is None or name not in names:
            self._refuse_pickle(name)
            asked = f'There is no LoRA "{name[:60]}"'
            if not names:
                where = "" if self.folder is None else f": put its .safetensors file into {self.folder}"
                raise RequestError(f"{asked}{where}, or take the <lora:...> tag out of the prompt.")
            near = difflib.get_close_matches(name, names, 1, cutoff=0)
            listed = ", ".join(names[:20]) + (", ..." if len(names) > 20 else "")
            raise RequestError(f'{asked}; did you mean "{near[0]}"? There is {listed}.')
        return read_lora_file(file_in(self.folder, f"{name}{LORA_SUFFIX}"))

    def _refuse_pickle(self, name: str) -> None:
        for path in () if self.folder is None else self.folder.glob("*"):
            if path.stem == name and path.suffix.lower() in PICKLE_SUFFIXES:
                refuse_other_form(path)
