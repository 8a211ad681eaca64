"""The condition encoder of a model that draws classes, or anything at all: one learned token a class."""

import difflib
from collections.abc import Sequence
from pathlib import Path
from typing import Self

import torch
from torch import Tensor, nn

from models.config_keys import checked_config
from models.errors import ModelError, RequestError
from models.text_encoder import TextEncoder, TextStates
from models.weights import build_module, find_weights, load_weights, read_json
from models.writing import save_weights, write_json

CLASS_DIM = 256
MAX_LISTED = 20


class ClassEncoder(nn.Module):
    """An embedding of class names as one token each, read by cross-attention (LDM's ClassEmbedder, Table 15).

    The null class "" comes first; it is what guidance leads away from, and the only one of a model without
    classes. `names` are all of them, `dim` is D.
    """

    def __init__(self, classes: Sequence[str], dim: int = CLASS_DIM) -> None:
        super().__init__()
        self.names, self.dim = ("", *classes), dim
        self.embedding = nn.Embedding(len(self.names), dim)

    @classmethod
    def from_folder(cls, path: Path | str) -> Self:
        """Read `class_encoder/` of a model folder, in float32; ModelError where it is damaged."""
        folder = Path(path) / "class_encoder"
        config_file, weights_file = folder / "config.json", find_weights(folder)
        config = checked_config(read_json(config_file), {"classes", "dim"}, {"_class_name"}, config_file)
        classes, dim = config.get("classes"), config.get("dim")
        if not isinstance(classes, list) or not all(isinstance(name, str) and name for name in classes):
            raise ModelError(f"{config_file}: classes must be a list of names; get the file again")
        if len(set(classes)) < len(classes) or type(dim) is not int:
            raise ModelError(f"{config_file}: a class occurs twice, or dim is no count; get the file again")
        encoder = build_module(lambda: cls(classes, dim), load_weights(weights_file), weights_file)
        assert isinstance(encoder, cls)
        return encoder

    def save(self, path: Path | str) -> None:
        """Write `class_encoder/` of a model folder in half precision; identical weights stay."""
        target = Path(path) / "class_encoder"
        save_weights(target / "model.safetensors", self.state_dict(), torch.float16)
        config = {"_class_name": "ClassEncoder", "classes": list(self.names[1:]), "dim": self.dim}
        write_json(target / "config.json", config)

    @property
    def parts(self) -> dict[str, list[str]]:
        """What model_index.json says of it."""
        return {"class_encoder": ["latent_studio", "ClassEncoder"]}

    def tokenize(self, prompts: Sequence[str]) -> tuple[Tensor]:
        """The numbers (B,) of class names; RequestError for a name that is none of them."""
        return (torch.tensor([self._number(prompt.strip()) for prompt in prompts]),)

    def forward(self, numbers: Tensor) -> TextStates:
        """States of classes by number (B,), with gradients."""
        embedded: Tensor = self.embedding(numbers)  # (B, D)
        mask = torch.ones_like(numbers, dtype=torch.bool).unsqueeze(1)  # (B, 1)
        return TextStates(embedded.unsqueeze(1), mask, embedded)

    @torch.no_grad()
    def encode(self, prompts: Sequence[str]) -> TextStates:
        """Encode class names on the encoder's device; RequestError for a name that is none of them."""
        states: TextStates = self(
            *(numbers.to(self.embedding.weight.device) for numbers in self.tokenize(prompts))
        )
        return states

    @torch.no_grad()
    def take(self, other: "ClassEncoder") -> None:
        """Begin with what another encoder learned of the classes that both know.

        Raises ModelError where its classes have another width.
        """
        if other.dim != self.dim:
            raise ModelError(
                f"the classes have {other.dim} numbers there and {self.dim} here; they do not fit"
            )
        for number, name in enumerate(self.names):
            if name in other.names:
                self.embedding.weight[number] = other.embedding.weight[other.names.index(name)]

    def _number(self, name: str) -> int:
        if name in self.names:
            return self.names.index(name)
        classes = self.names[1:]
        if not classes:
            raise RequestError(f"This model draws without words; leave the prompt empty instead of {name!r}.")
        listed = ", ".join(classes[:MAX_LISTED]) + (", …" if len(classes) > MAX_LISTED else "")
        near = difflib.get_close_matches(name, classes, n=1, cutoff=0.0)[0]
        raise RequestError(
            f"This model draws classes, and {name!r} is none of them; did you mean {near!r}? "
            f"It knows {listed}."
        )


# What turns prompts into token states: words, or the name of a class.
ConditionEncoder = TextEncoder | ClassEncoder
